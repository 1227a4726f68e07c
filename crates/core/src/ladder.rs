//! Quality steps down a ladder before punctuality suffers, and up again when there is room.
//!
//! [`Ladder`] is the order of the rungs that one stream may use; [`Controller`] decides when to change, from the time
//! its frames take and from what its lane can carry. Both know no clock: time comes in.

use core::fmt;
use core::time::Duration;

use crate::stats::Window;
use crate::units::Time;

/// One quality setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rung {
    /// Opus as asked, at this complexity: the asked one, then lower.
    Full {
        /// 0 to 10.
        complexity: u8,
    },
    /// Opus without a separate resampler, MDCT only, complexity 0.
    Medium,
    /// PCM, sealed, for a sink that declared PCM.
    Minimal,
    /// PCM in clear, for a sink that declared it, only where the operator switched it on.
    Emergency,
    /// Nothing is sent; frames are counted.
    Muted,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { complexity } => write!(f, "full/{complexity}"),
            Self::Medium => f.write_str("medium"),
            Self::Minimal => f.write_str("minimal"),
            Self::Emergency => f.write_str("emergency"),
            Self::Muted => f.write_str("muted"),
        }
    }
}

/// What the far end of a stream can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCapability {
    /// It declared that it plays PCM (rung `minimal`).
    pub pcm: bool,
    /// It declared that it takes PCM in clear (rung `emergency`).
    pub clear: bool,
}

/// The rungs that one stream may use, best first. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    rungs: [Rung; Self::MAX],
    len: u8,
}

impl Ladder {
    /// The most rungs a ladder has.
    pub const MAX: usize = 9;

    /// The complexities below the asked one that are rungs of their own. Neighbours differ by an eighth of the cost or
    /// more; `bench` prints what each costs and `make quality` what each is worth.
    pub const STEPS: [u8; 4] = [7, 5, 3, 0];

    /// The ladder of a stream that asked for `complexity`.
    ///
    /// `emergency_allowed` is the operator's switch; without it, or without the sink's consent, a stream that would
    /// have to go in clear is muted.
    #[must_use]
    pub fn new(complexity: u8, sink: SinkCapability, emergency_allowed: bool) -> Self {
        let mut ladder = Self { rungs: [Rung::Muted; Self::MAX], len: 0 };
        ladder.push(Rung::Full { complexity });
        for complexity in Self::STEPS.into_iter().filter(|&step| step < complexity) {
            ladder.push(Rung::Full { complexity });
        }
        ladder.push(Rung::Medium);
        if sink.pcm {
            ladder.push(Rung::Minimal);
        }
        if sink.pcm && sink.clear && emergency_allowed {
            ladder.push(Rung::Emergency);
        }
        ladder
    }

    fn push(&mut self, rung: Rung) {
        self.rungs[usize::from(self.len)] = rung;
        self.len += 1;
    }

    /// The rungs, best first.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs[..usize::from(self.len)]
    }

    /// The rung at `position`; below the last there is only silence.
    #[must_use]
    pub fn get(&self, position: usize) -> Rung {
        self.rungs().get(position).copied().unwrap_or(Rung::Muted)
    }

    /// The position of the last rung.
    #[must_use]
    pub const fn last(&self) -> usize {
        self.len as usize - 1
    }
}

/// When to change rungs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Down when the mean of the window passes this. Default 10 ms.
    pub down_mean: Duration,
    /// Down when a single frame takes longer than this. Default 15 ms.
    pub down_frame: Duration,
    /// The same, where the next rung is `minimal` or below. Default 25 ms.
    pub down_frame_to_minimal: Duration,
    /// Up when the mean of the window is below this. Default 5 ms.
    pub up_mean: Duration,
    /// The same, from `minimal` or below. Default 10 ms.
    pub up_mean_from_minimal: Duration,
    /// How long to stay on a rung before trying a better one. Default 5 s. Doubled each time a try fails, up to
    /// sixteen-fold, so that a stream between two rungs does not oscillate.
    pub up_interval: Duration,
    /// A try failed if the stream had to go down again within this time. Default 10 s. Having gone down, a stream waits
    /// as long before it tries to go up, and two changes within it allow no third but for a lane that is full.
    pub trial: Duration,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            down_mean: Duration::from_millis(10),
            down_frame: Duration::from_millis(15),
            down_frame_to_minimal: Duration::from_millis(25),
            up_mean: Duration::from_millis(5),
            up_mean_from_minimal: Duration::from_millis(10),
            up_interval: Duration::from_secs(5),
            trial: Duration::from_secs(10),
        }
    }
}

