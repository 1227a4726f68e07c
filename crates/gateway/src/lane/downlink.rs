//! What goes to the device, and when: packets leave at the pace of their own duration, whatever the pace at which the
//! room gave them.
//!
//! The schedule is one point in time, the end of what was sent so far. A packet is due there and moves it by its
//! duration; so deadlines follow from each other and do not drift. A packet that comes after that point finds the
//! device run dry: the schedule starts anew at its arrival. A room that speaks live and unevenly thereby ends up with
//! the delay of its latest packet and no more, and from then on leaves evenly.

use std::time::Duration;

use evenkeel_core::error::PacketError;
use evenkeel_core::framing::Frames;
use evenkeel_core::relay::{MAX_OPUS_PACKET, Repacker};
use evenkeel_core::units::{FrameDuration, Time};

use super::ring::{Budget, Head, Packet, PacketRing};
use crate::media::{Gate, ReplyId};

/// A packet that could not leave within this after its deadline is dropped: the device has long run dry.
pub(super) const MISSED: Duration = Duration::from_millis(50);

/// A hole shorter than this is not counted as an underrun: less than what devices buffer of their output.
const UNDERRUN: Duration = Duration::from_millis(5);

/// What is queued at most, of a room that bursts: about the longest reply there is.
const BURST_LIMIT: Duration = Duration::from_secs(120);

/// The same of a source that speaks live, where what is queued is delay.
const LIVE_LIMIT: Duration = Duration::from_millis(600);

/// A room that can wait is asked to while so much is queued that leaves at its pace.
const AHEAD: Duration = Duration::from_secs(10);

/// From here on, packets of a live source without voice are left out, so that the delay of a stall or of a clock that
/// runs fast shrinks again in a pause.
const LIVE_TARGET: Duration = Duration::from_millis(120);

/// See the [module](self).
pub(super) struct Downlink {
    ring: PacketRing,
    target: FrameDuration,
    /// Only there once the room sent packets of another duration. The timestamp is that of the first packet it holds.
    repacker: Option<Box<Repacker>>,
    held_stamp: Option<u32>,
    /// When the room last gave anything.
    given: Time,
    gate: Gate,
    is_live: bool,
    has_address: bool,
    /// The end of what was sent: when the next packet is due.
    end: Time,
    /// Something was sent since the last hold or mark, so that running dry is an underrun.
    in_reply: bool,
    /// It was told that a packet waits, since the gate last went to hold.
    announced: bool,
    /// A mark that overflow pushed out.
    overtaken: Option<ReplyId>,
    pub(super) counts: Counts,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Dropped for any reason.
    pub(super) dropped: u64,
    /// Of these, dropped because their deadline was missed.
    pub(super) missed: u64,
    /// Times the device ran dry within a reply.
    pub(super) underruns: u64,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A packet of this length was written.
    Packet { packet: Packet, due: Time },
    /// Everything before this mark was played.
    Played(ReplyId),
}

impl Downlink {
    pub(super) fn new(target: FrameDuration) -> Self {
        Self {
            ring: PacketRing::default(),
            target,
            repacker: None,
            held_stamp: None,
            given: Time::ZERO,
            gate: Gate::Hold,
            is_live: false,
            has_address: false,
            end: Time::ZERO,
            in_reply: false,
            announced: false,
            overtaken: None,
            counts: Counts::default(),
        }
    }

    /// Brings near where the next packet goes.
    pub(super) fn foresee(&self) {
        self.ring.foresee();
    }

    /// Whether the source speaks live, so that what waits is delay and not a reply to come.
    pub(super) fn set_live(&mut self, is_live: bool) {
        self.is_live = is_live;
    }

    /// The device's address is known from here on.
    pub(super) fn handle_address(&mut self, now: Time) {
        if !self.has_address {
            self.has_address = true;
            self.end = self.end.max(now);
        }
    }

    pub(super) fn handle_gate(&mut self, gate: Gate, now: Time, budget: &mut Budget) {
        self.gate = gate;
        match gate {
            Gate::Hold => {
                self.in_reply = false;
                self.announced = false;
            }
            Gate::Flow { lead } => self.end = self.end.max(now + lead),
            Gate::Discard => {
                self.counts.dropped += self.flush(budget);
            }
        }
    }

