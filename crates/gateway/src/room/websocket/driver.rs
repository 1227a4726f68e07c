//! A call's chat server: joined, spoken with and left without ever holding the call up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use evenkeel_core::units::Time;
use futures_util::{Sink as _, SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::connect::{self, Bearer, ConnectError, Headers, Socket};
use super::frame::{self, ServerText};
use super::servers::Servers;
use crate::control::Clock;
use crate::device::limits::{Bucket, Rate};
use crate::ops::counters::{Counter, Counters};
use crate::room::{Join, RoomCommand, RoomEvent, RoomId};

/// What the chat server rooms of all calls share.
#[derive(Debug)]
pub struct WebSocketRooms {
    /// Where calls go.
    pub servers: Servers,
    /// Proves who we are.
    pub bearer: Bearer,
    /// For `wss://`.
    pub tls: Arc<rustls::ClientConfig>,
    /// The time.
    pub clock: Clock,
}

/// Texts a server may send; a reply has one a sentence. The burst fits what may wait for a device
/// ([`crate::control::OUTLET_CAPACITY`]), so that a server that floods does not cost a device its connection.
const TEXT_RATE: Rate = Rate { burst: 40, per_second: 40.0 };
/// Messages skipped or handled in one turn before others get theirs.
const BUDGET: usize = 32;
/// How often a silent server is pinged; one that is silent for two in a row is lost.
const PING: Duration = Duration::from_secs(20);
/// A server that has not answered for so long when a call gives up on it has failed; before, the call may have had
/// other reasons.
const SLOW: Duration = Duration::from_secs(1);
/// How long a polite close may take before the socket is dropped.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

type Attempt = Pin<Box<dyn Future<Output = Result<(Socket, Option<String>), ConnectError>> + Send>>;

/// One call's side of a chat server.
pub struct WebSocketRoom {
    rooms: Arc<WebSocketRooms>,
    counters: Arc<crate::ops::registry::Registry>,
    headers: Headers,
    state: State,
    leaving: Option<(RoomId, JoinHandle<()>)>,
}

enum State {
    Apart,
    Connecting { id: RoomId, url: String, since: Time, attempt: Attempt },
    Open { id: RoomId, open: Box<Open> },
}

struct Open {
    socket: Socket,
    /// Something was queued and not flushed.
    dirty: bool,
    texts: Bucket,
    ping: Pin<Box<Sleep>>,
    heard: bool,
    pinged: bool,
}

impl std::fmt::Debug for WebSocketRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketRoom").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl WebSocketRoom {
    /// Not joined yet.
    #[must_use]
    pub fn new(
        rooms: Arc<WebSocketRooms>,
        registry: Arc<crate::ops::registry::Registry>,
        headers: Headers,
    ) -> Self {
        Self { rooms, counters: registry, headers, state: State::Apart, leaving: None }
    }

    /// Carries out a command of the call. Never waits: what a server does not take is dropped and counted.
    pub fn command(&mut self, id: RoomId, command: RoomCommand) {
        match command {
            RoomCommand::Join(join) => {
                let since = self.rooms.clock.now();
                let url = self.rooms.servers.pick(since).unwrap_or_default();
                let attempt = self.attempt(url.clone(), join);
                self.state = State::Connecting { id, url, since, attempt };
            }
            RoomCommand::Leave => self.leave(id),
            RoomCommand::Device { text, .. } => self.push(id, Message::text(text)),
            RoomCommand::Mcp(payload) => {
                self.push(id, Message::text(json!({"type": "mcp", "payload": payload}).to_string()));
            }
            RoomCommand::Audio { opus, timestamp } => {
                self.push(id, Message::Binary(Bytes::from(frame::emit_audio(timestamp, &opus))));
            }
        }
    }

    fn attempt(&self, url: String, join: Box<Join>) -> Attempt {
        let (rooms, headers) = (Arc::clone(&self.rooms), self.headers.clone());
        Box::pin(async move {
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs());
            let uuid = headers.uuid.as_deref().unwrap_or_default();
            let token = rooms.bearer.token(uuid, headers.mac, unix);
            connect::connect(&url, Arc::clone(&rooms.tls), &headers, &token, &join).await
        })
    }

    fn leave(&mut self, id: RoomId) {
        self.leaving = Some((id, self.close()));
    }

    /// Closes what there is, politely but not for long.
    fn close(&mut self) -> JoinHandle<()> {
        match std::mem::replace(&mut self.state, State::Apart) {
            State::Open { mut open, .. } => tokio::spawn(async move {
                let goodbyes = async {
                    // If the server closed, the answer is queued; else this is the first word of it.
                    if open.socket.flush().await.is_ok() && open.socket.close(None).await.is_ok() {
                        while let Some(Ok(_)) = open.socket.next().await {}
                    }
                };
                let _ = tokio::time::timeout(CLOSE_LIMIT, goodbyes).await;
            }),
            // Dropping the attempt ends it.
            State::Connecting { url, since, .. } => {
                let now = self.rooms.clock.now();
                if now.since(since) >= SLOW {
                    self.rooms.servers.failed(&url, now);
                }
                tokio::spawn(std::future::ready(()))
            }
            State::Apart => tokio::spawn(std::future::ready(())),
        }
    }

    fn push(&mut self, to: RoomId, message: Message) {
        let State::Open { id, open } = &mut self.state else { return };
        if *id != to {
            return;
        }
        // The waker is registered by the next poll, as `dirty` makes it flush.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let socket = Pin::new(&mut open.socket);
        let taken = match socket.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut open.socket).start_send(message).is_ok(),
            _ => false,
        };
        open.dirty = true;
        if !taken {
            self.counters.counters.add(Counter::RoomStalled);
        }
    }

    /// What the room gives next. Cancel safe.
    pub async fn next(&mut self) -> (RoomId, RoomEvent) {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(RoomId, RoomEvent)> {
        if let Some((id, handle)) = &mut self.leaving
            && Pin::new(handle).poll(cx).is_ready()
        {
            let id = *id;
            self.leaving = None;
            return Poll::Ready((id, RoomEvent::Left));
        }
        match &mut self.state {
            State::Apart => Poll::Pending,
            State::Connecting { id, url, attempt, .. } => {
                let result = ready!(attempt.as_mut().poll(cx));
                let (id, url) = (*id, std::mem::take(url));
                let now = self.rooms.clock.now();
                match result {
                    Ok((socket, session_id)) => {
                        self.rooms.servers.succeeded(&url);
                        let open = Open {
                            socket,
                            dirty: false,
                            texts: Bucket::new(TEXT_RATE, now),
                            ping: Box::pin(tokio::time::sleep(PING)),
                            heard: true,
                            pinged: false,
                        };
                        self.state = State::Open { id, open: Box::new(open) };
                        Poll::Ready((id, RoomEvent::Ready { session_id }))
                    }
                    Err(error) => {
                        tracing::warn!(%error, url, "chat server not reached");
                        self.rooms.servers.failed(&url, now);
                        self.state = State::Apart;
                        Poll::Ready((id, RoomEvent::Lost))
                    }
                }
            }
            State::Open { id, open } => {
                let event = ready!(open.poll_event(cx, &self.rooms.clock, &self.counters.counters));
                let id = *id;
                if matches!(event, RoomEvent::Lost | RoomEvent::Ended) {
                    self.close();
                }
                Poll::Ready((id, event))
            }
        }
    }
}

