//! PCM in any supported form, pushed in any length, to sealed packets of one duration.

use core::time::Duration;

use crate::codec::Encoder;
use crate::error::{BufferError, ConfigError, SenderError};
use crate::framer::Framer;
use crate::ladder::{Ladder, Rung};
use crate::packet::HEADER_LEN;
use crate::pcm::{Format, Samples};
use crate::relay::MAX_OPUS_PACKET;
use crate::seal::{Sealed, Sealer};
use crate::units::{Channels, FrameDuration, SampleRate};

/// The most bytes of PCM in one datagram (rungs `minimal` and `emergency`), so that none is fragmented.
const MAX_PCM_BYTES: usize = 1_400;

/// An Opus packet of at most this many bytes carries nothing: DTX. It need not be sent (RFC 6716, section 3.1).
const DTX_BYTES: usize = 2;

/// What a sender did since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Frames that came in.
    pub frames: u64,
    /// Datagrams handed on.
    pub packets: u64,
    /// Bytes of payload in them, before sealing.
    pub payload_bytes: u64,
    /// Frames in which nothing was sent because there was nothing to hear (DTX).
    pub silent: u64,
    /// Frames that a lower rung had to carry because the encoder failed.
    pub fallbacks: u64,
    /// Frames that no rung could carry.
    pub muted: u64,
    /// Samples of the input that were NaN or infinite and became silence.
    pub silenced_samples: u64,
}

/// Takes PCM, gives sealed packets.
///
/// Push samples of the input format in any length; each time a frame is complete, the packet made of it is handed
/// to the sink. All buffers are allocated at construction.
pub struct Sender<E> {
    framer: Framer,
    chain: Chain<E>,
}

/// Everything behind the framer, apart from it so that a frame can be borrowed from one and worked on by the other.
struct Chain<E> {
    encoder: E,
    sealer: Sealer,
    ladder: Ladder,
    position: usize,
    applied: Option<Rung>,
    frame_duration: FrameDuration,
    media: Duration,
    datagram: Vec<u8>,
    counters: SenderCounters,
}

impl<E: Encoder> Sender<E> {
    /// A sender of `input` samples as packets of `frame`, at the top of `ladder`.
    ///
    /// The encoder's rate and channels decide what it codes: where its rate differs from the input's, a resampler
    /// goes before it, where its channels differ, a mix.
    ///
    /// # Errors
    /// [`ConfigError::CodecRate`] if the encoder's rate is none that Opus codes, [`ConfigError::Range`] if a rung asks
    /// for a complexity over 10.
    pub fn new(
        input: Format,
        frame: FrameDuration,
        ladder: Ladder,
        encoder: E,
        sealer: Sealer,
    ) -> Result<Self, ConfigError> {
        for rung in ladder.rungs() {
            if let &Rung::Full { complexity: actual @ 11.. } = rung {
                let actual = actual.into();
                return Err(ConfigError::Range { what: "complexity of a rung", min: 0, max: 10, actual });
            }
        }
        let framer = Framer::new(input, encoder.sample_rate(), encoder.channels(), frame)?;
        let datagram = vec![0; MAX_OPUS_PACKET + sealer.overhead()];
        let chain = Chain {
            encoder,
            sealer,
            ladder,
            position: 0,
            applied: None,
            frame_duration: frame,
            media: Duration::ZERO,
            datagram,
            counters: SenderCounters::default(),
        };
        Ok(Self { framer, chain })
    }

