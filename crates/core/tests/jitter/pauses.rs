//! Senders that pause (DTX), restart, or change what they send.

use std::time::Duration;

use evenkeel_core::jitter::{Inserted, JitterBuffer, JitterConfig, Playout};
use evenkeel_core::units::{FrameDuration, Time};
use evenkeel_testkit::network::{Jitter, NetworkConfig};

use crate::simulation::{Heard, Stream};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_pause_is_concealed_shortly_then_silent_and_nothing_is_lost() {
    for timestamp_hz in [None, Some(48_000)] {
        let config = JitterConfig { timestamp_hz, ..JitterConfig::default() };
        // Two seconds of speech, three of nothing.
        let pause = |n| if n > 0 && n % 100 == 0 { ms(3000) } else { ms(0) };
        let run = Stream { config, pause, packets: 1000, ..Stream::default() }.run();
        let stats = run.last();
        assert_eq!((stats.lost, stats.late, stats.pauses), (0, 0, 10), "nine, and the end");
        assert_eq!(run.count(|heard| heard == Heard::Conceal), 50, "100 ms each");
        assert!(run.count(|heard| heard == Heard::Silence) > 9 * 130);
        assert_eq!(stats.target, ms(20), "a pause is not jitter");
        assert_eq!(stats.jitter, ms(0));
        assert!(stats.delay <= ms(45));
    }
}

#[test]
fn a_pause_that_was_announced_is_silent_at_once_and_no_underrun() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    let (mut at, mut sequence) = (Time::ZERO, 0);
    for spurt in 1..=3 {
        let mut played = 0;
        let mut pulled = |buffer: &mut JitterBuffer, at| match buffer.next(at) {
            Playout::Packet { .. } => played += 1,
            Playout::Silence { .. } => {}
            other => panic!("{other:?} in spurt {spurt}"),
        };
        for _ in 0..25 {
            sequence += 1;
            let _ = buffer.insert(sequence, 0, &VOICE, at);
            pulled(&mut buffer, at);
            at = at + ms(20);
        }
        buffer.pause();
        for _ in 0..50 {
            pulled(&mut buffer, at);
            at = at + ms(20);
        }
        assert_eq!(played, 25, "all that came");
    }
    let stats = buffer.stats();
    assert_eq!((stats.underruns, stats.concealed, stats.pauses, stats.lost), (0, 0, 3, 0));
    // Only the next pause is announced anew.
    sequence += 1;
    let _ = buffer.insert(sequence, 0, &VOICE, at);
    assert!((0..20).map(|n| buffer.next(at + ms(20 * n)).duration()).count() == 20);
    assert_eq!(buffer.stats().underruns, 1);
}

#[test]
fn pauses_on_a_jittery_network_do_not_confuse_the_measurement() {
    for timestamp_hz in [None, Some(48_000)] {
        let config = JitterConfig { timestamp_hz, ..JitterConfig::default() };
        let network =
            NetworkConfig { delay: ms(30), jitter: Jitter::Uniform(ms(40)), ..NetworkConfig::default() };
        let pause = |n| if n > 0 && n % 75 == 0 { ms(700) } else { ms(0) };
        let run = Stream { config, network, pause, packets: 3000, ..Stream::default() }.run();
        let stats = run.last();
        assert_eq!((stats.lost, stats.late), (0, 0));
        assert!((ms(32)..=ms(64)).contains(&stats.target), "{timestamp_hz:?} {:?}", stats.target);
    }
}

#[test]
fn the_rare_packets_of_a_dtx_encoder_do_not_look_like_jitter() {
    // Two seconds of speech, then four in which the encoder refreshes the noise every 400 ms.
    for timestamp_hz in [None, Some(48_000)] {
        let config = JitterConfig { timestamp_hz, ..JitterConfig::default() };
        let pause = |n| if n % 110 >= 100 { ms(380) } else { ms(0) };
        let has_voice = |n| n % 110 < 100;
        let run = Stream { config, pause, has_voice, packets: 1100, ..Stream::default() }.run();
        let stats = run.last();
        assert_eq!((stats.lost, stats.late, stats.dropped), (0, 0, 0));
        assert_eq!(stats.target, ms(20), "{timestamp_hz:?}");
        assert_eq!(stats.pauses, 101);
    }
}

#[test]
fn a_gap_after_a_dtx_packet_is_a_pause_even_if_the_buffer_bridges_it() {
    let config = JitterConfig { min_depth: ms(200), initial_depth: ms(200), ..JitterConfig::default() };
    let mut buffer = JitterBuffer::new(config).unwrap();
    let mut pull = Time::from_millis(5);
    let mut at = Time::ZERO;
    for sequence in 1..2000 {
        let is_dtx = sequence % 50 == 0;
        let _ = buffer.insert(sequence, 0, if is_dtx { &[0x48] } else { &VOICE }, at);
        at = at + if is_dtx { ms(280) } else { ms(20) };
        while pull < at {
            pull = pull + buffer.next(pull).duration();
        }
    }
    let stats = buffer.stats();
    assert_eq!((stats.target, stats.underruns, stats.lost, stats.dropped), (ms(200), 0, 0, 0));
    assert!(stats.concealed > 100);
}

