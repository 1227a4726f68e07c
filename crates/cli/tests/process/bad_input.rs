//! What is wrong is said in one line, with exit code 2, and leaves nothing behind.

use std::path::Path;
use std::process::Command;

use evenkeel_testkit::recordings::clip;
use evenkeel_testkit::tools;

use crate::program::{KEY, LONG_KEY, directory, process, report};

/// Runs, must fail with `code`, and says in one line something with `words` in it; writes nothing.
fn refused(code: i32, input: &Path, output: &Path, options: &str, words: &[&str]) {
    let before: Vec<_> =
        output.parent().unwrap().read_dir().into_iter().flatten().flatten().map(|e| e.path()).collect();
    let mut args = vec![input.to_str().unwrap(), "--to", output.to_str().unwrap()];
    args.extend(options.split_whitespace());
    let run = process(args);
    assert_eq!(run.code, code, "{}", run.err);
    assert_eq!(run.out, "");
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    for word in words {
        assert!(run.err.contains(word), "{word:?} is not in: {}", run.err);
    }
    let after: Vec<_> =
        output.parent().unwrap().read_dir().into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert_eq!(before, after);
}

#[test]
fn what_is_no_recording() {
    let directory = directory("no_recording");
    let out = directory.join("out.opus");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    refused(
        2,
        &file("text.wav", b"not audio at all\n"),
        &out,
        "",
        &["text.wav", "not a recording", "WAV, FLAC, MP3"],
    );
    refused(2, &file("empty.flac", b""), &out, "", &["empty.flac", "is empty"]);
    refused(2, &directory.join("missing.wav"), &out, "", &["missing.wav", "No such file"]);
    refused(2, &directory, &out, "", &["directory"]);
    let wav = std::fs::read(clip("cmn-16k.wav")).unwrap();
    refused(2, &file("cut.wav", &wav[..40_000]), &out, "", &["cut.wav", "cut off", "67878"]);
    refused(2, &file("head.wav", &wav[..30]), &out, "", &["head.wav", "ends inside its header"]);
    let mut fast = wav.clone();
    fast[24..28].copy_from_slice(&96_000u32.to_le_bytes());
    refused(2, &file("fast.wav", &fast), &out, "", &["96000", "48000", "ffmpeg"]);
    let opus = std::fs::read(clip("fr.opus")).unwrap();
    refused(2, &file("cut.opus", &opus[..4_000]), &out, "", &["cut.opus", "ends inside"]);
}

#[test]
fn what_cannot_be_written() {
    let directory = directory("no_output");
    let input = clip("fr.opus");
    refused(2, &input, &directory.join("out.mp3"), "", &["out.mp3", ".opus, .wav or .pcap"]);
    refused(2, &input, &directory.join("out"), "", &[".opus, .wav or .pcap"]);
    refused(1, &input, &directory.join("no/such/out.wav"), "", &["no/such/out.wav"]);
    let own = directory.join("own.opus");
    std::fs::copy(&input, &own).unwrap();
    refused(2, &own, &own, "", &["cannot be read and replaced"]);
    assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(&input).unwrap());
}

#[test]
fn pcm_in_an_opus_file() {
    let out = directory("pcm_in_an_opus_file").join("out.opus");
    refused(2, &clip("fr.opus"), &out, "--rung minimal", &["PCM", ".wav or .pcap"]);
}

