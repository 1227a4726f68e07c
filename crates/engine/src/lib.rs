//! Many streams on few threads, none of which stutters.
//!
//! An [`Engine`] has one lane (a media thread) a core. A stream opened on it lives in one lane with all its codec
//! state: frames pushed into it are coded as soon as the lane gets to them, earliest deadline first, and their packets
//! leave at their deadlines. Where the lane has too much to do, quality goes down the ladder before punctuality does.
//! Every queue is bounded and drops its oldest, every drop is counted, and a stream over capacity is refused.
//!
//! ```
//! use evenkeel_core::pcm::{Format, SampleFormat, Samples};
//! use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
//! use evenkeel_core::units::{Channels, SampleRate};
//! use evenkeel_engine::{Engine, EngineConfig, Output, StreamConfig};
//! use evenkeel_opus::EncoderConfig;
//! use std::time::Duration;
//!
//! let engine = Engine::start(EngineConfig::default())?;
//! let keys = SessionKeys::new(Suite::Aes128Ctr, &[7; 16], 0x1234, b"session")?;
//! let input = Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::F32 };
//! let output = Output::new(64);
//! let config = StreamConfig::transcode(input, EncoderConfig::default());
//! let stream = engine.open(&config, Sealer::new(&keys, Direction::Downlink, 1), &output)?;
//! stream.push(Samples::F32(&[0.1; 960]))?;
//! let packet = output.recv_timeout(Duration::from_secs(5)).expect("20 ms of audio are one packet");
//! assert!(packet.datagram.len() > 16);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
mod calibrate;
mod config;
mod desk;
mod driver;
mod figures;
mod frames;
mod handle;
mod lane;
mod link;
mod lock;
mod metrics;
mod notes;
mod outlet;
mod phase;
mod plan;
mod pool;
mod port;
mod schedule;
mod stream;

pub use admission::Refused;
pub use config::{EngineConfig, Pacing, StreamConfig, Work};
pub use handle::{Batch, Output, PushError, RequestError, Requester, StreamHandle};
pub use metrics::{LaneReport, Report, StreamReport, Totals};
pub use pool::{Engine, OpenError, StartError};
pub use stream::{Packet, StreamId};

/// The examples of the README, so that they stay true.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: evenkeel_testkit::alloc::CountingAllocator =
    evenkeel_testkit::alloc::CountingAllocator::new();
