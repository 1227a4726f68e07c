//! What comes from the device: opened, counted, and its address kept.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_core::error::OpenError;
use evenkeel_core::framing::Frames;
use evenkeel_core::replay::MAX_JUMP;
use evenkeel_core::seal::{Opened, Opener};
use evenkeel_core::units::Time;

use crate::media::SourcePolicy;

/// See the [module](self).
pub(super) struct Uplink {
    /// Opens datagrams; `None` where the device has none to send.
    opener: Option<Opener>,
    policy: SourcePolicy,
    address: Option<SocketAddr>,
    /// The newest packet, once there is one.
    newest: Option<Newest>,
    expected: u64,
    received: u64,
    late: u64,
    /// RFC 3550, section 6.4.1, in nanoseconds.
    jitter: u64,
}

struct Newest {
    sequence: u32,
    /// Media time since the first packet, at its start.
    media: Duration,
    arrived: Time,
}

/// A packet that was let in.
pub(super) struct Heard<'a> {
    pub(super) opus: &'a [u8],
    pub(super) frames: Frames<'a>,
    /// The timestamp it carried.
    pub(super) echoed: u32,
    /// Media time since the first packet.
    pub(super) media: Duration,
    /// A packet behind it was heard already.
    pub(super) is_late: bool,
    /// It is the first ever.
    pub(super) is_first: bool,
}

/// Why a datagram was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// From an address the session may not move to.
    Source,
    /// By what it is.
    Open(OpenError),
}

impl Uplink {
    pub(super) const fn new(opener: Option<Opener>, policy: SourcePolicy) -> Self {
        Self { opener, policy, address: None, newest: None, expected: 0, received: 0, late: 0, jitter: 0 }
    }

    /// Where to send: where the last valid datagram came from.
    pub(super) const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Opens a datagram. Unless it is let in, nothing moves.
    pub(super) fn handle<'a>(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &'a mut [u8],
    ) -> Result<Heard<'a>, Refusal> {
        let admitted = self.admits(from);
        let Some(opener) = self.opener.as_mut().filter(|_| admitted) else { return Err(Refusal::Source) };
        let Opened { header, payload } = opener.open(datagram).map_err(Refusal::Open)?;
        // The opener let it in, so it parses.
        let frames = Frames::parse(payload).map_err(|error| Refusal::Open(error.into()))?;
        self.received += 1;
        let duration = Duration::from_micros(frames.duration_us().into());
        let (media, is_late) = self.place(header.sequence, duration, now);
        // A reordered datagram of before a move does not move the address back.
        if is_late {
            self.late += 1;
        } else {
            self.address = Some(from);
        }
        let is_first = self.received == 1;
        Ok(Heard { opus: payload, frames, echoed: header.timestamp, media, is_late, is_first })
    }

    /// Takes a packet that came over the device's connection, in order and whole.
    pub(super) fn handle_stream<'a>(
        &mut self,
        now: Time,
        opus: &'a [u8],
        echoed: u32,
    ) -> Result<Heard<'a>, Refusal> {
        let frames = Frames::parse(opus).map_err(|error| Refusal::Open(error.into()))?;
        self.received += 1;
        let duration = Duration::from_micros(frames.duration_us().into());
        let sequence = self.newest.as_ref().map_or(0, |newest| newest.sequence.wrapping_add(1));
        let (media, _) = self.place(sequence, duration, now);
        Ok(Heard { opus, frames, echoed, media, is_late: false, is_first: false })
    }

    /// Packets let in.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Packets let in behind which one was heard already.
    pub(super) const fn late(&self) -> u64 {
        self.late
    }

    /// Packets that never came, going by the sequences.
    pub(super) const fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    pub(super) const fn jitter(&self) -> Duration {
        Duration::from_nanos(self.jitter)
    }

    fn admits(&self, from: SocketAddr) -> bool {
        let Some(address) = self.address else { return true };
        from == address
            || match self.policy {
                SourcePolicy::Any => true,
                SourcePolicy::First => false,
                SourcePolicy::Ip(ip) => from.ip() == ip,
            }
    }

    /// Where the packet stands among those before: its media time, and whether it is late.
    fn place(&mut self, sequence: u32, duration: Duration, now: Time) -> (Duration, bool) {
        let Some(newest) = &mut self.newest else {
            self.newest = Some(Newest { sequence, media: Duration::ZERO, arrived: now });
            self.expected = 1;
            return (Duration::ZERO, false);
        };
        let step = sequence.wrapping_sub(newest.sequence) as i32;
        if step <= 0 {
            return (newest.media.saturating_sub(duration * step.unsigned_abs()), true);
        }
        // Where a device restarted its count, nothing was lost.
        let step = if step as u32 > MAX_JUMP { 1 } else { step as u32 };
        self.expected += u64::from(step);
        let media = newest.media + duration * step;
        let transit = now.since(newest.arrived).as_nanos() as i64 - (duration * step).as_nanos() as i64;
        let difference = transit.unsigned_abs();
        self.jitter = self.jitter.saturating_add_signed((difference as i64 - self.jitter as i64) / 16);
        *newest = Newest { sequence, media, arrived: now };
        (media, false)
    }
}
