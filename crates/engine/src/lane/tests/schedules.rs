//! Whatever happens: the order of a stream stays, nothing is lost uncounted, nothing leaves at the wrong time.

use std::time::Duration;

use evenkeel_core::ladder::SinkCapability;
use evenkeel_core::units::{FrameDuration, Time};
use proptest::prelude::*;

use super::sim::{Event, MS, Member, START, Sim};
use super::toy::Dice;
use crate::config::Pacing;
use crate::lane::EARLY;

const FRAMES: [FrameDuration; 5] = [
    FrameDuration::MS_5,
    FrameDuration::MS_10,
    FrameDuration::MS_20,
    FrameDuration::MS_40,
    FrameDuration::MS_60,
];

fn member(dice: &mut Dice) -> Member {
    let relay = dice.one_in(4);
    let frame =
        if relay { dice.pick(&[FrameDuration::MS_20, FrameDuration::MS_60]) } else { dice.pick(&FRAMES) };
    let cost = Duration::from_micros(dice.pick(&[5, 50, 300, 3_000]));
    let mut member = Member::new(frame, cost);
    member.relay = relay;
    if dice.one_in(3) {
        member.pacing = Pacing::Immediate;
    } else {
        member.pacing = Pacing::Paced { lead: Duration::from_micros(dice.pick(&[0, 500, 1_725, 20_000])) };
    }
    member.queue_frames = dice.within(1..7) as usize;
    member.adapt = dice.one_in(2);
    member.sink = SinkCapability { pcm: dice.one_in(4), clear: dice.one_in(2) };
    member.answers = dice.one_in(6);
    member.estimate = cost * dice.pick(&[1, 1, 4]) / dice.pick(&[1, 1, 8]);
    // From a third to three times real time.
    let push = if relay { 20 * MS } else { frame.as_duration() };
    member.period = push * dice.pick(&[6, 6, 6, 6, 2, 5, 7, 18]) / 6;
    member.jitter = Duration::from_micros(dice.pick(&[0, 0, 200, 5_000, 100_000]));
    member.burst = dice.pick(&[1, 1, 1, 1, 9]);
    member.silence = dice.pick(&[0, 0, 3]);
    member.fails_until = dice.pick(&[0, 0, 0, 7]);
    member.panics_at = dice.pick(&[0, 0, 0, 0, 0, 0, 11]);
    member
}

/// Runs the schedule that `seed` says.
fn play(seed: u64) -> Sim {
    let mut dice = Dice(seed);
    let lanes = dice.within(1..4) as usize;
    let mut sim = Sim::new(lanes, dice.roll());
    let span = dice.within(200..2_000);
    let moment = |dice: &mut Dice| START + MS * dice.below(span) as u32;
    for _ in 0..dice.within(1..9) {
        let member = member(&mut dice);
        let first = moment(&mut dice);
        let index = sim.open(dice.below(lanes as u64) as usize, member, first);
        for _ in 0..dice.below(4) {
            let at = moment(&mut dice);
            sim.at(at, Event::Move(index, dice.below(lanes as u64) as usize));
        }
        if dice.one_in(4) {
            let at = moment(&mut dice);
            sim.at(at, Event::Close(index));
        }
    }
    if dice.one_in(4) {
        let at = moment(&mut dice);
        sim.at(at, Event::Jump(dice.pick(&[1, 49, 51, 3_600_000])));
    }
    sim.run(START + MS * span as u32);
    sim.drain();
    sim
}

fn check_counts(sim: &Sim, index: usize) -> Result<(), TestCaseError> {
    let (player, report) = (&sim.players[index], sim.players[index].link.report());
    let sent = sim.sent_by(index).filter(|packet| packet.header.is_some()).count() as u64;
    prop_assert_eq!(sent, report.packets, "every packet that was counted left");
    if player.link.is_ended() {
        prop_assert!(player.link.is_closed());
        return Ok(());
    }
    prop_assert_eq!(report.panics, 0);
    prop_assert_eq!((report.queued, sim.ready(index)), (0, 0), "nothing is forgotten");
    prop_assert_eq!(player.pushed, report.frames + report.dropped);
    prop_assert!(report.dropped == 0 || player.pushed > player.member.queue_frames as u64);
    let one_packet_a_frame =
        !player.member.sink.pcm && (!player.member.relay || player.member.frame == FrameDuration::MS_20);
    if one_packet_a_frame {
        let accounted = report.packets + report.late + report.silent + report.muted + report.refused;
        // An answer without a packet may be late as well.
        let answers = if player.member.answers { report.silent + report.muted } else { 0 };
        prop_assert!((accounted - answers..=accounted).contains(&report.frames), "{:?}", report);
    }
    Ok(())
}

fn check_packets(sim: &Sim, index: usize) -> Result<(), TestCaseError> {
    let mut last: Option<(u32, u64, Duration, Time, Time)> = None;
    for packet in sim.sent_by(index) {
        let Some(header) = packet.header else { continue };
        prop_assert!(packet.departed + EARLY >= packet.due, "too early");
        prop_assert!(packet.departed.since(packet.due) <= 50 * MS, "too late");
        let now = (header.sequence, packet.ticket, packet.media_time, packet.due, packet.departed);
        if let Some(before) = last {
            prop_assert_eq!(now.0, before.0 + 1 + lost_between(sim, index, before.0, now.0));
            prop_assert!(now.1 >= before.1, "tickets in order");
            prop_assert!(now.2 > before.2, "media time goes on");
            prop_assert!(now.3 >= before.3 && now.4 >= before.4, "times in order: {:?}, {:?}", before, now);
            if let Pacing::Paced { .. } = sim.players[index].member.pacing {
                let (gap, media) = (now.3.since(before.3), now.2 - before.2);
                prop_assert!(gap >= media * 4 / 5, "{:?} apart instead of {:?}", gap, media);
            }
        }
        last = Some(now);
    }
    Ok(())
}

/// Packets that were sealed but dropped for being late leave a hole in the sequence, no more than were counted.
fn lost_between(sim: &Sim, index: usize, before: u32, now: u32) -> u32 {
    let late = sim.players[index].link.figures.late.get();
    let hole = now.wrapping_sub(before).saturating_sub(1);
    if u64::from(hole) <= late { hole } else { 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn order_and_counts_and_times_hold(seed: u64) {
        let sim = play(seed);
        for index in 0..sim.players.len() {
            check_counts(&sim, index)?;
            check_packets(&sim, index)?;
        }
        for station in &sim.stations {
            let lane = &station.lane;
            prop_assert!(lane.sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0));
            prop_assert_eq!(lane.streams(), lane.seats.iter().flatten().count());
            prop_assert!(lane.jobs.is_empty() && lane.departures.is_empty());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run(seed: u64) {
        let departures = |sim: Sim| sim.sent.iter().map(|p| (p.stream, p.ticket, p.departed)).collect::<Vec<_>>();
        prop_assert_eq!(departures(play(seed)), departures(play(seed)));
    }
}
