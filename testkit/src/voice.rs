//! Something to say: recordings where the machine has some, a synthetic voice anywhere. All at 48 kHz, mono.

use std::f32::consts::TAU;
use std::path::Path;
use std::sync::OnceLock;

/// Where Debian's `alsa-utils` puts its recordings: eight spoken clips of 48 kHz, 16 bits, mono.
const RECORDINGS: &str = "/usr/share/sounds/alsa";

/// Spoken recordings, one after the other; none where they are not installed.
pub fn recorded() -> Option<&'static [f32]> {
    static SAMPLES: OnceLock<Vec<f32>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let Ok(entries) = Path::new(RECORDINGS).read_dir() else { return Vec::new() };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| !path.ends_with("Noise.wav"));
        paths.sort();
        paths.iter().filter_map(|path| samples_of(&std::fs::read(path).ok()?)).flatten().collect()
    });
    (!samples.is_empty()).then_some(samples)
}

/// The 16-bit samples of a WAV file of 48 kHz mono; nothing else is understood.
fn samples_of(wav: &[u8]) -> Option<Vec<f32>> {
    let mut chunks = wav.get(12..)?;
    let mut is_ours = false;
    loop {
        let (head, rest) = chunks.split_first_chunk::<8>()?;
        let [a, b, c, d, size @ ..] = *head;
        let body = rest.get(..u32::from_le_bytes(size) as usize)?;
        match &[a, b, c, d] {
            b"fmt " => is_ours = body.get(..8)? == [1, 0, 1, 0, 0x80, 0xbb, 0, 0] && body.get(14)? == &16,
            b"data" if is_ours => {
                let samples = body.chunks_exact(2).map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])));
                return Some(samples.map(|s| s / 32_768.0).collect());
            }
            _ => {}
        }
        chunks = rest.get((body.len() + 1) & !1..)?;
    }
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
    fn noise_a_tenth_as_strong_is_20_db_down() {
        let meant = [1.0, -1.0, 1.0, -1.0];
        let heard = [1.1, -1.1, 0.9, -0.9];
        assert!((snr_db(&meant, &heard) - 20.0).abs() < 0.01);
    }
}
