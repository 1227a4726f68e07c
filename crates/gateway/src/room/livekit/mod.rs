//! A LiveKit room: joined as a participant whose media lives in the call's lane ([`crate::lane::guest::livekit`]).
//!
//! Here is what is not media: names and tokens, joining and why it failed, what the room's events mean to a device
//! ([`events`]) and what a device's messages mean to the agent ([`requests`]).

pub mod events;
mod join;
mod presence;
pub mod requests;
mod tcp;
pub mod trial;

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_livekit::error::{MediaError, SignalError, TokenError};
use evenkeel_livekit::participant::{CloseReason, Event};
use evenkeel_livekit::proto::leave_request::Action;
use evenkeel_livekit::signal::Connections;
use evenkeel_livekit::token::ApiKey;
use serde_json::json;
use thiserror::Error;

use self::events::{Effect, text};
use self::presence::{Heard, Presence};
use crate::device::credentials::Mac;
use crate::lane::guest::livekit::Told;
use crate::lane::voices::Cue;
use crate::media::MediaPlane;
use crate::ops::counters::Counter;
use crate::ops::registry::Registry;
use crate::room::{RoomCommand, RoomEvent, RoomId};

/// What the LiveKit rooms of all calls share.
#[derive(Clone, Debug)]
pub struct LiveKitRooms {
    /// The server, `ws://` or `wss://`.
    pub url: String,
    /// The key pair that tokens are signed with.
    pub api: ApiKey,
    /// The agent that is sent into each room; none, if the project does that itself.
    pub agent: Option<String>,
    /// The room's name, with `{uuid}`, `{mac}` and `{session}` for what they say.
    pub template: String,
    /// Our address as the server can reach it; otherwise the one by which we reach the server.
    pub address: Option<IpAddr>,
    /// How long a room may be without an agent.
    pub agent_limit: Duration,
    /// What is asked for first.
    pub connections: Connections,
    /// For `wss://`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// A room could not be joined.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The settings make no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The server, or the way to it.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// There is no media path.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The machine gave no socket.
    #[error("no UDP socket for the room: {0}")]
    Socket(String),
    /// The lane has no place.
    #[error("the lane takes no more participants at the moment")]
    Lane,
    /// Something of ours does not keep up.
    #[error("the room's connection does not keep up")]
    Stalled,
}

impl JoinError {
    /// Whether trying again later can help.
    fn is_transient(&self) -> bool {
        match self {
            Self::Token(_) => false,
            Self::Signal(SignalError::GaveUp { .. }) => true,
            Self::Signal(error) => error.is_transient(),
            Self::Media(_) | Self::Socket(_) | Self::Lane | Self::Stalled => true,
        }
    }

    const fn counter(&self) -> Counter {
        match self {
            Self::Media(_) => Counter::RoomMediaFailed,
            Self::Signal(
                SignalError::Unreachable { .. } | SignalError::Timeout { .. } | SignalError::GaveUp { .. },
            ) => Counter::RoomUnreachable,
            Self::Signal(SignalError::Garbage { .. } | SignalError::Oversized { .. }) => Counter::BadFrames,
            _ => Counter::RoomRefused,
        }
    }
}

/// One call's LiveKit room.
pub struct LiveKitRoom {
    rooms: Arc<LiveKitRooms>,
    plane: Arc<dyn MediaPlane>,
    registry: Arc<Registry>,
    mac: Mac,
    uuid: Option<String>,
    state: State,
    pending: VecDeque<(RoomId, RoomEvent)>,
    /// The device was told that something is wrong, and not yet that all is well.
    has_alerted: bool,
}

type Joining = Pin<Box<dyn Future<Output = Result<Presence, JoinError>> + Send>>;

enum State {
    Apart,
    Joining(RoomId, Joining),
    In(RoomId, Box<Presence>),
}

impl LiveKitRoom {
    /// Not joined yet.
    #[must_use]
    pub fn new(
        rooms: Arc<LiveKitRooms>,
        plane: Arc<dyn MediaPlane>,
        registry: Arc<Registry>,
        mac: Mac,
        uuid: Option<String>,
    ) -> Self {
        let (state, pending) = (State::Apart, VecDeque::new());
        Self { rooms, plane, registry, mac, uuid, state, pending, has_alerted: false }
    }

    /// Carries out a command of the call. Never waits: what the room does not take is dropped and counted.
    pub fn command(&mut self, id: RoomId, command: RoomCommand) {
        match command {
            RoomCommand::Join(join) => {
                let request =
                    join::token_request(&self.rooms, self.mac, self.uuid.as_deref(), &join.session_id);
                let (rooms, plane) = (Arc::clone(&self.rooms), Arc::clone(&self.plane));
                let joining = join::join(rooms, plane, join.media, request);
                self.state = State::Joining(id, Box::pin(joining));
            }
            RoomCommand::Leave => {
                // Dropping what there is leaves the room.
                self.state = State::Apart;
                self.pending.clear();
                self.pending.push_back((id, RoomEvent::Left));
            }
            RoomCommand::Device { incoming, text } => {
                self.pass_on(id, |presence| presence.handle_device(&incoming.message, text));
            }
            RoomCommand::Mcp(payload) => {
                let text = json!({"type": "mcp", "payload": payload}).to_string();
                self.pass_on(id, |presence| presence.send_data(text));
            }
        }
    }