#[test]
fn an_old_file_stays_until_the_new_one_is_complete() {
    let directory = directory("old_file");
    let (cut, out) = (directory.join("cut.wav"), directory.join("out.wav"));
    std::fs::write(&cut, &std::fs::read(clip("cmn-16k.wav")).unwrap()[..40_000]).unwrap();
    std::fs::write(&out, "old").unwrap();
    refused(2, &cut, &out, "", &["cut off"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    report(&clip("fr.opus"), &out, "");
    assert!(std::fs::read(&out).unwrap().starts_with(b"RIFF"));
    assert_eq!(directory.read_dir().unwrap().count(), 2, "no other file is left");
}

#[test]
fn settings_out_of_range() {
    let directory = directory("settings_out_of_range");
    let (input, out) = (clip("fr.opus"), directory.join("out.pcap"));
    refused(2, &input, &out, "--complexity 11", &["complexity", "10", "11"]);
    refused(2, &input, &out, "--bitrate 5000", &["bit", "6000", "5000"]);
    refused(2, &input, &out, "--expected-loss 101", &["100", "101"]);
    refused(2, &input, &out, "--loss 90 --burst 2", &["lost"]);
    refused(2, &input, &out, "--burst 0.5 --loss 5", &["burst"]);
    refused(2, &input, &out, "--jitter NaN", &["jitter"]);
    refused(2, &input, &out, &format!("--key {LONG_KEY}"), &["16 bytes", "32"]);
    refused(2, &input, &out, &format!("--key {KEY} --profile aes-256-gcm"), &["32 bytes", "16"]);
    for options in [
        "--frame 30",
        "--rate 44100",
        "--channels 3",
        "--key 0g",
        "--key 123",
        "--bitrate fast",
        "--loss 101",
        "--nonsense",
    ] {
        let mut args = vec![input.to_str().unwrap(), "--to", out.to_str().unwrap()];
        args.extend(options.split_whitespace());
        let run = process(args);
        assert_eq!(run.code, 2, "{options}");
        assert!(run.err.contains(options.split_whitespace().next().unwrap()), "{}", run.err);
        assert!(!out.exists());
    }
    assert_eq!(process([input.as_os_str()]).code, 2, "without --to");
}

#[test]
fn what_is_no_capture_of_ours() {
    let directory = directory("no_capture");
    let (pcap, out) = (directory.join("good.pcap"), directory.join("out.wav"));
    report(&clip("en-gb-48k.flac"), &pcap, &format!("--key {KEY} --profile aes-128-gcm"));
    let key = format!("--key {KEY} --profile aes-128-gcm");
    refused(2, &pcap, &out, "", &["--key"]);
    refused(2, &pcap, &out, &format!("{key} --session-id other"), &["could not be opened", "--key"]);
    refused(
        2,
        &pcap,
        &out,
        "--key ffffffffffffffffffffffffffffffff --profile aes-128-gcm",
        &["could not be opened"],
    );
    refused(2, &pcap, &out, &format!("{key} --direction up"), &["none of its 376 frames"]);

    let whole = std::fs::read(&pcap).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    refused(2, &file("cut.pcap", &whole[..5_000]), &out, &key, &["cut.pcap", "ends inside frame"]);
    refused(2, &file("head.pcap", &whole[..10]), &out, &key, &["head.pcap", "ends inside its header"]);
    refused(2, &file("none.pcap", &whole[..24]), &out, &key, &["none of its 0 frames"]);
    if let Some(editcap) = tools::find("editcap") {
        let next = directory.join("next.pcapng");
        assert!(
            Command::new(editcap).args(["-F", "pcapng"]).args([&pcap, &next]).status().unwrap().success()
        );
        refused(2, &next, &out, &key, &["next.pcapng", "editcap -F pcap"]);
    }
}

#[test]
fn quiet_is_quiet_and_the_summary_says_how_to_listen() {
    let directory = directory("summary");
    let (input, out) = (clip("fr.opus"), directory.join("it's here.opus"));
    let run = process([input.as_os_str(), "--to".as_ref(), out.as_os_str(), "--quiet".as_ref()]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    let run = process([input.as_os_str(), "--to".as_ref(), out.as_os_str()]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    for word in ["Ogg Opus", "kb/s", "p99", "Listen:", r"it'\''s here.opus'"] {
        assert!(run.out.contains(word), "{word:?} is not in: {}", run.out);
    }
}
