//! What JavaScript holds: a chain of the core, and the areas through which it is fed and read.

use evenkeel_core::codec::{Decoder as _, Encoder as _};
use evenkeel_core::jitter::{Inserted, JitterStats};
use evenkeel_core::ladder::{Ladder, SinkCapability};
use evenkeel_core::pcm::{Format, SampleFormat};
use evenkeel_core::receiver::{Receiver, ReceiverCounters, Unsealed};
use evenkeel_core::resample::Resampler;
use evenkeel_core::seal::{Opener, PayloadKind, Sealer};
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{FrameDuration, Time};
use evenkeel_opus::{MAX_PACKET_BYTES, OpusDecoder, OpusEncoder};

use crate::fault::Fault;
use crate::options::Options;

/// The longest datagram that is taken.
const MAX_DATAGRAM: usize = 2048;

/// The most samples per channel that a resampler is fed at once.
const RESAMPLER_INPUT: usize = 5760;

/// See the [module](self). Areas that a kind has not are empty.
pub(crate) struct Object {
    pub(crate) samples: Vec<f32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) output: Vec<f32>,
    pub(crate) ends: Vec<u32>,
    kind: Kind,
}

enum Kind {
    Processor(Box<Sender<OpusEncoder>>),
    Receiver(Box<Receiver<OpusDecoder>>),
    OpusReceiver(Box<Receiver<OpusDecoder, Unsealed>>),
    Encoder(Box<OpusEncoder>),
    Decoder(Box<OpusDecoder>),
    Resampler(Box<Resampler>),
}

impl Object {
    fn new(kind: Kind) -> Self {
        Self { samples: Vec::new(), bytes: Vec::new(), output: Vec::new(), ends: Vec::new(), kind }
    }

    /// Numbers: input rate and channels, coded rate and channels, frame in ms, whether the far end plays PCM, timestamp
    /// start, then those of the keys, then those of the encoder.
    pub(crate) fn processor(options: &Options<'_>) -> Result<Self, Fault> {
        let input =
            Format { rate: options.rate(0)?, channels: options.channels(1)?, sample: SampleFormat::F32 };
        let (coded, channels, frame) = (options.rate(2)?, options.channels(3)?, options.frame(4)?);
        let (keys, direction) = options.keys(7)?;
        let config = options.encoder(12, coded, channels)?;
        let ladder =
            Ladder::new(config.complexity, SinkCapability { pcm: options.is_set(5), clear: false }, false);
        let sealer = Sealer::new(&keys, direction, options.whole(6));
        let sender = Sender::new(input, frame, ladder, OpusEncoder::new(config)?, sealer)?;
        let mut object = Self::new(Kind::Processor(Box::new(sender)));
        object.samples = vec![0.0; frame.samples_at(input.rate) * input.channels.count()];
        // Two frames, as PCM in several datagrams or as the longest packet: what one push may complete.
        let pcm = frame.samples_at(coded) * channels.count() * 2;
        object.bytes = vec![0; 2 * (pcm + pcm / 8).max(MAX_DATAGRAM)];
        object.ends = vec![0; 2 * (pcm / 256 + 2)];
        Ok(object)
    }

    /// Numbers: output rate, channels, rate of the decoder, whether PCM is taken too at 5, those of the keys at 7, those of the
    /// jitter buffer at 12.
    pub(crate) fn receiver(options: &Options<'_>) -> Result<Self, Fault> {
        let (output, channels) = (options.rate(0)?, options.channels(1)?);
        let decoded = options.rate(2)?;
        let (keys, direction) = options.keys(7)?;
        let kind = if options.is_set(5) { PayloadKind::OpusOrPcm } else { PayloadKind::Opus };
        let opener = Opener::new(&keys, direction, kind);
        let decoder = OpusDecoder::new(decoded, channels)?;
        let receiver = Receiver::new(opener, options.jitter(12), decoder, output)?;
        let room = receiver.max_output() * channels.count();
        Ok(Self::receiving(Kind::Receiver(Box::new(receiver)), room))
    }

    /// Numbers: output rate, channels, rate of the decoder, then those of the jitter buffer at 12.
    pub(crate) fn opus_receiver(options: &Options<'_>) -> Result<Self, Fault> {
        let (output, channels) = (options.rate(0)?, options.channels(1)?);
        let decoder = OpusDecoder::new(options.rate(2)?, channels)?;
        let receiver = Receiver::unsealed(options.jitter(12), decoder, output)?;
        let room = receiver.max_output() * channels.count();
        Ok(Self::receiving(Kind::OpusReceiver(Box::new(receiver)), room))
    }

    fn receiving(kind: Kind, room: usize) -> Self {
        let mut object = Self::new(kind);
        object.samples = vec![0.0; room];
        object.bytes = vec![0; MAX_DATAGRAM];
        object
    }