    /// Asks something of the participant; counts what it does not take.
    fn pass_on(&self, id: RoomId, ask: impl FnOnce(&Presence) -> bool) {
        if let State::In(current, presence) = &self.state
            && *current == id
            && !ask(presence)
        {
            self.registry.counters.add(Counter::RoomStalled);
        }
    }

    /// What the room gives next. Cancel safe.
    pub async fn next(&mut self) -> (RoomId, RoomEvent) {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            match &mut self.state {
                State::Apart => std::future::pending().await,
                State::Joining(id, joining) => {
                    let (id, joined) = (*id, joining.await);
                    match joined {
                        Ok(presence) => self.state = State::In(id, Box::new(presence)),
                        Err(error) => self.fail(id, error),
                    }
                }
                State::In(id, presence) => {
                    let (id, heard) = (*id, presence.next(self.rooms.agent_limit).await);
                    match heard {
                        Heard::Told(told) => self.handle_told(id, told),
                        Heard::AgentMissing => {
                            self.registry.counters.add(Counter::AgentMissing);
                            self.alert(id, "no agent came into the room");
                            self.end(id, RoomEvent::Ended);
                        }
                        Heard::Nothing => self.fail(id, JoinError::Stalled),
                    }
                }
            }
        }
    }

    fn handle_told(&mut self, id: RoomId, told: Told) {
        let State::In(_, presence) = &mut self.state else { return };
        let event = match told {
            Told::Event(event) => event,
            Told::Answered { method, result } => return presence.handle_answer(method, &result),
            Told::Connect { id, remote } => return presence.connect(id, remote),
            Told::Transmit(transmit) => return presence.transmit(transmit),
        };
        let mut effects = Vec::new();
        presence.events.handle(&event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Room(event) => self.pending.push_back((id, event)),
                Effect::Cue(cue) => drop(presence.cue(cue)),
                Effect::Refuse(request) => drop(presence.refuse(request)),
                Effect::Ignored => self.registry.counters.add(Counter::RoomIgnored),
            }
        }
        match event {
            Event::Connected if !std::mem::replace(&mut presence.is_ready, true) => {
                self.has_alerted = false;
                self.pending.push_back((id, RoomEvent::Ready { session_id: None }));
            }
            Event::Interrupted(reason) => {
                presence.cue(Cue::Unknown);
                tracing::info!(%reason, "a room is interrupted");
                self.registry.counters.add(Counter::RoomInterrupted);
            }
            Event::Flooded => self.registry.counters.add(Counter::RoomFlooded),
            Event::TrackRefused { reason, .. } => {
                tracing::debug!(%reason, "a track is not received");
                self.registry.counters.add(Counter::TrackRefused);
            }
            Event::Closed(reason) => self.closed(id, reason),
            _ => {}
        }
    }

    fn closed(&mut self, id: RoomId, reason: CloseReason) {
        match reason {
            CloseReason::Left => self.end(id, RoomEvent::Ended),
            // The room was deleted, we were removed, or another took our place: the conversation is over.
            CloseReason::Signal(SignalError::Leave { reason, action: Action::Disconnect }) => {
                tracing::info!(?reason, "the server ended a room");
                self.end(id, RoomEvent::Ended);
            }
            CloseReason::Signal(error) => self.fail(id, error.into()),
            CloseReason::Media(error) => self.fail(id, error.into()),
            _ => self.fail(id, JoinError::Stalled),
        }
    }

    fn fail(&mut self, id: RoomId, error: JoinError) {
        tracing::warn!(%error, url = self.rooms.url, "a LiveKit room is out of reach");
        self.registry.counters.add(error.counter());
        self.alert(id, &error.to_string());
        let event = if error.is_transient() { RoomEvent::Lost } else { RoomEvent::Ended };
        self.end(id, event);
    }

    fn end(&mut self, id: RoomId, event: RoomEvent) {
        self.state = State::Apart;
        self.pending.push_back((id, event));
    }

    /// Tells the device what is wrong, once.
    fn alert(&mut self, id: RoomId, message: &str) {
        if std::mem::replace(&mut self.has_alerted, true) {
            return;
        }
        let alert = json!({"type": "alert", "status": "error", "message": message, "emotion": "sad"});
        self.pending.extend(text(&alert).map(|envelope| (id, RoomEvent::Text(envelope))));
    }
}

impl std::fmt::Debug for LiveKitRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveKitRoom").field("mac", &self.mac).finish_non_exhaustive()
    }
}
