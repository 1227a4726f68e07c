//! One stream as a lane sees it: frames in, work on them, packets out at their deadlines. Knows no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::SenderError;
use evenkeel_core::ladder::{Change, Controller, Rung};
use evenkeel_core::packet::Header;
use evenkeel_core::pcm::Samples;
use evenkeel_core::relay::DownRelay;
use evenkeel_core::seal::Sealed;
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{FrameDuration, Time};

use crate::conduit::Conduit;
use crate::config::Pacing;
use crate::handle::Signal;
use crate::metrics::StreamFigures;
use crate::plan::Cost;

/// Names a stream, for as long as the engine lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A frame on its way to a lane.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) data: FrameData,
    pub(crate) pushed_at: Time,
    pub(crate) ticket: u64,
}

/// What was pushed. The buffers are reused.
#[derive(Debug, Default)]
pub(crate) enum FrameData {
    #[default]
    Empty,
    F32(Vec<f32>),
    I16(Vec<i16>),
    Opus(Vec<u8>),
}

impl FrameData {
    /// Copies samples in, into the buffer that is there if it is of their kind.
    pub(crate) fn fill(&mut self, samples: Samples<'_>) {
        match (&mut *self, samples) {
            (Self::F32(buffer), Samples::F32(samples)) => refill(buffer, samples),
            (Self::I16(buffer), Samples::I16(samples)) => refill(buffer, samples),
            (_, Samples::F32(samples)) => *self = Self::F32(samples.to_vec()),
            (_, Samples::I16(samples)) => *self = Self::I16(samples.to_vec()),
        }
    }

    /// Copies an Opus packet in.
    pub(crate) fn fill_opus(&mut self, packet: &[u8]) {
        match self {
            Self::Opus(buffer) => refill(buffer, packet),
            _ => *self = Self::Opus(packet.to_vec()),
        }
    }
}

fn refill<T: Copy>(buffer: &mut Vec<T>, data: &[T]) {
    buffer.clear();
    buffer.extend_from_slice(data);
}

/// A packet on its way out of a lane.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    /// Whose packet it is.
    pub stream: StreamId,
    /// The ticket of the push that completed it.
    pub ticket: u64,
    /// The whole sealed datagram. Empty where the frame needs no packet (DTX, muted) and every push is answered.
    pub datagram: Vec<u8>,
    /// Its header, if there is a datagram.
    pub header: Option<Header>,
    /// Media time of its first sample since the stream began.
    pub media_time: Duration,
    /// How long it lasts.
    pub duration: Duration,
    /// When the frame that completed it was pushed.
    pub pushed_at: Time,
    /// When it should have left.
    pub due: Time,
    /// When it left.
    pub departed: Time,
}

/// The codec chain of a stream.
pub(crate) enum Chain {
    Transcode(Box<Sender<Box<dyn Encoder + Send>>>),
    Relay(Box<DownRelay>),
}

/// Everything needed to put a stream on a lane.
pub(crate) struct StreamParts {
    pub(crate) id: StreamId,
    pub(crate) input: Arc<Conduit<Frame>>,
    pub(crate) output: Arc<Conduit<Packet>>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) chain: Chain,
    pub(crate) controller: Option<Controller>,
    pub(crate) frame: FrameDuration,
    pub(crate) pacing: Pacing,
    pub(crate) late_limit: Duration,
    /// Whether every push is answered, even if there is nothing to send.
    pub(crate) answers_every_push: bool,
    pub(crate) cost: Cost,
}

/// A stream with all its state. Moves between lanes as a whole.
pub(crate) struct Stream {
    parts: StreamParts,
    /// When media time zero is due; known from the first packet on.
    anchor: Option<Time>,
    slack: Slack,
    /// Media time of the next frame: where the chain's own clock stands.
    media: Duration,
    ready: VecDeque<Packet>,
    spare: Vec<Packet>,
    pub(crate) figures: StreamFigures,
    /// Whether a lane has an entry for it among its jobs.
    pub(crate) job_queued: bool,
}

/// How many ready packets may wait for their deadlines before no more frames are coded.
const READY_LIMIT: usize = 8;

impl Stream {
    pub(crate) fn new(parts: StreamParts) -> Self {
        Self {
            parts,
            anchor: None,
            slack: Slack::default(),
            media: Duration::ZERO,
            ready: VecDeque::with_capacity(READY_LIMIT),
            spare: Vec::with_capacity(READY_LIMIT),
            figures: StreamFigures::default(),
            job_queued: false,
        }
    }

    pub(crate) const fn id(&self) -> StreamId {
        self.parts.id
    }

    pub(crate) const fn signal(&self) -> &Arc<Signal> {
        &self.parts.signal
    }

    /// Frames that come from here on are to be told anew.
    pub(crate) fn hear(&self) {
        self.parts.signal.told.store(false, Ordering::SeqCst);
    }

    pub(crate) const fn output(&self) -> &Arc<Conduit<Packet>> {
        &self.parts.output
    }

    /// Whether there is a frame to work on and room for what becomes of it.
    pub(crate) fn has_work(&self) -> bool {
        self.ready.len() < READY_LIMIT && !self.parts.input.is_empty()
    }