    /// Takes samples; calls `sink` with each packet that is complete.
    ///
    /// # Errors
    /// [`SenderError::Buffer`] if the samples are not of the input format, and nothing is taken then;
    /// [`SenderError::Seal`] if the session's limit was reached; the frame is dropped then.
    pub fn push(&mut self, input: Samples<'_>, mut sink: impl FnMut(Sealed<'_>)) -> Result<(), SenderError> {
        let Self { framer, chain } = self;
        let mut result = Ok(());
        let silenced = framer.push(input, |frame| {
            let sent = chain.send(frame, &mut sink);
            if result.is_ok() {
                result = sent;
            }
        })?;
        chain.counters.silenced_samples += silenced as u64;
        result
    }

    /// Ends the stream: what is left in the resampler and the last, incomplete frame leave, padded with silence. What
    /// the encoder looks ahead stays with it: to have the last [`Encoder::lookahead`] samples heard, push as much silence
    /// before. The sender may be used further, as at the start of a new talk spurt.
    ///
    /// # Errors
    /// As [`Sender::push`].
    pub fn flush(&mut self, mut sink: impl FnMut(Sealed<'_>)) -> Result<(), SenderError> {
        let Self { framer, chain } = self;
        let mut result = Ok(());
        framer.flush(|frame| {
            let sent = chain.send(frame, &mut sink);
            if result.is_ok() {
                result = sent;
            }
        });
        result
    }

    /// Lets media time pass in which there is nothing to send.
    pub fn skip(&mut self, gap: Duration) {
        self.chain.media += gap;
    }

    /// Media time of the next frame.
    #[must_use]
    pub const fn media(&self) -> Duration {
        self.chain.media
    }

    /// Goes to another rung of its ladder, from the next frame on. A position below the last mutes.
    pub fn set_position(&mut self, position: usize) {
        self.chain.position = position;
    }

    /// The position in its ladder, 0 the best.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.chain.position
    }

    /// The ladder it was built with.
    #[must_use]
    pub const fn ladder(&self) -> &Ladder {
        &self.chain.ladder
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> SenderCounters {
        self.chain.counters
    }

    /// How long each packet lasts.
    #[must_use]
    pub const fn frame_duration(&self) -> FrameDuration {
        self.chain.frame_duration
    }

    /// How long a sample takes from being pushed to the end of the packet it leaves in, at most: the frame, the
    /// resampler and the encoder's look-ahead.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let lookahead = self.chain.encoder.lookahead() as u64 * 1_000_000_000
            / u64::from(self.chain.encoder.sample_rate().hz());
        self.chain.frame_duration.as_duration() + self.framer.delay() + Duration::from_nanos(lookahead)
    }

    /// The sealer, to map echoed timestamps back.
    #[must_use]
    pub const fn sealer(&self) -> &Sealer {
        &self.chain.sealer
    }

    /// The encoder, to change its settings while it runs. Complexity belongs to the ladder.
    #[must_use]
    pub const fn encoder_mut(&mut self) -> &mut E {
        &mut self.chain.encoder
    }

    /// Forgets the signal, not the session: sequences and timestamps go on.
    pub fn reset(&mut self) {
        self.framer.reset();
        self.chain.encoder.reset();
    }
}

