//! The task that stays in the room: serve a connection, and when it breaks resume, then join anew, then give up.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::SinkExt as _;
use livekit_protocol as proto;
use prost::Message as _;
use proto::leave_request::Action;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;

use super::connect::{self, Opened, Purpose, Socket};
use super::{Connections, SignalCommand, SignalConfig, SignalEvent, TokenSource};
use crate::error::SignalError;

/// A connection that held this long was a good one: the next failure starts counting from zero.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// The shortest wait between two tries.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
/// How long one message to the server may take, and how long saying goodbye.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a server may send us on to another one.
const REDIRECT_LIMIT: usize = 3;

/// Where events go.
pub(super) struct Events {
    queue: mpsc::Sender<SignalEvent>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// The participant is gone, or wants to leave.
struct Gone;

impl Events {
    pub(super) fn new(queue: mpsc::Sender<SignalEvent>, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue, wake }
    }

    async fn send(&self, event: SignalEvent) -> Result<(), Gone> {
        self.queue.send(event).await.map_err(|_| Gone)?;
        (self.wake)();
        Ok(())
    }
}

/// How a served connection ended.
enum End {
    /// It broke.
    Lost(SignalError),
    /// The participant wants a new connection for the same session.
    Resume,
    /// The participant, or the server, wants us to join anew.
    Rejoin(Option<SignalError>),
    /// The server wants us gone for good.
    Dismissed(SignalError),
}

/// What to try next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Join,
    Resume,
}

struct Session {
    config: SignalConfig,
    events: Events,
    commands: mpsc::Receiver<SignalCommand>,
    url: String,
    connections: Connections,
    /// The newest token the server gave us.
    refreshed: Option<String>,
    /// We were moved to another room, so the token source names the wrong one.
    moved: bool,
    participant_sid: String,
    connection: u32,
}

pub(super) async fn run(config: SignalConfig, commands: mpsc::Receiver<SignalCommand>, events: Events) {
    let mut session = Session {
        url: config.url.clone(),
        connections: config.connections,
        config,
        events,
        commands,
        refreshed: None,
        moved: false,
        participant_sid: String::new(),
        connection: 0,
    };
    let last = session.stay().await.ok();
    let _ = session.events.send(SignalEvent::Closed(last)).await;
}

impl Session {
    /// Stays in the room until it is lost for good; gives what ended it.
    async fn stay(&mut self) -> Result<SignalError, Gone> {
        let mut next = Next::Join;
        let mut failing_since = Some(Instant::now());
        let mut tries = 0u32;
        loop {
            let error = match self.open(next).await? {
                Ok(opened) => {
                    let since = Instant::now();
                    let end = self.serve(opened, next).await?;
                    if since.elapsed() >= GOOD_AFTER {
                        tries = 0;
                        failing_since = None;
                    }
                    let (then, error) = match end {
                        End::Dismissed(error) => return Ok(error),
                        End::Lost(error) if matches!(error, SignalError::Garbage { .. }) => {
                            (Next::Join, error)
                        }
                        End::Lost(error) => (Next::Resume, error),
                        End::Resume => (Next::Resume, SignalError::Closed { code: None }),
                        End::Rejoin(error) => {
                            (Next::Join, error.unwrap_or(SignalError::Closed { code: None }))
                        }
                    };
                    next = then;
                    failing_since.get_or_insert_with(Instant::now);
                    self.events.send(SignalEvent::Interrupted(error.clone())).await?;
                    if tries == 0 {
                        tries = 1;
                        continue;
                    }
                    error
                }
                Err(error) => error,
            };
            let tried = failing_since.get_or_insert_with(Instant::now).elapsed();
            match next {
                Next::Resume if !error.is_transient() || tried >= self.config.resume_for => next = Next::Join,
                Next::Resume => {}
                Next::Join => {
                    let joined_before = self.connection > 0;
                    let limit = if joined_before { self.config.rejoin_for } else { self.config.join_for };
                    if !error.is_transient() {
                        return Ok(error);
                    }
                    if tried >= limit {
                        return Ok(match joined_before {
                            true => SignalError::GaveUp { after: tried, last: Box::new(error) },
                            false => error,
                        });
                    }
                }
            }
            tries += 1;
            self.wait(backoff(tries, self.config.longest_wait)).await?;
        }
    }

