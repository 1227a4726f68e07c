//! What can be wrong with a file.

use std::io;

use evenkeel_core::error::{BufferError, CodecError, ConfigError, PacketError};
use thiserror::Error;

/// A recording could not be read or written. No message names the file: whoever opened it knows its name.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is not one byte.
    #[error("the file is empty")]
    Empty,
    /// None of the formats we read.
    #[error("not a recording this program reads (WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus)")]
    NotAudio,
    /// The format is known, what it carries is not supported.
    #[error("{format}: {what} is not supported; convert with: ffmpeg -i IN -ac 2 -ar 48000 OUT.wav")]
    Unsupported {
        /// The file's format.
        format: &'static str,
        /// What it uses that we do not support.
        what: &'static str,
    },
    /// A sample rate or channel count that the audio path does not take.
    #[error("{0}; convert with: ffmpeg -i IN -ac 2 -ar 48000 OUT.wav")]
    Config(#[from] ConfigError),
    /// The format's rules are broken.
    #[error("malformed {format}: {reason}")]
    Malformed {
        /// The file's format.
        format: &'static str,
        /// Which rule is broken.
        reason: &'static str,
    },
    /// The file ends inside something that it needs.
    #[error("malformed {format}: the file ends inside its {part}")]
    EndsInside {
        /// The file's format.
        format: &'static str,
        /// What is cut off.
        part: &'static str,
    },
    /// The file holds less audio than its header announces. What there was has been read.
    #[error("the file is cut off: its header announces {announced} samples per channel, {present} are there")]
    CutOff {
        /// Samples per channel, as the header says.
        announced: u64,
        /// Samples per channel that were read.
        present: u64,
    },
    /// The file is well-formed but has no audio in it.
    #[error("the file holds no audio")]
    NoAudio,
    /// An Opus packet that is none.
    #[error("packet {index}: {error}")]
    Packet {
        /// Which packet, from 0.
        index: u64,
        /// What is wrong with it.
        error: PacketError,
    },
    /// The Opus decoder refused.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The caller's samples do not come in whole.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// More than the format can hold.
    #[error("a {format} file holds at most {limit} bytes of audio")]
    TooLong {
        /// The file's format.
        format: &'static str,
        /// The most it holds, in bytes.
        limit: u64,
    },
}
