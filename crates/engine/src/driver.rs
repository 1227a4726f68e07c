//! The thread of one lane.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::ladder::Rung;
use evenkeel_core::units::Time;
use evenkeel_sys::clock;
use evenkeel_sys::wait::{Waiter, sleep_until};

use crate::config::EngineConfig;
use crate::lane::{Lane, end};
use crate::plan::Plan;
use crate::pool::{Shared, slots};
use crate::port::Port;

/// Streams taken in in one turn of a lane, so that packets never wait for many.
const ARRIVALS_PER_TURN: usize = 8;

/// How often a lane over budget may give a stream away.
const MOVE_INTERVAL: Duration = Duration::from_millis(100);

/// How often a lane publishes its figures.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

/// How long a lane sleeps where the system refuses to wake it.
const UNABLE_TO_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct Driver {
    index: usize,
    lane: Lane,
    shared: Arc<Shared>,
    waiter: Waiter,
    move_limit: f64,
    /// What all lanes would carry on the best rung.
    wanted: Vec<f64>,
    moved_at: Time,
    published_at: Time,
}

impl Driver {
    pub(crate) fn new(index: usize, config: &EngineConfig, shared: Arc<Shared>, waiter: Waiter) -> Self {
        let now = clock::now();
        let plan = Plan::new(config.step_down_load, config.step_up_load);
        Self {
            index,
            lane: Lane::new(index, slots(config), plan, now),
            wanted: Vec::with_capacity(shared.ports.len()),
            shared,
            waiter,
            move_limit: config.budget,
            moved_at: now,
            published_at: now,
        }
    }

    fn port(&self) -> &Port {
        &self.shared.ports[self.index]
    }

    /// Works until the engine is shut down.
    pub(crate) fn run(mut self) {
        while !self.shared.is_shut_down() {
            let mut now = clock::now();
            self.lane.handle_wake(now);
            loop {
                self.take_in(now);
                now = self.send_due(now);
                now = self.rest(now);
                let Some(job) = self.lane.begin_job(now) else { break };
                now = clock::now();
                self.lane.end_job(job, now);
                self.keep_house(now);
                if self.shared.is_shut_down() {
                    break;
                }
            }
            now = clock::now();
            self.lane.handle_sleep(now);
            self.keep_house(now);
            let idle_look = now + MOVE_INTERVAL;
            let until = self.lane.next_timeout(now).unwrap_or(idle_look).min(idle_look);
            if let Err(error) = self.waiter.wait(Some(until)) {
                tracing::error!(%error, "a lane cannot wait for its events");
                // Not a yield: at real-time priority that would give way to nobody.
                std::thread::sleep(UNABLE_TO_WAIT);
            }
        }
    }

    /// Takes in what other threads left.
    fn take_in(&mut self, now: Time) {
        let Self { lane, shared, index, .. } = self;
        let port = &shared.ports[*index];
        let mut taken = 0;
        while taken < ARRIVALS_PER_TURN
            && let Some(stream) = port.arrivals.try_pop()
        {
            lane.open(stream, now);
            taken += 1;
        }
        if taken == ARRIVALS_PER_TURN {
            // There may be more.
            port.waker.wake();
        }
        port.notes.take(|slot| lane.handle_note(slot));
    }

    /// Lets go what is due. Returns the time after it.
    fn send_due(&mut self, mut now: Time) -> Time {
        while let Some(output) = self.lane.poll_departure(now) {
            output.wake();
            now = clock::now();
        }
        now
    }

    /// Sleeps if the lane has to. Returns the time after it.
    fn rest(&mut self, now: Time) -> Time {
        let Some(until) = self.lane.poll_rest(now) else { return now };
        self.lane.handle_sleep(now);
        sleep_until(until);
        let now = clock::now();
        self.lane.handle_wake(now);
        now
    }

    fn keep_house(&mut self, now: Time) {
        self.log_changes();
        if now.since(self.published_at) >= PUBLISH_INTERVAL {
            self.published_at = now;
            self.publish();
        }
        if self.shared.ports.len() > 1 && now.since(self.moved_at) >= MOVE_INTERVAL {
            self.moved_at = now;
            self.give_away(now);
        }
    }

    fn log_changes(&mut self) {
        while let Some(change) = self.lane.poll_change() {
            let (stream, rung) = (change.stream.0, change.rung);
            if rung == Rung::Emergency {
                tracing::warn!(stream, "audio is sent in clear: rung emergency was entered");
            }
            tracing::debug!(stream, %rung, reason = ?change.change.reason, "rung changed");
        }
    }

    /// Tells the desk and the other lanes what there is to do here.
    fn publish(&self) {
        let (figures, counters) = (&self.port().figures, self.lane.counters());
        figures.load.set(self.lane.load().to_bits());
        figures.set_carried(self.lane.streams(), self.lane.wanted_load());
        figures.position.set(self.lane.position() as u64);
        figures.jobs.set(counters.jobs);
        figures.cpu_nanos.set(clock::thread_cpu().as_nanos() as u64);
        if counters.panics > figures.panics.get() {
            tracing::error!(lane = self.index, "an encoder panicked; its stream was closed");
        }
        // Last, and told apart by whoever reads: what makes the desk go through its books.
        figures.panics.set(counters.panics);
        figures.moved.set(counters.moved);
    }

    /// Moves a stream to another lane if this one is over budget and that one has room.
    fn give_away(&mut self, now: Time) {
        self.wanted.clear();
        self.wanted.extend(self.shared.ports.iter().map(|port| port.figures.carried().1));
        let Some((slot, target)) = self.lane.poll_move(&self.wanted, self.move_limit) else { return };
        let Some(stream) = self.lane.take(slot, target) else { return };
        let port = &self.shared.ports[target];
        match port.arrivals.try_push(stream) {
            Ok(()) => port.waker.wake(),
            Err(stream) => self.lane.open(stream, now),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // After a panic, too, which would be a bug of ours: nobody shall wait for what will not come.
        self.lane.close_all();
        while let Some(stream) = self.port().arrivals.try_pop() {
            end(stream);
        }
    }
}
