//! One device and its call: a state machine without socket, clock or task.
//!
//! A [`Call`] lives as long as its device is known and is in a session or between two. Input goes in by `handle_*`,
//! each with the time; after each, drain [`Call::poll_output`] until it is empty, carry the outputs out in order, and
//! call [`Call::handle_timeout`] at [`Call::poll_timeout`].
//!
//! What it keeps true, whatever the order of its inputs:
//! * at most one media session and one joined room at a time; the old one is closed before the new one is opened;
//! * no audio leaves for the device before `tts start` was written to it, and none once it aborted;
//! * `tts stop` leaves after the last frame was played, not sent;
//! * a `goodbye` names the session it ends.

mod device;
mod lane;
mod room;
mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::units::Time;
use serde_json::Value;

use self::session::{Reply, RoomLink, Session};
use crate::device::answer;
use crate::device::mcp::{DeviceMcp, McpConfig, McpError, Token};
use crate::device::message::AudioParams;
use crate::media::{Encryption, MediaCommand, MediaId, Placement, Route, SourcePolicy, Transport};
use crate::room::{RoomCommand, RoomId};

/// How calls are held. Shared by all calls of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct CallConfig {
    /// What devices are sent. Default 24 kHz, 60 ms.
    pub downlink: AudioParams,
    /// Suites of profile `sealed` that are offered to devices which know them. Default all three.
    pub sealed: Vec<Encryption>,
    /// How long after `tts start` was written the first audio may leave. Default 0.
    pub lead: Duration,
    /// After how long without a first datagram UDP counts as never seen. Default 10 s.
    pub first_datagram_limit: Duration,
    /// How long joining a room may take. Default 10 s.
    pub join_limit: Duration,
    /// How long a new session waits for the old room to be left. Default 500 ms.
    pub leave_limit: Duration,
    /// How long a lost room may stay away before the call is ended. Default 30 s.
    pub room_return_limit: Duration,
    /// The first wait before a lost room is joined anew; doubles up to 16 times that. Default 500 ms.
    pub room_retry: Duration,
    /// How long a device's MQTT connection may stay away before its call is ended. Default 60 s.
    pub mqtt_return_limit: Duration,
    /// How long a call may go without message or audio. Default 10 min.
    pub idle_limit: Duration,
    /// The longest a reply may take to play out after the room ended it. Default 2 min.
    pub playout_limit: Duration,
    /// The same while the device was never seen on UDP, so that nothing plays. Default 2 s.
    pub unseen_playout_limit: Duration,
    /// The gateway's own MCP conversation; `None` leaves MCP to the room.
    pub mcp: Option<McpConfig>,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            downlink: AudioParams::DOWNLINK,
            sealed: vec![Encryption::Aes128Gcm, Encryption::Aes256Gcm, Encryption::Chacha20Poly1305],
            lead: Duration::ZERO,
            first_datagram_limit: Duration::from_secs(10),
            join_limit: Duration::from_secs(10),
            leave_limit: Duration::from_millis(500),
            room_return_limit: Duration::from_secs(30),
            room_retry: Duration::from_millis(500),
            mqtt_return_limit: Duration::from_secs(60),
            idle_limit: Duration::from_secs(600),
            playout_limit: Duration::from_secs(120),
            unseen_playout_limit: Duration::from_secs(2),
            mcp: Some(McpConfig::default()),
        }
    }
}

/// What a new session is made of: a place in a lane, and randomness from a CSPRNG.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Where it will live.
    pub placement: Placement,
    /// Names the session to the device; unguessable and never used twice.
    pub session_id: String,
    /// The key, as much of it as the suite takes.
    pub key: [u8; 32],
    /// Who may send to it.
    pub source: SourcePolicy,
    /// Where its audio goes.
    pub route: Route,
}

/// Tells that a message was written to the device's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub u32);

/// What a call wants done. Carry out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this to the device; with a receipt, say so by [`Call::handle_written`] once it was.
    Device {
        /// The JSON text.
        text: String,
        /// What to report.
        receipt: Option<Receipt>,
    },
    /// Hand this to the lane of the media session.
    Media(MediaId, MediaCommand),
    /// Give back a placement that was not used.
    Release(MediaId),
    /// Hand this to the room.
    Room(RoomId, RoomCommand),
    /// The outcome of a [`Call::handle_command`].
    Result(Token, Result<Value, McpError>),
    /// Something happened that an operator may want to count or see.
    Note(Note),
}

