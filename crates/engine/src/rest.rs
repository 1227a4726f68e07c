//! The rest that a lane takes however much there is to do.
//!
//! A thread of real-time priority that never sleeps starves all else on its core, until the kernel stops it: for 50 ms
//! of each second by default (`sched_rt_runtime_us`), as long as a packet may be late. A lane with too much to do rests
//! before that, often and shortly.

use std::time::Duration;

use evenkeel_core::units::Time;

/// Rest owed for work, as a fraction: with it a lane sleeps 1/17 of its time, 59 ms of each second.
const OWED_PER_WORK: i64 = 16;

/// How long one rest is: what packets may leave late by where there is too much to do.
pub(crate) const REST: Duration = Duration::from_micros(250);

/// The most sleep that counts as rest taken in advance.
const CREDIT: Duration = Duration::from_millis(2);

/// The most that counts as work between two looks: what takes longer is not a job, but a machine that stood still.
const MOST_WORK: Duration = Duration::from_millis(20);

/// How much rest a lane owes.
#[derive(Debug)]
pub(crate) struct Rest {
    /// In nanoseconds; negative if it was taken in advance.
    owed: i64,
    awake_since: Option<Time>,
    asleep_since: Time,
}

impl Rest {
    pub(crate) const fn new(now: Time) -> Self {
        Self { owed: -nanos(CREDIT), awake_since: None, asleep_since: now }
    }

    pub(crate) fn handle_wake(&mut self, now: Time) {
        let slept = nanos(now.since(self.asleep_since));
        self.owed = self.owed.saturating_sub(slept).max(-nanos(CREDIT));
        self.awake_since = Some(now);
    }

    pub(crate) fn handle_sleep(&mut self, now: Time) {
        self.book(now);
        (self.awake_since, self.asleep_since) = (None, now);
    }

    /// Until when it has to sleep now, if it has to.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Time> {
        self.book(now);
        (self.owed >= nanos(REST)).then(|| now + REST)
    }

    fn book(&mut self, now: Time) {
        if let Some(since) = self.awake_since.replace(now) {
            self.owed += nanos(now.since(since).min(MOST_WORK)) / OWED_PER_WORK;
        }
    }
}

const fn nanos(duration: Duration) -> i64 {
    let nanos = duration.as_nanos();
    if nanos > i64::MAX as u128 { i64::MAX } else { nanos as i64 }
}
