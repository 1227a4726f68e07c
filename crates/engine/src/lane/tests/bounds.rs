//! What is dropped, and that it is counted; what ends, moves and panics, and that others do not feel it.

use std::time::Duration;

use evenkeel_core::units::FrameDuration;

use super::sim::{Event, MS, Member, START, Sim};
use crate::config::Pacing;
use crate::metrics::StreamReport;

const FRAME: FrameDuration = FrameDuration::MS_20;
const COST: Duration = Duration::from_micros(150);

fn report(sim: &Sim, index: usize) -> StreamReport {
    sim.players[index].link.report()
}

#[test]
fn with_twice_too_much_to_do_and_no_ladder_the_rest_is_counted() {
    let mut sim = Sim::new(1, 1);
    for i in 0..40 {
        sim.open(0, Member::new(FRAME, MS), START + MS * i);
    }
    sim.run(START + 5_000 * MS);
    sim.drain();
    let (mut packets, mut lost) = (0, 0);
    for index in 0..40 {
        let report = report(&sim, index);
        assert_eq!(sim.players[index].pushed, report.packets + report.late + report.dropped);
        packets += report.packets;
        lost += report.late + report.dropped;
    }
    assert!(lost > 0 && packets > 4_000, "{packets} left, {lost} were lost");
    assert!(sim.sent.iter().all(|packet| packet.departed.since(packet.due) <= 50 * MS));
}

#[test]
fn what_waited_out_a_suspend_is_dropped_and_all_goes_on() {
    let mut sim = Sim::new(1, 2);
    // One of them has a packet that is ready, and a long time to its deadline.
    let early = Member { pacing: Pacing::Paced { lead: 15 * MS }, ..Member::new(FRAME, COST) };
    let ready = sim.open(0, early, START);
    let queued = sim.open(0, Member { adapt: true, ..Member::new(FRAME, COST) }, START + 5 * MS);
    sim.run(START + 1_001 * MS);
    assert_eq!(sim.ready(ready), 1);
    sim.at(START + 1_005 * MS, Event::Jump(3 * 3_600_000));
    sim.run(START + 1_100 * MS);
    let resumed = sim.now;
    sim.run(resumed + 20_000 * MS);
    assert_eq!(report(&sim, ready).late, 1);
    for index in [ready, queued] {
        let report = report(&sim, index);
        let waiting = report.queued as u64 + sim.ready(index);
        assert_eq!(sim.players[index].pushed, report.packets + report.late + waiting);
        assert_eq!(report.position, 0, "a suspend is no load");
    }
    assert!(sim.stations[0].lane.load() < 0.1);
}

#[test]
fn a_clock_that_goes_back_loses_nothing_uncounted_and_no_order() {
    for back in [1, 30, 900] {
        let mut sim = Sim::new(1, 10);
        let streams: Vec<_> = [Pacing::default(), Pacing::Paced { lead: 15 * MS }, Pacing::Immediate]
            .into_iter()
            .map(|pacing| sim.open(0, Member { pacing, adapt: true, ..Member::new(FRAME, COST) }, START))
            .collect();
        sim.at(START + 905 * MS, Event::Back(back));
        sim.run(START + 905 * MS);
        let turned = sim.now;
        sim.run(turned + 10_000 * MS);
        sim.drain();
        for index in streams {
            let report = report(&sim, index);
            let pushed = sim.players[index].pushed;
            assert_eq!(pushed, report.packets + report.late + report.dropped);
            assert!(report.dropped <= back / 20, "no more than it went back");
            let tickets: Vec<_> = sim.sent_by(index).map(|packet| packet.ticket).collect();
            assert!(tickets.is_sorted() && tickets.len() as u64 == report.packets);
        }
    }
}

