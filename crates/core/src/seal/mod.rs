//! Sealing packets on the way out and opening them on the way in: the `compat` profile that deployed firmware speaks
//! (AES-CTR, no tag) and the `sealed` profile (AEAD).
//!
//! Both work in place on the caller's buffer: the payload stands behind [`HEADER_LEN`] bytes of room for the header
//! and, going out, before [`Suite::tag_len`] bytes of room for the tag.

mod aead;
mod ctr;
mod keys;

pub use ctr::PacketCipher;
pub use keys::{Direction, SessionKeys, Suite};

use core::time::Duration;

use crate::error::{OpenError, PacketError, SealError};
use crate::framing::Frames;
use crate::packet::{FLAG_CLEAR, FLAG_DOWNLINK, FLAG_PCM, HEADER_LEN, Header, MAX_PAYLOAD};
use crate::replay::Replay;

/// Packets one key may seal in the `compat` profile, where counters of 32 bits run through the sequence.
pub const COMPAT_PACKET_LIMIT: u32 = 1 << 31;

/// What turns payloads into ciphertext. A key schedule is computed once a session, never once a packet.
enum Cipher {
    Ctr(ctr::Ctr),
    Aead(aead::Aead),
}

/// Seals the packets of one direction of one session.
///
/// Keystream hygiene (`compat` has one key for both directions, and a counter that runs through the sequence): what
/// a downlink sealer sends has [`FLAG_DOWNLINK`] set, which the uplink never has, and a timestamp that no other
/// packet under the key has. So no two counter blocks are ever the same, whatever the lengths.
pub struct Sealer {
    cipher: Cipher,
    suite: Suite,
    direction: Direction,
    connection_id: u32,
    /// The sequence of the next packet, with the rollovers above the low 32 bits.
    next: u64,
    clock: TimestampClock,
}

impl Sealer {
    /// A sealer whose first packet has sequence 1.
    ///
    /// Build one for a key and a direction, never a second: that would begin at sequence 1 again, and in the `sealed`
    /// profile a nonce used twice gives both packets and the authentication key away.
    ///
    /// `timestamp_start` is where the media clock of a downlink starts: random, so that timestamps tell an observer
    /// nothing. An uplink sealer does not use it.
    #[must_use]
    pub fn new(keys: &SessionKeys, direction: Direction, timestamp_start: u32) -> Self {
        Self {
            cipher: keys.cipher(direction),
            suite: keys.suite(),
            direction,
            connection_id: keys.connection_id(),
            next: 1,
            clock: TimestampClock::new(timestamp_start),
        }
    }