    /// Numbers: rate, channels, then those of the encoder at 12.
    pub(crate) fn encoder(options: &Options<'_>) -> Result<Self, Fault> {
        let config = options.encoder(12, options.rate(0)?, options.channels(1)?)?;
        let longest = FrameDuration::MS_120.samples_at(config.sample_rate) * config.channels.count();
        let mut object = Self::new(Kind::Encoder(Box::new(OpusEncoder::new(config)?)));
        object.samples = vec![0.0; longest];
        object.bytes = vec![0; MAX_PACKET_BYTES];
        Ok(object)
    }

    /// Numbers: rate, channels.
    pub(crate) fn decoder(options: &Options<'_>) -> Result<Self, Fault> {
        let (rate, channels) = (options.rate(0)?, options.channels(1)?);
        let mut object = Self::new(Kind::Decoder(Box::new(OpusDecoder::new(rate, channels)?)));
        object.samples = vec![0.0; FrameDuration::MS_120.samples_at(rate) * channels.count()];
        object.bytes = vec![0; MAX_PACKET_BYTES];
        Ok(object)
    }

    /// Numbers: from, to, channels, whether aligned.
    pub(crate) fn resampler(options: &Options<'_>) -> Result<Self, Fault> {
        let (from, to, channels) = (options.rate(0)?, options.rate(1)?, options.channels(2)?);
        let resampler = if options.is_set(3) {
            Resampler::aligned(from, to, channels)
        } else {
            Resampler::new(from, to, channels)
        };
        let room = resampler.max_output(RESAMPLER_INPUT).max(resampler.flush_output());
        let mut object = Self::new(Kind::Resampler(Box::new(resampler)));
        object.samples = vec![0.0; RESAMPLER_INPUT * channels.count()];
        object.output = vec![0.0; room * channels.count()];
        Ok(object)
    }