    /// One try to connect. Commands that need a connection are dropped meanwhile.
    async fn open(&mut self, next: Next) -> Result<Result<Opened, SignalError>, Gone> {
        let token = match self.token(next) {
            Ok(token) => token,
            Err(error) => return Ok(Err(error)),
        };
        let config = self.config.clone();
        let sid = self.participant_sid.clone();
        let connections = match next {
            Next::Join => self.config.connections,
            Next::Resume => self.connections,
        };
        for _ in 0..REDIRECT_LIMIT {
            let url = self.url.clone();
            let purpose = match next {
                Next::Join => Purpose::Join,
                Next::Resume => Purpose::Resume { participant_sid: &sid },
            };
            let opening = connect::connect(&config, &url, &token, connections, purpose);
            let opened = tokio::select! {
                opened = opening => opened,
                gone = self.until_gone() => return Err(gone),
            };
            match opened {
                Ok(Opened {
                    first: proto::SignalResponse { message: Some(Response::Join(join)) }, ..
                }) if !join.alternative_url.is_empty() => {
                    if self.url.starts_with("wss") && !join.alternative_url.starts_with("wss") {
                        let reason = "the server sends us on to an address without TLS";
                        return Ok(Err(SignalError::Url { url: join.alternative_url, reason }));
                    }
                    self.url = join.alternative_url;
                }
                other => return Ok(other),
            }
        }
        Ok(Err(SignalError::Garbage { reason: "one server sends us on to the next, without end".into() }))
    }

    fn token(&self, next: Next) -> Result<String, SignalError> {
        Ok(match (&self.refreshed, &self.config.token) {
            (Some(token), _) if next == Next::Resume || self.moved => token.clone(),
            (_, TokenSource::Mint(mint)) => mint()?,
            (Some(token), TokenSource::Fixed(_)) | (None, TokenSource::Fixed(token)) => token.clone(),
        })
    }

    /// Serves a connection until it ends.
    async fn serve(&mut self, opened: Opened, next: Next) -> Result<End, Gone> {
        let Opened { mut socket, connections, first } = opened;
        let (mut every, mut patience) = (Duration::from_secs(5), Duration::from_secs(15));
        let connection = self.connection.wrapping_add(1);
        match (first.message, next) {
            // A server may answer a wish to resume with a new session.
            (Some(Response::Join(join)), _) => {
                self.connections = connections;
                self.participant_sid = join.participant.as_ref().map(|p| p.sid.clone()).unwrap_or_default();
                self.moved = false;
                self.refreshed = None;
                if join.ping_interval > 0 && join.ping_timeout > 0 {
                    every = Duration::from_secs(join.ping_interval.clamp(1, 5) as u64);
                    patience = Duration::from_secs(join.ping_timeout.clamp(1, 60) as u64).max(every);
                }
                self.connection = connection;
                self.events
                    .send(SignalEvent::Joined { connection, connections, join: Box::new(join) })
                    .await?;
            }
            (Some(Response::Leave(leave)), _) => return Ok(leaving(&leave)),
            (Some(Response::Reconnect(reconnect)), Next::Resume) => {
                self.connection = connection;
                let reconnect = Box::new(reconnect);
                self.events.send(SignalEvent::Resumed { connection, reconnect }).await?;
            }
            // A server from before ReconnectResponse: whatever it says shows that the session lives.
            (Some(message), Next::Resume) => {
                self.connection = connection;
                self.events.send(SignalEvent::Resumed { connection, reconnect: Box::default() }).await?;
                if let Some(end) = self.message(message).await? {
                    return Ok(end);
                }
            }
            _ => {
                let reason = "its first message is neither a welcome nor a farewell".into();
                return Ok(match next {
                    Next::Join => End::Dismissed(SignalError::Garbage { reason }),
                    Next::Resume => End::Rejoin(Some(SignalError::Garbage { reason })),
                });
            }
        }

        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut rtt = 0;
        loop {
            tokio::select! {
                received = connect::next_message(&mut socket, self.config.message_limit) => {
                    let message = match received {
                        Ok(message) => message,
                        Err(error) => return Ok(End::Lost(error)),
                    };
                    heard = Instant::now();
                    match message.and_then(|m| m.message) {
                        Some(Response::PongResp(pong)) => {
                            rtt = unix_millis().saturating_sub(pong.last_ping_timestamp).clamp(0, 60_000);
                        }
                        Some(message) => {
                            if let Some(end) = self.message(message).await? {
                                return Ok(end);
                            }
                        }
                        None => {}
                    }
                }
                command = self.commands.recv() => match command {
                    Some(SignalCommand::Send { connection, request }) => {
                        if connection == self.connection && let Err(error) = send(&mut socket, &request).await {
                            return Ok(End::Lost(error));
                        }
                    }
                    Some(SignalCommand::Resume) => return Ok(End::Resume),
                    Some(SignalCommand::Rejoin) => return Ok(End::Rejoin(None)),
                    Some(SignalCommand::Leave) | None => {
                        farewell(&mut socket).await;
                        return Err(Gone);
                    }
                    Some(SignalCommand::Abandon) => return Err(Gone),
                },
                _ = ticks.tick() => {
                    if heard.elapsed() >= patience {
                        return Ok(End::Lost(SignalError::PingTimeout { after: patience }));
                    }
                    let ping = Request::PingReq(proto::Ping { timestamp: unix_millis(), rtt });
                    if let Err(error) = send(&mut socket, &proto::SignalRequest { message: Some(ping) }).await {
                        return Ok(End::Lost(error));
                    }
                }
            }
        }
    }

