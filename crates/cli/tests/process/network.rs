//! A simulated network is heard, and the same seed sounds the same.

use evenkeel_testkit::recordings::clip;

use crate::program::{directory, report, samples};

const WEATHER: &str = "--loss 10 --burst 2 --jitter 20 --reorder 5 --duplicate 5";

#[test]
fn a_seed_is_the_same_sound() {
    let directory = directory("seeds");
    let input = clip("cmn-16k.wav");
    for ending in ["wav", "opus"] {
        let run = |name: &str, options: &str| {
            let output = directory.join(name).with_extension(ending);
            report(&input, &output, options);
            samples(&output)
        };
        let seven = run("seven", &format!("{WEATHER} --seed 7"));
        assert_eq!(seven, run("again", &format!("{WEATHER} --seed 7")), "{ending}");
        assert_ne!(seven, run("eight", &format!("{WEATHER} --seed 8")), "{ending}");
        assert_ne!(seven, run("clear", ""), "{ending}");
    }
}

#[test]
fn what_is_lost_is_counted_concealed_and_recovered() {
    let directory = directory("loss");
    let input = clip("en-gb-48k.flac");
    let options = "--loss 15 --jitter 5 --rate 16000";
    let plain = report(&input, &directory.join("plain.wav"), options);
    let lost = plain["network"]["lost"].as_u64().unwrap();
    assert!((20..100).contains(&lost), "{lost}");
    // The first and the last of a recording are missed by nobody.
    let missed = plain["heard"]["lost"].as_u64().unwrap();
    assert!(missed <= lost && missed + 3 >= lost, "{missed} of {lost}");
    assert_eq!(plain["heard"]["recovered"], 0);
    assert!(plain["heard"]["concealed_ms"].as_f64().unwrap() > missed as f64 * 10.0);

    let with_fec = report(&input, &directory.join("fec.wav"), &format!("{options} --fec"));
    assert_eq!(with_fec["network"]["lost"].as_u64().unwrap(), lost, "the seed decides");
    assert!(with_fec["heard"]["recovered"].as_u64().unwrap() > lost / 4);
    for name in ["plain.wav", "fec.wav"] {
        let seconds = samples(&directory.join(name)).len() as f64 / 16_000.0;
        assert!((7.2..8.0).contains(&seconds), "{name}: {seconds}");
    }
}

#[test]
fn gaps_in_an_opus_file_keep_time() {
    let directory = directory("gaps");
    let output = directory.join("gaps.opus");
    for frame in ["2.5", "20", "60", "120"] {
        report(&clip("en-gb-48k.flac"), &output, &format!("--loss 20 --burst 3 --frame {frame}"));
        let seconds = samples(&output).len() as f64 / 48_000.0;
        assert!((7.0..8.2).contains(&seconds), "{frame} ms: {seconds}");
    }
}

#[test]
fn silence_that_is_not_sent_keeps_time() {
    let directory = directory("dtx");
    let input = directory.join("pause.wav");
    let speech = samples(&clip("cmn-16k.wav"));
    let pause = vec![0.0; 16_000 * 5];
    let file = std::fs::File::create(&input).unwrap();
    let (rate, mono) = (evenkeel_core::units::SampleRate::HZ_16000, evenkeel_core::units::Channels::Mono);
    let mut writer =
        evenkeel_files::WavWriter::new(file, rate, mono, evenkeel_files::WavFormat::Int16).unwrap();
    [&speech[..], &pause, &speech].iter().for_each(|part| writer.write(part).unwrap());
    writer.finish().unwrap();
    let whole = (speech.len() * 2 + pause.len()) as f64 / 16_000.0;
    for ending in ["wav", "opus"] {
        let output = directory.join("out").with_extension(ending);
        let report = report(&input, &output, "--dtx");
        assert!(report["coding"]["silent_frames"].as_u64().unwrap() > 150, "{report}");
        let hz = if ending == "wav" { 16_000.0 } else { 48_000.0 };
        let seconds = samples(&output).len() as f64 / hz;
        assert!((seconds - whole).abs() < 1e-9, "{ending}: {seconds} of {whole}");
    }
}
