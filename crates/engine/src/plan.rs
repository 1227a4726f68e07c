//! What a lane's streams cost, and the best position of the ladder at which all of them fit.

use std::time::Duration;

use evenkeel_core::ladder::{Ladder, Rung};

/// What a rung costs relative to `full/10`, in thousandths, before anything was measured: the encode of 20 ms of
/// speech at 48 kHz with libopus 1.6.1, as `evenkeel bench` prints it.
pub(crate) const fn relative_cost(rung: Rung) -> u32 {
    match rung {
        Rung::Full { complexity: 0 } => 325,
        Rung::Full { complexity: 1 } => 370,
        Rung::Full { complexity: 2 } => 585,
        Rung::Full { complexity: 3 } => 610,
        Rung::Full { complexity: 4 } => 685,
        Rung::Full { complexity: 5 | 6 } => 735,
        Rung::Full { complexity: 7 } => 850,
        Rung::Full { complexity: 8 } => 920,
        Rung::Full { complexity: 9 } => 945,
        Rung::Full { .. } => 1_000,
        Rung::Medium => 145,
        Rung::Minimal | Rung::Emergency => 25,
        Rung::Muted => 5,
    }
}

/// How many positions a plan may have: those of the longest ladder.
pub(crate) const POSITIONS: usize = Ladder::MAX;

/// The load a lane or a stream would have at each position, as shares of the lane.
pub(crate) type Loads = [f64; POSITIONS];

/// What one stream's frames cost on each rung of its ladder: a moving mean of what was measured on one, from which
/// the others follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// What each position costs relative to the first.
    ratios: [f64; POSITIONS],
    /// What the first position would cost, in nanoseconds, if the ratios were right.
    nanos: f64,
    /// What it did cost when the stream was last there: nothing costs more, whatever the ratios say.
    top: f64,
    measured: u32,
}

impl Cost {
    /// An estimate of what a frame costs at the first position, which the first frames correct. A stream without a
    /// ladder costs the same at all positions.
    pub(crate) fn estimate(per_frame: Duration, ladder: Option<&Ladder>) -> Self {
        let ratio = |ladder: &Ladder, position: usize| {
            let relative = |position: usize| f64::from(relative_cost(ladder.get(position)));
            relative(position.min(ladder.last())) / relative(0)
        };
        let ratios = core::array::from_fn(|position| ladder.map_or(1.0, |ladder| ratio(ladder, position)));
        let nanos = (per_frame.as_nanos() as f64).max(1.0);
        Self { ratios, nanos, top: nanos, measured: 0 }
    }

    /// Takes what one frame cost at a position.
    pub(crate) fn record(&mut self, position: usize, nanos: f64) {
        self.measured = self.measured.saturating_add(1);
        if position == 0 {
            // What was extrapolated from a rung below must not outweigh what was measured here.
            self.nanos = self.nanos.min(self.top);
        }
        // The plain mean at first, then one that forgets over about a second of frames.
        let weight = 1.0 / f64::from(self.measured.min(50));
        // One frame that was interrupted by the machine must not look like a codec that became slow.
        let nanos = (nanos / self.ratios[position.min(POSITIONS - 1)]).clamp(1.0, self.nanos * 4.0);
        self.nanos += (nanos - self.nanos) * weight;
        if position == 0 {
            self.top = self.nanos;
        }
    }

    /// The rung changed: what is measured from here on says more than what was.
    pub(crate) fn rung_changed(&mut self) {
        self.measured = self.measured.min(5);
    }

    /// What a frame costs at a position, in nanoseconds.
    pub(crate) fn at(&self, position: usize) -> f64 {
        (self.nanos * self.ratios[position.min(POSITIONS - 1)]).min(self.top)
    }

    /// The load at each position of one such frame each `frame`.
    pub(crate) fn loads(&self, frame: Duration) -> Loads {
        let per_nano = 1.0 / frame.as_nanos().max(1) as f64;
        core::array::from_fn(|position| self.at(position) * per_nano)
    }
}

