//! The media part of a participant: peer connections, tracks, data. No socket, clock or thread.

mod media;
mod messages;
mod peer;
mod room;
mod signalling;
mod types;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use livekit_protocol as proto;
use str0m::media::Mid;
use str0m::rtp::Ssrc;

use crate::data::{Calls, Inbox, Outbox, Requests};
use crate::signal::{Connections, SignalCommand, SignalEvent};

use peer::PeerConnection;
pub use peer::parse_candidate;
use room::Room;
pub use types::{
    AudioLevel, CloseReason, Counters, Event, OpusIn, OpusOut, Output, ParticipantConfig, Publish,
    RemoteParticipant, RemoteTrack, Speaker, TcpId, TrackId, TrackRefusal, Transmit,
};

/// How many outputs may wait to be taken. Reached only by a caller that does not drain.
const OUTPUT_LIMIT: usize = 1024;

/// A participant of a room, as a state machine.
///
/// **Input**: what the signal connection reports ([`handle_signal`](Self::handle_signal)), what the sockets receive
/// ([`handle_datagram`](Self::handle_datagram), [`handle_tcp_packet`](Self::handle_tcp_packet)), and time
/// ([`handle_timeout`](Self::handle_timeout)). **Commands**: [`send_audio`](Self::send_audio),
/// [`send_data`](Self::send_data), [`send_text`](Self::send_text), [`call`](Self::call), [`answer`](Self::answer),
/// [`leave`](Self::leave). **Output**: [`poll_output`](Self::poll_output).
///
/// After every input and every command, call `poll_output` until it gives [`Output::Timeout`], and call
/// `handle_timeout` at that time at the latest. Time must not go backwards. Garbage from outside is counted in
/// [`Counters`] and changes nothing else.
///
/// Memory of a connected participant is bounded: see the limits in [`ParticipantConfig`] and [`crate::data`]. It is
/// not free of allocation: str0m allocates for every packet.
pub struct Participant {
    config: ParticipantConfig,
    random: u64,
    out: VecDeque<Output>,
    session: Option<Session>,
    calls: Calls,
    requests: Requests,
    counters: Counters,
    media_failures: u32,
    next_track: u32,
    next_tcp: u32,
    next_stream: u64,
    flood_told: Option<Instant>,
    last_now: Instant,
    is_closed: bool,
}

/// What lives from one joining to the next.
struct Session {
    connection: u32,
    sid: String,
    identity: String,
    room: Room,
    peers: Vec<PeerConnection>,
    receive_wanted: usize,
    offer_again: bool,
    restart_again: bool,
    routes: Vec<Route>,
    ssrcs: Vec<(Ssrc, TrackId)>,
    published: Option<Published>,
    inbox: Inbox,
    outbox: Outbox,
    is_connected: bool,
    /// When media must be up, or else the session has failed.
    media_by: Option<Instant>,
    /// When to ask for a new signal connection.
    resume_at: Option<Instant>,
    /// When to try ICE-TCP.
    tcp_at: Option<Instant>,
    tcps: Vec<Tcp>,
}

/// Which track a section of a peer connection brings.
struct Route {
    peer: usize,
    mid: Mid,
    track_sid: String,
}

/// Our track.
struct Published {
    cid: String,
    info: Option<proto::TrackInfo>,
    sequence: u64,
    time: u32,
    is_muted: bool,
}