/// Why a controller changed the rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Frames took too long.
    Slow,
    /// The lane as a whole has too much to do.
    LaneFull,
    /// There is room for better.
    Room,
}

/// A change of rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position in the ladder before.
    pub from: usize,
    /// Position in the ladder now.
    pub to: usize,
    /// Why.
    pub reason: Reason,
}

/// The controller of one stream. Feed it every frame with [`Controller::handle_frame`].
#[derive(Clone, Debug)]
pub struct Controller {
    config: ControllerConfig,
    ladder: Ladder,
    position: usize,
    window: Window,
    changed_at: Option<Time>,
    changed_before_at: Option<Time>,
    went_up_at: Option<Time>,
    /// The waiting time before the next try, in units of `up_interval`.
    patience: u32,
}

/// How many frames must be seen on a rung before their mean says anything.
const SETTLED: usize = 10;

impl Controller {
    /// A controller on the best rung.
    #[must_use]
    pub fn new(config: ControllerConfig, ladder: Ladder) -> Self {
        Self {
            config,
            ladder,
            position: 0,
            window: Window::default(),
            changed_at: None,
            changed_before_at: None,
            went_up_at: None,
            patience: 1,
        }
    }

    /// The ladder it climbs.
    #[must_use]
    pub const fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// The position it is at, 0 the best.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The rung it is at.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.ladder.get(self.position)
    }

    /// The times of the last hundred frames on this rung, in nanoseconds.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Takes the time one frame took, from its arrival until it was ready, and the best position its lane can carry
    /// (0 if the lane has room). Returns the change, if there is one.
    pub fn handle_frame(&mut self, now: Time, took: Duration, lane_position: usize) -> Option<Change> {
        // A frame from before the last change waited for frames on another rung, and says nothing about this one.
        if self.changed_at.is_some_and(|at| now.since(at) < took) {
            return self.handle_plan(now, lane_position);
        }
        self.window.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.decide(now, took, lane_position)
    }

    /// As [`Controller::handle_frame`] when the lane's plan changed but no frame came.
    pub fn handle_plan(&mut self, now: Time, lane_position: usize) -> Option<Change> {
        self.decide(now, Duration::ZERO, lane_position)
    }

    fn decide(&mut self, now: Time, took: Duration, lane_position: usize) -> Option<Change> {
        let lane_position = lane_position.min(self.ladder.last());
        if lane_position > self.position {
            return Some(self.change(now, lane_position, Reason::LaneFull));
        }
        if self.is_slow(took) && self.position < self.ladder.last() && !self.is_restless(now) {
            return Some(self.change(now, self.position + 1, Reason::Slow));
        }
        if lane_position < self.position && self.may_go_up(now) {
            return Some(self.change(now, lane_position, Reason::Room));
        }
        None
    }

    fn is_slow(&self, took: Duration) -> bool {
        let next = self.ladder.get(self.position + 1);
        let below_opus = matches!(next, Rung::Minimal | Rung::Emergency | Rung::Muted);
        let limit = if below_opus { self.config.down_frame_to_minimal } else { self.config.down_frame };
        took > limit || (self.window.len() >= SETTLED && self.mean() > self.config.down_mean)
    }

    fn may_go_up(&self, now: Time) -> bool {
        let limit = match self.rung() {
            Rung::Minimal | Rung::Emergency | Rung::Muted => self.config.up_mean_from_minimal,
            _ => self.config.up_mean,
        };
        let went_down = self.went_up_at.is_none();
        let least = if went_down { self.config.trial } else { self.config.up_interval };
        let wait = least.max(self.config.up_interval * self.patience);
        let waited = self.changed_at.is_none_or(|at| now.since(at) >= wait) && !self.is_restless(now);
        waited && self.window.len() >= SETTLED && self.mean() < limit
    }

    /// Whether it changed twice already within the time of a trial.
    fn is_restless(&self, now: Time) -> bool {
        self.changed_before_at.is_some_and(|at| now.since(at) < self.config.trial)
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.window.mean())
    }

    fn change(&mut self, now: Time, to: usize, reason: Reason) -> Change {
        let from = self.position;
        if to > from {
            let failed = self.went_up_at.take().is_some_and(|at| now.since(at) < self.config.trial);
            self.patience = if failed { (self.patience * 2).min(16) } else { 1 };
        } else {
            self.went_up_at = Some(now);
        }
        self.position = to;
        self.changed_before_at = self.changed_at.replace(now);
        // What frames took on another rung says nothing about this one.
        self.window.clear();
        Change { from, to, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn controller() -> Controller {
        Controller::new(ControllerConfig::default(), Ladder::new(10, SinkCapability::default(), false))
    }

    #[test]
    fn rungs_that_the_sink_did_not_declare_are_not_there() {
        let both = SinkCapability { pcm: true, clear: true };
        let names = |ladder: Ladder| ladder.rungs().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(Ladder::new(5, SinkCapability::default(), true)),
            ["full/5", "full/3", "full/0", "medium"]
        );
        assert_eq!(names(Ladder::new(0, both, false)), ["full/0", "medium", "minimal"]);
        assert_eq!(names(Ladder::new(10, both, true)).len(), 8);
        assert_eq!(Ladder::new(0, both, false).get(9), Rung::Muted);
    }

    #[test]
    fn one_slow_frame_or_a_slow_mean_goes_down_one_rung() {
        let mut slow = controller();
        let change = slow.handle_frame(Time::ZERO, 16 * MS, 0);
        assert_eq!(change, Some(Change { from: 0, to: 1, reason: Reason::Slow }));
        let mut mean = controller();
        let changes: Vec<_> =
            (0..11).filter_map(|i| mean.handle_frame(Time::from_millis(i), 11 * MS, 0)).collect();
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn frames_that_one_hiccup_delayed_cost_one_rung_together() {
        let mut c = controller();
        let slow = |c: &mut Controller, now, took| c.handle_frame(Time::from_millis(now), took, 0).is_some();
        assert!(slow(&mut c, 1_000, 90 * MS));
        assert!(!slow(&mut c, 1_001, 71 * MS));
        assert!(!slow(&mut c, 1_002, 52 * MS));
        assert!(slow(&mut c, 1_030, 16 * MS), "this one came after the change");
    }

    #[test]
    fn a_full_lane_takes_it_down_at_once_and_it_returns_in_one_step_when_there_is_room() {
        let mut c = controller();
        assert_eq!(c.handle_plan(Time::ZERO, 4).map(|change| change.to), Some(4));
        for i in 0..499 {
            assert_eq!(c.handle_frame(Time::from_millis(20 * i), MS, 0), None, "not before 10 s");
        }
        let change = c.handle_frame(Time::from_millis(10_000), MS, 0);
        assert_eq!(change, Some(Change { from: 4, to: 0, reason: Reason::Room }));
    }

    #[test]
    fn each_failed_try_makes_it_wait_twice_as_long() {
        let mut c = controller();
        let (mut now, mut ups) = (Time::ZERO, Vec::new());
        c.handle_plan(now, 1);
        for _ in 0..5_000 {
            now = now + 20 * MS;
            // Whenever it is at the best rung, the lane turns out to be full.
            let lane = usize::from(c.position() == 0);
            if let Some(change) = c.handle_frame(now, MS, lane)
                && change.to == 0
            {
                ups.push(now.as_nanos() / 1_000_000_000);
            }
        }
        assert_eq!(ups, [10, 20, 40, 80]);
    }

    proptest! {
        #[test]
        fn it_never_leaves_the_ladder_nor_changes_up_more_often_than_allowed(
            frames in proptest::collection::vec((0u64..40, 0usize..12, 1u64..100), 1..600),
        ) {
            let mut c = controller();
            let (mut now, mut last_change, mut recent) = (Time::ZERO, None, Vec::new());
            for (took, lane, step) in frames {
                now = now + MS * step as u32;
                if let Some(change) = c.handle_frame(now, MS * took as u32, lane) {
                    prop_assert_ne!(change.from, change.to);
                    prop_assert!(change.to <= c.ladder().last());
                    if change.reason != Reason::LaneFull {
                        recent.retain(|&at| now.since(at) < 10_000 * MS);
                        prop_assert!(recent.len() < 2, "a third change within 10 s");
                    }
                    recent.push(now);
                    if change.to < change.from {
                        prop_assert!(last_change.is_none_or(|at| now.since(at) >= 5_000 * MS));
                    }
                    last_change = Some(now);
                }
            }
        }
    }
}
