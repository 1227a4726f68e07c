//! The codec states of libopus, made safe to call: here and in `bare` is all the unsafe code of the audio path.
//!
//! A state is plain memory that libopus lays out itself. It points at nothing but libopus' constant tables, libopus
//! keeps nothing per thread and nothing global that changes, and what takes `&self` only reads: that is why the
//! states are `Send` and `Sync`, which they are by being made of bytes.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_int};

use evenkeel_core::error::{CodecError, ConfigError};
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::units::{Channels, SampleRate};
use opusic_sys as ffi;

use crate::config::{Application, Signal};

/// The version of libopus that is linked in, as it calls itself: `libopus 1.6.1`, say.
#[must_use]
pub fn libopus_version() -> &'static str {
    // SAFETY: it takes nothing and returns a constant, zero-terminated string that is never freed.
    let version = unsafe { CStr::from_ptr(ffi::opus_get_version_string()) };
    version.to_str().unwrap_or("libopus")
}

/// Settings of an encoder; every one of these requests takes one `opus_int32`.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum EncoderSetting {
    Bitrate = ffi::OPUS_SET_BITRATE_REQUEST,
    Complexity = ffi::OPUS_SET_COMPLEXITY_REQUEST,
    Vbr = ffi::OPUS_SET_VBR_REQUEST,
    VbrConstraint = ffi::OPUS_SET_VBR_CONSTRAINT_REQUEST,
    InbandFec = ffi::OPUS_SET_INBAND_FEC_REQUEST,
    ExpectedLoss = ffi::OPUS_SET_PACKET_LOSS_PERC_REQUEST,
    Dtx = ffi::OPUS_SET_DTX_REQUEST,
    MaxBandwidth = ffi::OPUS_SET_MAX_BANDWIDTH_REQUEST,
    Signal = ffi::OPUS_SET_SIGNAL_REQUEST,
    /// `OPUS_SET_FORCE_MODE_REQUEST` of `opus_private.h`: what libopus' own demo uses, stable since 1.0.
    ForceMode = 11_002,
}

/// Values of [`EncoderSetting::ForceMode`]: `MODE_CELT_ONLY` and `OPUS_AUTO`.
pub(crate) const fn mode_code(mdct_only: bool) -> i32 {
    if mdct_only { 1_002 } else { ffi::OPUS_AUTO }
}

/// What an encoder tells; every one of these requests writes one `opus_int32` (or `opus_uint32`) and changes nothing.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum EncoderReading {
    Bandwidth = ffi::OPUS_GET_BANDWIDTH_REQUEST,
    FinalRange = ffi::OPUS_GET_FINAL_RANGE_REQUEST,
    InDtx = ffi::OPUS_GET_IN_DTX_REQUEST,
    Lookahead = ffi::OPUS_GET_LOOKAHEAD_REQUEST,
}

/// What a decoder tells; every one of these requests writes one `opus_int32` (or `opus_uint32`) and changes nothing.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum DecoderReading {
    Bandwidth = ffi::OPUS_GET_BANDWIDTH_REQUEST,
    FinalRange = ffi::OPUS_GET_FINAL_RANGE_REQUEST,
    LastPacketDuration = ffi::OPUS_GET_LAST_PACKET_DURATION_REQUEST,
}

/// An encoder's memory, initialised from construction on.
pub(crate) struct EncoderState {
    memory: Box<[Line]>,
    rate: SampleRate,
    channels: Channels,
}

impl EncoderState {
    pub(crate) fn new(rate: SampleRate, channels: Channels, application: c_int) -> Result<Self, ConfigError> {
        // SAFETY: it only computes a size.
        let bytes = unsafe { ffi::opus_encoder_get_size(channels.count() as c_int) };
        let mut state = Self { memory: zeroed(bytes, "Opus encoder")?, rate, channels };
        state.init(application).map_err(|_| ConfigError::CodecRate { hz: rate.hz() })?;
        Ok(state)
    }

    /// Makes it as new, in the same memory: signal forgotten, settings back to libopus' own defaults.
    pub(crate) fn init(&mut self, application: c_int) -> Result<(), CodecError> {
        let (rate, channels) = (self.rate.hz() as i32, self.channels.count() as c_int);
        // SAFETY: the memory has the size libopus asked for with this channel count, and is aligned for any type.
        checked(unsafe { ffi::opus_encoder_init(self.as_mut_ptr(), rate, channels, application) }).map(|_| ())
    }

