//! The time of the control plane.

use evenkeel_core::units::Time;
use tokio::time::Instant;

/// Monotonic time since the gateway started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// A time as the runtime's timers take it.
    #[must_use]
    pub fn instant(&self, at: Time) -> Instant {
        self.start + at.since(Time::ZERO)
    }
}
