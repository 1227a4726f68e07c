//! `vectors/resample.json`.

use evenkeel_core::resample::Resampler;
use evenkeel_core::units::{Channels, SampleRate};
use serde::{Deserialize, Serialize};

use super::{Hex, PathInput};

/// `vectors/resample.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResampleVectors {
    /// Signals, and what they are at another rate.
    pub cases: Vec<ResampleCase>,
}

/// A signal at another rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResampleCase {
    /// The signal; as floats, its integers over 32768.
    pub input: PathInput,
    /// The rate asked for, in hertz.
    pub to: u32,
    /// Whether the delay at the start is left out.
    pub is_aligned: bool,
    /// Samples of 32-bit floats, little-endian, interleaved: the signal pushed at once, then flushed.
    pub output: Hex,
}

impl ResampleCase {
    /// What the resampler gives.
    ///
    /// # Panics
    /// If the settings are none.
    #[must_use]
    pub fn resample(&self) -> Hex {
        let rate = |hz| SampleRate::from_hz(hz).expect("a supported rate");
        let channels = Channels::from_count(self.input.channels).expect("one or two channels");
        let make = if self.is_aligned { Resampler::aligned } else { Resampler::new };
        let mut resampler = make(rate(self.input.rate), rate(self.to), channels);
        let input: Vec<f32> = self.input.pcm().iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
        let mut output = vec![0.0; resampler.next_output(self.input.samples) * channels.count()];
        resampler.process(&input, &mut output).expect("buffers that fit");
        let mut rest = vec![0.0; resampler.flush_output() * channels.count()];
        resampler.flush(&mut rest).expect("a buffer that fits");
        output.extend(rest);
        Hex(output.iter().flat_map(|sample| sample.to_le_bytes()).collect())
    }
}
