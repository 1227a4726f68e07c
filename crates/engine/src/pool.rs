//! The threads that drive the lanes, and the front desk where streams are opened and closed.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use evenkeel_core::codec::Encoder;
use evenkeel_core::error::ConfigError;
use evenkeel_core::ladder::{Controller, Ladder, Rung};
use evenkeel_core::relay::DownRelay;
use evenkeel_core::seal::Sealer;
use evenkeel_core::sender::Sender;
use evenkeel_core::units::Time;
use evenkeel_opus::OpusEncoder;
use evenkeel_sys::clock;
use evenkeel_sys::thread::{Grant, Granted, MediaThread, allowed_cores, spawn};
use evenkeel_sys::wait::{Waiter, Waker};
use thiserror::Error;

use crate::admission::{Admission, Place, Refused};
use crate::calibrate::Calibration;
use crate::conduit::Conduit;
use crate::config::{EngineConfig, Pacing, StreamConfig, Work};
use crate::handle::{Accepts, Batch, Output, Requester, Signal, StreamHandle};
use crate::lane::Lane;
use crate::metrics::{LaneReport, Report, StreamReport, Totals};
use crate::phase::{Phase, Phases};
use crate::plan::Cost;
use crate::stream::{Chain, Stream, StreamId, StreamParts};

/// Commands carried out in one turn of a lane, so that packets never wait for many.
const COMMANDS_PER_TURN: usize = 8;

/// How often a lane over budget may give a stream away.
const MOVE_INTERVAL: Duration = Duration::from_millis(100);

/// How often a lane publishes its load.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

/// The real-time priority asked for: above every normal thread, below all that others ask for.
const PRIORITY: u8 = 1;

/// An engine could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused a thread or a descriptor.
    #[error("a lane could not be started: {0}")]
    System(#[from] io::Error),
}

/// A stream could not be opened. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no room.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// Many streams on few threads. Shut down when dropped.
pub struct Engine {
    config: EngineConfig,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    granted: Vec<Granted>,
}

/// What handles and lanes share.
pub(crate) struct Shared {
    lanes: Vec<LanePort>,
    desk: Mutex<Desk>,
    /// Streams that moved, and where to, for the desk to learn of.
    moves: ArrayQueue<(StreamId, usize)>,
    refused: AtomicU64,
    shut_down: AtomicBool,
}

/// The outside of one lane.
struct LanePort {
    commands: ArrayQueue<Command>,
    ready: ArrayQueue<StreamId>,
    waker: Waker,
    /// Bits of the `f64` load, as last measured, and of what its streams would take on their best rung.
    load: AtomicU64,
    wanted_load: AtomicU64,
    /// How many streams that is about.
    streams: AtomicUsize,
}

/// Where streams are opened and closed; never touched by what media passes through.
struct Desk {
    admission: Admission,
    phases: Vec<Phases>,
    places: HashMap<StreamId, (Place, Phase)>,
    calibration: Calibration,
    next_id: u64,
}

/// What is asked of a lane.
enum Command {
    Open(Box<Stream>),
    Close(StreamId),
    Report { with_streams: bool, tell: SyncSender<LaneAnswer> },
    Stop,
}

struct LaneAnswer {
    lane: LaneReport,
    streams: Vec<StreamReport>,
    closed: Totals,
}

