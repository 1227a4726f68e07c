//! Engines and streams of the tests with real threads. Nothing in them is late, whatever the machine does meanwhile.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_engine::{Engine, EngineConfig, Pacing, StreamConfig};
use evenkeel_opus::EncoderConfig;

/// Longer than any machine stalls.
pub const LONG: Duration = Duration::from_secs(60);

const RATE: SampleRate = SampleRate::HZ_8000;

/// One frame.
pub const FRAME: Samples<'static> = Samples::I16(&[1_000; 160]);

pub fn engine(lanes: usize) -> Engine {
    Engine::start(engine_config(lanes)).unwrap()
}

pub fn engine_config(lanes: usize) -> EngineConfig {
    EngineConfig { lanes, pin: false, realtime: false, adapt: false, ..EngineConfig::default() }
}

/// A stream whose packets leave at once, and are late after a minute.
pub fn stream() -> StreamConfig {
    let input = Format { rate: RATE, channels: Channels::Mono, sample: SampleFormat::I16 };
    let encoder = EncoderConfig { sample_rate: RATE, complexity: 0, ..EncoderConfig::default() };
    StreamConfig {
        pacing: Pacing::Immediate,
        late_limit: LONG,
        queue_frames: 64,
        ..StreamConfig::transcode(input, encoder)
    }
}

pub fn sealer() -> Sealer {
    let keys = SessionKeys::new(Suite::Aes128Ctr, &[7; 16], 1, b"engine").unwrap();
    Sealer::new(&keys, Direction::Downlink, 1)
}

/// An encoder that does what it is told.
pub fn scripted(
    script: impl FnMut() -> Result<usize, CodecError> + Send + 'static,
) -> Box<dyn Encoder + Send> {
    Box::new(Scripted(script))
}

struct Scripted<F>(F);

impl<F: FnMut() -> Result<usize, CodecError> + Send> Encoder for Scripted<F> {
    fn sample_rate(&self) -> SampleRate {
        RATE
    }
    fn channels(&self) -> Channels {
        Channels::Mono
    }
    /// One CELT frame of 20 ms of as many bytes as the script says.
    fn encode(&mut self, _: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let len = (self.0)()?;
        out[..len].fill(0xf8);
        Ok(len)
    }
    fn lookahead(&self) -> usize {
        0
    }
    fn set_complexity(&mut self, _: u8) -> Result<(), CodecError> {
        Ok(())
    }
    fn set_mdct_only(&mut self, _: bool) -> Result<(), CodecError> {
        Ok(())
    }
    fn set_bitrate(&mut self, _: u32) -> Result<(), CodecError> {
        Ok(())
    }
    fn set_expected_loss(&mut self, _: u8) -> Result<(), CodecError> {
        Ok(())
    }
    fn reset(&mut self) {}
}

/// A door that is shut until it is opened.
#[derive(Clone, Default)]
pub struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let shut = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(shut, |is_open| !*is_open).unwrap());
    }
}

/// Waits until `is_so`; panics with `what` if it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
