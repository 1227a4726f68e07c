//! A call's chat server: joined, spoken with and left without ever holding the call up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use evenkeel_core::units::Time;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use super::connect::{self, Bearer, ConnectError, Headers, Joined};
use super::servers::Servers;
use super::text::{self, ServerText};
use crate::control::Clock;
use crate::device::limits::{Bucket, Rate};
use crate::entropy;
use crate::lane::guest::chat::{ChatGuest, Farewell, Request, Told};
use crate::lane::guest::{Arrival, Guest, Link};
use crate::media::{GuestId, MediaId, MediaPlane};
use crate::ops::counters::Counter;
use crate::ops::registry::Registry;
use crate::room::way::{RETRY, Way};
use crate::room::{Join, RoomCommand, RoomEvent, RoomId, SETTLED};

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

/// Texts of a server; a reply has one a sentence. One that says more waits for its turn, and its audio with it. The burst
/// fits what may wait for a device ([`crate::control::OUTLET_CAPACITY`]), and a device that reads can read so many a second.
const TEXT_RATE: Rate = Rate { burst: 40, per_second: 40.0 };
/// How long a server over that rate waits before it is looked at again.
const TEXT_PAUSE: Duration = Duration::from_millis(25);
/// A server that has not answered for so long when a call gives up on it has failed; before, the call may have had
/// other reasons.
const SLOW: Duration = Duration::from_secs(1);
/// How long a polite close may take before the connection is dropped.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Texts that may wait for the lane.
const REQUESTS: usize = 64;
/// What the lane says that may wait for us: a text, why it ended, the connection.
const TOLD: usize = 4;

type Attempt = Pin<Box<dyn Future<Output = Result<Joined, ConnectError>> + Send>>;

/// One call's side of a chat server.
pub struct WebSocketRoom {
    rooms: Arc<WebSocketRooms>,
    plane: Arc<dyn MediaPlane>,
    registry: Arc<Registry>,
    headers: Headers,
    state: State,
    leaving: Option<(RoomId, JoinHandle<()>)>,
}

enum State {
    Apart,
    Connecting { id: RoomId, media: MediaId, url: String, since: Time, attempt: Attempt },
    Open { id: RoomId, open: Open },
}

