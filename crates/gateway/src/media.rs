//! The border between the control plane (tokio) and the media plane (lanes).
//!
//! The control plane sends [`MediaCommand`]s through a [`MediaPlane`] and takes [`MediaEvent`]s from a queue made by
//! [`events`]. Every queue is bounded. Nothing here blocks, and a lane neither allocates nor locks to report.

mod queue;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use evenkeel_core::units::{FrameDuration, SampleRate};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use self::queue::{Departed, EventReceiver, EventSender, events};
use crate::lane::guest::Arrival;

/// One media session: the sealed UDP stream of one `hello`. A call has at most one open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaId {
    /// The lane that owns the session.
    pub lane: u16,
    /// Counts the sessions of that lane; never used twice while the process lives.
    pub serial: u64,
}

/// Where a new session will live, decided before the `hello` is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The id under which to open it.
    pub media: MediaId,
    /// The host the device is told to send to: the public address, or a name.
    pub host: String,
    /// The UDP port of the lane.
    pub port: u16,
    /// From a CSPRNG, and unlike that of any session the lane has.
    pub connection_id: u32,
}

/// How packets travel between the device and its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Sealed datagrams to and from the lane's own socket.
    #[default]
    Udp,
    /// Frames of the device's WebSocket, which the control plane holds: [`MediaCommand::Uplink`] and
    /// [`Departed`]. The connection protects them, so they are not sealed.
    WebSocket,
}

impl Transport {
    /// Its name in `transport` of a `hello`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::WebSocket => "websocket",
        }
    }
}

/// How the datagrams of a session are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Profile `compat`.
    Aes128Ctr,
    /// Profile `sealed`.
    Aes128Gcm,
    /// Profile `sealed`.
    Aes256Gcm,
    /// Profile `sealed`.
    Chacha20Poly1305,
}

impl Encryption {
    /// Its name in `udp.encryption`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Ctr => "aes-128-ctr",
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Chacha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// The suite of profile `sealed` that has this name.
    #[must_use]
    pub fn sealed_from_name(name: &str) -> Option<Self> {
        [Self::Aes128Gcm, Self::Aes256Gcm, Self::Chacha20Poly1305].into_iter().find(|s| s.name() == name)
    }

    /// How long its key is, in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Ctr | Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::Chacha20Poly1305 => 32,
        }
    }
}

/// A session key. Zeroized when dropped and never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey {
    bytes: [u8; 32],
    len: usize,
}

impl SessionKey {
    /// The first [`Encryption::key_len`] bytes of `random`, which come from a CSPRNG.
    #[must_use]
    pub fn new(encryption: Encryption, random: &[u8; 32]) -> Self {
        let len = encryption.key_len();
        let mut bytes = [0; 32];
        bytes[..len].copy_from_slice(&random[..len]);
        Self { bytes, len }
    }

    /// The key.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// Which source addresses a session may move to after its first valid datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePolicy {
    /// Any port of this address, that of the device's MQTT connection.
    Ip(IpAddr),
    /// Anywhere.
    Any,
    /// Nowhere.
    First,
}

/// What the downlink of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownlinkFormat {
    /// The rate the device was told to decode at.
    pub sample_rate: SampleRate,
    /// How long one packet to the device lasts; shorter ones are merged to it.
    pub frame_duration: FrameDuration,
}

/// Where the audio of a session goes and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// Back to the device when the speaker pauses (the parrot), within the lane.
    Echo,
    /// Back to the device at once, packet by packet, within the lane: for load tests.
    Loopback,
    /// To and from another session, within the media plane.
    Peer(MediaId),
    /// To and from a LiveKit participant that lives in the lane.
    Participant,
    /// To and from a chat server, whose connection lives in the lane.
    Chat,
}

impl Route {
    /// Whether the lane has to tell where a reply begins and ends, as the room has no words for that.
    #[must_use]
    pub const fn tells_replies(self) -> bool {
        matches!(self, Self::Echo | Self::Loopback | Self::Participant)
    }

    /// Whether the room's end of the call lives in the lane ([`MediaPlane::attach`]).
    #[must_use]
    pub const fn takes_guests(self) -> bool {
        matches!(self, Self::Participant | Self::Chat)
    }
}

/// Everything needed to open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// How packets travel. Over [`Transport::WebSocket`] there is no datagram, so what follows of datagrams has no effect.
    pub transport: Transport,
    /// How datagrams are sealed.
    pub encryption: Encryption,
    /// With which key.
    pub key: SessionKey,
    /// The session id of the `hello`: the salt of profile `sealed`.
    pub session_id: String,
    /// The SSRC both directions carry.
    pub connection_id: u32,
    /// Who may send to it.
    pub source: SourcePolicy,
    /// What goes to the device.
    pub downlink: DownlinkFormat,
    /// Where its audio goes.
    pub route: Route,
    /// After how long without a first datagram [`MediaEvent::NeverSeen`] is reported.
    pub first_datagram_limit: Duration,
    /// How often [`MediaEvent::AudioActive`] is reported at most.
    pub active_interval: Duration,
}

