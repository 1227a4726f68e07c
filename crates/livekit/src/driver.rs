//! A participant that runs by itself: one signal connection, one UDP socket, one tokio task.
//!
//! [`join`] starts the task and gives a [`Room`]: events come out of it, requests go in. For those who keep no media
//! threads of their own; who does polls [`crate::participant::Participant`] there instead.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::data::{Call, CallId, Delivery, RequestId, RpcError};
use crate::error::SendError;
use crate::participant::{
    AudioLevel, Counters, Event, OpusOut, Output, Participant, ParticipantConfig, TcpId, Transmit,
};
use crate::signal::{self, Connections, SignalConfig, SignalEvent, SignalHandle};
use crate::stream::{self, Deframer};

/// How many events may wait to be taken. When they do, audio and data are dropped, newest first.
const EVENT_QUEUE: usize = 512;
/// How many requests may wait for the task.
const REQUEST_QUEUE: usize = 64;
/// The largest datagram taken, in bytes.
const DATAGRAM_LIMIT: usize = 2000;
/// How many packets may wait for a TCP connection.
const TCP_QUEUE: usize = 64;
/// How long a TCP connection may take to open.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// An Opus packet to be published; the owned form of [`OpusOut`].
#[derive(Clone, Debug)]
pub struct Packet {
    /// The Opus packet.
    pub payload: Vec<u8>,
    /// From the start of the packet before to the start of this, in 48 kHz ticks.
    pub advance: u32,
    /// How many packets went missing before this.
    pub lost: u16,
    /// The first after silence.
    pub marker: bool,
    /// How loud.
    pub level: AudioLevel,
}

enum Request {
    Audio(Packet),
    Data { delivery: Delivery, topic: String, to: Vec<String>, payload: Vec<u8>, done: Done<()> },
    Text { topic: String, to: Vec<String>, attributes: Vec<(String, String)>, text: String, done: Done<()> },
    Call { to: String, method: String, payload: String, timeout: Duration, done: Done<CallId> },
    Answer { id: RequestId, result: Result<String, RpcError>, done: Done<()> },
    Mute(bool),
    Counters(oneshot::Sender<Counters>),
    Leave,
}

type Done<T> = oneshot::Sender<Result<T, SendError>>;

/// The application's end. Dropping it leaves the room.
#[derive(Debug)]
pub struct Room {
    requests: mpsc::Sender<Request>,
    events: mpsc::Receiver<Event>,
}

/// Binds the socket and starts the task that joins, on the current tokio runtime. What becomes of it is told by the
/// events. [`ParticipantConfig::udp`] says from which of our addresses; where it has none, from the one by which this
/// machine reaches the server.
///
/// # Errors
/// When no UDP socket can be bound.
pub async fn join(signal: SignalConfig, mut participant: ParticipantConfig, seed: u64) -> io::Result<Room> {
    let local = match participant.udp {
        Some(local) => local,
        None => (route_to(&signal.url).await?, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    participant.udp = Some(socket.local_addr()?);
    let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
    let (event_queue, events) = mpsc::channel(EVENT_QUEUE);
    let handle = signal::spawn(signal, || ());
    let driver = Driver {
        participant: Participant::new(Instant::now(), participant, seed),
        signal: handle,
        sockets: vec![socket],
        events: event_queue,
        tcp: HashMap::new(),
        connecting: JoinSet::new(),
    };
    tokio::spawn(driver.run(request_queue));
    Ok(Room { requests, events })
}

/// The address this machine sends from towards the server of this URL.
///
/// # Errors
/// When the URL names no host, or there is no socket.
pub async fn route_to(url: &str) -> io::Result<std::net::IpAddr> {
    let unusable = || io::Error::new(io::ErrorKind::InvalidInput, "the URL names no host");
    let (scheme, rest) = url.split_once("://").ok_or_else(unusable)?;
    let authority = rest.split(['/', '?', '#']).next().ok_or_else(unusable)?;
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:{}", if matches!(scheme, "wss" | "https") { 443 } else { 80 }),
    };
    // Nothing is sent by this; where the name does not resolve, joining itself will say so.
    let Some(server) = tokio::net::lookup_host(with_port).await.ok().and_then(|mut a| a.next()) else {
        return Ok(Ipv4Addr::LOCALHOST.into());
    };
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = UdpSocket::bind(any).await?;
    probe.connect(server).await?;
    Ok(probe.local_addr()?.ip())
}

impl Room {
    /// What happens next; `None` after [`Event::Closed`].
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Publishes a packet now. It is lost while there is no connection.
    ///
    /// # Errors
    /// [`SendError::NotConnected`] when the participant is gone.
    pub async fn send_audio(&self, packet: Packet) -> Result<(), SendError> {
        self.requests.send(Request::Audio(packet)).await.map_err(|_| SendError::NotConnected)
    }

    /// As [`Participant::send_data`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_data(
        &self,
        delivery: Delivery,
        topic: &str,
        to: &[&str],
        payload: &[u8],
    ) -> Result<(), SendError> {
        let (topic, to, payload) = (topic.to_owned(), owned(to), payload.to_owned());
        self.ask(|done| Request::Data { delivery, topic, to, payload, done }).await
    }

    /// As [`Participant::send_text`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_text(
        &self,
        topic: &str,
        to: &[&str],
        attributes: &[(&str, &str)],
        text: &str,
    ) -> Result<(), SendError> {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (topic, to, text) = (topic.to_owned(), owned(to), text.to_owned());
        self.ask(|done| Request::Text { topic, to, attributes, text, done }).await
    }

    /// As [`Participant::call`].
    ///
    /// # Errors
    /// As there.
    pub async fn call(&self, call: Call<'_>) -> Result<CallId, SendError> {
        let (to, method, payload) =
            (call.destination.to_owned(), call.method.to_owned(), call.payload.to_owned());
        let timeout = call.timeout;
        self.ask(|done| Request::Call { to, method, payload, timeout, done }).await
    }

    /// As [`Participant::answer`].
    ///
    /// # Errors
    /// As there.
    pub async fn answer(&self, id: RequestId, result: Result<&str, RpcError>) -> Result<(), SendError> {
        let result = result.map(str::to_owned);
        self.ask(|done| Request::Answer { id, result, done }).await
    }

    /// As [`Participant::set_muted`].
    pub async fn set_muted(&self, muted: bool) {
        let _ = self.requests.send(Request::Mute(muted)).await;
    }

    /// As [`Participant::counters`]; nothing when the participant is gone.
    pub async fn counters(&self) -> Option<Counters> {
        let (reply, counters) = oneshot::channel();
        self.requests.send(Request::Counters(reply)).await.ok()?;
        counters.await.ok()
    }

    /// Leaves the room; [`Event::Closed`] follows.
    pub async fn leave(&self) {
        let _ = self.requests.send(Request::Leave).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(Done<T>) -> Request) -> Result<T, SendError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| SendError::NotConnected)?;
        answer.await.unwrap_or(Err(SendError::NotConnected))
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

