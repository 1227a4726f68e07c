//! `Engine` and its streams. Lanes code and seal on their own threads; what leaves them waits in one queue, and the event
//! loop is woken once for all that came since it was last there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use evenkeel_core::ladder::SinkCapability;
use evenkeel_core::pcm::{Format, SampleFormat};
use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
use evenkeel_core::units::SampleRate;
use evenkeel_engine::{EngineConfig, Output, Pacing, Packet, StreamConfig, StreamHandle, Work};
use napi::bindgen_prelude::{BufferSlice, Float64Array, Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Result, Status};
use napi_derive::napi;

use crate::fault::{Fault, Outcome};
use crate::js::{self, Pcm};
use crate::metrics::FrameStats;
use crate::options::Options;

/// Numbers a packet has in [`Batch::numbers`]: stream, ticket, bytes, whether it ends its push, sequence, timestamp, media
/// time, latency and departure error.
const NUMBERS: usize = 9;

/// The most packets handed over at once, so that other work of the event loop gets its turn.
const MAX_BATCH: usize = 1024;

/// An engine that all who hold it keep running, on whichever threads of JavaScript they are.
struct Shared {
    engine: evenkeel_engine::Engine,
    token: u64,
}

/// Engines by token, for other threads of JavaScript to find them.
static ENGINES: Mutex<BTreeMap<u64, Weak<Shared>>> = Mutex::new(BTreeMap::new());