/// What operators count and traces show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Note {
    /// A `hello` was answered.
    SessionBegan,
    /// A session ended.
    SessionEnded(EndReason),
    /// A `hello` was refused.
    Refused,
    /// The room was joined.
    RoomReady,
    /// The room was lost.
    RoomLost,
    /// The first datagram of the device came.
    UdpSeen,
    /// No datagram of the device ever came.
    UdpNeverSeen,
    /// The device's connection dropped.
    MqttLost,
    /// The device's connection returned.
    MqttReturned,
    /// A reply began.
    ReplyBegan,
    /// A reply ended.
    ReplyEnded,
    /// The device stopped a reply.
    Aborted,
    /// A message of a session that is over.
    StaleMessage,
    /// A message that could not be delivered, or not kept any longer, was dropped.
    MessageDropped,
    /// The end of a reply was not reported in time.
    PlayoutOverdue,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The device said goodbye.
    Goodbye,
    /// The device said hello again.
    NewHello,
    /// The device never got audio through.
    UdpTimeout,
    /// The room ended the conversation.
    RoomEnded,
    /// The room was lost and did not come back.
    RoomGone,
    /// Neither message nor audio for too long.
    Idle,
    /// The device's connection did not return.
    MqttGone,
    /// The gateway shuts down.
    Draining,
    /// The lane gave up.
    MediaFailed,
    /// The session key is used up.
    KeyExhausted,
    /// The other device hung up.
    PeerGone,
    /// An operator ended it.
    Operator,
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Goodbye,
        Self::NewHello,
        Self::UdpTimeout,
        Self::RoomEnded,
        Self::RoomGone,
        Self::Idle,
        Self::MqttGone,
        Self::Draining,
        Self::MediaFailed,
        Self::KeyExhausted,
        Self::PeerGone,
        Self::Operator,
    ];

    /// Its name in `goodbye`, metrics and traces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::NewHello => "new_hello",
            Self::UdpTimeout => "udp_timeout",
            Self::RoomEnded => "room_ended",
            Self::RoomGone => "room_gone",
            Self::Idle => "idle",
            Self::MqttGone => "connection_gone",
            Self::Draining => "draining",
            Self::MediaFailed => "media_failed",
            Self::KeyExhausted => "key_exhausted",
            Self::PeerGone => "peer_gone",
            Self::Operator => "operator",
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Call {
    config: Arc<CallConfig>,
    session: Option<Session>,
    leaving: Option<Leaving>,
    mqtt: Mqtt,
    mcp: Option<DeviceMcp>,
    draining: Option<Time>,
    next_room: u32,
    next_reply: u32,
    next_receipt: u32,
    jitter: u32,
    out: VecDeque<Output>,
}

/// The device's connection.
#[derive(Debug)]
enum Mqtt {
    Up,
    /// With the session that ended meanwhile and the device was not told of.
    Down {
        since: Time,
        unsaid_goodbye: Option<String>,
    },
}

/// A room that was told to leave and has not said so.
#[derive(Debug)]
struct Leaving {
    room: RoomId,
    until: Time,
}

impl Call {
    /// A device whose connection is up and that has no session. `seed` spreads retries of many calls over time.
    #[must_use]
    pub fn new(config: Arc<CallConfig>, seed: u32) -> Self {
        let mcp = config.mcp.clone().map(DeviceMcp::new);
        Self {
            config,
            session: None,
            leaving: None,
            mqtt: Mqtt::Up,
            mcp,
            draining: None,
            next_room: 1,
            next_reply: 1,
            next_receipt: 1,
            jitter: seed | 1,
            out: VecDeque::new(),
        }
    }