#[test]
fn it_never_wakes_but_for_a_frame_or_a_packet() {
    let mut sim = Sim::new(1, 11);
    for i in 0..40 {
        let pacing = if i % 4 == 0 { Pacing::Immediate } else { Pacing::default() };
        let jitter = MS * (i % 3);
        sim.open(0, Member { pacing, jitter, ..Member::new(FRAME, COST) }, START + MS * i);
    }
    // One is gone while its packets wait, one gets more than it takes, and one stops.
    sim.at(START + 500 * MS, Event::Close(1));
    sim.players[2].member.period = 3 * MS;
    sim.at(START + 700 * MS, Event::Stop(3));
    sim.run(START + 5_000 * MS);
    sim.drain();
    let pushed: u64 = sim.players.iter().map(|player| player.pushed).sum();
    let (packets, opened) = (sim.sent.len() as u64, sim.players.len() as u64);
    let station = &sim.stations[0];
    assert!(station.wakes <= pushed + packets + opened + 1, "{} wakes", station.wakes);
    assert!(station.turns <= station.wakes + pushed + 1, "each turn but the last before sleep does a job");
}

#[test]
fn a_lane_that_is_flooded_leaves_its_core_more_than_the_kernel_asks_for() {
    let mut sim = Sim::new(1, 12);
    let flood = Member { period: COST / 4, pacing: Pacing::Immediate, ..Member::new(FRAME, COST) };
    sim.open(0, flood, START);
    sim.run(START + 2_000 * MS);
    for second in 2..6 {
        let before = sim.stations[0].rested;
        sim.run(START + 1_000 * MS * (second + 1));
        assert!(sim.stations[0].rested - before > 55 * MS);
        assert_eq!(sim.stations[0].wakes, 1, "it never slept of its own accord");
    }
    let jobs = sim.stations[0].lane.counters().jobs;
    assert!(jobs > 35_000, "{jobs} in 6 s: it rests no more than it must");
}

#[test]
fn a_lane_with_room_never_has_to_rest() {
    let mut sim = Sim::new(1, 13);
    for i in 0..100 {
        sim.open(0, Member::new(FRAME, COST), START + COST * i * 5 / 4);
    }
    sim.run(START + 5_000 * MS);
    assert!(sim.stations[0].lane.load() > 0.75);
    assert_eq!(sim.stations[0].rested, Duration::ZERO);
}

#[test]
fn closing_amid_queued_work_ends_it_and_spares_the_others() {
    let mut sim = Sim::new(1, 3);
    let streams: Vec<_> = (0..6).map(|_| sim.open(0, Member::new(FRAME, MS), START)).collect();
    sim.run(START + 102 * MS);
    for &index in &streams[..3] {
        sim.at(sim.now, Event::Close(index));
        sim.at(sim.now, Event::Close(index));
    }
    let closed = sim.now;
    sim.run(START + 1_000 * MS);
    sim.drain();
    for &index in &streams[..3] {
        assert!(sim.players[index].link.is_ended());
        assert!(sim.sent_by(index).all(|packet| packet.departed <= closed + 2 * MS));
    }
    for &index in &streams[3..] {
        assert_eq!(report(&sim, index).packets, sim.players[index].pushed);
    }
    assert_eq!(sim.stations[0].lane.streams(), 3);
}

#[test]
fn a_slot_is_used_again_and_old_notes_in_it_do_no_harm() {
    let mut sim = Sim::new(1, 4);
    for round in 0..50 {
        let index = sim.open(0, Member::new(FRAME, COST), sim.now);
        sim.run(START + MS * (100 * round + 50));
        sim.stations[0].lane.handle_note(0);
        sim.stations[0].lane.handle_note(1_000);
        sim.at(sim.now, Event::Close(index));
        sim.run(START + MS * (100 * round + 100));
        assert!(sim.players[index].link.is_ended());
    }
    assert_eq!(sim.stations[0].lane.seats.len(), 1);
}

#[test]
fn a_lane_that_has_no_slot_left_ends_what_comes() {
    let mut sim = Sim::new(1, 5);
    sim.stations[0].lane.limit = 2;
    let streams: Vec<_> = (0..3).map(|_| sim.open(0, Member::new(FRAME, COST), START)).collect();
    sim.run(START + 100 * MS);
    let ended: Vec<_> = streams.into_iter().map(|index| sim.players[index].link.is_ended()).collect();
    assert_eq!(ended, [false, false, true]);
}