impl Shared {
    fn start(config: EngineConfig) -> Outcome<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let token = NEXT.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Self { engine: evenkeel_engine::Engine::start(config)?, token });
        engines().insert(token, Arc::downgrade(&shared));
        Ok(shared)
    }

    fn find(token: u64) -> Outcome<Arc<Self>> {
        let found = engines().get(&token).and_then(Weak::upgrade);
        found.ok_or_else(|| Fault::closed("engine of this token"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        engines().remove(&self.token);
    }
}

fn engines() -> std::sync::MutexGuard<'static, BTreeMap<u64, Weak<Shared>>> {
    ENGINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls JavaScript from a lane, once for any number of packets.
struct Bell(ThreadsafeFunction<(), (), (), Status, false, true, 1>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Where it rings already, or nobody is there any more, there is nothing to be done.
        let _ = self.0.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Packets that came.
#[napi(object, object_from_js = false)]
pub struct Batch<'env> {
    /// Their datagrams, one behind the other.
    pub data: BufferSlice<'env>,
    /// Nine numbers a packet.
    pub numbers: Float64Array,
}

/// What one lane did.
#[napi(object, object_from_js = false)]
pub struct LaneStats {
    /// Streams on it.
    pub streams: u32,
    /// The share of its time it worked over about the last second.
    pub load: f64,
    /// The position of the ladder that it can carry, 0 the best.
    pub position: u32,
    /// CPU time used, in seconds.
    pub cpu_seconds: f64,
    /// Streams that moved away because it had too much to do.
    pub moved: f64,
}

/// What an engine did.
#[napi(object, object_from_js = false)]
pub struct EngineStats {
    /// Its lanes.
    pub lanes: Vec<LaneStats>,
    /// Streams open now.
    pub streams: u32,
    /// Streams opened so far.
    pub opened: f64,
    /// Streams refused because there was no room.
    pub refused: f64,
    /// Frames taken up.
    pub frames: f64,
    /// Packets that left.
    pub packets: f64,
    /// Frames dropped because a queue was full.
    pub dropped: f64,
    /// Frames and packets dropped because they were too late.
    pub late: f64,
    /// Packets dropped because they were not taken in time.
    pub output_dropped: f64,
    /// Changes of rung.
    pub rung_changes: f64,
    /// From the write of a frame until its packet left its lane.
    pub latency: FrameStats,
    /// Between when a packet should have left and when it did.
    pub departure: FrameStats,
}

/// What a stream did.
#[napi(object, object_from_js = false)]
pub struct StreamStats {
    /// The lane it is on.
    pub lane: u32,
    /// The rung it is on, `full/5` say.
    pub rung: String,
    /// Frames taken up.
    pub frames: f64,
    /// Packets that left.
    pub packets: f64,
    /// Bytes that left.
    pub bytes: f64,
    /// Frames dropped because its queue was full.
    pub dropped: f64,
    /// Frames and packets dropped because they were too late.
    pub late: f64,
    /// Frames with nothing to send (DTX).
    pub silent: f64,
    /// Frames that no rung could carry.
    pub muted: f64,
    /// Frames that a lower rung carried because the encoder failed.
    pub fallbacks: f64,
    /// Changes of rung.
    pub rung_changes: f64,
    /// Frames that wait.
    pub queued: u32,
    /// The key has sealed all it may: open a new stream with a new one.
    pub key_exhausted: bool,
    /// From when a frame could be taken up until it was worked on.
    pub processing: FrameStats,
    /// From the write of a frame until its packet left its lane.
    pub latency: FrameStats,
    /// Between when a packet should have left and when it did.
    pub departure: FrameStats,
}

/// Lanes, and the queue through which this thread of JavaScript gets what its streams give.
#[napi]
pub struct NativeEngine {
    /// In a cell, as an accessor among the options of a stream may close the engine that is about to open it.
    shared: RefCell<Option<Arc<Shared>>>,
    output: Output,
    bell: Waker,
    bytes: Vec<u8>,
    numbers: Vec<f64>,
}

#[napi]
impl NativeEngine {
    /// Starts lanes, or finds those of a token. `wake` is called when packets came, once [`NativeEngine::drain`] has said
    /// that there are none.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, options: Option<Unknown<'_>>, wake: Function<'_, (), ()>) -> Result<Self> {
        let found = || -> Outcome<(Arc<Shared>, Output)> {
            let options = Options::of(env, options)?;
            let output = Output::new(options.integer("queuePackets", 4096, 1, 1 << 20)? as usize);
            let token = options.number("token", 0.0, 0.0, 2f64.powi(53))?;
            let shared =
                if token == 0.0 { Shared::start(config(&options)?)? } else { Shared::find(token as u64)? };
            Ok((shared, output))
        };
        let (shared, output) = found().map_err(|fault| fault.throw(&env))?;
        let bell = wake.build_threadsafe_function().weak::<true>().max_queue_size::<1>().build()?;
        let bell = Waker::from(Arc::new(Bell(bell)));
        Ok(Self { shared: RefCell::new(Some(shared)), output, bell, bytes: Vec::new(), numbers: Vec::new() })
    }

    /// What finds the same engine in another thread.
    #[napi(catch_unwind)]
    pub fn token(&self, env: Env) -> Result<f64> {
        Ok(self.shared().map_err(|fault| fault.throw(&env))?.token as f64)
    }

    /// Opens a stream.
    #[napi(catch_unwind)]
    pub fn open(&self, env: Env, options: Option<Unknown<'_>>) -> Result<NativeStream> {
        let open = || -> Outcome<NativeStream> {
            let options = Options::of(env, options)?;
            let (config, keys) = (stream_config(&options)?, keys(&options)?);
            let connection_id = keys.connection_id();
            let sealer = sealer(&keys, &options)?;
            let refuses_non_finite = options.refuses_non_finite()?;
            let takes_opus = matches!(config.work, Work::Relay);
            // Only now that no JavaScript runs any more.
            let handle = self.shared()?.engine.open_answering(&config, sealer, &self.output)?;
            Ok(NativeStream { handle, connection_id, takes_opus, refuses_non_finite })
        };
        open().map_err(|fault| fault.throw(&env))
    }

    /// Takes what came; `null` if nothing did, and then `wake` is called when something does.
    #[napi(catch_unwind)]
    pub fn drain<'env>(&mut self, env: &'env Env) -> Result<Option<Batch<'env>>> {
        self.bytes.clear();
        self.numbers.clear();
        let first = self.output.poll_recv(&Context::from_waker(&self.bell));
        let Poll::Ready(Some(first)) = first else { return Ok(None) };
        self.add(first);
        while self.numbers.len() < MAX_BATCH * NUMBERS
            && let Some(packet) = self.output.try_recv()
        {
            self.add(packet);
        }
        Ok(Some(Batch {
            data: BufferSlice::copy_from(env, &self.bytes)?,
            numbers: Float64Array::with_data_copied(&self.numbers),
        }))
    }

    /// Packets dropped because this thread did not take them in time.
    #[napi(catch_unwind)]
    pub fn dropped(&self) -> f64 {
        self.output.dropped() as f64
    }

    /// What the engine did.
    #[napi(catch_unwind)]
    pub fn get_stats(&self, env: Env) -> Result<EngineStats> {
        let shared = self.shared().map_err(|fault| fault.throw(&env))?;
        let report = shared.engine.report();
        let lane = |lane: &evenkeel_engine::LaneReport| LaneStats {
            streams: lane.streams as u32,
            load: lane.load,
            position: lane.position as u32,
            cpu_seconds: lane.cpu_seconds,
            moved: lane.moved as f64,
        };
        let totals = &report.totals;
        Ok(EngineStats {
            lanes: report.lanes.iter().map(lane).collect(),
            streams: report.streams.len() as u32,
            opened: totals.streams as f64,
            refused: report.refused as f64,
            frames: totals.frames as f64,
            packets: totals.packets as f64,
            dropped: totals.dropped as f64,
            late: totals.late as f64,
            output_dropped: totals.output_dropped as f64,
            rung_changes: totals.rung_changes as f64,
            latency: FrameStats::of(&totals.latency),
            departure: FrameStats::of(&totals.departure),
        })
    }

    /// The same as text for Prometheus.
    #[napi(catch_unwind)]
    pub fn prometheus(&self, env: Env) -> Result<String> {
        Ok(self.shared().map_err(|fault| fault.throw(&env))?.engine.report().prometheus())
    }

    /// Leaves the lanes, which end when the last has left. Whether it was open.
    #[napi(catch_unwind)]
    pub fn close(&self) -> bool {
        self.shared.take().is_some()
    }

    fn shared(&self) -> Outcome<Arc<Shared>> {
        self.shared.borrow().clone().ok_or_else(|| Fault::closed("engine"))
    }

    fn add(&mut self, packet: Packet) {
        let header = packet.header;
        let departed = |since| packet.departed.signed_nanos_since(since) as f64 / 1e6;
        self.numbers.extend([
            packet.stream.0 as f64,
            packet.ticket as f64,
            if header.is_some() { packet.datagram.len() as f64 } else { 0.0 },
            f64::from(u8::from(packet.ends_push)),
            header.map_or(0.0, |header| header.sequence.into()),
            header.map_or(0.0, |header| header.timestamp.into()),
            packet.media_time.as_secs_f64() * 1e3,
            departed(packet.pushed_at),
            departed(packet.due),
        ]);
        if header.is_some() {
            self.bytes.extend_from_slice(&packet.datagram);
        }
        self.output.recycle(packet);
    }
}

