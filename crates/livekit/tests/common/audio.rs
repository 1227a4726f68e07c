//! Something to say, Opus, and how alike two recordings are.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use evenkeel_core::codec::{Decoder as _, Encoder as _};
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_opus::{EncoderConfig, OpusDecoder, OpusEncoder};
use evenkeel_testkit::voice;

pub const RATE: usize = 48_000;

/// Speech at 48 kHz, mono.
pub fn speech(seconds: f32) -> Vec<f32> {
    let mut samples = match voice::recorded() {
        Some(recorded) => recorded.to_vec(),
        None => voice::synthetic(seconds),
    };
    samples.truncate((seconds * RATE as f32) as usize);
    samples
}

/// The speech as packets of `ms` milliseconds.
pub fn encode(samples: &[f32], ms: usize) -> Vec<Vec<u8>> {
    let mut encoder =
        OpusEncoder::new(EncoderConfig { bitrate: 32_000, ..EncoderConfig::default() }).unwrap();
    let mut out = [0; 1275];
    samples
        .chunks_exact(RATE / 1000 * ms)
        .map(|frame| {
            let len = encoder.encode(frame, &mut out).unwrap();
            out[..len].to_vec()
        })
        .collect()
}

/// Decodes packets, each with its place in samples, onto one line; what is missing stays silent.
pub fn decode(packets: &[(u64, Vec<u8>)]) -> Vec<f32> {
    let mut decoder = OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono).unwrap();
    let first = packets.iter().map(|p| p.0).min().unwrap_or(0);
    let mut line = Vec::new();
    let mut out = [0.0; 5760];
    for (time, packet) in packets {
        let len = decoder.decode(packet, &mut out).unwrap();
        let at = (time - first) as usize;
        line.resize(line.len().max(at + len), 0.0);
        line[at..at + len].copy_from_slice(&out[..len]);
    }
    line
}

pub fn write_pcm(path: &Path, samples: &[f32]) {
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|s| ((s * 32_767.0).clamp(-32_768.0, 32_767.0) as i16).to_le_bytes())
        .collect();
    std::fs::write(path, bytes).unwrap();
}

pub fn read_pcm(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect()
}

pub fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("evenkeel-livekit-{}-{name}", std::process::id()))
}

/// How alike what was heard is to what was said, from 0 to 1: the median, over the loud half seconds of speech, of the
/// best normalised correlation within two seconds of where it should be. Delay does not matter, nor a stall of a busy
/// machine; speech that is missing or garbled half of the time does.
pub fn likeness(said: &[f32], heard: &[f32]) -> f32 {
    const WINDOW: usize = RATE / 2;
    let (said_envelope, heard_envelope) = (envelope(said), envelope(heard));
    let everywhere = -(said_envelope.len() as i64)..heard_envelope.len() as i64;
    let lag = best_lag(&said_envelope, &heard_envelope, everywhere);
    let loudest = said.chunks(WINDOW).map(energy).fold(0.0, f32::max);
    let mut found: Vec<f32> = said
        .chunks_exact(WINDOW)
        .zip(said_envelope.chunks_exact(WINDOW / STEP))
        .enumerate()
        .filter(|(_, (window, _))| energy(window) > loudest / 30.0)
        .map(|(i, (window, shape))| {
            let due = (i * WINDOW / STEP) as i64 + lag;
            let best = |range: &mut dyn Iterator<Item = i64>, step: usize| {
                let fits = range.map(|at| (correlation(window, heard, at, step), at));
                fits.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0))
            };
            let stalled = best_lag(shape, &heard_envelope, due - 200..due + 200);
            let near = |place: i64| {
                let (centre, reach) = (place * STEP as i64, 4 * STEP as i64);
                let (_, found) = best(&mut (centre - reach..centre + reach).step_by(4), 4);
                best(&mut (found - 8..found + 8), 1).0
            };
            near(due).max(near(stalled))
        })
        .collect();
    found.sort_by(f32::total_cmp);
    found.get(found.len() / 2).copied().unwrap_or(0.0)
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|s| s * s).sum()
}

fn correlation(window: &[f32], heard: &[f32], at: i64, step: usize) -> f32 {
    let Some(other) = usize::try_from(at).ok().and_then(|at| heard.get(at..at + window.len())) else {
        return 0.0;
    };
    let (mut xy, mut xx, mut yy) = (0.0f32, 1e-9f32, 1e-9f32);
    for (x, y) in window.iter().step_by(step).zip(other.iter().step_by(step)) {
        xy += x * y;
        xx += x * x;
        yy += y * y;
    }
    xy / (xx * yy).sqrt()
}

/// How loud each 10 ms are.
const STEP: usize = RATE / 100;

fn envelope(samples: &[f32]) -> Vec<f32> {
    samples.chunks(STEP).map(|c| energy(c).sqrt()).collect()
}

/// Where in `whole` the shape `part` fits best.
fn best_lag(part: &[f32], whole: &[f32], lags: std::ops::Range<i64>) -> i64 {
    let fit = |lag: i64| {
        let (mut xy, mut yy) = (0.0f32, 1e-6f32);
        for (i, x) in part.iter().enumerate() {
            let y = usize::try_from(i as i64 + lag).ok().and_then(|at| whole.get(at)).unwrap_or(&0.0);
            xy += x * y;
            yy += y * y;
        }
        xy / yy.sqrt()
    };
    lags.map(|lag| (fit(lag), lag)).max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |found| found.1)
}
