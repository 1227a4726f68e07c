//! The jitter buffer: packets go in as the network brings them, and come out in order and on time.
//!
//! Two calls drive it. [`JitterBuffer::insert`] takes each packet as it arrives. [`JitterBuffer::next`] is called
//! whenever audio is needed and says what to play; each [`Playout`] lasts a stated time, after which the caller asks
//! again. The buffer never decodes: it says what is there and what is missing, and its caller decodes, conceals, or
//! passes the gap on.
//!
//! # How deep it is
//! The *delay* of the buffer is how much later a packet is played than the fastest packet of the last two seconds
//! would have allowed. A packet that the network delayed by less than that, relative to the fastest, comes in time.
//! The *target* is the delay that would have sufficed for 95 % of recent half-seconds (the idea of relative delays in
//! a histogram that forgets is that of NetEq's delay manager in WebRTC). The buffer moves towards its target
//! where it is least heard:
//! * Before a talk spurt it waits until the target is reached.
//! * If it runs empty, it conceals and plays what comes late, which makes it deeper. While it is short of the target
//!   it also waits for a packet that is missing, before it takes it for lost.
//! * It grows by a concealed frame, and shrinks by leaving out a packet, where the encoder found no voice. Amid voice
//!   it leaves out one packet in ten at most.
//! * Above [`JitterConfig::max_depth`] it leaves out packets at once.
//!
//! # Loss, pauses and restarts
//! A packet counts as lost once a later one is there, never because of silence: a sender with discontinuous
//! transmission (DTX) may stop for as long as it likes. What is known to be lost is concealed to the last frame, or the
//! codec would begin anew behind it. When nothing comes, concealment ends after [`JitterConfig::max_concealment`];
//! then there is silence until packets come again, and the delay is measured anew. That the sender has restarted its
//! sequence is believed when three packets in a row agree, or sixteen where they may as well be late.

mod buffer;
mod delay;
mod sequence;
mod timeline;

use core::time::Duration;

use crate::error::{ConfigError, PacketError};
use crate::units::FrameDuration;

pub use buffer::JitterBuffer;

/// How a [`JitterBuffer`] behaves. The defaults suit speech in 20 to 60 ms packets over the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterConfig {
    /// The least delay that is aimed for. Default 20 ms. In-band redundancy of a lost packet can be used only if the
    /// packet after it has come, so on lossy networks this should be a packet's duration at least.
    pub min_depth: Duration,
    /// The most delay that is tolerated, up to 10 s. Default 400 ms.
    pub max_depth: Duration,
    /// The least target for the first two seconds, before jitter was measured. Default 60 ms.
    pub initial_depth: Duration,
    /// The most packets held, 2 to 4096; when there are more the oldest is dropped. Default 64, which takes 21 KiB
    /// once the first packet came, and later only what payloads have above 256 bytes.
    pub capacity: usize,
    /// The largest payload taken, in bytes. Default 1500.
    pub max_payload: usize,
    /// How long a packet is taken to last before the first one came. Default 20 ms.
    pub packet_duration: FrameDuration,
    /// For how long at a stretch audio is concealed that may still come, before it becomes silence. Default 100 ms.
    pub max_concealment: Duration,
    /// How many packets the sequence may jump forward before it counts as a restart, 1 to 2^30. Default 1000.
    pub max_jump: u32,
    /// Ticks of the timestamp in a second; 48,000 for Opus in RTP, 1000 for the device protocol's downlink. Default
    /// none: media time follows from the sequence alone. Timestamps are used where they advance plausibly; they tell
    /// a pause of the sender from a delay of the network.
    pub timestamp_hz: Option<u32>,
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self {
            min_depth: Duration::from_millis(20),
            max_depth: Duration::from_millis(400),
            initial_depth: Duration::from_millis(60),
            capacity: 64,
            max_payload: 1500,
            packet_duration: FrameDuration::MS_20,
            max_concealment: Duration::from_millis(100),
            max_jump: 1000,
            timestamp_hz: None,
        }
    }
}

