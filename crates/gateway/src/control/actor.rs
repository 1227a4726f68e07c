//! The task that holds one device's call: feeds it, and does what it says.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evenkeel_core::units::Time;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::hub::{Content, Hub, Link, Outgoing, Profile};
use crate::call::{Call, EndReason, Grant, Note, Output, Receipt};
use crate::device::mcp::{McpError, Token};
use crate::device::message::{Hello, Incoming, Message};
use crate::entropy;
use crate::media::{
    Departed, MediaCommand, MediaEvent, MediaFailure, MediaId, PlaceError, Route, SendError, Transport,
};
use crate::ops::counters::Counter;
use crate::room::Room;

/// What may wait for a call: of a device on WebSocket, some 4 s of audio if the task were ever held up for so long.
pub const INBOX_CAPACITY: usize = 128;

/// What a call is told.
#[derive(Debug)]
pub enum Inbox {
    /// The device said something.
    Message {
        /// What.
        incoming: Box<Incoming>,
        /// When it was read.
        arrived: Time,
    },
    /// A message was written to the device.
    Written(Receipt),
    /// The lane reported something of a session. Boxed, as the rest: see [`Command`].
    Media(Box<(MediaId, MediaEvent)>),
    /// The lane gave a packet for the device.
    Downlink(Box<Departed>),
    /// An operator's MCP request. Boxed, as each call has an inbox and few ever get one.
    Command(Box<Command>),
    /// Connect the call to another device, or wait for it.
    Bridge(Option<MediaId>),
    /// The other device is gone.
    PeerGone,
    /// Say this to the device.
    Say(String),
    /// End the session.
    HangUp,
}

/// An operator's MCP request.
#[derive(Debug)]
pub struct Command {
    /// The method.
    pub method: String,
    /// Its parameters.
    pub params: Option<Value>,
    /// How long the answer may take.
    pub limit: Duration,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Value, McpError>>,
}

/// How long a command that a lane had no place for waits.
const RETRY: Duration = Duration::from_millis(5);
/// Commands that may wait for a lane. More means that the lane is stuck.
const MAX_WAITING: usize = 256;
/// Inputs handled before what they caused is carried out.
const BUDGET: usize = 16;

/// Starts the task.
pub(super) fn spawn(
    hub: Arc<Hub>,
    profile: Arc<Profile>,
    own: mpsc::WeakSender<Inbox>,
    inbox: mpsc::Receiver<Inbox>,
    link: watch::Receiver<Link>,
    draining: watch::Receiver<Option<Time>>,
) {
    let actor = Actor {
        call: Call::new(Arc::clone(&hub.config.call), entropy::number()),
        room: hub.make_room(&profile),
        hub,
        profile,
        own,
        outlet: None,
        waiting: VecDeque::new(),
        replies: HashMap::new(),
        next_token: 0,
        media: None,
    };
    tokio::spawn(actor.run(inbox, link, draining));
}

/// A random UUID (RFC 9562, version 4).
fn session_id() -> String {
    let mut bytes = [0; 16];
    entropy::fill(&mut bytes);
    let bits = (u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62)) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

struct Actor {
    hub: Arc<Hub>,
    profile: Arc<Profile>,
    own: mpsc::WeakSender<Inbox>,
    call: Call,
    room: Room,
    outlet: Link,
    /// Commands the lane had no place for.
    waiting: VecDeque<(MediaId, MediaCommand)>,
    replies: HashMap<Token, oneshot::Sender<Result<Value, McpError>>>,
    next_token: u64,
    /// The session whose notes these are.
    media: Option<MediaId>,
}