/// A stream on an engine.
#[napi]
pub struct NativeStream {
    handle: StreamHandle,
    connection_id: u32,
    takes_opus: bool,
    refuses_non_finite: bool,
}

#[napi]
impl NativeStream {
    /// Its number among the engine's streams.
    #[napi(catch_unwind)]
    pub fn id(&self) -> f64 {
        self.handle.id().0 as f64
    }

    /// The connection id in its packets' headers.
    #[napi(catch_unwind)]
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// Hands a frame over to the lane. Returns its ticket.
    #[napi(catch_unwind)]
    pub fn write(&self, env: Env, frame: Unknown<'_>) -> Result<f64> {
        let write = || -> Outcome<u64> {
            if self.takes_opus {
                return Ok(self.handle.push_opus(&js::bytes(&env, &frame, "packet")?)?);
            }
            let frame: Pcm<'_> = js::pcm(&env, &frame, "frame")?;
            if self.refuses_non_finite {
                frame.check_finite()?;
            }
            Ok(self.handle.push(frame.samples())?)
        };
        write().map(|ticket| ticket as f64).map_err(|fault| fault.throw(&env))
    }

    /// When, in milliseconds within each frame period of the monotonic clock, the engine would like its frames.
    #[napi(catch_unwind)]
    pub fn phase(&self) -> f64 {
        self.handle.phase().as_secs_f64() * 1e3
    }