/// What a lane does with the downlink of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Queue, send nothing: the device is not listening yet. So every session begins.
    Hold,
    /// Send at the pace of the media clock, the first packet no sooner than `lead` from now.
    Flow {
        /// How long after this command the first packet may leave.
        lead: Duration,
    },
    /// Drop what is queued and what comes; what already left cannot be taken back.
    Discard,
}

/// The end of a room that lives beside a session; ties a command to the one it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestId(pub u32);

/// Counts the replies of a session; ties a mark to the reply it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyId(pub u32);

/// What the control plane asks of a lane. Commands of one session are carried out in the order they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediaCommand {
    /// Open the session. Its gate is [`Gate::Hold`].
    Open(Box<Open>),
    /// Forget the session and everything queued. Nothing is reported of it afterwards, save [`MediaEvent::Closed`].
    Close,
    /// One Opus packet from the device ([`Transport::WebSocket`] only).
    Uplink {
        /// The packet.
        opus: Bytes,
        /// What the device says of its time: that of the downlink packet it just played, or 0.
        timestamp: u32,
    },
    /// Change what happens to the downlink.
    Gate(Gate),
    /// Drop what is queued to the device; the gate stays as it is. Marks that were queued are dropped with it.
    Flush,
    /// Report [`MediaEvent::PlayedOut`] once everything queued before this has been *played*: the departure of the
    /// last packet plus its duration. At once if nothing is queued or playing.
    Mark(ReplyId),
    /// Send the audio of this session elsewhere from here on.
    Route(Route),
    /// There is something in the queues of its guest ([`Route::takes_guests`] only).
    Nudge,
    /// What this chat server said last was dealt with, or that it is there: read on. In the same queue as what was made of
    /// it, so that no audio behind it comes before that. Has no effect on another guest.
    GoOn(GuestId),
}

/// An Opus packet that a lane passes on, in place, because a lane does not allocate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OpusPacket {
    len: u16,
    bytes: [u8; Self::MAX],
}

impl OpusPacket {
    /// The longest packet carried: what one 1500-byte Ethernet frame leaves after IPv4, UDP and our header.
    pub const MAX: usize = 1500 - 20 - 8 - 16;

    /// A copy of `opus`; `None` if it is longer than [`OpusPacket::MAX`].
    #[must_use]
    pub fn new(opus: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..opus.len())?.copy_from_slice(opus);
        Some(Self { len: opus.len() as u16, bytes })
    }

    /// The packet.
    #[must_use]
    pub fn opus(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for OpusPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpusPacket({} bytes)", self.len)
    }
}

/// What a lane reports of a session.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MediaEvent {
    /// The first valid datagram came, from here.
    FirstDatagram {
        /// The device's UDP address.
        from: SocketAddr,
    },
    /// No valid datagram came within [`Open::first_datagram_limit`]. Once per session.
    NeverSeen,
    /// Audio went either way since the last report of this kind; at most every [`Open::active_interval`].
    AudioActive,
    /// The first downlink packet since the gate went to [`Gate::Hold`] was queued: the room speaks. Once per hold.
    DownlinkWaiting,
    /// A room that lives in the lane has queued the last packet of its reply (the parrot is done, the agent's track
    /// fell silent or ended).
    DownlinkEnded,
    /// A mark was reached.
    PlayedOut(ReplyId),
    /// Figures, every [`STATS_INTERVAL`] while the session is open.
    Stats(MediaStats),
    /// The key has sealed all it may: the device needs a new `hello`.
    KeyExhausted,
    /// The session could not be opened, or the lane gave it up.
    Failed(MediaFailure),
    /// The last event of a session, after [`MediaCommand::Close`]: its final figures.
    Closed(MediaStats),
}

/// How often a lane reports [`MediaEvent::Stats`].
pub const STATS_INTERVAL: Duration = Duration::from_secs(2);

/// Why a lane gave a session up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaFailure {
    /// The lane has as many sessions as it may.
    #[error("the lane is full")]
    Full,
    /// The connection id is in use.
    #[error("the connection id is in use")]
    Collision,
    /// The codec or the key could not be set up.
    #[error("the codec or key could not be set up")]
    Setup,
}

/// Totals of one session since it opened, but for the gauges, which say so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaStats {
    /// Valid packets from the device.
    pub received: u64,
    /// Packets from the device that never came.
    pub lost: u64,
    /// Of those received, such as came after a later one and were not passed on: a decoder cannot use them.
    pub late: u64,
    /// Datagrams refused: malformed, forged, replayed, from the wrong address.
    pub refused: u64,
    /// Packets sent to the device.
    pub sent: u64,
    /// Downlink packets dropped: queue full, deadline missed, discarded.
    pub dropped: u64,
    /// Times the downlink ran dry within a reply.
    pub underruns: u64,
    /// Gauge: interarrival jitter of the uplink in µs (RFC 3550, section 6.4.1).
    pub jitter_micros: u32,
    /// Gauge: the 99th percentile departure error since the last report, in µs.
    pub departure_p99_micros: u32,
    /// Gauge: the largest departure error since the last report, in µs.
    pub departure_max_micros: u32,
    /// Gauge: packets queued to the device.
    pub queued: u32,
    /// Gauge: which rung of the ladder, 0 the best.
    pub rung: u8,
}

