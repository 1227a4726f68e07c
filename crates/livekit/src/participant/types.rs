//! What goes into a participant and what comes out of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::DtlsCert;

use crate::data::{CallId, DataMessage, DataRate, RequestId, RpcError, Text, Transcript};
use crate::error::{MediaError, SignalError};
use crate::signal::SignalCommand;

/// Settings of a participant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParticipantConfig {
    /// The track to publish, if any. Default: none.
    pub publish: Option<Publish>,
    /// Subscribe to the audio tracks of others. Default: true.
    pub subscribe: bool,
    /// The address of our UDP socket as the server can see it. Without one, only ICE-TCP is left. Default: none.
    pub udp: Option<SocketAddr>,
    /// A second one, for a server that wants [two peer connections](crate::signal::Connections::Dual): it may tell
    /// them apart by our address. Where none is given the first serves both. Default: none.
    pub second_udp: Option<SocketAddr>,
    /// Try ICE-TCP when there is no media path this long after joining; never, when none. Default: 1.5 s.
    pub tcp_after: Option<Duration>,
    /// How long a media path and DTLS may take before the session is made anew. Default: 10 s.
    pub media_timeout: Duration,
    /// How many sessions in a row may fail for media before giving up. Default: 3.
    pub media_failures: u32,
    /// How many tracks are subscribed to at once; about 5 KiB each. Default: 8.
    pub tracks: usize,
    /// How many other participants are kept track of. Default: 64.
    pub participants: usize,
    /// How much data others may send us.
    pub data_rate: DataRate,
    /// The DTLS certificate; made anew for each session when none, which takes some 0.1 ms. Default: none.
    pub certificate: Option<DtlsCert>,
}

impl Default for ParticipantConfig {
    fn default() -> Self {
        Self {
            publish: None,
            subscribe: true,
            udp: None,
            second_udp: None,
            tcp_after: Some(Duration::from_millis(1500)),
            media_timeout: Duration::from_secs(10),
            media_failures: 3,
            tracks: 8,
            participants: 64,
            data_rate: DataRate::default(),
            certificate: None,
        }
    }
}

/// The one track a participant publishes: Opus, sent as microphone, without redundancy (RED).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The track's name.
    pub name: String,
    /// Two channels. Only tells others: the payloads are the caller's.
    pub stereo: bool,
}

/// One of the tracks we subscribed to. Never used twice within a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub(super) u32);

impl TrackId {
    /// The track of this number: for tests of what is done with packets.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// How loud a packet is (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// From -127 (silence) to 0 (full scale), in dBov.
    pub dbov: i8,
    /// Whether it is voice.
    pub voice: bool,
}

impl AudioLevel {
    /// Silence.
    pub const SILENT: Self = Self { dbov: -127, voice: false };
    /// Somebody speaks, how loud is not known. Enough for the server to name an active speaker.
    pub const SPEECH: Self = Self { dbov: -30, voice: true };
}

/// An Opus packet of a track we subscribed to, as it came: perhaps out of order, never twice.
#[derive(Clone, Debug)]
pub struct OpusIn {
    /// The track.
    pub track: TrackId,
    /// The RTP sequence, extended so that it never wraps.
    pub sequence: u64,
    /// The RTP time in 48 kHz ticks, extended so that it never wraps.
    pub time: u64,
    /// How loud, if the sender says so.
    pub level: Option<AudioLevel>,
    /// When the datagram was handed in.
    pub received: Instant,
    /// The Opus packet.
    pub payload: Arc<[u8]>,
}

/// An Opus packet to be published.
#[derive(Clone, Copy, Debug)]
pub struct OpusOut<'a> {
    /// The Opus packet; at most 1200 bytes.
    pub payload: &'a [u8],
    /// From the start of the packet before to the start of this, in 48 kHz ticks: 2880 for 60 ms. Of the first
    /// packet it does not matter.
    pub advance: u32,
    /// How many packets went missing between the one before and this, so that receivers see the gap.
    pub lost: u16,
    /// The first packet after silence.
    pub marker: bool,
    /// How loud.
    pub level: AudioLevel,
}

/// Another participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteParticipant {
    /// Unique in time.
    pub sid: String,
    /// Unique in the room.
    pub identity: String,
    /// Shown to people.
    pub name: String,
    /// Whether it is an agent.
    pub agent: bool,
    /// Its attributes; agents say their state in `lk.agent.state`.
    pub attributes: HashMap<String, String>,
}

/// A track of another participant that we receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTrack {
    /// Our name for it.
    pub id: TrackId,
    /// The server's name for it.
    pub sid: String,
    /// Who publishes it.
    pub identity: String,
    /// Its name.
    pub name: String,
    /// Whether it is muted.
    pub muted: bool,
    /// Whether it has two channels.
    pub stereo: bool,
}

/// Somebody began or ceased to speak.
#[derive(Clone, Debug, PartialEq)]
pub struct Speaker {
    /// Who; our own identity, too.
    pub identity: String,
    /// From 0 to 1.
    pub level: f32,
    /// Whether it speaks now.
    pub active: bool,
}

