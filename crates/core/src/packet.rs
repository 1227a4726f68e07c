//! The 16-byte header that both profiles share, as a checked view and as a plain value.
//!
//! ```text
//! 0       1       2           4                8             12           16
//! | type  | flags | payload   | connection id  | timestamp   | sequence   | payload …
//! | 0x01  |       | length    |                |             |            |
//! ```
//! All integers are big-endian.

use crate::error::PacketError;

/// Bytes of header before the payload.
pub const HEADER_LEN: usize = 16;

/// The datagram type of audio, the only one there is.
pub const TYPE_AUDIO: u8 = 0x01;

/// Set in `flags` of what the gateway sends, so that the counters of both directions can never meet (they share a
/// key in the `compat` profile). Deployed firmware ignores the byte.
pub const FLAG_DOWNLINK: u8 = 0x80;

/// Set in `flags` where the payload is 16-bit big-endian PCM instead of Opus (rungs `minimal` and `emergency`, only
/// to devices that declared it).
pub const FLAG_PCM: u8 = 0x40;

/// Set in `flags` where the payload is in clear (rung `emergency`).
pub const FLAG_CLEAR: u8 = 0x20;

/// The largest payload, tag included: what the 16-bit length field of an IPv4 datagram leaves behind the headers of IP,
/// UDP and ours.
pub const MAX_PAYLOAD: usize = 65_507 - HEADER_LEN;

/// A header as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`FLAG_DOWNLINK`], [`FLAG_PCM`] and [`FLAG_CLEAR`]; the rest is zero.
    pub flags: u8,
    /// Bytes that follow the header, the tag of an AEAD included.
    pub payload_len: u16,
    /// Which session the datagram belongs to (the SSRC).
    pub connection_id: u32,
    /// Media clock in ms downlink; zero or an echo of the downlink's uplink.
    pub timestamp: u32,
    /// Counts datagrams, from 1.
    pub sequence: u32,
}

impl Header {
    /// Reads the header of a datagram and checks it against the datagram's length.
    ///
    /// Bytes after the announced payload are tolerated, as old firmware sends them; [`Header::payload`] leaves them
    /// out.
    ///
    /// # Errors
    /// [`PacketError::Truncated`], [`PacketError::Type`] or [`PacketError::Length`].
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<Self, PacketError> {
        let Some((header, payload)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(PacketError::Truncated { needed: HEADER_LEN, actual: datagram.len() });
        };
        let header = Self::read(header)?;
        if usize::from(header.payload_len) > payload.len() {
            return Err(PacketError::Length {
                announced: usize::from(header.payload_len),
                present: payload.len(),
            });
        }
        Ok(header)
    }

    /// The connection id of a datagram that may be valid; for routing before anything is checked.
    #[inline]
    #[must_use]
    pub fn peek_connection_id(datagram: &[u8]) -> Option<u32> {
        let bytes = datagram.get(4..8)?.first_chunk::<4>()?;
        (datagram.len() >= HEADER_LEN && datagram[0] == TYPE_AUDIO).then(|| u32::from_be_bytes(*bytes))
    }

    #[inline]
    fn read(bytes: &[u8; HEADER_LEN]) -> Result<Self, PacketError> {
        let [kind, flags, l0, l1, c0, c1, c2, c3, t0, t1, t2, t3, s0, s1, s2, s3] = *bytes;
        if kind != TYPE_AUDIO {
            return Err(PacketError::Type { actual: kind });
        }
        Ok(Self {
            flags,
            payload_len: u16::from_be_bytes([l0, l1]),
            connection_id: u32::from_be_bytes([c0, c1, c2, c3]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }

    /// The header as bytes on the wire.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = TYPE_AUDIO;
        out[1] = self.flags;
        out[2..4].copy_from_slice(&self.payload_len.to_be_bytes());
        out[4..8].copy_from_slice(&self.connection_id.to_be_bytes());
        out[8..12].copy_from_slice(&self.timestamp.to_be_bytes());
        out[12..16].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    /// Whether the gateway sent this.
    #[inline]
    #[must_use]
    pub const fn is_downlink(&self) -> bool {
        self.flags & FLAG_DOWNLINK != 0
    }

    /// Whether the payload is PCM.
    #[inline]
    #[must_use]
    pub const fn is_pcm(&self) -> bool {
        self.flags & FLAG_PCM != 0
    }

    /// Whether the payload is in clear.
    #[inline]
    #[must_use]
    pub const fn is_clear(&self) -> bool {
        self.flags & FLAG_CLEAR != 0
    }

    /// The announced payload of the datagram this header was parsed from.
    #[inline]
    #[must_use]
    pub fn payload<'a>(&self, datagram: &'a [u8]) -> &'a [u8] {
        &datagram[HEADER_LEN..HEADER_LEN + usize::from(self.payload_len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_wrong_and_lying_datagrams_are_refused() {
        assert_eq!(Header::parse(&[1; 15]), Err(PacketError::Truncated { needed: 16, actual: 15 }));
        assert_eq!(Header::parse(&[0; 16]), Err(PacketError::Type { actual: 0 }));
        let mut datagram = [0u8; 18];
        datagram[0] = TYPE_AUDIO;
        datagram[3] = 3;
        assert_eq!(Header::parse(&datagram), Err(PacketError::Length { announced: 3, present: 2 }));
    }

    #[test]
    fn excess_after_the_payload_is_ignored() {
        let mut datagram = [7u8; 20];
        let header = Header { flags: 0, payload_len: 2, connection_id: 9, timestamp: 0, sequence: 1 };
        datagram[..16].copy_from_slice(&header.emit());
        assert_eq!(Header::parse(&datagram).unwrap().payload(&datagram), &[7, 7]);
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(
            flags: u8, connection_id: u32, timestamp: u32, sequence: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let payload_len = payload.len() as u16;
            let header = Header { flags, payload_len, connection_id, timestamp, sequence };
            let mut datagram = header.emit().to_vec();
            datagram.extend_from_slice(&payload);
            prop_assert_eq!(Header::parse(&datagram), Ok(header));
            prop_assert_eq!(header.payload(&datagram), payload.as_slice());
            prop_assert_eq!(Header::peek_connection_id(&datagram), Some(connection_id));
        }
    }
}
