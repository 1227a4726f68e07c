//! What comes out is what went in, as far as coding allows, and in time with it.

use evenkeel_testkit::recordings::clip;

use crate::program::{directory, report, samples, snr};

#[test]
fn at_a_high_rate_the_sound_is_the_same_and_not_shifted() {
    let directory = directory("snr");
    // (recording, options, least SNR in dB): music without a resampler, then with one before the encoder.
    let cases = [
        ("fr.opus", "--application audio --bitrate 256k --complexity 10", 20.0),
        ("cmn-16k.wav", "--application audio --bitrate 256k --complexity 10", 20.0),
        ("de-24k.flac", "--application low-delay --bitrate 256k", 20.0),
    ];
    for (name, options, least) in cases {
        for frame in ["2.5", "10", "20", "60", "120"] {
            let output = directory.join("out.wav");
            report(&clip(name), &output, &format!("{options} --frame {frame}"));
            let (before, after) = (samples(&clip(name)), samples(&output));
            assert_eq!(before.len(), after.len(), "{name} {frame}");
            let snr = snr(&before, &after);
            assert!(snr > least, "{name} {frame} ms: {snr:.1} dB");
        }
    }
}

#[test]
fn every_rung_plays_in_time() {
    let directory = directory("rungs");
    let before = samples(&clip("cmn-16k.wav"));
    for (rung, complexity, name, least) in
        [("full", 3, "full/3", 5.0), ("medium", 5, "medium", 5.0), ("minimal", 5, "minimal", 80.0)]
    {
        for frame in [20, 60] {
            let output = directory.join("out.wav");
            let options = format!("--rung {rung} --complexity {complexity} --bitrate 64k --frame {frame}");
            let report = report(&clip("cmn-16k.wav"), &output, &options);
            assert_eq!(report["coding"]["rung"], name);
            let after = samples(&output);
            assert_eq!(before.len(), after.len(), "{rung}, {frame} ms");
            let snr = snr(&before, &after);
            assert!(snr > least, "{rung}, {frame} ms: {snr:.1} dB");
        }
    }
}
