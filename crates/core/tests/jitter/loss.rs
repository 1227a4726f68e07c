//! Loss, reordering, duplicates and late packets.

use std::time::Duration;

use evenkeel_core::jitter::{Inserted, JitterBuffer, JitterConfig, Playout};
use evenkeel_core::units::{FrameDuration, Time};
use evenkeel_testkit::network::{Jitter, Loss, NetworkConfig};
use proptest::prelude::*;

use crate::simulation::{Heard, Stream};

const DELAY: Duration = Duration::from_millis(30);

#[test]
fn a_perfect_network_leaves_nothing_to_conceal_and_the_least_delay() {
    for phase in [0, 1, 7, 19] {
        for duration in [FrameDuration::MS_20, FrameDuration::MS_60] {
            let phase = Duration::from_millis(phase);
            let run = Stream { phase, duration, ..Stream::default() }.run();
            let stats = run.last();
            // Two packets' worth at most, to come down from the initial depth.
            assert_eq!((stats.played + stats.dropped, stats.lost), (500, 0));
            assert!(stats.dropped <= 2, "{}", stats.dropped);
            assert_eq!(run.count(|heard| heard == Heard::Conceal), 5, "only after the end");
            assert_eq!(stats.target, Duration::from_millis(20));
            let most = stats.target + duration.as_duration() * 5 / 4;
            assert!((stats.target..=most).contains(&stats.delay), "{:?} of {most:?}", stats.delay);
        }
    }
}

#[test]
fn with_redundancy_single_losses_are_recovered() {
    let network = NetworkConfig { loss: Loss::Random(0.1), delay: DELAY, ..NetworkConfig::default() };
    let run = Stream { lbrr: true, network, packets: 2000, ..Stream::default() }.run();
    let lost = run.lost_within();
    let before_a_packet = lost.iter().filter(|&n| !lost.contains(&(n + 1))).count() as u64;
    assert!(before_a_packet > 150);
    assert_eq!(run.last().recovered, before_a_packet);
}

#[test]
fn reordering_within_the_depth_loses_nothing() {
    let network = NetworkConfig {
        delay: DELAY,
        reorder: 0.1,
        reorder_by: Duration::from_millis(50),
        ..NetworkConfig::default()
    };
    let config = JitterConfig { min_depth: Duration::from_millis(60), ..JitterConfig::default() };
    let run = Stream { network, config, packets: 2000, ..Stream::default() }.run();
    let stats = run.last();
    assert!(run.network.held_back > 150);
    assert_eq!((stats.lost, stats.late, stats.dropped), (0, 0, 0));
    assert_eq!(run.played(), (0..2000).collect::<Vec<_>>());
}

#[test]
fn the_depth_grows_until_reordered_packets_come_in_time() {
    let network = NetworkConfig {
        delay: DELAY,
        reorder: 0.05,
        reorder_by: Duration::from_millis(90),
        ..NetworkConfig::default()
    };
    let config = JitterConfig { initial_depth: Duration::from_millis(20), ..JitterConfig::default() };
    let run = Stream { network, config, packets: 3000, ..Stream::default() }.run();
    let early = run.stats_at(Duration::from_secs(15));
    let stats = run.last();
    assert!(early.late > 0);
    assert_eq!(stats.late, early.late, "late only until the buffer has learnt");
    assert_eq!(stats.lost, 0, "what came late is not lost");
}

#[test]
fn a_late_packet_is_late_once_and_then_a_duplicate() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    let mut insert = |sequence, at| buffer.insert(sequence, 0, &[0x48, 0x80, 0], Time::from_millis(at));
    assert_eq!([1, 2, 4, 5].map(|n| insert(n, 0)), [Inserted::Stored; 4]);
    for at in [100, 120, 140, 160] {
        let _ = buffer.next(Time::from_millis(at));
    }
    assert_eq!(buffer.stats().lost, 1);
    let mut insert = |sequence, at| buffer.insert(sequence, 0, &[0x48, 0x80, 0], Time::from_millis(at));
    assert_eq!([insert(3, 165), insert(3, 170)], [Inserted::Late, Inserted::Duplicate]);
    assert_eq!((buffer.stats().lost, buffer.stats().late, buffer.stats().duplicates), (0, 1, 1));
}

#[test]
fn while_a_burst_drains_what_was_lost_in_it_is_not_concealed() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    for sequence in (1..=20).filter(|n| n % 4 != 0) {
        let _ = buffer.insert(sequence, 0, &[0x48, 0x80, 0], Time::ZERO);
    }
    let playouts: Vec<_> =
        (0..14).map(|n| matches!(buffer.next(Time::from_millis(n * 20)), Playout::Packet { .. })).collect();
    // 400 ms at once are far too deep: the gaps are a welcome way to shrink.
    assert!(playouts.iter().all(|&is_packet| is_packet), "{playouts:?}");
    assert!(buffer.stats().lost >= 4);
}

#[test]
fn sequences_wrap() {
    let network = NetworkConfig { loss: Loss::Random(0.1), delay: DELAY, ..NetworkConfig::default() };
    let wrapping = Stream { first_sequence: u32::MAX - 250, network, ..Stream::default() }.run();
    let plain = Stream { network, ..Stream::default() }.run();
    assert_eq!(wrapping.heard, plain.heard);
    assert_eq!(wrapping.last(), plain.last());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn exactly_what_the_network_lost_counts_as_lost(
        seed: u64, p in 0.0..0.4, mean_burst in 1.0..6.0, lbrr: bool, phase in 0u64..20, duplicate in 0.0..0.2,
    ) {
        let network = NetworkConfig {
            loss: Loss::Bursty { p, mean_burst },
            delay: DELAY,
            duplicate,
            ..NetworkConfig::default()
        };
        let phase = Duration::from_millis(phase);
        let run = Stream { seed, network, lbrr, phase, ..Stream::default() }.run();
        let stats = run.last();
        prop_assert_eq!(stats.lost, run.lost_within().len() as u64);
        prop_assert_eq!(stats.duplicates, run.network.duplicated);
        prop_assert_eq!(stats.late, 0);
        prop_assert_eq!(stats.played + stats.dropped, run.network.delivered - run.network.duplicated);
    }

    #[test]
    fn whatever_the_network_does_packets_come_in_order_and_all_is_accounted_for(
        seed: u64,
        p in 0.0..0.5,
        jitter in 0u64..200,
        reorder in 0.0..0.5,
        // Held back for longer than sixteen packets take, packets can look like those of a sender that restarted.
        reorder_by in 0u64..200,
        duplicate in 0.0..0.5,
        is_long: bool,
        has_timestamps: bool,
        first_sequence: u32,
    ) {
        let network = NetworkConfig {
            loss: Loss::Random(p),
            delay: DELAY,
            jitter: Jitter::Exponential(Duration::from_millis(jitter)),
            reorder,
            reorder_by: Duration::from_millis(reorder_by),
            duplicate,
            ..NetworkConfig::default()
        };
        let timestamp_hz = has_timestamps.then_some(48_000);
        let config = JitterConfig { timestamp_hz, ..JitterConfig::default() };
        let duration = if is_long { FrameDuration::MS_60 } else { FrameDuration::MS_20 };
        let run = Stream {
            seed, network, config, duration, first_sequence, packets: 300, ..Stream::default()
        }.run();
        // `run` itself checks order and sums.
        let stats = run.last();
        prop_assert_eq!(stats.restarts, 0);
        prop_assert!(stats.target <= config.max_depth);
        prop_assert!(run.buffer.is_empty());
    }
}
