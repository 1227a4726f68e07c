//! When within a frame period the streams of a lane come: not all at once, and not each for itself.

use std::time::Duration;

use evenkeel_core::units::FrameDuration;

/// A twelfth of 20 ms. All lanes have the same slots, so that one wake-up of a source serves them all; and a packet is
/// due just when the frames of the next slot come ([`crate::Pacing::DEFAULT_LEAD`]), so that one wake-up of a lane
/// serves both. Where a machine is slow to wake, wake-ups are what an engine costs beside the codec.
const SLOT: Duration = Duration::from_nanos(SLOT_NANOS);
const SLOT_NANOS: u64 = 20_000_000 / 12;

/// Slots in 1.2 s, which every frame duration from 20 ms on divides.
const SLOTS: usize = 720;

/// How much work of one lane is put into a slot, in µs, while other slots have less: 70 % of it.
const ROOM: u32 = (SLOT_NANOS * 70 / 100 / 1_000) as u32;

/// How many streams are put into a slot of a lane, however cheap they are, while others have fewer: their packets
/// leave one after the other.
const STREAMS_PER_SLOT: u32 = 12;

/// How much comes in each slot of a lane.
#[derive(Clone, Debug)]
pub(crate) struct Phases {
    weights: Vec<u32>,
}

/// A phase that was taken; to be given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    slot: usize,
    period: usize,
    weight: u32,
}

impl Phase {
    pub(crate) const fn offset(self) -> Duration {
        // Not a multiple of `SLOT`, which is rounded.
        Duration::from_nanos(self.slot as u64 * 20_000_000 / 12)
    }
}

impl Phases {
    pub(crate) fn new() -> Self {
        Self { weights: vec![0; SLOTS] }
    }

    /// Takes a phase for a stream of `frame` whose jobs cost `cost`: the first slot that still has room, so that the
    /// lane works in one go and then sleeps; the emptiest where none has.
    pub(crate) fn take(&mut self, frame: FrameDuration, cost: Duration) -> Phase {
        let period = ((frame.as_duration().as_nanos() / SLOT.as_nanos()) as usize).max(1);
        let weight = (cost.as_micros() as u32).max(ROOM / STREAMS_PER_SLOT);
        let met = |slot: usize| (slot..SLOTS).step_by(period).map(|at| self.weights[at]).max().unwrap_or(0);
        let slots = 0..period.min(SLOTS);
        let slot = slots
            .clone()
            .find(|&slot| met(slot) + weight <= ROOM)
            .or_else(|| slots.min_by_key(|&slot| met(slot)))
            .unwrap_or(0);
        let phase = Phase { slot, period, weight };
        self.each(phase, |at| *at += weight);
        phase
    }

    /// Takes a phase as it is, for a stream that came from another lane.
    pub(crate) fn retake(&mut self, phase: Phase) -> Phase {
        self.each(phase, |at| *at += phase.weight);
        phase
    }

    pub(crate) fn release(&mut self, phase: Phase) {
        self.each(phase, |at| *at = at.saturating_sub(phase.weight));
    }

    fn each(&mut self, phase: Phase, change: impl FnMut(&mut u32)) {
        self.weights[phase.slot..].iter_mut().step_by(phase.period).for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_micros(100);

    #[test]
    fn slots_fill_one_after_the_other_then_evenly_and_leave_no_trace() {
        let mut phases = Phases::new();
        let per_slot = (ROOM / STREAMS_PER_SLOT.max(1)).max(100);
        let fits = (ROOM / per_slot) as usize;
        let mut taken: Vec<_> = (0..fits * 12).map(|_| phases.take(FrameDuration::MS_20, COST)).collect();
        let slots: Vec<_> = taken.iter().map(|phase| phase.slot).collect();
        let expected: Vec<_> = (0..12).flat_map(|slot| std::iter::repeat_n(slot, fits)).collect();
        assert_eq!(slots, expected);
        let beyond: Vec<_> = (0..12).map(|_| phases.take(FrameDuration::MS_20, COST)).collect();
        assert_eq!(beyond.iter().map(|phase| phase.slot).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
        taken.extend(beyond);
        taken.into_iter().for_each(|phase| phases.release(phase));
        assert!(phases.weights.iter().all(|&weight| weight == 0));
    }

    #[test]
    fn long_frames_go_where_short_ones_are_not() {
        let mut phases = Phases::new();
        let per_slot = ROOM / (ROOM / STREAMS_PER_SLOT).max(100);
        (0..per_slot * 11).for_each(|_| {
            phases.take(FrameDuration::MS_20, COST);
        });
        assert_eq!(phases.take(FrameDuration::MS_60, COST).slot % 12, 11);
        assert_eq!(phases.take(FrameDuration::MS_2_5, COST).period, 1);
    }
}
