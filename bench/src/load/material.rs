//! What the streams say: a voice, looped, each stream from another place.

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::ConfigError;
use evenkeel_core::resample::Resampler;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{EncoderConfig, OpusEncoder};
use evenkeel_testkit::voice;

use super::{Kind, LoadConfig};

/// Frames of speech, as the streams push them.
pub(super) enum Material {
    /// Samples, a whole number of frames.
    Pcm { samples: Vec<f32>, frame_len: usize },
    /// Packets.
    Opus(Vec<Vec<u8>>),
}

impl Material {
    pub(super) fn new(config: &LoadConfig) -> Result<Self, ConfigError> {
        match config.kind {
            Kind::Transcode { rate, .. } => {
                let mut samples = voice_at(rate);
                let frame_len = config.frame.samples_at(rate);
                samples.truncate(samples.len() / frame_len * frame_len);
                Ok(Self::Pcm { samples, frame_len })
            }
            Kind::Relay => Ok(Self::Opus(packets(config.frame)?)),
        }
    }

    /// How many frames until it repeats.
    pub(super) fn frames(&self) -> usize {
        match self {
            Self::Pcm { samples, frame_len } => samples.len() / frame_len,
            Self::Opus(packets) => packets.len(),
        }
    }

    /// The samples of a frame; none of a relay.
    pub(super) fn pcm(&self, frame: usize) -> &[f32] {
        match self {
            Self::Pcm { samples, frame_len } => &samples[frame * frame_len..][..*frame_len],
            Self::Opus(_) => &[],
        }
    }
}

/// How a stream of the load is coded.
pub(super) fn encoder_config(rate: SampleRate, complexity: u8) -> EncoderConfig {
    let sample_rate = if rate.is_opus() { rate } else { SampleRate::HZ_48000 };
    EncoderConfig { sample_rate, complexity, ..EncoderConfig::default() }
}

fn voice_at(rate: SampleRate) -> Vec<f32> {
    let voice = voice::recorded().map_or_else(|| voice::synthetic(20.0), <[f32]>::to_vec);
    if rate == SampleRate::HZ_48000 {
        return voice;
    }
    let mut resampler = Resampler::aligned(SampleRate::HZ_48000, rate, Channels::Mono);
    let mut out = vec![0.0; resampler.max_output(voice.len())];
    let written = resampler.process(&voice, &mut out).unwrap_or(0);
    out.truncate(written);
    out
}

fn packets(frame: FrameDuration) -> Result<Vec<Vec<u8>>, ConfigError> {
    let mut encoder = OpusEncoder::new(EncoderConfig::default())?;
    let mut packet = [0; 4_000];
    let frame_len = frame.samples_at(SampleRate::HZ_48000);
    let code = |pcm: &[f32]| encoder.encode(pcm, &mut packet).ok().map(|len| packet[..len].to_vec());
    Ok(voice_at(SampleRate::HZ_48000).chunks_exact(frame_len).filter_map(code).collect())
}
