//! Binary frames of the firmware's WebSocket protocol, in its three versions. Integers are big-endian.
//!
//! | version | header |
//! |---|---|
//! | 1 | none: all of it is Opus |
//! | 2 | `u16` version (2), `u16` type, `u32` reserved, `u32` timestamp in ms, `u32` payload length |
//! | 3 | `u8` type, `u8` reserved, `u16` payload length |
//!
//! Type 0 is Opus, type 1 is JSON.

use bytes::Bytes;
use thiserror::Error;

use crate::media::OpusPacket;

/// Which of the three a device speaks: its `Protocol-Version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Bare Opus, which firmware speaks unless told otherwise.
    #[default]
    One,
    /// With timestamps.
    Two,
    /// With a short header.
    Three,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::Three];

    /// The version of this number.
    #[must_use]
    pub fn from_number(text: &str) -> Option<Self> {
        match text {
            "1" => Some(Self::One),
            "2" => Some(Self::Two),
            "3" => Some(Self::Three),
            _ => None,
        }
    }

    /// Bytes before the payload.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::One => 0,
            Self::Two => 16,
            Self::Three => 4,
        }
    }
}

const OPUS: u16 = 0;
const JSON: u16 = 1;

/// What a binary frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An Opus packet; its content is not looked at here.
    Audio {
        /// The packet, not empty and no longer than a lane carries.
        opus: Bytes,
        /// In ms; 0 where the version has none.
        timestamp: u32,
    },
    /// JSON text.
    Text(Bytes),
}

/// A binary frame that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Shorter than its header.
    #[error("a frame of {actual} bytes; its header alone has {header}")]
    Truncated {
        /// The length of the header, in bytes.
        header: usize,
        /// The length of the frame, in bytes.
        actual: usize,
    },
    /// The header is of another version.
    #[error("a frame of version {0} on a connection of version 2")]
    Version(u16),
    /// Neither Opus nor JSON.
    #[error("a frame of type {0}; 0 is Opus, 1 is JSON")]
    Type(u16),
    /// The header's length is not that of the payload.
    #[error("the header announces {announced} bytes, {present} are there")]
    Length {
        /// What the header says, in bytes.
        announced: usize,
        /// What follows it, in bytes.
        present: usize,
    },
    /// No payload.
    #[error("an empty payload")]
    Empty,
    /// An Opus packet that is too long.
    #[error("an Opus packet of {actual} bytes; {} is the most", OpusPacket::MAX)]
    Oversized {
        /// Its length, in bytes.
        actual: usize,
    },
}

/// Reads a frame, without copying.
///
/// # Errors
/// [`FrameError`].
pub fn parse(version: Version, frame: &Bytes) -> Result<Frame, FrameError> {
    let header = version.header_len();
    if frame.len() < header {
        return Err(FrameError::Truncated { header, actual: frame.len() });
    }
    let payload = frame.slice(header..);
    let u16_at = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
    let (kind, timestamp, announced) = match version {
        Version::One => (OPUS, 0, payload.len()),
        Version::Two if u16_at(0) != 2 => return Err(FrameError::Version(u16_at(0))),
        Version::Two => (u16_at(2), u32_at(8), u32_at(12) as usize),
        Version::Three => (frame[0].into(), 0, u16_at(2).into()),
    };
    if announced != payload.len() {
        return Err(FrameError::Length { announced, present: payload.len() });
    }
    match kind {
        OPUS | JSON if payload.is_empty() => Err(FrameError::Empty),
        OPUS if payload.len() > OpusPacket::MAX => Err(FrameError::Oversized { actual: payload.len() }),
        OPUS => Ok(Frame::Audio { opus: payload, timestamp }),
        JSON => Ok(Frame::Text(payload)),
        other => Err(FrameError::Type(other)),
    }
}

/// A frame with an Opus packet.
#[must_use]
pub fn emit(version: Version, timestamp: u32, opus: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(version.header_len() + opus.len());
    match version {
        Version::One => {}
        Version::Two => {
            frame.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 0]);
            frame.extend_from_slice(&timestamp.to_be_bytes());
            frame.extend_from_slice(&(opus.len() as u32).to_be_bytes());
        }
        Version::Three => {
            frame.extend_from_slice(&[0, 0]);
            frame.extend_from_slice(&(opus.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(opus);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(version: Version, frame: &[u8]) -> Result<Frame, FrameError> {
        parse(version, &Bytes::copy_from_slice(frame))
    }

    #[test]
    fn the_headers_are_as_the_firmware_has_them() {
        let opus = [7, 8, 9];
        assert_eq!(emit(Version::One, 5, &opus), opus);
        let two = emit(Version::Two, 0x0102_0304, &opus);
        assert_eq!(two, [0, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 3, 7, 8, 9]);
        assert_eq!(emit(Version::Three, 5, &opus), [0, 0, 0, 3, 7, 8, 9]);
        let json = [0, 2, 0, 1, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 2, b'{', b'}'];
        assert_eq!(read(Version::Two, &json), Ok(Frame::Text(Bytes::from_static(b"{}"))));
        assert_eq!(
            read(Version::Three, &[1, 0, 0, 2, b'{', b'}']),
            Ok(Frame::Text(Bytes::from_static(b"{}")))
        );
    }

    #[test]
    fn short_lying_and_strange_frames_are_refused() {
        assert_eq!(read(Version::One, &[]), Err(FrameError::Empty));
        assert_eq!(read(Version::Two, &[0; 15]), Err(FrameError::Truncated { header: 16, actual: 15 }));
        assert_eq!(read(Version::Three, &[0; 3]), Err(FrameError::Truncated { header: 4, actual: 3 }));
        assert_eq!(read(Version::Two, &[0; 16]), Err(FrameError::Version(0)));
        assert_eq!(read(Version::Three, &[0, 0, 0, 0]), Err(FrameError::Empty));
        assert_eq!(
            read(Version::Three, &[0, 0, 0, 2, 1]),
            Err(FrameError::Length { announced: 2, present: 1 })
        );
        assert_eq!(
            read(Version::Three, &[0, 0, 0, 1, 1, 1]),
            Err(FrameError::Length { announced: 1, present: 2 })
        );
        assert_eq!(read(Version::Three, &[2, 0, 0, 1, 1]), Err(FrameError::Type(2)));
        let long = vec![0; OpusPacket::MAX + 1];
        assert_eq!(read(Version::One, &long), Err(FrameError::Oversized { actual: long.len() }));
    }

    proptest! {
        #[test]
        fn audio_survives(timestamp: u32, opus in proptest::collection::vec(any::<u8>(), 1..500), v in 0usize..3) {
            let version = Version::ALL[v];
            let timestamp = if version == Version::Two { timestamp } else { 0 };
            let frame = Bytes::from(emit(version, timestamp, &opus));
            prop_assert_eq!(parse(version, &frame), Ok(Frame::Audio { opus: opus.into(), timestamp }));
        }
    }
}
