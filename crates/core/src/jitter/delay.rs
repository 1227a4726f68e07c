//! How late packets come, relative to the fastest, and the delay that would suffice for most.

use core::time::Duration;

use super::nanos;
use crate::units::Time;

/// Packets are judged in blocks of half a second by the latest of them, so that the outcome does not depend on how
/// many there are.
const BLOCK: Duration = Duration::from_millis(500);

/// A block of fewer packets says nothing.
const LEAST_IN_BLOCK: u32 = 3;

/// The fastest packet is looked for in this many blocks before the current one.
const MINIMA: usize = 4;

/// The share of blocks for which the target suffices.
const QUANTILE: f32 = 0.95;

/// What a block counts for relative to the one after it: a time constant of 16 s.
const FORGETTING: f32 = 0.97;

/// The delay is measured in this many steps up to the largest that matters.
const BINS: usize = 50;

/// Until this many blocks were seen, the target is no lower than at the start.
const BLOCKS_TO_TRUST: u32 = 4;

/// Measures arrivals; all in nanoseconds. An *offset* is the time of arrival less the media time: arbitrary by
/// itself, but the difference of two is how much later one came than the other.
#[derive(Debug)]
pub(super) struct DelayEstimator {
    bin_width: i64,
    /// The share of blocks, recent ones counting for more, whose largest delay fell into each bin. Sums up to 1.
    bins: [f32; BINS],
    blocks: u32,
    /// What would have sufficed for [`QUANTILE`] of the blocks.
    sufficient: i64,
    minima: [i64; MINIMA],
    block: Option<Block>,
    last_offset: Option<i64>,
    jitter: i64,
}

#[derive(Debug)]
struct Block {
    ends: Time,
    min: i64,
    max: i64,
    packets: u32,
}

impl DelayEstimator {
    /// `longest` is the delay beyond which all is the same.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            bin_width: (nanos(longest) / BINS as i64).max(1_000_000),
            bins: [0.0; BINS],
            blocks: 0,
            sufficient: 0,
            minima: [i64::MAX; MINIMA],
            block: None,
            last_offset: None,
            jitter: 0,
        }
    }

    /// Takes note of a packet that arrived.
    pub(super) fn observe(&mut self, offset: i64, arrival: Time) {
        if let Some(last) = self.last_offset.replace(offset) {
            // RFC 3550, section 6.4.1.
            let step = offset.saturating_sub(last).saturating_abs();
            self.jitter += (step - self.jitter) / 16;
        }
        if self.block.as_ref().is_some_and(|block| arrival >= block.ends) {
            self.close_block();
        }
        let block =
            self.block.get_or_insert(Block { ends: arrival + BLOCK, min: offset, max: offset, packets: 0 });
        block.min = block.min.min(offset);
        block.max = block.max.max(offset);
        block.packets += 1;
    }

    /// The sender paused, for how long is unknown: offsets from now on do not compare with those before. What was
    /// learnt of the network stays.
    pub(super) fn pause(&mut self) {
        self.close_block();
        self.minima = [i64::MAX; MINIMA];
        self.last_offset = None;
    }

    /// The offset of the fastest packet of late.
    pub(super) fn fastest(&self) -> Option<i64> {
        let block = self.block.as_ref().map_or(i64::MAX, |block| block.min);
        let fastest = self.minima.into_iter().fold(block, i64::min);
        (fastest != i64::MAX).then_some(fastest)
    }

    /// The delay that would have sufficed for most of late, and `initial` at least while little is known.
    pub(super) fn target(&self, initial: i64) -> i64 {
        if self.blocks < BLOCKS_TO_TRUST { self.sufficient.max(initial) } else { self.sufficient }
    }

    /// Interarrival jitter.
    pub(super) fn jitter(&self) -> i64 {
        self.jitter
    }

    fn close_block(&mut self) {
        let Some(fastest) = self.fastest() else { return };
        let Some(block) = self.block.take() else { return };
        self.minima.rotate_right(1);
        self.minima[0] = block.min;
        if block.packets < LEAST_IN_BLOCK {
            return;
        }
        self.blocks = self.blocks.saturating_add(1);
        // The first ones are averaged, so that the very first does not count for all the others.
        let keep = FORGETTING.min(1.0 - 1.0 / self.blocks as f32);
        self.bins.iter_mut().for_each(|share| *share *= keep);
        let delay = block.max.saturating_sub(fastest);
        let bin = usize::try_from(delay / self.bin_width).unwrap_or(0).min(BINS - 1);
        self.bins[bin] += 1.0 - keep;
        let mut below = 0.0;
        let enough = self.bins.iter().position(|share| {
            below += share;
            below >= QUANTILE
        });
        self.sufficient = (enough.unwrap_or(BINS - 1) as i64 + 1) * self.bin_width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Feeds `seconds` of packets, 20 ms apart, delayed as `delay` (in ms) says; starts at `start` seconds.
    fn feed(estimator: &mut DelayEstimator, start: u64, seconds: u64, delay: impl Fn(u64) -> i64) {
        for n in 0..seconds * 50 {
            let at = Time::from_millis(start * 1000 + n * 20);
            estimator.observe(delay(n) * MS, at + Duration::from_millis(delay(n) as u64));
        }
    }

    #[test]
    fn the_target_covers_what_happens_often_and_forgets_what_was() {
        let mut estimator = DelayEstimator::new(Duration::from_millis(400));
        assert_eq!(estimator.target(60 * MS), 60 * MS);
        feed(&mut estimator, 0, 20, |_| 5);
        assert_eq!(estimator.target(60 * MS), 8 * MS, "one bin");
        feed(&mut estimator, 20, 1, |n| if n == 7 { 205 } else { 5 });
        assert_eq!(estimator.target(60 * MS), 8 * MS, "one spike is no rule");
        feed(&mut estimator, 21, 20, |n| if n % 100 == 99 { 205 } else { 5 });
        assert!((200 * MS..=210 * MS).contains(&estimator.target(0)), "{}", estimator.target(0) / MS);
        feed(&mut estimator, 41, 60, |_| 5);
        assert_eq!(estimator.target(60 * MS), 8 * MS);
    }

    #[test]
    fn a_pause_is_no_delay_but_a_burst_after_it_is() {
        let mut estimator = DelayEstimator::new(Duration::from_millis(400));
        for spurt in 0..20 {
            estimator.pause();
            feed(&mut estimator, spurt * 3, 1, |_| 5 + 300 * spurt as i64);
        }
        assert_eq!(estimator.target(0), 8 * MS);
        for spurt in 20..40 {
            estimator.pause();
            feed(&mut estimator, spurt * 3, 1, |n| 5 + (200 - 20 * n as i64).max(0));
        }
        assert!((200 * MS..=210 * MS).contains(&estimator.target(0)));
    }

    #[test]
    fn drift_of_the_clocks_is_no_delay() {
        let mut estimator = DelayEstimator::new(Duration::from_millis(400));
        for n in 0..50 * 600 {
            estimator.observe(n * 2_000, Time::from_millis(n as u64 * 20));
        }
        assert_eq!(estimator.target(0), 8 * MS, "100 ppm over ten minutes");
        assert!(estimator.jitter() < MS);
    }
}
