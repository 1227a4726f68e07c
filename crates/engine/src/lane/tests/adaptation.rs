//! Quality goes down before punctuality does, and comes back.

use std::time::Duration;

use evenkeel_core::ladder::SinkCapability;
use evenkeel_core::stats::Histogram;
use evenkeel_core::units::{FrameDuration, Time};
use proptest::prelude::*;

use super::sim::{Event, MS, Member, START, Sim};
use crate::plan::relative_cost;

const FRAME: FrameDuration = FrameDuration::MS_20;

/// What a stream costs on its best rung, so that fifty fill three quarters of a lane.
const COST: Duration = Duration::from_micros(300);

fn member(dice: &mut super::toy::Dice) -> Member {
    let estimate = COST * dice.within(70..140) as u32 / 100;
    let jitter = Duration::from_micros(dice.below(300));
    Member { adapt: true, estimate, jitter, noise: dice.below(40), ..Member::new(FRAME, COST) }
}

/// The most changes of one stream within ten seconds.
fn most_changes(sim: &Sim, index: usize) -> usize {
    let id = sim.players[index].link.id();
    let times: Vec<Time> = sim.changes.iter().filter(|(_, c)| c.stream == id).map(|&(at, _)| at).collect();
    let within = |&at: &Time| times.iter().filter(|&&t| t <= at && at.since(t) < 10_000 * MS).count();
    times.iter().map(within).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn twice_too_much_then_as_much_as_fits(seed: u64) {
        let mut dice = super::toy::Dice(seed);
        let mut sim = Sim::new(1, dice.roll());
        let base = 50;
        for i in 0..base {
            let member = member(&mut dice);
            sim.open(0, member, START + Duration::from_micros(400 * i));
        }
        sim.run(START + 5_000 * MS);
        prop_assert!(sim.changes.is_empty(), "three quarters fit");
        sim.sent.clear();
        let over = sim.now;
        for i in 0..base {
            let member = member(&mut dice);
            sim.open(0, member, over + Duration::from_micros(400 * i));
        }
        sim.run(over + 20_000 * MS);
        let mut latency = Histogram::new();
        sim.sent.iter().for_each(|p| latency.record(p.departed.since(p.pushed_at).as_micros() as u64));
        prop_assert!(latency.quantile(0.99) < 5_000, "{:?}", latency);
        prop_assert!(sim.stations[0].lane.position() > 0);
        let after = sim.now;
        for index in base as usize..2 * base as usize {
            sim.at(after, Event::Close(index));
        }
        sim.run(after + 15_000 * MS);
        for index in 0..2 * base as usize {
            let report = sim.players[index].link.report();
            prop_assert_eq!((report.dropped, report.late), (0, 0), "stream {}", index);
            prop_assert!(most_changes(&sim, index) <= 2, "stream {}", index);
            prop_assert!(index >= base as usize || report.position == 0, "back at full");
        }
    }

    #[test]
    fn a_lane_that_is_just_full_does_not_oscillate(seed: u64, streams in 40u64..110) {
        let mut dice = super::toy::Dice(seed);
        let mut sim = Sim::new(1, dice.roll());
        for i in 0..streams {
            let member = member(&mut dice);
            sim.open(0, member, START + Duration::from_micros(20_000 * i / streams));
        }
        sim.run(START + 40_000 * MS);
        for index in 0..streams as usize {
            prop_assert!(most_changes(&sim, index) <= 2);
            let report = sim.players[index].link.report();
            prop_assert_eq!((report.dropped, report.late), (0, 0));
        }
    }
}

#[test]
fn a_hiccup_of_the_machine_costs_one_rung_at_most() {
    let mut sim = Sim::new(1, 1);
    let indices: Vec<_> = (0..20)
        .map(|i| sim.open(0, Member { adapt: true, ..Member::new(FRAME, COST) }, START + MS * i))
        .collect();
    sim.run(START + 2_000 * MS);
    sim.at(sim.now, Event::Jump(45));
    sim.run(START + 15_000 * MS);
    for index in indices {
        let report = sim.players[index].link.report();
        assert!(report.rung_changes <= 2, "down and up again");
        assert_eq!(report.position, 0);
    }
}

#[test]
fn one_slow_encoder_goes_down_alone() {
    let mut sim = Sim::new(1, 2);
    let slow = sim.open(0, Member { adapt: true, ..Member::new(FrameDuration::MS_60, 16 * MS) }, START);
    let others: Vec<_> = (0..5)
        .map(|i| sim.open(0, Member { adapt: true, ..Member::new(FRAME, COST) }, START + MS * i))
        .collect();
    sim.run(START + 5_000 * MS);
    assert!(sim.players[slow].link.report().position > 0);
    assert!(sim.stations[0].lane.position() == 0);
    for index in others {
        let report = sim.players[index].link.report();
        assert_eq!((report.late, report.dropped), (0, 0));
    }
}

#[test]
fn an_encoder_whose_cost_does_not_follow_the_ladder_comes_back() {
    let mut sim = Sim::new(1, 3);
    let member = Member { adapt: true, flat: true, ..Member::new(FRAME, COST) };
    for i in 0..30 {
        sim.open(0, member.clone(), START + Duration::from_micros(600 * i));
    }
    sim.run(START + 2_000 * MS);
    // More than fit whatever the rung, for a while.
    let more: Vec<_> =
        (0..40).map(|i| sim.open(0, member.clone(), sim.now + Duration::from_micros(500 * i))).collect();
    sim.run(START + 7_000 * MS);
    assert!(sim.stations[0].lane.position() > 0);
    more.into_iter().for_each(|index| sim.at(START + 7_000 * MS, Event::Close(index)));
    sim.run(START + 120_000 * MS);
    assert!((0..30).all(|index| sim.players[index].link.report().position == 0));
}

#[test]
fn only_a_sink_that_declared_it_ever_gets_pcm() {
    for (pcm, clear) in [(false, false), (true, false), (true, true)] {
        let mut sim = Sim::new(1, 4);
        let member =
            Member { adapt: true, sink: SinkCapability { pcm, clear }, ..Member::new(FRAME, 15 * MS) };
        for i in 0..20 {
            sim.open(0, member.clone(), START + MS * i);
        }
        sim.run(START + 3_000 * MS);
        let headers: Vec<_> = sim.sent.iter().filter_map(|packet| packet.header).collect();
        assert_eq!(headers.iter().any(|header| header.is_pcm()), pcm);
        assert!(clear || !headers.iter().any(|header| header.is_clear()));
    }
}

#[test]
fn no_rung_costs_more_than_the_one_above() {
    use evenkeel_core::ladder::Ladder;
    let sink = SinkCapability { pcm: true, clear: true };
    for complexity in 0..=10 {
        let ladder = Ladder::new(complexity, sink, true);
        let costs: Vec<_> = ladder.rungs().iter().map(|&rung| relative_cost(rung)).collect();
        assert!(costs.is_sorted_by(|better, worse| better >= worse), "{costs:?}");
    }
}
