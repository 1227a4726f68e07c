//! The whole path, 48 kHz `f32` samples to sealed packets, beside the bare encoder on the same samples.

use std::hint::black_box;
use std::time::Instant;

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::OpusEncoder;
use evenkeel_opus::bare::BareEncoder;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::race::{Latency, Times, race};
use crate::setup::{self, CODING};
use crate::speech::Speech;

/// What the whole path costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathFigures {
    /// How it was coded and sealed.
    pub settings: &'static str,
    /// How many frames were timed.
    pub frames: usize,
    /// Time of the whole path over time of the bare encoder: the median over blocks of 50 frames. Both code the same
    /// frame, one after the other, and take turns at going first.
    pub ratio_to_bare_opus: f64,
    /// A tenth of the blocks are below the first, a tenth above the second.
    pub ratio_spread: [f64; 2],
    /// The same over all frames at once, interruptions included.
    pub ratio_of_sums: f64,
    /// What the path takes besides Opus, in microseconds a frame: with an encoder that gives a packet of 60 bytes at
    /// once.
    pub other_than_opus_us: f64,
    /// The median over frames of what the path took longer than the bare encoder, in microseconds.
    pub longer_than_bare_us: f64,
    /// Time a frame takes from its last sample to the sealed packet, in microseconds.
    pub latency_us: Latency,
    /// The same of the bare encoder.
    pub bare_opus_us: Latency,
    /// How much of the time the processor was given to this thread while that was measured. Below 1, others had it,
    /// and `latency_us` says more of them than of us.
    pub share_of_processor: f64,
    /// What packets carry, in kilobits a second.
    pub kbps: f64,
}

/// The times of every frame.
#[derive(Clone, Debug, Default)]
pub struct PathTimes {
    /// Of the whole path.
    pub path: Times,
    /// Of the bare encoder.
    pub bare: Times,
}

const FRAME: FrameDuration = FrameDuration::MS_20;

/// Codes and seals `frames` frames.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
pub fn measure(speech: &Speech, frames: usize) -> Result<(PathFigures, PathTimes), CodecError> {
    let mut sender = setup::sender(OpusEncoder::new(CODING)?, CODING.complexity, 0, FRAME)?;
    let mut bare = BareEncoder::new(&CODING, FRAME)?;
    let mut packet = [0; 1_500];
    let (began, began_cpu) = (Instant::now(), cpu_time());
    let [path, alone] = race(
        100,
        frames,
        [
            &mut |lap| {
                let pushed = sender.push(speech.frame(lap, FRAME).into(), |sealed| {
                    black_box(sealed.datagram);
                });
                debug_assert_eq!(pushed, Ok(()));
            },
            &mut |lap| {
                black_box(bare.encode(speech.frame(lap, FRAME), &mut packet));
            },
        ],
    );
    let share_of_processor = (cpu_time() - began_cpu) / began.elapsed().as_secs_f64();
    let ratio = path.ratio_to(&alone);
    let counters = sender.counters();
    let figures = PathFigures {
        settings: "48 kHz f32 mono, 20 ms, VOIP 24 kb/s, complexity 5, aes-128-ctr",
        frames,
        ratio_to_bare_opus: ratio.median,
        ratio_spread: [ratio.p10, ratio.p90],
        ratio_of_sums: ratio.of_sums,
        other_than_opus_us: other_than_opus(speech, frames)?,
        longer_than_bare_us: path.difference_us(&alone),
        latency_us: path.latency(),
        bare_opus_us: alone.latency(),
        share_of_processor,
        kbps: counters.payload_bytes as f64 * 8.0 / (counters.frames as f64 * 20.0),
    };
    Ok((figures, PathTimes { path, bare: alone }))
}

/// Seconds for which this thread had the processor.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn other_than_opus(speech: &Speech, frames: usize) -> Result<f64, CodecError> {
    let mut sender = setup::sender(AtOnce, CODING.complexity, 0, FRAME)?;
    let [times] = race(
        100,
        frames,
        [&mut |lap| {
            let pushed = sender.push(speech.frame(lap, FRAME).into(), |sealed| {
                black_box(sealed.datagram);
            });
            debug_assert_eq!(pushed, Ok(()));
        }],
    );
    Ok(times.latency().p50)
}

/// An encoder that takes no time.
struct AtOnce;

impl Encoder for AtOnce {
    fn sample_rate(&self) -> SampleRate {
        CODING.sample_rate
    }
    fn channels(&self) -> Channels {
        CODING.channels
    }
    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        black_box(pcm);
        out[..60].fill(0x48);
        Ok(60)
    }
    fn lookahead(&self) -> usize {
        0
    }
    fn set_complexity(&mut self, _: u8) -> Result<(), CodecError> {
        Ok(())
    }
    fn set_mdct_only(&mut self, _: bool) -> Result<(), CodecError> {
        Ok(())
    }
    fn set_bitrate(&mut self, _: u32) -> Result<(), CodecError> {
        Ok(())
    }
    fn set_expected_loss(&mut self, _: u8) -> Result<(), CodecError> {
        Ok(())
    }
    fn reset(&mut self) {}
}
