//! Packets to PCM.

use evenkeel_core::codec::Decoder;
use evenkeel_core::error::{CodecError, ConfigError};
use evenkeel_core::framing::{Bandwidth, Frames};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};

use crate::config;
use crate::sys::{self, DecoderReading, DecoderState};

/// An Opus decoder (RFC 6716, section 4).
///
/// Gives any of 8, 12, 16, 24 and 48 kHz, mono or stereo, whatever a packet was coded from. See [`Decoder`] for the
/// calls. A packet is checked against every rule of RFC 6716, section 3.4, and `out` against its duration, before
/// either reaches libopus; a call that is refused so changes nothing. `f32` samples may exceed -1.0 to 1.0 by a
/// little; the `i16` calls clip softly.
pub struct OpusDecoder {
    state: DecoderState,
    sample_rate: SampleRate,
    channels: Channels,
    gain: i16,
}

impl OpusDecoder {
    /// Builds a decoder. This is the only call that allocates.
    ///
    /// # Errors
    /// [`ConfigError::CodecRate`] for a rate that Opus does not code, [`ConfigError::OutOfMemory`].
    pub fn new(sample_rate: SampleRate, channels: Channels) -> Result<Self, ConfigError> {
        config::codec_rate(sample_rate)?;
        Ok(Self { state: DecoderState::new(sample_rate, channels)?, sample_rate, channels, gain: 0 })
    }

    /// As [`Decoder::decode`], into 16-bit samples.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    #[inline]
    pub fn decode_i16(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        let samples = self.packet_samples(packet, out.len())?;
        self.state.decode_i16(packet, out, samples, false)
    }

    /// As [`Decoder::decode_fec`], into 16-bit samples.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_fec_i16(
        &mut self,
        packet: &[u8],
        duration: FrameDuration,
        out: &mut [i16],
    ) -> Result<usize, CodecError> {
        let redundancy = redundancy(packet)?;
        let samples = self.lost_samples(duration, out.len())?;
        self.state.decode_i16(redundancy, out, samples, true)
    }

    /// As [`Decoder::conceal`], into 16-bit samples.
    ///
    /// # Errors
    /// As [`Decoder::conceal`].
    pub fn conceal_i16(&mut self, duration: FrameDuration, out: &mut [i16]) -> Result<usize, CodecError> {
        let samples = self.lost_samples(duration, out.len())?;
        self.state.decode_i16(&[], out, samples, false)
    }

    /// Scales what is decoded, in 1/256 dB: 1536 is 6 dB louder. Default 0. Stays over a reset.
    pub fn set_gain_q8(&mut self, gain: i16) {
        self.gain = gain;
        let done = self.state.set_gain(gain);
        debug_assert_eq!(done, Ok(()), "libopus takes any 16-bit gain");
    }

    /// The gain, in 1/256 dB.
    #[must_use]
    pub const fn gain_q8(&self) -> i16 {
        self.gain
    }

    /// Samples per channel that the last call gave; 0 before the first.
    #[must_use]
    pub fn last_packet_samples(&self) -> usize {
        usize::try_from(self.state.get(DecoderReading::LastPacketDuration)).unwrap_or(0)
    }

    /// The audio bandwidth of the last packet; none before the first.
    #[must_use]
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        sys::bandwidth_of(self.state.get(DecoderReading::Bandwidth))
    }

    /// The state of the range coder after the last packet; the same as the encoder's where all went well (RFC 6716,
    /// section 6.1).
    #[must_use]
    pub fn final_range(&self) -> u32 {
        self.state.get(DecoderReading::FinalRange) as u32
    }

    /// Samples per channel in a packet, if it is one and they fit.
    #[inline]
    fn packet_samples(&self, packet: &[u8], out_len: usize) -> Result<usize, CodecError> {
        let micros = u64::from(Frames::parse(packet)?.duration_us());
        let samples = (micros * u64::from(self.sample_rate.hz()) / 1_000_000) as usize;
        self.room_for(samples, out_len)
    }

    #[inline]
    fn lost_samples(&self, duration: FrameDuration, out_len: usize) -> Result<usize, CodecError> {
        self.room_for(duration.samples_at(self.sample_rate), out_len)
    }

    #[inline]
    fn room_for(&self, samples: usize, out_len: usize) -> Result<usize, CodecError> {
        let room = out_len / self.channels.count();
        if room < samples {
            return Err(CodecError::BufferTooSmall { needed: samples, actual: room });
        }
        Ok(samples)
    }
}

impl Decoder for OpusDecoder {
    #[inline]
    fn sample_rate(&self) -> SampleRate {
        self.sample_rate
    }

    #[inline]
    fn channels(&self) -> Channels {
        self.channels
    }

    #[inline]
    fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let samples = self.packet_samples(packet, out.len())?;
        self.state.decode_f32(packet, out, samples, false)
    }

    fn decode_fec(
        &mut self,
        packet: &[u8],
        duration: FrameDuration,
        out: &mut [f32],
    ) -> Result<usize, CodecError> {
        let redundancy = redundancy(packet)?;
        let samples = self.lost_samples(duration, out.len())?;
        self.state.decode_f32(redundancy, out, samples, true)
    }

    fn conceal(&mut self, duration: FrameDuration, out: &mut [f32]) -> Result<usize, CodecError> {
        let samples = self.lost_samples(duration, out.len())?;
        self.state.decode_f32(&[], out, samples, false)
    }

    /// Initialises the memory anew, which leaves nothing of the signal; the gain stays.
    fn reset(&mut self) {
        let done = self.state.init();
        debug_assert_eq!(done, Ok(()), "what was built once can be built again");
        self.set_gain_q8(self.gain);
    }
}

/// The packet if it carries redundancy, else nothing, which conceals; an error if it is no packet.
fn redundancy(packet: &[u8]) -> Result<&[u8], CodecError> {
    let frames = Frames::parse(packet)?;
    Ok(if frames.has_lbrr() { packet } else { &[] })
}