    /// What it did.
    #[napi(catch_unwind)]
    pub fn get_stats(&self) -> StreamStats {
        let report = self.handle.report();
        StreamStats {
            lane: report.lane as u32,
            rung: report.rung,
            frames: report.frames as f64,
            packets: report.packets as f64,
            bytes: report.bytes as f64,
            dropped: report.dropped as f64,
            late: report.late as f64,
            silent: report.silent as f64,
            muted: report.muted as f64,
            fallbacks: report.fallbacks as f64,
            rung_changes: report.rung_changes as f64,
            queued: report.queued as u32,
            key_exhausted: report.key_exhausted,
            processing: FrameStats::of(&report.processing),
            latency: FrameStats::of(&report.latency),
            departure: FrameStats::of(&report.departure),
        }
    }

    /// Closes it. Whether it was open.
    #[napi(catch_unwind)]
    pub fn close(&self) -> bool {
        self.handle.close()
    }
}

fn config(options: &Options<'_>) -> Outcome<EngineConfig> {
    let default = EngineConfig::default();
    Ok(EngineConfig {
        lanes: options.integer("lanes", default.lanes as u32, 1, 1024)? as usize,
        pin: options.boolean("pin", default.pin)?,
        realtime: options.boolean("realtime", default.realtime)?,
        budget: options.number("budget", default.budget, 0.1, 1.0)?,
        adapt: options.boolean("adapt", default.adapt)?,
        admission: options.boolean("admission", default.admission)?,
        allow_emergency: options.boolean("allowEmergency", default.allow_emergency)?,
        ..default
    })
}

fn stream_config(options: &Options<'_>) -> Outcome<StreamConfig> {
    let work = if options.boolean("relay", false)? { Work::Relay } else { transcode(options)? };
    let frame = options.frame()?;
    let base = StreamConfig { work, ..StreamConfig::relay(frame) };
    let is_paced = options.choice("pacing", true, &[("paced", true), ("immediate", false)])?;
    let lead = options.millis("leadMs", Pacing::DEFAULT_LEAD, 10_000.0)?;
    Ok(StreamConfig {
        pacing: if is_paced { Pacing::Paced { lead } } else { Pacing::Immediate },
        queue_frames: options.integer("queueFrames", base.queue_frames as u32, 1, 1024)? as usize,
        late_limit: options.millis("lateLimitMs", base.late_limit, 60_000.0)?,
        ..base
    })
}

fn transcode(options: &Options<'_>) -> Outcome<Work> {
    let rate = options.rate("inputRate", SampleRate::HZ_48000)?;
    let channels = options.channels()?;
    let sample = options.choice(
        "format",
        SampleFormat::F32,
        &[("f32", SampleFormat::F32), ("i16", SampleFormat::I16)],
    )?;
    let coded = options.rate("codedRate", if rate.is_opus() { rate } else { SampleRate::HZ_48000 })?;
    Ok(Work::Transcode {
        input: Format { rate, channels, sample },
        encoder: options.encoder(coded, channels)?,
        sink: SinkCapability { pcm: options.boolean("pcm", false)?, clear: options.boolean("clear", false)? },
    })
}

fn keys(options: &Options<'_>) -> Outcome<SessionKeys> {
    let Some(key) = options.bytes("key")? else {
        return Err(Fault::wrong_type("key must be a Buffer of 16 or 32 bytes"));
    };
    let suites = Suite::ALL.map(|suite| (suite.name(), suite));
    let default = if key.len() == 32 { Suite::Aes256Ctr } else { Suite::Aes128Ctr };
    let suite = options.choice("encryption", default, &suites)?;
    let connection_id = options.integer("connectionId", random()?, 0, u32::MAX)?;
    let session = options.text("sessionId")?.unwrap_or_default();
    Ok(SessionKeys::new(suite, &key, connection_id, session.as_bytes())?)
}

fn sealer(keys: &SessionKeys, options: &Options<'_>) -> Outcome<Sealer> {
    let directions = [("downlink", Direction::Downlink), ("uplink", Direction::Uplink)];
    let direction = options.choice("direction", Direction::Downlink, &directions)?;
    Ok(Sealer::new(keys, direction, options.integer("timestampStart", random()?, 0, u32::MAX)?))
}

fn random() -> Outcome<u32> {
    getrandom::u32().map_err(Fault::system)
}
