//! A lane allocates nothing once its streams run.

use std::time::Duration;

use evenkeel_core::ladder::SinkCapability;
use evenkeel_core::units::FrameDuration;
use evenkeel_testkit::alloc::count_allocations;

use super::sim::{Event, MS, Member, START, Sim};
use crate::config::Pacing;

const FRAME: FrameDuration = FrameDuration::MS_20;
const COST: Duration = Duration::from_micros(100);

fn runs_without_allocating(name: &str, member: &Member) {
    let mut sim = Sim::new(2, 1);
    for i in 0..20 {
        sim.open(i % 2, member.clone(), START + MS * i as u32);
    }
    sim.run(START + 2_000 * MS);
    assert!(sim.sent.len() > 20, "{name}");
    sim.forget_packets();
    for i in 0..100 {
        // Streams that move do not allocate either.
        sim.at(START + MS * (13_000 + 7 * i), Event::Move(i as usize % 20, i as usize % 2));
    }
    sim.run(START + 14_000 * MS);
    let until = START + 24_000 * MS;
    assert_eq!(count_allocations(|| sim.run(until)), 0, "{name}");
}

#[test]
fn nothing_is_allocated_per_frame_after_warm_up() {
    let plain = Member { adapt: true, ..Member::new(FRAME, COST) };
    runs_without_allocating("paced", &plain);
    let jitter = 10 * MS;
    runs_without_allocating("late and early", &Member { jitter, burst: 3, silence: 5, ..plain.clone() });
    runs_without_allocating("immediate", &Member { pacing: Pacing::Immediate, ..plain.clone() });
    runs_without_allocating("answered", &Member { answers: true, silence: 2, ..plain.clone() });
    let relay = Member { relay: true, period: 20 * MS, ..Member::new(FrameDuration::MS_60, COST) };
    runs_without_allocating("relay", &relay);
    let sink = SinkCapability { pcm: true, clear: false };
    let pcm = Member { fails_until: u64::MAX, sink, ..Member::new(FrameDuration::MS_120, COST) };
    runs_without_allocating("PCM in parts", &pcm);
    runs_without_allocating("more than there is room for", &Member { period: 5 * MS, ..plain });
}
