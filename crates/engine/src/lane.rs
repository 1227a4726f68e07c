//! The scheduler of one media thread: which packet leaves next, which frame is coded next, which rung all can afford.
//!
//! Sans-IO: a lane knows no clock, thread or socket. Whoever drives it calls, each turn and in this order:
//!
//! 1. [`Lane::handle_ready`] for each stream that got a frame, [`Lane::open`] and [`Lane::close`] as asked;
//! 2. [`Lane::poll_departure`] with the present time, until it returns `None`;
//! 3. [`Lane::begin_job`] once and, if there was a job, [`Lane::end_job`] with the time after it; then again from 1;
//! 4. when there was no job: sleep until [`Lane::next_timeout`], or until something comes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::ladder::{Change, Rung};
use evenkeel_core::units::Time;

use crate::conduit::Conduit;
use crate::metrics::{LaneReport, StreamReport, Totals};
use crate::plan::{Loads, POSITIONS, Plan};
use crate::stream::{Packet, Stream, StreamId};

/// How often the plan is looked at.
const PLAN_INTERVAL: Duration = Duration::from_millis(50);

/// Over how long the load is measured.
const LOAD_INTERVAL: Duration = Duration::from_millis(250);

/// A packet due within this time leaves now if a codec job would otherwise go before it: early by less than late.
const EARLY: Duration = Duration::from_micros(100);

/// A codec job that was begun; give it back to [`Lane::end_job`].
#[derive(Debug)]
#[must_use = "a job that is not ended costs nothing in the plan"]
pub(crate) struct Job {
    stream: StreamId,
    begun: Time,
    pushed_at: Time,
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
    streams: HashMap<StreamId, Box<Stream>>,
    departures: BinaryHeap<Reverse<(Time, StreamId)>>,
    jobs: BinaryHeap<Reverse<(Time, StreamId)>>,
    plan: Plan,
    planned_at: Time,
    load: LoadMeter,
    jobs_done: u64,
    moved: u64,
    closed: Totals,
    changes: Vec<RungChange>,
}

/// The share of its time a lane works.
#[derive(Debug)]
struct LoadMeter {
    since: Time,
    busy: Duration,
    in_jobs: Duration,
    load: f64,
    /// What of the load was not codec jobs.
    overhead: f64,
}

impl Lane {
    /// An empty lane. It allocates here for `capacity` streams.
    pub(crate) fn new(capacity: usize, step_down: f64, step_up: f64, now: Time) -> Self {
        Self {
            streams: HashMap::with_capacity(capacity),
            departures: BinaryHeap::with_capacity(capacity),
            jobs: BinaryHeap::with_capacity(capacity),
            plan: Plan::new(step_down, step_up),
            planned_at: now,
            load: LoadMeter {
                since: now,
                busy: Duration::ZERO,
                in_jobs: Duration::ZERO,
                load: 0.0,
                overhead: 0.0,
            },
            jobs_done: 0,
            moved: 0,
            closed: Totals::default(),
            // As many as can change in one plan.
            changes: Vec::with_capacity(capacity),
        }
    }

    /// Takes a stream in, new or from another lane.
    pub(crate) fn open(&mut self, stream: Box<Stream>, now: Time) {
        let id = stream.id();
        if let Some(due) = stream.next_due() {
            self.departures.push(Reverse((due, id)));
        }
        self.streams.insert(id, stream);
        self.handle_ready(id, now);
        self.replan(now);
    }

    /// Forgets a stream and all that is queued in it. Returns its last report; `None` if it is not here.
    pub(crate) fn close(&mut self, id: StreamId, lane: usize) -> Option<StreamReport> {
        let stream = self.streams.remove(&id)?;
        stream.close();
        let report = report_of(&stream, lane);
        self.closed.add(&report);
        Some(report)
    }

