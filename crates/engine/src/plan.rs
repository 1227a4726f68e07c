//! What a lane's streams cost, and the best position of the ladder at which all of them fit.

use std::time::Duration;

use evenkeel_core::ladder::Rung;

/// What a rung costs relative to `full/10`, in thousandths, before anything was measured: the encode of 20 ms of
/// speech at 48 kHz with libopus 1.6.1, as `evenkeel bench` prints it.
pub(crate) const fn relative_cost(rung: Rung) -> u32 {
    match rung {
        Rung::Full { complexity: 0 } => 340,
        Rung::Full { complexity: 1 } => 390,
        Rung::Full { complexity: 2 } => 490,
        Rung::Full { complexity: 3 } => 590,
        Rung::Full { complexity: 4 } => 660,
        Rung::Full { complexity: 5 } => 740,
        Rung::Full { complexity: 6 } => 800,
        Rung::Full { complexity: 7 } => 870,
        Rung::Full { complexity: 8 | 9 } => 930,
        Rung::Full { .. } => 1_000,
        Rung::Medium => 130,
        Rung::Minimal | Rung::Emergency => 25,
        Rung::Muted => 5,
    }
}

/// The cost of one stream's frames: a moving mean, carried over when the rung changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    nanos: f64,
    measured: u32,
}

impl Cost {
    /// An estimate that the first frames correct.
    pub(crate) const fn estimate(per_frame: Duration) -> Self {
        Self { nanos: per_frame.as_nanos() as f64, measured: 0 }
    }

    /// Takes what one frame cost.
    pub(crate) fn record(&mut self, cost: Duration) {
        self.measured = self.measured.saturating_add(1);
        // The plain mean at first, then one that forgets over about a second of frames.
        let weight = 1.0 / f64::from(self.measured.min(50));
        // One frame that was interrupted by the machine must not look like a codec that became slow.
        let nanos = (cost.as_nanos() as f64).min(self.ceiling());
        self.nanos += (nanos - self.nanos) * weight;
    }

    fn ceiling(&self) -> f64 {
        if self.measured > 10 { self.nanos * 4.0 } else { f64::MAX }
    }

    /// The rung changed: expect what the other costs relative to this one.
    pub(crate) fn rescale(&mut self, from: Rung, to: Rung) {
        self.nanos = self.at(from, to);
        self.measured = self.measured.min(5);
    }

    /// What a frame would cost on rung `to`, measured on rung `from`, in nanoseconds.
    pub(crate) fn at(&self, from: Rung, to: Rung) -> f64 {
        self.nanos * f64::from(relative_cost(to)) / f64::from(relative_cost(from))
    }

    /// The mean, in nanoseconds.
    pub(crate) const fn nanos(&self) -> f64 {
        self.nanos
    }
}

/// How many positions a plan may have: those of the longest ladder.
pub(crate) const POSITIONS: usize = evenkeel_core::ladder::Ladder::MAX;

/// The load a lane would have at each position, as shares of the lane.
pub(crate) type Loads = [f64; POSITIONS];

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

    #[test]
    fn a_cost_follows_what_is_measured_but_not_a_single_spike() {
        let mut cost = Cost::estimate(Duration::from_micros(500));
        (0..100).for_each(|_| cost.record(Duration::from_micros(100)));
        assert!((cost.nanos() - 100_000.0).abs() < 5_000.0);
        cost.record(Duration::from_millis(50));
        assert!(cost.nanos() < 120_000.0);
        let (from, to) = (Rung::Full { complexity: 10 }, Rung::Medium);
        cost.rescale(from, to);
        assert!(cost.nanos() < 20_000.0);
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
