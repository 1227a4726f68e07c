//! What an encoder can be told.

use evenkeel_core::error::ConfigError;
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::units::{Channels, SampleRate};

/// The lowest bit rate Opus is made for, in bits per second (RFC 6716, section 2.1.1).
pub const MIN_BITRATE: u32 = 6_000;

/// The highest bit rate Opus is made for, in bits per second (RFC 6716, section 2.1.1).
pub const MAX_BITRATE: u32 = 510_000;

/// How to build an [`OpusEncoder`](crate::OpusEncoder). All but the first two can be changed while it runs.
///
/// ```
/// use evenkeel_core::units::SampleRate;
/// use evenkeel_opus::{EncoderConfig, OpusEncoder};
///
/// let config = EncoderConfig { sample_rate: SampleRate::HZ_24000, complexity: 8, ..EncoderConfig::default() };
/// let encoder = OpusEncoder::new(config)?;
/// # Ok::<(), evenkeel_core::error::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Rate of the samples that come in: 8, 12, 16, 24 or 48 kHz. Default 48 kHz. A higher rate than
    /// `max_bandwidth` needs costs the decimation within libopus, and saves a resampler before it.
    pub sample_rate: SampleRate,
    /// Channels of the samples that come in. Default mono. Stereo costs twice the time and the memory, and more bits
    /// for the same quality.
    pub channels: Channels,
    /// What the signal is for; decides which of its two codecs Opus leans to. Default [`Application::Voip`].
    pub application: Application,
    /// Target, in bits per second, of what packets carry (headers come on top): [`MIN_BITRATE`] to [`MAX_BITRATE`].
    /// Default 24 000. Costs network, and picks the audio bandwidth: too low and the encoder codes less of the
    /// spectrum. Frames of 2.5 ms carry nothing below 9 600.
    pub bitrate: u32,
    /// Search effort, 0 to 10. Default 5. The one setting that buys quality for time alone; from 7 on the encoder
    /// also analyses whether it hears speech or music.
    pub complexity: u8,
    /// How far a packet may stray from the target bit rate. Default [`RateControl::ConstrainedVbr`].
    pub rate_control: RateControl,
    /// Put a coarse copy of each frame into the next one (LBRR), so that a lost packet can be recovered. Default off.
    /// Works in the SILK and hybrid modes, and does nothing while `expected_loss` is 0; takes bits from the frame
    /// itself, and the time to code it twice. What comes back of a lost packet is its last frame. Hybrid
    /// frames last 20 ms at most, so above wideband most of a lost packet of 60 ms stays lost; a SILK frame
    /// (`max_bandwidth` wideband) lasts 60 ms and comes back whole.
    pub inband_fec: bool,
    /// Loss to expect, in percent, 0 to 100. Default 0. Higher makes frames lean less on their predecessors and, with
    /// `inband_fec`, spends more on redundancy; both cost quality where nothing is lost.
    pub expected_loss: u8,
    /// Send next to nothing in silence (discontinuous transmission): packets of 1 or 2 bytes, with a comfort-noise
    /// update now and then. Default off. Saves bits; costs a trace of naturalness in the background.
    pub dtx: bool,
    /// The widest audio bandwidth to code. Default [`Bandwidth::Full`]. Lower saves time and bits.
    pub max_bandwidth: Bandwidth,
    /// What the signal is, where that is known. Default [`Signal::Auto`].
    pub signal: Signal,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            sample_rate: SampleRate::HZ_48000,
            channels: Channels::Mono,
            application: Application::Voip,
            bitrate: 24_000,
            complexity: 5,
            rate_control: RateControl::ConstrainedVbr,
            inband_fec: false,
            expected_loss: 0,
            dtx: false,
            max_bandwidth: Bandwidth::Full,
            signal: Signal::Auto,
        }
    }
}

impl EncoderConfig {
    /// Whether an encoder can be built so.
    ///
    /// # Errors
    /// [`ConfigError::CodecRate`] for a rate that Opus does not code, [`ConfigError::Range`] for a value outside the
    /// range its field states.
    pub fn check(&self) -> Result<(), ConfigError> {
        codec_rate(self.sample_rate)?;
        bitrate(self.bitrate)?;
        complexity(self.complexity)?;
        expected_loss(self.expected_loss)
    }
}

pub(crate) fn codec_rate(rate: SampleRate) -> Result<(), ConfigError> {
    if rate.is_opus() { Ok(()) } else { Err(ConfigError::CodecRate { hz: rate.hz() }) }
}

pub(crate) fn bitrate(value: u32) -> Result<(), ConfigError> {
    range("bit rate (b/s)", value, MIN_BITRATE, MAX_BITRATE)
}

pub(crate) fn complexity(value: u8) -> Result<(), ConfigError> {
    range("complexity", value.into(), 0, 10)
}

pub(crate) fn expected_loss(value: u8) -> Result<(), ConfigError> {
    range("expected loss (%)", value.into(), 0, 100)
}

fn range(what: &'static str, actual: u32, min: u32, max: u32) -> Result<(), ConfigError> {
    if (min..=max).contains(&actual) {
        return Ok(());
    }
    Err(ConfigError::Range { what, min: min.into(), max: max.into(), actual: actual.into() })
}

/// What the signal is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Application {
    /// Speech that must be understood: prefers SILK, filters out rumble.
    #[default]
    Voip,
    /// Anything, as close to the input as may be: prefers the MDCT.
    Audio,
    /// The MDCT alone: 4 ms less delay, no in-band FEC.
    LowDelay,
}

/// How far a packet may stray from the target bit rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateControl {
    /// As many bits as the frame needs. Best quality for the mean rate; packet sizes vary and tell of the content.
    Vbr,
    /// VBR that keeps within the target over a short time, so that a link at that rate adds no delay.
    #[default]
    ConstrainedVbr,
    /// Every packet of the same size. Costs quality; hides the content from one who sees only sizes.
    Cbr,
}

/// What the signal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// The encoder finds out.
    #[default]
    Auto,
    /// Speech: leans to SILK.
    Voice,
    /// Music: leans to the MDCT.
    Music,
}
