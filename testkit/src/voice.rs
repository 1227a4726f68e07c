//! Something to say: recordings where the machine has some, a synthetic voice anywhere. All at 48 kHz, mono.

use std::f32::consts::TAU;
use std::sync::OnceLock;

use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_files::Recording;

use crate::recordings;

/// The real voices of [`crate::recordings::voices`], one after the other; none where they are not installed.
///
/// # Panics
/// If a file that is there is not the recording it should be.
pub fn recorded() -> Option<&'static [f32]> {
    static SAMPLES: OnceLock<Vec<f32>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let mut samples = Vec::new();
        for path in recordings::voices() {
            let mut recording = Recording::open(&path).expect("a readable recording");
            assert_eq!(
                (recording.sample_rate(), recording.channels()),
                (SampleRate::HZ_48000, Channels::Mono)
            );
            let mut chunk = [0.0; 4_800];
            while let given @ 1.. = recording.read(&mut chunk).expect("a whole recording") {
                samples.extend_from_slice(&chunk[..given]);
            }
        }
        samples
    });
    (!samples.is_empty()).then_some(samples)
}

/// A synthetic voice, always the same: a gliding pitch with formants, in syllables, over a little noise.
pub fn synthetic(seconds: f32) -> Vec<f32> {
    const RATE: f32 = 48_000.0;
    const FORMANTS: [(f32, f32); 4] = [(600.0, 1.0), (1_200.0, 0.6), (2_500.0, 0.3), (5_500.0, 0.15)];
    let (mut phase, mut seed) = (0.0f32, 1u32);
    (0..(seconds * RATE) as usize)
        .map(|n| {
            let t = n as f32 / RATE;
            let pitch = 130.0 + 30.0 * (TAU * 0.7 * t).sin();
            phase = (phase + pitch / RATE).fract();
            let voiced: f32 = (1..48)
                .map(|k| {
                    let hz = k as f32 * pitch;
                    let glide = 1.0 + 0.2 * (TAU * 1.3 * t).sin();
                    let gain: f32 =
                        FORMANTS.iter().map(|(f, a)| a / (1.0 + ((hz - f * glide) / 150.0).powi(2))).sum();
                    gain * (TAU * k as f32 * phase).sin()
                })
                .sum();
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
            let syllable = (0.5 - 0.5 * (TAU * 3.0 * t).cos()).powi(2);
            0.15 * syllable * voiced + 0.001 * noise
        })
        .collect()
}

/// Signal-to-noise ratio of `heard` against `meant`, in dB, over what both have.
#[must_use]
pub fn snr_db(meant: &[f32], heard: &[f32]) -> f64 {
    let pairs = meant.iter().zip(heard).map(|(&m, &h)| (f64::from(m), f64::from(h)));
    let (signal, noise) = pairs.fold((0.0, 0.0), |(s, n), (m, h)| (s + m * m, n + (m - h) * (m - h)));
    10.0 * (signal / noise.max(1e-20)).log10()
}

/// Segmental signal-to-noise ratio of `heard` against `meant`, both at 48 kHz, in dB: the mean over segments of 20 ms,
/// each bounded to -10 to 35 dB; segments 40 dB under the loudest do not count (J. H. L. Hansen and B. L. Pellom, "An
/// effective quality evaluation protocol for speech enhancement algorithms", 1998).
#[must_use]
pub fn segmental_snr_db(meant: &[f32], heard: &[f32]) -> f64 {
    const SEGMENT: usize = 960;
    let power = |segment: &[f32]| segment.iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>();
    let loudest = meant.chunks_exact(SEGMENT).map(power).fold(0.0, f64::max);
    let pairs = meant.chunks_exact(SEGMENT).zip(heard.chunks_exact(SEGMENT));
    let counted = pairs.filter(|(meant, _)| power(meant) > 1e-4 * loudest);
    let (sum, count) =
        counted.fold((0.0, 0), |(sum, count), (m, h)| (sum + snr_db(m, h).clamp(-10.0, 35.0), count + 1));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_synthetic_voice_is_loud_but_does_not_clip() {
        let voice = synthetic(2.0);
        let peak = voice.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        assert!((0.1..1.0).contains(&peak), "{peak}");
    }

    #[test]
    fn a_segment_counts_as_much_as_a_louder_one_and_silence_not_at_all() {
        let mut meant = vec![1.0; 960];
        meant.extend([0.1; 960]);
        meant.extend([0.0; 960]);
        let mut heard = vec![1.1; 960];
        heard.extend([0.101; 960]);
        heard.extend([0.3; 960]);
        let snr = segmental_snr_db(&meant, &heard);
        assert!((snr - (20.0 + 35.0) / 2.0).abs() < 0.1, "{snr}");
    }

    #[test]
    fn noise_a_tenth_as_strong_is_20_db_down() {
        let meant = [1.0, -1.0, 1.0, -1.0];
        let heard = [1.1, -1.1, 0.9, -0.9];
        assert!((snr_db(&meant, &heard) - 20.0).abs() < 0.01);
    }
}
