//! The scheduler of one media thread: which packet leaves next, which frame is coded next, which rung all can afford.
//!
//! Sans-IO: a lane knows no clock, thread or socket. Whoever drives it calls [`Lane::handle_wake`] and then, each turn
//! and in this order:
//!
//! 1. [`Lane::open`] for each stream that comes, [`Lane::handle_note`] for each that has something new;
//! 2. [`Lane::poll_departure`] with the present time, until it returns `None`;
//! 3. [`Lane::poll_rest`]: if it has to rest, as 5 but until the time that this says and whatever comes;
//! 4. [`Lane::begin_job`] once and, if there was a job, [`Lane::end_job`] with the time after it; then again from 1;
//! 5. when there was no job: [`Lane::handle_sleep`], and sleep until [`Lane::next_timeout`] or until something comes.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::ladder::{Change, Rung};
use evenkeel_core::units::Time;
use evenkeel_sys::rest::Rest;

use crate::outlet::Outlet;
use crate::plan::{Loads, POSITIONS, Plan};
use crate::stream::{Stream, StreamId, Worked};

/// How often the plan is looked at.
const PLAN_INTERVAL: Duration = Duration::from_millis(50);

/// Over how long the load is measured.
const LOAD_INTERVAL: Duration = Duration::from_millis(250);

/// A packet due within this time leaves now if a codec job would otherwise go before it: early by less than late.
const EARLY: Duration = Duration::from_micros(100);

/// How many streams are looked at for one to give away, so that looking takes no time worth mentioning.
const MOVE_CANDIDATES: usize = 64;

/// Changes of rung kept until they are polled for. A turn makes two at most.
const CHANGES: usize = 64;

/// A codec job that was begun; give it back to [`Lane::end_job`].
#[derive(Debug)]
#[must_use = "a job that is not ended costs nothing in the plan"]
pub(crate) struct Job {
    entry: Entry,
    begun: Time,
    /// `None` if the encoder panicked.
    worked: Option<Worked>,
}

/// A rung that changed, to be told to the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RungChange {
    pub(crate) stream: StreamId,
    pub(crate) change: Change,
    pub(crate) rung: Rung,
}

/// One lane. See the [module](self) for how to drive it.
pub(crate) struct Lane {
    index: usize,
    seats: Vec<Option<Seat>>,
    vacant: Vec<usize>,
    limit: usize,
    next_serial: u64,
    departures: BinaryHeap<Reverse<Entry>>,
    jobs: BinaryHeap<Reverse<Entry>>,
    /// What all streams together are at each position.
    sums: Loads,
    plan: Plan,
    planned_at: Time,
    meter: LoadMeter,
    rest: Rest,
    counters: Counters,
    changes: VecDeque<RungChange>,
    /// Where the search for a stream to give away goes on.
    cursor: usize,
}

/// What a lane counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Codec jobs done.
    pub(crate) jobs: u64,
    /// Streams given away.
    pub(crate) moved: u64,
    /// Streams closed because their encoder panicked.
    pub(crate) panics: u64,
}

/// A stream and what the lane has to know of it.
struct Seat {
    serial: u64,
    stream: Box<Stream>,
    /// What of the lane's sums is its.
    counted: Loads,
    /// Whether it has an entry among the jobs. Among the departures it has one whenever it has ready packets.
    has_job: bool,
}

/// When it is whose turn. Void if another, or nobody, has the slot by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Time,
    serial: u64,
    slot: usize,
}

impl Lane {
    /// An empty lane with room for `limit` streams.
    pub(crate) fn new(index: usize, limit: usize, plan: Plan, now: Time) -> Self {
        Self {
            index,
            seats: Vec::new(),
            vacant: Vec::new(),
            limit,
            next_serial: 0,
            departures: BinaryHeap::new(),
            jobs: BinaryHeap::new(),
            sums: [0.0; POSITIONS],
            plan,
            planned_at: now,
            meter: LoadMeter::new(now),
            rest: Rest::new(now),
            counters: Counters::default(),
            changes: VecDeque::with_capacity(CHANGES),
            cursor: 0,
        }
    }

