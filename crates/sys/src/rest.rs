//! The rest that a lane takes however much there is to do.
//!
//! A thread of real-time priority that never sleeps starves all else on its core, until the kernel stops it: for 50 ms
//! of each second by default (`sched_rt_runtime_us`), as long as a packet may be late. A lane with too much to do rests
//! before that, often and shortly. Knows no clock.

use std::time::Duration;

use evenkeel_core::units::Time;

/// Rest owed for work, as a fraction: with it a lane sleeps 1/17 of its time, 59 ms of each second.
const OWED_PER_WORK: i64 = 16;

/// How long one rest is: what packets may leave late by where there is too much to do.
pub const REST: Duration = Duration::from_micros(250);

/// The most sleep that counts as rest taken in advance.
const CREDIT: Duration = Duration::from_millis(2);

/// The most that counts as work between two looks: what takes longer is not a job, but a machine that stood still.
const MOST_WORK: Duration = Duration::from_millis(20);

/// How much rest a lane owes. It tells when it wakes and when it goes to sleep, and asks now and then.
#[derive(Debug)]
pub struct Rest {
    /// In nanoseconds; negative if it was taken in advance.
    owed: i64,
    awake_since: Option<Time>,
    asleep_since: Time,
}

impl Rest {
    /// Of a lane that is asleep.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self { owed: -nanos(CREDIT), awake_since: None, asleep_since: now }
    }

    /// It begins to work.
    pub fn handle_wake(&mut self, now: Time) {
        let slept = nanos(now.since(self.asleep_since));
        self.owed = self.owed.saturating_sub(slept).max(-nanos(CREDIT));
        self.awake_since = Some(now);
    }

    /// It goes to sleep.
    pub fn handle_sleep(&mut self, now: Time) {
        self.book(now);
        (self.awake_since, self.asleep_since) = (None, now);
    }

    /// Until when it has to sleep now, if it has to.
    #[must_use]
    pub fn poll(&mut self, now: Time) -> Option<Time> {
        self.book(now);
        // More than one at once after a job of many milliseconds, or it would owe ever more.
        let rests = u32::try_from(self.owed / nanos(REST)).unwrap_or(0);
        (rests > 0).then(|| now + REST * rests)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Works in steps of `step` from `from` on for a second. Returns how long it rested.
    fn work(rest: &mut Rest, from: Time, step: Duration) -> Duration {
        let (mut now, mut rested) = (from, Duration::ZERO);
        rest.handle_wake(now);
        while now.since(from) < 1_000 * MS {
            now = now + step;
            if let Some(until) = rest.poll(now) {
                rest.handle_sleep(now);
                rested += until.since(now);
                now = until;
                rest.handle_wake(now);
            }
        }
        rest.handle_sleep(now);
        rested
    }

    #[test]
    fn who_never_sleeps_rests_more_than_the_kernel_asks_for_and_hardly_more() {
        let mut rest = Rest::new(Time::ZERO);
        for (second, step) in [MS, MS / 100, 9 * MS].into_iter().enumerate() {
            let rested = work(&mut rest, Time::from_millis(5_000 * (second as u64 + 1)), step);
            assert!(rested > 55 * MS && rested < 61 * MS, "{rested:?}");
        }
    }

    #[test]
    fn who_sleeps_by_itself_never_has_to_and_a_machine_that_stood_still_is_no_work() {
        let mut rest = Rest::new(Time::ZERO);
        for period in 1..200u64 {
            let now = Time::from_millis(20 * period);
            rest.handle_wake(now);
            assert_eq!(rest.poll(now + 18 * MS), None);
            rest.handle_sleep(now + 18 * MS);
        }
        rest.handle_wake(Time::from_millis(10_000));
        assert_eq!(rest.poll(Time::from_millis(3_600_000)), None);
    }
}
