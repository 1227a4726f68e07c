//! When the packets of a stream leave, and those that wait for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::seal::Sealed;
use evenkeel_core::units::Time;

use crate::config::Pacing;
use crate::frames::Frame;
use crate::link::Link;
use crate::outlet::Outlet;
use crate::stream::Packet;

/// How many packets may wait for their deadlines before no more frames are coded.
const READY_LIMIT: usize = 8;

/// Buffers kept beyond the most that were in use at once, for when the output's are just in another's hands.
const SPARE: usize = 2;

/// Room in a buffer for a packet of speech, so that buffers do not grow for ever; a longer one takes the most there is.
const SPEECH_ROOM: usize = 512;
const MOST_ROOM: usize = 1_500;

/// What of the lead must be left when a frame is pushed, for its packet to keep the schedule: time for some encodes. A frame
/// that comes later than that lays the schedule anew with as much, so that its stream is as little late as can be.
const fn margin(lead: Duration) -> Duration {
    Duration::from_nanos(lead.as_nanos() as u64 / 4)
}

/// The deadlines of one stream, and its packets that are ready before them.
pub(crate) struct Schedule {
    link: Arc<Link>,
    output: Arc<Outlet>,
    pacing: Pacing,
    late_limit: Duration,
    /// When media time zero is due; known from the first packet on.
    anchor: Option<Time>,
    slack: Slack,
    ready: VecDeque<Packet>,
    spare: Vec<Packet>,
    most_ready: usize,
    /// Since when there is room for what the next frame becomes.
    room_since: Time,
}

impl Schedule {
    pub(crate) fn new(link: Arc<Link>, output: Arc<Outlet>, pacing: Pacing, late_limit: Duration) -> Self {
        Self {
            link,
            output,
            pacing,
            late_limit,
            anchor: None,
            slack: Slack::default(),
            ready: VecDeque::with_capacity(READY_LIMIT),
            spare: stock(),
            most_ready: 1,
            room_since: Time::ZERO,
        }
    }

    pub(crate) const fn output(&self) -> &Arc<Outlet> {
        &self.output
    }

    /// Whether there is room for what another frame becomes.
    pub(crate) fn has_room(&self) -> bool {
        self.ready.len() < READY_LIMIT
    }

    /// How many packets wait for their deadlines.
    #[cfg(test)]
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Since when there is.
    pub(crate) const fn room_since(&self) -> Time {
        self.room_since
    }