    /// The suite it seals with.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Bytes that sealing adds to a payload: the header and, in the `sealed` profile, the tag.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        HEADER_LEN + self.suite.tag_len()
    }

    /// Seals the payload that stands at `HEADER_LEN..HEADER_LEN + payload_len` of `datagram`, which must have room
    /// for the tag behind it. Returns the header written and the datagram's length.
    ///
    /// `media_ms` is the media time of the payload since the session began, in milliseconds; it must grow by at
    /// least 1 with each packet.
    ///
    /// # Errors
    /// [`SealError::Empty`], [`SealError::Oversized`], [`SealError::TimestampReused`], or
    /// [`SealError::KeyExhausted`] once the session must be re-keyed. Nothing is sealed and no state changes.
    #[inline]
    pub fn seal(
        &mut self,
        datagram: &mut [u8],
        payload_len: usize,
        media_ms: u64,
    ) -> Result<(Header, usize), SealError> {
        self.seal_flagged(datagram, payload_len, media_ms, 0)
    }

    /// As [`Sealer::seal`] for a payload of 16-bit big-endian PCM.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn seal_pcm(
        &mut self,
        datagram: &mut [u8],
        payload_len: usize,
        media_ms: u64,
    ) -> Result<(Header, usize), SealError> {
        self.seal_flagged(datagram, payload_len, media_ms, FLAG_PCM)
    }

    /// Writes the header before a payload of 16-bit big-endian PCM and leaves the payload **in clear**: rung
    /// `emergency`, which the operator and the device must both have agreed to.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn send_pcm_in_clear(
        &mut self,
        datagram: &mut [u8],
        payload_len: usize,
        media_ms: u64,
    ) -> Result<(Header, usize), SealError> {
        self.seal_flagged(datagram, payload_len, media_ms, FLAG_PCM | FLAG_CLEAR)
    }

    #[inline]
    fn seal_flagged(
        &mut self,
        datagram: &mut [u8],
        payload_len: usize,
        media_ms: u64,
        flags: u8,
    ) -> Result<(Header, usize), SealError> {
        let timestamp = self.clock.at(media_ms)?;
        let sealed = self.seal_with_timestamp(datagram, payload_len, timestamp, flags)?;
        self.clock.advance_to(media_ms);
        Ok(sealed)
    }

    /// Seals an uplink payload as firmware does: with a timestamp of 0, or that of the downlink frame just played.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    ///
    /// # Panics
    /// If this is a downlink sealer, whose timestamps are its own to choose.
    pub fn seal_echo(
        &mut self,
        datagram: &mut [u8],
        payload_len: usize,
        timestamp: u32,
    ) -> Result<(Header, usize), SealError> {
        assert!(self.direction == Direction::Uplink, "a downlink sealer chooses its timestamps itself");
        self.seal_with_timestamp(datagram, payload_len, timestamp, 0)
    }

    /// The media time, in milliseconds, that a packet of this sealer with this timestamp had.
    #[must_use]
    pub fn media_ms_of(&self, timestamp: u32) -> Option<u64> {
        self.clock.media_ms_of(timestamp)
    }

    #[inline]
    fn seal_with_timestamp(
        &mut self,
        datagram: &mut [u8],
        payload_len: usize,
        timestamp: u32,
        flags: u8,
    ) -> Result<(Header, usize), SealError> {
        if payload_len == 0 {
            return Err(SealError::Empty);
        }
        let tag_len = if flags & FLAG_CLEAR == 0 { self.suite.tag_len() } else { 0 };
        let room = datagram.len().saturating_sub(HEADER_LEN + tag_len);
        let limit = room.min(MAX_PAYLOAD - tag_len);
        if payload_len > limit {
            return Err(SealError::Oversized { limit, actual: payload_len });
        }
        if !self.suite.is_authenticated() && self.next >= u64::from(COMPAT_PACKET_LIMIT) {
            return Err(SealError::KeyExhausted);
        }
        let header = Header {
            flags: flags | if self.direction == Direction::Downlink { FLAG_DOWNLINK } else { 0 },
            payload_len: (payload_len + tag_len) as u16,
            connection_id: self.connection_id,
            timestamp,
            sequence: self.next as u32,
        };
        let head = header.emit();
        let len = HEADER_LEN + payload_len + tag_len;
        let (room_for_head, payload) = datagram[..len].split_at_mut(HEADER_LEN);
        match &self.cipher {
            _ if header.is_clear() => {}
            Cipher::Ctr(ctr) => ctr.apply(&head, payload),
            Cipher::Aead(aead) => aead.seal(self.next, &head, payload)?,
        }
        room_for_head.copy_from_slice(&head);
        self.next += 1;
        Ok((header, len))
    }
}

/// A sealed packet on its way out.
#[derive(Debug)]
pub struct Sealed<'a> {
    /// The whole datagram.
    pub datagram: &'a [u8],
    /// Its header.
    pub header: Header,
    /// Media time of its first sample since the session began: when it is due, relative to the first.
    pub media_time: Duration,
    /// How long it lasts.
    pub duration: Duration,
}

/// What the payload of an opened datagram may be, before it may move any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// A valid Opus packet of at most 120 ms.
    Opus,
    /// That, or PCM.
    OpusOrPcm,
    /// That, or PCM, even in clear (rung `emergency`): anyone on the way can then listen and speak.
    OpusOrPcmInClear,
}

/// A datagram that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload, in the clear.
    pub payload: &'a [u8],
}

/// Opens the datagrams of one direction of one session.
pub struct Opener {
    cipher: Cipher,
    suite: Suite,
    direction: Direction,
    connection_id: u32,
    replay: Replay,
    kind: PayloadKind,
}