    /// Takes a stream in, new or from another lane. One that was closed on its way is forgotten at once.
    pub(crate) fn open(&mut self, stream: Box<Stream>, now: Time) {
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None if self.seats.len() < self.limit => {
                self.seats.push(None);
                self.seats.len() - 1
            }
            None => return end(stream),
        };
        stream.link().sit(self.index, slot);
        let serial = self.next_serial;
        self.next_serial += 1;
        if let Some(at) = stream.next_due() {
            self.departures.push(Reverse(Entry { at, serial, slot }));
        }
        let counted = [0.0; POSITIONS];
        self.seats[slot] = Some(Seat { serial, stream, counted, has_job: false });
        self.recount(slot);
        self.handle_note(slot);
        self.replan(now);
    }

    /// Whoever is at `slot`, if anybody, got a frame or was closed.
    pub(crate) fn handle_note(&mut self, slot: usize) {
        let Some(Some(seat)) = self.seats.get(slot) else { return };
        if seat.stream.link().is_closed() {
            self.forget(slot);
        } else {
            self.queue_job(slot);
        }
    }

    /// Forgets all streams, as a lane that ends.
    pub(crate) fn close_all(&mut self) {
        (0..self.seats.len()).for_each(|slot| self.forget(slot));
    }

    /// Forgets a stream and all that is queued in it.
    fn forget(&mut self, slot: usize) {
        if let Some(stream) = self.leave(slot) {
            end(stream);
        }
    }

    /// Takes a stream out, between frames and with all its state, to be opened on lane `target`.
    pub(crate) fn take(&mut self, slot: usize, target: usize) -> Option<Box<Stream>> {
        let stream = self.leave(slot)?;
        stream.link().leave_for(target);
        self.counters.moved += 1;
        Some(stream)
    }

    fn leave(&mut self, slot: usize) -> Option<Box<Stream>> {
        let seat = self.seats.get_mut(slot)?.take()?;
        self.vacant.push(slot);
        for (sum, counted) in self.sums.iter_mut().zip(seat.counted) {
            *sum = (*sum - counted).max(0.0);
        }
        if self.streams() == 0 {
            // Whatever rounding left over.
            self.sums = [0.0; POSITIONS];
        }
        Some(seat.stream)
    }

    fn queue_job(&mut self, slot: usize) {
        let Some(Some(seat)) = self.seats.get_mut(slot) else { return };
        if seat.has_job {
            return;
        }
        if let Some(at) = seat.stream.deadline() {
            seat.has_job = true;
            self.jobs.push(Reverse(Entry { at, serial: seat.serial, slot }));
        }
    }

    /// Lets the next due packet leave. Returns the output it went to, whose consumer wants to be woken.
    pub(crate) fn poll_departure(&mut self, now: Time) -> Option<&Arc<Outlet>> {
        loop {
            let &Reverse(entry) = self.departures.peek()?;
            let horizon = if self.jobs.is_empty() { now } else { now + EARLY };
            if entry.at > horizon {
                return None;
            }
            self.departures.pop();
            let Some(seat) = seat_of(&mut self.seats, entry) else { continue };
            seat.stream.depart(now);
            if let Some(at) = seat.stream.next_due() {
                self.departures.push(Reverse(Entry { at, ..entry }));
            }
            // There is room again for what waited because the stream was far ahead.
            self.queue_job(entry.slot);
            return self.seats[entry.slot].as_ref().map(|seat| seat.stream.output());
        }
    }

    /// Does the codec job whose deadline is nearest.
    pub(crate) fn begin_job(&mut self, now: Time) -> Option<Job> {
        loop {
            let Reverse(entry) = self.jobs.pop()?;
            let Some(seat) = seat_of(&mut self.seats, entry) else { continue };
            seat.has_job = false;
            if let Some(change) = seat.stream.handle_plan(now, self.plan.position()) {
                note(&mut self.changes, &seat.stream, change);
            }
            let had_ready = seat.stream.next_due().is_some();
            // An encoder may be the caller's code; a panic in it must cost no other stream anything.
            let worked = match catch_unwind(AssertUnwindSafe(|| seat.stream.work(now))) {
                Ok(None) => continue,
                Ok(worked) => worked,
                Err(_) => {
                    self.counters.panics += 1;
                    seat.stream.link().figures.panics.add(1);
                    self.forget(entry.slot);
                    return Some(Job { entry, begun: now, worked: None });
                }
            };
            if let (false, Some(at)) = (had_ready, seat.stream.next_due()) {
                self.departures.push(Reverse(Entry { at, ..entry }));
            }
            return Some(Job { entry, begun: now, worked });
        }
    }

    /// Ends a job: `now` is the time after it.
    pub(crate) fn end_job(&mut self, job: Job, now: Time) {
        let cost = now.since(job.begun);
        self.counters.jobs += 1;
        self.meter.in_jobs += cost;
        if let Some(worked) = job.worked
            && let Some(seat) = seat_of(&mut self.seats, job.entry)
        {
            if let Some(change) = seat.stream.finish(worked, cost, now, self.plan.position()) {
                note(&mut self.changes, &seat.stream, change);
            }
            self.recount(job.entry.slot);
            self.queue_job(job.entry.slot);
        }
        self.look(now);
    }

    /// It begins to work.
    pub(crate) fn handle_wake(&mut self, now: Time) {
        self.meter.awake_since = Some(now);
        self.rest.handle_wake(now);
    }

    /// Until when it has to sleep before it does more, so that it leaves its core some time.
    pub(crate) fn poll_rest(&mut self, now: Time) -> Option<Time> {
        self.rest.poll(now)
    }

    /// It goes to sleep.
    pub(crate) fn handle_sleep(&mut self, now: Time) {
        self.look(now);
        self.meter.handle_sleep(now);
        self.rest.handle_sleep(now);
    }

    /// Looks at load and plan when it is time.
    fn look(&mut self, now: Time) {
        self.meter.measure(now);
        if now.since(self.planned_at) >= PLAN_INTERVAL {
            self.replan(now);
        }
    }

    /// Streams follow the plan one by one, before their next frames.
    fn replan(&mut self, now: Time) {
        self.planned_at = now;
        self.plan.update(&self.loads());
    }

    /// Brings the sums up to what a stream costs now.
    fn recount(&mut self, slot: usize) {
        let Some(Some(seat)) = self.seats.get_mut(slot) else { return };
        let loads = seat.stream.loads();
        for ((sum, counted), load) in self.sums.iter_mut().zip(&seat.counted).zip(&loads) {
            *sum = (*sum + load - counted).max(0.0);
        }
        seat.counted = loads;
    }

    fn loads(&self) -> Loads {
        self.sums.map(|sum| sum + self.meter.overhead)
    }

    /// The next rung that changed since this was last asked.
    pub(crate) fn poll_change(&mut self) -> Option<RungChange> {
        self.changes.pop_front()
    }

    /// When it must be called next, if nothing comes before: now, if there are jobs.
    pub(crate) fn next_timeout(&self, now: Time) -> Option<Time> {
        if !self.jobs.is_empty() {
            return Some(now);
        }
        self.departures.peek().map(|Reverse(entry)| entry.at)
    }

    /// How many streams it has.
    pub(crate) fn streams(&self) -> usize {
        self.seats.len() - self.vacant.len()
    }

    /// The share of its time it works, as last measured.
    pub(crate) const fn load(&self) -> f64 {
        self.meter.load
    }

    /// The share of its time that its streams would take on their best rung, and what is not codec jobs.
    pub(crate) fn wanted_load(&self) -> f64 {
        self.loads()[0]
    }

    /// The position of the ladder that its plan allows.
    pub(crate) const fn position(&self) -> usize {
        self.plan.position()
    }

    pub(crate) const fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether it should give a stream away, given what all lanes would carry on the best rung: if it is over `limit`
    /// and another has room enough that the move makes the worse of both better. Returns the slot, and the lane it
    /// should go to.
    pub(crate) fn poll_move(&mut self, wanted: &[f64], limit: f64) -> Option<(usize, usize)> {
        let mine = self.wanted_load();
        if mine <= limit || self.streams() < 2 {
            return None;
        }
        let others = wanted.iter().enumerate().filter(|&(lane, _)| lane != self.index);
        let (target, least) = others.min_by(|a, b| a.1.total_cmp(b.1))?;
        let half_gap = (mine - least) / 2.0;
        let slots = self.seats.len();
        let looked_at = (0..slots.min(MOVE_CANDIDATES)).map(|i| (self.cursor + i) % slots);
        // The largest that does not tip the balance the other way.
        let best = looked_at
            .filter_map(|slot| Some((slot, self.seats[slot].as_ref()?.counted[0])))
            .filter(|&(_, load)| load <= half_gap)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        self.cursor = (self.cursor + MOVE_CANDIDATES) % slots;
        best.map(|(slot, _)| (slot, target))
    }
}