/// Why a track is not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackRefusal {
    /// As many as allowed are received already.
    #[error("as many tracks as allowed are received already")]
    TooMany,
    /// It is encrypted end to end.
    #[error("it is encrypted end to end, which is not supported")]
    Encrypted,
    /// The server does not let us.
    #[error("the server does not let us")]
    Denied,
}

/// Why a participant is out of the room for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// It wanted to leave.
    #[error("we left the room")]
    Left,
    /// The server, or the way to it.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// Media could not be brought up.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The signal task fell behind or ended.
    #[error("the signal connection does not keep up")]
    Stalled,
}

/// What happens in the room.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// In the room. When this comes again, everything told of participants and tracks before is void, and the track
    /// is published anew.
    Joined {
        /// The room's name.
        room: String,
        /// Our sid.
        sid: String,
        /// Our identity.
        identity: String,
    },
    /// Audio and data can be sent.
    Connected,
    /// The connection is lost; resuming or joining anew is under way.
    Interrupted(CloseReason),
    /// The session goes on after an interruption.
    Resumed,
    /// The server moved us to another room; participants and tracks told before are void.
    RoomMoved {
        /// The new room's name.
        room: String,
    },
    /// Somebody is here.
    ParticipantJoined(RemoteParticipant),
    /// Name, attributes or permissions changed.
    ParticipantChanged(RemoteParticipant),
    /// Somebody left.
    ParticipantLeft {
        /// Who.
        identity: String,
    },
    /// Audio of this track will come.
    TrackSubscribed(RemoteTrack),
    /// A track was muted or unmuted.
    TrackMuted {
        /// Which.
        track: TrackId,
        /// Whether it is muted now.
        muted: bool,
    },
    /// No more audio of this track will come.
    TrackEnded {
        /// Which.
        track: TrackId,
    },
    /// A track is not received.
    TrackRefused {
        /// The server's name for it.
        sid: String,
        /// Who publishes it.
        identity: String,
        /// Why not.
        reason: TrackRefusal,
    },
    /// The server knows our track.
    Published {
        /// Its name for it.
        sid: String,
    },
    /// Somebody hears our track for the first time.
    FirstListener,
    /// The server muted or unmuted our track.
    MutedByServer {
        /// Whether it is muted now.
        muted: bool,
    },
    /// An Opus packet.
    Audio(OpusIn),
    /// Who speaks changed.
    Speakers(Vec<Speaker>),
    /// A data packet.
    Data(DataMessage),
    /// A text stream that is complete. Transcriptions come as [`Event::Transcript`] instead.
    Text(Text),
    /// What somebody said.
    Transcript(Transcript),
    /// Somebody calls; answer with [`Participant::answer`](super::Participant::answer).
    RpcRequest {
        /// For the answer.
        id: RequestId,
        /// Who calls.
        caller: String,
        /// What is called.
        method: String,
        /// What is said.
        payload: String,
        /// How long the caller waits.
        timeout: Duration,
    },
    /// Our call ended.
    RpcResult {
        /// Which.
        id: CallId,
        /// The answer.
        result: Result<String, RpcError>,
    },
    /// Others send more data than is taken; told at most once a second.
    Flooded,
    /// Out of the room for good. Nothing comes after.
    Closed(CloseReason),
}

/// A datagram, or a packet for a TCP connection, to be sent.
#[derive(Debug)]
pub struct Transmit {
    /// Over TCP, framed by [`crate::stream::frame`]; else over UDP.
    pub tcp: bool,
    /// Our socket.
    pub source: SocketAddr,
    /// Whereto.
    pub destination: SocketAddr,
    /// What.
    pub contents: Vec<u8>,
}

/// A TCP connection that is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpId(pub(super) u32);

/// What a participant gives out.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub enum Output {
    /// Send this.
    Transmit(Transmit),
    /// Give this to the signal connection.
    Signal(SignalCommand),
    /// Open a TCP connection to this address and report it with
    /// [`Participant::handle_tcp_open`](super::Participant::handle_tcp_open). A failure needs no report.
    Connect {
        /// Our name for it.
        id: TcpId,
        /// Whereto.
        remote: SocketAddr,
    },
    /// Tell the application.
    Event(Event),
    /// Nothing more for now; call [`Participant::handle_timeout`](super::Participant::handle_timeout) then, at the
    /// latest.
    Timeout(Instant),
}

/// What was dropped, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams that are neither STUN, DTLS nor RTP, or belong to no connection.
    pub datagrams_unknown: u64,
    /// RTP packets of no track, or not of the Opus payload type (RED, video).
    pub packets_unknown: u64,
    /// Data packets that came twice.
    pub data_repeated: u64,
    /// Data packets above the rate.
    pub data_flood: u64,
    /// Data packets that are malformed or break a limit.
    pub data_malformed: u64,
    /// RPC requests refused for their version, their size or their number.
    pub rpc_refused: u64,
    /// Messages of the server that made no sense, or went beyond a limit.
    pub signal_ignored: u64,
    /// Outputs dropped because the caller did not take them.
    pub outputs_dropped: u64,
    /// Sessions made anew because media failed.
    pub media_failures: u64,
}