/// A server whose connection lives in the lane.
struct Open {
    url: String,
    since: Time,
    way: Way<Request>,
    told: Receiver<Told>,
    texts: Bucket,
    /// The lane waits for us to have dealt with the last text.
    owes_word: bool,
    /// The last text came before its turn, which was counted.
    has_waited: bool,
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
        plane: Arc<dyn MediaPlane>,
        registry: Arc<Registry>,
        headers: Headers,
    ) -> Self {
        Self { rooms, plane, registry, headers, state: State::Apart, leaving: None }
    }

    /// Carries out a command of the call. Never waits: what a server does not take is dropped and counted.
    pub fn command(&mut self, id: RoomId, command: RoomCommand) {
        match command {
            RoomCommand::Join(join) => {
                let (since, media) = (self.rooms.clock.now(), join.media);
                let url = self.rooms.servers.pick(since).unwrap_or_default();
                let attempt = self.attempt(url.clone(), join);
                self.state = State::Connecting { id, media, url, since, attempt };
            }
            RoomCommand::Leave => self.leave(id),
            RoomCommand::Device { text, .. } => self.say(id, text),
            RoomCommand::Mcp(payload) => {
                self.say(id, json!({"type": "mcp", "payload": payload}).to_string());
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
        self.leaving = Some((id, self.close(false)));
    }

    /// Closes what there is, politely but not for long.
    fn close(&mut self, is_lost: bool) -> JoinHandle<()> {
        let now = self.rooms.clock.now();
        match std::mem::replace(&mut self.state, State::Apart) {
            State::Open { open: Open { url, since, way, told, .. }, .. } => {
                // One that greets and goes away serves calls no better than one that is not there.
                if is_lost && now.since(since) < SETTLED {
                    self.rooms.servers.failed(&url, now);
                } else {
                    self.rooms.servers.succeeded(&url);
                }
                way.close();
                tokio::spawn(close_politely(told))
            }
            // Dropping the attempt ends it.
            State::Connecting { url, since, .. } => {
                if now.since(since) >= SLOW {
                    self.rooms.servers.failed(&url, now);
                }
                tokio::spawn(std::future::ready(()))
            }
            State::Apart => tokio::spawn(std::future::ready(())),
        }
    }

    fn say(&self, to: RoomId, text: String) {
        if let State::Open { id, open } = &self.state
            && *id == to
            && !open.way.ask(Request(text))
        {
            self.registry.counters.add(Counter::RoomStalled);
        }
    }

    /// What the room gives next. Cancel safe.
    pub async fn next(&mut self) -> (RoomId, RoomEvent) {
        loop {
            let left = async {
                match &mut self.leaving {
                    Some((_, task)) => _ = task.await,
                    None => std::future::pending().await,
                }
            };
            let (rooms, registry) = (&self.rooms, &self.registry);
            let state = &mut self.state;
            let came = tokio::select! {
                biased;
                () = left => Came::Left,
                came = state.next(rooms, registry) => came,
            };
            match came {
                Came::Left => {
                    if let Some((id, _)) = self.leaving.take() {
                        return (id, RoomEvent::Left);
                    }
                }
                Came::Joined(result) => {
                    if let Some(event) = self.joined(result) {
                        return event;
                    }
                }
                Came::Event(id, event) => {
                    if matches!(event, RoomEvent::Lost | RoomEvent::Ended) {
                        self.close(matches!(event, RoomEvent::Lost));
                    }
                    return (id, event);
                }
            }
        }
    }

    fn joined(&mut self, result: Result<Joined, ConnectError>) -> Option<(RoomId, RoomEvent)> {
        let State::Connecting { id, media, url, .. } = std::mem::replace(&mut self.state, State::Apart)
        else {
            return None;
        };
        let now = self.rooms.clock.now();
        match result {
            Ok(Joined { stream, connection, session_id }) => {
                let (requests, asked) = mpsc::channel(REQUESTS);
                let (tell, told) = mpsc::channel(TOLD);
                let guest = Guest::Chat(Box::new(ChatGuest::new(GuestId(id.0), connection, asked, tell)));
                let links = vec![Link::Stream(stream)];
                if !self.plane.attach(media, Box::new(Arrival { guest, links })) {
                    tracing::warn!("a lane takes no more rooms at the moment");
                    return Some((id, RoomEvent::Lost));
                }
                let way = Way::new(requests, Arc::clone(&self.plane), media);
                let texts = Bucket::new(TEXT_RATE, now);
                // The lane begins once the call knows that the room is there.
                self.state = State::Open {
                    id,
                    open: Open { url, since: now, way, told, texts, owes_word: true, has_waited: false },
                };
                Some((id, RoomEvent::Ready { session_id }))
            }
            Err(error) => {
                tracing::warn!(%error, url, "chat server not reached");
                self.rooms.servers.failed(&url, now);
                Some((id, RoomEvent::Lost))
            }
        }
    }
}

/// What [`State::next`] gives.
enum Came {
    Left,
    Joined(Result<Joined, ConnectError>),
    Event(RoomId, RoomEvent),
}

impl State {
    async fn next(&mut self, rooms: &WebSocketRooms, registry: &Registry) -> Came {
        match self {
            Self::Apart => std::future::pending().await,
            Self::Connecting { attempt, .. } => Came::Joined(attempt.as_mut().await),
            Self::Open { id, open } => Came::Event(*id, open.next(*id, rooms.clock, registry).await),
        }
    }
}

impl Open {
    async fn next(&mut self, id: RoomId, clock: Clock, registry: &Registry) -> RoomEvent {
        loop {
            // What the call did with the last text is on its way to the lane before this is: in the same queue, and a
            // call whose commands wait for a place in it does not get here.
            if self.owes_word {
                while !self.texts.take(TEXT_RATE, clock.now()) {
                    if !std::mem::replace(&mut self.has_waited, true) {
                        registry.counters.add(Counter::RoomFlooded);
                    }
                    tokio::time::sleep(TEXT_PAUSE).await;
                }
                while !self.way.go_on(GuestId(id.0)) {
                    tokio::time::sleep(RETRY).await;
                }
                (self.owes_word, self.has_waited) = (false, false);
            }
            match self.told.recv().await {
                Some(Told::Text(said)) => {
                    self.owes_word = true;
                    match text::parse(&said) {
                        Ok(ServerText::Event(event)) => return event,
                        Ok(ServerText::Hello { .. }) => {}
                        Err(error) => {
                            tracing::debug!(%error, "a bad message of a chat server");
                            registry.counters.add(Counter::BadFrames);
                        }
                    }
                }
                // 1000, or no code at all, is a server that is done; anything else one that is in trouble.
                Some(Told::Closed(None | Some(1000 | 1005))) => return RoomEvent::Ended,
                Some(Told::Closed(code)) => {
                    tracing::info!(?code, "a chat server closed");
                    return RoomEvent::Lost;
                }
                Some(Told::Lost(loss)) => {
                    tracing::info!(%loss, "a chat server is lost");
                    return RoomEvent::Lost;
                }
                // The lane let go of it: its session is over.
                Some(Told::Left(farewell)) => {
                    tokio::spawn(say_goodbye(*farewell));
                    return RoomEvent::Lost;
                }
                None => return RoomEvent::Lost,
            }
        }
    }
}

/// Waits for the connection to come back from the lane, and closes it.
async fn close_politely(mut told: Receiver<Told>) {
    let handed_back = async {
        loop {
            match told.recv().await {
                Some(Told::Left(farewell)) => return Some(farewell),
                Some(_) => {}
                None => return None,
            }
        }
    };
    if let Ok(Some(farewell)) = tokio::time::timeout(CLOSE_LIMIT, handed_back).await {
        say_goodbye(*farewell).await;
    }
}

/// Says what is still to be said and waits for the other end to close, so that it gets to read it: what came and was not
/// read would make the kernel reset the connection.
async fn say_goodbye(farewell: Farewell) {
    let Farewell { stream, mut connection } = farewell;
    connection.send_close(1000, entropy::number());
    let Ok(mut tcp) = TcpStream::from_std(stream.end(connection.output())) else { return };
    let closed = async {
        tcp.shutdown().await?;
        let mut ignored = [0; 2048];
        loop {
            tcp.readable().await?;
            match tcp.try_read(&mut ignored) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // However it ends, it is closed then.
    let _: Result<std::io::Result<()>, _> = tokio::time::timeout(CLOSE_LIMIT, closed).await;
}
