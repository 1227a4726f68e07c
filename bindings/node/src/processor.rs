//! `AudioProcessor`: frames of PCM to sealed packets and back on the thread that calls, each with the header that the
//! caller gives; and the ladder that `FallbackAudioProcessor` and `AdaptiveAudioProcessor` stand on.

use std::time::{Duration, Instant};

use evenkeel_core::codec::{Decoder as _, Encoder as _};
use evenkeel_core::ladder::{Change, Controller, ControllerConfig, Ladder, Reason, Rung, SinkCapability};
use evenkeel_core::packet::{FLAG_CLEAR, FLAG_PCM, HEADER_LEN, Header, TYPE_AUDIO};
use evenkeel_core::pcm::{self, Samples};
use evenkeel_core::resample::Resampler;
use evenkeel_core::seal::PacketCipher;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_opus::{EncoderConfig, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder};
use napi::bindgen_prelude::{BufferSlice, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::cipher::{counter, packet_cipher};
use crate::fault::{Fault, Outcome};
use crate::js;
use crate::metrics::{FrameStats, Record, millis};
use crate::options::{Options, integer};
use crate::resampler::{Array, to_array};

/// The most bytes of PCM in one packet, so that none is fragmented on its way.
const MAX_PCM_BYTES: usize = 1_400;

/// An Opus packet of at most this many bytes carries nothing (RFC 6716, section 3.1).
const DTX_BYTES: usize = 2;

/// What a processor did so far.
#[napi(object, object_from_js = false)]
pub struct ProcessorStats {
    /// What frames took from the call until their packet was there.
    pub processing: FrameStats,
    /// Packets given.
    pub packets: f64,
    /// Bytes of them.
    pub bytes: f64,
    /// Frames in which there was nothing to send (DTX).
    pub silent: f64,
    /// Frames that a lower rung carried because the encoder failed.
    pub fallbacks: f64,
    /// Frames that no rung could carry.
    pub muted: f64,
    /// Samples that were NaN or infinite and became silence.
    pub silenced_samples: f64,
    /// Packets opened.
    pub opened: f64,
    /// Changes of rung.
    pub rung_changes: f64,
}

/// A change of rung.
#[napi(object, object_from_js = false)]
pub struct RungChange {
    /// The rung before, `full/5` say.
    pub from: String,
    /// The rung now.
    pub to: String,
    /// `slow`, `room` or `asked`.
    pub reason: &'static str,
}

/// Samples to sealed packets, and back.
#[napi]
pub struct AudioProcessor {
    state: Option<Box<State>>,
}

#[napi]
impl AudioProcessor {
    /// A processor with a key of 16 or 32 bytes.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, key: Unknown<'_>, options: Option<Unknown<'_>>) -> Result<Self> {
        let build = || State::new(packet_cipher(&env, &key)?, &Options::of(env, options)?);
        Ok(Self { state: Some(Box::new(build().map_err(|fault| fault.throw(&env))?)) })
    }

    /// One frame, coded and encrypted with the header or IV given. `null` where there is nothing to send.
    #[napi(catch_unwind)]
    pub fn process_audio<'env>(
        &mut self,
        env: &'env Env,
        samples: Unknown<'_>,
        header: Unknown<'_>,
    ) -> Result<Option<BufferSlice<'env>>> {
        let began = Instant::now();
        let state = self.state().map_err(|fault| fault.throw(env))?;
        let mut process = || -> Outcome<Option<std::ops::Range<usize>>> {
            let header = counter(env, &header)?;
            let samples = js::pcm(env, &samples, "samples")?;
            if state.refuses_non_finite {
                samples.check_finite()?;
            }
            state.process(samples.samples(), header)
        };
        let packet = process().map_err(|fault| fault.throw(env))?;
        state.finish(began.elapsed());
        packet.map(|packet| BufferSlice::copy_from(env, &state.packet[packet])).transpose()
    }

    /// The samples of a packet; of a bare payload if its IV is given too.
    #[napi(catch_unwind)]
    pub fn open(&mut self, env: Env, packet: Unknown<'_>, iv: Option<Unknown<'_>>) -> Result<Array> {
        let mut open = || -> Outcome<Array> {
            let state = self.state()?;
            let packet = js::bytes(&env, &packet, "packet")?;
            match iv {
                Some(iv) => state.open_payload(&packet, &counter(&env, &iv)?),
                None => state.open_packet(&packet),
            }
        };
        open().map_err(|fault| fault.throw(&env))
    }

    /// The rung it is on, `full/5` say.
    #[napi(catch_unwind)]
    pub fn rung(&mut self, env: Env) -> Result<String> {
        Ok(self.state().map_err(|fault| fault.throw(&env))?.rung().to_string())
    }

    /// The rungs there are, best first.
    #[napi(catch_unwind)]
    pub fn rungs(&mut self, env: Env) -> Result<Vec<String>> {
        let state = self.state().map_err(|fault| fault.throw(&env))?;
        Ok(state.ladder.rungs().iter().map(ToString::to_string).collect())
    }

    /// Goes to the rung of that place, 0 the best, from the next frame on; one past the last mutes.
    #[napi(catch_unwind)]
    pub fn set_position(&mut self, env: Env, position: Unknown<'_>) -> Result<()> {
        let mut set = || -> Outcome<()> {
            let state = self.state()?;
            if state.controller.is_some() {
                return Err(Fault::unsupported("an adaptive processor chooses its rung itself"));
            }
            let position = integer(position, "position", 0.0, state.ladder.rungs().len() as f64)? as usize;
            state.go_to(position, "asked");
            Ok(())
        };
        set().map_err(|fault| fault.throw(&env))
    }

    /// Tells the controller what a frame took, as [`AudioProcessor::process_audio`] does by itself: for callers who
    /// know more of its way, such as how long it waited before.
    #[napi(catch_unwind)]
    pub fn observe(&mut self, env: Env, ms: Unknown<'_>, now: Option<Unknown<'_>>) -> Result<()> {
        let mut observe = || -> Outcome<()> {
            let took = Duration::from_secs_f64(millis(ms)? / 1e3);
            let state = self.state()?;
            let now = match now {
                Some(now) => Time::from_nanos((millis(now)? * 1e6) as u64),
                None => state.now(),
            };
            state.observe(now, took);
            Ok(())
        };
        observe().map_err(|fault| fault.throw(&env))
    }

    /// The changes of rung since it was last asked, at most the last 64.
    #[napi(catch_unwind)]
    pub fn take_changes(&mut self) -> Vec<RungChange> {
        self.state.as_mut().map_or_else(Vec::new, |state| std::mem::take(&mut state.changes))
    }

    /// Lets the encoder fail for the next frames, to rehearse what a listener hears then.
    #[napi(catch_unwind)]
    pub fn rehearse_failure(&mut self, env: Env, frames: Unknown<'_>) -> Result<()> {
        let mut rehearse = || -> Outcome<()> {
            self.state()?.failures = integer(frames, "frames", 0.0, 1e6)? as u32;
            Ok(())
        };
        rehearse().map_err(|fault| fault.throw(&env))
    }

    /// What it did so far.
    #[napi(catch_unwind)]
    pub fn get_stats(&mut self, env: Env) -> Result<ProcessorStats> {
        Ok(self.state().map_err(|fault| fault.throw(&env))?.stats())
    }

    /// Frees its memory and forgets its key. Whether it was open.
    #[napi(catch_unwind)]
    pub fn close(&mut self) -> bool {
        self.state.take().is_some()
    }

    fn state(&mut self) -> Outcome<&mut State> {
        self.state.as_deref_mut().ok_or_else(|| Fault::closed("processor"))
    }
}

