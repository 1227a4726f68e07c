//! Counting that is cheap enough to be always on: a fixed-size histogram, a running summary, a window of the last
//! hundred.
//!
//! Values are nanoseconds by convention, but nothing depends on it.

mod shared;

use core::fmt;

pub use shared::SharedHistogram;

/// Sub-buckets per power of two, as a power of two: 16, so that a percentile is at most 6.25 % above the truth.
const SUB_BITS: u32 = 4;
const SUB: usize = 1 << SUB_BITS;
/// Values from here on (about 18 minutes in nanoseconds) share the last bucket.
const TOP_BITS: u32 = 40;
const BUCKETS: usize = ((TOP_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// A log-linear histogram of 2.4 KB: 16 buckets per power of two. Recording costs a few nanoseconds and never
/// allocates; minimum, maximum, mean, standard deviation and jitter are exact, percentiles round up to the end of
/// their bucket.
#[derive(Clone)]
pub struct Histogram {
    buckets: [u32; BUCKETS],
    count: u64,
    min: u64,
    max: u64,
    sum: f64,
    sum_of_squares: f64,
    last: u64,
    sum_of_steps: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [0; BUCKETS],
            count: 0,
            min: u64::MAX,
            max: 0,
            sum: 0.0,
            sum_of_squares: 0.0,
            last: 0,
            sum_of_steps: 0.0,
        }
    }

    /// Records one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let bucket = &mut self.buckets[bucket_of(value)];
        *bucket = bucket.saturating_add(1);
        if self.count > 0 {
            self.sum_of_steps += value.abs_diff(self.last) as f64;
        }
        self.last = value;
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value as f64;
        self.sum_of_squares += value as f64 * value as f64;
    }

    /// Records `value` as having come `count` times, as when a histogram comes from another process. Jitter is not
    /// known then.
    pub fn record_many(&mut self, value: u64, count: u64) {
        if count == 0 {
            return;
        }
        let bucket = &mut self.buckets[bucket_of(value)];
        *bucket = bucket.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.count += count;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value as f64 * count as f64;
        self.sum_of_squares += value as f64 * value as f64 * count as f64;
    }

    /// Adds all that `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.sum_of_steps += other.sum_of_steps;
        self.last = other.last;
    }

    /// What was recorded after `earlier`, a former state of this histogram. Its minimum and maximum are rounded to
    /// the ends of their buckets, and its jitter is that of the whole.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        later.count -= earlier.count;
        later.sum -= earlier.sum;
        later.sum_of_squares -= earlier.sum_of_squares;
        later.sum_of_steps = self.sum_of_steps * later.count as f64 / self.count.max(1) as f64;
        (later.min, later.max) = (u64::MAX, 0);
        for (index, (mine, before)) in later.buckets.iter_mut().zip(&earlier.buckets).enumerate() {
            *mine -= before;
            if *mine > 0 {
                later.max = self.max.min(end_of(index));
                later.min = later.min.min(later.max);
            }
        }
        later
    }

    /// How many values were recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean, 0 if there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// The sum of all values.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// How many fit into a second if each is the time in nanoseconds that one took, frames per second say; 0 if there
    /// are none.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.sum > 0.0 { self.count as f64 * 1e9 / self.sum } else { 0.0 }
    }

    /// The value that a share `q` (0.0 to 1.0) of all values does not pass; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, &n) in self.buckets.iter().enumerate() {
            seen += u64::from(n);
            if seen >= rank {
                return end_of(index).clamp(self.min, self.max);
            }
        }
        self.max
    }

    /// Everything at once.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let n = self.count.max(1) as f64;
        let mean = self.sum / n;
        Summary {
            count: self.count,
            min: if self.count == 0 { 0 } else { self.min },
            mean,
            stdev: (self.sum_of_squares / n - mean * mean).max(0.0).sqrt(),
            jitter: self.sum_of_steps / self.count.saturating_sub(1).max(1) as f64,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max,
        }
    }

    /// The buckets that hold anything: the largest value of each, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().filter(|&(_, &n)| n > 0).map(|(i, &n)| (end_of(i), u64::from(n)))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

/// What a [`Histogram`] says of its values, in their own unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub stdev: f64,
    /// The mean absolute difference of consecutive values.
    pub jitter: f64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

#[inline]
const fn bucket_of(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    if exponent >= TOP_BITS {
        return BUCKETS - 1;
    }
    let octave = (exponent - SUB_BITS + 1) as usize;
    let sub = (value >> (exponent - SUB_BITS)) as usize - SUB;
    (octave << SUB_BITS) + sub
}

/// The largest value that falls into a bucket.
const fn end_of(bucket: usize) -> u64 {
    let octave = (bucket >> SUB_BITS) as u32;
    let sub = (bucket & (SUB - 1)) as u64;
    if octave == 0 {
        return sub;
    }
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    ((SUB as u64 + sub + 1) << (octave - 1)) - 1
}