    /// The next packet is told of again: another reply begins.
    pub(super) fn announce_again(&mut self) {
        self.announced = false;
    }

    /// Drops everything queued; returns how many packets that were.
    pub(super) fn flush(&mut self, budget: &mut Budget) -> u64 {
        let dropped = self.ring.packets();
        self.ring.clear(budget);
        if let Some(repacker) = &mut self.repacker {
            repacker.clear();
        }
        self.held_stamp = None;
        self.overtaken = None;
        self.in_reply = false;
        dropped
    }

    /// Takes an Opus packet from the room. Returns whether it is the first that waits since the gate went to hold.
    ///
    /// # Errors
    /// If it is not a valid packet, or longer than a datagram carries.
    pub(super) fn push(
        &mut self,
        opus: &[u8],
        stamp: u32,
        now: Time,
        budget: &mut Budget,
    ) -> Result<bool, PacketError> {
        let frames = Frames::parse(opus)?;
        if opus.len() > MAX_OPUS_PACKET {
            return Err(PacketError::Oversized { limit: MAX_OPUS_PACKET, actual: opus.len() });
        }
        let is_tight = self.is_live && self.ring.duration() >= LIVE_TARGET;
        if matches!(self.gate, Gate::Discard) || (is_tight && !frames.has_voice()) {
            self.counts.dropped += 1;
            return Ok(false);
        }
        self.given = now;
        let duration = Duration::from_micros(frames.duration_us().into());
        if duration == self.target.as_duration() && self.held_stamp.is_none() {
            self.enqueue(opus, duration, stamp, now, budget);
        } else {
            self.repack(opus, stamp, now, budget)?;
        }
        let is_first = !self.announced && self.ring.packets() > 0;
        self.announced |= is_first;
        Ok(is_first)
    }

    /// Takes a whole utterance at once, as the parrot has it. Returns as [`Downlink::push`].
    ///
    /// One that begins with a packet of the wished duration is taken over as it is, without a copy.
    pub(super) fn push_all(&mut self, ring: &mut PacketRing, now: Time, budget: &mut Budget) -> bool {
        let fits = matches!(ring.peek(), Some(Head::Packet(p)) if p.duration == self.target.as_duration());
        if fits && self.ring.is_empty() && self.held_stamp.is_none() && !matches!(self.gate, Gate::Discard) {
            self.restart_if_dry(now);
            self.given = now;
            std::mem::swap(&mut self.ring, ring);
            return !std::mem::replace(&mut self.announced, true);
        }
        let mut is_first = false;
        let mut opus = [0; MAX_OPUS_PACKET];
        while let Some(head) = ring.pop(&mut opus) {
            if let Head::Packet(packet) = head {
                let pushed = self.push(&opus[..packet.len], packet.stamp, now, budget);
                is_first |= pushed.unwrap_or(false);
            }
        }
        self.flush_repacker(now, budget);
        is_first
    }

    /// Queues a mark behind all that is queued.
    pub(super) fn push_mark(&mut self, reply: ReplyId, now: Time, budget: &mut Budget) {
        self.flush_repacker(now, budget);
        while !self.ring.push_mark(reply, budget) {
            if !self.drop_oldest() {
                self.overtaken = Some(reply);
                break;
            }
        }
    }

    /// When [`Downlink::poll`] has something.
    pub(super) fn next_due(&self) -> Option<Time> {
        if self.overtaken.is_some() {
            return Some(Time::ZERO);
        }
        match self.ring.peek() {
            Some(Head::Mark(_)) => Some(self.end),
            Some(Head::Packet(_)) => self.flows().then_some(self.end),
            None => self.held_due(),
        }
    }

