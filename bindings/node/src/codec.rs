//! `OpusEncoder` and `OpusDecoder`: libopus by itself, with the calls of `@discordjs/opus`.

use evenkeel_core::codec::{Decoder as _, Encoder as _};
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig, MAX_BITRATE, MAX_PACKET_BYTES, RateControl, Signal};
use napi::bindgen_prelude::{BufferSlice, Float32Array, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::fault::{Fault, Outcome};
use crate::js::{self, Pcm};
use crate::options::{Options, integer, number};

/// What `OPUS_AUTO` is among bit rates.
const AUTO: i32 = -1000;

/// What `OPUS_BITRATE_MAX` is among bit rates.
const MAX: i32 = -1;

/// The rate and channels that both constructors begin with.
fn rate_and_channels(rate: Unknown<'_>, channels: Unknown<'_>) -> Outcome<(SampleRate, Channels)> {
    let rate = SampleRate::from_hz(integer(rate, "rate", 0.0, u32::MAX.into())? as u32)?;
    let channels = Channels::from_count(integer(channels, "channels", 0.0, 255.0)? as usize)?;
    Ok((rate, channels))
}

/// An Opus encoder, and the decoder that `@discordjs/opus` keeps beside it.
#[napi]
pub struct OpusEncoder {
    state: Option<EncoderState>,
}

struct EncoderState {
    encoder: evenkeel_opus::OpusEncoder,
    /// Made when it is first asked for.
    decoder: Option<DecoderState>,
    packet: Vec<u8>,
}

#[napi]
impl OpusEncoder {
    /// Codes at `rate` Hz (8, 12, 16, 24 or 48 kHz), 1 or 2 `channels`.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        rate: Unknown<'_>,
        channels: Unknown<'_>,
        options: Option<Unknown<'_>>,
    ) -> Result<Self> {
        let build = || -> Outcome<EncoderState> {
            let (rate, channels) = rate_and_channels(rate, channels)?;
            let options = Options::of(env, options)?;
            let mut config = options.encoder(rate, channels)?;
            // Where nothing is said, what libopus does where nothing is said.
            config.application = options.choice(
                "application",
                Application::Audio,
                &[
                    ("voip", Application::Voip),
                    ("audio", Application::Audio),
                    ("lowdelay", Application::LowDelay),
                ],
            )?;
            config.bitrate = options.integer("bitrate", automatic_bitrate(&config), 0, u32::MAX)?;
            config.complexity = options.integer("complexity", 9, 0, 10)? as u8;
            let encoder = evenkeel_opus::OpusEncoder::new(config)?;
            Ok(EncoderState { encoder, decoder: None, packet: vec![0; MAX_PACKET_BYTES] })
        };
        Ok(Self { state: Some(build().map_err(|fault| fault.throw(&env))?) })
    }

    /// Encodes one frame: 16-bit samples in a Buffer or Int16Array, or a Float32Array.
    #[napi(catch_unwind)]
    pub fn encode<'env>(&mut self, env: &'env Env, frame: Unknown<'_>) -> Result<BufferSlice<'env>> {
        let state = self.state().map_err(|fault| fault.throw(env))?;
        let mut encode = || -> Outcome<usize> {
            match js::pcm_or_buffer(env, &frame, "frame")? {
                Pcm::I16(frame) => Ok(state.encoder.encode_i16(&frame, &mut state.packet)?),
                Pcm::F32(samples) => {
                    Pcm::F32(samples.clone()).check_finite()?;
                    Ok(state.encoder.encode(&samples, &mut state.packet)?)
                }
            }
        };
        let len = encode().map_err(|fault| fault.throw(env))?;
        BufferSlice::copy_from(env, &state.packet[..len])
    }

    /// Decodes a packet to 16-bit samples.
    #[napi(catch_unwind)]
    pub fn decode<'env>(&mut self, env: &'env Env, packet: Unknown<'_>) -> Result<BufferSlice<'env>> {
        let decoder = self.state().and_then(EncoderState::decoder).map_err(|fault| fault.throw(env))?;
        decoder.decode(env, &packet)
    }

    /// Sets the target bit rate in bits per second.
    #[napi(catch_unwind)]
    pub fn set_bitrate(&mut self, env: Env, bitrate: Unknown<'_>) -> Result<()> {
        let mut set = || -> Outcome<()> {
            let bitrate = integer(bitrate, "bitrate", f64::from(i32::MIN), f64::from(i32::MAX))?;
            self.state()?.set_bitrate(bitrate as i32)
        };
        set().map_err(|fault| fault.throw(&env))
    }

    /// The target bit rate in bits per second.
    #[napi(catch_unwind)]
    pub fn get_bitrate(&mut self, env: Env) -> Result<u32> {
        Ok(self.state().map_err(|fault| fault.throw(&env))?.encoder.config().bitrate)
    }

    /// A request of `opus_encoder_ctl` that takes a number.
    #[napi(js_name = "applyEncoderCTL", catch_unwind)]
    pub fn apply_encoder_ctl(&mut self, env: Env, request: Unknown<'_>, value: Unknown<'_>) -> Result<()> {
        let mut apply = || -> Outcome<()> {
            let (request, value) = (ctl(request, "request")?, ctl(value, "value")?);
            self.state()?.apply(request, value)
        };
        apply().map_err(|fault| fault.throw(&env))
    }

    /// A request of `opus_decoder_ctl` that takes a number.
    #[napi(js_name = "applyDecoderCTL", catch_unwind)]
    pub fn apply_decoder_ctl(&mut self, env: Env, request: Unknown<'_>, value: Unknown<'_>) -> Result<()> {
        let mut apply = || -> Outcome<()> {
            let (request, value) = (ctl(request, "request")?, ctl(value, "value")?);
            self.state()?.decoder()?.apply(request, value)
        };
        apply().map_err(|fault| fault.throw(&env))
    }

    /// Samples per channel by which coding delays the sound.
    #[napi(catch_unwind)]
    pub fn lookahead(&mut self, env: Env) -> Result<u32> {
        Ok(self.state().map_err(|fault| fault.throw(&env))?.encoder.lookahead() as u32)
    }

    /// Forgets the signal so far; settings stay.
    #[napi(catch_unwind)]
    pub fn reset(&mut self, env: Env) -> Result<()> {
        self.state().map_err(|fault| fault.throw(&env))?.encoder.reset();
        Ok(())
    }

    /// Frees its memory. Whether it was open.
    #[napi(catch_unwind)]
    pub fn close(&mut self) -> bool {
        self.state.take().is_some()
    }

    fn state(&mut self) -> Outcome<&mut EncoderState> {
        self.state.as_mut().ok_or_else(|| Fault::closed("encoder"))
    }
}

