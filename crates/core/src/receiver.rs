//! Packets in any order, sealed or opened elsewhere, to PCM at the wished rate.

use core::time::Duration;

use crate::codec::Decoder;
use crate::error::{BufferError, CodecError, ConfigError, OpenError};
use crate::jitter::{Inserted, JitterBuffer, JitterConfig, JitterStats, Playout};
use crate::pcm::front;
use crate::resample::Resampler;
use crate::seal::Opener;
use crate::units::{Channels, FrameDuration, SampleRate, Time};

/// What a stretch of output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A packet that came.
    Packet,
    /// A lost packet, recovered from the redundancy in the one after it.
    Recovered,
    /// Made up by the decoder to bridge what is missing.
    Concealed,
    /// Nothing: the stream has not begun, or pauses.
    Silence,
}

/// A stretch of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says how much was written and when to come again"]
pub struct Pulled {
    /// Samples per channel written.
    pub samples: usize,
    /// How long it lasts: when to pull again.
    pub duration: Duration,
    /// What it is made of.
    pub content: Content,
}

/// What a receiver did since it was built, beside what its jitter buffer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Packets that were let in.
    pub opened: u64,
    /// Packets that were refused.
    pub refused: u64,
    /// Stretches recovered from redundancy.
    pub recovered: u64,
    /// Stretches concealed.
    pub concealed: u64,
    /// Packets that were let in but could not be decoded, and were concealed.
    pub undecodable: u64,
}

/// In place of an [`Opener`]: packets come over a connection that keeps them safe, as a WebSocket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealed;

/// Takes packets, gives PCM.
///
/// Hand over each datagram as it arrives ([`Receiver::receive`]; of a receiver without keys, each Opus packet:
/// [`Receiver::receive_opus`]), and pull audio whenever the last stretch has played out ([`Receiver::pull`]). Time comes
/// in as an argument; all buffers are allocated at construction or with the first packets.
pub struct Receiver<D, O = Opener> {
    opener: O,
    jitter: JitterBuffer,
    decoder: D,
    resampler: Option<Resampler>,
    /// What the decoder gives, on its way to the resampler.
    decoded: Vec<f32>,
    output: SampleRate,
    /// What the last stretch was made of.
    last: Content,
    counters: ReceiverCounters,
}

impl<D: Decoder> Receiver<D> {
    /// A receiver that gives samples at `output`, in the channels of the decoder. Where the decoder's rate differs, a
    /// resampler goes behind it; a decoder at the output rate needs none.
    ///
    /// PCM payloads (rungs `minimal` and `emergency`) are taken to be at the decoder's rate and channels.
    ///
    /// # Errors
    /// [`ConfigError`] for a jitter buffer that cannot be.
    pub fn new(
        opener: Opener,
        jitter: JitterConfig,
        decoder: D,
        output: SampleRate,
    ) -> Result<Self, ConfigError> {
        Self::with(opener, jitter, decoder, output)
    }

    /// Takes a datagram, which is decrypted in place.
    ///
    /// # Errors
    /// [`OpenError`] for one that is not let in; nothing changes then.
    pub fn receive(&mut self, datagram: &mut [u8], now: Time) -> Result<Inserted, OpenError> {
        let opened = self.opener.open(datagram).inspect_err(|_| self.counters.refused += 1)?;
        self.counters.opened += 1;
        let (sequence, timestamp) = (opened.header.sequence, opened.header.timestamp);
        if !opened.header.is_pcm() {
            return Ok(self.jitter.insert(sequence, timestamp, opened.payload, now));
        }
        let bytes = 2 * self.decoder.channels().count() as u64 * u64::from(self.decoder.sample_rate().hz());
        let micros = opened.payload.len() as u64 * 1_000_000 / bytes;
        let duration = FrameDuration::ALL.into_iter().find(|d| u64::from(d.as_micros()) == micros);
        match duration {
            Some(duration) => Ok(self.jitter.insert_pcm(sequence, timestamp, duration, opened.payload, now)),
            None => Ok(Inserted::Rejected(crate::error::PacketError::Payload {
                reason: "PCM of no frame's length at the rate agreed on",
            })),
        }
    }
}

impl<D: Decoder> Receiver<D, Unsealed> {
    /// A receiver for Opus packets that come as they are; else as [`Receiver::new`].
    ///
    /// # Errors
    /// [`ConfigError`] for a jitter buffer that cannot be.
    pub fn unsealed(jitter: JitterConfig, decoder: D, output: SampleRate) -> Result<Self, ConfigError> {
        Self::with(Unsealed, jitter, decoder, output)
    }

    /// Takes an Opus packet. `sequence` says its place among the others and goes up by one from each to the next;
    /// `timestamp` is ignored unless [`JitterConfig::timestamp_hz`] is set.
    pub fn receive_opus(&mut self, sequence: u32, timestamp: u32, opus: &[u8], now: Time) -> Inserted {
        let inserted = self.jitter.insert(sequence, timestamp, opus, now);
        let count = match inserted {
            Inserted::Rejected(_) => &mut self.counters.refused,
            _ => &mut self.counters.opened,
        };
        *count += 1;
        inserted
    }
}

impl<D: Decoder, O> Receiver<D, O> {
    fn with(opener: O, jitter: JitterConfig, decoder: D, output: SampleRate) -> Result<Self, ConfigError> {
        let (rate, channels) = (decoder.sample_rate(), decoder.channels());
        let resampler = (rate != output).then(|| Resampler::new(rate, output, channels));
        let longest = FrameDuration::MS_120.samples_at(rate) * channels.count();
        let decoded = vec![0.0; if resampler.is_some() { longest } else { 0 }];
        let jitter = JitterBuffer::new(jitter)?;
        Ok(Self {
            opener,
            jitter,
            decoder,
            resampler,
            decoded,
            output,
            last: Content::Silence,
            counters: ReceiverCounters::default(),
        })
    }