struct Driver {
    participant: Participant,
    signal: SignalHandle,
    sockets: Vec<UdpSocket>,
    events: mpsc::Sender<Event>,
    /// The TCP connections that are open, by their address on our side.
    tcp: HashMap<SocketAddr, Tcp>,
    connecting: JoinSet<TcpEvent>,
}

struct Tcp {
    id: TcpId,
    remote: SocketAddr,
    packets: mpsc::Sender<Vec<u8>>,
    deframer: Deframer,
}

/// What a task for a TCP connection ended with: each reads once, or opens once, and is then started again.
enum TcpEvent {
    Opened { id: TcpId, stream: TcpStream },
    Read { local: SocketAddr, half: OwnedReadHalf, bytes: Vec<u8> },
    Closed { local: SocketAddr },
    Nothing,
}

impl Driver {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut buffers = (vec![0; DATAGRAM_LIMIT], vec![0; DATAGRAM_LIMIT]);
        loop {
            let Some(due) = self.drain() else { return };
            let second = self.sockets.get(1);
            tokio::select! {
                biased;
                received = self.sockets[0].recv_from(&mut buffers.0) => {
                    if let Ok((len, from)) = received {
                        self.handle_datagram(0, from, &buffers.0[..len]);
                    }
                }
                received = async { second.expect("checked below").recv_from(&mut buffers.1).await },
                    if second.is_some() =>
                {
                    if let Ok((len, from)) = received {
                        self.handle_datagram(1, from, &buffers.1[..len]);
                    }
                }
                event = self.signal.recv() => match event {
                    Some(event) => self.handle_signal(event).await,
                    None => self.participant.handle_signal_stalled(),
                },
                request = requests.recv() => self.handle_request(request.unwrap_or(Request::Leave)),
                Some(Ok(event)) = self.connecting.join_next() => self.handle_tcp(event),
                () = tokio::time::sleep_until(due.into()) => self.participant.handle_timeout(Instant::now()),
            }
        }
    }

    /// Does what the participant wants; gives when it next wants the time, or nothing at the end.
    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.participant.poll_output() {
                Output::Timeout(due) => return (!self.participant.is_closed()).then_some(due),
                Output::Transmit(transmit) => self.transmit(transmit),
                Output::Signal(command) => {
                    if self.signal.send(command).is_err() {
                        self.participant.handle_signal_stalled();
                    }
                }
                Output::Connect { id, remote } => {
                    self.connecting.spawn(async move {
                        match tokio::time::timeout(TCP_TIMEOUT, TcpStream::connect(remote)).await {
                            Ok(Ok(stream)) => TcpEvent::Opened { id, stream },
                            _ => TcpEvent::Nothing,
                        }
                    });
                }
                Output::Event(event) => {
                    // The end is told even to one who takes events late; all else yields.
                    if let Err(mpsc::error::TrySendError::Full(event @ Event::Closed(_))) =
                        self.events.try_send(event)
                    {
                        let events = self.events.clone();
                        tokio::spawn(async move { events.send(event).await });
                    }
                }
            }
        }
    }

    async fn handle_signal(&mut self, event: SignalEvent) {
        // A server tells two peer connections apart by our address, so the second gets a socket of its own.
        if matches!(event, SignalEvent::Joined { connections: Connections::Dual, .. })
            && self.sockets.len() == 1
            && let Ok(first) = self.sockets[0].local_addr()
            && let Ok(second) = UdpSocket::bind((first.ip(), 0)).await
            && let Ok(local) = second.local_addr()
        {
            self.participant.set_second_udp(local);
            self.sockets.push(second);
        }
        self.participant.handle_signal(Instant::now(), event);
    }

    fn handle_datagram(&mut self, socket: usize, from: SocketAddr, bytes: &[u8]) {
        if let Ok(local) = self.sockets[socket].local_addr() {
            self.participant.handle_datagram(Instant::now(), local, from, bytes);
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        if transmit.tcp {
            if let Some(tcp) = self.tcp.get(&transmit.source) {
                let mut framed = Vec::with_capacity(transmit.contents.len() + 2);
                stream::frame(&transmit.contents, &mut framed);
                // A connection that does not keep up loses packets, as a network does.
                let _ = tcp.packets.try_send(framed);
            }
            return;
        }
        let socket = self.sockets.iter().find(|s| s.local_addr().is_ok_and(|a| a == transmit.source));
        if let Some(socket) = socket {
            let _ = socket.try_send_to(&transmit.contents, transmit.destination);
        }
    }

    fn handle_request(&mut self, request: Request) {
        let now = Instant::now();
        let participant = &mut self.participant;
        match request {
            Request::Audio(p) => {
                let Packet { payload, advance, lost, marker, level } = &p;
                let (advance, lost, marker, level) = (*advance, *lost, *marker, *level);
                let _ = participant.send_audio(now, OpusOut { payload, advance, lost, marker, level });
            }
            Request::Data { delivery, topic, to, payload, done } => {
                let _ = done.send(participant.send_data(now, delivery, &topic, &borrowed(&to), &payload));
            }
            Request::Text { topic, to, attributes, text, done } => {
                let attributes: Vec<_> = attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let _ = done.send(participant.send_text(now, &topic, &borrowed(&to), &attributes, &text));
            }
            Request::Call { to, method, payload, timeout, done } => {
                let call = Call { destination: &to, method: &method, payload: &payload, timeout };
                let _ = done.send(participant.call(now, call));
            }
            Request::Answer { id, result, done } => {
                let result = match &result {
                    Ok(payload) => Ok(payload.as_str()),
                    Err(e) => Err(e.clone()),
                };
                let _ = done.send(participant.answer(now, id, result));
            }
            Request::Mute(muted) => participant.set_muted(muted),
            Request::Counters(reply) => {
                let _ = reply.send(participant.counters());
            }
            Request::Leave => participant.leave(),
        }
    }

    fn handle_tcp(&mut self, event: TcpEvent) {
        let now = Instant::now();
        match event {
            TcpEvent::Opened { id, stream } => {
                let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
                let _ = stream.set_nodelay(true);
                let (reader, writer) = stream.into_split();
                let (packets, queue) = mpsc::channel(TCP_QUEUE);
                self.tcp.insert(local, Tcp { id, remote, packets, deframer: Deframer::new() });
                self.connecting.spawn(write(local, writer, queue));
                self.connecting.spawn(read(local, reader));
                self.participant.handle_tcp_open(now, id, local);
            }
            TcpEvent::Read { local, half, bytes } => {
                let Some(tcp) = self.tcp.get_mut(&local) else { return };
                let (participant, remote) = (&mut self.participant, tcp.remote);
                let taken = tcp
                    .deframer
                    .handle(&bytes, |packet| participant.handle_tcp_packet(now, local, remote, packet));
                match taken {
                    Ok(()) => drop(self.connecting.spawn(read(local, half))),
                    Err(_) => self.close_tcp(local),
                }
            }
            TcpEvent::Closed { local } => self.close_tcp(local),
            TcpEvent::Nothing => {}
        }
    }

    fn close_tcp(&mut self, local: SocketAddr) {
        if let Some(tcp) = self.tcp.remove(&local) {
            self.participant.handle_tcp_closed(Instant::now(), tcp.id);
        }
    }
}

async fn read(local: SocketAddr, mut half: OwnedReadHalf) -> TcpEvent {
    let mut bytes = vec![0; DATAGRAM_LIMIT];
    match half.read(&mut bytes).await {
        Ok(len) if len > 0 => {
            bytes.truncate(len);
            TcpEvent::Read { local, half, bytes }
        }
        _ => TcpEvent::Closed { local },
    }
}

async fn write(local: SocketAddr, mut half: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) -> TcpEvent {
    while let Some(packet) = queue.recv().await {
        if half.write_all(&packet).await.is_err() {
            return TcpEvent::Closed { local };
        }
    }
    TcpEvent::Nothing
}