    pub(crate) fn set(&mut self, setting: EncoderSetting, value: i32) -> Result<(), CodecError> {
        // SAFETY: the state is initialised; requests of this enum take one `opus_int32`.
        checked(unsafe { ffi::opus_encoder_ctl(self.as_mut_ptr(), setting as c_int, value) }).map(|_| ())
    }

    pub(crate) fn get(&self, reading: EncoderReading) -> i32 {
        let state = self.memory.as_ptr().cast::<ffi::OpusEncoder>().cast_mut();
        let mut value = 0i32;
        // SAFETY: the state is initialised; requests of this enum read it and write one 32-bit integer.
        unsafe { ffi::opus_encoder_ctl(state, reading as c_int, &raw mut value) };
        value
    }

    /// Encodes a frame of `samples` per channel into at most all of `out`. The number must be a frame's.
    #[inline]
    pub(crate) fn encode_f32(
        &mut self,
        pcm: &[f32],
        samples: usize,
        out: &mut [u8],
    ) -> Result<usize, CodecError> {
        let (pcm, room) = (&pcm[..samples * self.channels.count()], limit(out.len()));
        // SAFETY: the state is initialised; `pcm` was just cut to the samples announced; `out` has `room` bytes.
        checked(unsafe {
            ffi::opus_encode_float(self.as_mut_ptr(), pcm.as_ptr(), samples as c_int, out.as_mut_ptr(), room)
        })
    }

    /// As [`EncoderState::encode_f32`].
    #[inline]
    pub(crate) fn encode_i16(
        &mut self,
        pcm: &[i16],
        samples: usize,
        out: &mut [u8],
    ) -> Result<usize, CodecError> {
        let (pcm, room) = (&pcm[..samples * self.channels.count()], limit(out.len()));
        // SAFETY: the state is initialised; `pcm` was just cut to the samples announced; `out` has `room` bytes.
        checked(unsafe {
            ffi::opus_encode(self.as_mut_ptr(), pcm.as_ptr(), samples as c_int, out.as_mut_ptr(), room)
        })
    }

    fn as_mut_ptr(&mut self) -> *mut ffi::OpusEncoder {
        self.memory.as_mut_ptr().cast()
    }
}

/// A decoder's memory, initialised from construction on.
pub(crate) struct DecoderState {
    memory: Box<[Line]>,
    rate: SampleRate,
    channels: Channels,
}

impl DecoderState {
    pub(crate) fn new(rate: SampleRate, channels: Channels) -> Result<Self, ConfigError> {
        // SAFETY: it only computes a size.
        let bytes = unsafe { ffi::opus_decoder_get_size(channels.count() as c_int) };
        let mut state = Self { memory: zeroed(bytes, "Opus decoder")?, rate, channels };
        state.init().map_err(|_| ConfigError::CodecRate { hz: rate.hz() })?;
        Ok(state)
    }

    /// Makes it as new, in the same memory.
    pub(crate) fn init(&mut self) -> Result<(), CodecError> {
        let (rate, channels) = (self.rate.hz() as i32, self.channels.count() as c_int);
        // SAFETY: the memory has the size libopus asked for with this channel count, and is aligned for any type.
        checked(unsafe { ffi::opus_decoder_init(self.as_mut_ptr(), rate, channels) }).map(|_| ())
    }

    pub(crate) fn set_gain(&mut self, q8_db: i16) -> Result<(), CodecError> {
        let value = i32::from(q8_db);
        // SAFETY: the state is initialised; the request takes one `opus_int32`.
        checked(unsafe { ffi::opus_decoder_ctl(self.as_mut_ptr(), ffi::OPUS_SET_GAIN_REQUEST, value) })
            .map(|_| ())
    }

    pub(crate) fn get(&self, reading: DecoderReading) -> i32 {
        let state = self.memory.as_ptr().cast::<ffi::OpusDecoder>().cast_mut();
        let mut value = 0i32;
        // SAFETY: the state is initialised; requests of this enum read it and write one 32-bit integer.
        unsafe { ffi::opus_decoder_ctl(state, reading as c_int, &raw mut value) };
        value
    }

    /// Decodes `packet` into `samples` per channel of `out`; the redundancy in it if `fec`; conceals if it is empty.
    #[inline]
    pub(crate) fn decode_f32(
        &mut self,
        packet: &[u8],
        out: &mut [f32],
        samples: usize,
        fec: bool,
    ) -> Result<usize, CodecError> {
        let out = &mut out[..samples * self.channels.count()];
        // SAFETY: the state is initialised; the packet has the bytes announced, and libopus reads none if that is
        // zero; `out` was just cut to the samples announced, the most that libopus writes.
        checked(unsafe {
            ffi::opus_decode_float(
                self.as_mut_ptr(),
                packet.as_ptr(),
                limit(packet.len()),
                out.as_mut_ptr(),
                samples as c_int,
                c_int::from(fec),
            )
        })
    }

