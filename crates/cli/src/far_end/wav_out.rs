//! What a listener hears, as a WAV file.

use std::time::Duration;

use evenkeel_core::codec::Decoder;
use evenkeel_core::error::ConfigError;
use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::receiver::{Content, Receiver};
use evenkeel_core::seal::Opener;
use evenkeel_core::units::Time;
use evenkeel_files::{FileError, WavWriter};
use evenkeel_opus::OpusDecoder;

use super::{Far, Pace, Refused};
use crate::new_file::NewFile;

/// Plays packets in their turn, with what is missing recovered or concealed.
pub(crate) struct WavOut {
    receiver: Receiver<OpusDecoder>,
    writer: WavWriter<NewFile>,
    pace: Pace,
    begun: bool,
    channels: usize,
    /// Samples per channel to leave out at the start: the delay of encoder and resampler.
    skip: usize,
    /// The most samples per channel to write.
    length: u64,
    pcm: Vec<f32>,
    refused: Refused,
}

impl WavOut {
    pub(super) fn new(
        opener: Opener,
        jitter: JitterConfig,
        decoder: OpusDecoder,
        writer: WavWriter<NewFile>,
        delay: Duration,
    ) -> Result<Self, ConfigError> {
        let (rate, channels) = (decoder.sample_rate(), decoder.channels().count());
        let receiver = Receiver::new(opener, jitter, decoder, rate)?;
        Ok(Self {
            writer,
            pace: Pace::default(),
            begun: false,
            channels,
            skip: (delay.as_secs_f64() * f64::from(rate.hz())).round() as usize,
            length: u64::MAX,
            pcm: vec![0.0; receiver.max_output() * channels],
            receiver,
            refused: Refused::default(),
        })
    }

    pub(super) fn arrive(&mut self, at: Time, datagram: &mut [u8]) -> Result<(), FileError> {
        while let Some(now) = self.pace.before(at) {
            self.play(now)?;
        }
        match self.receiver.receive(datagram, at) {
            Ok(_) => self.pace.begin(at),
            Err(error) => self.refused.add(error),
        }
        Ok(())
    }

    /// Plays what is held, and completes the file. With `length`, in samples at 48 kHz, it is that long.
    pub(super) fn finish(mut self, length: Option<u64>) -> Result<(NewFile, Far), FileError> {
        let rate = u64::from(self.receiver.output_rate().hz());
        self.length = length.map_or(u64::MAX, |length| length * rate / 48_000);
        let end = self.pace.hang_up();
        while let Some(now) = self.pace.before(end).filter(|_| !self.receiver.is_empty()) {
            self.play(now)?;
        }
        // Silence at the end that the sender left out (DTX).
        self.pcm.fill(0.0);
        while length.is_some() && self.writer.samples() < self.length {
            self.write(self.pcm.len() / self.channels)?;
        }
        let far = Far {
            played_samples: self.writer.samples() * 48_000 / rate,
            jitter: self.receiver.jitter(),
            refused: self.refused,
        };
        Ok((self.writer.finish()?, far))
    }

    fn play(&mut self, now: Time) -> Result<(), FileError> {
        let pulled = self.receiver.pull(now, &mut self.pcm)?;
        self.pace.pass(pulled.duration);
        // What comes before the first packet is no part of the recording.
        self.begun |= pulled.content == Content::Packet;
        if self.begun { self.write(pulled.samples) } else { Ok(()) }
    }

    fn write(&mut self, samples: usize) -> Result<(), FileError> {
        let skip = self.skip.min(samples);
        self.skip -= skip;
        let room = usize::try_from(self.length.saturating_sub(self.writer.samples())).unwrap_or(usize::MAX);
        let end = samples.min(skip.saturating_add(room));
        self.writer.write(&self.pcm[skip * self.channels..end * self.channels])
    }
}