impl Open {
    fn poll_event(&mut self, cx: &mut Context<'_>, clock: &Clock, counters: &Counters) -> Poll<RoomEvent> {
        if self.poll_ping(cx) {
            return Poll::Ready(RoomEvent::Lost);
        }
        if self.dirty {
            match self.socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(_)) => return Poll::Ready(RoomEvent::Lost),
                Poll::Pending => {}
            }
        }
        for _ in 0..BUDGET {
            let Some(message) = ready!(self.socket.poll_next_unpin(cx)) else {
                return Poll::Ready(RoomEvent::Lost);
            };
            self.heard = true;
            match message {
                Ok(Message::Binary(frame)) => match frame::parse_audio(&frame) {
                    Ok((timestamp, opus)) => return Poll::Ready(RoomEvent::Audio { opus, timestamp }),
                    Err(_) => counters.add(Counter::BadFrames),
                },
                Ok(Message::Text(text)) => match frame::parse_text(text.as_bytes()) {
                    Ok(ServerText::Event(event)) if self.texts.take(TEXT_RATE, clock.now()) => {
                        return Poll::Ready(event);
                    }
                    Ok(ServerText::Event(_)) => counters.add(Counter::MessagesDropped),
                    Ok(ServerText::Hello { .. }) => {}
                    Err(_) => counters.add(Counter::BadFrames),
                },
                Ok(Message::Close(frame)) => {
                    // 1000, or no code at all, is a server that is done; anything else one that is in trouble.
                    let done = frame.is_none_or(|f| matches!(f.code, CloseCode::Normal | CloseCode::Status));
                    return Poll::Ready(if done { RoomEvent::Ended } else { RoomEvent::Lost });
                }
                Ok(_) => {}
                Err(WsError::Utf8(_)) | Err(_) => return Poll::Ready(RoomEvent::Lost),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pings a server that was silent; `true` if it did not even answer that.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> bool {
        while self.ping.as_mut().poll(cx).is_ready() {
            if !self.heard && self.pinged {
                return true;
            }
            self.pinged = !self.heard;
            self.heard = false;
            if self.pinged {
                let mut noop = Context::from_waker(std::task::Waker::noop());
                if Pin::new(&mut self.socket).poll_ready(&mut noop).is_ready() {
                    let _ = Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new()));
                }
                self.dirty = true;
            }
            self.ping.as_mut().reset(Instant::now() + PING);
        }
        false
    }
}
