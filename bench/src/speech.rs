//! What is coded: speech, over and over.

use std::io::Cursor;

use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_files::Recording;
use evenkeel_testkit::voice;

/// One sentence, of those synthesised for the repository.
static CLIP: &[u8] = include_bytes!("../../testdata/clips/en-gb-48k.flac");

/// A recording of speech at 48 kHz, mono, that begins anew when it is over.
#[derive(Clone, Debug)]
pub struct Speech {
    /// What it is.
    pub name: &'static str,
    samples: Vec<f32>,
}

impl Speech {
    /// The real voices of Debian's `alsa-utils` if they are installed, else a clip that is part of the program.
    #[must_use]
    pub fn load() -> Self {
        match voice::recorded() {
            Some(samples) => Self { name: "eight real voices (alsa-utils)", samples: samples.to_vec() },
            None => Self::clip(),
        }
    }

    /// The clip that is part of the program.
    #[must_use]
    pub fn clip() -> Self {
        let mut recording = Recording::read_from(Cursor::new(CLIP)).expect("our own clip");
        let (mut samples, mut chunk) = (Vec::new(), [0.0; 4_800]);
        while let given @ 1.. = recording.read(&mut chunk).expect("our own clip") {
            samples.extend_from_slice(&chunk[..given]);
        }
        Self { name: "a synthesised sentence (testdata/clips/en-gb-48k.flac)", samples }
    }

    /// How long it is, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SampleRate::HZ_48000.hz())
    }

    /// Frame number `index` of all that are `duration` long, at 48 kHz.
    #[must_use]
    pub fn frame(&self, index: usize, duration: FrameDuration) -> &[f32] {
        let len = duration.samples_at(SampleRate::HZ_48000);
        let frames = self.samples.len() / len;
        &self.samples[index % frames * len..][..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_anew_when_it_is_over() {
        let clip = Speech::clip();
        assert!((clip.seconds() - 7.5).abs() < 0.1);
        let frames = (clip.seconds() / 0.02) as usize;
        assert_eq!(clip.frame(3, FrameDuration::MS_20), clip.frame(3 + frames, FrameDuration::MS_20));
        assert_ne!(clip.frame(3, FrameDuration::MS_20), clip.frame(40, FrameDuration::MS_20));
    }
}
