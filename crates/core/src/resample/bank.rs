//! The kernel sampled for one pair of rates: a polyphase filter bank.
//!
//! Both rates divide a common one, whose period is the *tick* here: inputs are `up` ticks apart, outputs `down`. Output
//! at tick `t` weighs the inputs around it with the kernel; which weights these are depends only on `t mod up`, the
//! *phase*. (Crochiere and Rabiner, "Multirate Digital Signal Processing", 1983, section 2.3.)

use std::sync::OnceLock;

use super::prototype::{HALF_LENGTH, kernel};
use crate::units::SampleRate;

/// Weights are kept in fours, which is what the smallest vector registers hold.
pub(super) type Four = [f32; 4];

/// The weights of every phase.
#[derive(Debug)]
pub(super) struct Bank {
    /// Ticks from input to input, and how many phases there are.
    pub(super) up: usize,
    /// Ticks from output to output.
    pub(super) down: usize,
    /// Ticks by which the filter looks ahead: what is centred on tick `t` needs the inputs up to tick `t + lead`.
    pub(super) lead: usize,
    /// One row a phase, oldest input first.
    rows: Vec<Four>,
    fours: usize,
}

impl Bank {
    /// The bank for a pair. Computed once in a process, at most 83 KiB, then shared by all streams.
    pub(super) fn of(from: SampleRate, to: SampleRate) -> &'static Self {
        const RATES: usize = SampleRate::ALL.len();
        static BANKS: [OnceLock<Bank>; RATES * RATES] = [const { OnceLock::new() }; RATES * RATES];
        let index = |rate| SampleRate::ALL.iter().position(|r| *r == rate).unwrap_or(0);
        BANKS[index(from) * RATES + index(to)].get_or_init(|| Self::new(from.hz() as usize, to.hz() as usize))
    }

    fn new(from: usize, to: usize) -> Self {
        let common = gcd(from, to);
        let (up, down) = (to / common, from / common);
        if up == down {
            return Self { up, down, lead: 0, rows: vec![[0.0, 0.0, 0.0, 1.0]], fours: 1 };
        }
        let low_period = up.max(down);
        let lead = HALF_LENGTH * low_period - 1;
        let taps = (2 * lead + 1).div_ceil(up).next_multiple_of(4);
        let rows = (0..up).flat_map(|phase| row(phase, up, low_period, lead, taps)).collect();
        Self { up, down, lead, rows, fours: taps / 4 }
    }

    /// Inputs that an output weighs.
    pub(super) fn taps(&self) -> usize {
        self.fours * 4
    }

    /// The weights of one phase, for [`Bank::taps`] inputs, oldest first.
    #[inline(always)]
    pub(super) fn row(&self, phase: usize) -> &[Four] {
        &self.rows[phase * self.fours..][..self.fours]
    }
}

/// The newest input that a row weighs lies `phase` ticks before what the output is computed at, and the output is
/// centred `lead` ticks before that.
fn row(phase: usize, up: usize, low_period: usize, lead: usize, taps: usize) -> Vec<Four> {
    let weight = |tap: usize| {
        let ticks = lead as f64 - phase as f64 - ((taps - 1 - tap) * up) as f64;
        kernel(ticks / low_period as f64)
    };
    let weights: Vec<f64> = (0..taps).map(weight).collect();
    // So that a constant stays that constant in every phase.
    let sum: f64 = weights.iter().sum();
    weights.chunks_exact(4).map(|w| [w[0], w[1], w[2], w[3]].map(|w| (w / sum) as f32)).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bank_is_small_and_passes_a_constant() {
        for from in SampleRate::ALL {
            for to in SampleRate::ALL {
                let bank = Bank::of(from, to);
                assert!(bank.up * bank.taps() * 4 <= 83 * 1024, "{from} to {to}");
                for phase in 0..bank.up {
                    let sum: f32 = bank.row(phase).as_flattened().iter().sum();
                    assert!((sum - 1.0).abs() < 1e-6, "{from} to {to}, phase {phase}: {sum}");
                }
            }
        }
    }

    #[test]
    fn no_tap_of_the_kernel_is_left_out() {
        for from in SampleRate::ALL {
            for to in SampleRate::ALL.into_iter().filter(|to| *to != from) {
                let bank = Bank::of(from, to);
                let past_the_oldest = (bank.taps() * bank.up) as f64 - bank.lead as f64;
                assert!(past_the_oldest >= (HALF_LENGTH * bank.up.max(bank.down)) as f64);
            }
        }
    }
}