    /// As [`DecoderState::decode_f32`].
    #[inline]
    pub(crate) fn decode_i16(
        &mut self,
        packet: &[u8],
        out: &mut [i16],
        samples: usize,
        fec: bool,
    ) -> Result<usize, CodecError> {
        let out = &mut out[..samples * self.channels.count()];
        // SAFETY: the state is initialised; the packet has the bytes announced, and libopus reads none if that is
        // zero; `out` was just cut to the samples announced, the most that libopus writes.
        checked(unsafe {
            ffi::opus_decode(
                self.as_mut_ptr(),
                packet.as_ptr(),
                limit(packet.len()),
                out.as_mut_ptr(),
                samples as c_int,
                c_int::from(fec),
            )
        })
    }

    fn as_mut_ptr(&mut self) -> *mut ffi::OpusDecoder {
        self.memory.as_mut_ptr().cast()
    }
}

pub(crate) const fn application_code(application: Application) -> c_int {
    match application {
        Application::Voip => ffi::OPUS_APPLICATION_VOIP,
        Application::Audio => ffi::OPUS_APPLICATION_AUDIO,
        Application::LowDelay => ffi::OPUS_APPLICATION_RESTRICTED_LOWDELAY,
    }
}

pub(crate) const fn signal_code(signal: Signal) -> i32 {
    match signal {
        Signal::Auto => ffi::OPUS_AUTO,
        Signal::Voice => ffi::OPUS_SIGNAL_VOICE,
        Signal::Music => ffi::OPUS_SIGNAL_MUSIC,
    }
}

pub(crate) const fn bandwidth_code(bandwidth: Bandwidth) -> i32 {
    match bandwidth {
        Bandwidth::Narrow => ffi::OPUS_BANDWIDTH_NARROWBAND,
        Bandwidth::Medium => ffi::OPUS_BANDWIDTH_MEDIUMBAND,
        Bandwidth::Wide => ffi::OPUS_BANDWIDTH_WIDEBAND,
        Bandwidth::SuperWide => ffi::OPUS_BANDWIDTH_SUPERWIDEBAND,
        Bandwidth::Full => ffi::OPUS_BANDWIDTH_FULLBAND,
    }
}

pub(crate) const fn bandwidth_of(code: i32) -> Option<Bandwidth> {
    match code {
        ffi::OPUS_BANDWIDTH_NARROWBAND => Some(Bandwidth::Narrow),
        ffi::OPUS_BANDWIDTH_MEDIUMBAND => Some(Bandwidth::Medium),
        ffi::OPUS_BANDWIDTH_WIDEBAND => Some(Bandwidth::Wide),
        ffi::OPUS_BANDWIDTH_SUPERWIDEBAND => Some(Bandwidth::SuperWide),
        ffi::OPUS_BANDWIDTH_FULLBAND => Some(Bandwidth::Full),
        _ => None,
    }
}

/// What libopus returns: a count, or an error below zero.
pub(crate) fn checked(code: c_int) -> Result<usize, CodecError> {
    usize::try_from(code).map_err(|_| CodecError::Internal {
        code,
        reason: match code {
            ffi::OPUS_BAD_ARG => "an argument is out of range",
            ffi::OPUS_BUFFER_TOO_SMALL => "the buffer is too small",
            ffi::OPUS_INTERNAL_ERROR => "internal error",
            ffi::OPUS_INVALID_PACKET => "the packet is corrupted",
            ffi::OPUS_UNIMPLEMENTED => "the request is not known",
            ffi::OPUS_INVALID_STATE => "the state is corrupted or freed",
            ffi::OPUS_ALLOC_FAIL => "out of memory",
            _ => "unknown error",
        },
    })
}

fn limit(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// A cache line: aligned for any C type, and no two states share one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn zeroed(bytes: c_int, what: &'static str) -> Result<Box<[Line]>, ConfigError> {
    let lines = usize::try_from(bytes).unwrap_or(0).div_ceil(size_of::<Line>());
    let mut memory = Vec::new();
    memory.try_reserve_exact(lines).map_err(|_| ConfigError::OutOfMemory { what })?;
    memory.resize(lines, Line([0; 64]));
    Ok(memory.into_boxed_slice())
}