/// Chooses the position of all streams of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    step_down: f64,
    step_up: f64,
    position: usize,
}

impl Plan {
    pub(crate) const fn new(step_down: f64, step_up: f64) -> Self {
        Self { step_down, step_up, position: 0 }
    }

    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    /// Takes the loads expected now. Over `step_down` it goes to the first position that fits into `step_up`; it
    /// returns to a better one only if that fits into `step_up` as well.
    pub(crate) fn update(&mut self, loads: &Loads) -> usize {
        let fits = loads.iter().position(|&load| load <= self.step_up).unwrap_or(POSITIONS - 1);
        if loads[self.position] > self.step_down || fits < self.position {
            self.position = fits;
        }
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::ladder::SinkCapability;
    use proptest::prelude::*;

    /// The loads of a lane that would be `full` busy at the best position.
    fn loads(full: f64) -> Loads {
        core::array::from_fn(|i| full * 0.8f64.powi(i as i32))
    }

    #[test]
    fn it_steps_down_over_the_one_limit_and_up_under_the_other() {
        let mut plan = Plan::new(0.95, 0.80);
        assert_eq!(plan.update(&loads(0.94)), 0);
        assert_eq!(plan.update(&loads(1.20)), 2);
        assert_eq!(plan.update(&loads(1.01)), 2, "position 1 would be full again");
        assert_eq!(plan.update(&loads(0.99)), 1);
        assert_eq!(plan.update(&loads(0.79)), 0);
    }

    const LADDER: fn() -> Ladder = || Ladder::new(10, SinkCapability::default(), false);

    #[test]
    fn a_cost_follows_what_is_measured_but_not_a_single_spike() {
        let mut cost = Cost::estimate(Duration::from_micros(500), Some(&LADDER()));
        (0..100).for_each(|_| cost.record(0, 100_000.0));
        assert!((cost.at(0) - 100_000.0).abs() < 5_000.0);
        cost.record(0, 50_000_000.0);
        assert!(cost.at(0) < 120_000.0);
        let medium = LADDER().last();
        assert!(cost.at(medium) < 20_000.0);
        assert_eq!(cost.at(POSITIONS), cost.at(medium), "nothing is below the last");
    }

    #[test]
    fn what_is_measured_on_one_rung_tells_of_the_others() {
        let mut cost = Cost::estimate(Duration::from_micros(100), Some(&LADDER()));
        cost.rung_changed();
        let measured = 50.0 * f64::from(relative_cost(LADDER().get(2)));
        (0..200).for_each(|_| cost.record(2, measured));
        assert!((cost.at(0) - 50_000.0).abs() < 100.0);
    }

    #[test]
    fn an_encoder_whose_cost_does_not_follow_the_ladder_is_not_thought_dear_on_the_best_rung() {
        let mut cost = Cost::estimate(Duration::from_micros(100), Some(&LADDER()));
        (0..100).for_each(|_| cost.record(0, 100_000.0));
        cost.rung_changed();
        (0..100).for_each(|_| cost.record(LADDER().last(), 100_000.0));
        assert!((cost.at(0) - 100_000.0).abs() < 1.0);
        cost.rung_changed();
        cost.record(0, 100_000.0);
        assert!((cost.at(0) - 100_000.0).abs() < 1.0, "nor when it is back there");
    }

    #[test]
    fn without_a_ladder_all_positions_cost_the_same() {
        let loads = Cost::estimate(Duration::from_micros(2), None).loads(Duration::from_millis(20));
        assert!(loads.iter().all(|load| (load - 1e-4).abs() < 1e-12), "{loads:?}");
    }

    proptest! {
        #[test]
        fn a_steady_load_never_makes_it_oscillate(full in 0.0f64..20.0, start in 0.0f64..20.0) {
            let mut plan = Plan::new(0.95, 0.80);
            plan.update(&loads(start));
            let settled = plan.update(&loads(full));
            for _ in 0..10 {
                prop_assert_eq!(plan.update(&loads(full)), settled);
            }
        }
    }
}
