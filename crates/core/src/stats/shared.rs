//! A histogram that one thread writes while others look.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{BUCKETS, Histogram, bucket_of};

/// As [`Histogram`], written by one thread and read by any number of others, without either ever waiting.
///
/// What a reader sees may be one value ahead in one figure and behind in another, never more than what was being
/// recorded at that moment.
pub struct SharedHistogram {
    buckets: [AtomicU32; BUCKETS],
    min: AtomicU64,
    max: AtomicU64,
    /// Bits of an `f64`, as the next two.
    sum: AtomicU64,
    sum_of_squares: AtomicU64,
    sum_of_steps: AtomicU64,
    last: AtomicU64,
    count: AtomicU64,
}

impl Default for SharedHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedHistogram {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            sum_of_squares: AtomicU64::new(0),
            sum_of_steps: AtomicU64::new(0),
            last: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// Records one value. If two threads do so at once, values are lost.
    #[inline]
    pub fn record(&self, value: u64) {
        let bucket = &self.buckets[bucket_of(value)];
        bucket.store(bucket.load(Relaxed).saturating_add(1), Relaxed);
        let count = self.count.load(Relaxed);
        if count > 0 {
            add(&self.sum_of_steps, value.abs_diff(self.last.load(Relaxed)) as f64);
        }
        self.last.store(value, Relaxed);
        self.count.store(count + 1, Relaxed);
        self.min.store(self.min.load(Relaxed).min(value), Relaxed);
        self.max.store(self.max.load(Relaxed).max(value), Relaxed);
        add(&self.sum, value as f64);
        add(&self.sum_of_squares, value as f64 * value as f64);
    }

    /// What was recorded so far.
    #[must_use]
    pub fn snapshot(&self) -> Histogram {
        let mut histogram = Histogram::new();
        for (bucket, shared) in histogram.buckets.iter_mut().zip(&self.buckets) {
            *bucket = shared.load(Relaxed);
            histogram.count += u64::from(*bucket);
        }
        histogram.min = self.min.load(Relaxed);
        histogram.max = self.max.load(Relaxed);
        // The first value may be in its bucket already, and not yet in these two.
        if histogram.count > 0 {
            histogram.min = histogram.min.min(histogram.max);
        }
        histogram.sum = f64::from_bits(self.sum.load(Relaxed));
        histogram.sum_of_squares = f64::from_bits(self.sum_of_squares.load(Relaxed));
        histogram.sum_of_steps = f64::from_bits(self.sum_of_steps.load(Relaxed));
        histogram.last = self.last.load(Relaxed);
        histogram
    }
}

fn add(bits: &AtomicU64, value: f64) {
    bits.store((f64::from_bits(bits.load(Relaxed)) + value).to_bits(), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_snapshot_is_what_a_plain_histogram_would_be(
            values in proptest::collection::vec(0u64..2_000_000_000, 0..200),
        ) {
            let (shared, mut plain) = (SharedHistogram::new(), Histogram::new());
            for value in values {
                shared.record(value);
                plain.record(value);
            }
            prop_assert_eq!(shared.snapshot().summary(), plain.summary());
        }
    }

    /// As a reader finds it between two steps of [`SharedHistogram::record`].
    #[test]
    fn a_first_value_that_is_half_recorded_is_no_panic() {
        let shared = SharedHistogram::new();
        shared.buckets[bucket_of(7)].store(1, Relaxed);
        assert_eq!(shared.snapshot().summary().count, 1);
        shared.min.store(7, Relaxed);
        assert_eq!(shared.snapshot().since(&Histogram::new()).summary().count, 1);
    }

    #[test]
    fn readers_see_a_count_that_never_goes_back() {
        let shared = SharedHistogram::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|value| shared.record(value)));
            let mut last = 0;
            while last < 200_000 {
                let count = shared.snapshot().count();
                assert!(count >= last);
                last = count;
            }
        });
        assert_eq!(shared.snapshot().summary().max, 199_999);
    }
}