    pub(crate) fn push(&mut self, count: usize, silence_non_finite: bool) -> Result<usize, Fault> {
        let room = self.samples.len();
        let too_many = || Fault::length(format_args!("{count} samples; {room} is the most"));
        let input = self.samples.get_mut(..count).ok_or_else(too_many)?;
        // Nothing of each sample is nothing, unless one is NaN or infinite: one pass without a branch.
        if !input.iter().map(|sample| sample * 0.0).sum::<f32>().is_finite() {
            if !silence_non_finite {
                let index = input.iter().position(|sample| !sample.is_finite()).unwrap_or(0);
                return Err(Fault::not_finite(index));
            }
            input.iter_mut().filter(|sample| !sample.is_finite()).for_each(|sample| *sample = 0.0);
        }
        let Self { samples, bytes, output, ends, kind } = self;
        let input = &samples[..count];
        match kind {
            Kind::Processor(sender) => {
                let mut packets = Packets { bytes, ends, count: 0 };
                sender.push(input.into(), |sealed| packets.add(sealed.datagram))?;
                Ok(packets.count)
            }
            Kind::Encoder(encoder) => Ok(encoder.encode(input, bytes)?),
            Kind::Resampler(resampler) => {
                Ok(resampler.process(input, output)? * resampler.channels().count())
            }
            Kind::Receiver(_) | Kind::OpusReceiver(_) | Kind::Decoder(_) => Err(Fault::kind()),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<usize, Fault> {
        let Self { bytes, output, ends, kind, .. } = self;
        match kind {
            Kind::Processor(sender) => {
                let mut packets = Packets { bytes, ends, count: 0 };
                sender.flush(|sealed| packets.add(sealed.datagram))?;
                Ok(packets.count)
            }
            Kind::Resampler(resampler) => Ok(resampler.flush(output)? * resampler.channels().count()),
            _ => Err(Fault::kind()),
        }
    }

    pub(crate) fn set_position(&mut self, position: usize) -> Result<usize, Fault> {
        let Kind::Processor(sender) = &mut self.kind else { return Err(Fault::kind()) };
        let rungs = sender.ladder().rungs().len();
        if position > rungs {
            return Err(Fault::range(format_args!("position must be from 0 to {rungs}, not {position}")));
        }
        sender.set_position(position);
        Ok(position)
    }

    pub(crate) fn receive(&mut self, len: usize, now: Time) -> Result<usize, Fault> {
        let Kind::Receiver(receiver) = &mut self.kind else { return Err(Fault::kind()) };
        let datagram = self.bytes.get_mut(..len).ok_or_else(|| too_long(len))?;
        taken(receiver.receive(datagram, now)?)
    }

    pub(crate) fn receive_opus(
        &mut self,
        len: usize,
        sequence: u32,
        timestamp: u32,
        now: Time,
    ) -> Result<usize, Fault> {
        let Kind::OpusReceiver(receiver) = &mut self.kind else { return Err(Fault::kind()) };
        let opus = self.bytes.get(..len).ok_or_else(|| too_long(len))?;
        taken(receiver.receive_opus(sequence, timestamp, opus, now))
    }

    pub(crate) fn pause(&mut self) -> Result<usize, Fault> {
        match &mut self.kind {
            Kind::Receiver(receiver) => receiver.pause(),
            Kind::OpusReceiver(receiver) => receiver.pause(),
            _ => return Err(Fault::kind()),
        }
        Ok(0)
    }

    pub(crate) fn pull(&mut self, now: Time) -> Result<usize, Fault> {
        let pulled = match &mut self.kind {
            Kind::Receiver(receiver) => receiver.pull(now, &mut self.samples)?,
            Kind::OpusReceiver(receiver) => receiver.pull(now, &mut self.samples)?,
            _ => return Err(Fault::kind()),
        };
        Ok(pulled.samples)
    }

    pub(crate) fn decode(&mut self, len: usize) -> Result<usize, Fault> {
        let Self { samples, bytes, kind: Kind::Decoder(decoder), .. } = self else {
            return Err(Fault::kind());
        };
        Ok(decoder.decode(packet(bytes, len)?, samples)?)
    }

    pub(crate) fn decode_fec(&mut self, len: usize, ms: f64) -> Result<usize, Fault> {
        let Self { samples, bytes, kind: Kind::Decoder(decoder), .. } = self else {
            return Err(Fault::kind());
        };
        Ok(decoder.decode_fec(packet(bytes, len)?, FrameDuration::from_millis(ms)?, samples)?)
    }

    pub(crate) fn conceal(&mut self, ms: f64) -> Result<usize, Fault> {
        let Kind::Decoder(decoder) = &mut self.kind else { return Err(Fault::kind()) };
        Ok(decoder.conceal(FrameDuration::from_millis(ms)?, &mut self.samples)?)
    }

    pub(crate) fn reset(&mut self) -> Result<usize, Fault> {
        match &mut self.kind {
            Kind::Processor(sender) => sender.reset(),
            Kind::Encoder(encoder) => encoder.reset(),
            Kind::Decoder(decoder) => decoder.reset(),
            Kind::Resampler(resampler) => resampler.reset(),
            Kind::Receiver(_) | Kind::OpusReceiver(_) => return Err(Fault::kind()),
        }
        Ok(0)
    }

    /// What it counted, to the start of `numbers` in the order that `index.js` reads; how many numbers.
    pub(crate) fn stats(&self, numbers: &mut [f64]) -> usize {
        match &self.kind {
            Kind::Processor(sender) => {
                let c = sender.counters();
                let counts = [
                    c.frames,
                    c.packets,
                    c.payload_bytes,
                    c.silent,
                    c.fallbacks,
                    c.muted,
                    c.silenced_samples,
                ];
                write(numbers, counts.map(|n| n as f64))
            }
            Kind::Receiver(receiver) => write(numbers, counted(receiver.jitter(), receiver.counters())),
            Kind::OpusReceiver(receiver) => write(numbers, counted(receiver.jitter(), receiver.counters())),
            Kind::Encoder(encoder) => write(numbers, [encoder.lookahead() as f64]),
            Kind::Resampler(resampler) => write(numbers, [resampler.delay() as f64]),
            Kind::Decoder(_) => 0,
        }
    }
}

fn write<const N: usize>(numbers: &mut [f64], values: [f64; N]) -> usize {
    numbers[..N].copy_from_slice(&values);
    N
}

fn too_long(len: usize) -> Fault {
    Fault::packet(format_args!("{len} bytes are no packet; {MAX_DATAGRAM} is the most"))
}

/// 1 for a packet that is new and in time.
fn taken(inserted: Inserted) -> Result<usize, Fault> {
    match inserted {
        Inserted::Rejected(error) => Err(error.into()),
        inserted => Ok(matches!(inserted, Inserted::Stored | Inserted::Restarted).into()),
    }
}

/// What a receiver of either kind counted.
fn counted(j: JitterStats, c: ReceiverCounters) -> [f64; 13] {
    let ms = |duration: core::time::Duration| duration.as_secs_f64() * 1e3;
    [
        c.opened as f64,
        c.refused as f64,
        c.recovered as f64,
        c.concealed as f64,
        c.undecodable as f64,
        j.lost as f64,
        j.late as f64,
        j.duplicates as f64,
        j.underruns as f64,
        ms(j.delay),
        ms(j.target),
        ms(j.mean_delay),
        ms(j.jitter),
    ]
}

/// Where a processor puts packets, one after the other. The areas keep their length, so that JavaScript's views of them last.
struct Packets<'a> {
    bytes: &'a mut Vec<u8>,
    ends: &'a mut Vec<u32>,
    count: usize,
}

impl Packets<'_> {
    fn add(&mut self, datagram: &[u8]) {
        let begin = self.count.checked_sub(1).map_or(0, |last| self.ends[last] as usize);
        let end = begin + datagram.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if self.ends.len() == self.count {
            self.ends.push(0);
        }
        self.bytes[begin..end].copy_from_slice(datagram);
        self.ends[self.count] = end as u32;
        self.count += 1;
    }
}

fn packet(bytes: &[u8], len: usize) -> Result<&[u8], Fault> {
    bytes.get(..len).ok_or_else(|| Fault::packet(format_args!("{len} bytes are no Opus packet")))
}
