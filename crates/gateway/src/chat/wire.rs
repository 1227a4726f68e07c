//! WebSocket frames (RFC 6455, section 5) as a client writes and reads them.
//!
//! Ours, and not the library that serves devices: a lane has thousands of these connections and may neither allocate a
//! message a frame nor hold a read buffer a connection.

use thiserror::Error;

/// The longest message that is read, in bytes; a server that sends a longer one is lost. A packet of voice has some 200, a
/// list of tools some thousands, and what is too long for a device is still read to be told from what is not.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// The longest head: two bytes, and eight of length.
pub const MAX_HEAD: usize = 10;

/// The longest payload of a control frame (section 5.5).
pub const MAX_CONTROL: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before.
    Continuation,
    /// UTF-8, or its beginning.
    Text,
    /// Bytes, or their beginning.
    Binary,
    /// The sender is done.
    Close,
    /// To be answered by a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    const fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The server broke the protocol; there is no way to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// Servers do not mask (section 5.1).
    #[error("a masked frame from the server")]
    Masked,
    /// Bits that only extensions use, and none was agreed on.
    #[error("a frame of an extension that was not agreed on")]
    Reserved,
    /// An opcode without meaning.
    #[error("a frame of opcode {0}, which has no meaning")]
    Opcode(u8),
    /// A control frame that is fragmented, or longer than [`MAX_CONTROL`].
    #[error("a control frame that is fragmented or longer than {MAX_CONTROL} bytes")]
    Control,
    /// A message that began within another, or went on without having begun.
    #[error("fragments of a message out of order")]
    Order,
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {actual} bytes; {MAX_MESSAGE} is the most")]
    Oversized {
        /// How long it is at least, in bytes.
        actual: u64,
    },
}

impl WireError {
    /// What the server is told (section 7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Oversized { .. } => 1009,
            _ => 1002,
        }
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether the message ends with it.
    pub is_last: bool,
    /// Bytes of the head.
    pub len: usize,
    /// Bytes of the payload behind it.
    pub payload: usize,
}

/// The head at the start of `bytes`; `None` while it is not whole. The payload need not be there yet.
///
/// # Errors
/// [`WireError`].
pub fn head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(WireError::Reserved);
    }
    let number = first & 0x0f;
    let opcode = Opcode::from_number(number).ok_or(WireError::Opcode(number))?;
    if second & 0x80 != 0 {
        return Err(WireError::Masked);
    }
    let is_last = first & 0x80 != 0;
    let (len, payload) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    if opcode.is_control() && (!is_last || payload > MAX_CONTROL as u64) {
        return Err(WireError::Control);
    }
    if payload > MAX_MESSAGE as u64 {
        return Err(WireError::Oversized { actual: payload });
    }
    Ok(Some(Head { opcode, is_last, len, payload: payload as usize }))
}

/// Bytes that [`emit`] adds before a payload of so many.
#[must_use]
pub const fn overhead(payload: usize) -> usize {
    4 + match payload {
        0..126 => 2,
        126..65_536 => 4,
        _ => 10,
    }
}

/// Adds one whole frame, whose payload is `parts` one after the other, masked with `mask`, which nobody can foretell.
pub fn emit(opcode: Opcode, parts: &[&[u8]], mask: u32, out: &mut Vec<u8>) {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(overhead(payload) + payload);
    out.push(0x80 | opcode.number());
    match payload {
        0..126 => out.push(0x80 | payload as u8),
        126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    let mask = mask.to_ne_bytes();
    out.extend_from_slice(&mask);
    let start = out.len();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    let (words, rest) = out[start..].as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_the_rfc_has_them() {
        // Section 5.7.
        let hello = [0x81, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let expected = Head { opcode: Opcode::Text, is_last: true, len: 2, payload: 5 };
        assert_eq!(head(&hello), Ok(Some(expected)));
        let first = Head { opcode: Opcode::Text, is_last: false, len: 2, payload: 3 };
        assert_eq!(head(&[0x01, 3]), Ok(Some(first)));
        let long = Head { opcode: Opcode::Binary, is_last: true, len: 4, payload: 256 };
        assert_eq!(head(&[0x82, 126, 1, 0]), Ok(Some(long)));
        let longest = Head { opcode: Opcode::Binary, is_last: true, len: 10, payload: 65_536 };
        let bytes = [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(head(&bytes), Ok(Some(longest)));
        for cut in [&bytes[..9], &bytes[..2], &bytes[..1], &[]] {
            assert_eq!(head(cut), Ok(None));
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_as_soon_as_it_shows() {
        assert_eq!(head(&[0xc1, 0]), Err(WireError::Reserved));
        assert_eq!(head(&[0x83, 0]), Err(WireError::Opcode(3)));
        assert_eq!(head(&[0x81, 0x85]), Err(WireError::Masked));
        assert_eq!(head(&[0x09, 0]), Err(WireError::Control));
        assert_eq!(head(&[0x89, 126, 0, 126]), Err(WireError::Control));
        let huge = [0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(head(&huge), Err(WireError::Oversized { actual: u64::MAX }));
    }

    #[test]
    fn frames_are_masked_as_the_rfc_has_it() {
        let mut out = Vec::new();
        emit(Opcode::Text, &[b"He", b"", b"llo"], u32::from_ne_bytes([0x37, 0xfa, 0x21, 0x3d]), &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        for len in [125, 126, 65_535, 65_536] {
            out.clear();
            emit(Opcode::Binary, &[&vec![7; len]], 0, &mut out);
            assert_eq!(out.len(), overhead(len) + len);
        }
    }
}
