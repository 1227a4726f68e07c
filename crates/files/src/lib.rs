//! Recordings in and out: reads WAV, FLAC, MP3, Ogg Vorbis and Ogg Opus, writes WAV and Ogg Opus, and reads and writes
//! packet captures.
//!
//! Everything streams: memory does not grow with the length of a file, and no length that a file states is believed
//! before the bytes are there.

mod error;
mod ip;
mod mp3;
mod ogg;
mod opus;
mod opus_pcm;
pub mod pcap;
mod recording;
mod wav;

pub use error::FileError;
pub use opus::{OpusHead, OpusPacket, OpusReader, OpusWriter};
pub use recording::{Format, Recording, Source};
pub use wav::{WavFormat, WavWriter};
