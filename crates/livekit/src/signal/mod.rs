//! The signal connection: WebSocket and protobuf, on tokio.
//!
//! [`spawn`] starts a task that joins the room and stays in it: it pings, keeps the newest token, resumes the session
//! when the connection breaks, joins anew when resuming fails, and obeys the server's `Leave`. What the room says
//! comes out as [`SignalEvent`]s; what the participant wants goes in as [`SignalCommand`]s. Both queues are bounded.
//!
//! A connection has a number, counted up with every [`SignalEvent::Joined`] and [`SignalEvent::Resumed`]; a request
//! meant for an earlier connection is dropped, for the session it belonged to is gone.

mod connect;
mod session;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::error::{SignalError, TokenError};

/// How many events may wait for the participant before the task stops reading from the server.
const EVENT_QUEUE: usize = 256;
/// How many commands may wait for the task.
const COMMAND_QUEUE: usize = 256;

/// Where the token to join with comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// One token, and after joining the ones the server refreshes it with.
    Fixed(String),
    /// A new token for every joining. Called on the signal task; must not block.
    Mint(Arc<dyn Fn() -> Result<String, TokenError> + Send + Sync>),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "TokenSource::Fixed(..)",
            Self::Mint(_) => "TokenSource::Mint(..)",
        })
    }
}

/// How many peer connections the participant has with the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// One for both directions (`/rtc/v1`).
    #[default]
    Single,
    /// One to publish and one to subscribe (`/rtc`), as servers before 1.10 know it.
    Dual,
}

/// Settings of a signal connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignalConfig {
    /// The server: `wss://host[/path]`, or `ws://` where the way to it is private. `https` and `http` mean the same.
    pub url: String,
    /// Where tokens come from.
    pub token: TokenSource,
    /// Ask for this first. From [`Connections::Single`] it falls back to [`Connections::Dual`] when the server does
    /// not know it (404). Default: single.
    pub connections: Connections,
    /// Ask the server not to use ICE lite. Default: false.
    pub disable_ice_lite: bool,
    /// How long connecting, TLS, the upgrade and the first message may take together. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long to try to join for the first time; transient failures within are tried again. Default: 0, which
    /// reports the first failure.
    pub join_for: Duration,
    /// How long to try to resume before joining anew. Default: 5 s.
    pub resume_for: Duration,
    /// How long to try to get back into the room, once joined, before giving up. Default: 60 s.
    pub rejoin_for: Duration,
    /// The longest wait between two tries; they start at 200 ms and double, with jitter. Default: 2 s.
    pub longest_wait: Duration,
    /// The largest message taken from the server, in bytes. Decoding may take a hundred times that for a moment.
    /// Default: 256 KiB.
    pub message_limit: usize,
    /// TLS settings. Default: the certificates this machine trusts.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl SignalConfig {
    /// Defaults for everything but server and token.
    pub fn new(url: impl Into<String>, token: TokenSource) -> Self {
        Self {
            url: url.into(),
            token,
            connections: Connections::Single,
            disable_ice_lite: false,
            connect_timeout: Duration::from_secs(5),
            join_for: Duration::ZERO,
            resume_for: Duration::from_secs(5),
            rejoin_for: Duration::from_secs(60),
            longest_wait: Duration::from_secs(2),
            message_limit: 256 * 1024,
            tls: None,
        }
    }
}

/// What the signal connection reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum SignalEvent {
    /// In the room, as a new participant: everything of an earlier session is void.
    Joined {
        /// The number of this connection.
        connection: u32,
        /// How many peer connections the server expects.
        connections: Connections,
        /// What the server told about the room.
        join: Box<proto::JoinResponse>,
    },
    /// The session goes on over a new connection.
    Resumed {
        /// The number of this connection.
        connection: u32,
        /// What the server told about its state.
        reconnect: Box<proto::ReconnectResponse>,
    },
    /// A message from the server.
    Message(Box<proto::SignalResponse>),
    /// The connection is lost or given up; the task tries to get back.
    Interrupted(SignalError),
    /// The end. `None` when the participant asked for it.
    Closed(Option<SignalError>),
}

/// What the participant wants of the signal connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum SignalCommand {
    /// Send this, if the connection of this number is still the one.
    Send {
        /// The number given by [`SignalEvent::Joined`] or [`SignalEvent::Resumed`].
        connection: u32,
        /// The request.
        request: Box<proto::SignalRequest>,
    },
    /// Media broke: make a new connection for the same session.
    Resume,
    /// The session is beyond repair: join anew.
    Rejoin,
    /// Leave the room and end.
    Leave,
    /// End without a word: the session on the server is another's by now.
    Abandon,
}

/// The participant's end of the signal connection. Dropping it leaves the room.
#[derive(Debug)]
pub struct SignalHandle {
    commands: mpsc::Sender<SignalCommand>,
    events: mpsc::Receiver<SignalEvent>,
}

impl SignalHandle {
    /// The next event, if one is there. For threads that were woken by the `wake` of [`spawn`].
    pub fn try_recv(&mut self) -> Option<SignalEvent> {
        self.events.try_recv().ok()
    }

    /// The next event; `None` after [`SignalEvent::Closed`].
    pub async fn recv(&mut self) -> Option<SignalEvent> {
        self.events.recv().await
    }

    /// Hands over a command without waiting.
    ///
    /// # Errors
    /// Gives the command back when the task has ended, or is so far behind that the session should be given up.
    pub fn send(&self, command: SignalCommand) -> Result<(), SignalCommand> {
        self.commands.try_send(command).map_err(|e| match e {
            mpsc::error::TrySendError::Full(c) | mpsc::error::TrySendError::Closed(c) => c,
        })
    }
}

/// Starts the signal task on the current tokio runtime. `wake` is called after every event, from that task, and must
/// not block: it is there to wake the thread on which the participant lives.
pub fn spawn(config: SignalConfig, wake: impl Fn() + Send + Sync + 'static) -> SignalHandle {
    let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
    let (event_queue, events) = mpsc::channel(EVENT_QUEUE);
    tokio::spawn(session::run(config, command_queue, session::Events::new(event_queue, Box::new(wake))));
    SignalHandle { commands, events }
}

/// Reads one message of the server.
///
/// # Errors
/// [`SignalError::Oversized`] beyond `limit` bytes, [`SignalError::Garbage`] when it is no `SignalResponse`.
pub fn parse(bytes: &[u8], limit: usize) -> Result<proto::SignalResponse, SignalError> {
    if bytes.len() > limit {
        return Err(SignalError::Oversized { limit });
    }
    proto::SignalResponse::decode(bytes)
        .map_err(|e| SignalError::Garbage { reason: crate::error::shorten(&e.to_string()) })
}
