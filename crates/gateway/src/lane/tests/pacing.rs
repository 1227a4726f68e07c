//! Whatever the room does, packets leave evenly.

use super::*;
use proptest::prelude::*;

/// A session that flows and has been heard of, at time 0.
fn flowing(route: Route) -> (Rig, usize) {
    let mut rig = Rig::new();
    let n = rig.open(route);
    rig.greet(n);
    rig.command(n, FLOW);
    (rig, n)
}

fn gaps(times: &[u64]) -> Vec<u64> {
    times.windows(2).map(|w| w[1] - w[0]).collect()
}

#[test]
fn a_burst_leaves_at_the_pace_of_its_packets() {
    let (mut rig, n) = flowing(Route::Chat);
    (0..50).for_each(|i| rig.downlink(n, silk60(true, i), u32::from(i)));
    rig.run(Duration::from_secs(4));
    assert_eq!(rig.devices[n].heard_at(), (0..50).map(|i| i * 60).collect::<Vec<_>>());
    assert_eq!(rig.devices[n].heard_fills(), (0..50).collect::<Vec<_>>());
    let stats = rig.close(n);
    assert_eq!((stats.sent, stats.dropped, stats.underruns, stats.departure_max_micros), (50, 0, 0, 0));
}

#[test]
fn packets_of_20_ms_become_packets_of_60() {
    let (mut rig, n) = flowing(Route::Chat);
    (0..9).for_each(|i| rig.downlink(n, celt20(i), u32::from(i) * 20));
    rig.run(Duration::from_millis(500));
    assert_eq!(rig.devices[n].heard_at(), [0, 60, 120]);
    for (i, heard) in rig.devices[n].heard.iter().enumerate() {
        let frames = evenkeel_core::framing::Frames::parse(&heard.2).unwrap();
        assert_eq!((frames.count(), frames.duration_us()), (3, 60_000));
        assert_eq!(frames.frame(1)[0], i as u8 * 3 + 1);
    }
}

#[test]
fn a_live_source_of_20_ms_is_merged_without_a_hole() {
    let (mut rig, n) = flowing(Route::Chat);
    for i in 0..30 {
        rig.downlink(n, celt20(i), 0);
        rig.run(MS * 20);
    }
    rig.run(MS * 200);
    let times = rig.devices[n].heard_at();
    assert_eq!((times.len(), times[0]), (10, 40));
    assert!(gaps(&times).iter().all(|&gap| gap == 60), "{times:?}");
}

#[test]
fn the_rest_of_a_reply_that_fills_no_packet_is_sent_too() {
    let (mut rig, n) = flowing(Route::Chat);
    (0..4).for_each(|i| rig.downlink(n, celt20(i), 0));
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_at(), [0, 60], "after a while without more");
    (0..4).for_each(|i| rig.downlink(n, celt20(i), 0));
    rig.command(n, MediaCommand::Mark(ReplyId(1)));
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_at()[2..], [500, 560], "at once before a mark");
}

#[test]
fn a_hole_is_an_underrun_and_the_pace_goes_on_behind_it() {
    let (mut rig, n) = flowing(Route::Chat);
    (0..3).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.run(MS * 400);
    (3..6).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.run(MS * 1000);
    assert_eq!(rig.devices[n].heard_at(), [0, 60, 120, 400, 460, 520]);
    let stats = rig.close(n);
    assert_eq!((stats.underruns, stats.dropped), (1, 0));
}

#[test]
fn silence_between_replies_is_no_underrun() {
    let (mut rig, n) = flowing(Route::Chat);
    for reply in 0..3 {
        rig.downlink(n, silk60(true, 0), 0);
        rig.command(n, MediaCommand::Mark(ReplyId(reply)));
        rig.run(MS * 700);
    }
    assert_eq!(rig.close(n).underruns, 0);
}

#[test]
fn a_live_source_with_jitter_ends_up_even() {
    let (mut rig, n) = flowing(Route::Loopback);
    // Late by 0 to 4 ms, the latest early on.
    for i in 0..100u64 {
        rig.run_until(Time::from_millis(60 + i * 60 + (i * 7 + 3) % 5));
        rig.say(n, &silk60(true, i as u8));
    }
    rig.run(MS * 200);
    let times = rig.devices[n].heard_at();
    let gaps = gaps(&times[times.len() - 80..]);
    assert!(gaps.iter().all(|&gap| gap == 60), "{gaps:?}");
    let newest = rig.devices[n].heard.last().unwrap();
    assert!(newest.0 < Time::from_millis(60 + 99 * 60 + 6), "no more delay than the latest had");
    assert_eq!(rig.close(n).underruns, 0, "what no device hears is no underrun");
}

