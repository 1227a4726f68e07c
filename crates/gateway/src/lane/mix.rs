//! Several speakers at once, as one: their samples added and coded anew.

use std::time::Duration;

use evenkeel_core::codec::Encoder as _;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_opus::{EncoderConfig, OpusEncoder};

/// What is mixed at once.
pub(super) const TICK: FrameDuration = FrameDuration::MS_20;

/// Ticks coded into one packet: 60 ms. Three times as many packets cost three times the headers.
const TICKS: usize = 3;

/// For two voices, twice what one needs.
const BITRATE: u32 = 40_000;

/// The longest Opus frame, in bytes.
const MOST_BYTES: usize = 1275;

/// See the [module](self).
pub(super) struct Mixer {
    encoder: OpusEncoder,
    samples: Vec<f32>,
    /// Samples of a tick, and where the current one begins.
    tick: usize,
    filled: usize,
    next: Time,
    /// For how long at most one spoke.
    alone: Duration,
}

impl Mixer {
    /// A mix at `rate` that begins at `now`. `None` if there can be no encoder.
    pub(super) fn new(rate: SampleRate, now: Time) -> Option<Box<Self>> {
        let config = EncoderConfig { sample_rate: rate, bitrate: BITRATE, ..EncoderConfig::default() };
        let encoder = OpusEncoder::new(EncoderConfig { channels: Channels::Mono, ..config }).ok()?;
        let tick = TICK.samples_at(rate);
        let samples = vec![0.0; tick * TICKS];
        Some(Box::new(Self { encoder, samples, tick, filled: 0, next: now, alone: Duration::ZERO }))
    }

    /// When the next tick is due.
    pub(super) const fn next_due(&self) -> Time {
        self.next
    }

    /// Adds what one speaker said just before the mix.
    pub(super) fn add_before(&mut self, samples: &[f32]) {
        let count = samples.len().min(self.samples.len());
        let (tail, place) = (&samples[samples.len() - count..], self.samples.len() - count);
        for (sum, sample) in self.samples[place..].iter_mut().zip(tail) {
            *sum += sample;
        }
    }

    /// The mix begins: the encoder hears what was before, or its first packet would begin with a click.
    pub(super) fn begin(&mut self) {
        self.filled = self.samples.len();
        self.finish(|_| ());
    }

    /// Adds one speaker's samples to the current tick.
    pub(super) fn add(&mut self, samples: &[f32]) {
        for (sum, sample) in self.samples[self.filled..].iter_mut().zip(samples) {
            *sum += sample;
        }
    }

    /// The current tick is complete. Gives a packet when one is full; whether none is begun.
    pub(super) fn finish_tick(&mut self, out: impl FnOnce(&[u8])) -> bool {
        self.next = self.next + TICK.as_duration();
        self.filled += self.tick;
        if self.filled == self.samples.len() {
            self.finish(out);
        }
        self.filled == 0
    }

    /// Notes how many speak. Returns for how long at most one did.
    pub(super) fn note_speakers(&mut self, count: usize) -> Duration {
        self.alone = if count > 1 { Duration::ZERO } else { self.alone + TICK.as_duration() };
        self.alone
    }

    /// Codes what there is.
    pub(super) fn finish(&mut self, out: impl FnOnce(&[u8])) {
        let samples = &mut self.samples[..self.filled];
        if samples.is_empty() {
            return;
        }
        // Opus takes what is somewhat louder than full scale, and limits it softly when it is decoded.
        samples.iter_mut().for_each(|sample| *sample = sample.clamp(-2.0, 2.0));
        let mut packet = [0; MOST_BYTES];
        if let Ok(len) = self.encoder.encode(samples, &mut packet) {
            out(&packet[..len]);
        }
        self.samples.fill(0.0);
        self.filled = 0;
    }
}