struct Tcp {
    id: TcpId,
    peer: usize,
    local: Option<SocketAddr>,
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("identity", &self.session.as_ref().map(|s| s.identity.as_str()))
            .field("connected", &self.is_connected())
            .field("closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

impl Participant {
    /// A participant that waits for the signal connection to join. `seed` should be random: RTP sequence and time
    /// start from it.
    #[must_use]
    pub fn new(now: Instant, config: ParticipantConfig, seed: u64) -> Self {
        Self {
            config,
            random: seed,
            out: VecDeque::new(),
            session: None,
            calls: Calls::default(),
            requests: Requests::default(),
            counters: Counters::default(),
            media_failures: 0,
            next_track: 0,
            next_tcp: 0,
            next_stream: 0,
            flood_told: None,
            last_now: now,
            is_closed: false,
        }
    }

    /// Whether audio and data can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.is_connected)
    }

    /// Whether the end was reached; nothing has any effect then.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// What was dropped so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Tells of a second UDP socket, before a [`SignalEvent::Joined`] with two peer connections is handed in.
    pub fn set_second_udp(&mut self, local: SocketAddr) {
        self.config.second_udp = Some(local);
    }

    /// Takes what the signal connection reports.
    pub fn handle_signal(&mut self, now: Instant, event: SignalEvent) {
        if self.is_closed {
            return;
        }
        match event {
            SignalEvent::Joined { connection, connections, join } => {
                self.handle_joined(now, connection, connections, *join);
            }
            SignalEvent::Resumed { connection, reconnect } => {
                self.handle_resumed(now, connection, &reconnect)
            }
            SignalEvent::Message(response) => {
                if let Some(message) = response.message {
                    self.handle_message(now, message);
                }
            }
            SignalEvent::Interrupted(error) => self.emit(Event::Interrupted(error.into())),
            SignalEvent::Closed(None) => self.close(CloseReason::Left),
            SignalEvent::Closed(Some(error)) => self.close(error.into()),
        }
        self.pump(now);
    }

    /// Takes a datagram that the UDP socket of address `local` (as given in the configuration) received.
    pub fn handle_datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        self.handle_packet(now, str0m::net::Protocol::Udp, local, remote, bytes);
    }

    /// Takes a packet that came over a TCP connection, without its length.
    pub fn handle_tcp_packet(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        self.handle_packet(now, str0m::net::Protocol::Tcp, local, remote, bytes);
    }

    /// A TCP connection asked for by [`Output::Connect`] is open; `local` is its address on our side.
    pub fn handle_tcp_open(&mut self, now: Instant, id: TcpId, local: SocketAddr) {
        let Some(session) = &mut self.session else { return };
        if let Some(tcp) = session.tcps.iter_mut().find(|t| t.id == id && t.local.is_none()) {
            tcp.local = Some(local);
            session.peers[tcp.peer].handle_tcp_open(local);
            self.pump(now);
        }
    }

    /// An open TCP connection is gone.
    pub fn handle_tcp_closed(&mut self, now: Instant, id: TcpId) {
        let Some(session) = &mut self.session else { return };
        if let Some(at) = session.tcps.iter().position(|t| t.id == id) {
            let tcp = session.tcps.swap_remove(at);
            if let Some(local) = tcp.local {
                session.peers[tcp.peer].handle_tcp_closed(local);
            }
            self.pump(now);
        }
    }

    /// The signal task has ended or does not keep up.
    pub fn handle_signal_stalled(&mut self) {
        self.close(CloseReason::Stalled);
    }

    /// Leaves the room. [`Event::Closed`] follows when the server has been told.
    pub fn leave(&mut self) {
        if !self.is_closed {
            self.signal(SignalCommand::Leave);
        }
    }

    /// The next output; drain until [`Output::Timeout`].
    pub fn poll_output(&mut self) -> Output {
        match self.out.pop_front() {
            Some(output) => output,
            None => Output::Timeout(self.next_timeout()),
        }
    }

    fn emit(&mut self, event: Event) {
        self.put(Output::Event(event));
    }

    fn signal(&mut self, command: SignalCommand) {
        self.put(Output::Signal(command));
    }

    /// Sends a request over the current signal connection.
    fn request(&mut self, message: proto::signal_request::Message) {
        let Some(session) = &self.session else { return };
        let request = Box::new(proto::SignalRequest { message: Some(message) });
        self.signal(SignalCommand::Send { connection: session.connection, request });
    }

    fn put(&mut self, output: Output) {
        // What changes the state of the session is let through: its number is bounded by what the server says.
        let droppable = matches!(
            output,
            Output::Transmit(_)
                | Output::Event(Event::Audio(_) | Event::Data(_) | Event::Text(_) | Event::Transcript(_))
                | Output::Event(Event::Speakers(_) | Event::RpcRequest { .. })
        );
        if droppable && self.out.len() >= OUTPUT_LIMIT {
            self.counters.outputs_dropped += 1;
        } else {
            self.out.push_back(output);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        self.end_calls();
        self.session = None;
        self.emit(Event::Closed(reason));
    }

    /// The next of a sequence of numbers made from the seed (SplitMix64).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Session {
    fn is_dual(&self) -> bool {
        self.peers.len() > 1
    }
}

/// How the peer connections of a session are laid out.
fn roles(connections: Connections) -> &'static [peer::Role] {
    match connections {
        Connections::Single => &[peer::Role::Both],
        Connections::Dual => &[peer::Role::Publisher, peer::Role::Subscriber],
    }
}