impl EncoderState {
    fn decoder(&mut self) -> Outcome<&mut DecoderState> {
        if self.decoder.is_none() {
            let config = self.encoder.config();
            self.decoder = Some(DecoderState::new(config.sample_rate, config.channels)?);
        }
        self.decoder.as_mut().ok_or_else(|| Fault::closed("encoder"))
    }

    fn set_bitrate(&mut self, bitrate: i32) -> Outcome<()> {
        let bitrate = match bitrate {
            AUTO => automatic_bitrate(self.encoder.config()),
            MAX => MAX_BITRATE,
            bitrate => u32::try_from(bitrate).unwrap_or(0),
        };
        Ok(self.encoder.set_bitrate(bitrate)?)
    }

    /// By the numbers of `opus_defines.h`.
    fn apply(&mut self, request: i32, value: i32) -> Outcome<()> {
        let encoder = &mut self.encoder;
        let is_vbr = encoder.config().rate_control != RateControl::Cbr;
        match (request, value) {
            (4000, 2048) => encoder.set_application(Application::Voip),
            (4000, 2049) => encoder.set_application(Application::Audio),
            (4000, 2051) => encoder.set_application(Application::LowDelay),
            (4002, bitrate) => self.set_bitrate(bitrate)?,
            (4004, 1101) => encoder.set_max_bandwidth(Bandwidth::Narrow),
            (4004, 1102) => encoder.set_max_bandwidth(Bandwidth::Medium),
            (4004, 1103) => encoder.set_max_bandwidth(Bandwidth::Wide),
            (4004, 1104) => encoder.set_max_bandwidth(Bandwidth::SuperWide),
            (4004, 1105) => encoder.set_max_bandwidth(Bandwidth::Full),
            (4006, 0) => encoder.set_rate_control(RateControl::Cbr),
            (4006, 1) if is_vbr => {}
            (4006, 1) => encoder.set_rate_control(RateControl::ConstrainedVbr),
            (4010, 0..=255) => encoder.set_complexity(value as u8)?,
            (4012, 0 | 1) => encoder.set_inband_fec(value == 1),
            (4014, 0..=255) => encoder.set_expected_loss(value as u8)?,
            (4016, 0 | 1) => encoder.set_dtx(value == 1),
            (4020, 0 | 1) if !is_vbr => {}
            (4020, 0) => encoder.set_rate_control(RateControl::Vbr),
            (4020, 1) => encoder.set_rate_control(RateControl::ConstrainedVbr),
            (4024, -1000) => encoder.set_signal(Signal::Auto),
            (4024, 3001) => encoder.set_signal(Signal::Voice),
            (4024, 3002) => encoder.set_signal(Signal::Music),
            (4028, _) => encoder.reset(),
            (4000 | 4004 | 4006 | 4010 | 4012 | 4014 | 4016 | 4020 | 4024, _) => {
                return Err(Fault::range(format!("encoder request {request} does not take {value}")));
            }
            _ => {
                return Err(Fault::unsupported(format!(
                    "encoder request {request} is not offered; 4000, 4002, 4004, 4006, 4010, 4012, 4014, 4016, 4020, 4024 and 4028 are"
                )));
            }
        }
        Ok(())
    }
}