struct State {
    cipher: PacketCipher,
    /// Whether headers are part of packets.
    has_headers: bool,
    refuses_non_finite: bool,
    dtx: bool,
    channels: Channels,
    resampler: Option<Resampler>,
    encoder: OpusEncoder,
    decoder: OpusDecoder,
    gives_i16: bool,
    sink: SinkCapability,
    ladder: Ladder,
    position: usize,
    applied: Option<Rung>,
    controller: Option<Controller>,
    began: Instant,
    failures: u32,
    changes: Vec<RungChange>,
    input: Vec<f32>,
    coded: Vec<f32>,
    /// Header and payload.
    packet: Vec<u8>,
    decoded: Vec<f32>,
    record: Record,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    packets: u64,
    bytes: u64,
    silent: u64,
    fallbacks: u64,
    muted: u64,
    silenced_samples: u64,
    opened: u64,
    rung_changes: u64,
}

/// The most changes of rung that wait to be asked for.
const MAX_CHANGES: usize = 64;

impl State {
    fn new(cipher: PacketCipher, options: &Options<'_>) -> Outcome<Self> {
        let input = options.rate("inputRate", SampleRate::HZ_48000)?;
        let coded = options.rate("codedRate", SampleRate::HZ_24000)?;
        let output = options.rate("outputRate", if input.is_opus() { input } else { coded })?;
        let (channels, frame) = (options.channels()?, options.frame()?);
        let config: EncoderConfig = options.encoder(coded, channels)?;
        let samples = u64::from(frame.as_micros()) * u64::from(input.hz());
        if !samples.is_multiple_of(1_000_000) {
            return Err(Fault::range(format!("a frame of {frame} at {input} is not whole samples")));
        }
        let sink =
            SinkCapability { pcm: options.boolean("pcm", false)?, clear: options.boolean("clear", false)? };
        let has_headers = options.choice("framing", true, &[("packet", true), ("payload", false)])?;
        check_pcm(sink, has_headers, frame, coded, output, channels)?;
        let ladder = Ladder::new(config.complexity, sink, options.boolean("allowEmergency", false)?);
        let adapts = options.boolean("adapt", false)?;
        let controller = Controller::new(thresholds(&options.within("thresholds")?)?, ladder);
        let coded_len = frame.samples_at(coded) * channels.count();
        Ok(Self {
            cipher,
            has_headers,
            refuses_non_finite: options.refuses_non_finite()?,
            dtx: config.dtx,
            channels,
            resampler: (input != coded).then(|| Resampler::new(input, coded, channels)),
            encoder: OpusEncoder::new(config)?,
            decoder: OpusDecoder::new(output, channels)?,
            gives_i16: options.choice("output", false, &[("f32", false), ("i16", true)])?,
            sink,
            ladder,
            position: 0,
            applied: None,
            controller: adapts.then_some(controller),
            began: Instant::now(),
            failures: 0,
            changes: Vec::new(),
            input: vec![0.0; frame.samples_at(input) * channels.count()],
            coded: vec![0.0; coded_len],
            packet: vec![0; HEADER_LEN + MAX_PACKET_BYTES],
            decoded: vec![0.0; FrameDuration::MS_120.samples_at(output) * channels.count()],
            record: Record::default(),
            counters: Counters::default(),
        })
    }

