//! What is no recording, or a broken one, is refused with an error that says why.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::path::Path;

use evenkeel_core::error::ConfigError;
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_files::{FileError, Recording, WavFormat, WavWriter};
use evenkeel_testkit::fuzz;
use evenkeel_testkit::recordings::clip;
use proptest::prelude::*;

fn open(bytes: &[u8]) -> Result<Recording, FileError> {
    Recording::read_from(Cursor::new(bytes.to_vec()))
}

/// Reads to the end, or to an error.
fn read(bytes: &[u8]) -> Result<u64, FileError> {
    let mut recording = open(bytes)?;
    let mut out = [0.0; 1_024];
    while recording.read(&mut out)? > 0 {}
    Ok(recording.given_samples())
}

fn wav(samples: usize) -> Vec<u8> {
    let file = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(file, SampleRate::HZ_16000, Channels::Mono, WavFormat::Int16).unwrap();
    writer.write(&vec![0.5; samples]).unwrap();
    writer.finish().unwrap().into_inner()
}

fn message(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_not_audio_is_said_so_in_one_line() {
    assert!(matches!(open(b"").err(), Some(FileError::Empty)));
    let texts: [&[u8]; 5] = [
        b"x",
        b"This is a text file, and not a recording.\n",
        &[0; 100_000],
        include_bytes!("../src/recording.rs"),
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
    ];
    for bytes in texts {
        assert!(matches!(open(bytes).err(), Some(FileError::NotAudio)));
    }
    assert!(!message(b"x").contains('\n'));
    assert!(matches!(
        Recording::open(Path::new(".")).err(),
        Some(FileError::Io(e)) if e.kind() == std::io::ErrorKind::IsADirectory
    ));
    assert!(matches!(
        Recording::open(Path::new("no such file")).err(),
        Some(FileError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound
    ));
}

#[test]
fn a_wav_cut_anywhere_is_an_error_that_says_so() {
    let whole = wav(100);
    assert_eq!(read(&whole).unwrap(), 100);
    for len in 1..whole.len() {
        let error = read(&whole[..len]).unwrap_err();
        match len {
            1..12 => {
                assert!(matches!(error, FileError::NotAudio | FileError::EndsInside { .. }), "{len}: {error}")
            }
            12..44 => assert!(matches!(error, FileError::EndsInside { format: "WAV", .. }), "{len}: {error}"),
            _ => {
                let expected = (len as u64 - 44) / 2;
                assert!(
                    matches!(error, FileError::CutOff { announced: 100, present } if present == expected),
                    "{len}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_wav_without_samples_is_an_error() {
    assert!(matches!(read(&wav(0)), Err(FileError::NoAudio)));
}

#[test]
fn unsupported_rates_and_channels_are_named() {
    let patch = |at: usize, value: &[u8]| {
        let mut bytes = wav(100);
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    for hz in [0, 1, 11_025, 96_000, u32::MAX] {
        let error = read(&patch(24, &hz.to_le_bytes())).unwrap_err();
        assert!(matches!(error, FileError::Config(ConfigError::SampleRate { hz: h }) if h == hz), "{error}");
        assert!(error.to_string().contains("48000"), "{error}");
    }
    for channels in [0u16, 3, 6, u16::MAX] {
        let error = read(&patch(22, &channels.to_le_bytes())).unwrap_err();
        assert!(
            matches!(error, FileError::Config(ConfigError::Channels { count }) if count == usize::from(channels)),
            "{error}"
        );
    }
    for bits in [0u16, 4, 12, 48, u16::MAX] {
        let error = read(&patch(34, &bits.to_le_bytes())).unwrap_err();
        assert!(matches!(error, FileError::Unsupported { format: "WAV", .. }), "{error}");
    }
    assert!(read(&patch(20, &0x2000u16.to_le_bytes())).is_err(), "an unknown codec");
}

#[test]
fn chunks_that_announce_more_than_the_file_are_refused() {
    for (tag, len) in [(b"LIST", u32::MAX), (b"LIST", 0x7000_0000), (b"junk", 5_000), (b"fact", u32::MAX - 1)]
    {
        let mut bytes = wav(100)[..12].to_vec();
        bytes.extend_from_slice(tag);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&wav(100)[12..]);
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, FileError::EndsInside { format: "WAV", .. }), "{error}");
    }
}

#[test]
fn bytes_at_which_the_decoder_panics_are_a_malformed_file() {
    // Its code book has vectors of 64 dimensions, of which Symphonia 0.6.1 takes the 64th root.
    let bytes = include_bytes!("../../../fuzz/corpus/recording/vorbis_codebook_64_dimensions_ogg");
    assert!(matches!(open(bytes).err(), Some(FileError::Malformed { format: "audio file", .. })));
}

#[test]
fn cut_flac_is_an_error_at_every_length() {
    let whole = std::fs::read(clip("de-24k.flac")).unwrap();
    for len in (1..1_000).chain((1_000..whole.len()).step_by(4_999)) {
        let error = read(&whole[..len]).unwrap_err();
        assert!(!error.to_string().is_empty());
        if len > 10_000 {
            assert!(matches!(error, FileError::CutOff { announced: 104_752, .. }), "{len}: {error}");
        }
    }
}

#[test]
fn other_files_may_be_cut_at_every_byte() {
    for name in ["es-44k1.mp3", "chords-stereo-44k1.ogg"] {
        let whole = std::fs::read(clip(name)).unwrap();
        for len in (0..whole.len().min(5_500)).chain((5_500..whole.len()).step_by(97)) {
            fuzz::run("recording", &whole[..len]);
        }
    }
    let whole = std::fs::read(clip("fr.opus")).unwrap();
    for len in 0..whole.len() {
        fuzz::run("ogg_opus", &whole[..len]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_is_survived(
        which in 0..6usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        near_the_start: bool,
    ) {
        let names =
            ["es-44k1.mp3", "chords-stereo-44k1.ogg", "fr.opus", "de-24k.flac", "cmn-16k.wav", "en-us-stereo-32k.wav"];
        let mut bytes = std::fs::read(clip(names[which])).unwrap();
        bytes.truncate(40_000);
        let reach = if near_the_start { 200 } else { bytes.len() };
        for (at, value) in changes {
            bytes[at.index(reach)] = value;
        }
        fuzz::run("recording", &bytes);
        fuzz::run("ogg_opus", &bytes);
    }
}
