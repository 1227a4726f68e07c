//! Sample-rate conversion between any two of the supported rates.
//!
//! A polyphase FIR filter with linear phase, the same low-pass for every pair: flat within 0.05 dB up to 0.8 of the
//! lower Nyquist frequency, -0.9 dB at 0.9, under -80 dB from 1.1 on. It delays by 16 samples of the lower rate
//! (0.3 ms at 48 kHz, 2 ms at 8 kHz). Steeper filters delay longer, and it is talk that this is for.

mod bank;
mod convolve;
mod prototype;

use self::bank::Bank;
use self::convolve::{Position, convolve};
use crate::error::BufferError;
use crate::pcm::front;
use crate::units::{Channels, SampleRate};

/// Inputs per channel worked on at a time.
const BLOCK: usize = 240;

/// Converts a stream from one sample rate to another.
///
/// Push samples in chunks of any length with [`Resampler::process`], and at the end of the stream take what is still
/// inside with [`Resampler::flush`]. The output does not depend, to the bit, on how the input was cut into chunks.
/// Nothing allocates after construction.
///
/// Input should be finite (see [`crate::pcm::read`]): a NaN spoils the outputs whose filter reaches it, at most 5 ms,
/// and no others.
#[derive(Clone, Debug)]
pub struct Resampler {
    from: SampleRate,
    to: SampleRate,
    channels: Channels,
    start: Start,
    bank: &'static Bank,
    /// Per channel: the inputs that the next output may still need, then room for a block.
    lines: Vec<Vec<f32>>,
    /// Output of one channel before it is interleaved; empty for mono.
    plane: Vec<f32>,
    /// Of the next output, counted from the next input.
    next: Position,
    /// Samples per channel since the start of the stream.
    taken: u64,
    given: u64,
}

/// What the first output of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Comes with the first input, and lies `delay` before it.
    Live,
    /// Lies where the first input does, and comes `delay` later.
    Aligned,
}

impl Resampler {
    /// For live streams: 20 ms in are 20 ms out at once, which sound [`Resampler::delay`] late. Flushing at the end
    /// gives these samples.
    #[must_use]
    pub fn new(from: SampleRate, to: SampleRate, channels: Channels) -> Self {
        Self::build(from, to, channels, Start::Live)
    }

    /// For recordings: the first [`Resampler::delay`] samples are left out, so that output and input start together
    /// and, after flushing, have the same duration: `n` samples become `n * to / from`, rounded.
    #[must_use]
    pub fn aligned(from: SampleRate, to: SampleRate, channels: Channels) -> Self {
        Self::build(from, to, channels, Start::Aligned)
    }

    fn build(from: SampleRate, to: SampleRate, channels: Channels, start: Start) -> Self {
        let bank = Bank::of(from, to);
        let line = vec![0.0; bank.taps() - 1 + BLOCK];
        let plane = match channels {
            Channels::Mono => Vec::new(),
            Channels::Stereo => vec![0.0; (BLOCK * bank.up).div_ceil(bank.down)],
        };
        let next = start.position(bank);
        let lines = vec![line; channels.count()];
        Self { from, to, channels, start, bank, lines, plane, next, taken: 0, given: 0 }
    }

    /// The rate of the input.
    #[must_use]
    pub const fn from(&self) -> SampleRate {
        self.from
    }

    /// The rate of the output.
    #[must_use]
    pub const fn to(&self) -> SampleRate {
        self.to
    }

    /// The channels of both.
    #[must_use]
    pub const fn channels(&self) -> Channels {
        self.channels
    }

    /// How far the output is behind the input, in samples per channel at the output rate; the same at every
    /// frequency. Zero if both rates are the same.
    #[must_use]
    pub const fn delay(&self) -> usize {
        self.bank.lead / self.bank.down
    }

    /// The most samples per channel that [`Resampler::process`] gives for `input` samples per channel, whatever came
    /// before.
    #[must_use]
    pub fn max_output(&self, input: usize) -> usize {
        (input as u64 * self.bank.up as u64).div_ceil(self.bank.down as u64) as usize
    }

    /// The samples per channel that [`Resampler::process`] gives now for `input` samples per channel.
    #[must_use]
    pub fn next_output(&self, input: usize) -> usize {
        let end = input as u64 * self.bank.up as u64;
        end.saturating_sub(self.next.tick(self.bank) as u64).div_ceil(self.bank.down as u64) as usize
    }