/// What libopus takes for frames of 20 ms where no bit rate was set.
fn automatic_bitrate(config: &EncoderConfig) -> u32 {
    60 * 50 + config.sample_rate.hz() * config.channels.count() as u32
}

fn ctl(value: Unknown<'_>, name: &str) -> Outcome<i32> {
    Ok(integer(value, name, f64::from(i32::MIN), f64::from(i32::MAX))? as i32)
}

/// An Opus decoder.
#[napi]
pub struct OpusDecoder {
    state: Option<DecoderState>,
}

#[napi]
impl OpusDecoder {
    /// Decodes to `rate` Hz (8, 12, 16, 24 or 48 kHz), 1 or 2 `channels`.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, rate: Unknown<'_>, channels: Unknown<'_>) -> Result<Self> {
        let build = || {
            rate_and_channels(rate, channels).and_then(|(rate, channels)| DecoderState::new(rate, channels))
        };
        Ok(Self { state: Some(build().map_err(|fault| fault.throw(&env))?) })
    }

    /// Decodes a packet to 16-bit samples.
    #[napi(catch_unwind)]
    pub fn decode<'env>(&mut self, env: &'env Env, packet: Unknown<'_>) -> Result<BufferSlice<'env>> {
        self.state().map_err(|fault| fault.throw(env))?.decode(env, &packet)
    }

    /// Decodes a packet to samples in -1.0 to 1.0.
    #[napi(catch_unwind)]
    pub fn decode_float(&mut self, env: Env, packet: Unknown<'_>) -> Result<Float32Array> {
        let mut decode = || -> Outcome<Float32Array> {
            let state = self.state()?;
            let packet = js::bytes(&env, &packet, "packet")?;
            let mut out =
                vec![0.0; FrameDuration::MS_120.samples_at(state.decoder.sample_rate()) * state.channels()];
            let samples = state.decoder.decode(&packet, &mut out)?;
            Ok(Float32Array::with_data_copied(&out[..samples * state.channels()]))
        };
        decode().map_err(|fault| fault.throw(&env))
    }

    /// Recovers the packet before this one, which was lost and lasted `ms`, from what this one carries of it; where it
    /// carries nothing, conceals it. 16-bit samples.
    #[napi(catch_unwind)]
    pub fn decode_fec<'env>(
        &mut self,
        env: &'env Env,
        packet: Unknown<'_>,
        ms: Unknown<'_>,
    ) -> Result<BufferSlice<'env>> {
        let mut recover = || -> Outcome<usize> {
            let state = self.state()?;
            let packet = js::bytes(env, &packet, "packet")?;
            Ok(state.decoder.decode_fec_i16(&packet, duration(ms)?, &mut state.samples)?)
        };
        let samples = recover().map_err(|fault| fault.throw(env))?;
        self.state().map_err(|fault| fault.throw(env))?.give(env, samples)
    }

    /// Makes up for a packet of `ms` that was lost. 16-bit samples.
    #[napi(catch_unwind)]
    pub fn conceal<'env>(&mut self, env: &'env Env, ms: Unknown<'_>) -> Result<BufferSlice<'env>> {
        let mut conceal = || -> Outcome<usize> {
            let state = self.state()?;
            Ok(state.decoder.conceal_i16(duration(ms)?, &mut state.samples)?)
        };
        let samples = conceal().map_err(|fault| fault.throw(env))?;
        self.state().map_err(|fault| fault.throw(env))?.give(env, samples)
    }

    /// A request of `opus_decoder_ctl` that takes a number.
    #[napi(js_name = "applyDecoderCTL", catch_unwind)]
    pub fn apply_decoder_ctl(&mut self, env: Env, request: Unknown<'_>, value: Unknown<'_>) -> Result<()> {
        let mut apply = || -> Outcome<()> {
            let (request, value) = (ctl(request, "request")?, ctl(value, "value")?);
            self.state()?.apply(request, value)
        };
        apply().map_err(|fault| fault.throw(&env))
    }

    /// Forgets the signal so far; the gain stays.
    #[napi(catch_unwind)]
    pub fn reset(&mut self, env: Env) -> Result<()> {
        self.state().map_err(|fault| fault.throw(&env))?.decoder.reset();
        Ok(())
    }

    /// Frees its memory. Whether it was open.
    #[napi(catch_unwind)]
    pub fn close(&mut self) -> bool {
        self.state.take().is_some()
    }

    fn state(&mut self) -> Outcome<&mut DecoderState> {
        self.state.as_mut().ok_or_else(|| Fault::closed("decoder"))
    }
}