    /// The sender said that it pauses behind what came so far: see [`JitterBuffer::pause`].
    pub fn pause(&mut self) {
        self.jitter.pause();
    }

    /// The most samples per channel that one pull gives: room for these suffices always.
    #[must_use]
    pub fn max_output(&self) -> usize {
        let decoded = FrameDuration::MS_120.samples_at(self.decoder.sample_rate());
        self.resampler.as_ref().map_or(decoded, |resampler| resampler.max_output(decoded))
    }

    /// Writes the next stretch of audio to the start of `out`, interleaved. To be called again once it has played.
    ///
    /// # Errors
    /// [`BufferError::TooSmall`] if `out` has not room for [`Receiver::max_output`] samples in each channel; nothing
    /// changes then.
    pub fn pull(&mut self, now: Time, out: &mut [f32]) -> Result<Pulled, BufferError> {
        let channels = self.decoder.channels().count();
        let out = front(out, self.max_output() * channels)?;
        let Self { jitter, decoder, resampler, decoded, counters, .. } = self;
        let into: &mut [f32] = if resampler.is_some() { decoded } else { &mut *out };
        let playout = jitter.next(now);
        let duration = playout.duration();
        let (samples, content) = match playout {
            Playout::Silence { duration } if matches!(self.last, Content::Packet | Content::Recovered) => {
                (fade(decoder, duration, into), Content::Silence)
            }
            playout => play(decoder, counters, playout, into),
        };
        self.last = content;
        let samples = match resampler {
            Some(resampler) => resampler.process(&decoded[..samples * channels], out)?,
            None => samples,
        };
        Ok(Pulled { samples, duration, content })
    }

    /// Whether no packet waits for its turn: at the end of a recording, whether all was played.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jitter.is_empty()
    }

    /// The rate of the samples it gives.
    #[must_use]
    pub const fn output_rate(&self) -> SampleRate {
        self.output
    }

    /// The channels of the samples it gives.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.decoder.channels()
    }

    /// What its jitter buffer measured and did: delay, loss, late.
    #[must_use]
    pub fn jitter(&self) -> JitterStats {
        self.jitter.stats()
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> ReceiverCounters {
        self.counters
    }
}

/// Decodes, recovers, conceals or falls silent. Returns samples per channel written.
fn play<D: Decoder>(
    decoder: &mut D,
    counters: &mut ReceiverCounters,
    playout: Playout<'_>,
    out: &mut [f32],
) -> (usize, Content) {
    match playout {
        Playout::Packet { payload, is_pcm: true, .. } => (read_pcm(payload, decoder, out), Content::Packet),
        Playout::Packet { payload, duration, .. } => match decoder.decode(payload, out) {
            Ok(samples) => (samples, Content::Packet),
            Err(_) => {
                counters.undecodable += 1;
                conceal(decoder, counters, duration, out)
            }
        },
        Playout::Lost { fec: Some(next), duration, .. } => match decoder.decode_fec(next, duration, out) {
            Ok(samples) => {
                counters.recovered += 1;
                (samples, Content::Recovered)
            }
            Err(_) => conceal(decoder, counters, duration.as_duration(), out),
        },
        Playout::Lost { duration, .. } | Playout::Conceal { duration } => {
            conceal(decoder, counters, duration.as_duration(), out)
        }
        Playout::Silence { duration } => (silence(decoder, duration.as_duration(), out), Content::Silence),
    }
}

fn conceal<D: Decoder>(
    decoder: &mut D,
    counters: &mut ReceiverCounters,
    duration: Duration,
    out: &mut [f32],
) -> (usize, Content) {
    counters.concealed += 1;
    let frame = FrameDuration::ALL.into_iter().find(|frame| frame.as_duration() == duration);
    let concealed = frame.ok_or(()).and_then(|frame| decoder.conceal(frame, out).map_err(|_: CodecError| ()));
    // Packets may hold frames to a length that no single frame has, such as 30 ms: those are not bridged but muted.
    let samples = concealed.unwrap_or_else(|()| silence(decoder, duration, out));
    (samples, Content::Concealed)
}

/// The sound goes out, as one that is cut off clicks. Returns samples per channel written.
fn fade<D: Decoder>(decoder: &mut D, duration: FrameDuration, out: &mut [f32]) -> usize {
    let Ok(samples) = decoder.conceal(duration, out) else {
        return silence(decoder, duration.as_duration(), out);
    };
    let channels = decoder.channels().count();
    for (at, frame) in out[..samples * channels].chunks_exact_mut(channels).enumerate() {
        let gain = 1.0 - (at + 1) as f32 / samples as f32;
        frame.iter_mut().for_each(|sample| *sample *= gain);
    }
    samples
}

fn silence<D: Decoder>(decoder: &D, duration: Duration, out: &mut [f32]) -> usize {
    let samples =
        (duration.as_nanos() as u64 * u64::from(decoder.sample_rate().hz()) / 1_000_000_000) as usize;
    let samples = samples.min(out.len() / decoder.channels().count());
    out[..samples * decoder.channels().count()].fill(0.0);
    samples
}

fn read_pcm<D: Decoder>(payload: &[u8], decoder: &D, out: &mut [f32]) -> usize {
    for (sample, bytes) in out.iter_mut().zip(payload.chunks_exact(2)) {
        *sample = f32::from(i16::from_be_bytes([bytes[0], bytes[1]])) / 32_768.0;
    }
    payload.len() / 2 / decoder.channels().count()
}