fn seat_of(seats: &mut [Option<Seat>], entry: Entry) -> Option<&mut Seat> {
    seats[entry.slot].as_mut().filter(|seat| seat.serial == entry.serial)
}

/// Ends a stream. Its encoder may be the caller's code, and panic even now.
pub(crate) fn end(stream: Box<Stream>) {
    let link = Arc::clone(stream.link());
    stream.close();
    let _ = catch_unwind(AssertUnwindSafe(|| drop(stream)));
    link.end();
}

fn note(changes: &mut VecDeque<RungChange>, stream: &Stream, change: Change) {
    // Where nobody asks, the log misses some; the counters do not.
    if changes.len() < CHANGES {
        let rung = stream.rung().unwrap_or(Rung::Muted);
        changes.push_back(RungChange { stream: stream.link().id(), change, rung });
    }
}

/// The share of its time a lane works.
#[derive(Debug)]
struct LoadMeter {
    since: Time,
    awake_since: Option<Time>,
    busy: Duration,
    in_jobs: Duration,
    load: f64,
    /// What of the load was not codec jobs.
    overhead: f64,
}

impl LoadMeter {
    const fn new(now: Time) -> Self {
        Self {
            since: now,
            awake_since: None,
            busy: Duration::ZERO,
            in_jobs: Duration::ZERO,
            load: 0.0,
            overhead: 0.0,
        }
    }

    fn handle_sleep(&mut self, now: Time) {
        self.busy += self.awake_since.take().map_or(Duration::ZERO, |since| now.since(since));
    }

    fn measure(&mut self, now: Time) {
        let span = now.since(self.since);
        if span < LOAD_INTERVAL {
            return;
        }
        if self.awake_since.is_some() {
            self.handle_sleep(now);
            self.awake_since = Some(now);
        }
        let share = |part: Duration| (part.as_secs_f64() / span.as_secs_f64()).min(1.0);
        self.load = share(self.busy);
        self.overhead = share(self.busy.saturating_sub(self.in_jobs));
        (self.since, self.busy, self.in_jobs) = (now, Duration::ZERO, Duration::ZERO);
    }
}
