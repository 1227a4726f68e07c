//! Contenders that take turns, so that all see the same machine, and what their times say.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

/// How many laps are compared at a time: their ratio is one opinion, and the median of all opinions counts.
pub const BLOCK: usize = 50;

/// A lap that took more than this many times the median of its block was interrupted: speech does not differ so much
/// within a second.
pub const INTERRUPTED: u32 = 4;

/// Runs contenders lap by lap, each lap begun by the next one, and times every turn. The first `warm_up` laps do not
/// count. A contender is given the number of the lap.
pub fn race<const N: usize>(
    warm_up: usize,
    laps: usize,
    contenders: [&mut dyn FnMut(usize); N],
) -> [Times; N] {
    let mut times = [const { Times(Vec::new()) }; N];
    times.iter_mut().for_each(|times| times.0.reserve_exact(laps));
    for lap in 0..warm_up + laps {
        for turn in 0..N {
            let who = (lap + turn) % N;
            let start = Instant::now();
            contenders[who](black_box(lap));
            let took = start.elapsed();
            if lap >= warm_up {
                times[who].0.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
            }
        }
    }
    times
}

/// What each lap of a contender took, in nanoseconds, in order.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<u32>);

impl Times {
    /// Every lap, in nanoseconds.
    #[must_use]
    pub fn nanos(&self) -> &[u32] {
        &self.0
    }

    /// How they are distributed, in microseconds.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).map_or(0.0, |&nanos| f64::from(nanos) / 1e3)
        };
        let mean = total(&self.0) / sorted.len().max(1) as f64 / 1e3;
        Latency { mean, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }

    /// What a lap takes when nothing interrupts, in microseconds: the mean over all that took at most
    /// [`INTERRUPTED`] times their block's median.
    #[must_use]
    pub fn typical_us(&self) -> f64 {
        let calm = self.0.chunks(BLOCK).flat_map(|block| {
            let limit = interrupted_above(block);
            block.iter().filter(move |&&nanos| nanos <= limit)
        });
        let (sum, laps) = calm.fold((0.0, 0.0), |(sum, laps), &nanos| (sum + f64::from(nanos), laps + 1.0));
        sum / f64::max(laps, 1.0) / 1e3
    }

    /// How this contender compares with `other`, which ran in the same race.
    #[must_use]
    pub fn ratio_to(&self, other: &Self) -> Ratio {
        let pairs = self.0.chunks(BLOCK).zip(other.0.chunks(BLOCK));
        let mut ratios: Vec<f64> = pairs.map(|(ours, theirs)| calm_ratio(ours, theirs)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| ratios.get((share * ratios.len() as f64) as usize).copied().unwrap_or(f64::NAN);
        let of_sums = total(&self.0) / total(&other.0).max(1.0);
        Ratio { median: at(0.5), p10: at(0.1), p90: at(0.9), of_sums }
    }

    /// How much longer a lap takes than one of `other`, which ran in the same race: the median over all laps, in
    /// microseconds.
    #[must_use]
    pub fn difference_us(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        median(pairs.map(|(&ours, &theirs)| f64::from(ours) - f64::from(theirs)).collect()) / 1e3
    }
}

/// The sums of a block, laps left out in which either was interrupted.
fn calm_ratio(ours: &[u32], theirs: &[u32]) -> f64 {
    let (our_limit, their_limit) = (interrupted_above(ours), interrupted_above(theirs));
    let calm = ours.iter().zip(theirs).filter(|&(&a, &b)| a <= our_limit && b <= their_limit);
    let (a, b) = calm.fold((0.0, 0.0), |(a, b), (&x, &y)| (a + f64::from(x), b + f64::from(y)));
    a / f64::max(b, 1.0)
}

fn interrupted_above(block: &[u32]) -> u32 {
    let mut sorted = block.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).map_or(0, |median| median.saturating_mul(INTERRUPTED))
}

fn total(nanos: &[u32]) -> f64 {
    nanos.iter().map(|&nanos| f64::from(nanos)).sum()
}

/// The middle of some values, 0 of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// How times are distributed, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// One contender's time over another's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median over blocks of [`BLOCK`] laps, without laps in which either was interrupted.
    pub median: f64,
    /// A tenth of the blocks have less.
    pub p10: f64,
    /// A tenth of the blocks have more.
    pub p90: f64,
    /// All laps over all laps, interruptions included.
    pub of_sums: f64,
}

/// What one small operation takes, in nanoseconds, from rounds of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// In the median round.
    pub ns: f64,
    /// In the fastest round.
    pub fastest_ns: f64,
}

impl Cost {
    /// From the times of rounds of `operations` each.
    #[must_use]
    pub fn of(rounds: &Times, operations: usize) -> Self {
        let fastest = rounds.0.iter().copied().min().unwrap_or(0);
        let each: Vec<f64> = rounds.0.iter().map(|&nanos| f64::from(nanos)).collect();
        Self { ns: median(each) / operations as f64, fastest_ns: f64::from(fastest) / operations as f64 }
    }
}

/// Times rounds that need something prepared before each of them, which does not count.
#[derive(Debug, Default)]
pub struct Stopwatch(Times);

impl Stopwatch {
    /// Times one round.
    pub fn time(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.0.0.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }

    /// What one of `operations` a round takes.
    #[must_use]
    pub fn cost(&self, operations: usize) -> Cost {
        Cost::of(&self.0, operations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(nanos: impl IntoIterator<Item = u32>) -> Times {
        Times(nanos.into_iter().collect())
    }

    #[test]
    fn every_contender_runs_every_lap_and_each_begins_as_often() {
        let (mut order_a, mut order_b) = (Vec::new(), Vec::new());
        let clock = std::cell::Cell::new(0);
        let tick = || clock.replace(clock.get() + 1);
        let [a, b] =
            race(2, 10, [&mut |lap| order_a.push((lap, tick())), &mut |lap| order_b.push((lap, tick()))]);
        assert_eq!((a.nanos().len(), b.nanos().len()), (10, 10));
        let first = order_a.iter().zip(&order_b).filter(|(a, b)| a.0 == b.0 && a.1 < b.1).count();
        assert_eq!(first, 6);
    }

    #[test]
    fn an_interruption_moves_the_sums_but_neither_the_median_nor_what_is_typical() {
        let quiet = times((0..1_000).map(|i| 1_000 + i % 10));
        let noisy = times((0..1_000).map(|i| 2 * (1_000 + i % 10) + if i == 77 { 9_000_000 } else { 0 }));
        let ratio = noisy.ratio_to(&quiet);
        assert_eq!((ratio.median, ratio.p10, ratio.p90), (2.0, 2.0, 2.0));
        assert!(ratio.of_sums > 10.0);
        assert!((noisy.typical_us() - 2.009).abs() < 0.01, "{}", noisy.typical_us());
        assert!((noisy.difference_us(&quiet) - 1.005).abs() < 0.001);
        let latency = noisy.latency();
        assert_eq!((latency.p999, latency.max), (2.018, 9_002.014));
    }

    #[test]
    fn nothing_measured_is_no_panic() {
        let none = times([]);
        assert_eq!(none.latency().max, 0.0);
        assert_eq!(none.typical_us(), 0.0);
        assert!(none.ratio_to(&none).median.is_nan());
        assert_eq!(Cost::of(&none, 3), Cost::default());
    }
}
