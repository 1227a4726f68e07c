//! The depth follows the network, and settles.

use std::time::Duration;

use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::units::{FrameDuration, Time};
use evenkeel_testkit::network::{Jitter, NetworkConfig, Stall};

use crate::simulation::{Heard, Stream};

const DELAY: Duration = Duration::from_millis(30);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_single_stall_drains_to_the_target() {
    let stall = Some(Stall { every: Duration::from_secs(10), lasting: ms(200) });
    let network = NetworkConfig { delay: DELAY, stall, ..NetworkConfig::default() };
    for duration in [FrameDuration::MS_20, FrameDuration::MS_60] {
        let packets = 19_000 / (duration.as_micros() / 1000);
        let run = Stream { network, duration, packets, ..Stream::default() }.run();
        let before = run.stats_at(ms(9_900));
        let during = run.stats_at(ms(10_400));
        let after = run.stats_at(ms(17_000));
        assert!(during.delay > ms(150), "{:?}", during.delay);
        assert!(after.delay <= before.target + duration.as_duration() * 5 / 4, "{:?}", after.delay);
        assert_eq!((run.last().lost, run.last().late), (0, 0));
    }
}

#[test]
fn without_voice_a_burst_drains_five_times_faster() {
    let stall = Some(Stall { every: Duration::from_secs(10), lasting: ms(200) });
    let network = NetworkConfig { delay: DELAY, stall, ..NetworkConfig::default() };
    let drained = |has_voice: fn(u32) -> bool| {
        let run = Stream { network, packets: 900, has_voice, ..Stream::default() }.run();
        let is_drained = |at: &&(Time, _)| at.0 > Time::from_millis(10_500);
        let deep = run.stats.iter().filter(is_drained).take_while(|(_, stats)| stats.delay > ms(60));
        deep.count()
    };
    let (voiced, unvoiced) = (drained(|_| true), drained(|_| false));
    assert!(unvoiced * 4 < voiced, "{unvoiced} {voiced}");
}

#[test]
fn the_depth_covers_repeated_spikes_and_comes_back_after_them() {
    // Stalls of 200 ms every 2 s for a minute; then a sender that goes on over a smooth network.
    let stall = Some(Stall { every: Duration::from_secs(2), lasting: ms(200) });
    let rough = NetworkConfig { delay: DELAY, stall, ..NetworkConfig::default() };
    let run = Stream { network: rough, packets: 3000, ..Stream::default() }.run();
    let (learnt, end) = (run.stats_at(Duration::from_secs(20)), run.stats_at(Duration::from_secs(59)));
    assert!((ms(180)..=ms(240)).contains(&learnt.target), "{:?}", learnt.target);
    assert_eq!(end.underruns, learnt.underruns, "no spike is heard once the buffer knows them");
    assert_eq!(end.concealed, learnt.concealed);
    assert_eq!((end.lost, end.late), (0, 0));
}

#[test]
fn the_depth_returns_when_the_network_calms_down() {
    // The first stall comes after the first 20 s; two more follow, then the stream is smooth as the buffer sees it.
    let stall = Some(Stall { every: Duration::from_secs(50), lasting: ms(200) });
    let network = NetworkConfig { delay: DELAY, stall, ..NetworkConfig::default() };
    let config = JitterConfig { initial_depth: ms(300), ..JitterConfig::default() };
    let run = Stream { network, config, packets: 2400, ..Stream::default() }.run();
    assert!(run.stats_at(ms(1_500)).delay >= ms(300));
    assert!(run.stats_at(ms(8_000)).delay <= ms(45), "{:?}", run.stats_at(ms(8_000)).delay);
}

#[test]
fn steady_jitter_is_covered_without_oscillation() {
    for jitter in [Jitter::Uniform(ms(60)), Jitter::Exponential(ms(15))] {
        for has_voice in [|_| true, |n| n % 100 < 60] as [fn(u32) -> bool; 2] {
            let network = NetworkConfig { delay: DELAY, jitter, ..NetworkConfig::default() };
            let run = Stream { network, packets: 50 * 120, has_voice, ..Stream::default() }.run();
            let (settled, end) =
                (run.stats_at(Duration::from_secs(30)), run.stats_at(Duration::from_secs(119)));
            let (dropped, concealed) = (end.dropped - settled.dropped, end.concealed - settled.concealed);
            assert!(dropped <= 12 && concealed <= 12, "{jitter:?}: {dropped} dropped, {concealed} concealed");
            assert!(end.delay <= ms(160));
        }
    }
}

#[test]
fn above_the_maximum_depth_packets_are_left_out_at_once() {
    let stall = Some(Stall { every: Duration::from_secs(5), lasting: ms(900) });
    let network = NetworkConfig { delay: DELAY, stall, ..NetworkConfig::default() };
    let run = Stream { network, packets: 400, ..Stream::default() }.run();
    let after = run.stats.iter().filter(|(at, _)| *at > Time::from_millis(5_940));
    assert!(after.map(|(_, stats)| stats.delay).max().is_some_and(|delay| delay <= ms(425)));
    assert!(run.last().dropped >= 20);
}

#[test]
fn unvoiced_packets_are_where_the_buffer_adapts() {
    // Voice in 60 of 100 packets. Count what is left out or inserted next to voice.
    let stall = Some(Stall { every: Duration::from_secs(10), lasting: ms(60) });
    let network = NetworkConfig { delay: DELAY, stall, ..NetworkConfig::default() };
    let has_voice: fn(u32) -> bool = |n| n % 10 < 5;
    let run = Stream { network, packets: 2500, has_voice, ..Stream::default() }.run();
    let played = run.played();
    let left_out: Vec<u32> = (0..2500).filter(|n| played.binary_search(n).is_err()).collect();
    assert!(!left_out.is_empty());
    assert!(left_out.iter().all(|&n| !has_voice(n)), "{left_out:?}");
    assert_eq!(run.count(|heard| matches!(heard, Heard::Lost { .. })), 0);
}

#[test]
fn clocks_that_drift_apart_are_followed() {
    // In ten minutes 200 ppm are 120 ms, six packets.
    for drift_ppm in [-200, 200] {
        let network =
            NetworkConfig { delay: DELAY, jitter: Jitter::Uniform(ms(15)), ..NetworkConfig::default() };
        let run = Stream { network, drift_ppm, packets: 30_000, ..Stream::default() }.run();
        let corrections = run.last().dropped + run.last().concealed - 5;
        assert!((4..=9).contains(&corrections), "{drift_ppm} ppm: {:?}", run.last());
        let minutes = (1..10).map(|minute| run.stats_at(Duration::from_secs(minute * 60)).delay);
        assert!(minutes.max().is_some_and(|delay| delay <= ms(52)));
        assert_eq!((run.last().lost, run.last().late), (0, 0));
    }
}

#[test]
fn where_there_is_no_voice_the_buffer_grows_before_it_runs_empty() {
    // The sender's clock is slow: the delay shrinks by a packet every 100 s.
    let run =
        Stream { drift_ppm: 200, has_voice: |n| n % 100 < 60, packets: 30_000, ..Stream::default() }.run();
    let before_the_end = run.stats_at(Duration::from_secs(599));
    assert!((5..=7).contains(&before_the_end.concealed), "{before_the_end:?}");
    assert_eq!(before_the_end.underruns, 0);
}
