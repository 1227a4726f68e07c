//! An encoder that does nothing but take the time it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::ladder::Rung;
use evenkeel_core::units::{Channels, SampleRate};

use crate::plan::relative_cost;

/// What a toy is told, and tells.
#[derive(Default)]
pub(super) struct Script {
    /// What a frame takes on `full/10`, in nanoseconds.
    pub(super) cost: AtomicU64,
    /// Frames up to which it fails, and the one at which it panics; 0 for none.
    pub(super) fails_until: AtomicU64,
    pub(super) panics_at: AtomicU64,
    /// How often it was asked to encode.
    pub(super) calls: AtomicU64,
}

pub(super) struct Toy {
    pub(super) script: Arc<Script>,
    /// What all encoders took, in nanoseconds.
    pub(super) spent: Arc<AtomicU64>,
    pub(super) noise: u64,
    pub(super) flat: bool,
    pub(super) complexity: u8,
    pub(super) mdct_only: bool,
}

impl Encoder for Toy {
    fn sample_rate(&self) -> SampleRate {
        SampleRate::HZ_8000
    }
    fn channels(&self) -> Channels {
        Channels::Mono
    }
    /// The packet says the first sample; a frame that begins with 0 is silence.
    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let calls = self.script.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let rung = match self.mdct_only {
            true => Rung::Medium,
            false => Rung::Full { complexity: self.complexity },
        };
        let relative = if self.flat { 1_000 } else { u64::from(relative_cost(rung)) };
        let noise = 100 - self.noise + Dice(calls).below(2 * self.noise + 1);
        let cost = self.script.cost.load(Ordering::Relaxed) * relative / 1_000 * noise / 100;
        self.spent.fetch_add(cost, Ordering::Relaxed);
        assert_ne!(calls, self.script.panics_at.load(Ordering::Relaxed), "injected");
        if calls <= self.script.fails_until.load(Ordering::Relaxed) {
            return Err(CodecError::Internal { code: -3, reason: "injected" });
        }
        let first = (pcm[0] * 32_768.0) as i16;
        out[0] = 0xf8;
        out[1..3].copy_from_slice(&first.to_be_bytes());
        Ok(if first == 0 { 1 } else { 3 + usize::from(first.unsigned_abs()) % 60 })
    }
    fn lookahead(&self) -> usize {
        0
    }
    fn set_complexity(&mut self, complexity: u8) -> Result<(), CodecError> {
        self.complexity = complexity;
        Ok(())
    }
    fn set_mdct_only(&mut self, on: bool) -> Result<(), CodecError> {
        self.mdct_only = on;
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

/// Numbers from a seed (splitmix64: G. Steele and others, "Fast splittable pseudorandom number generators", 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    pub(super) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
