//! A recording on its way through encoder and sealer.

use std::time::{Duration, Instant};

use evenkeel_core::codec::Encoder;
use evenkeel_core::ladder::Rung;
use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::seal::{Direction, Sealer, SessionKeys};
use evenkeel_core::sender::{Sender, SenderCounters};
use evenkeel_core::stats::Histogram;
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_files::Recording;
use evenkeel_opus::{EncoderConfig, OpusEncoder};

use super::options::Coding;
use crate::failure::Failure;

/// Codes and seals a recording frame by frame, and keeps the time that each frame takes.
pub(super) struct Live {
    sender: Sender<OpusEncoder>,
    config: EncoderConfig,
    delay: Duration,
    input: Format,
    frame: FrameDuration,
    /// Datagrams of one call, one after the other: where each ends, and when it leaves.
    bytes: Vec<u8>,
    leaving: Vec<(Duration, usize)>,
    frame_nanos: Histogram,
}

impl Live {
    pub(super) fn new(
        coding: &Coding,
        recording: &Recording,
        keys: &SessionKeys,
        timestamp_start: u32,
    ) -> Result<Self, Failure> {
        let input = Format {
            rate: recording.sample_rate(),
            channels: recording.channels(),
            sample: SampleFormat::F32,
        };
        let next = SampleRate::ALL.into_iter().find(|rate| rate.is_opus() && *rate >= input.rate);
        let rate = coding.rate.or(next).unwrap_or(SampleRate::HZ_48000);
        let config = coding.encoder(rate, coding.channels.unwrap_or(input.channels));
        let encoder = OpusEncoder::new(config).map_err(Failure::input)?;
        let lookahead = Duration::from_secs(encoder.lookahead() as u64) / rate.hz();
        let (ladder, position) = coding.ladder();
        let sealer = Sealer::new(keys, Direction::Downlink, timestamp_start);
        let mut sender = Sender::new(input, coding.frame, ladder, encoder, sealer).map_err(Failure::input)?;
        sender.set_position(position);
        let framing = coding.frame.as_duration() + if coding.is_pcm() { lookahead } else { Duration::ZERO };
        let delay = sender.delay().saturating_sub(framing);
        Ok(Self {
            sender,
            config,
            delay,
            input,
            frame: coding.frame,
            bytes: Vec::new(),
            leaving: Vec::new(),
            frame_nanos: Histogram::new(),
        })
    }

    /// How the recording is coded.
    pub(super) fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// How much of the recording to give at a time, in samples of all channels: a frame, give or take one.
    pub(super) fn chunk_len(&self) -> usize {
        self.frame.samples_at(self.input.rate).max(1) * self.input.channels.count()
    }

    /// How much later a sample is heard than it would be without coding, the frame itself aside: the delay of
    /// resampler and encoder.
    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    /// The duration of a packet.
    pub(super) fn frame(&self) -> FrameDuration {
        self.frame
    }

    pub(super) fn rung(&self) -> Rung {
        self.sender.ladder().get(self.sender.position())
    }

    pub(super) fn counters(&self) -> SenderCounters {
        self.sender.counters()
    }

    pub(super) fn frame_nanos(&self) -> &Histogram {
        &self.frame_nanos
    }

    /// Sends a part of the recording. `sink` is given each datagram, and when it leaves, counted from the start.
    pub(super) fn send(
        &mut self,
        chunk: &[f32],
        sink: impl FnMut(Duration, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Self { sender, bytes, leaving, .. } = self;
        let begun = Instant::now();
        let sent = sender.push(Samples::F32(chunk), |sealed| {
            bytes.extend_from_slice(sealed.datagram);
            leaving.push((sealed.media_time + sealed.duration, bytes.len()));
        });
        let nanos = begun.elapsed().as_nanos();
        sent.map_err(Failure::input)?;
        if !leaving.is_empty() {
            self.frame_nanos.record(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        self.hand_on(sink)
    }

    /// Sends what encoder and resampler still hold.
    pub(super) fn finish(
        &mut self,
        mut sink: impl FnMut(Duration, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let rate = f64::from(self.input.rate.hz());
        let samples = (self.delay().as_secs_f64() * rate).ceil() as usize;
        self.send(&vec![0.0; samples * self.input.channels.count()], &mut sink)?;
        let Self { sender, bytes, leaving, .. } = self;
        let sent = sender.flush(|sealed| {
            bytes.extend_from_slice(sealed.datagram);
            leaving.push((sealed.media_time + sealed.duration, bytes.len()));
        });
        sent.map_err(Failure::input)?;
        self.hand_on(sink)
    }

    fn hand_on(
        &mut self,
        mut sink: impl FnMut(Duration, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut start = 0;
        for &(after, end) in &self.leaving {
            sink(after, &self.bytes[start..end])?;
            start = end;
        }
        self.leaving.clear();
        self.bytes.clear();
        Ok(())
    }
}
