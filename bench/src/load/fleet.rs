//! The streams of a load, and the thread that plays their sources.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::error::ConfigError;
use evenkeel_core::ladder::SinkCapability;
use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::seal::{Direction, Sealer, SessionKeys};
use evenkeel_core::stats::Histogram;
use evenkeel_core::units::{Channels, Time};
use evenkeel_engine::{Engine, Output, Pacing, StreamConfig, StreamHandle, Totals, Work};
use evenkeel_sys::clock;
use evenkeel_sys::wait::Waiter;

use super::material::{Material, encoder_config};
use super::{Kind, LoadConfig, LoadError, Tick};

/// Packets that may wait for the drain: what many thousand streams make between two of them.
const OUTPUT: usize = 16_384;

/// The real-time priority of the thread that plays the sources: one above the lanes'.
const SOURCE_PRIORITY: u8 = 2;

/// How often what came out is drained, and how often progress is told.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// An engine with streams, driven from the calling thread.
pub(super) struct Fleet<'a> {
    config: &'a LoadConfig,
    material: Material,
    engine: Arc<Engine>,
    output: Output,
    members: Vec<Member>,
    /// When each member pushes next.
    schedule: BinaryHeap<Reverse<(Time, usize)>>,
    waiter: Waiter,
    source_late: Histogram,
    began: Time,
    opened: usize,
}

struct Member {
    handle: Option<StreamHandle>,
    frame: usize,
    /// Whether it is in the schedule, which it leaves a frame after it was closed.
    scheduled: bool,
}

impl<'a> Fleet<'a> {
    pub(super) fn start(config: &'a LoadConfig, material: Material) -> Result<Self, LoadError> {
        let engine = Arc::new(Engine::start(config.engine.clone())?);
        // Frames come when they come: as interrupts do, the source goes before the lanes. Where that is not allowed, it
        // is late itself, which the report tells.
        let _ = evenkeel_sys::thread::raise_current(SOURCE_PRIORITY);
        let waiter = Waiter::new().map_err(evenkeel_engine::StartError::from)?;
        Ok(Self {
            config,
            material,
            engine,
            output: Output::new(OUTPUT),
            members: Vec::new(),
            schedule: BinaryHeap::new(),
            waiter,
            source_late: Histogram::new(),
            began: clock::now(),
            opened: 0,
        })
    }

    /// Opens more streams. They begin when the fleet is next driven, each at its phase.
    pub(super) fn open(&mut self, count: usize) -> Result<(), LoadError> {
        let config = self.stream_config();
        for _ in 0..count {
            self.opened += 1;
            let sealer = self.sealer()?;
            let number = self.opened;
            let handle = self
                .engine
                .open(&config, sealer, &self.output)
                .map_err(|error| LoadError::Open { number, error })?;
            let member = Member { handle: Some(handle), frame: number * 37, scheduled: false };
            // In the place of one that is gone, so that the fleet does not grow with those that come and go.
            match self.members.iter_mut().find(|member| member.handle.is_none() && !member.scheduled) {
                Some(free) => *free = member,
                None => self.members.push(member),
            }
        }
        Ok(())
    }

    /// Closes the streams opened last.
    pub(super) fn close(&mut self, count: usize) {
        let open = self.members.iter_mut().rev().filter(|member| member.handle.is_some());
        open.take(count).for_each(|member| member.handle = None);
    }

    /// Closes `count` streams, a different part of the fleet each `turn`.
    pub(super) fn close_some(&mut self, count: usize, turn: usize) {
        let members = self.members.len().max(1);
        for i in 0..count.min(members) {
            self.members[(turn * count + i) % members].handle = None;
        }
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.members.iter().filter(|member| member.handle.is_some()).count()
    }

    fn stream_config(&self) -> StreamConfig {
        let work = match self.config.kind {
            Kind::Transcode { rate, complexity } => Work::Transcode {
                input: Format { rate, channels: Channels::Mono, sample: SampleFormat::F32 },
                encoder: encoder_config(rate, complexity),
                sink: SinkCapability::default(),
            },
            Kind::Relay => Work::Relay,
        };
        StreamConfig { work, pacing: Pacing::default(), ..StreamConfig::relay(self.config.frame) }
    }

