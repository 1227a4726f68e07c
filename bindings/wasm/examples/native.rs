//! What `bench.mjs` measures in WebAssembly, natively: prints the mean µs of a frame.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use evenkeel_core::ladder::{Ladder, SinkCapability};
use evenkeel_core::pcm::{Format, SampleFormat};
use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{EncoderConfig, OpusEncoder};

fn main() {
    let mut raw = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut raw).unwrap();
    let sound: Vec<f32> = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let keys = SessionKeys::new(Suite::Aes256Ctr, &[7; 32], 1, b"").unwrap();
    let sealer = Sealer::new(&keys, Direction::Downlink, 1);
    let config = EncoderConfig {
        sample_rate: SampleRate::HZ_24000,
        bitrate: 24_000,
        complexity: 5,
        ..EncoderConfig::default()
    };
    let input = Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::F32 };
    let ladder = Ladder::new(5, SinkCapability::default(), false);
    let encoder = OpusEncoder::new(config).unwrap();
    let mut sender = Sender::new(input, FrameDuration::MS_20, ladder, encoder, sealer).unwrap();
    let mut bytes = 0;
    let mut pass = || {
        for frame in sound.chunks_exact(960) {
            sender.push(frame.into(), |sealed| bytes += sealed.datagram.len()).unwrap();
        }
    };
    pass();
    let began = Instant::now();
    pass();
    pass();
    let frames = 2 * (sound.len() / 960);
    println!("{:.1}", began.elapsed().as_secs_f64() * 1e6 / frames as f64);
    assert!(bytes > 0);
}