/// The last hundred values, for decisions that must forget.
#[derive(Clone, Debug)]
pub struct Window {
    values: [u32; Self::LEN],
    next: usize,
    len: usize,
    sum: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { values: [0; Self::LEN], next: 0, len: 0, sum: 0 }
    }
}

impl Window {
    /// How many values it remembers.
    pub const LEN: usize = 100;

    /// Remembers a value (at most about 4.3 s in nanoseconds), forgetting the oldest.
    pub fn record(&mut self, value: u64) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.sum = self.sum + u64::from(value) - u64::from(self.values[self.next]);
        self.values[self.next] = value;
        self.next = (self.next + 1) % Self::LEN;
        self.len = (self.len + 1).min(Self::LEN);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many values it holds, 100 at most.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The mean, 0 if empty.
    #[must_use]
    pub const fn mean(&self) -> u64 {
        if self.len == 0 { 0 } else { self.sum / self.len as u64 }
    }

    /// The largest, 0 if empty.
    #[must_use]
    pub fn max(&self) -> u64 {
        u64::from(self.values[..self.len].iter().copied().max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_ends_at_or_after_it() {
        for value in (0..200_000).chain((17..TOP_BITS).flat_map(|b| [(1 << b) - 1, 1 << b, (1 << b) + 1])) {
            let bucket = bucket_of(value);
            assert!(end_of(bucket) >= value, "{value}");
            assert!(bucket == 0 || end_of(bucket - 1) < value, "{value}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_is_all_zeros() {
        assert_eq!(Histogram::new().summary(), Summary::default());
        assert_eq!(Histogram::new().per_second(), 0.0);
    }

    #[test]
    fn what_takes_10_and_30_ms_comes_50_times_a_second() {
        let mut histogram = Histogram::new();
        [10_000_000, 30_000_000].iter().for_each(|&nanos| histogram.record(nanos));
        assert_eq!(histogram.per_second(), 50.0);
    }

    #[test]
    fn a_lone_value_since_then_is_all_its_percentiles() {
        let mut histogram = Histogram::new();
        histogram.record(3);
        let earlier = histogram.clone();
        histogram.record(1_000);
        let Summary { count, min, p50, p999, max, .. } = histogram.since(&earlier).summary();
        assert_eq!((count, min, p50, p999, max), (1, 1_000, 1_000, 1_000, 1_000));
    }

    proptest! {
        #[test]
        fn percentiles_are_within_a_bucket_of_the_truth(
            mut values in proptest::collection::vec(0u64..2_000_000_000, 1..400),
        ) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|&v| histogram.record(v));
            values.sort_unstable();
            let summary = histogram.summary();
            prop_assert_eq!((summary.min, summary.max), (values[0], values[values.len() - 1]));
            for (q, got) in [(0.5, summary.p50), (0.99, summary.p99)] {
                let truth = values[((q * values.len() as f64).ceil() as usize).max(1) - 1];
                prop_assert!(got >= truth && got as f64 <= truth as f64 * 1.0625 + 1.0, "{got} for {truth}");
            }
        }

        #[test]
        fn merging_equals_recording_all(
            a in proptest::collection::vec(0u64..1_000_000, 0..50),
            b in proptest::collection::vec(0u64..1_000_000, 0..50),
        ) {
            let (mut left, mut right, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
            a.iter().for_each(|&v| left.record(v));
            b.iter().for_each(|&v| right.record(v));
            a.iter().chain(&b).for_each(|&v| both.record(v));
            left.merge(&right);
            prop_assert_eq!(left.buckets, both.buckets);
            prop_assert_eq!((left.count, left.min, left.max), (both.count, both.min, both.max));
        }

        #[test]
        fn what_came_since_is_the_difference(
            a in proptest::collection::vec(0u64..1_000_000, 0..50),
            b in proptest::collection::vec(0u64..1_000_000, 1..50),
        ) {
            let (mut whole, mut second) = (Histogram::new(), Histogram::new());
            a.iter().for_each(|&v| whole.record(v));
            let first = whole.clone();
            b.iter().for_each(|&v| { whole.record(v); second.record(v); });
            let since = whole.since(&first);
            prop_assert_eq!((since.count, since.buckets), (second.count, second.buckets));
            prop_assert!(since.max >= second.max && (since.mean() - second.mean()).abs() < 1e-3);
            let summary = since.summary();
            prop_assert!(since.min <= summary.p50 && summary.p50 <= summary.p999 && summary.p999 <= since.max);
        }

        #[test]
        fn the_window_remembers_the_last_hundred(values in proptest::collection::vec(0u64..1_000_000, 1..300)) {
            let mut window = Window::default();
            values.iter().for_each(|&v| window.record(v));
            let last = &values[values.len().saturating_sub(100)..];
            prop_assert_eq!(window.mean(), last.iter().sum::<u64>() / last.len() as u64);
            prop_assert_eq!(window.max(), *last.iter().max().unwrap());
        }
    }
}
