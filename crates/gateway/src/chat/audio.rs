//! Binary messages of a chat server: 16 bytes and an Opus packet.
//!
//! ```text
//! 0          8           12          16
//! | (ignored) | timestamp | length n  | Opus, n bytes
//! ```
//! All integers are big-endian. To the server, bytes 0-7 are zero; from it they are informational.

use thiserror::Error;

/// What comes before the Opus packet, in bytes.
pub const HEADER_LEN: usize = 16;

/// A binary message from a server is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AudioError {
    /// Shorter than its header.
    #[error("a binary message of {actual} bytes; the header alone has {HEADER_LEN}")]
    Truncated {
        /// Its length, in bytes.
        actual: usize,
    },
    /// The length in the header does not fit the message, or is zero.
    #[error("the header announces {announced} bytes of Opus, {present} are there")]
    Length {
        /// What the header says, in bytes.
        announced: usize,
        /// What follows it, in bytes.
        present: usize,
    },
}

/// The header of a message for the server, before `opus_len` bytes of Opus.
#[must_use]
pub fn header(timestamp: u32, opus_len: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[8..12].copy_from_slice(&timestamp.to_be_bytes());
    header[12..].copy_from_slice(&(opus_len as u32).to_be_bytes());
    header
}

/// Timestamp and Opus packet of a binary message from the server.
///
/// # Errors
/// [`AudioError`].
pub fn parse(message: &[u8]) -> Result<(u32, &[u8]), AudioError> {
    let Some((header, opus)) = message.split_first_chunk::<HEADER_LEN>() else {
        return Err(AudioError::Truncated { actual: message.len() });
    };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (announced, present) = (word(12) as usize, opus.len());
    if announced == 0 || announced > present {
        return Err(AudioError::Length { announced, present });
    }
    Ok((word(8), &opus[..announced]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(timestamp: u32, opus: &[u8]) -> Vec<u8> {
        [&header(timestamp, opus.len())[..], opus].concat()
    }

    #[test]
    fn short_and_lying_messages_are_refused() {
        for length in 0..16 {
            assert_eq!(parse(&vec![0; length]), Err(AudioError::Truncated { actual: length }));
        }
        let mut message = message(7, &[1, 2, 3]);
        message[15] = 4;
        assert_eq!(parse(&message), Err(AudioError::Length { announced: 4, present: 3 }));
        message[12] = 0xff;
        assert!(parse(&message).is_err());
        message[12..16].fill(0);
        assert_eq!(parse(&message), Err(AudioError::Length { announced: 0, present: 3 }));
    }

    #[test]
    fn the_header_is_as_the_protocol_says() {
        assert_eq!(header(0x0102_0304, 1), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 1]);
        let from_server = [1, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0, 2, 8, 9, 77];
        assert_eq!(parse(&from_server), Ok((60, &[8, 9][..])));
    }

    proptest! {
        #[test]
        fn audio_survives(timestamp: u32, opus in proptest::collection::vec(any::<u8>(), 1..500)) {
            let message = message(timestamp, &opus);
            prop_assert_eq!(parse(&message), Ok((timestamp, &opus[..])));
        }
    }
}