impl Actor {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Inbox>,
        mut link: watch::Receiver<Link>,
        mut draining: watch::Receiver<Option<Time>>,
    ) {
        self.outlet.clone_from(&link.borrow_and_update());
        let deadline = *draining.borrow_and_update();
        if let Some(deadline) = deadline {
            self.call.handle_drain(deadline, self.hub.clock.now());
        }
        loop {
            let retry = (!self.waiting.is_empty()).then(|| self.hub.clock.now() + RETRY);
            let timeout = [self.call.poll_timeout(), retry].into_iter().flatten().min();
            let sleep = timeout.map(|at| self.hub.clock.instant(at));
            tokio::select! {
                biased;
                Ok(()) = link.changed() => {
                    let outlet = link.borrow_and_update().clone();
                    self.relink(outlet);
                }
                Ok(()) = draining.changed() => {
                    let deadline = *draining.borrow_and_update();
                    if let Some(deadline) = deadline {
                        self.call.handle_drain(deadline, self.hub.clock.now());
                    }
                }
                message = inbox.recv() => {
                    let Some(message) = message else { break };
                    self.feed(message);
                    for _ in 1..BUDGET {
                        let Ok(message) = inbox.try_recv() else { break };
                        self.feed(message);
                    }
                }
                // What it made of the last event goes to the lane first.
                (id, event) = self.room.next(), if self.waiting.is_empty() => self.call.handle_room(id, event, self.hub.clock.now()),
                () = sleep_until(sleep) => self.call.handle_timeout(self.hub.clock.now()),
            }
            self.carry_out();
            let done = self.outlet.is_none() && self.call.is_quiet() && self.waiting.is_empty();
            if done && self.hub.retire(&self.profile.client, &mut inbox) {
                break;
            }
        }
    }

    fn relink(&mut self, outlet: Link) {
        let now = self.hub.clock.now();
        match (&self.outlet, &outlet) {
            (_, Some(_)) => self.call.handle_mqtt_returned(),
            (Some(_), None) => self.call.handle_mqtt_lost(now),
            (None, None) => {}
        }
        self.outlet = outlet;
    }

    fn feed(&mut self, message: Inbox) {
        let now = self.hub.clock.now();
        match message {
            Inbox::Message { incoming, arrived } => match incoming.message {
                Message::Hello(hello) => {
                    let grant = self.grant(&hello);
                    self.call.handle_hello(hello, grant, now);
                    self.carry_out();
                    self.hub.registry.counters.hello(self.hub.clock.now().since(arrived));
                }
                _ => self.call.handle_message(incoming, now),
            },
            Inbox::Written(receipt) => self.call.handle_written(receipt, now),
            Inbox::Media(said) => self.call.handle_media(said.0, said.1, now),
            Inbox::Downlink(departed) => self.play(&departed),
            Inbox::Command(command) => {
                let Command { method, params, limit, reply } = *command;
                let token = Token(self.next_token);
                self.next_token += 1;
                self.replies.insert(token, reply);
                self.call.handle_command(token, &method, params, limit, now);
            }
            Inbox::Bridge(peer) => {
                self.call.handle_bridge(peer, now);
            }
            Inbox::PeerGone => self.call.handle_peer_gone(now),
            Inbox::Say(text) => self.say(text, None),
            Inbox::HangUp => self.call.handle_hang_up(now),
        }
    }

    fn grant(&self, hello: &Hello) -> Result<Grant, PlaceError> {
        // A load test talks and listens at once; the parrot would do one after the other.
        let loops =
            self.hub.config.loopback && hello.features.as_ref().is_some_and(|f| f["loopback"] == true);
        let route = match self.room.route() {
            Route::Echo if loops => Route::Loopback,
            route => route,
        };
        let placement = self.hub.plane.place()?;
        let mut key = [0; 32];
        entropy::fill(&mut key);
        Ok(Grant {
            placement,
            session_id: session_id(),
            key,
            source: self.hub.source_of(&self.profile),
            route,
        })
    }

    fn carry_out(&mut self) {
        self.retry();
        while let Some(output) = self.call.poll_output() {
            match output {
                Output::Device { text, receipt } => self.say(text, receipt),
                Output::Media(media, command) => self.command(media, command),
                Output::Release(media) => self.hub.plane.release(media),
                Output::Room(id, command) => self.room.command(id, command),
                Output::Result(token, result) => {
                    if let Some(reply) = self.replies.remove(&token) {
                        let _ = reply.send(result);
                    }
                }
                Output::Note(note) => self.note(note),
            }
        }
    }

    fn note(&mut self, note: Note) {
        if matches!(note, Note::SessionBegan) {
            self.media = self.call.media();
        }
        self.hub.registry.note(self.media, note, self.hub.clock.now());
        tracing::debug!(client = &*self.profile.client, ?note);
        if let Note::SessionEnded(reason) = note {
            self.media = None;
            // To a device on WebSocket a session is its connection. What was said before is still written.
            if self.profile.transport == Transport::WebSocket
                && reason != EndReason::NewHello
                && let Some(outlet) = self.outlet.take()
            {
                self.hub.let_go(&self.profile.client, &outlet);
            }
        }
    }

    fn say(&mut self, text: String, receipt: Option<Receipt>) {
        let Some(outlet) = &self.outlet else { return };
        let receipt = receipt.map(|receipt| (receipt, self.own.clone()));
        let topic = Arc::clone(&self.profile.topic);
        let outgoing = Box::new(Outgoing { topic, content: Content::Text(text), receipt });
        if let Err(mpsc::error::TrySendError::Full(_)) = outlet.try_send(outgoing) {
            // A device that does not read cannot be told anything: its connection goes, its call may stay.
            self.hub.registry.counters.add(Counter::SlowReader);
            self.hub.drop_link(&self.profile.client);
        }
    }

    /// Audio of the current session goes out on the device's connection; what there is no place for is dropped.
    fn play(&mut self, departed: &Departed) {
        let is_current = self.call.media() == Some(departed.media);
        let Some(outlet) = self.outlet.as_ref().filter(|_| is_current) else { return };
        let opus = Bytes::copy_from_slice(departed.packet.opus());
        let content = Content::Audio { opus, timestamp: departed.timestamp };
        let outgoing = Outgoing { topic: Arc::clone(&self.profile.topic), content, receipt: None };
        if outlet.try_send(Box::new(outgoing)).is_err() {
            self.hub.registry.counters.add(Counter::AudioDropped);
        }
    }

    fn command(&mut self, media: MediaId, command: MediaCommand) {
        match &command {
            MediaCommand::Open(open) => {
                let inbox = self.own.upgrade();
                self.hub.session(&self.profile.client, media, inbox);
                let mac = self.profile.identity.client.mac;
                let (name, now) = (self.room.name(), self.hub.clock.now());
                self.hub.registry.began(media, mac, &open.session_id, name, open.transport, now);
            }
            MediaCommand::Close => self.hub.session(&self.profile.client, media, None),
            _ => {}
        }
        if self.waiting.is_empty() {
            self.send(media, command);
        } else {
            self.wait(media, command);
        }
    }

    fn send(&mut self, media: MediaId, command: MediaCommand) -> bool {
        match self.hub.plane.send(media, command) {
            Ok(()) => return true,
            Err(SendError::Full(command)) => self.wait(media, command),
            Err(SendError::Gone) => {
                let failed = MediaEvent::Failed(MediaFailure::Setup);
                self.call.handle_media(media, failed, self.hub.clock.now());
            }
        }
        false
    }

    fn wait(&mut self, media: MediaId, command: MediaCommand) {
        if self.waiting.len() >= MAX_WAITING {
            tracing::error!(?media, "a lane takes no commands");
            self.waiting.clear();
        }
        self.waiting.push_back((media, command));
    }

    fn retry(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some((media, command)) = self.waiting.pop_front() else { return };
            match self.hub.plane.send(media, command) {
                Ok(()) => {}
                Err(SendError::Full(command)) => return self.waiting.push_front((media, command)),
                Err(SendError::Gone) => {
                    let failed = MediaEvent::Failed(MediaFailure::Setup);
                    self.call.handle_media(media, failed, self.hub.clock.now());
                }
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inboxes_are_small() {
        // A queue holds memory for 32 from the start, and there are thousands of queues.
        assert!(size_of::<Inbox>() <= 32, "{}", size_of::<Inbox>());
    }

    #[test]
    fn session_ids_are_random_uuids() {
        let (one, other) = (session_id(), session_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"));
    }
}
