//! What constructors are told: numbers and bytes in the module's areas, in the order that `index.js` writes them.

use core::time::Duration;

use evenkeel_core::framing::Bandwidth;
use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::seal::{Direction, SessionKeys, Suite};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig, RateControl, Signal};

use crate::fault::Fault;

/// Numbers and bytes of a constructor.
pub(crate) struct Options<'a> {
    numbers: &'a [f64],
    bytes: &'a [u8],
}

impl<'a> Options<'a> {
    pub(crate) const fn new(numbers: &'a [f64], bytes: &'a [u8]) -> Self {
        Self { numbers, bytes }
    }

    /// A whole number, 0 or more. What is none is beyond every range.
    pub(crate) fn whole(&self, at: usize) -> u32 {
        self.numbers.get(at).filter(|n| n.fract() == 0.0).map_or(u32::MAX, |n| *n as u32)
    }

    pub(crate) fn is_set(&self, at: usize) -> bool {
        self.whole(at) == 1
    }

    pub(crate) fn rate(&self, at: usize) -> Result<SampleRate, Fault> {
        Ok(SampleRate::from_hz(self.whole(at))?)
    }

    pub(crate) fn channels(&self, at: usize) -> Result<Channels, Fault> {
        Ok(Channels::from_count(self.whole(at) as usize)?)
    }

    pub(crate) fn frame(&self, at: usize) -> Result<FrameDuration, Fault> {
        Ok(FrameDuration::from_millis(self.numbers[at])?)
    }

    fn choice<T: Copy>(&self, at: usize, choices: &[T]) -> Result<T, Fault> {
        choices.get(self.whole(at) as usize).copied().ok_or_else(|| Fault::range("not one of the choices"))
    }

    /// Nine numbers from `at`: application, bit rate, complexity, rate control, FEC, expected loss, DTX, bandwidth, signal.
    pub(crate) fn encoder(
        &self,
        at: usize,
        sample_rate: SampleRate,
        channels: Channels,
    ) -> Result<EncoderConfig, Fault> {
        let small = |at| u8::try_from(self.whole(at)).unwrap_or(u8::MAX);
        let config = EncoderConfig {
            sample_rate,
            channels,
            application: self.choice(at, &[Application::Voip, Application::Audio, Application::LowDelay])?,
            bitrate: self.whole(at + 1),
            complexity: small(at + 2),
            rate_control: self
                .choice(at + 3, &[RateControl::Vbr, RateControl::ConstrainedVbr, RateControl::Cbr])?,
            inband_fec: self.is_set(at + 4),
            expected_loss: small(at + 5),
            dtx: self.is_set(at + 6),
            max_bandwidth: self.choice(
                at + 7,
                &[
                    Bandwidth::Narrow,
                    Bandwidth::Medium,
                    Bandwidth::Wide,
                    Bandwidth::SuperWide,
                    Bandwidth::Full,
                ],
            )?,
            signal: self.choice(at + 8, &[Signal::Auto, Signal::Voice, Signal::Music])?,
        };
        config.check()?;
        Ok(config)
    }

    /// Five numbers from `at`: suite, connection id, direction, length of the key, length of the session id. The bytes are
    /// the key, then the session id.
    pub(crate) fn keys(&self, at: usize) -> Result<(SessionKeys, Direction), Fault> {
        const SUITES: [&str; 5] =
            ["aes-128-ctr", "aes-256-ctr", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"];
        let suite = Suite::from_name(self.choice(at, &SUITES)?).ok_or_else(|| Fault::range("no suite"))?;
        let direction = self.choice(at + 2, &[Direction::Downlink, Direction::Uplink])?;
        let (key_len, id_len) = (self.whole(at + 3) as usize, self.whole(at + 4) as usize);
        let key = self.bytes.get(..key_len).ok_or_else(|| Fault::length("the key is too long"))?;
        let session_id = self.bytes[key_len..].get(..id_len);
        let session_id = session_id.ok_or_else(|| Fault::length("the session id is too long"))?;
        Ok((SessionKeys::new(suite, key, self.whole(at + 1), session_id)?, direction))
    }

    /// Four numbers from `at`: least, most and first depth in ms; ticks of the timestamp in a second, 0 for none.
    pub(crate) fn jitter(&self, at: usize) -> JitterConfig {
        let depth = |at: usize| Duration::from_millis(self.whole(at).into());
        JitterConfig {
            min_depth: depth(at),
            max_depth: depth(at + 1),
            initial_depth: depth(at + 2),
            timestamp_hz: Some(self.whole(at + 3)).filter(|hz| *hz > 0),
            ..JitterConfig::default()
        }
    }
}