impl JitterConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let within = |what, actual: u128, min: u128, max: u128| {
            let int = |v: u128| i64::try_from(v).unwrap_or(i64::MAX);
            if (min..=max).contains(&actual) {
                return Ok(());
            }
            Err(ConfigError::Range { what, min: int(min), max: int(max), actual: int(actual) })
        };
        // To the nanosecond, as the target is clamped between them.
        let max_depth = self.max_depth.as_nanos();
        within("maximum depth of the jitter buffer in ns", max_depth, 0, 10_000_000_000)?;
        within("minimum depth of the jitter buffer in ns", self.min_depth.as_nanos(), 0, max_depth)?;
        within("initial depth of the jitter buffer in ns", self.initial_depth.as_nanos(), 0, max_depth)?;
        within("capacity of the jitter buffer in packets", self.capacity as u128, 2, 4096)?;
        within("largest payload in bytes", self.max_payload as u128, 1, u128::from(u16::MAX))?;
        within("concealment at a stretch in ms", self.max_concealment.as_millis(), 0, 60_000)?;
        within("jump of the sequence in packets", u128::from(self.max_jump), 1, 1 << 30)?;
        within("timestamp rate in Hz", u128::from(self.timestamp_hz.unwrap_or(1)), 1, 1_000_000_000)
    }
}

/// What became of a packet that was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It waits for its turn.
    Stored,
    /// It came before.
    Duplicate,
    /// Its turn was over: a later packet was played, or its time was concealed.
    Late,
    /// Its sequence is far from what is expected. It was not stored; if the next ones agree with it, the sender has
    /// restarted.
    Suspect,
    /// Several packets agree that the sender has restarted its sequence: all before was discarded, this one stored.
    Restarted,
    /// The buffer was full, and its oldest packet was dropped: this one, if it is older than all the others.
    Overflow,
    /// It is no valid Opus packet, or too large. Nothing changed.
    Rejected(PacketError),
}

/// What to play next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the buffer counts on this being played"]
pub enum Playout<'a> {
    /// A packet, in its turn.
    Packet {
        /// Its sequence; always newer than that of the packet before, unless the sender restarted.
        sequence: u32,
        /// The Opus packet, or PCM.
        payload: &'a [u8],
        /// How long it lasts.
        duration: Duration,
        /// Whether it is PCM ([`JitterBuffer::insert_pcm`]).
        is_pcm: bool,
    },
    /// The packet whose turn it is was lost: a later one is there.
    Lost {
        /// Its sequence.
        sequence: u32,
        /// The packet after it, if that carries in-band redundancy (LBRR, RFC 6716 section 2.1.7) for the lost one.
        fec: Option<&'a [u8]>,
        /// How much of it is left to conceal.
        duration: FrameDuration,
    },
    /// Nothing is there in time, or the buffer grows: bridge it. What comes late is played afterwards.
    Conceal {
        /// For how long.
        duration: FrameDuration,
    },
    /// Nothing to play: the stream has not begun, pauses, or has been concealed for long enough.
    Silence {
        /// For how long; then ask again.
        duration: FrameDuration,
    },
}

impl Playout<'_> {
    /// How long it lasts; [`JitterBuffer::next`] is to be called again after that.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match *self {
            Self::Packet { duration, .. } => duration,
            Self::Lost { duration, .. } | Self::Conceal { duration } | Self::Silence { duration } => {
                duration.as_duration()
            }
        }
    }
}

/// What a [`JitterBuffer`] measured and did. Counts are of packets unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// How much later the last packet was played than the fastest packet would have allowed.
    pub delay: Duration,
    /// The delay aimed for.
    pub target: Duration,
    /// The mean of `delay` over all packets played.
    pub mean_delay: Duration,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter: Duration,
    /// Valid packets inserted: the sum of `played`, `dropped`, `duplicates`, `late`, `suspects`, `overflow` and those
    /// still held.
    pub received: u64,
    /// Given out as [`Playout::Packet`].
    pub played: u64,
    /// Never came, although later ones did. One that comes after its turn moves to `late`.
    pub lost: u64,
    /// Came after their turn.
    pub late: u64,
    /// Came more than once.
    pub duplicates: u64,
    /// Lost, but the packet after them carries their redundancy.
    pub recovered: u64,
    /// Left out, so that the delay shrinks, or discarded at a restart.
    pub dropped: u64,
    /// Dropped because the buffer was full.
    pub overflow: u64,
    /// Far from the expected sequence, and not stored.
    pub suspects: u64,
    /// Refused as malformed or too large; not part of `received`.
    pub rejected: u64,
    /// How often the sender restarted its sequence.
    pub restarts: u64,
    /// How often the buffer ran empty amid audio.
    pub underruns: u64,
    /// How often concealment gave way to silence because nothing came: pauses of the sender, and outages.
    pub pauses: u64,
    /// Playouts to be concealed: [`Playout::Conceal`], and [`Playout::Lost`] without redundancy.
    pub concealed: u64,
    /// How long those were together.
    pub concealed_time: Duration,
}

/// In nanoseconds; longer than 292 years is as long as that.
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
