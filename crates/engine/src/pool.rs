//! The engine: its lanes' threads, and the front desk where streams are opened and closed.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::ConfigError;
use evenkeel_core::ladder::{Controller, Ladder};
use evenkeel_core::relay::DownRelay;
use evenkeel_core::seal::Sealer;
use evenkeel_core::sender::Sender;
use evenkeel_opus::OpusEncoder;
use evenkeel_sys::thread::{Grant, Granted, MediaThread, allowed_cores, spawn};
use evenkeel_sys::wait::Waiter;
use thiserror::Error;

use crate::admission::Refused;
use crate::calibrate::Calibration;
use crate::config::{EngineConfig, Pacing, StreamConfig, Work};
use crate::desk::Desk;
use crate::driver::Driver;
use crate::handle::{Accepts, Batch, Output, Requester, StreamHandle};
use crate::lane::end;
use crate::link::Link;
use crate::lock::lock;
use crate::metrics::{LaneReport, Report};
use crate::plan::Cost;
use crate::port::Port;
use crate::stream::{Answers, Chain, Stream, StreamParts};

/// The real-time priority asked for: above every normal thread, below all that others ask for.
const PRIORITY: u8 = 1;

/// Packets that the output of a requester holds: all that one frame may become, and what was given up before.
const REQUEST_PACKETS: usize = 128;

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
    /// A relay was given an encoder.
    #[error("a relay does not code; open it without an encoder")]
    RelayWithEncoder,
    /// A lane has taken in none of the last `waiting` streams.
    #[error("lane {lane} does not get to the {waiting} streams that wait for it; an encoder in it blocks")]
    Unresponsive {
        /// Which lane.
        lane: usize,
        /// Streams that wait for it.
        waiting: usize,
    },
}

/// Many streams on few threads. Shut down when dropped; handles that are left then only say that they are closed.
pub struct Engine {
    config: EngineConfig,
    shared: Arc<Shared>,
    calibration: Mutex<Calibration>,
    refused: AtomicU64,
    threads: Vec<JoinHandle<()>>,
    granted: Vec<Granted>,
}

/// What handles and lanes share.
pub(crate) struct Shared {
    pub(crate) ports: Vec<Port>,
    desk: Mutex<Desk>,
    shut_down: AtomicBool,
}

/// How many slots a lane has: twice what it may carry, as streams that are closed leave theirs a little later.
pub(crate) const fn slots(config: &EngineConfig) -> usize {
    2 * config.max_streams_per_lane + 64
}

