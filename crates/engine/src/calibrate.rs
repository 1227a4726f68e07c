//! What a stream costs on this machine, measured before the first of its kind runs.

use std::time::Duration;

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::ConfigError;
use evenkeel_core::units::FrameDuration;
use evenkeel_opus::{EncoderConfig, OpusEncoder};
use evenkeel_sys::clock;

use crate::config::{StreamConfig, Work};

/// What a relayed packet costs: unseal, regroup, seal. `evenkeel bench` measures it; it is far under what matters.
const RELAY: Duration = Duration::from_micros(2);

/// How much speech is coded for a measurement. Costs as much time as it measures: some milliseconds.
const FRAMES: usize = 24;

/// How many kinds are remembered. One more forgets the first, which costs measuring it anew.
const KINDS: usize = 64;

/// What was measured so far, by kind of stream.
#[derive(Debug, Default)]
pub(crate) struct Calibration {
    known: Vec<(EncoderConfig, FrameDuration, Duration)>,
}

impl Calibration {
    /// What one frame of such a stream costs: measured now if it is the first of its kind.
    pub(crate) fn cost(&mut self, config: &StreamConfig) -> Result<Duration, ConfigError> {
        let Work::Transcode { encoder, .. } = &config.work else { return Ok(RELAY) };
        let known = self.known.iter().find(|(e, frame, _)| e == encoder && *frame == config.frame);
        if let Some((_, _, cost)) = known {
            return Ok(*cost);
        }
        let cost = measure(*encoder, config.frame)?;
        if self.known.len() >= KINDS {
            self.known.remove(0);
        }
        self.known.push((*encoder, config.frame, cost));
        Ok(cost)
    }
}

/// Codes something like a voice and takes the median of the second half, which an interruption does not move.
fn measure(config: EncoderConfig, frame: FrameDuration) -> Result<Duration, ConfigError> {
    let mut encoder = OpusEncoder::new(config)?;
    let channels = config.channels.count();
    let samples = frame.samples_at(config.sample_rate);
    let mut pcm = vec![0.0; samples * channels];
    let mut packet = [0; 4_000];
    let mut times = Vec::with_capacity(FRAMES);
    let mut voice = Voice::new(config.sample_rate.hz());
    for _ in 0..FRAMES {
        pcm.chunks_exact_mut(channels).for_each(|sample| sample.fill(voice.next()));
        let start = clock::now();
        // A frame that cannot be coded costs what the ladder's answer costs, which is less.
        let _ = encoder.encode(&pcm, &mut packet);
        times.push(clock::now().since(start));
    }
    let settled = &mut times[FRAMES / 2..];
    settled.sort_unstable();
    Ok(settled[settled.len() / 2])
}

/// Harmonics of a gliding pitch, with a little noise: enough for the encoder to search as it does in speech.
struct Voice {
    rate: f32,
    at: u32,
    phase: f32,
    noise: u32,
}

impl Voice {
    fn new(hz: u32) -> Self {
        Self { rate: hz as f32, at: 0, phase: 0.0, noise: 1 }
    }

    fn next(&mut self) -> f32 {
        let seconds = self.at as f32 / self.rate;
        self.at += 1;
        let pitch = 130.0 + 40.0 * (seconds * 7.0).sin();
        self.phase = (self.phase + pitch / self.rate).fract();
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (self.noise >> 16) as f32 / 65_536.0 - 0.5;
        let angle = self.phase * core::f32::consts::TAU;
        let voiced = (1..=12u8).map(|k| (angle * f32::from(k)).sin() / f32::from(k)).sum::<f32>();
        let syllable = 0.5 + 0.5 * (seconds * 25.0).sin();
        0.15 * voiced * syllable + 0.02 * noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::pcm::{Format, SampleFormat};
    use evenkeel_core::units::{Channels, SampleRate};

    #[test]
    fn each_kind_is_measured_once_and_a_relay_not_at_all() {
        let mut calibration = Calibration::default();
        let input =
            Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::F32 };
        let stream = StreamConfig::transcode(input, EncoderConfig::default());
        let cost = calibration.cost(&stream).unwrap();
        assert!(!cost.is_zero());
        assert_eq!(calibration.cost(&stream), Ok(cost));
        calibration.cost(&StreamConfig::relay(FrameDuration::MS_60)).unwrap();
        assert_eq!(calibration.known.len(), 1);
    }
}
