//! The pure audio path of Evenkeel: samples in, sealed packets out, and back.
//!
//! Nothing in this crate opens a socket, reads a clock, starts a thread or uses `unsafe`: time and randomness come
//! in as arguments, and hot paths write into the caller's buffers. The codec itself stands behind the traits of
//! [`codec`]; `evenkeel-opus` implements them with libopus.

pub mod codec;
pub mod error;
pub mod framer;
pub mod framing;
pub mod jitter;
pub mod ladder;
pub mod packet;
pub mod pcm;
pub mod receiver;
pub mod relay;
pub mod replay;
pub mod resample;
pub mod seal;
pub mod sender;
pub mod stats;
pub mod units;