    /// What is due by `horizon`, which is `now` or a little later, so that neighbours leave together. A packet's bytes
    /// go to `out`.
    pub(super) fn poll(
        &mut self,
        now: Time,
        horizon: Time,
        out: &mut [u8],
        budget: &mut Budget,
    ) -> Option<Due> {
        if let Some(reply) = self.overtaken.take() {
            return Some(Due::Played(reply));
        }
        loop {
            let Some(head) = self.ring.peek() else {
                if self.held_due()? > horizon {
                    return None;
                }
                self.flush_repacker(now, budget);
                self.ring.peek()?;
                continue;
            };
            match head {
                Head::Mark(reply) => {
                    if self.end > horizon {
                        return None;
                    }
                    self.ring.drop_head();
                    self.in_reply = false;
                    return Some(Due::Played(reply));
                }
                Head::Packet(packet) => {
                    let due = self.end;
                    if !self.flows() || due > horizon {
                        return None;
                    }
                    self.end = due + packet.duration;
                    if due + MISSED < now {
                        self.ring.drop_head();
                        self.counts.missed += 1;
                        self.counts.dropped += 1;
                        continue;
                    }
                    self.ring.pop(out);
                    self.in_reply = true;
                    return Some(Due::Packet { packet, due });
                }
            }
        }
    }

    /// Whether nothing is queued and the device has played all that was sent.
    pub(super) fn is_played_out(&self, now: Time) -> bool {
        self.ring.packets() == 0 && self.held_stamp.is_none() && self.end <= now
    }

    /// Whether the device has enough to play for a while. Not of what does not leave: nobody would ever play that.
    pub(super) fn is_far_ahead(&self) -> bool {
        self.flows() && self.ring.duration() > AHEAD
    }

    pub(super) const fn queued(&self) -> u64 {
        self.ring.packets()
    }

    pub(super) fn close(&mut self, budget: &mut Budget) {
        self.counts.dropped += self.flush(budget);
        self.ring.close(budget);
    }

    const fn flows(&self) -> bool {
        self.has_address && matches!(self.gate, Gate::Flow { .. })
    }

    /// When the room is taken to have stopped in the middle of a packet, so that what there is of it is sent.
    fn held_due(&self) -> Option<Time> {
        let is_held = self.held_stamp.is_some() && self.flows();
        is_held.then(|| self.end.max(self.given + self.target.as_duration()))
    }

    /// If the schedule has run out, it starts anew now.
    fn restart_if_dry(&mut self, now: Time) {
        if !self.flows() || self.end >= now || self.ring.packets() > 0 {
            return;
        }
        if self.in_reply && now.since(self.end) > UNDERRUN {
            self.counts.underruns += 1;
        }
        self.end = now;
    }

    fn enqueue(&mut self, opus: &[u8], duration: Duration, stamp: u32, now: Time, budget: &mut Budget) {
        self.restart_if_dry(now);
        let limit = if self.is_live { LIVE_LIMIT } else { BURST_LIMIT };
        while self.ring.duration() + duration > limit && self.drop_oldest() {}
        while !self.ring.push(opus, duration, stamp, budget) {
            if !self.drop_oldest() {
                self.counts.dropped += 1;
                return;
            }
        }
    }

    fn drop_oldest(&mut self) -> bool {
        match self.ring.drop_head() {
            Some(Head::Packet(_)) => self.counts.dropped += 1,
            Some(Head::Mark(reply)) => self.overtaken = Some(reply),
            None => return false,
        }
        true
    }

    fn repack(&mut self, opus: &[u8], stamp: u32, now: Time, budget: &mut Budget) -> Result<(), PacketError> {
        let mut repacker = self.repacker.take().unwrap_or_else(|| Box::new(Repacker::new(self.target)));
        let mut first = self.held_stamp.take();
        let result = repacker.push(opus, |packet, duration| {
            // How long a live packet takes counts from when it was whole.
            let stamp = first.take().filter(|_| !self.is_live).unwrap_or(stamp);
            self.enqueue(packet, duration, stamp, now, budget);
        });
        if !repacker.held().is_zero() {
            self.held_stamp = Some(first.unwrap_or(stamp));
        }
        self.repacker = Some(repacker);
        result
    }

    fn flush_repacker(&mut self, now: Time, budget: &mut Budget) {
        let Some(stamp) = self.held_stamp.take() else { return };
        let Some(mut repacker) = self.repacker.take() else { return };
        repacker.flush(|packet, duration| self.enqueue(packet, duration, stamp, now, budget));
        self.repacker = Some(repacker);
    }
}
