//! A network that loses, delays, reorders and duplicates datagrams, on virtual time and from a seed.
//!
//! The same seed gives the same run on every machine: the generator (xoshiro256++) has a fixed output, and nothing
//! here uses floating-point functions that differ between platforms. Loss, jitter, reordering and duplication draw
//! from separate streams of the seed, so what is lost stays the same when only the jitter is changed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use evenkeel_core::units::Time;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use thiserror::Error;

/// What a [`Network`] does to datagrams. The default does nothing to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkConfig {
    /// Which datagrams never arrive.
    pub loss: Loss,
    /// What every datagram takes at least.
    pub delay: Duration,
    /// What comes on top of `delay`. Keeps the order, as the queue of a router does: a datagram that is held up
    /// holds up those behind it.
    pub jitter: Jitter,
    /// Times at which the link stands still, and then delivers at once what it held back.
    pub stall: Option<Stall>,
    /// Share of datagrams that are overtaken, 0 to 1: each is held back by `reorder_by` while others pass.
    pub reorder: f64,
    /// For how long an overtaken datagram is held back.
    pub reorder_by: Duration,
    /// Share of datagrams that arrive twice, 0 to 1. The copy takes a jitter of its own on top.
    pub duplicate: f64,
    /// The most datagrams under way at once; what is sent beyond is dropped and counted. Default 4096.
    pub in_flight: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            loss: Loss::None,
            delay: Duration::ZERO,
            jitter: Jitter::None,
            stall: None,
            reorder: 0.0,
            reorder_by: Duration::from_millis(30),
            duplicate: 0.0,
            in_flight: 4096,
        }
    }
}

/// Which datagrams never arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// All arrive.
    #[default]
    None,
    /// Each is lost with this probability (0 to 1), whatever happened to the others.
    Random(f64),
    /// Losses come in bursts, of geometrically distributed length: a two-state Markov chain that loses nothing in one
    /// state and everything in the other (E. N. Gilbert, "Capacity of a burst-noise channel", 1960).
    Bursty {
        /// Share of datagrams lost in the long run, 0 to below 1.
        p: f64,
        /// Mean number of datagrams lost in a row, at least 1. (Independent loss has 1 / (1 - p).)
        mean_burst: f64,
    },
}

/// How long a datagram takes on top of the fixed delay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// No longer.
    #[default]
    None,
    /// Evenly between nothing and this.
    Uniform(Duration),
    /// Exponentially distributed with this mean: mostly little, sometimes much.
    Exponential(Duration),
}

/// A link that stands still for a while, again and again, counted from the first datagram sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// From the start of one to the start of the next; the first starts this long after the first datagram.
    pub every: Duration,
    /// How long it stands still each time.
    pub lasting: Duration,
}

/// A network cannot be as asked.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("{what} must be from {min} to {max}, not {actual}")]
pub struct InvalidNetwork {
    /// The setting.
    pub what: &'static str,
    /// The lowest value allowed.
    pub min: f64,
    /// The highest value allowed.
    pub max: f64,
    /// What was asked for.
    pub actual: f64,
}

/// What the network did to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It never arrives, because [`NetworkConfig::in_flight`] datagrams were under way.
    Overflowed,
    /// It arrives.
    Carried {
        /// When.
        at: Time,
        /// When it arrives once more, if it was duplicated.
        copy: Option<Time>,
    },
}

/// What the network did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Datagrams given to [`Network::send`].
    pub sent: u64,
    /// Lost by [`NetworkConfig::loss`].
    pub lost: u64,
    /// Dropped because too many were under way.
    pub overflowed: u64,
    /// Held back so that others could pass.
    pub held_back: u64,
    /// Carried twice.
    pub duplicated: u64,
    /// Handed out by [`Network::poll`], copies included.
    pub delivered: u64,
}

/// One direction of a network: [`Network::send`] datagrams, [`Network::poll`] those that have arrived.
///
/// It knows no clock. `send` in order of time; between sends, `poll` until it gives nothing, then again at
/// [`Network::next_time`].
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    losses: Dice,
    jitters: Dice,
    reorders: Dice,
    duplicates: Dice,
    copies: Dice,
    is_in_burst: bool,
    first_sent: Option<Time>,
    // When the latest datagram that keeps the order arrives; none behind it arrives earlier.
    last_arrival: Time,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    next_order: u64,
    stats: NetworkStats,
}