    /// Takes what concerns the connection itself, and passes on the rest.
    async fn message(&mut self, message: Response) -> Result<Option<End>, Gone> {
        match &message {
            Response::Pong(_) => return Ok(None),
            Response::RefreshToken(token) => {
                self.refreshed = Some(token.clone());
                return Ok(None);
            }
            Response::Leave(leave) => return Ok(Some(leaving(leave))),
            Response::RoomMoved(moved) => {
                self.moved = true;
                self.refreshed = Some(moved.token.clone());
                if let Some(participant) = &moved.participant {
                    self.participant_sid.clone_from(&participant.sid);
                }
            }
            _ => {}
        }
        let message = Box::new(proto::SignalResponse { message: Some(message) });
        self.events.send(SignalEvent::Message(message)).await?;
        Ok(None)
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Gone> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            gone = self.until_gone() => Err(gone),
        }
    }

    async fn until_gone(&mut self) -> Gone {
        loop {
            match self.commands.recv().await {
                Some(SignalCommand::Leave | SignalCommand::Abandon) | None => return Gone,
                Some(_) => {}
            }
        }
    }
}

fn leaving(leave: &proto::LeaveRequest) -> End {
    let reason = leave.reason();
    // Servers from before `action` only say whether we may come back.
    let action = match leave.action() {
        Action::Disconnect if leave.can_reconnect => Action::Reconnect,
        action => action,
    };
    let error = SignalError::Leave { reason, action };
    match action {
        Action::Disconnect => End::Dismissed(error),
        Action::Resume => End::Lost(error),
        Action::Reconnect => End::Rejoin(Some(error)),
    }
}

async fn send(socket: &mut Socket, request: &proto::SignalRequest) -> Result<(), SignalError> {
    let bytes = Message::Binary(request.encode_to_vec().into());
    match tokio::time::timeout(SEND_TIMEOUT, socket.send(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(connect::failure(e, 0)),
        Err(_) => Err(SignalError::Timeout { after: SEND_TIMEOUT, during: "sending to it" }),
    }
}

async fn farewell(socket: &mut Socket) {
    let leave = Request::Leave(proto::LeaveRequest {
        reason: proto::DisconnectReason::ClientInitiated.into(),
        ..proto::LeaveRequest::default()
    });
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, async {
        let _ = send(socket, &proto::SignalRequest { message: Some(leave) }).await;
        let _ = socket.close(None).await;
    })
    .await;
}

/// 200 ms, 400 ms, … up to `longest`, each shortened by up to a quarter so that a server coming back is not met by
/// everyone at once.
fn backoff(tries: u32, longest: Duration) -> Duration {
    let full = SHORTEST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(longest);
    let random = RandomState::new().build_hasher().finish() % 1000;
    full - full.mul_f64(random as f64 / 4000.0)
}

fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let longest = Duration::from_secs(2);
        for (tries, full) in [(1, 200), (2, 400), (3, 800), (4, 1600), (5, 2000), (500, 2000)] {
            let wait = backoff(tries, longest);
            assert!(
                wait <= Duration::from_millis(full) && wait >= Duration::from_millis(full * 3 / 4),
                "{wait:?}"
            );
        }
    }

    #[test]
    fn every_leave_action_has_its_end() {
        let leave = |action: Action, can_reconnect| {
            leaving(&proto::LeaveRequest {
                action: action.into(),
                can_reconnect,
                ..proto::LeaveRequest::default()
            })
        };
        assert!(matches!(leave(Action::Disconnect, false), End::Dismissed(_)));
        assert!(matches!(leave(Action::Disconnect, true), End::Rejoin(Some(_))));
        assert!(matches!(leave(Action::Resume, false), End::Lost(_)));
        assert!(matches!(leave(Action::Reconnect, false), End::Rejoin(Some(_))));
    }
}