#[test]
fn the_delay_that_a_stall_left_shrinks_in_a_pause() {
    let (mut rig, n) = flowing(Route::Loopback);
    let say = |rig: &mut Rig, at: u64, voice| {
        rig.run_until(Time::from_millis(at));
        rig.say(n, &silk60(voice, 0));
    };
    say(&mut rig, 100, true);
    // A stall of 300 ms, then all at once.
    (0..5).for_each(|_| say(&mut rig, 400, true));
    (0..20).for_each(|i| say(&mut rig, 460 + i * 60, true));
    assert!(rig.stats(n).queued >= 4);
    (20..40).for_each(|i| say(&mut rig, 460 + i * 60, false));
    assert!(rig.stats(n).queued <= 2);
}

#[test]
fn what_missed_its_deadline_is_dropped_and_the_schedule_stays() {
    let (mut rig, n) = flowing(Route::Chat);
    (0..10).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.run(MS * 70);
    // The thread did not run for 180 ms: 120 and 180 are over 50 ms late, 240 is not.
    rig.now = rig.now + MS * 180;
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_at(), [0, 60, 250, 300, 360, 420, 480, 540]);
    assert_eq!(rig.lane.report().missed, 2);
    let stats = rig.close(n);
    assert_eq!((stats.dropped, stats.departure_max_micros), (2, 10_000));
}

#[test]
fn neighbours_leave_together() {
    let mut rig = Rig::new();
    for n in 0..10 {
        rig.now = Time::from_nanos(n * 20_000);
        let n = rig.open(Route::Chat);
        rig.greet(n);
        rig.command(n, FLOW);
        (0..3).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    }
    rig.run(MS * 300);
    let mut instants: Vec<_> = rig.devices.iter().flat_map(|d| d.heard.iter().map(|h| h.0)).collect();
    instants.sort_unstable();
    instants.dedup();
    assert!(instants.len() <= 4, "{instants:?}");
    let report = rig.lane.report();
    assert_eq!(report.departures.iter().sum::<u64>(), 30);
    assert_eq!(report.departures[4..].iter().sum::<u64>(), 0, "none left more than 500 µs from its deadline");
}

#[test]
fn the_queue_is_bounded_and_the_oldest_goes_first() {
    let (mut rig, n) = flowing(Route::Chat);
    // What does not leave yet is not waited for.
    rig.command(n, MediaCommand::Gate(Gate::Hold));
    for i in 0..2100u32 {
        rig.downlink(n, silk60(true, i as u8), i);
    }
    rig.command(n, FLOW);
    rig.run(Duration::from_secs(130));
    assert_eq!(rig.devices[n].heard.len(), 2000, "120 s of 60 ms");
    assert_eq!(rig.devices[n].heard_fills()[0], 100);
    assert_eq!(rig.close(n).dropped, 100);
}

#[test]
fn all_queues_together_are_bounded() {
    let config = LaneConfig { max_queued_bytes: 64 << 10, ..LaneConfig::default() };
    let mut rig = Rig::with(config, 4096);
    for _ in 0..8 {
        let n = rig.open(Route::Chat);
        rig.greet(n);
        (0..300).for_each(|i| rig.downlink(n, silk60(true, i as u8), i));
    }
    let queued: u64 = (0..8).map(|n| u64::from(rig.stats(n).queued)).sum();
    assert!((300..700).contains(&queued), "{queued} packets of 100 bytes in 64 KiB");
    for n in 0..8 {
        rig.close(n);
    }
    let n = rig.open(Route::Chat);
    (0..300).for_each(|i| rig.downlink(n, silk60(true, i as u8), i));
    assert_eq!(rig.stats(n).queued, 300, "what was closed gave back");
}

proptest! {
    #[test]
    fn no_two_packets_leave_closer_than_their_duration_or_out_of_order(
        arrivals in proptest::collection::vec((0u64..200, 1usize..5), 1..40),
    ) {
        let (mut rig, n) = flowing(Route::Chat);
        let mut number = 0u8;
        for (pause, count) in arrivals {
            rig.run(MS * pause as u32);
            for _ in 0..count {
                rig.downlink(n, silk60(true, number), 0);
                number += 1;
            }
        }
        rig.run(Duration::from_secs(20));
        let times = rig.devices[n].heard_at();
        prop_assert!(gaps(&times).iter().all(|&gap| gap >= 60), "{:?}", times);
        prop_assert_eq!(rig.devices[n].heard_fills(), (0..number).collect::<Vec<_>>());
        let stamps: Vec<_> = rig.devices[n].heard.iter().map(|h| h.1.timestamp).collect();
        for (pair, times) in stamps.windows(2).zip(times.windows(2)) {
            let step = u64::from(pair[1].wrapping_sub(pair[0]));
            prop_assert_eq!(step, times[1] - times[0], "the wire's clock is the schedule's");
        }
    }
}