    /// When what is made of the next frame should leave, roughly: what jobs are ordered by.
    pub(crate) fn deadline(&self, now: Time) -> Time {
        match (self.parts.pacing, self.anchor) {
            (Pacing::Paced { .. }, Some(anchor)) => anchor + self.media,
            (Pacing::Paced { lead }, None) => now + lead,
            (Pacing::Immediate, _) => now,
        }
    }

    /// When the next ready packet is due.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.ready.front().map(|packet| packet.due)
    }

    /// What one frame costs on the present rung, as a share of a lane.
    pub(crate) fn load(&self) -> f64 {
        self.parts.cost.nanos() / self.frame_nanos()
    }

    /// The same on the rung at `position` of its ladder.
    pub(crate) fn load_at(&self, position: usize) -> f64 {
        let Some(controller) = &self.parts.controller else { return self.load() };
        let position = position.min(controller.ladder().last());
        self.parts.cost.at(controller.rung(), controller.ladder().get(position)) / self.frame_nanos()
    }

    fn frame_nanos(&self) -> f64 {
        self.parts.frame.as_duration().as_nanos() as f64
    }

    pub(crate) fn cost_nanos(&self) -> f64 {
        self.parts.cost.nanos()
    }

    /// Works on the next frame: codes it, or drops it if it is too late. Returns whether there was one, and when it
    /// was pushed.
    pub(crate) fn work(&mut self, now: Time) -> Option<Time> {
        let frame = self.parts.input.pop()?;
        let pushed_at = frame.pushed_at;
        self.figures.frames += 1;
        if now.since(pushed_at) > self.parts.late_limit {
            self.figures.late += 1;
            self.skip();
        } else {
            self.code(&frame, now);
        }
        self.parts.input.recycle(frame);
        Some(pushed_at)
    }

    fn skip(&mut self) {
        let gap = self.parts.frame.as_duration();
        match &mut self.parts.chain {
            Chain::Transcode(sender) => {
                sender.skip(gap);
                self.media += gap;
            }
            // A relayed packet lasts as long as it says; what is missing shows in the schedule, which is laid anew.
            Chain::Relay(_) => {}
        }
    }

    fn code(&mut self, frame: &Frame, now: Time) {
        let mut schedule = Schedule {
            id: self.parts.id,
            pacing: self.parts.pacing,
            anchor: self.anchor,
            slack: &mut self.slack,
            ready: &mut self.ready,
            spare: &mut self.spare,
            figures: &mut self.figures,
            frame,
            now,
            made: 0,
        };
        let result = match (&mut self.parts.chain, &frame.data) {
            (Chain::Transcode(sender), FrameData::F32(samples)) => {
                sender.push(Samples::F32(samples), |sealed| schedule.add(sealed))
            }
            (Chain::Transcode(sender), FrameData::I16(samples)) => {
                sender.push(Samples::I16(samples), |sealed| schedule.add(sealed))
            }
            (Chain::Relay(relay), FrameData::Opus(packet)) => {
                relay.push(packet, |sealed| schedule.add(sealed)).map_err(|error| {
                    schedule.figures.refused += 1;
                    match error {
                        evenkeel_core::error::RelayError::Seal(error) => SenderError::Seal(error),
                        _ => SenderError::Buffer(evenkeel_core::error::BufferError::PartialFrame {
                            samples: 0,
                        }),
                    }
                })
            }
            // A handle gives only what its stream takes.
            _ => Ok(()),
        };
        if schedule.made == 0 && self.parts.answers_every_push {
            schedule.answer();
        }
        self.anchor = schedule.anchor;
        if let Err(SenderError::Seal(_)) = result {
            self.figures.key_exhausted = true;
        }
        match &self.parts.chain {
            Chain::Transcode(sender) => {
                self.media += self.parts.frame.as_duration();
                let counters = sender.counters();
                self.figures.fallbacks = counters.fallbacks;
                self.figures.silent = counters.silent;
                self.figures.muted = counters.muted;
            }
            Chain::Relay(relay) => self.media = relay.media(),
        }
    }

    /// Takes what the job for a frame pushed at `pushed_at` cost, and the position that the lane can carry. Returns
    /// the change of rung, if there is one.
    pub(crate) fn finish(
        &mut self,
        pushed_at: Time,
        cost: Duration,
        now: Time,
        lane_position: usize,
    ) -> Option<Change> {
        self.parts.cost.record(cost);
        let took = now.since(pushed_at);
        self.figures.processing.record(took.as_nanos() as u64);
        let controller = self.parts.controller.as_mut()?;
        let change = controller.handle_frame(now, took, lane_position);
        self.apply(change)
    }

    /// Takes a new plan of the lane between frames.
    pub(crate) fn replan(&mut self, now: Time, lane_position: usize) -> Option<Change> {
        let change = self.parts.controller.as_mut()?.handle_plan(now, lane_position);
        self.apply(change)
    }

    fn apply(&mut self, change: Option<Change>) -> Option<Change> {
        let (change, controller) = (change?, self.parts.controller.as_ref()?);
        let ladder = controller.ladder();
        self.parts.cost.rescale(ladder.get(change.from), ladder.get(change.to));
        self.figures.rung_changes += 1;
        if let Chain::Transcode(sender) = &mut self.parts.chain {
            sender.set_position(change.to);
        }
        Some(change)
    }

    /// The rung it is on; a relay has none.
    pub(crate) fn rung(&self) -> Option<Rung> {
        match &self.parts.chain {
            Chain::Transcode(sender) => Some(sender.ladder().get(sender.position())),
            Chain::Relay(_) => None,
        }
    }

    /// The position in its ladder.
    pub(crate) fn position(&self) -> usize {
        self.parts.controller.as_ref().map_or(0, Controller::position)
    }

    /// Takes the next packet if it is due, marks its departure, and hands it to the stream's output. A packet that
    /// is too late is dropped and counted instead.
    pub(crate) fn depart(&mut self, now: Time) {
        let Some(mut packet) = self.ready.pop_front() else { return };
        let error = now.since(packet.due);
        if error > self.parts.late_limit {
            self.figures.late += 1;
        } else {
            packet.departed = now;
            if matches!(self.parts.pacing, Pacing::Paced { .. }) {
                let early = packet.due.since(now);
                self.figures.departure.record(error.max(early).as_nanos() as u64);
            }
            self.figures.latency.record(now.since(packet.pushed_at).as_nanos() as u64);
            self.figures.packets += u64::from(packet.header.is_some());
            self.figures.bytes += packet.datagram.len() as u64;
            let displaced = self.parts.output.push(|slot| std::mem::swap(slot, &mut packet));
            self.figures.output_dropped += u64::from(displaced);
        }
        if self.spare.len() < READY_LIMIT {
            self.spare.push(packet);
        }
    }

    /// Frames that were dropped because the input queue was full, and how many wait.
    pub(crate) fn input_figures(&self) -> (u64, usize) {
        (self.parts.input.displaced(), self.parts.input.len())
    }

    /// Nothing more will come out.
    pub(crate) fn close(&self) {
        self.parts.signal.closed.store(true, Ordering::Release);
        if self.parts.answers_every_push {
            self.parts.output.close();
        }
    }
}