fn duration(ms: Unknown<'_>) -> Outcome<FrameDuration> {
    Ok(FrameDuration::from_millis(number(ms, "ms")?)?)
}

struct DecoderState {
    decoder: evenkeel_opus::OpusDecoder,
    /// Room for the longest packet, all channels together.
    samples: Vec<i16>,
    bytes: Vec<u8>,
}

impl DecoderState {
    fn new(rate: SampleRate, channels: Channels) -> Outcome<Self> {
        let decoder = evenkeel_opus::OpusDecoder::new(rate, channels)?;
        let samples = vec![0; FrameDuration::MS_120.samples_at(rate) * channels.count()];
        Ok(Self { decoder, samples, bytes: Vec::new() })
    }

    fn channels(&self) -> usize {
        self.decoder.channels().count()
    }

    fn decode<'env>(&mut self, env: &'env Env, packet: &Unknown<'_>) -> Result<BufferSlice<'env>> {
        let mut decode = || -> Outcome<usize> {
            let packet = js::bytes(env, packet, "packet")?;
            Ok(self.decoder.decode_i16(&packet, &mut self.samples)?)
        };
        let samples = decode().map_err(|fault| fault.throw(env))?;
        self.give(env, samples)
    }

    /// The first `samples` per channel, as little-endian bytes.
    fn give<'env>(&mut self, env: &'env Env, samples: usize) -> Result<BufferSlice<'env>> {
        let samples = &self.samples[..samples * self.decoder.channels().count()];
        self.bytes.clear();
        self.bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        BufferSlice::copy_from(env, &self.bytes)
    }

    /// By the numbers of `opus_defines.h`.
    fn apply(&mut self, request: i32, value: i32) -> Outcome<()> {
        match request {
            4034 => {
                let gain = i16::try_from(value);
                let gain =
                    gain.map_err(|_| Fault::range(format!("a gain is from -32768 to 32767, not {value}")))?;
                self.decoder.set_gain_q8(gain);
            }
            4028 => self.decoder.reset(),
            _ => {
                let message = format!("decoder request {request} is not offered; 4028 and 4034 are");
                return Err(Fault::unsupported(message));
            }
        }
        Ok(())
    }
}