    fn sealer(&self) -> Result<Sealer, ConfigError> {
        let key = [7; 32];
        let key = &key[..self.config.suite.key_len()];
        let keys = SessionKeys::new(self.config.suite, key, self.opened as u32, b"load")?;
        Ok(Sealer::new(&keys, Direction::Downlink, self.opened as u32))
    }

    /// Gives those that have none the first moment from now at which their phase comes round.
    fn schedule_new(&mut self) {
        let period = self.period();
        let start = clock::now().as_nanos().next_multiple_of(period);
        for (index, member) in self.members.iter_mut().enumerate() {
            if let (Some(handle), false) = (&member.handle, member.scheduled) {
                let first = Time::from_nanos(start) + handle.phase();
                self.schedule.push(Reverse((first, index)));
                member.scheduled = true;
            }
        }
    }

    fn period(&self) -> u64 {
        self.config.frame.as_duration().as_nanos() as u64
    }

    /// Plays the sources for `duration`; `observe` hears of it.
    pub(super) fn drive(&mut self, duration: Duration, mut observe: impl FnMut(Tick)) {
        self.schedule_new();
        let until = clock::now() + duration;
        let (mut drain_at, mut tick_at) = (clock::now(), clock::now());
        loop {
            let now = clock::now();
            if now >= until {
                break;
            }
            self.push_due(now);
            if now >= drain_at {
                drain_at = now + DRAIN_INTERVAL;
                self.drain();
            }
            if now >= tick_at {
                tick_at = now + TICK_INTERVAL;
                observe(self.tick(now));
            }
            // It drains and tells when it is awake anyway: each wake-up counts as a cost of the load.
            let next = self.schedule.peek().map_or(drain_at, |Reverse((at, _))| *at);
            // Nothing ends this wait but time; that it may end early does no harm.
            let _ = self.waiter.wait(Some(next.min(until)));
        }
        self.drain();
    }

    fn push_due(&mut self, now: Time) {
        let period = Duration::from_nanos(self.period());
        let mut batch = self.engine.batch();
        while let Some(&Reverse((at, index))) = self.schedule.peek() {
            if at > now {
                break;
            }
            self.schedule.pop();
            let member = &mut self.members[index];
            let Some(handle) = &member.handle else {
                member.scheduled = false;
                continue;
            };
            let frame = member.frame % self.material.frames();
            // A push fails only once its stream is closed.
            let _ = match &self.material {
                Material::Pcm { .. } => batch.push(handle, Samples::F32(self.material.pcm(frame))),
                Material::Opus(packets) => batch.push_opus(handle, &packets[frame]),
            };
            member.frame += 1;
            self.source_late.record(clock::now().since(at).as_nanos() as u64);
            self.schedule.push(Reverse((at + period, index)));
        }
    }

    fn drain(&mut self) {
        while let Some(packet) = self.output.try_recv() {
            self.output.recycle(packet);
        }
    }

    fn tick(&self, now: Time) -> Tick {
        let lanes = self.engine.lane_reports();
        Tick {
            at: now.since(self.began).as_secs_f64(),
            streams: self.streams(),
            loads: lanes.iter().map(|lane| lane.load).collect(),
            positions: lanes.iter().map(|lane| lane.position).collect(),
        }
    }

    /// For another thread to look at all streams, which takes longer than a source may be late.
    pub(super) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }

    pub(super) const fn source_late(&self) -> &Histogram {
        &self.source_late
    }

    /// Ends it: the totals, streams moved, streams refused, and the material back.
    pub(super) fn finish(mut self) -> (Totals, u64, u64, Material) {
        let report = self.engine.report();
        self.members.clear();
        let moved = report.lanes.iter().map(|lane| lane.moved).sum();
        if let Some(engine) = Arc::into_inner(self.engine) {
            engine.shut_down();
        }
        (report.totals, moved, report.refused, self.material)
    }
}
