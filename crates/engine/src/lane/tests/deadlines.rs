//! When packets leave.

use std::time::Duration;

use evenkeel_core::units::{FrameDuration, Time};
use evenkeel_sys::rest::REST;
use proptest::prelude::*;

use super::sim::{DEPARTURE, Event, MS, Member, START, Sim};
use crate::config::Pacing;
use crate::lane::EARLY;
use crate::stream::Packet;

const FRAME: FrameDuration = FrameDuration::MS_20;
const COST: Duration = Duration::from_micros(150);
const LEAD: Duration = Pacing::DEFAULT_LEAD;

/// How far packets left from when they should have, early and late.
fn errors<'a>(packets: impl Iterator<Item = &'a Packet>) -> (Duration, Duration) {
    packets.fold((Duration::ZERO, Duration::ZERO), |(early, late), packet| {
        (early.max(packet.due.since(packet.departed)), late.max(packet.departed.since(packet.due)))
    })
}

fn gaps(packets: &[&Packet]) -> Vec<Duration> {
    packets.windows(2).map(|pair| pair[1].due.since(pair[0].due)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn with_room_packets_leave_a_frame_apart_within_one_job(
        seed: u64,
        streams in 1u32..80,
        frame in 0usize..4,
        micros in 5u64..180,
        jitter in 0u64..45,
    ) {
        let frame = [FRAME, FrameDuration::MS_10, FrameDuration::MS_40, FrameDuration::MS_60][frame];
        let mut sim = Sim::new(1, seed);
        let spacing = frame.as_duration() / streams;
        let cost = Duration::from_micros(micros).min(spacing * 6 / 10);
        for i in 0..streams {
            let member = Member { jitter: Duration::from_micros(jitter), ..Member::new(frame, cost) };
            sim.open(0, member, START + spacing * i);
        }
        sim.run(START + 2_000 * MS);
        sim.drain();
        let (early, late) = errors(sim.sent.iter());
        prop_assert!(early <= EARLY);
        prop_assert!(late <= sim.longest_job + DEPARTURE * streams, "{:?}", late);
        for index in 0..streams as usize {
            let packets: Vec<_> = sim.sent_by(index).collect();
            prop_assert!(packets.len() as u64 == sim.players[index].pushed && packets.len() > 30);
            for (k, packet) in packets.iter().enumerate() {
                prop_assert_eq!(packet.due, packets[0].due + frame.as_duration() * k as u32);
            }
        }
    }

    #[test]
    fn when_all_come_at_once_the_wait_is_what_the_others_take(seed: u64, streams in 2u32..60) {
        let mut sim = Sim::new(1, seed);
        for _ in 0..streams {
            sim.open(0, Member::new(FRAME, COST), START);
        }
        sim.run(START + 1_000 * MS);
        sim.drain();
        let all = (sim.longest_job + DEPARTURE) * streams;
        for packet in &sim.sent {
            prop_assert!(packet.departed <= packet.due.max(packet.pushed_at + all) + sim.longest_job);
        }
    }
}

#[test]
fn a_source_that_pauses_goes_on_from_where_it_resumes() {
    let mut sim = Sim::new(1, 1);
    let index = sim.open(0, Member::new(FRAME, COST), START);
    sim.run(START + 500 * MS);
    // The source stands still, as does everything else.
    sim.at(START + 510 * MS, Event::Jump(3_000));
    sim.run(START + 4_500 * MS);
    sim.drain();
    let packets: Vec<_> = sim.sent_by(index).collect();
    let (early, late) = errors(packets.iter().copied());
    assert!(early <= EARLY && late <= COST * 2, "{late:?}");
    let long: Vec<_> = gaps(&packets).into_iter().filter(|&gap| gap != 20 * MS).collect();
    assert_eq!(long.len(), 1, "{long:?}");
    assert_eq!(sim.players[index].link.report().underruns, 1);
    assert_eq!(sim.players[index].pushed, packets.len() as u64);
}

#[test]
fn a_source_that_is_slow_is_followed_and_loses_nothing() {
    let mut sim = Sim::new(1, 2);
    let index = sim.open(0, Member { period: 21 * MS, ..Member::new(FRAME, COST) }, START);
    sim.run(START + 10_000 * MS);
    sim.drain();
    let report = sim.players[index].link.report();
    assert_eq!((report.packets, report.late, report.dropped), (sim.players[index].pushed, 0, 0));
    assert!(report.underruns > 400, "{}", report.underruns);
    assert!(sim.sent.iter().all(|packet| packet.departed.since(packet.pushed_at) <= LEAD + COST));
}

#[test]
fn a_source_that_is_fast_is_paced_and_what_does_not_fit_is_counted() {
    let mut sim = Sim::new(1, 3);
    let index = sim.open(0, Member { period: 10 * MS, adapt: true, ..Member::new(FRAME, COST) }, START);
    sim.run(START + 10_000 * MS);
    sim.drain();
    let (player, report) = (&sim.players[index], sim.players[index].link.report());
    assert_eq!(player.pushed, report.packets + report.dropped);
    let packets: Vec<_> = sim.sent_by(index).collect();
    assert!(gaps(&packets).iter().all(|gap| *gap >= 16 * MS));
    let (media, wall) =
        (20 * MS * packets.len() as u32, packets[packets.len() - 1].due.since(packets[0].due));
    assert!(wall * 103 / 100 >= media, "{media:?} in {wall:?}");
    assert_eq!((report.late, report.rung_changes), (0, 0), "being far ahead is neither late nor slow");
}

#[test]
fn a_burst_within_the_queue_leaves_frame_by_frame() {
    let mut sim = Sim::new(1, 4);
    let member = Member { burst: 12, queue_frames: 12, adapt: true, ..Member::new(FRAME, COST) };
    let index = sim.open(0, member, START);
    sim.run(START + 5_000 * MS);
    sim.drain();
    let report = sim.players[index].link.report();
    assert_eq!((report.packets, report.late, report.dropped), (sim.players[index].pushed, 0, 0));
    assert_eq!((report.rung_changes, report.underruns), (0, 0));
    assert!(gaps(&sim.sent_by(index).collect::<Vec<_>>()).iter().all(|&gap| gap == 20 * MS));
}

#[test]
fn after_a_hiccup_of_the_source_its_delay_goes_away_again() {
    let mut sim = Sim::new(1, 5);
    let index = sim.open(0, Member::new(FRAME, COST), START);
    sim.run(START + 1_000 * MS);
    sim.at(sim.now, Event::Stop(index));
    sim.run(START + 1_300 * MS);
    // All that it missed comes at once, then it is on time.
    let player = &mut sim.players[index];
    (player.stopped, player.member.burst, player.member.period) = (false, 10, 2 * MS);
    sim.at(sim.now, Event::Push(index));
    sim.run(START + 1_301 * MS);
    let player = &mut sim.players[index];
    (player.member.burst, player.member.period) = (1, 20 * MS);
    sim.run(START + 20_000 * MS);
    let latency = |packet: &Packet| packet.departed.since(packet.pushed_at);
    let after: Vec<_> = sim.sent_by(index).filter(|p| p.pushed_at > START + 1_302 * MS).collect();
    assert!(latency(after[0]) > 50 * MS);
    assert!(latency(after[after.len() - 1]) < 2 * MS);
    assert!(gaps(&after).iter().all(|gap| *gap >= 16 * MS));
}

#[test]
fn immediate_packets_leave_when_their_job_is_done() {
    let mut sim = Sim::new(1, 6);
    let index = sim.open(0, Member { pacing: Pacing::Immediate, ..Member::new(FRAME, COST) }, START);
    sim.run(START + 1_000 * MS);
    sim.drain();
    assert_eq!(sim.sent_by(index).count() as u64, sim.players[index].pushed);
    assert!(sim.sent.iter().all(|p| p.departed.since(p.pushed_at) <= COST * 2), "{:?}", sim.longest_job);
}

#[test]
fn one_that_floods_waits_behind_those_that_do_not() {
    let run = |flood: bool| {
        let mut sim = Sim::new(1, 7);
        for i in 0..20 {
            let member = Member { adapt: true, ..Member::new(FRAME, COST) };
            sim.open(0, member, START + MS * i);
        }
        if flood {
            let member = Member { period: COST / 4, pacing: Pacing::Immediate, ..Member::new(FRAME, COST) };
            sim.open(0, member, START);
        }
        sim.run(START + 3_000 * MS);
        for player in &sim.players[..20] {
            let report = player.link.report();
            assert_eq!((report.late, report.dropped, report.rung_changes), (0, 0, 0));
        }
        errors(sim.sent.iter().filter(|packet| packet.stream.0 <= 20)).1
    };
    let (alone, beside) = (run(false), run(true));
    assert!(beside <= alone + COST * 2 + REST, "{beside:?} instead of {alone:?}");
}

#[test]
fn a_relay_gathers_and_leaves_every_60_ms() {
    let mut sim = Sim::new(1, 8);
    let member = Member { relay: true, period: 20 * MS, ..Member::new(FrameDuration::MS_60, COST) };
    let index = sim.open(0, member, START);
    sim.run(START + 6_000 * MS);
    sim.drain();
    let packets: Vec<_> = sim.sent_by(index).collect();
    assert_eq!(packets.len() as u64, sim.players[index].pushed / 3);
    assert!(gaps(&packets).iter().all(|&gap| gap == 60 * MS));
    assert_eq!(sim.players[index].link.report().underruns, 0);
}

#[test]
fn nothing_is_due_before_the_epoch_and_time_may_stand_still() {
    let mut sim = Sim::new(1, 9);
    for _ in 0..5 {
        sim.open(
            0,
            Member { pacing: Pacing::Paced { lead: Duration::ZERO }, ..Member::new(FRAME, COST) },
            START,
        );
    }
    sim.run(START);
    sim.run(START);
    sim.drain();
    assert_eq!(sim.sent.len(), 5);
    assert!(sim.sent.iter().all(|packet| packet.due == START && packet.departed > Time::ZERO));
}