    /// Where in `packet` stands what became of the frame; `None` if there is nothing to send.
    fn process(
        &mut self,
        samples: Samples<'_>,
        header: [u8; HEADER_LEN],
    ) -> Outcome<Option<std::ops::Range<usize>>> {
        if samples.len() != self.input.len() {
            return Err(Fault::length(format!(
                "a frame has {} samples (all channels together), not {}",
                self.input.len(),
                samples.len()
            )));
        }
        if self.has_headers && header[0] != TYPE_AUDIO {
            return Err(Fault::range(format!(
                "a header begins with 0x01, not 0x{:02x}; for a bare IV, use the option framing: 'payload'",
                header[0]
            )));
        }
        let read = pcm::read(samples, self.channels, self.channels, &mut self.input)?;
        self.counters.silenced_samples += read.silenced as u64;
        match &mut self.resampler {
            Some(resampler) => resampler.process(&self.input, &mut self.coded).map(|_| ())?,
            None => self.coded.copy_from_slice(&self.input),
        }
        let mut position = self.position;
        loop {
            let rung = self.ladder.get(position);
            let len = match rung {
                Rung::Full { .. } | Rung::Medium => match self.encode(rung) {
                    Ok(len) if len <= DTX_BYTES && self.dtx => {
                        self.counters.silent += 1;
                        return Ok(None);
                    }
                    Ok(len) => len,
                    Err(_) => {
                        self.counters.fallbacks += u64::from(position == self.position);
                        position += 1;
                        continue;
                    }
                },
                Rung::Minimal | Rung::Emergency => self.write_pcm(),
                Rung::Muted => {
                    self.counters.muted += 1;
                    return Ok(None);
                }
            };
            return Ok(Some(self.seal(header, rung, len)));
        }
    }

