//! One stream within its lane: frames in, packets out at their deadlines. Knows no clock.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::{RelayError, SealError, SenderError};
use evenkeel_core::framing::Frames;
use evenkeel_core::ladder::{Change, Controller, Rung};
use evenkeel_core::packet::Header;
use evenkeel_core::pcm::Samples;
use evenkeel_core::relay::DownRelay;
use evenkeel_core::seal::Sealed;
use evenkeel_core::sender::Sender;
use evenkeel_core::stats::Window;
use evenkeel_core::units::{FrameDuration, Time};

use crate::config::Pacing;
use crate::frames::{Frame, FrameData};
use crate::link::Link;
use crate::outlet::Outlet;
use crate::plan::{Cost, Loads};
use crate::schedule::Schedule;

/// Names a stream, for as long as the engine lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A packet on its way out of a lane.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    /// Whose packet it is.
    pub stream: StreamId,
    /// The ticket of the push that completed it.
    pub ticket: u64,
    /// The whole sealed datagram.
    pub datagram: Vec<u8>,
    /// Its header.
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
    /// Where every push is answered ([`Engine::open_answering`](crate::Engine::open_answering)): whether it is the last
    /// that the push completed. It may then be without a datagram and a header.
    pub ends_push: bool,
}

/// What a stream's output gets beside its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Nothing.
    Packets,
    /// An answer to every push, even if there is nothing to send.
    EveryPush,
    /// That, and its end when the stream ends: the output is the stream's alone.
    EveryPushAndTheEnd,
}

/// The codec chain of a stream.
pub(crate) enum Chain {
    Transcode(Box<Sender<Box<dyn Encoder + Send>>>),
    Relay(Box<DownRelay>),
}

impl Chain {
    /// Media time of the next packet: where the chain's own clock stands.
    fn media(&self) -> Duration {
        match self {
            Self::Transcode(sender) => sender.media(),
            Self::Relay(relay) => relay.media(),
        }
    }
}

/// Everything needed to put a stream on a lane.
pub(crate) struct StreamParts {
    pub(crate) link: Arc<Link>,
    pub(crate) output: Arc<Outlet>,
    pub(crate) chain: Chain,
    pub(crate) controller: Option<Controller>,
    pub(crate) frame: FrameDuration,
    pub(crate) pacing: Pacing,
    pub(crate) late_limit: Duration,
    pub(crate) answers: Answers,
    pub(crate) cost: Cost,
}

/// A stream with all its state. Moves between lanes as a whole.
pub(crate) struct Stream {
    link: Arc<Link>,
    chain: Chain,
    controller: Option<Controller>,
    schedule: Schedule,
    /// The frame that is worked on.
    frame: Frame,
    frame_duration: FrameDuration,
    pacing: Pacing,
    late_limit: Duration,
    answers: Answers,
    /// When it would be its turn again if its frames came no faster than they last (immediate pacing).
    turn: Time,
    cost: Cost,
    /// What was spent since the media clock was at `costed`.
    spent: Duration,
    costed: Duration,
    recent: Window,
}

/// A frame that was taken up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worked {
    /// Since when it could have been: it was there, and there was room for what it becomes.
    since: Time,
    /// Whether it was coded, not dropped for being late.
    coded: bool,
}

impl Stream {
    pub(crate) fn new(parts: StreamParts) -> Self {
        let StreamParts { link, output, chain, controller, pacing, late_limit, .. } = parts;
        let stream = Self {
            schedule: Schedule::new(Arc::clone(&link), output, pacing, late_limit),
            link,
            chain,
            controller,
            frame: Frame::default(),
            frame_duration: parts.frame,
            pacing,
            late_limit,
            answers: parts.answers,
            turn: Time::ZERO,
            cost: parts.cost,
            spent: Duration::ZERO,
            costed: Duration::ZERO,
            recent: Window::default(),
        };
        stream.publish();
        stream
    }

