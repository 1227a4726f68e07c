//! libopus behind the codec traits of [`evenkeel_core::codec`].
//!
//! [`OpusEncoder`] and [`OpusDecoder`] keep the codec's state in memory that is taken once, at construction; coding
//! writes into the caller's buffers and allocates nothing. What can be known of a packet without decoding it, and
//! repacketizing, is in [`evenkeel_core::framing`], in safe Rust; [`bare`] holds libopus' own answers to compare with.
//!
//! libopus is built from source with SIMD chosen at run time. Its neural parts are left out: DRED and OSCE (deep
//! redundancy and speech enhancement) cost several times what the codec itself does, and the decoders in deployed
//! firmware do not know them.

pub mod bare;
mod config;
mod decoder;
mod encoder;
mod sys;

pub use config::{Application, EncoderConfig, MAX_BITRATE, MIN_BITRATE, RateControl, Signal};
pub use decoder::OpusDecoder;
pub use encoder::{MAX_PACKET_BYTES, OpusEncoder};
pub use sys::libopus_version;