    /// When the next ready packet is due.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.ready.front().map(|packet| packet.due)
    }

    /// When what is made of a frame should leave, if it begins at `media` and was pushed at `pushed_at`.
    pub(crate) fn due(&self, media: Duration, pushed_at: Time) -> Time {
        match self.pacing {
            Pacing::Paced { lead } if self.anchor.is_none() => pushed_at + lead,
            Pacing::Paced { lead } => {
                self.scheduled(media, pushed_at, lead).unwrap_or(pushed_at + margin(lead))
            }
            Pacing::Immediate => pushed_at,
        }
    }

    /// When a packet that begins at `media` is due, if it was pushed in time for that: with its [`margin`] to go.
    fn scheduled(&self, media: Duration, pushed_at: Time, lead: Duration) -> Option<Time> {
        self.anchor.map(|anchor| anchor + media).filter(|&due| due >= pushed_at + margin(lead))
    }

    /// Deadlines are a frame apart from the first on, by the stream's media clock. A source that pauses, or is slower
    /// than real time, pushes a frame too late for its deadline: the schedule is laid anew from there. One that is
    /// ahead, because it is faster or recovered from a delay, is followed back to the lead, slowly.
    fn lay(&mut self, sealed: &Sealed<'_>, pushed_at: Time, lead: Duration) -> Time {
        let (media, Some(anchor)) = (sealed.media_time, self.anchor) else {
            let due = pushed_at + lead;
            self.anchor = Some(due - sealed.media_time);
            return due;
        };
        let Some(due) = self.scheduled(media, pushed_at, lead) else {
            self.link.figures.underruns.add(1);
            self.slack = Slack::default();
            let due = pushed_at + margin(lead);
            self.anchor = Some(due - media);
            return due;
        };
        let early = due.since(pushed_at + lead);
        self.anchor = Some(anchor - self.slack.record(early, sealed.duration));
        due
    }

    /// Gives a packet that was made of `frame` its deadline.
    pub(crate) fn add(&mut self, sealed: &Sealed<'_>, frame: &Frame, now: Time) {
        let due = match self.pacing {
            Pacing::Immediate => now,
            Pacing::Paced { lead } => self.lay(sealed, frame.pushed_at, lead),
        };
        let mut packet = self.buffer();
        if sealed.datagram.len() > packet.datagram.capacity() {
            let room = if sealed.datagram.len() <= SPEECH_ROOM { SPEECH_ROOM } else { MOST_ROOM };
            packet.datagram = Vec::with_capacity(room.max(sealed.datagram.len()));
        }
        packet.datagram.extend_from_slice(sealed.datagram);
        packet.header = Some(sealed.header);
        packet.media_time = sealed.media_time;
        packet.duration = sealed.duration;
        self.enqueue(packet, frame, due);
    }

    /// Marks the last packet that `frame` completed; one without a datagram if it completed none.
    pub(crate) fn end_push(&mut self, frame: &Frame, now: Time) {
        if self.ready.back().is_none_or(|packet| packet.ticket != frame.ticket) {
            let mut packet = self.buffer();
            packet.header = None;
            packet.duration = Duration::ZERO;
            self.enqueue(packet, frame, now);
        }
        if let Some(last) = self.ready.back_mut() {
            last.ends_push = true;
        }
    }

    fn buffer(&mut self) -> Packet {
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.datagram.clear();
        packet
    }

    fn enqueue(&mut self, mut packet: Packet, frame: &Frame, due: Time) {
        packet.stream = self.link.id();
        packet.ticket = frame.ticket;
        packet.pushed_at = frame.pushed_at;
        packet.due = due;
        packet.ends_push = false;
        self.ready.push_back(packet);
        self.most_ready = self.most_ready.max(self.ready.len());
    }

    /// Takes the next packet, marks its departure, and hands it to the output. A packet that is too late is dropped
    /// and counted instead.
    pub(crate) fn depart(&mut self, now: Time) {
        let had_room = self.has_room();
        let Some(mut packet) = self.ready.pop_front() else { return };
        if !had_room && self.has_room() {
            self.room_since = now;
        }
        let figures = &self.link.figures;
        let error = now.since(packet.due);
        if error > self.late_limit {
            figures.late.add(1);
            self.spare.push(packet);
        } else {
            packet.departed = now;
            if matches!(self.pacing, Pacing::Paced { .. }) {
                let early = packet.due.since(now);
                figures.departure.record(error.max(early).as_nanos() as u64);
            }
            figures.latency.record(now.since(packet.pushed_at).as_nanos() as u64);
            figures.packets.add(u64::from(packet.header.is_some()));
            figures.bytes.add(packet.datagram.len() as u64);
            if let Some(displaced) = self.output.push(packet) {
                figures.output_dropped.add(1);
                self.spare.push(displaced);
            }
        }
        self.restock();
    }

    /// Keeps as many buffers as may be needed at once.
    fn restock(&mut self) {
        let wanted = (self.most_ready + SPARE).saturating_sub(self.ready.len());
        self.spare.truncate(wanted);
        let missing = wanted - self.spare.len();
        if missing > 0 {
            self.output.reclaim(&mut self.spare, missing);
        }
    }
}

/// What a stream begins with. All of it at once: were it made as it is missed, it would be whole only after the chance
/// had come together that makes the last one be missed, and until then a lane might still allocate.
fn stock() -> Vec<Packet> {
    let mut spare = Vec::with_capacity(READY_LIMIT + SPARE);
    spare
        .resize_with(1 + SPARE, || Packet { datagram: Vec::with_capacity(SPEECH_ROOM), ..Packet::default() });
    spare
}

/// How much earlier than needed the frames of a stream are pushed, and how that is given back.
#[derive(Debug, Default)]
struct Slack {
    /// The least since the span began.
    least: Option<Duration>,
    /// Media time since the span began.
    seen: Duration,
    /// What is still to be given back.
    owed: Duration,
}

impl Slack {
    /// Over how much media time the least counts: more than a source usually sends in one burst.
    const SPAN: Duration = Duration::from_secs(1);

    /// What is not worth a change of the schedule.
    const NOTHING: Duration = Duration::from_micros(50);

    /// A schedule goes at most this much faster than real time, as a fraction, to catch up: no source that is ahead
    /// must make it a burst.
    const CATCH_UP: u32 = 50;

    /// Takes how early a packet of `duration` was. Returns by how much the schedule goes forward.
    fn record(&mut self, early: Duration, duration: Duration) -> Duration {
        self.least = Some(self.least.map_or(early, |least| least.min(early)));
        self.seen += duration;
        if self.seen >= Self::SPAN {
            self.owed = self.least.take().filter(|&least| least > Self::NOTHING).unwrap_or_default();
            self.seen = Duration::ZERO;
        }
        let step = self.owed.min(duration / Self::CATCH_UP);
        self.owed -= step;
        step
    }
}