#[test]
fn a_stream_that_moves_keeps_its_order_its_state_and_its_schedule() {
    let mut sim = Sim::new(3, 6);
    let index = sim.open(0, Member::new(FRAME, COST), START);
    for i in 1..400u32 {
        // At all moments of a frame: while it is queued, ready, or on its way.
        let at = START + Duration::from_micros(u64::from(i) * 5_130);
        sim.at(at, Event::Move(index, i as usize % 3));
    }
    sim.run(START + 2_200 * MS);
    sim.drain();
    let packets: Vec<_> = sim.sent_by(index).collect();
    assert_eq!(packets.len() as u64, sim.players[index].pushed);
    for (k, packet) in packets.iter().enumerate() {
        assert_eq!(packet.header.unwrap().sequence, k as u32 + 1);
        assert_eq!(packet.due, packets[0].due + 20 * MS * k as u32);
        assert!(packet.departed.since(packet.due) <= COST);
    }
    let moved: u64 = sim.stations.iter().map(|station| station.lane.counters().moved).sum();
    assert!(moved > 300, "{moved}");
    assert!(sim.stations.iter().all(|station| station.lane.departures.len() <= 1));
}

#[test]
fn a_lane_over_budget_gives_away_what_makes_the_worse_of_both_better() {
    let mut sim = Sim::new(2, 7);
    for i in 0..30 {
        sim.open(0, Member::new(FRAME, MS), START + MS * i);
    }
    sim.run(START + 100 * MS);
    let mut moves = 0;
    loop {
        let wanted: Vec<_> = sim.stations.iter().map(|station| station.lane.wanted_load()).collect();
        let Some((slot, target)) = sim.stations[0].lane.poll_move(&wanted, 0.9) else { break };
        assert_eq!(target, 1);
        let stream = sim.stations[0].lane.take(slot, target).unwrap();
        let now = sim.now;
        sim.stations[1].lane.open(stream, now);
        moves += 1;
        assert!(moves < 30);
    }
    let loads: Vec<_> = sim.stations.iter().map(|station| station.lane.wanted_load()).collect();
    assert!(loads[0] <= 0.9 && loads[1] <= loads[0], "{loads:?}");
    assert!(sim.stations[1].lane.poll_move(&loads, 0.9).is_none());
}

#[test]
fn an_encoder_that_fails_costs_quality_and_one_that_panics_its_stream() {
    let mut sim = Sim::new(1, 8);
    let failing = sim.open(0, Member { fails_until: 10, ..Member::new(FRAME, COST) }, START);
    let panicking = sim.open(0, Member { panics_at: 20, ..Member::new(FRAME, COST) }, START);
    let others: Vec<_> = (0..10).map(|i| sim.open(0, Member::new(FRAME, COST), START + MS * i)).collect();
    sim.run(START + 1_000 * MS);
    sim.drain();
    let report_of_failing = report(&sim, failing);
    assert!(report_of_failing.fallbacks >= 1 && report_of_failing.muted >= 1);
    assert_eq!(report_of_failing.packets + report_of_failing.muted, sim.players[failing].pushed);
    let report_of_panicking = report(&sim, panicking);
    assert!(sim.players[panicking].link.is_ended());
    assert_eq!((report_of_panicking.panics, report_of_panicking.packets), (1, 19));
    assert_eq!(sim.stations[0].lane.counters().panics, 1);
    for index in others {
        assert_eq!(report(&sim, index).packets, sim.players[index].pushed);
    }
}

#[test]
fn every_push_in_request_form_is_answered_once() {
    let mut sim = Sim::new(1, 9);
    let member = Member { answers: true, silence: 3, pacing: Pacing::Immediate, ..Member::new(FRAME, COST) };
    let index = sim.open(0, member, START);
    sim.run(START + 1_000 * MS);
    sim.drain();
    let tickets: Vec<_> = sim.sent_by(index).filter(|p| p.ends_push).map(|p| p.ticket).collect();
    assert_eq!(tickets, (1..=sim.players[index].pushed).collect::<Vec<_>>());
    sim.at(sim.now, Event::Close(index));
    sim.drain();
    assert!(sim.outlet.is_closed(), "whoever waits for an answer is told");
}