/// Bounds of the ranges in which [`LaneReport::departures`] are counted, in µs.
pub const DEPARTURE_BOUNDS_MICROS: [u32; 10] =
    [50, 100, 250, 500, 1_000, 1_500, 2_000, 5_000, 10_000, 50_000];

/// Datagrams that were not let in, by what was wrong with them. They moved nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The header is broken or does not fit the datagram, or the payload is no Opus packet.
    pub malformed: u64,
    /// The sequence was seen before.
    pub replayed: u64,
    /// The sequence is too old.
    pub stale: u64,
    /// The sequence is too far ahead.
    pub far: u64,
    /// The authentication tag does not match.
    pub forged: u64,
    /// From an address the session may not move to.
    pub source: u64,
}

impl Refused {
    /// All together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.malformed + self.replayed + self.stale + self.far + self.forged + self.source
    }
}

/// What one lane is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaneReport {
    /// Sessions open.
    pub sessions: u32,
    /// The share of the last second in which the thread worked, 0.0 to 1.0.
    pub load: f32,
    /// The 99th percentile departure error over all sessions, in µs.
    pub departure_p99_micros: u32,
    /// Packets sent by how far from their deadline they left, since start: at most [`DEPARTURE_BOUNDS_MICROS`], and
    /// beyond the last. Counts of each range, not running totals.
    pub departures: [u64; DEPARTURE_BOUNDS_MICROS.len() + 1],
    /// How far from their deadlines they left, all together, in µs.
    pub departure_sum_micros: u64,
    /// Packets of LiveKit rooms by how long after they had been played out of their jitter buffer they left, in the same
    /// ranges.
    pub transits: [u64; DEPARTURE_BOUNDS_MICROS.len() + 1],
    /// How long that took, all together, in µs.
    pub transit_sum_micros: u64,
    /// Gauge: bytes that its queues of packets have taken.
    pub queued_bytes: u64,
    /// Packets that left over 50 ms late and were dropped instead, since start.
    pub missed: u64,
    /// Datagrams that belonged to no session, since start.
    pub unknown: u64,
    /// Datagrams of sessions that were not let in, since start.
    pub refused: Refused,
    /// Packets received, since start.
    pub received: u64,
    /// Packets sent, since start.
    pub sent: u64,
    /// Messages of chat servers that were not as they should be, since start.
    pub room_frames_bad: u64,
    /// Frames to chat servers dropped because the server did not read, since start.
    pub room_frames_stalled: u64,
    /// Times a chat server was so far ahead of its device that it had to wait, since start.
    pub rooms_held: u64,
    /// Packets from devices dropped because their room was still being joined, since start.
    pub unkept: u64,
    /// Events that did not fit into the queue to the control plane, since start.
    pub events_lost: u64,
}

/// Why no session can be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Admission control says no lane can carry one more call.
    #[error("all lanes are full")]
    Full,
    /// The gateway is shutting down.
    #[error("the gateway is draining")]
    Draining,
}

/// A command could not be handed over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The lane's queue is full; here is the command back. Audio ([`MediaCommand::Uplink`]) is refused sooner than the
    /// others, so that those still fit.
    #[error("the lane's command queue is full")]
    Full(MediaCommand),
    /// The lane is gone.
    #[error("the lane is gone")]
    Gone,
}

/// The media plane as the control plane sees it. No method blocks.
pub trait MediaPlane: Send + Sync + 'static {
    /// Chooses a lane, a port and a connection id for a new session. They stay reserved until the session is opened
    /// and closed again, or [`MediaPlane::release`]d.
    ///
    /// # Errors
    /// [`PlaceError`] says why not.
    fn place(&self) -> Result<Placement, PlaceError>;

    /// Gives back a placement that will not be opened.
    fn release(&self, media: MediaId);

    /// Queues a command for the lane of `media` and wakes it.
    ///
    /// # Errors
    /// [`SendError::Full`] returns the command.
    fn send(&self, media: MediaId, command: MediaCommand) -> Result<(), SendError>;

    /// One report a lane, in order.
    fn lanes(&self) -> Vec<LaneReport>;

    /// Hands a room's end of a call to the session that was opened as `media` with a route that takes guests. Whether the
    /// lane takes it; one that is not taken, or whose session is over, leaves its room.
    fn attach(&self, media: MediaId, arrival: Box<Arrival>) -> bool {
        drop((media, arrival));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplink_packets_carry_what_fits_and_keys_do_not_show() {
        assert_eq!(OpusPacket::new(&[1, 2, 3]).unwrap().opus(), &[1, 2, 3]);
        assert!(OpusPacket::new(&[0; OpusPacket::MAX]).is_some());
        assert!(OpusPacket::new(&[0; OpusPacket::MAX + 1]).is_none());
        let key = SessionKey::new(Encryption::Aes128Ctr, &[0xab; 32]);
        assert_eq!(key.expose(), &[0xab; 16]);
        assert_eq!(format!("{key:?}"), "SessionKey(..)");
    }
}
