//! What a call knows of its session; each state owns only what it needs.

use std::collections::VecDeque;

use evenkeel_core::units::Time;

use super::{CallConfig, Receipt};
use crate::device::message::{Hello, Incoming};
use crate::media::{MediaId, ReplyId};
use crate::room::{Join, RoomId};

/// Messages kept for a room that is not there yet.
const MAX_MESSAGES: usize = 32;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) media: MediaId,
    pub(super) hello: Box<Hello>,
    pub(super) room: RoomLink,
    pub(super) reply: Reply,
    /// The room has no words for where replies begin and end; the lane tells.
    pub(super) lane_tells_replies: bool,
    pub(super) seen: bool,
    /// The device was told of a reply that ended while it could not be told.
    pub(super) owes_stop: bool,
    /// What the device last said of listening, for a room that comes back.
    pub(super) listening: Option<Box<Incoming>>,
    /// What the device said while the room was not there, oldest first.
    pub(super) backlog: VecDeque<Box<Incoming>>,
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

    /// Keeps a message for a room that is not there yet. `false` if there were too many: it is dropped.
    pub(super) fn keep(&mut self, incoming: Box<Incoming>) -> bool {
        let fits = self.backlog.len() < MAX_MESSAGES;
        if fits {
            self.backlog.push_back(incoming);
        }
        fits
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
    /// Joined; `session_id` is what the room calls the session. `outage` is what it came back from.
    Ready { id: RoomId, session_id: Option<String>, since: Time, outage: Option<Outage> },
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