impl Network {
    /// A network that does `config`, from `seed`.
    ///
    /// # Errors
    /// [`InvalidNetwork`] for a probability outside 0 to 1, or a burst length that cannot be.
    pub fn new(seed: u64, config: NetworkConfig) -> Result<Self, InvalidNetwork> {
        config.check()?;
        let [losses, jitters, reorders, duplicates, copies] = Dice::separate(seed);
        Ok(Self {
            config,
            losses,
            jitters,
            reorders,
            duplicates,
            copies,
            is_in_burst: false,
            first_sent: None,
            last_arrival: Time::ZERO,
            under_way: BinaryHeap::new(),
            next_order: 0,
            stats: NetworkStats::default(),
        })
    }

    /// Sends a datagram at `now`, and tells what will become of it.
    pub fn send(&mut self, now: Time, datagram: &[u8]) -> Fate {
        self.stats.sent += 1;
        // Each kind of chance is drawn for every datagram, lost or not: see the module's first lines.
        let is_lost = self.draw_loss();
        let jitter = self.jitters.duration(self.config.jitter);
        let is_held_back = self.reorders.comes_up(self.config.reorder);
        let is_duplicated = self.duplicates.comes_up(self.config.duplicate);
        let copy_jitter = self.copies.duration(self.config.jitter);

        if is_lost {
            self.stats.lost += 1;
            return Fate::Lost;
        }
        if self.under_way.len() >= self.config.in_flight {
            self.stats.overflowed += 1;
            return Fate::Overflowed;
        }
        let mut at = self.after_stall(now, now + self.config.delay + jitter);
        if is_held_back {
            self.stats.held_back += 1;
            at = at.max(self.last_arrival) + self.config.reorder_by;
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        self.carry(at, datagram);
        let copy = is_duplicated.then(|| at + copy_jitter);
        if let Some(copy) = copy {
            self.stats.duplicated += 1;
            self.carry(copy, datagram);
        }
        Fate::Carried { at, copy }
    }

    /// The next datagram that has arrived by `now`, with its time of arrival. Call until it gives none.
    #[must_use = "what is polled is taken off the network"]
    pub fn poll(&mut self, now: Time) -> Option<(Time, Vec<u8>)> {
        if self.next_time()? > now {
            return None;
        }
        let Reverse(arrived) = self.under_way.pop()?;
        self.stats.delivered += 1;
        Some((arrived.at, arrived.datagram))
    }

    /// When the next datagram arrives, if any is under way.
    #[must_use]
    pub fn next_time(&self) -> Option<Time> {
        self.under_way.peek().map(|Reverse(next)| next.at)
    }

    /// What was done so far.
    #[must_use]
    pub const fn stats(&self) -> NetworkStats {
        self.stats
    }

    fn draw_loss(&mut self) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Random(p) => self.losses.comes_up(p),
            Loss::Bursty { p, mean_burst } => {
                // The chain stays `mean_burst` long in the burst and is in it for a share of `p`.
                let end = 1.0 / mean_burst;
                let begin = p * end / (1.0 - p);
                let chance = if self.is_in_burst { 1.0 - end } else { begin };
                self.is_in_burst = self.losses.comes_up(chance);
                self.is_in_burst
            }
        }
    }

    fn after_stall(&mut self, now: Time, at: Time) -> Time {
        let first_sent = *self.first_sent.get_or_insert(now);
        let Some(Stall { every, lasting }) = self.config.stall else { return at };
        let since = at.since(first_sent).as_nanos();
        let every = every.as_nanos().max(1);
        let into = Duration::from_nanos((since % every) as u64);
        if since >= every && into < lasting { at + (lasting - into) } else { at }
    }

    fn carry(&mut self, at: Time, datagram: &[u8]) {
        let order = self.next_order;
        self.next_order += 1;
        self.under_way.push(Reverse(UnderWay { at, order, datagram: datagram.to_vec() }));
    }
}

impl NetworkConfig {
    fn check(&self) -> Result<(), InvalidNetwork> {
        let within = |what, actual: f64, min: f64, max: f64| {
            // Written so that NaN is outside.
            if (min..=max).contains(&actual) {
                Ok(())
            } else {
                Err(InvalidNetwork { what, min, max, actual })
            }
        };
        within("share of datagrams reordered", self.reorder, 0.0, 1.0)?;
        within("share of datagrams duplicated", self.duplicate, 0.0, 1.0)?;
        match self.loss {
            Loss::None => Ok(()),
            Loss::Random(p) => within("share of datagrams lost", p, 0.0, 1.0),
            Loss::Bursty { p, mean_burst } => {
                within("mean length of a burst of loss", mean_burst, 1.0, 1e6)?;
                // Bursts are at least one good datagram apart, which bounds the share that they can have.
                within("share of datagrams lost", p, 0.0, mean_burst / (mean_burst + 1.0))
            }
        }
    }
}

/// A datagram under way; ordered by arrival, then by when it was sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    at: Time,
    order: u64,
    datagram: Vec<u8>,
}

