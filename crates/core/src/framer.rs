//! PCM pushed in any length to frames of a fixed length, at the codec's rate and channels.

use core::time::Duration;

use crate::error::{BufferError, ConfigError};
use crate::pcm::{self, Format, Samples};
use crate::resample::Resampler;
use crate::units::{Channels, FrameDuration, SampleRate};

/// How many samples per channel are taken at once, so that the buffers between the steps stay small.
const CHUNK: usize = 960;

/// Converts, mixes and resamples what is pushed, and cuts it into frames. Allocates at construction only.
pub struct Framer {
    input: Format,
    channels: Channels,
    resampler: Option<Resampler>,
    /// Whether anything was pushed since the start, the last flush or reset.
    begun: bool,
    /// Samples at the input's rate, on their way to the resampler.
    chunk: Vec<f32>,
    /// Samples at the codec's rate; `filled` of them are waiting for the frame to be complete.
    pending: Vec<f32>,
    filled: usize,
    frame_len: usize,
}

impl Framer {
    /// A framer from `input` to frames of `duration` at `rate`.
    ///
    /// # Errors
    /// [`ConfigError::CodecRate`] if `rate` is none that Opus codes, so that frames are not whole samples.
    pub fn new(
        input: Format,
        rate: SampleRate,
        channels: Channels,
        duration: FrameDuration,
    ) -> Result<Self, ConfigError> {
        if !rate.is_opus() {
            return Err(ConfigError::CodecRate { hz: rate.hz() });
        }
        let frame_len = duration.samples_at(rate) * channels.count();
        let resampler = (input.rate != rate).then(|| Resampler::new(input.rate, rate, channels));
        let surplus =
            resampler.as_ref().map_or(0, |r| (r.max_output(CHUNK).max(r.delay()) + 2) * channels.count());
        let chunk = if resampler.is_some() { CHUNK * channels.count() } else { 0 };
        Ok(Self {
            input,
            channels,
            resampler,
            begun: false,
            chunk: vec![0.0; chunk],
            pending: vec![0.0; frame_len + surplus],
            filled: 0,
            frame_len,
        })
    }

    /// Takes samples; calls `sink` with each complete frame, interleaved. Returns how many samples were NaN or
    /// infinite and became silence.
    ///
    /// # Errors
    /// [`BufferError::Format`] or [`BufferError::PartialFrame`] if they are not of the input format; nothing is taken
    /// then.
    pub fn push(
        &mut self,
        mut input: Samples<'_>,
        mut sink: impl FnMut(&[f32]),
    ) -> Result<usize, BufferError> {
        if input.format() != self.input.sample {
            return Err(BufferError::Format { expected: self.input.sample });
        }
        if !input.len().is_multiple_of(self.input.channels.count()) {
            return Err(BufferError::PartialFrame { samples: input.len() });
        }
        let mut silenced = 0;
        self.begun |= !input.is_empty();
        while !input.is_empty() {
            let (head, rest) = input.split_at(self.takes() * self.input.channels.count());
            silenced += self.take(head)?;
            self.drain(&mut sink);
            input = rest;
        }
        Ok(silenced)
    }

    /// Ends the stream: what the resampler holds and the last frame, padded with silence, go to `sink`. Where nothing
    /// was pushed, nothing does.
    pub fn flush(&mut self, mut sink: impl FnMut(&[f32])) {
        if let Some(resampler) = self.resampler.as_mut().filter(|_| self.begun) {
            // A flush gives the delay, rounded; there is room for that.
            let flushed = resampler.flush(&mut self.pending[self.filled..]).unwrap_or(0);
            self.filled += flushed * self.channels.count();
            self.drain(&mut sink);
        }
        if self.filled > 0 {
            self.pending[self.filled..self.frame_len].fill(0.0);
            sink(&self.pending[..self.frame_len]);
        }
        self.reset();
    }

    /// Forgets the signal so far.
    pub fn reset(&mut self) {
        self.filled = 0;
        self.begun = false;
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }

    /// How long the resampler delays the signal.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.resampler.as_ref().map_or(Duration::ZERO, |resampler| {
            let nanos = resampler.delay() as u64 * 1_000_000_000 / u64::from(resampler.to().hz());
            Duration::from_nanos(nanos)
        })
    }

    /// Samples per channel that may be taken at once.
    fn takes(&self) -> usize {
        match self.resampler {
            Some(_) => CHUNK,
            None => (self.frame_len - self.filled) / self.channels.count(),
        }
    }

    fn take(&mut self, input: Samples<'_>) -> Result<usize, BufferError> {
        let free = &mut self.pending[self.filled..];
        let Some(resampler) = &mut self.resampler else {
            let read = pcm::read(input, self.input.channels, self.channels, free)?;
            self.filled += read.samples * self.channels.count();
            return Ok(read.silenced);
        };
        let read = pcm::read(input, self.input.channels, self.channels, &mut self.chunk)?;
        let written = resampler.process(&self.chunk[..read.samples * self.channels.count()], free)?;
        self.filled += written * self.channels.count();
        Ok(read.silenced)
    }

    /// Hands on the complete frames and moves what is left to the front.
    fn drain(&mut self, sink: &mut impl FnMut(&[f32])) {
        let mut start = 0;
        while self.filled - start >= self.frame_len {
            sink(&self.pending[start..start + self.frame_len]);
            start += self.frame_len;
        }
        if start > 0 {
            self.pending.copy_within(start..self.filled, 0);
            self.filled -= start;
        }
    }
}
