//! Every format reads, to the sample, as ffmpeg reads it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_files::{FileError, Format, Recording, WavFormat, WavWriter};
use evenkeel_testkit::{recordings, tools};

fn open(path: &Path) -> Result<Recording, FileError> {
    Recording::open(path)
}

fn read_all(recording: &mut Recording, chunk: usize) -> Result<Vec<f32>, FileError> {
    let channels = recording.channels().count();
    let mut all = Vec::new();
    let mut out = vec![0.0; chunk * channels];
    loop {
        match recording.read(&mut out)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&out[..n * channels]),
        }
    }
}

fn ffmpeg(path: &Path) -> Option<Vec<f32>> {
    let ffmpeg = tools::find("ffmpeg")?;
    let out = Command::new(ffmpeg)
        .args(["-v", "error"])
        // Its own Opus decoder resamples in a way of its own.
        .args(if path.extension().is_some_and(|e| e == "opus") { &["-c:a", "libopus"][..] } else { &[] })
        .arg("-i")
        .arg(path)
        .args(["-f", "f32le", "-"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(out.stdout.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[test]
fn clips_are_what_they_are() {
    use Format::{Flac, Mp3, Ogg, OggOpus, Wav};
    let expected = [
        ("en-gb-48k.flac", Flac, 48_000, 1, Some(360_098)),
        ("de-24k.flac", Flac, 24_000, 1, Some(104_752)),
        ("cmn-16k.wav", Wav, 16_000, 1, Some(67_878)),
        ("en-us-stereo-32k.wav", Wav, 32_000, 2, Some(29_722)),
        ("es-44k1.mp3", Mp3, 44_100, 1, None),
        ("fr.opus", OggOpus, 48_000, 1, Some(85_410)),
        ("chords-stereo-44k1.ogg", Ogg, 44_100, 2, Some(176_400)),
    ];
    for (name, format, hz, channels, samples) in expected {
        let mut recording = open(&recordings::clip(name)).unwrap();
        assert_eq!(recording.format(), format, "{name}");
        assert_eq!(recording.sample_rate().hz(), hz, "{name}");
        assert_eq!(recording.channels().count(), channels, "{name}");
        let all = read_all(&mut recording, 1_000).unwrap();
        assert_eq!(recording.damaged_packets(), 0, "{name}");
        assert_eq!(recording.given_samples(), (all.len() / channels) as u64, "{name}");
        if let Some(samples) = samples {
            assert_eq!(recording.announced_samples(), Some(samples), "{name}");
            assert_eq!(recording.given_samples(), samples, "{name}");
        }
    }
}

#[test]
fn ffmpeg_reads_the_same_samples() {
    for path in recordings::recordings() {
        let Some(theirs) = ffmpeg(&path) else { return };
        let mut recording = open(&path).unwrap();
        let tolerance = match recording.format() {
            Format::Wav | Format::Flac => 0.0,
            Format::Mp3 | Format::Ogg => 1e-4,
            _ => 1e-3,
        };
        let ours = read_all(&mut recording, 4_096).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{}: {worst}", path.display());
    }
}

#[test]
fn the_length_of_reads_does_not_matter() {
    for name in ["chords-stereo-44k1.ogg", "fr.opus", "de-24k.flac"] {
        let path = recordings::clip(name);
        let whole = read_all(&mut open(&path).unwrap(), 1 << 20).unwrap();
        for chunk in [1, 7, 960] {
            assert_eq!(read_all(&mut open(&path).unwrap(), chunk).unwrap(), whole);
        }
    }
}

#[test]
fn stereo_keeps_left_on_the_left() {
    let path = recordings::clip("en-us-stereo-32k.wav");
    let all = read_all(&mut open(&path).unwrap(), 512).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap() + 8;
    let raw: Vec<f32> = bytes[data..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|b| f32::from(i16::from_le_bytes(*b)) / 32_768.0)
        .collect();
    assert_eq!(all, raw);
}

#[test]
fn what_is_written_reads_back() {
    let samples: Vec<f32> =
        (0..48_002).map(|i| (i as f32 * 0.05).sin() * if i % 1_000 == 0 { 1.5 } else { 0.9 }).collect();
    for (format, tolerance) in [(WavFormat::Int16, 0.5 / 32_768.0), (WavFormat::Float32, 0.0)] {
        for channels in [Channels::Mono, Channels::Stereo] {
            for rate in SampleRate::ALL {
                let file = std::io::Cursor::new(Vec::new());
                let mut writer = WavWriter::new(file, rate, channels, format).unwrap();
                for part in samples.chunks(962) {
                    writer.write(part).unwrap();
                }
                assert_eq!(writer.samples(), 48_002 / channels.count() as u64);
                let file = writer.finish().unwrap().into_inner();
                let mut back = Recording::read_from(std::io::Cursor::new(file)).unwrap();
                assert_eq!((back.sample_rate(), back.channels()), (rate, channels));
                assert_eq!(back.announced_samples(), Some(48_002 / channels.count() as u64));
                let all = read_all(&mut back, 4_096).unwrap();
                assert_eq!(all.len(), samples.len());
                for (a, b) in all.iter().zip(&samples) {
                    let b = if format == WavFormat::Int16 { b.clamp(-1.0, 32_767.0 / 32_768.0) } else { *b };
                    assert!((a - b).abs() <= tolerance, "{a} {b}");
                }
            }
        }
    }
}

#[test]
fn a_file_whose_writer_died_or_could_not_seek_still_reads() {
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer =
        WavWriter::new(&mut file, SampleRate::HZ_16000, Channels::Mono, WavFormat::Int16).unwrap();
    writer.write(&[0.25; 1_600]).unwrap();
    drop(writer);
    let mut bytes = file.into_inner();
    let lengths = [
        (u32::MAX, u32::MAX),       // ours, ffmpeg
        (0x7fff_f024, 0x7fff_f000), // espeak-ng, sox
    ];
    for (riff, data) in lengths {
        bytes[4..8].copy_from_slice(&riff.to_le_bytes());
        bytes[40..44].copy_from_slice(&data.to_le_bytes());
        let mut back = Recording::read_from(std::io::Cursor::new(bytes.clone())).unwrap();
        assert_eq!(back.announced_samples(), None);
        assert_eq!(read_all(&mut back, 960).unwrap(), [0.25; 1_600]);
    }
}