/// A stream of chance.
#[derive(Debug)]
struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Streams of one seed that never overlap.
    fn separate<const N: usize>(seed: u64) -> [Self; N] {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        core::array::from_fn(|_| {
            rng.jump();
            Self(rng.clone())
        })
    }

    /// Evenly distributed, from 0 to below 1.
    fn uniform(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * STEP
    }

    fn comes_up(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// Exponentially distributed with mean 1, by comparisons only (J. von Neumann, "Various techniques used in
    /// connection with random digits", 1951), as the logarithm differs between platforms in its last bit.
    fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let fraction = self.uniform();
            let mut falling = fraction;
            let mut run = 1u32;
            loop {
                let next = self.uniform();
                if next >= falling {
                    break;
                }
                falling = next;
                run += 1;
            }
            if run % 2 == 1 {
                return whole + fraction;
            }
            whole += 1.0;
        }
    }

    fn duration(&mut self, jitter: Jitter) -> Duration {
        match jitter {
            Jitter::None => Duration::ZERO,
            Jitter::Uniform(most) => most.mul_f64(self.uniform()),
            Jitter::Exponential(mean) => mean.mul_f64(self.exponential()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Duration = Duration::from_millis(20);

    /// Sends `count` numbered datagrams, 20 ms apart; gives back fates and arrivals in the order of arrival.
    fn run(seed: u64, config: NetworkConfig, count: u32) -> (Network, Vec<Fate>, Vec<(Time, u32)>) {
        let mut network = Network::new(seed, config).unwrap();
        let mut now = Time::ZERO;
        let (mut fates, mut arrivals) = (Vec::new(), Vec::new());
        for number in 0..count {
            fates.push(network.send(now, &number.to_be_bytes()));
            now = now + PACE;
            while let Some((at, datagram)) = network.poll(now) {
                arrivals.push((at, u32::from_be_bytes(datagram.try_into().unwrap())));
            }
        }
        while let Some(at) = network.next_time() {
            let (polled, datagram) = network.poll(at).unwrap();
            assert_eq!(polled, at);
            arrivals.push((at, u32::from_be_bytes(datagram.try_into().unwrap())));
        }
        (network, fates, arrivals)
    }

    #[test]
    fn by_default_all_arrives_at_once_in_order() {
        let (network, _, arrivals) = run(1, NetworkConfig::default(), 100);
        let expected: Vec<_> = (0..100).map(|n| (Time::from_millis(u64::from(n) * 20), n)).collect();
        assert_eq!(arrivals, expected);
        assert_eq!(network.stats(), NetworkStats { sent: 100, delivered: 100, ..NetworkStats::default() });
    }

    #[test]
    fn a_seed_is_the_same_run_on_every_machine() {
        let config = NetworkConfig {
            loss: Loss::Bursty { p: 0.2, mean_burst: 3.0 },
            jitter: Jitter::Exponential(Duration::from_millis(30)),
            reorder: 0.1,
            duplicate: 0.1,
            ..NetworkConfig::default()
        };
        let (_, _, arrivals) = run(9, config, 12);
        let seen: Vec<_> = arrivals.iter().map(|&(at, n)| (n, at.as_nanos() / 1000)).collect();
        // Microseconds. If this fails, the generator or the order of its draws changed.
        let golden = [
            (0, 7364),
            (2, 43846),
            (3, 62377),
            (1, 80406),
            (4, 169119),
            (5, 169119),
            (7, 169119),
            (8, 173925),
            (9, 194641),
            (6, 199119),
            (6, 211844),
            (10, 244902),
            (11, 259773),
        ];
        assert_eq!(seen, golden);
    }

    #[test]
    fn the_share_and_the_bursts_of_loss_are_as_asked() {
        let bursts = |fates: &[Fate]| {
            let starts = fates.windows(2).filter(|w| w[0] != Fate::Lost && w[1] == Fate::Lost).count();
            fates.iter().filter(|&&f| f == Fate::Lost).count() as f64 / starts as f64
        };
        let count = 100_000;
        let random = NetworkConfig { loss: Loss::Random(0.1), ..NetworkConfig::default() };
        let (network, fates, _) = run(3, random, count);
        assert!((network.stats().lost as f64 / f64::from(count) - 0.1).abs() < 0.005);
        assert!((bursts(&fates) - 1.0 / 0.9).abs() < 0.03);

        let loss = Loss::Bursty { p: 0.1, mean_burst: 4.0 };
        let (network, fates, _) = run(3, NetworkConfig { loss, ..NetworkConfig::default() }, count);
        assert!((network.stats().lost as f64 / f64::from(count) - 0.1).abs() < 0.01);
        assert!((bursts(&fates) - 4.0).abs() < 0.2);
    }

    #[test]
    fn what_befalls_a_datagram_does_not_depend_on_the_other_settings() {
        let plain = NetworkConfig { loss: Loss::Random(0.3), ..NetworkConfig::default() };
        let rough = NetworkConfig {
            jitter: Jitter::Exponential(Duration::from_millis(50)),
            reorder: 0.5,
            duplicate: 0.5,
            ..plain
        };
        let lost = |fates: Vec<Fate>| fates.iter().map(|&f| f == Fate::Lost).collect::<Vec<_>>();
        assert_eq!(lost(run(5, plain, 1000).1), lost(run(5, rough, 1000).1));

        let smooth = NetworkConfig { jitter: Jitter::None, ..rough };
        let (rough, smooth) = (run(5, rough, 1000).0.stats(), run(5, smooth, 1000).0.stats());
        assert_eq!(rough, smooth);
    }

    #[test]
    fn jitter_keeps_the_order_and_has_the_distribution_asked_for() {
        let mut dice = Dice::separate::<1>(11);
        let mean = (0..100_000).map(|_| dice[0].exponential()).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let beyond_3 = (0..100_000).filter(|_| dice[0].exponential() > 3.0).count() as f64 / 1e5;
        assert!((beyond_3 - 0.0498).abs() < 0.004, "{beyond_3}");

        for jitter in
            [Jitter::Uniform(Duration::from_millis(80)), Jitter::Exponential(Duration::from_millis(80))]
        {
            let (_, _, arrivals) = run(2, NetworkConfig { jitter, ..NetworkConfig::default() }, 1000);
            assert!(arrivals.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 < w[1].1));
            assert!(arrivals.iter().any(|&(at, n)| at.since(Time::ZERO) > PACE * (n + 2)));
        }
    }

    #[test]
    fn a_stalled_link_delivers_all_at_once_when_it_moves_again() {
        let (every, lasting) = (Duration::from_secs(1), Duration::from_millis(200));
        let config = NetworkConfig { stall: Some(Stall { every, lasting }), ..NetworkConfig::default() };
        let (_, _, arrivals) = run(1, config, 120);
        for &(at, number) in &arrivals {
            let sent = u64::from(number) * 20;
            let expected = if sent >= 1000 && sent % 1000 < 200 { sent / 1000 * 1000 + 200 } else { sent };
            assert_eq!(at, Time::from_millis(expected), "{number}");
        }
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let config =
            NetworkConfig { delay: Duration::from_secs(10), in_flight: 3, ..NetworkConfig::default() };
        let (network, fates, arrivals) = run(1, config, 5);
        assert_eq!(fates[3..], [Fate::Overflowed; 2]);
        assert_eq!((network.stats().overflowed, arrivals.len()), (2, 3));
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for loss in [
            Loss::Random(1.1),
            Loss::Random(f64::NAN),
            Loss::Bursty { p: 0.1, mean_burst: 0.5 },
            Loss::Bursty { p: 0.9, mean_burst: 2.0 },
        ] {
            assert!(Network::new(0, NetworkConfig { loss, ..NetworkConfig::default() }).is_err(), "{loss:?}");
        }
        assert!(Network::new(0, NetworkConfig { reorder: -0.1, ..NetworkConfig::default() }).is_err());
        assert!(Network::new(0, NetworkConfig { duplicate: 2.0, ..NetworkConfig::default() }).is_err());
    }

    proptest! {
        #[test]
        fn the_counters_are_exact(
            seed: u64, loss in 0.0..0.5, reorder in 0.0..0.5, duplicate in 0.0..0.5, jitter_ms in 0u64..100,
        ) {
            let config = NetworkConfig {
                loss: Loss::Random(loss),
                jitter: Jitter::Uniform(Duration::from_millis(jitter_ms)),
                reorder,
                duplicate,
                ..NetworkConfig::default()
            };
            let (network, fates, arrivals) = run(seed, config, 200);
            let stats = network.stats();
            prop_assert_eq!(stats.lost as usize, fates.iter().filter(|&&f| f == Fate::Lost).count());
            prop_assert_eq!(stats.delivered, stats.sent - stats.lost + stats.duplicated);
            prop_assert_eq!(stats.delivered as usize, arrivals.len());
            prop_assert!(arrivals.windows(2).all(|w| w[0].0 <= w[1].0));
            let mut announced: Vec<_> = fates.iter().zip(0u32..).flat_map(|(&fate, n)| match fate {
                Fate::Carried { at, copy } => [Some((at, n)), copy.map(|copy| (copy, n))],
                _ => [None, None],
            }).flatten().collect();
            announced.sort_unstable();
            let mut arrivals = arrivals;
            arrivals.sort_unstable();
            prop_assert_eq!(arrivals, announced);
        }
    }
}