#[test]
fn a_packet_waits_no_longer_than_the_target_though_the_fastest_is_forgotten() {
    let config = JitterConfig { min_depth: ms(400), initial_depth: ms(400), ..JitterConfig::default() };
    let mut buffer = JitterBuffer::new(config).unwrap();
    let _ = buffer.insert(1, 0, &[0x48], Time::ZERO);
    let _ = buffer.insert(2, 0, &VOICE, Time::from_millis(200));
    assert!(matches!(buffer.next(Time::from_millis(399)), Playout::Silence { .. }));
    assert!(matches!(buffer.next(Time::from_millis(400)), Playout::Packet { sequence: 1, .. }));
}

#[test]
fn with_timestamps_a_pause_shorter_than_the_depth_is_kept() {
    let config = JitterConfig {
        timestamp_hz: Some(48_000),
        min_depth: ms(120),
        initial_depth: ms(120),
        ..JitterConfig::default()
    };
    let pause = |n| if n > 0 && n % 50 == 0 { ms(80) } else { ms(0) };
    let run = Stream { config, pause, packets: 1000, ..Stream::default() }.run();
    // Each packet is played the same time after it was sent.
    for &(at, heard) in &run.heard {
        let Heard::Packet { number } = heard else { continue };
        let sent = ms(20) * number + ms(80) * (number / 50);
        let delay = at.since(Time::ZERO + sent);
        assert!((ms(150)..ms(175)).contains(&delay), "{number}: {delay:?}");
    }
    assert_eq!(run.last().dropped, 0);
}

const VOICE: [u8; 3] = [0x48, 0x80, 0];

/// Plays for `seconds` as packets from `first` on arrive every 20 ms. Gives what the inserts said.
fn play(buffer: &mut JitterBuffer, start: u64, first: u32, packets: u32) -> Vec<Inserted> {
    let mut said = Vec::new();
    for n in 0..packets {
        let at = Time::from_millis(start + u64::from(n) * 20);
        said.push(buffer.insert(first.wrapping_add(n), 0, &VOICE, at));
        let _ = buffer.next(at + ms(10));
    }
    said
}

#[test]
fn a_restart_takes_three_packets_that_agree_and_sixteen_if_they_may_be_late() {
    for (again, needed) in
        [(1, 16), (u32::MAX - 500, 16), (1_000_000, 3), (u32::MAX - 5000, 3), (4_000_000_000, 3)]
    {
        let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
        play(&mut buffer, 0, 1, 50);
        let said = play(&mut buffer, 1000, again, 50);
        let restarted = said.iter().position(|&said| said == Inserted::Restarted).unwrap();
        assert_eq!(restarted + 1, needed, "at {again}");
        assert!(said[..restarted].iter().all(|said| !matches!(said, Inserted::Stored)));
        assert!(said[restarted + 1..].iter().all(|&said| said == Inserted::Stored));
        assert_eq!(buffer.stats().restarts, 1);
        assert_eq!(buffer.stats().lost, 0);
        assert!(buffer.stats().target <= ms(60), "{:?}", buffer.stats().target);
    }
}

#[test]
fn strays_do_not_restart() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    play(&mut buffer, 0, 100_000, 100);
    for n in 0..100 {
        let at = Time::from_millis(2000 + u64::from(n) * 20);
        let stray = [7, 7 + n, 500_000 + n * 1000][n as usize / 34];
        assert_eq!(buffer.insert(stray, 0, &VOICE, at), Inserted::Suspect);
        assert_eq!(buffer.insert(100_100 + n, 0, &VOICE, at), Inserted::Stored);
        assert!(matches!(buffer.next(at + ms(10)), Playout::Packet { .. }));
    }
    assert_eq!(buffer.stats().restarts, 0);
}

#[test]
fn a_burst_of_repeated_packets_does_not_restart() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    play(&mut buffer, 0, 1, 60);
    for sequence in 1..50 {
        assert!(matches!(
            buffer.insert(sequence, 0, &VOICE, Time::from_millis(1200)),
            Inserted::Duplicate | Inserted::Late
        ));
    }
    assert_eq!(buffer.stats().restarts, 0);
}

#[test]
fn an_outage_while_the_sender_goes_on_is_lost_but_not_replayed() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    play(&mut buffer, 0, 1, 100);
    let mut now = Time::from_millis(2000);
    while now < Time::from_millis(7000) {
        now = now + buffer.next(now).duration();
    }
    play(&mut buffer, 7000, 351, 100);
    let stats = buffer.stats();
    assert_eq!((stats.lost, stats.restarts), (250, 0));
    assert!(stats.delay <= ms(85), "{:?}", stats.delay);
}

#[test]
fn the_first_packets_may_come_in_any_order() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    for sequence in [5, 4, 7, 6, 3] {
        assert_eq!(buffer.insert(sequence, 0, &VOICE, Time::from_millis(1)), Inserted::Stored);
    }
    let mut played = Vec::new();
    for n in 0..10 {
        if let Playout::Packet { sequence, .. } = buffer.next(Time::from_millis(n * 20)) {
            played.push(sequence);
        }
    }
    assert_eq!(played, [3, 4, 5, 6, 7]);
}

#[test]
fn pcm_is_buffered_like_opus() {
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    for sequence in [2, 1] {
        let inserted = buffer.insert_pcm(sequence, 0, FrameDuration::MS_60, &[9; 960], Time::ZERO);
        assert_eq!(inserted, Inserted::Stored);
    }
    let playout = buffer.next(Time::from_millis(60));
    assert_eq!(playout, Playout::Packet { sequence: 1, payload: &[9; 960], duration: ms(60), is_pcm: true });
}