impl Engine {
    /// Starts the lanes.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: EngineConfig) -> Result<Self, StartError> {
        config.check()?;
        let waiters = (0..config.lanes).map(|_| Waiter::new()).collect::<io::Result<Vec<_>>>()?;
        let port = |waiter: &Waiter| LanePort {
            // A stream is opened and closed once each; reports and a stop come on top.
            commands: ArrayQueue::new(2 * config.max_streams_per_lane + 16),
            ready: ArrayQueue::new(2 * config.max_streams_per_lane),
            waker: waiter.waker(),
            load: AtomicU64::new(0),
            wanted_load: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
        };
        let shared = Arc::new(Shared {
            lanes: waiters.iter().map(port).collect(),
            desk: Mutex::new(Desk {
                admission: Admission::new(config.lanes, config.budget, config.max_streams_per_lane),
                phases: vec![Phases::new(); config.lanes],
                places: HashMap::new(),
                calibration: Calibration::default(),
                next_id: 1,
            }),
            moves: ArrayQueue::new(1024),
            refused: AtomicU64::new(0),
            shut_down: AtomicBool::new(false),
        });
        let cores = allowed_cores();
        let mut engine = Self { config, shared, threads: Vec::new(), granted: Vec::new() };
        for (index, waiter) in waiters.into_iter().enumerate() {
            let wanted = MediaThread {
                name: format!("lane-{index}"),
                core: engine.config.pin.then(|| cores[(engine.config.first_core + index) % cores.len()]),
                real_time: engine.config.realtime.then_some(PRIORITY),
            };
            let driver = Driver::new(index, &engine.config, Arc::clone(&engine.shared), waiter);
            let (thread, granted) = spawn(wanted, move || driver.run())?;
            engine.threads.push(thread);
            engine.granted.push(granted);
        }
        engine.log_granted();
        Ok(engine)
    }

    fn log_granted(&self) {
        let refused =
            |of: fn(&Granted) -> Grant| self.granted.iter().any(|g| matches!(of(g), Grant::Refused(_)));
        if refused(|g| g.real_time) {
            tracing::info!(
                "lanes run at normal priority; for real-time priority allow it (CAP_SYS_NICE, or rtprio in limits.conf)"
            );
        }
        if refused(|g| g.core) {
            tracing::info!("lanes could not be pinned to cores; the kernel places them");
        }
    }

    /// What each lane's thread was granted by the system.
    #[must_use]
    pub fn granted(&self) -> &[Granted] {
        &self.granted
    }

    /// The configuration it runs with.
    #[must_use]
    pub const fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Opens a stream whose packets go to `output`, which may serve any number of streams.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        config: &StreamConfig,
        sealer: Sealer,
        output: &Output,
    ) -> Result<StreamHandle, OpenError> {
        let encoder = self.encoder(config)?;
        self.place(config, encoder, sealer, output, false)
    }

    /// Begins a batch of pushes that wakes each lane once.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { shared: &self.shared, lanes: vec![false; self.shared.lanes.len()] }
    }

    /// Opens a stream in request form: see [`Requester`]. Its packets leave at once, whatever the pacing asked for.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_requester(
        &self,
        config: &StreamConfig,
        sealer: Sealer,
        limit: Duration,
    ) -> Result<Requester, OpenError> {
        let config = StreamConfig { pacing: Pacing::Immediate, ..config.clone() };
        let output = Output::new(config.queue_frames.max(8));
        let encoder = self.encoder(&config)?;
        let handle = self.place(&config, encoder, sealer, &output, true)?;
        Ok(Requester { handle, output, limit })
    }

    /// Opens a stream that codes with an encoder of the caller's, in the place of libopus. The encoder settings of
    /// `config` say only what its complexity is.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with_encoder(
        &self,
        config: &StreamConfig,
        encoder: Box<dyn Encoder + Send>,
        sealer: Sealer,
        output: &Output,
    ) -> Result<StreamHandle, OpenError> {
        self.place(config, Some(encoder), sealer, output, false)
    }

    fn encoder(&self, config: &StreamConfig) -> Result<Option<Box<dyn Encoder + Send>>, OpenError> {
        match &config.work {
            Work::Transcode { encoder, .. } => Ok(Some(Box::new(OpusEncoder::new(*encoder)?))),
            Work::Relay => Ok(None),
        }
    }

    fn place(
        &self,
        config: &StreamConfig,
        encoder: Option<Box<dyn Encoder + Send>>,
        sealer: Sealer,
        output: &Output,
        answers_every_push: bool,
    ) -> Result<StreamHandle, OpenError> {
        if self.shared.shut_down.load(Ordering::Acquire) {
            return Err(OpenError::ShutDown);
        }
        let (chain, controller, accepts) = self.build(config, encoder, sealer)?;
        let mut desk = self.shared.desk();
        let cost = desk.calibration.cost(config)?;
        self.refresh(&mut desk);
        let frame = config.frame.as_duration();
        let place = desk.admission.admit(cost, frame, !self.config.admission).inspect_err(|_| {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let phase = desk.phases[place.lane].take(config.frame, cost);
        let id = StreamId(desk.next_id);
        desk.next_id += 1;
        desk.places.insert(id, (place, phase));
        drop(desk);
        let input = Conduit::new(config.queue_frames);
        let signal = Signal::new(place.lane);
        let stream = Stream::new(StreamParts {
            id,
            input: Arc::clone(&input),
            output: Arc::clone(&output.queue),
            signal: Arc::clone(&signal),
            chain,
            controller,
            frame: config.frame,
            pacing: config.pacing,
            late_limit: config.late_limit,
            answers_every_push,
            cost: Cost::estimate(cost),
        });
        self.shared.command(place.lane, Command::Open(Box::new(stream)));
        Ok(StreamHandle {
            id,
            shared: Arc::clone(&self.shared),
            signal,
            input,
            accepts,
            tickets: AtomicU64::new(1),
            phase: phase.offset(),
        })
    }

    fn build(
        &self,
        config: &StreamConfig,
        encoder: Option<Box<dyn Encoder + Send>>,
        sealer: Sealer,
    ) -> Result<(Chain, Option<Controller>, Accepts), OpenError> {
        match (&config.work, encoder) {
            (Work::Transcode { input, encoder: asked, sink }, Some(encoder)) => {
                let frame_len = config.frame.samples_at(input.rate) * input.channels.count();
                let whole = u64::from(config.frame.as_micros()) * u64::from(input.rate.hz());
                if !whole.is_multiple_of(1_000_000) {
                    return Err(ConfigError::FrameDuration { ms: config.frame.as_millis_f64() }.into());
                }
                let ladder = Ladder::new(asked.complexity, *sink, self.config.allow_emergency);
                let sender = Sender::new(*input, config.frame, ladder, encoder, sealer)?;
                let controller = self.config.adapt.then(|| Controller::new(self.config.controller, ladder));
                let accepts = Accepts::Pcm { format: *input, frame_len };
                Ok((Chain::Transcode(Box::new(sender)), controller, accepts))
            }
            _ => Ok((Chain::Relay(Box::new(DownRelay::new(config.frame, sealer))), None, Accepts::Opus)),
        }
    }

    /// Brings what admission believes up to what the lanes measured.
    fn refresh(&self, desk: &mut Desk) {
        while let Some((id, to)) = self.shared.moves.pop() {
            if let Some((place, phase)) = desk.places.get(&id).copied() {
                desk.phases[place.lane].release(phase);
                let place = desk.admission.moved(place, to);
                desk.places.insert(id, (place, desk.phases[to].retake(phase)));
            }
        }
        for (lane, port) in self.shared.lanes.iter().enumerate() {
            let streams = port.streams.load(Ordering::Relaxed);
            desk.admission.measured(lane, streams, f64::from_bits(port.wanted_load.load(Ordering::Relaxed)));
        }
    }

    /// What all lanes and streams tell of themselves.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report { refused: self.shared.refused.load(Ordering::Relaxed), ..Report::default() };
        for answer in self.shared.ask_lanes(true) {
            report.totals.merge(&answer.closed);
            answer.streams.iter().for_each(|stream| report.totals.add(stream));
            report.streams.extend(answer.streams);
            report.lanes.push(answer.lane);
        }
        report.streams.sort_by_key(|stream| stream.id);
        report
    }

    /// What all lanes tell of themselves; cheaper than [`Engine::report`].
    #[must_use]
    pub fn lane_reports(&self) -> Vec<LaneReport> {
        self.shared.ask_lanes(false).into_iter().map(|answer| answer.lane).collect()
    }

    /// Closes every stream and ends the lanes.
    pub fn shut_down(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.shut_down.store(true, Ordering::Release);
        for lane in 0..self.shared.lanes.len() {
            self.shared.command(lane, Command::Stop);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a lane panicked; this is a bug");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes for a lane that a stream has frames.
    pub(crate) fn tell(&self, lane: usize, id: StreamId) {
        // Each stream is noted at most once a lane, so there is room.
        let _ = self.lanes[lane].ready.push(id);
    }

    pub(crate) fn wake(&self, lane: usize) {
        self.lanes[lane].waker.wake();
    }

    /// Closes a stream; `lane` is where it was last seen.
    pub(crate) fn close(&self, id: StreamId, lane: usize) {
        {
            let mut desk = self.desk();
            if let Some((place, phase)) = desk.places.remove(&id) {
                desk.admission.release(place);
                desk.phases[place.lane].release(phase);
            }
        }
        if !self.shut_down.load(Ordering::Acquire) {
            self.command(lane, Command::Close(id));
        }
    }

    /// Gives a command to a lane, waiting for room if there is none.
    fn command(&self, lane: usize, mut command: Command) {
        let port = &self.lanes[lane];
        while let Err(back) = port.commands.push(command) {
            if self.shut_down.load(Ordering::Acquire) && !matches!(back, Command::Stop) {
                return;
            }
            command = back;
            port.waker.wake();
            std::thread::yield_now();
        }
        port.waker.wake();
    }

    fn ask_lanes(&self, with_streams: bool) -> Vec<LaneAnswer> {
        let ask = |lane| {
            let (tell, told) = sync_channel(1);
            self.command(lane, Command::Report { with_streams, tell });
            told
        };
        let asked: Vec<_> = (0..self.lanes.len()).map(ask).collect();
        asked.into_iter().filter_map(|told| told.recv_timeout(Duration::from_secs(1)).ok()).collect()
    }

    fn loads(&self, into: &mut Vec<f64>) {
        into.clear();
        into.extend(self.lanes.iter().map(|port| f64::from_bits(port.load.load(Ordering::Relaxed))));
    }
}

/// The thread of one lane.
struct Driver {
    index: usize,
    lane: Lane,
    shared: Arc<Shared>,
    waiter: Waiter,
    move_limit: f64,
    loads: Vec<f64>,
    moved_at: Time,
    published_at: Time,
}

impl Driver {
    fn new(index: usize, config: &EngineConfig, shared: Arc<Shared>, waiter: Waiter) -> Self {
        let now = clock::now();
        Self {
            index,
            lane: Lane::new(config.max_streams_per_lane, config.step_down_load, config.step_up_load, now),
            loads: Vec::with_capacity(shared.lanes.len()),
            shared,
            waiter,
            move_limit: config.budget,
            moved_at: now,
            published_at: now,
        }
    }

    fn run(mut self) {
        loop {
            let woke = clock::now();
            let mut now = woke;
            loop {
                if !self.take_commands(now) {
                    return;
                }
                self.take_ready(now);
                while let Some(output) = self.lane.poll_departure(now) {
                    output.wake();
                    now = clock::now();
                }
                let Some(job) = self.lane.begin_job(now) else { break };
                now = clock::now();
                self.lane.end_job(job, now);
            }
            self.log_changes();
            self.give_away(now);
            now = clock::now();
            self.lane.handle_busy(now, now.since(woke));
            self.publish(now);
            let idle_look = now + MOVE_INTERVAL;
            let until = self.lane.next_timeout(now).unwrap_or(idle_look).min(idle_look);
            if let Err(error) = self.waiter.wait(Some(until)) {
                tracing::error!(%error, "a lane cannot sleep");
                std::thread::yield_now();
            }
        }
    }

    /// Tells the desk and the other lanes what there is to do here, a few times a second.
    fn publish(&mut self, now: Time) {
        if now.since(self.published_at) < PUBLISH_INTERVAL {
            return;
        }
        self.published_at = now;
        let port = &self.shared.lanes[self.index];
        port.load.store(self.lane.load().to_bits(), Ordering::Relaxed);
        port.wanted_load.store(self.lane.wanted_load().to_bits(), Ordering::Relaxed);
        port.streams.store(self.lane.len(), Ordering::Relaxed);
    }

    /// Carries out what was asked. `false` when it shall end.
    fn take_commands(&mut self, now: Time) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            match self.shared.lanes[self.index].commands.pop() {
                None => return true,
                Some(Command::Open(stream)) => {
                    let id = stream.id();
                    let is_closed = stream.signal().closed.load(Ordering::Acquire);
                    self.lane.open(stream, now);
                    if is_closed {
                        self.close(id);
                    }
                }
                Some(Command::Close(id)) => self.close(id),
                Some(Command::Report { with_streams, tell }) => {
                    let (streams, closed) =
                        if with_streams { self.lane.stream_reports(self.index) } else { Default::default() };
                    let lane = self.lane.report(self.index, clock::thread_cpu());
                    let _ = tell.try_send(LaneAnswer { lane, streams, closed });
                }
                Some(Command::Stop) => {
                    self.lane.close_all();
                    return false;
                }
            }
        }
        self.shared.lanes[self.index].waker.wake();
        true
    }

    /// Closes a stream. One that moved after its handle looked where it is, is closed where it went: the handle's
    /// mark goes with it, and the lane it comes to looks at it.
    fn close(&mut self, id: StreamId) {
        self.lane.close(id, self.index);
    }

    fn take_ready(&mut self, now: Time) {
        let ready = &self.shared.lanes[self.index].ready;
        for _ in 0..ready.len() {
            let Some(id) = ready.pop() else { break };
            self.lane.handle_ready(id, now);
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

    /// Moves a stream to another lane if this one is over budget and that one has room.
    fn give_away(&mut self, now: Time) {
        if self.shared.lanes.len() < 2 || now.since(self.moved_at) < MOVE_INTERVAL {
            return;
        }
        self.moved_at = now;
        self.shared.loads(&mut self.loads);
        let Some((id, target)) = self.lane.poll_move(self.index, &self.loads, self.move_limit) else {
            return;
        };
        let port = &self.shared.lanes[target];
        if port.commands.is_full() {
            return;
        }
        if let Some(stream) = self.lane.take(id) {
            stream.signal().lane.store(target, Ordering::Release);
            match port.commands.push(Command::Open(stream)) {
                Ok(()) => {
                    port.waker.wake();
                    // Where the desk has not asked for long, it believes an older place: no harm but to the balance.
                    let _ = self.shared.moves.push((id, target));
                }
                Err(Command::Open(stream)) => {
                    stream.signal().lane.store(self.index, Ordering::Release);
                    self.lane.open(stream, now);
                }
                Err(_) => {}
            }
        }
    }
}
