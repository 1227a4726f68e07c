//! The place where an agent listens and speaks, as a call sees it.
//!
//! A room is told [`RoomCommand`]s and gives [`RoomEvent`]s. Its audio never comes here: it stays in the call's lane
//! ([`crate::media::Route`]).

pub mod echo;
pub mod livekit;
mod way;
pub mod websocket;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::device::envelope::Envelope;
use crate::device::message::{AudioParams, Incoming};

/// One joining of a room by a call. A call that joins anew, for whatever reason, uses a new id, so that what an old
/// room still says is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u32);

/// A room that is lost again so soon never really came.
pub const SETTLED: Duration = Duration::from_secs(5);

/// What a room needs to know of the device that joins.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The session the device knows.
    pub session_id: String,
    /// Its media session, for rooms that live in the lane.
    pub media: crate::media::MediaId,
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

/// Any of the rooms a call can be in.
#[derive(Debug)]
#[non_exhaustive]
pub enum Room {
    /// The parrot.
    Echo(echo::EchoRoom),
    /// A chat server.
    WebSocket(Box<websocket::WebSocketRoom>),
    /// A LiveKit room.
    LiveKit(Box<livekit::LiveKitRoom>),
}

impl Room {
    /// Carries out a command of the call. Never waits.
    pub fn command(&mut self, id: RoomId, command: RoomCommand) {
        match self {
            Self::Echo(room) => room.command(id, &command),
            Self::WebSocket(room) => room.command(id, command),
            Self::LiveKit(room) => room.command(id, command),
        }
    }

    /// What the room gives next. Cancel safe.
    pub async fn next(&mut self) -> (RoomId, RoomEvent) {
        match self {
            Self::Echo(room) => match room.poll() {
                Some(event) => event,
                // The parrot speaks only when spoken to, and that is between two calls of this.
                None => std::future::pending().await,
            },
            Self::WebSocket(room) => room.next().await,
            Self::LiveKit(room) => room.next().await,
        }
    }

    /// Where the audio of its calls goes.
    #[must_use]
    pub const fn route(&self) -> crate::media::Route {
        match self {
            Self::Echo(_) => crate::media::Route::Echo,
            Self::WebSocket(_) => crate::media::Route::Chat,
            Self::LiveKit(_) => crate::media::Route::Participant,
        }
    }

    /// Its name in metrics and on the dashboard.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Echo(_) => "echo",
            Self::WebSocket(_) => "websocket",
            Self::LiveKit(_) => "livekit",
        }
    }
}