    /// The samples per channel that [`Resampler::flush`] gives now.
    #[must_use]
    pub fn flush_output(&self) -> usize {
        let (up, down) = (self.bank.up as u64, self.bank.down as u64);
        let aligned = (self.taken * up * 2 + down) / (down * 2);
        let whole = match self.start {
            Start::Live => aligned + self.delay() as u64,
            Start::Aligned => aligned,
        };
        (whole - self.given) as usize
    }

    /// Converts interleaved samples into the start of `out`. Returns samples per channel written,
    /// [`Resampler::next_output`] of what came in.
    ///
    /// # Errors
    /// [`BufferError::PartialFrame`] if stereo input has an odd number of samples, [`BufferError::TooSmall`] if `out`
    /// cannot hold the result. The stream is as before then.
    pub fn process(&mut self, input: &[f32], out: &mut [f32]) -> Result<usize, BufferError> {
        let channels = self.channels.count();
        if !input.len().is_multiple_of(channels) {
            return Err(BufferError::PartialFrame { samples: input.len() });
        }
        let samples = self.next_output(input.len() / channels);
        let out = front(out, samples * channels)?;
        if self.from == self.to {
            out.copy_from_slice(input);
        } else {
            self.run(input, out);
        }
        Ok(samples)
    }

    /// Ends the stream: writes what is still inside, as if silence followed, to the start of `out`. Returns samples
    /// per channel written, [`Resampler::flush_output`]. Afterwards the resampler is as new.
    ///
    /// # Errors
    /// [`BufferError::TooSmall`] if `out` cannot hold the result. The stream is as before then.
    pub fn flush(&mut self, out: &mut [f32]) -> Result<usize, BufferError> {
        const SILENCE: [f32; BLOCK * 2] = [0.0; BLOCK * 2];
        let channels = self.channels.count();
        let samples = self.flush_output();
        let mut out = front(out, samples * channels)?;
        while !out.is_empty() {
            let now = self.next_output(BLOCK) * channels;
            let (head, tail) = out.split_at_mut(now.min(out.len()));
            self.run_block(&SILENCE[..BLOCK * channels], head);
            out = tail;
        }
        self.reset();
        Ok(samples)
    }

    /// Forgets the stream so far, as if newly built, without allocating.
    pub fn reset(&mut self) {
        self.lines.iter_mut().for_each(|line| line.fill(0.0));
        self.next = self.start.position(self.bank);
        (self.taken, self.given) = (0, 0);
    }

    fn run(&mut self, input: &[f32], mut out: &mut [f32]) {
        let channels = self.channels.count();
        for block in input.chunks(BLOCK * channels) {
            let samples = self.next_output(block.len() / channels);
            let (head, tail) = out.split_at_mut(samples * channels);
            self.run_block(block, head);
            out = tail;
        }
        self.taken += (input.len() / channels) as u64;
    }

    /// `out` has the length of what the block gives, or less, when the rest is not wanted any more.
    fn run_block(&mut self, block: &[f32], out: &mut [f32]) {
        let channels = self.channels.count();
        let history = self.bank.taps() - 1;
        let (inputs, samples) = (block.len() / channels, out.len() / channels);
        for (channel, line) in self.lines.iter_mut().enumerate() {
            let fresh = &mut line[history..][..inputs];
            if self.channels == Channels::Mono {
                fresh.copy_from_slice(block);
                convolve(self.bank, line, self.next, out);
            } else {
                fresh.iter_mut().zip(block.chunks_exact(2)).for_each(|(x, pair)| *x = pair[channel]);
                let plane = &mut self.plane[..samples];
                convolve(self.bank, line, self.next, plane);
                out.chunks_exact_mut(2).zip(plane).for_each(|(pair, y)| pair[channel] = *y);
            }
            line.copy_within(inputs..inputs + history, 0);
        }
        let next = self.next.tick(self.bank) + samples * self.bank.down;
        self.next = Position::at_tick(self.bank, next.saturating_sub(inputs * self.bank.up));
        self.given += samples as u64;
    }
}

impl Start {
    /// Counted from the first input, its index and phase being the newest that the output needs.
    fn position(self, bank: &Bank) -> Position {
        Position::at_tick(
            bank,
            match self {
                Self::Live => bank.lead % bank.down,
                Self::Aligned => bank.lead,
            },
        )
    }
}