impl Engine {
    /// Starts the lanes.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: EngineConfig) -> Result<Self, StartError> {
        config.check()?;
        let waiters = (0..config.lanes).map(|_| Waiter::new()).collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            ports: waiters.iter().map(|waiter| Port::new(slots(&config), waiter.waker())).collect(),
            desk: Mutex::new(Desk::new(&config)),
            shut_down: AtomicBool::new(false),
        });
        let cores = allowed_cores();
        let mut engine = Self {
            config,
            shared,
            calibration: Mutex::default(),
            refused: AtomicU64::new(0),
            threads: Vec::new(),
            granted: Vec::new(),
        };
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
        self.place(config, None, sealer, output, Answers::Packets)
    }

    /// As [`Engine::open`], but every frame that is taken up is answered: its last packet says
    /// [`Packet::ends_push`](crate::Packet::ends_push), and where there is nothing to send, or what there was is behind
    /// already, a packet without a datagram does. For callers who wait for what becomes of a frame, and cannot block as
    /// [`Requester`] does.
    ///
    /// A frame that is dropped, because the queue was full or it was too late, is not answered.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_answering(
        &self,
        config: &StreamConfig,
        sealer: Sealer,
        output: &Output,
    ) -> Result<StreamHandle, OpenError> {
        self.place(config, None, sealer, output, Answers::EveryPush)
    }

    /// Begins a batch of pushes that wakes each lane once.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { shared: &self.shared, lanes: vec![false; self.shared.ports.len()] }
    }

    /// Opens a stream in request form: see [`Requester`]. Its packets leave at once, whatever the pacing asked for, and
    /// its frames are late after `limit`, which is a minute at most.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_requester(
        &self,
        config: &StreamConfig,
        sealer: Sealer,
        limit: Duration,
    ) -> Result<Requester, OpenError> {
        let config = StreamConfig { pacing: Pacing::Immediate, late_limit: limit, ..config.clone() };
        let output = Output::new(REQUEST_PACKETS);
        let handle = self.place(&config, None, sealer, &output, Answers::EveryPushAndTheEnd)?;
        Ok(Requester { handle, output, limit })
    }

    /// Opens a stream that codes with an encoder of the caller's, in the place of libopus. The encoder settings of
    /// `config` say only what its complexity is, and what it is expected to cost until it was measured.
    ///
    /// The encoder runs in a lane. If it fails, a lower rung carries the frame; if it panics, its stream is closed; while
    /// it blocks, it blocks the lane.
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
        self.place(config, Some(encoder), sealer, output, Answers::Packets)
    }

    fn place(
        &self,
        config: &StreamConfig,
        encoder: Option<Box<dyn Encoder + Send>>,
        sealer: Sealer,
        output: &Output,
        answers: Answers,
    ) -> Result<StreamHandle, OpenError> {
        config.check()?;
        let (chain, controller, accepts) = self.build(config, encoder, sealer)?;
        let cost = lock(&self.calibration).cost(config)?;
        let (link, phase) = {
            let mut desk = lock(&self.shared.desk);
            desk.refresh(&self.shared.ports);
            desk.admit(cost, config.frame, config.queue_frames, !self.config.admission).inspect_err(|_| {
                self.refused.fetch_add(1, Ordering::Relaxed);
            })?
        };
        let stream = Box::new(Stream::new(StreamParts {
            link: Arc::clone(&link),
            output: Arc::clone(&output.queue),
            cost: Cost::estimate(cost, controller.as_ref().map(Controller::ladder)),
            chain,
            controller,
            frame: config.frame,
            pacing: config.pacing,
            late_limit: config.late_limit,
            answers,
        }));
        let (lane, _) = link.seat();
        let port = &self.shared.ports[lane];
        if let Err(stream) = port.arrivals.push(stream) {
            end(stream);
            self.shared.close(&link);
            return Err(OpenError::Unresponsive { lane, waiting: slots(&self.config) });
        }
        port.waker.wake();
        Ok(StreamHandle { shared: Arc::clone(&self.shared), link, accepts, phase: phase.offset() })
    }

    fn build(
        &self,
        config: &StreamConfig,
        encoder: Option<Box<dyn Encoder + Send>>,
        sealer: Sealer,
    ) -> Result<(Chain, Option<Controller>, Accepts), OpenError> {
        match (&config.work, encoder) {
            (Work::Transcode { input, encoder: asked, sink }, encoder) => {
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    None => Box::new(OpusEncoder::new(*asked)?),
                };
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
            (Work::Relay, None) => {
                Ok((Chain::Relay(Box::new(DownRelay::new(config.frame, sealer))), None, Accepts::Opus))
            }
            (Work::Relay, Some(_)) => Err(OpenError::RelayWithEncoder),
        }
    }

    /// What all lanes and streams tell of themselves. Lanes do not hear of it.
    #[must_use]
    pub fn report(&self) -> Report {
        let books = lock(&self.shared.desk).books();
        let mut totals = books.closed;
        books.closing.iter().for_each(|link| totals.add(&link.report()));
        let mut streams: Vec<_> = books.open.iter().map(|link| link.report()).collect();
        streams.iter().for_each(|stream| totals.add(stream));
        streams.sort_by_key(|stream| stream.id);
        let refused = self.refused.load(Ordering::Relaxed);
        Report { lanes: self.lane_reports(), streams, refused, totals }
    }

    /// What all lanes tell of themselves; cheaper than [`Engine::report`].
    #[must_use]
    pub fn lane_reports(&self) -> Vec<LaneReport> {
        self.shared.ports.iter().enumerate().map(|(lane, port)| port.figures.report(lane)).collect()
    }

    /// Closes every stream and ends the lanes.
    pub fn shut_down(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.shut_down.store(true, Ordering::Release);
        self.shared.ports.iter().for_each(|port| port.waker.wake());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a lane panicked; this is a bug");
            }
        }
        // Streams that were on their way from one lane to another.
        for port in &self.shared.ports {
            while let Some(stream) = port.arrivals.try_pop() {
                end(stream);
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
        f.debug_struct("Shared").field("lanes", &self.ports.len()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }

    /// Notes for the lane of a stream that it got a frame or was closed. Returns the lane, which has to be woken.
    pub(crate) fn tell(&self, link: &Link) -> usize {
        let (lane, slot) = link.seat();
        if let Some(slot) = slot {
            self.ports[lane].notes.add(slot);
        }
        lane
    }

    pub(crate) fn wake(&self, lane: usize) {
        self.ports[lane].waker.wake();
    }

    /// Closes a stream, which was marked as closed.
    pub(crate) fn close(&self, link: &Link) {
        lock(&self.desk).release(link.id());
        self.wake(self.tell(link));
    }
}
