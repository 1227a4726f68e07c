//! `.opus` files play everywhere, and are as long as the recording.

use std::path::Path;
use std::process::Command;

use evenkeel_files::Recording;
use evenkeel_testkit::recordings::{clip, recordings};
use evenkeel_testkit::tools;

use crate::program::{directory, report, samples};

/// Samples per channel that a player gets out of a file, at 48 kHz.
fn played_by_ffmpeg(path: &Path, channels: usize) -> Option<usize> {
    let run = Command::new(tools::find("ffmpeg")?)
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "s16le", "-"])
        .output()
        .unwrap();
    assert!(run.status.success() && run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(run.stdout.len() / 2 / channels)
}

fn played_by_opusdec(path: &Path, channels: usize) -> Option<usize> {
    let wav = path.with_extension("opusdec.wav");
    let run = Command::new(tools::find("opusdec")?)
        .args(["--quiet", "--rate", "48000"])
        .args([path, wav.as_path()])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(samples(&wav).len() / channels)
}

fn warnings_of_opusinfo(path: &Path) -> String {
    let Some(opusinfo) = tools::find("opusinfo") else { return String::new() };
    let run = Command::new(opusinfo).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    said.lines().filter(|line| line.to_lowercase().contains("warning")).collect()
}

/// The length that `path` must have after coding, in samples at 48 kHz.
fn length_of(path: &Path) -> (usize, usize) {
    let recording = Recording::open(path).unwrap();
    let (hz, channels) = (recording.sample_rate().hz() as usize, recording.channels().count());
    ((samples(path).len() / channels * 48_000).div_ceil(hz), channels)
}

fn check(input: &Path, output: &Path, options: &str) {
    report(input, output, options);
    let (length, mut channels) = length_of(input);
    if options.contains("--channels 1") {
        channels = 1;
    } else if options.contains("--channels 2") {
        channels = 2;
    }
    let what = format!("{} {options}", input.display());
    assert_eq!(samples(output).len() / channels, length, "{what}");
    if let Some(played) = played_by_ffmpeg(output, channels) {
        assert_eq!(played, length, "{what}");
    }
    if let Some(played) = played_by_opusdec(output, channels) {
        assert_eq!(played, length, "{what}");
    }
    assert_eq!(warnings_of_opusinfo(output), "", "{what}");
}

#[test]
fn every_packet_duration_plays_to_the_sample() {
    let directory = directory("durations");
    for frame in ["2.5", "5", "10", "20", "40", "60", "80", "100", "120"] {
        let options = format!("--frame {frame} --bitrate 32k --complexity 0");
        check(&clip("cmn-16k.wav"), &directory.join(format!("{frame}.opus")), &options);
    }
}

#[test]
fn every_recording_plays_to_the_sample() {
    let directory = directory("recordings");
    for input in recordings() {
        let output = directory.join(input.file_name().unwrap()).with_extension("opus");
        check(&input, &output, "--complexity 0");
    }
}

#[test]
fn every_rate_and_channel_count_plays_to_the_sample() {
    let directory = directory("rates");
    for input in ["en-us-stereo-32k.wav", "chords-stereo-44k1.ogg", "fr.opus"] {
        for rate in [8_000, 12_000, 16_000, 24_000, 48_000] {
            for channels in [1, 2] {
                let output = directory.join(format!("{rate}-{channels}.opus"));
                check(&clip(input), &output, &format!("--rate {rate} --channels {channels} --complexity 0"));
            }
        }
    }
}

#[test]
fn every_other_setting_is_taken() {
    let directory = directory("settings");
    for options in [
        "--application audio --vbr",
        "--application low-delay --cbr",
        "--bandwidth narrow --dtx",
        "--bandwidth super-wide --fec --expected-loss 20",
        "--bitrate 6000",
        "--bitrate 510k --complexity 10",
    ] {
        let output = directory.join("out.opus");
        check(&clip("fr.opus"), &output, options);
    }
}