    /// The session the device is in.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.id.as_str())
    }

    /// The media session that is open.
    #[must_use]
    pub fn media(&self) -> Option<MediaId> {
        self.session.as_ref().map(|session| session.media)
    }

    /// Whether the room has joined.
    #[must_use]
    pub fn is_room_ready(&self) -> bool {
        self.session.as_ref().is_some_and(|s| matches!(s.room, RoomLink::Ready { .. } | RoomLink::Bridged))
    }

    /// Whether a reply is being spoken to the device.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.session.as_ref().is_some_and(|s| matches!(s.reply, Reply::Speaking | Reply::Stopping { .. }))
    }

    /// Whether it may be forgotten: no session, nothing under way, nothing to say.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let owes_goodbye = matches!(&self.mqtt, Mqtt::Down { unsaid_goodbye: Some(_), .. });
        self.session.is_none()
            && self.leaving.is_none()
            && !owes_goodbye
            && self.out.is_empty()
            && self.mcp.as_ref().is_none_or(DeviceMcp::is_quiet)
    }

    /// The device's connection dropped. The call goes on without it for a while.
    pub fn handle_mqtt_lost(&mut self, now: Time) {
        if matches!(self.mqtt, Mqtt::Up) {
            self.mqtt = Mqtt::Down { since: now, unsaid_goodbye: None };
            if let Some(mcp) = &mut self.mcp {
                mcp.handle_gone();
            }
            self.note(Note::MqttLost);
            // A WebSocket carries the audio too, and who comes back says hello: nothing of the session is left.
            if self.session.as_ref().is_some_and(|s| s.hello.transport == Transport::WebSocket) {
                self.end(EndReason::MqttGone, false, now);
            }
            self.settle();
        }
    }

    /// The device's connection is back, or was replaced by a newer one.
    pub fn handle_mqtt_returned(&mut self) {
        let before = std::mem::replace(&mut self.mqtt, Mqtt::Up);
        if let Some(mcp) = &mut self.mcp {
            mcp.handle_gone();
        }
        self.note(Note::MqttReturned);
        if let Mqtt::Down { unsaid_goodbye: Some(session_id), .. } = before {
            self.say(answer::goodbye(&session_id, None));
        }
        self.repeat_reply_state();
        self.settle();
    }

    /// An operator's MCP request to the device; answered by [`Output::Result`].
    pub fn handle_command(
        &mut self,
        token: Token,
        method: &str,
        params: Option<Value>,
        limit: Duration,
        now: Time,
    ) {
        if matches!(self.mqtt, Mqtt::Down { .. }) {
            return self.out.push_back(Output::Result(token, Err(McpError::Gone)));
        }
        let mcp = self.mcp.get_or_insert_with(|| DeviceMcp::new(McpConfig::default()));
        mcp.handle_command(token, method, params, limit, now);
        self.settle();
    }

    /// An operator ends the session.
    pub fn handle_hang_up(&mut self, now: Time) {
        self.end(EndReason::Operator, true, now);
        self.settle();
    }

    /// The gateway shuts down: the call may finish the reply it is in, until `deadline`.
    pub fn handle_drain(&mut self, deadline: Time, now: Time) {
        self.draining = Some(deadline);
        self.end_if_due(now);
        self.settle();
    }

    /// What is due is done.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(mcp) = &mut self.mcp {
            mcp.handle_timeout(now);
        }
        if self.leaving.as_ref().is_some_and(|leaving| leaving.until <= now) {
            self.leaving = None;
            self.join_if_waiting(now);
        }
        if let Mqtt::Down { since, unsaid_goodbye } = &mut self.mqtt
            && *since + self.config.mqtt_return_limit <= now
        {
            *unsaid_goodbye = None;
            self.end(EndReason::MqttGone, false, now);
        }
        if self.draining.is_some_and(|deadline| deadline <= now) {
            self.end(EndReason::Draining, true, now);
        }
        self.handle_session_timeout(now);
        self.settle();
    }

    /// When to call [`Call::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let mqtt = match &self.mqtt {
            Mqtt::Down { since, unsaid_goodbye } if self.session.is_some() || unsaid_goodbye.is_some() => {
                Some(*since + self.config.mqtt_return_limit)
            }
            _ => None,
        };
        let session = self.session.as_ref().map(|session| session.timeout(&self.config));
        let drain = self.draining.filter(|_| self.session.is_some());
        let mcp = self.mcp.as_ref().and_then(DeviceMcp::poll_timeout);
        let leaving = self.leaving.as_ref().map(|leaving| leaving.until);
        [mqtt, session, drain, mcp, leaving].into_iter().flatten().min()
    }

    /// The next thing to do; `None` until the next input.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Moves what the MCP cache has to say to where it belongs.
    fn settle(&mut self) {
        let Some(mcp) = &mut self.mcp else { return };
        let mut texts = Vec::new();
        while let Some(payload) = mcp.poll_request() {
            texts.push(answer::mcp(self.session.as_ref().map(|s| s.id.as_str()), payload));
        }
        while let Some(payload) = mcp.poll_room() {
            if let Some(Session { room: RoomLink::Ready { id, .. }, .. }) = &self.session {
                self.out.push_back(Output::Room(*id, RoomCommand::Mcp(payload)));
            }
        }
        while let Some((token, result)) = mcp.poll_result() {
            self.out.push_back(Output::Result(token, result));
        }
        for text in texts {
            self.say(text);
        }
    }

    /// Ends the session, if there is one. `tell` says whether the device has to be told.
    fn end(&mut self, reason: EndReason, tell: bool, now: Time) {
        let Some(session) = self.session.take() else { return };
        self.media_command(session.media, MediaCommand::Close);
        self.leave(&session.room, now);
        if tell {
            match &mut self.mqtt {
                Mqtt::Up => self.say(answer::goodbye(&session.id, Some(reason.name()))),
                Mqtt::Down { unsaid_goodbye, .. } => *unsaid_goodbye = Some(session.id),
            }
        }
        self.note(Note::SessionEnded(reason));
    }

    fn leave(&mut self, room: &RoomLink, now: Time) {
        if let RoomLink::Joining { id, .. } | RoomLink::Ready { id, .. } = room {
            self.out.push_back(Output::Room(*id, RoomCommand::Leave));
            self.leaving = Some(Leaving { room: *id, until: now + self.config.leave_limit });
        }
    }

    fn say(&mut self, text: String) {
        match self.mqtt {
            Mqtt::Up => self.out.push_back(Output::Device { text, receipt: None }),
            Mqtt::Down { .. } => self.note(Note::MessageDropped),
        }
    }

    fn media_command(&mut self, media: MediaId, command: MediaCommand) {
        self.out.push_back(Output::Media(media, command));
    }

    fn note(&mut self, note: Note) {
        self.out.push_back(Output::Note(note));
    }

    /// A step of xorshift32 (Marsaglia, 2003): spread, not secrecy.
    fn spread(&mut self, span: Duration) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        span.mul_f64(f64::from(self.jitter) / f64::from(u32::MAX))
    }
}
