//! The place where an agent listens and speaks, as a call sees it.
//!
//! A room is told [`RoomCommand`]s and gives [`RoomEvent`]s. Where its audio runs is its own affair: through the
//! control plane (a chat server over WebSocket) or within the call's lane (echo, a LiveKit participant), in which case
//! the two `Audio` variants are not used.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::device::envelope::Envelope;
use crate::device::message::{AudioParams, Incoming};

/// One joining of a room by a call. A call that joins anew, for whatever reason, uses a new id, so that what an old
/// room still says is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u32);

/// What a room needs to know of the device that joins.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The session the device knows.
    pub session_id: String,
    /// What the device sends.
    pub uplink: AudioParams,
    /// `features` of its hello, as they were sent.
    pub features: Option<Value>,
    /// `text_font` of its hello, as it was sent.
    pub text_font: Option<Value>,
}

/// What a call asks of its room, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomCommand {
    /// Join; answered by [`RoomEvent::Ready`], [`RoomEvent::Lost`] or [`RoomEvent::Ended`]. First and once per id.
    Join(Box<Join>),
    /// Leave; answered by [`RoomEvent::Left`]. The last command of an id.
    Leave,
    /// The device said this. A room that copies text takes `text`, which speaks of the room's own session.
    Device {
        /// What was said.
        incoming: Box<Incoming>,
        /// As text, with the room's session id in place of ours.
        text: String,
    },
    /// JSON-RPC to the room, from the gateway's own MCP cache.
    Mcp(Map<String, Value>),
    /// An Opus packet of the uplink.
    Audio {
        /// The packet.
        opus: Bytes,
        /// See [`crate::media::MediaEvent::Uplink`].
        timestamp: u32,
    },
}

/// What a room gives.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomEvent {
    /// Joined.
    Ready {
        /// The session as the room knows it.
        session_id: Option<String>,
    },
    /// The room is out of reach, now or while joining; it may come back. The id is not used again.
    Lost,
    /// The room ended the conversation. The id is not used again.
    Ended,
    /// Left, as commanded.
    Left,
    /// The room's reply begins, says a sentence, or ends.
    Tts {
        /// Which.
        state: TtsState,
        /// The message for the device.
        envelope: Envelope,
    },
    /// JSON-RPC to the device.
    Mcp {
        /// The request or notification.
        payload: Map<String, Value>,
        /// The message for the device.
        envelope: Envelope,
    },
    /// Anything else for the device.
    Text(Envelope),
    /// An Opus packet of the downlink.
    Audio {
        /// The packet.
        opus: Bytes,
        /// The room's timestamp.
        timestamp: u32,
    },
}

/// `tts.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtsState {
    /// `start`.
    Start,
    /// `sentence_start` and whatever else happens within a reply.
    Sentence,
    /// `stop`.
    Stop,
}
