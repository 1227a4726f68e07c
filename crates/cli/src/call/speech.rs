//! A recording as a device says it: Opus packets of 60 ms at 16 kHz, mono, as firmware codes them.

use std::path::Path;

use evenkeel_core::codec::Encoder as _;
use evenkeel_core::error::CodecError;
use evenkeel_core::framer::Framer;
use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_device::call::Speech;
use evenkeel_files::Recording;
use evenkeel_opus::{EncoderConfig, OpusEncoder};

use crate::failure::Failure;

/// The longest packet, in bytes, of the one frame of 60 ms at the rate asked for, many times over.
const MAX_PACKET: usize = 1275 * 3;

/// Longer recordings are cut to this, in seconds.
const LONGEST: u64 = 3600;

/// Reads and codes a recording.
pub(super) fn read(path: &Path) -> Result<Speech, Failure> {
    let wrong = |error: evenkeel_files::FileError| Failure::wrong_file(path, error);
    let mut recording = Recording::open(path).map_err(wrong)?;
    let config = EncoderConfig {
        sample_rate: SampleRate::HZ_16000,
        channels: Channels::Mono,
        complexity: 5,
        ..EncoderConfig::default()
    };
    let mut encoder = OpusEncoder::new(config).map_err(Failure::machine)?;
    let input =
        Format { rate: recording.sample_rate(), channels: recording.channels(), sample: SampleFormat::F32 };
    let mut framer = Framer::new(input, config.sample_rate, config.channels, FrameDuration::MS_60)
        .map_err(Failure::machine)?;
    let mut packet = vec![0; MAX_PACKET];
    let mut encode = |frame: &[f32]| -> Result<Vec<u8>, CodecError> {
        let len = encoder.encode(frame, &mut packet)?;
        Ok(packet[..len].to_vec())
    };
    let mut packets = Vec::new();
    let mut chunk = vec![0.0; 4800 * recording.channels().count()];
    while recording.given_samples() < LONGEST * u64::from(input.rate.hz()) {
        let samples = recording.read(&mut chunk).map_err(wrong)?;
        if samples == 0 {
            break;
        }
        let part = Samples::F32(&chunk[..samples * recording.channels().count()]);
        framer.push(part, |frame| packets.push(encode(frame))).map_err(Failure::machine)?;
    }
    framer.flush(|frame| packets.push(encode(frame)));
    let packets = packets.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::machine)?;
    if packets.is_empty() {
        return Err(Failure::wrong_file(path, "there is nothing in it to say"));
    }
    // The encoder takes a few frames to notice that nobody speaks any longer.
    let nothing = vec![0.0; FrameDuration::MS_60.samples_at(config.sample_rate)];
    let silence = (0..5).map(|_| encode(&nothing)).last().transpose().map_err(Failure::machine)?;
    Ok(Speech { packets, silence })
}