impl Opener {
    /// An opener for what `direction` carries.
    #[must_use]
    pub fn new(keys: &SessionKeys, direction: Direction, kind: PayloadKind) -> Self {
        let suite = keys.suite();
        Self {
            cipher: keys.cipher(direction),
            suite,
            direction,
            connection_id: keys.connection_id(),
            // In clear anybody may claim any sequence, and one that leaps would shut out all that is sealed.
            replay: match kind {
                _ if !suite.is_authenticated() => Replay::compat(),
                PayloadKind::Opus | PayloadKind::OpusOrPcm => Replay::sealed(),
                PayloadKind::OpusOrPcmInClear => Replay::sealed().limiting_jumps(),
            },
            kind,
        }
    }

    /// The suite it opens.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Checks, decrypts in place and lets in one datagram. The bytes of a refused one may be scrambled.
    ///
    /// # Errors
    /// [`OpenError`], with what was wrong; no state has changed then, save that a first or second far jump, where no
    /// tag vouches for it, is remembered ([`crate::replay::MAX_JUMP`]).
    #[inline]
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<Opened<'a>, OpenError> {
        let header = Header::parse(datagram)?;
        if header.connection_id != self.connection_id {
            return Err(PacketError::ConnectionId { actual: header.connection_id }.into());
        }
        if self.direction == Direction::Uplink && header.is_downlink() {
            return Err(PacketError::Reflected.into());
        }
        self.admit(&header)?;
        let fresh = self.replay.check(header.sequence)?;
        let len = usize::from(header.payload_len);
        let tag_len = if header.is_clear() { 0 } else { self.suite.tag_len() };
        let least = tag_len + 1;
        if len < least {
            return Err(
                PacketError::Truncated { needed: HEADER_LEN + least, actual: HEADER_LEN + len }.into()
            );
        }
        let (head, rest) = datagram.split_at_mut(HEADER_LEN);
        let payload = &mut rest[..len];
        match &self.cipher {
            _ if header.is_clear() => {}
            Cipher::Ctr(ctr) => {
                let iv: &[u8; HEADER_LEN] = (&*head).try_into().unwrap_or(&[0; HEADER_LEN]);
                ctr.apply(iv, payload);
            }
            Cipher::Aead(aead) => {
                let index = u64::from(fresh.rollover()) << 32 | u64::from(header.sequence);
                aead.open(index, head, payload)?;
            }
        }
        let payload = &rest[..len - tag_len];
        if !header.is_pcm() {
            Frames::parse(payload)?;
        } else if !payload.len().is_multiple_of(2) {
            return Err(PacketError::Payload { reason: "PCM of half a sample" }.into());
        }
        self.replay.accept(fresh)?;
        Ok(Opened { header, payload })
    }

    /// Whether a payload of the announced kind is taken at all.
    #[inline]
    fn admit(&self, header: &Header) -> Result<(), PacketError> {
        let reason = match self.kind {
            PayloadKind::Opus if header.is_pcm() => "PCM was not agreed on",
            PayloadKind::Opus | PayloadKind::OpusOrPcm if header.is_clear() => "it is in clear",
            _ if header.is_clear() && !header.is_pcm() => "Opus is never sent in clear",
            _ => return Ok(()),
        };
        Err(PacketError::Payload { reason })
    }
}

/// Media time in milliseconds to timestamps that are unique and never zero.
struct TimestampClock {
    start: u32,
    last: Option<u64>,
}

impl TimestampClock {
    /// How many timestamps there are: all 32-bit values but zero.
    const CYCLE: u64 = u32::MAX as u64;

    fn new(start: u32) -> Self {
        Self { start: start.max(1), last: None }
    }

    #[inline]
    fn at(&self, media_ms: u64) -> Result<u32, SealError> {
        if self.last.is_some_and(|last| media_ms <= last) {
            return Err(SealError::TimestampReused);
        }
        if media_ms >= Self::CYCLE {
            return Err(SealError::KeyExhausted);
        }
        let position = u64::from(self.start) - 1 + media_ms;
        Ok((position % Self::CYCLE) as u32 + 1)
    }

    #[inline]
    fn advance_to(&mut self, media_ms: u64) {
        self.last = Some(media_ms);
    }

    fn media_ms_of(&self, timestamp: u32) -> Option<u64> {
        let position = u64::from(timestamp.checked_sub(1)?);
        let media_ms = (position + Self::CYCLE - (u64::from(self.start) - 1)) % Self::CYCLE;
        self.last.is_some_and(|last| media_ms <= last).then_some(media_ms)
    }
}

#[cfg(test)]
mod tests;
