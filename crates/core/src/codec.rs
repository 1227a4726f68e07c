//! What the audio path asks of a codec. `evenkeel-opus` answers with libopus; tests answer with toys.

use crate::error::CodecError;
use crate::units::{Channels, FrameDuration, SampleRate};

/// Turns frames of PCM into packets. State is in place; nothing allocates after construction.
pub trait Encoder {
    /// The rate of the samples that [`Encoder::encode`] takes.
    fn sample_rate(&self) -> SampleRate;

    /// The channels of the samples that [`Encoder::encode`] takes.
    fn channels(&self) -> Channels;

    /// Encodes one frame: interleaved samples in -1.0 to 1.0, `duration` long, into `out`. Returns bytes written.
    ///
    /// A return of 1 or 2 bytes is a DTX frame, which need not be sent.
    ///
    /// # Errors
    /// [`CodecError::FrameLength`] if `pcm` has not the samples of a possible frame duration,
    /// [`CodecError::BufferTooSmall`] if `out` is too small for it.
    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError>;

    /// Samples per channel, at the encoder's rate, that the codec looks ahead (its delay).
    fn lookahead(&self) -> usize;

    /// Sets the computational complexity, 0 (cheapest) to 10 (best).
    ///
    /// # Errors
    /// [`CodecError::Config`] outside that range.
    fn set_complexity(&mut self, complexity: u8) -> Result<(), CodecError>;

    /// Codes with the MDCT alone (CELT), which takes a fraction of the time and costs speech quality; or chooses
    /// freely again.
    ///
    /// # Errors
    /// [`CodecError`] if the codec has no such choice.
    fn set_mdct_only(&mut self, on: bool) -> Result<(), CodecError>;

    /// Sets the target bit rate in bits per second.
    ///
    /// # Errors
    /// [`CodecError::Config`] outside what the codec takes.
    fn set_bitrate(&mut self, bits_per_second: u32) -> Result<(), CodecError>;

    /// Tells how much loss to expect, in percent; with in-band FEC on, this decides how much redundancy is spent.
    ///
    /// # Errors
    /// [`CodecError::Config`] above 100.
    fn set_expected_loss(&mut self, percent: u8) -> Result<(), CodecError>;

    /// Forgets the signal so far, as if newly built, without allocating. Settings stay.
    fn reset(&mut self);
}

/// Turns packets into PCM. State is in place; nothing allocates after construction.
pub trait Decoder {
    /// The rate of the samples that decoding gives.
    fn sample_rate(&self) -> SampleRate;

    /// The channels of the samples that decoding gives.
    fn channels(&self) -> Channels;

    /// Decodes a packet into interleaved samples. Returns samples per channel.
    ///
    /// # Errors
    /// [`CodecError::Packet`] for a malformed packet, [`CodecError::BufferTooSmall`] if `out` cannot hold it.
    fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError>;

    /// Recovers the lost packet *before* `packet` from its in-band redundancy (LBRR), falling back to concealment
    /// where it carries none. Fills `duration` of samples; returns samples per channel.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    fn decode_fec(
        &mut self,
        packet: &[u8],
        duration: FrameDuration,
        out: &mut [f32],
    ) -> Result<usize, CodecError>;

    /// Conceals a lost packet (PLC). Fills `duration` of samples; returns samples per channel.
    ///
    /// # Errors
    /// [`CodecError::BufferTooSmall`] if `out` cannot hold it.
    fn conceal(&mut self, duration: FrameDuration, out: &mut [f32]) -> Result<usize, CodecError>;

    /// Forgets the signal so far, as if newly built, without allocating.
    fn reset(&mut self);
}

impl<T: Encoder + ?Sized> Encoder for Box<T> {
    fn sample_rate(&self) -> SampleRate {
        (**self).sample_rate()
    }
    fn channels(&self) -> Channels {
        (**self).channels()
    }
    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        (**self).encode(pcm, out)
    }
    fn lookahead(&self) -> usize {
        (**self).lookahead()
    }
    fn set_complexity(&mut self, complexity: u8) -> Result<(), CodecError> {
        (**self).set_complexity(complexity)
    }
    fn set_mdct_only(&mut self, on: bool) -> Result<(), CodecError> {
        (**self).set_mdct_only(on)
    }
    fn set_bitrate(&mut self, bits_per_second: u32) -> Result<(), CodecError> {
        (**self).set_bitrate(bits_per_second)
    }
    fn set_expected_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        (**self).set_expected_loss(percent)
    }
    fn reset(&mut self) {
        (**self).reset()
    }
}