    /// Takes a stream out, between frames and with all its state, to be opened on another lane.
    pub(crate) fn take(&mut self, id: StreamId) -> Option<Box<Stream>> {
        let mut stream = self.streams.remove(&id)?;
        stream.job_queued = false;
        self.moved += 1;
        Some(stream)
    }

    /// What each of its streams had done when the lane ended.
    pub(crate) fn close_all(&mut self) {
        self.streams.drain().for_each(|(_, stream)| stream.close());
    }

    /// A frame was pushed into the input of a stream. Unknown streams are ignored: they moved or were closed.
    pub(crate) fn handle_ready(&mut self, id: StreamId, now: Time) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        // First hear, then look: what comes in between is told again.
        stream.hear();
        if !stream.job_queued && stream.has_work() {
            stream.job_queued = true;
            self.jobs.push(Reverse((stream.deadline(now), id)));
        }
    }

    /// Lets the next due packet leave. Returns the output it went to, whose consumer wants to be woken.
    pub(crate) fn poll_departure(&mut self, now: Time) -> Option<&Arc<Conduit<Packet>>> {
        loop {
            let &Reverse((due, id)) = self.departures.peek()?;
            let horizon = if self.jobs.is_empty() { now } else { now + EARLY };
            if due > horizon {
                return None;
            }
            self.departures.pop();
            // Entries of streams that moved or were closed, or of another time, are void.
            let is_due = self.streams.get(&id).is_some_and(|stream| stream.next_due() == Some(due));
            if !is_due {
                continue;
            }
            let stream = self.streams.get_mut(&id)?;
            stream.depart(now);
            if let Some(next) = stream.next_due() {
                self.departures.push(Reverse((next, id)));
            }
            // There is room again for what waited because the stream was far ahead.
            self.handle_ready(id, now);
            return self.streams.get(&id).map(|stream| stream.output());
        }
    }

    /// Does the codec job whose deadline is nearest.
    pub(crate) fn begin_job(&mut self, now: Time) -> Option<Job> {
        loop {
            let Reverse((_, id)) = self.jobs.pop()?;
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.job_queued = false;
            let had_ready = stream.next_due().is_some();
            let Some(pushed_at) = stream.work(now) else { continue };
            if let (false, Some(due)) = (had_ready, stream.next_due()) {
                self.departures.push(Reverse((due, id)));
            }
            return Some(Job { stream: id, begun: now, pushed_at });
        }
    }

    /// Ends a job: `now` is the time after it.
    pub(crate) fn end_job(&mut self, job: Job, now: Time) {
        let cost = now.since(job.begun);
        self.jobs_done += 1;
        self.load.in_jobs += cost;
        let position = self.plan.position();
        if let Some(stream) = self.streams.get_mut(&job.stream) {
            if let Some(change) = stream.finish(job.pushed_at, cost, now, position) {
                note(&mut self.changes, stream, change);
            }
            self.handle_ready(job.stream, now);
        }
        if now.since(self.planned_at) >= PLAN_INTERVAL {
            self.replan(now);
        }
    }

    /// Takes how long the thread worked (was not asleep) in the turn that ends now.
    pub(crate) fn handle_busy(&mut self, now: Time, busy: Duration) {
        self.load.busy += busy;
        let span = now.since(self.load.since);
        if span >= LOAD_INTERVAL {
            let share = |part: Duration| (part.as_secs_f64() / span.as_secs_f64()).min(1.0);
            self.load.load = share(self.load.busy);
            self.load.overhead = share(self.load.busy.saturating_sub(self.load.in_jobs));
            (self.load.since, self.load.busy, self.load.in_jobs) = (now, Duration::ZERO, Duration::ZERO);
        }
    }

    /// The next rung that changed since this was last asked.
    pub(crate) fn poll_change(&mut self) -> Option<RungChange> {
        self.changes.pop()
    }

    /// When it must be called next, if nothing comes before: now, if there are jobs.
    pub(crate) fn next_timeout(&self, now: Time) -> Option<Time> {
        if !self.jobs.is_empty() {
            return Some(now);
        }
        self.departures.peek().map(|Reverse((due, _))| *due)
    }

    /// The share of its time it works, as last measured.
    pub(crate) const fn load(&self) -> f64 {
        self.load.load
    }

    /// The share of its time that its streams would take on their best rung, and what is not codec jobs.
    pub(crate) fn wanted_load(&self) -> f64 {
        self.loads()[0]
    }

    /// How many streams it has.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether it should give a stream away, given the loads of all lanes: if it is over `limit` and another has
    /// room enough that the move makes the worse of both better. Returns the stream and the lane it should go to.
    pub(crate) fn poll_move(&self, this: usize, loads: &[f64], limit: f64) -> Option<(StreamId, usize)> {
        let mine = self.load.load;
        if mine <= limit || self.streams.len() < 2 {
            return None;
        }
        let (target, &least) =
            loads.iter().enumerate().filter(|&(i, _)| i != this).min_by(|a, b| a.1.total_cmp(b.1))?;
        let half_gap = (mine - least) / 2.0;
        // The largest that does not tip the balance the other way.
        self.streams
            .values()
            .map(|stream| (stream.load(), stream.id()))
            .filter(|&(load, _)| load <= half_gap && load > 0.0)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, id)| (id, target))
    }

    fn loads(&self) -> Loads {
        let mut loads = [self.load.overhead; POSITIONS];
        for stream in self.streams.values() {
            for (position, load) in loads.iter_mut().enumerate() {
                *load += stream.load_at(position);
            }
        }
        loads
    }

    fn replan(&mut self, now: Time) {
        self.planned_at = now;
        let before = self.plan.position();
        let position = self.plan.update(&self.loads());
        if position <= before {
            // Streams climb one by one, with their next frames.
            return;
        }
        for stream in self.streams.values_mut() {
            if let Some(change) = stream.replan(now, position) {
                note(&mut self.changes, stream, change);
            }
        }
    }

    /// What it tells of itself; `lane` is its number, `cpu` what its thread used.
    pub(crate) fn report(&self, lane: usize, cpu: Duration) -> LaneReport {
        LaneReport {
            lane,
            streams: self.streams.len(),
            load: self.load.load,
            position: self.plan.position(),
            jobs: self.jobs_done,
            moved: self.moved,
            cpu_seconds: cpu.as_secs_f64(),
        }
    }

    /// What each of its streams tells, and the sums over all it ever closed.
    pub(crate) fn stream_reports(&self, lane: usize) -> (Vec<StreamReport>, Totals) {
        (self.streams.values().map(|stream| report_of(stream, lane)).collect(), self.closed.clone())
    }
}

fn note(changes: &mut Vec<RungChange>, stream: &Stream, change: Change) {
    // Where nobody asks, the log misses some; the counters do not.
    if changes.len() < changes.capacity() {
        let rung = stream.rung().unwrap_or(Rung::Muted);
        changes.push(RungChange { stream: stream.id(), change, rung });
    }
}

fn report_of(stream: &Stream, lane: usize) -> StreamReport {
    let figures = &stream.figures;
    let (dropped, queued) = stream.input_figures();
    StreamReport {
        id: stream.id(),
        lane,
        frames: figures.frames,
        packets: figures.packets,
        bytes: figures.bytes,
        dropped,
        late: figures.late,
        output_dropped: figures.output_dropped,
        refused: figures.refused,
        underruns: figures.underruns,
        silent: figures.silent,
        muted: figures.muted,
        fallbacks: figures.fallbacks,
        rung_changes: figures.rung_changes,
        key_exhausted: figures.key_exhausted,
        rung: stream.rung().map_or_else(|| "relay".to_owned(), |rung| rung.to_string()),
        position: stream.position(),
        queued,
        cost: stream.cost_nanos(),
        processing: figures.processing.clone(),
        latency: figures.latency.clone(),
        departure: figures.departure.clone(),
    }
}