impl<E: Encoder> Chain<E> {
    /// Sends one frame on the best rung that carries it.
    fn send(&mut self, frame: &[f32], sink: &mut impl FnMut(Sealed<'_>)) -> Result<(), SenderError> {
        self.counters.frames += 1;
        let media_time = self.media;
        self.media += self.frame_duration.as_duration();
        let mut position = self.position;
        loop {
            let sent = match self.ladder.get(position) {
                rung @ (Rung::Full { .. } | Rung::Medium) => self.send_opus(rung, frame, media_time, sink),
                Rung::Minimal => self.send_pcm(frame, media_time, false, sink),
                Rung::Emergency => self.send_pcm(frame, media_time, true, sink),
                Rung::Muted => {
                    self.counters.muted += 1;
                    Ok(())
                }
            };
            match sent {
                Err(SenderError::Codec(_)) => {
                    self.counters.fallbacks += u64::from(position == self.position);
                    position += 1;
                }
                done => return done,
            }
        }
    }

    fn send_opus(
        &mut self,
        rung: Rung,
        frame: &[f32],
        media_time: Duration,
        sink: &mut impl FnMut(Sealed<'_>),
    ) -> Result<(), SenderError> {
        self.apply(rung)?;
        let room = HEADER_LEN..HEADER_LEN + MAX_OPUS_PACKET;
        let len = self.encoder.encode(frame, &mut self.datagram[room])?;
        if len <= DTX_BYTES {
            self.counters.silent += 1;
            return Ok(());
        }
        let (header, total) = self.sealer.seal(&mut self.datagram, len, media_time.as_millis() as u64)?;
        self.counters.packets += 1;
        self.counters.payload_bytes += len as u64;
        let duration = self.frame_duration.as_duration();
        sink(Sealed { datagram: &self.datagram[..total], header, media_time, duration });
        Ok(())
    }

    /// Tells the encoder what a rung means, once a change.
    fn apply(&mut self, rung: Rung) -> Result<(), SenderError> {
        if self.applied == Some(rung) {
            return Ok(());
        }
        self.applied = None;
        let complexity = if let Rung::Full { complexity } = rung { complexity } else { 0 };
        self.encoder.set_complexity(complexity)?;
        self.encoder.set_mdct_only(rung == Rung::Medium)?;
        self.applied = Some(rung);
        Ok(())
    }

    /// Sends a frame as 16-bit big-endian PCM, in as many datagrams as it takes.
    fn send_pcm(
        &mut self,
        frame: &[f32],
        mut media_time: Duration,
        in_clear: bool,
        sink: &mut impl FnMut(Sealed<'_>),
    ) -> Result<(), SenderError> {
        let (rate, channels) = (self.encoder.sample_rate(), self.encoder.channels());
        let part = pcm_part(rate, channels, self.frame_duration);
        for samples in frame.chunks(part.samples_at(rate) * channels.count()) {
            let len = samples.len() * 2;
            let room = &mut self.datagram[HEADER_LEN..HEADER_LEN + len];
            for (bytes, &sample) in room.chunks_exact_mut(2).zip(samples) {
                let sample = (sample * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16;
                bytes.copy_from_slice(&sample.to_be_bytes());
            }
            let media_ms = media_time.as_millis() as u64;
            let (header, total) = if in_clear {
                self.sealer.send_pcm_in_clear(&mut self.datagram, len, media_ms)?
            } else {
                self.sealer.seal_pcm(&mut self.datagram, len, media_ms)?
            };
            self.counters.packets += 1;
            self.counters.payload_bytes += len as u64;
            let duration = part.as_duration();
            sink(Sealed { datagram: &self.datagram[..total], header, media_time, duration });
            media_time += duration;
        }
        Ok(())
    }
}

/// The longest part of a frame, a whole number of which fill it, whose PCM fits one datagram.
fn pcm_part(rate: SampleRate, channels: Channels, frame: FrameDuration) -> FrameDuration {
    FrameDuration::ALL
        .into_iter()
        .rev()
        .filter(|part| frame.as_micros().is_multiple_of(part.as_micros()))
        .find(|part| part.samples_at(rate) * channels.count() * 2 <= MAX_PCM_BYTES)
        .unwrap_or(FrameDuration::MS_2_5)
}

impl From<BufferError> for SenderError {
    fn from(error: BufferError) -> Self {
        Self::Buffer(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CodecError, SealError};
    use crate::ladder::SinkCapability;
    use crate::pcm::SampleFormat;
    use crate::seal::{Direction, Opener, PayloadKind, SessionKeys, Suite};
    use proptest::prelude::*;

    /// Codes a frame as its first sample, and fails when told to.
    #[derive(Default)]
    struct Toy {
        fails: bool,
        complexity: u8,
        mdct_only: bool,
        encoded: Vec<(usize, u8, bool)>,
    }

    impl Encoder for Toy {
        fn sample_rate(&self) -> SampleRate {
            SampleRate::HZ_48000
        }
        fn channels(&self) -> Channels {
            Channels::Mono
        }
        fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
            if self.fails {
                return Err(CodecError::Internal { code: -3, reason: "injected" });
            }
            self.encoded.push((pcm.len(), self.complexity, self.mdct_only));
            let value = (pcm[0] * 32_768.0) as i16;
            out[0] = 0xf8;
            out[1..3].copy_from_slice(&value.to_be_bytes());
            Ok(if value == 0 { 1 } else { 3 })
        }
        fn lookahead(&self) -> usize {
            312
        }
        fn set_complexity(&mut self, complexity: u8) -> Result<(), CodecError> {
            self.complexity = complexity;
            Ok(())
        }
        fn set_mdct_only(&mut self, on: bool) -> Result<(), CodecError> {
            self.mdct_only = on;
            Ok(())
        }
        fn set_bitrate(&mut self, _: u32) -> Result<(), CodecError> {
            Ok(())
        }
        fn set_expected_loss(&mut self, _: u8) -> Result<(), CodecError> {
            Ok(())
        }
        fn reset(&mut self) {}
    }

    const INPUT: Format =
        Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::I16 };

    fn keys() -> SessionKeys {
        SessionKeys::new(Suite::Aes128Gcm, &[1; 16], 5, b"s").unwrap()
    }

    fn sender(sink: SinkCapability) -> Sender<Toy> {
        let ladder = Ladder::new(5, sink, true);
        let sealer = Sealer::new(&keys(), Direction::Downlink, 1);
        Sender::new(INPUT, FrameDuration::MS_20, ladder, Toy::default(), sealer).unwrap()
    }

    fn frame(value: i16) -> Vec<i16> {
        vec![value; 960]
    }

    proptest! {
        #[test]
        fn the_length_of_the_pushes_does_not_matter(cuts in proptest::collection::vec(0usize..3000, 0..20)) {
            let input: Vec<i16> = (0..9_600).map(|i| 1 + (i / 960) as i16).collect();
            let mut sender = sender(SinkCapability::default());
            let mut opener = Opener::new(&keys(), Direction::Downlink, PayloadKind::Opus);
            let (mut rest, mut got) = (&input[..], Vec::new());
            let mut take = |sealed: Sealed<'_>| {
                let mut datagram = sealed.datagram.to_vec();
                let payload = opener.open(&mut datagram).unwrap().payload;
                got.push((i16::from_be_bytes([payload[1], payload[2]]), sealed.media_time.as_millis()));
            };
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                sender.push(head.into(), &mut take).unwrap();
                rest = tail;
            }
            sender.push(rest.into(), &mut take).unwrap();
            prop_assert_eq!(got, (1..=10).map(|i| (i, (i as u128 - 1) * 20)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn silence_is_not_sent_but_time_goes_on() {
        let mut sender = sender(SinkCapability::default());
        let mut times = Vec::new();
        for value in [1, 0, 0, 2] {
            sender
                .push(frame(value)[..].into(), |s| times.push((s.header.sequence, s.media_time.as_millis())))
                .unwrap();
        }
        assert_eq!(times, [(1, 0), (2, 60)]);
        assert_eq!(sender.counters().silent, 2);
    }

    #[test]
    fn a_partial_frame_leaves_when_flushed() {
        let mut sender = sender(SinkCapability::default());
        let mut packets = 0;
        sender.push(frame(7)[..100].into(), |_| packets += 1).unwrap();
        sender.flush(|_| packets += 1).unwrap();
        sender.flush(|_| packets += 1).unwrap();
        assert_eq!(packets, 1);
    }

    #[test]
    fn flushing_what_was_not_pushed_gives_nothing_with_a_resampler_either() {
        let input = Format { rate: SampleRate::HZ_16000, ..INPUT };
        let (mut framer, mut frames) = (framer(input), 0);
        framer.flush(|_| frames += 1);
        assert_eq!(frames, 0);
        framer.push(frame(7)[..10].into(), |_| frames += 1).unwrap();
        framer.flush(|_| frames += 1);
        framer.flush(|_| frames += 1);
        assert_eq!(frames, 1);
        framer.push(frame(7)[..10].into(), |_| frames += 1).unwrap();
        framer.reset();
        framer.flush(|_| frames += 1);
        assert_eq!(frames, 1);
    }

    fn framer(input: Format) -> Framer {
        Framer::new(input, SampleRate::HZ_48000, Channels::Mono, FrameDuration::MS_20).unwrap()
    }

    #[test]
    fn an_encoder_that_fails_costs_quality_for_that_frame_only() {
        for (sink, sent, muted) in
            [(SinkCapability { pcm: true, clear: false }, 2, 0), (SinkCapability::default(), 0, 1)]
        {
            let mut sender = sender(sink);
            sender.encoder_mut().fails = true;
            let mut packets = 0;
            sender.push(frame(7)[..].into(), |s| packets += usize::from(s.header.is_pcm())).unwrap();
            assert_eq!((packets, sender.counters().muted, sender.counters().fallbacks), (sent, muted, 1));
            sender.encoder_mut().fails = false;
            sender.push(frame(7)[..].into(), |s| assert!(!s.header.is_pcm())).unwrap();
            assert_eq!(sender.encoder_mut().encoded, [(960, 5, false)], "back on its own rung");
        }
    }

    #[test]
    fn each_rung_does_what_it_says() {
        let mut sender = sender(SinkCapability { pcm: true, clear: true });
        assert_eq!(sender.ladder().rungs().len(), 6);
        let mut kinds = Vec::new();
        for position in 0..7 {
            sender.set_position(position);
            sender
                .push(frame(7)[..].into(), |s| kinds.push((position, s.header.is_pcm(), s.header.is_clear())))
                .unwrap();
        }
        assert_eq!(
            sender.encoder_mut().encoded,
            [(960, 5, false), (960, 3, false), (960, 0, false), (960, 0, true)]
        );
        assert_eq!(kinds[4..], [(4, true, false), (4, true, false), (5, true, true), (5, true, true)]);
        assert_eq!(sender.counters().muted, 1);
    }

    #[test]
    fn a_ladder_that_no_encoder_can_climb_is_refused_at_construction() {
        let ladder = Ladder::new(11, SinkCapability::default(), false);
        let sealer = Sealer::new(&keys(), Direction::Downlink, 1);
        let error = Sender::new(INPUT, FrameDuration::MS_20, ladder, Toy::default(), sealer).err();
        assert!(matches!(error, Some(ConfigError::Range { max: 10, actual: 11, .. })), "{error:?}");
    }

    #[test]
    fn pcm_survives_as_it_was() {
        let mut sender = sender(SinkCapability { pcm: true, clear: false });
        sender.set_position(4);
        let input: Vec<i16> = (0..960).map(|i| i * 34 - 16_000).collect();
        let mut opener = Opener::new(&keys(), Direction::Downlink, PayloadKind::OpusOrPcm);
        let mut output = Vec::new();
        sender
            .push(input[..].into(), |s| {
                let mut datagram = s.datagram.to_vec();
                let opened = opener.open(&mut datagram).unwrap();
                output.extend(opened.payload.chunks(2).map(|b| i16::from_be_bytes([b[0], b[1]])));
            })
            .unwrap();
        assert_eq!(input, output);
    }

    #[test]
    fn samples_of_another_format_are_refused_and_a_used_up_key_is_told() {
        let mut sender = sender(SinkCapability::default());
        let error = sender.push(Samples::F32(&[0.0; 4]), |_| ()).unwrap_err();
        assert_eq!(error, SenderError::Buffer(BufferError::Format { expected: SampleFormat::I16 }));
        sender.skip(Duration::from_millis(u64::from(u32::MAX)));
        let error = sender.push(frame(7)[..].into(), |_| ()).unwrap_err();
        assert_eq!(error, SenderError::Seal(SealError::KeyExhausted));
    }
}