    pub(crate) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) const fn output(&self) -> &Arc<Outlet> {
        self.schedule.output()
    }

    /// When the next ready packet is due.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.schedule.next_due()
    }

    /// How many of its packets wait for their deadlines.
    #[cfg(test)]
    pub(crate) fn ready(&self) -> usize {
        self.schedule.ready()
    }

    /// When what is made of the next frame should leave: what jobs are ordered by. `None` if there is no frame, or no
    /// room for what becomes of it.
    pub(crate) fn deadline(&self) -> Option<Time> {
        if !self.schedule.has_room() {
            return None;
        }
        let pushed_at = self.link.input.oldest()?;
        Some(match self.pacing {
            Pacing::Paced { .. } => self.schedule.due(self.chain.media(), pushed_at),
            // One that floods its lane waits behind those that do not.
            Pacing::Immediate => self.turn.max(pushed_at).min(pushed_at + self.late_limit),
        })
    }

    /// The load it is at each position of its ladder.
    pub(crate) fn loads(&self) -> Loads {
        self.cost.loads(self.frame_duration.as_duration())
    }

    /// Works on the next frame: codes it, or drops it if it is too late. `None` if there is none.
    pub(crate) fn work(&mut self, now: Time) -> Option<Worked> {
        if !self.link.input.take(&mut self.frame) {
            return None;
        }
        self.link.figures.frames.add(1);
        let pushed_at = self.frame.pushed_at;
        let media = self.chain.media();
        // To code what will be too late anyway would make others late, too.
        let cost = Duration::from_nanos(self.cost.at(self.position()) as u64).min(self.late_limit / 2);
        let coded = (now + cost).since(self.schedule.due(media, pushed_at)) <= self.late_limit;
        if coded {
            self.code(now);
        } else {
            self.link.figures.late.add(1);
            self.skip(now);
        }
        self.turn = self.turn.max(pushed_at) + self.chain.media().saturating_sub(media);
        Some(Worked { since: pushed_at.max(self.schedule.room_since()), coded })
    }

    /// Lets the media time of a frame that comes too late pass.
    fn skip(&mut self, now: Time) {
        let Self { chain, schedule, frame, .. } = self;
        match (chain, &frame.data) {
            (Chain::Transcode(sender), _) => sender.skip(self.frame_duration.as_duration()),
            (Chain::Relay(relay), FrameData::Opus(packet)) => {
                let us = Frames::parse(packet).map_or(0, |frames| frames.duration_us());
                // What is held cannot be joined to what comes after the hole.
                let flushed = relay.flush(|sealed| schedule.add(&sealed, frame, now));
                relay.skip(Duration::from_micros(us.into()));
                self.link.figures.refused.add(u64::from(flushed.is_err()));
            }
            (Chain::Relay(_), _) => {}
        }
        (self.spent, self.costed) = (Duration::ZERO, self.chain.media());
    }

    fn code(&mut self, now: Time) {
        let Self { chain, schedule, frame, link, .. } = self;
        let add = |sealed: Sealed<'_>| schedule.add(&sealed, frame, now);
        // What went wrong is whether the key is used up.
        let result = match (&mut *chain, &frame.data) {
            (Chain::Transcode(sender), FrameData::F32(samples)) => {
                sender.push(Samples::F32(samples), add).map_err(is_exhausted)
            }
            (Chain::Transcode(sender), FrameData::I16(samples)) => {
                sender.push(Samples::I16(samples), add).map_err(is_exhausted)
            }
            (Chain::Relay(relay), FrameData::Opus(packet)) => {
                relay.push(packet, add).map_err(|error| error == RelayError::Seal(SealError::KeyExhausted))
            }
            // A handle gives only what its stream takes.
            _ => Err(false),
        };
        if let Err(key_exhausted) = result {
            link.figures.refused.add(1);
            if key_exhausted {
                link.figures.key_exhausted.set(1);
            }
        }
        if self.answers != Answers::Packets {
            schedule.end_push(frame, now);
        }
        if let Chain::Transcode(sender) = chain {
            let counters = sender.counters();
            link.figures.fallbacks.set(counters.fallbacks);
            link.figures.silent.set(counters.silent);
            link.figures.muted.set(counters.muted);
        }
    }

    /// Takes what the job for a frame cost, `now` after it, and the position that the lane can carry. Returns the
    /// change of rung, if there is one.
    pub(crate) fn finish(
        &mut self,
        worked: Worked,
        cost: Duration,
        now: Time,
        lane_position: usize,
    ) -> Option<Change> {
        let took = now.since(worked.since);
        if worked.coded {
            self.spent += cost;
            let nanos = took.as_nanos() as u64;
            self.recent.record(nanos);
            self.link.figures.processing.record(nanos);
            self.settle();
        }
        let change = self.controller.as_mut().and_then(|c| c.handle_frame(now, took, lane_position));
        let change = self.apply(change);
        self.publish();
        change
    }

    /// Books what was spent to the media time it was spent on: a relay may take several packets for one.
    fn settle(&mut self) {
        let media = self.chain.media();
        let advance = media.saturating_sub(self.costed);
        if advance.is_zero() {
            return;
        }
        let frames = advance.as_secs_f64() / self.frame_duration.as_duration().as_secs_f64();
        self.cost.record(self.position(), self.spent.as_nanos() as f64 / frames);
        (self.spent, self.costed) = (Duration::ZERO, media);
    }

    /// Takes the plan of the lane between frames.
    pub(crate) fn handle_plan(&mut self, now: Time, lane_position: usize) -> Option<Change> {
        let change = self.controller.as_mut()?.handle_plan(now, lane_position);
        self.apply(change)
    }

    fn apply(&mut self, change: Option<Change>) -> Option<Change> {
        let change = change?;
        self.cost.rung_changed();
        self.link.figures.rung_changes.add(1);
        if let Chain::Transcode(sender) = &mut self.chain {
            sender.set_position(change.to);
        }
        Some(change)
    }

    /// The rung it is on; a relay has none.
    pub(crate) fn rung(&self) -> Option<Rung> {
        match &self.chain {
            Chain::Transcode(sender) => Some(sender.ladder().get(sender.position())),
            Chain::Relay(_) => None,
        }
    }

    /// The position in its ladder.
    pub(crate) fn position(&self) -> usize {
        self.controller.as_ref().map_or(0, Controller::position)
    }

    fn publish(&self) {
        let figures = &self.link.figures;
        figures.position.set(self.position() as u64);
        figures.rung.set(self.rung());
        figures.cost_nanos.set(self.cost.at(self.position()) as u64);
        figures.recent_mean.set(self.recent.mean());
        figures.recent_max.set(self.recent.max());
    }

    /// Lets the next packet leave.
    pub(crate) fn depart(&mut self, now: Time) {
        self.schedule.depart(now);
    }

    /// Nothing more will come out.
    pub(crate) fn close(&self) {
        self.link.close();
        if self.answers == Answers::EveryPushAndTheEnd {
            self.schedule.output().close();
        }
    }
}

fn is_exhausted(error: SenderError) -> bool {
    error == SenderError::Seal(SealError::KeyExhausted)
}