/// Gives each packet of a frame its deadline.
struct Schedule<'a> {
    id: StreamId,
    pacing: Pacing,
    anchor: Option<Time>,
    slack: &'a mut Slack,
    ready: &'a mut VecDeque<Packet>,
    spare: &'a mut Vec<Packet>,
    figures: &'a mut StreamFigures,
    frame: &'a Frame,
    now: Time,
    made: usize,
}

impl Schedule<'_> {
    fn add(&mut self, sealed: Sealed<'_>) {
        let due = self.due(sealed.media_time);
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.datagram.clear();
        packet.datagram.extend_from_slice(sealed.datagram);
        packet.header = Some(sealed.header);
        packet.media_time = sealed.media_time;
        packet.duration = sealed.duration;
        self.enqueue(packet, due);
    }

    /// Answers a push of which nothing is sent.
    fn answer(&mut self) {
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.datagram.clear();
        packet.header = None;
        packet.duration = Duration::ZERO;
        self.enqueue(packet, self.now);
    }

    fn enqueue(&mut self, mut packet: Packet, due: Time) {
        packet.stream = self.id;
        packet.ticket = self.frame.ticket;
        packet.pushed_at = self.frame.pushed_at;
        packet.due = due;
        self.ready.push_back(packet);
        self.made += 1;
    }

    /// Deadlines are a frame apart from the first on, by the stream's media clock. A source that pauses, or is slower
    /// than real time, pushes a frame too late for its deadline: the schedule is laid anew from there. One that is
    /// faster, or recovered from a delay, pushes all its frames early: the schedule follows it back to the lead.
    fn due(&mut self, media_time: Duration) -> Time {
        let Pacing::Paced { lead } = self.pacing else { return self.now };
        let Some(anchor) = self.anchor else {
            let due = self.frame.pushed_at + lead;
            self.anchor = Some(due - media_time);
            return due;
        };
        let (due, needed) = (anchor + media_time, self.frame.pushed_at + lead / 2);
        if due < needed {
            self.figures.underruns += 1;
            self.anchor = Some(needed - media_time);
            *self.slack = Slack::default();
            return needed;
        }
        if let Some(unused) = self.slack.record(due.since(self.frame.pushed_at + lead)) {
            self.anchor = Some(anchor - unused);
        }
        due
    }
}

/// How much earlier than needed the frames of a stream are pushed.
#[derive(Debug, Default)]
struct Slack {
    least: Option<Duration>,
    seen: u32,
}

impl Slack {
    /// Over how many frames the least counts.
    const SPAN: u32 = 10;

    /// The least of the last span, at its end, if it is worth a change of the schedule.
    fn record(&mut self, slack: Duration) -> Option<Duration> {
        let least = self.least.map_or(slack, |least| least.min(slack));
        (self.least, self.seen) = (Some(least), self.seen + 1);
        if self.seen < Self::SPAN {
            return None;
        }
        *self = Self::default();
        (least > Duration::from_micros(50)).then_some(least)
    }
}