    fn encode(&mut self, rung: Rung) -> Outcome<usize> {
        if self.applied != Some(rung) {
            self.applied = None;
            self.encoder.set_complexity(if let Rung::Full { complexity } = rung { complexity } else { 0 })?;
            self.encoder.set_mdct_only(rung == Rung::Medium)?;
            self.applied = Some(rung);
        }
        if self.failures > 0 {
            self.failures -= 1;
            return Err(Fault::unsupported("a failure is rehearsed"));
        }
        Ok(self.encoder.encode(&self.coded, &mut self.packet[HEADER_LEN..])?)
    }

    /// The frame as 16-bit big-endian PCM.
    fn write_pcm(&mut self) -> usize {
        let room = self.packet[HEADER_LEN..].chunks_exact_mut(2);
        for (bytes, sample) in room.zip(&self.coded) {
            let sample = (sample * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16;
            bytes.copy_from_slice(&sample.to_be_bytes());
        }
        self.coded.len() * 2
    }

    fn seal(&mut self, mut header: [u8; HEADER_LEN], rung: Rung, len: usize) -> std::ops::Range<usize> {
        if self.has_headers {
            header[1] &= !(FLAG_PCM | FLAG_CLEAR);
            header[1] |= match rung {
                Rung::Minimal => FLAG_PCM,
                Rung::Emergency => FLAG_PCM | FLAG_CLEAR,
                _ => 0,
            };
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        let (head, payload) = self.packet.split_at_mut(HEADER_LEN);
        head.copy_from_slice(&header);
        if rung != Rung::Emergency {
            self.cipher.apply(&header, &mut payload[..len]);
        }
        let begin = if self.has_headers { 0 } else { HEADER_LEN };
        let range = begin..HEADER_LEN + len;
        self.counters.packets += 1;
        self.counters.bytes += range.len() as u64;
        range
    }

    fn open_packet(&mut self, packet: &[u8]) -> Outcome<Array> {
        if !self.has_headers {
            return Err(Fault::wrong_type(
                "with framing: 'payload', open takes the IV as its second argument",
            ));
        }
        let header = Header::parse(packet)?;
        if header.is_pcm() && !self.sink.pcm || header.is_clear() && !(self.sink.clear && header.is_pcm()) {
            return Err(Fault::packet("PCM, or anything in clear, was not agreed on"));
        }
        let mut iv = [0; HEADER_LEN];
        iv.copy_from_slice(&packet[..HEADER_LEN]);
        let mut payload = header.payload(packet).to_vec();
        if !header.is_clear() {
            self.cipher.apply(&iv, &mut payload);
        }
        if header.is_pcm() { self.give_pcm(&payload) } else { self.decode(&payload) }
    }

    fn open_payload(&mut self, payload: &[u8], iv: &[u8; HEADER_LEN]) -> Outcome<Array> {
        let mut payload = payload.to_vec();
        self.cipher.apply(iv, &mut payload);
        self.decode(&payload)
    }

    fn decode(&mut self, packet: &[u8]) -> Outcome<Array> {
        let samples = self.decoder.decode(packet, &mut self.decoded)? * self.channels.count();
        self.counters.opened += 1;
        to_array(&self.decoded[..samples], self.gives_i16)
    }

    fn give_pcm(&mut self, payload: &[u8]) -> Outcome<Array> {
        let (pairs, rest) = payload.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > self.decoded.len() {
            return Err(Fault::packet(format!("{} bytes are no frame of PCM", payload.len())));
        }
        let samples = self.decoded.iter_mut().zip(pairs);
        samples.for_each(|(sample, pair)| *sample = f32::from(i16::from_be_bytes(*pair)) / 32_768.0);
        self.counters.opened += 1;
        to_array(&self.decoded[..pairs.len()], self.gives_i16)
    }

    fn finish(&mut self, took: Duration) {
        self.record.record(took.as_nanos() as u64);
        if self.controller.is_some() {
            let now = self.now();
            self.observe(now, took);
        }
    }

    fn observe(&mut self, now: Time, took: Duration) {
        let change = self.controller.as_mut().and_then(|controller| controller.handle_frame(now, took, 0));
        if let Some(Change { to, reason, .. }) = change {
            self.go_to(to, if reason == Reason::Room { "room" } else { "slow" });
        }
    }

    fn go_to(&mut self, position: usize, reason: &'static str) {
        let (from, to) = (self.rung(), self.ladder.get(position));
        self.position = position;
        if from == to {
            return;
        }
        self.counters.rung_changes += 1;
        if self.changes.len() == MAX_CHANGES {
            self.changes.remove(0);
        }
        self.changes.push(RungChange { from: from.to_string(), to: to.to_string(), reason });
    }

    fn rung(&self) -> Rung {
        self.ladder.get(self.position)
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.began.elapsed().as_nanos() as u64)
    }

    fn stats(&self) -> ProcessorStats {
        let Counters { packets, bytes, silent, fallbacks, muted, silenced_samples, opened, rung_changes } =
            self.counters;
        ProcessorStats {
            processing: self.record.stats(),
            packets: packets as f64,
            bytes: bytes as f64,
            silent: silent as f64,
            fallbacks: fallbacks as f64,
            muted: muted as f64,
            silenced_samples: silenced_samples as f64,
            opened: opened as f64,
            rung_changes: rung_changes as f64,
        }
    }
}

/// Whether PCM, where it was declared, can be told from Opus and fits a packet.
fn check_pcm(
    sink: SinkCapability,
    has_headers: bool,
    frame: FrameDuration,
    coded: SampleRate,
    output: SampleRate,
    channels: Channels,
) -> Outcome<()> {
    if !sink.pcm {
        return Ok(());
    }
    if !has_headers {
        return Err(Fault::range("PCM is marked in the header: pcm needs framing: 'packet'"));
    }
    let bytes = frame.samples_at(coded) * channels.count() * 2;
    if bytes > MAX_PCM_BYTES {
        return Err(Fault::range(format!(
            "a frame of {frame} at {coded} has {bytes} bytes of PCM, a packet {MAX_PCM_BYTES} at most; \
             use shorter frames or a lower codedRate"
        )));
    }
    if output != coded {
        return Err(Fault::range(format!("PCM comes at {coded}: pcm needs an outputRate of {}", coded.hz())));
    }
    Ok(())
}

/// When a controller changes rungs: of the ladder's own thresholds, those that are set otherwise.
fn thresholds(options: &Options<'_>) -> Outcome<ControllerConfig> {
    const DAY: f64 = 86_400_000.0;
    let default = ControllerConfig::default();
    Ok(ControllerConfig {
        down_mean: options.millis("downMeanMs", default.down_mean, DAY)?,
        down_frame: options.millis("downFrameMs", default.down_frame, DAY)?,
        down_frame_to_minimal: options.millis("downFrameToMinimalMs", default.down_frame_to_minimal, DAY)?,
        up_mean: options.millis("upMeanMs", default.up_mean, DAY)?,
        up_mean_from_minimal: options.millis("upMeanFromMinimalMs", default.up_mean_from_minimal, DAY)?,
        up_interval: options.millis("upIntervalMs", default.up_interval, DAY)?,
        trial: options.millis("trialMs", default.trial, DAY)?,
    })
}
