//! What a call knows of its session; each state owns only what it needs.

use std::collections::VecDeque;

use evenkeel_core::units::Time;

use super::{CallConfig, Packet, Receipt};
use crate::device::message::{Hello, Incoming};
use crate::media::{MediaId, ReplyId};
use crate::room::{Join, RoomId};

/// Messages kept for a room that is not there yet.
const MAX_MESSAGES: usize = 32;
/// Packets kept for a room that is not there yet: 3 s of 60 ms.
const MAX_PACKETS: usize = 50;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) media: MediaId,
    pub(super) hello: Box<Hello>,
    pub(super) room: RoomLink,
    pub(super) reply: Reply,
    /// The room lives in the lane, which tells where replies begin and end.
    pub(super) in_lane: bool,
    pub(super) seen: bool,
    /// The device was told of a reply that ended while it could not be told.
    pub(super) owes_stop: bool,
    /// What the device last said of listening, for a room that comes back.
    pub(super) listening: Option<Box<Incoming>>,
    pub(super) backlog: Backlog,
    pub(super) active: Time,
}

impl Session {
    pub(super) fn join(&self) -> Join {
        Join {
            session_id: self.id.clone(),
            media: self.media,
            uplink: self.hello.audio,
            features: self.hello.features.clone(),
            text_font: self.hello.text_font.clone(),
        }
    }

    /// When something of this session is due.
    pub(super) fn timeout(&self, config: &CallConfig) -> Time {
        let room = match self.room {
            RoomLink::Joining { until, .. } => Some(until),
            RoomLink::Lost { retry, .. } => Some(retry),
            _ => None,
        };
        let reply = match self.reply {
            Reply::Stopping { until, .. } => Some(until),
            _ => None,
        };
        [room, reply].into_iter().flatten().fold(self.active + config.idle_limit, Time::min)
    }
}

/// How a session stands with its room.
#[derive(Debug)]
pub(super) enum RoomLink {
    /// The previous room is still being left.
    Waiting,
    /// Asked to join.
    Joining { id: RoomId, until: Time, outage: Option<Outage> },
    /// Joined; `session_id` is what the room calls the session.
    Ready { id: RoomId, session_id: Option<String> },
    /// Out of reach; joined anew at `retry`.
    Lost { retry: Time, outage: Outage },
    /// Over, but a reply is still playing.
    Ended,
    /// None any longer: the call is connected, or about to be, to another device.
    Bridged,
}

impl RoomLink {
    /// The id under which the room may speak.
    pub(super) const fn id(&self) -> Option<RoomId> {
        match self {
            Self::Joining { id, .. } | Self::Ready { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// Since when a room is away, and how often it was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) since: Time,
    pub(super) attempts: u32,
}

/// How a session stands with the room's reply.
#[derive(Debug)]
pub(super) enum Reply {
    /// None. Audio is held.
    Silent,
    /// `tts start` is on its way to the device. Audio is held. `ending` if the room is already done.
    Starting { receipt: Receipt, ending: bool },
    /// The device listens. Audio flows.
    Speaking,
    /// The room is done, the device still plays.
    Stopping { reply: ReplyId, until: Time },
    /// The device stopped the reply. Audio is dropped until the next one begins.
    Discarding,
}

/// What waits for a room, oldest first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    messages: usize,
    packets: usize,
}

#[derive(Debug)]
pub(super) enum Waiting {
    Message(Box<Incoming>),
    Packet(Packet),
}

impl Backlog {
    /// Keeps a message. `false` if there were too many: it is dropped.
    pub(super) fn push_message(&mut self, incoming: Box<Incoming>) -> bool {
        let fits = self.messages < MAX_MESSAGES;
        if fits {
            self.messages += 1;
            self.waiting.push_back(Waiting::Message(incoming));
        }
        fits
    }

    /// Keeps a packet. `false` if there were too many: the oldest is dropped for it.
    pub(super) fn push_packet(&mut self, packet: Packet) -> bool {
        let fits = self.packets < MAX_PACKETS;
        if !fits && let Some(at) = self.waiting.iter().position(|w| matches!(w, Waiting::Packet(_))) {
            self.waiting.remove(at);
            self.packets -= 1;
        }
        self.packets += 1;
        self.waiting.push_back(Waiting::Packet(packet));
        fits
    }

    pub(super) fn take(&mut self) -> VecDeque<Waiting> {
        std::mem::take(self).waiting
    }
}
