//! PCM to packets.

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::{CodecError, ConfigError};
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::units::{Channels, SampleRate};

use crate::config::{self, Application, EncoderConfig, RateControl, Signal};
use crate::sys::{self, EncoderReading, EncoderSetting, EncoderState};

/// No packet is longer, at any setting: the encoder never uses more of a buffer than this.
pub const MAX_PACKET_BYTES: usize = 6 * 1276;

/// An Opus encoder (RFC 6716, section 5).
///
/// Takes frames of 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms in any order; see [`Encoder`] for the calls. The length
/// of the output buffer bounds the packet: where the bit rate asks for more, the encoder spends fewer bits.
///
/// Samples should be finite and within -1.0 to 1.0. Others do no harm beyond the frames they are in, except that an
/// infinity confuses DTX until [`Encoder::reset`].
pub struct OpusEncoder {
    state: EncoderState,
    config: EncoderConfig,
    mdct_only: bool,
}

impl OpusEncoder {
    /// Builds an encoder. This is the only call that allocates.
    ///
    /// # Errors
    /// As [`EncoderConfig::check`], and [`ConfigError::OutOfMemory`].
    pub fn new(config: EncoderConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let state = EncoderState::new(
            config.sample_rate,
            config.channels,
            sys::application_code(config.application),
        )?;
        let mut encoder = Self { state, config, mdct_only: false };
        encoder.apply();
        Ok(encoder)
    }

    /// The settings in force.
    #[must_use]
    pub const fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Encodes one frame of 16-bit samples; else as [`Encoder::encode`].
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    #[inline]
    pub fn encode_i16(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let samples = self.frame(pcm.len(), out.len())?;
        self.state.encode_i16(pcm, samples, out)
    }

    /// Sets what the signal is for. Starts anew: the signal so far is forgotten, as by [`Encoder::reset`].
    pub fn set_application(&mut self, application: Application) {
        self.config.application = application;
        self.reset();
    }

    /// Sets how far a packet may stray from the target bit rate.
    pub fn set_rate_control(&mut self, rate_control: RateControl) {
        self.config.rate_control = rate_control;
        let is_vbr = rate_control != RateControl::Cbr;
        let is_constrained = rate_control == RateControl::ConstrainedVbr;
        self.set(EncoderSetting::Vbr, is_vbr.into());
        self.set(EncoderSetting::VbrConstraint, is_constrained.into());
    }

    /// Switches the redundancy for lost packets (LBRR) on or off.
    pub fn set_inband_fec(&mut self, on: bool) {
        self.config.inband_fec = on;
        self.set(EncoderSetting::InbandFec, on.into());
    }

    /// Switches discontinuous transmission on or off.
    pub fn set_dtx(&mut self, on: bool) {
        self.config.dtx = on;
        self.set(EncoderSetting::Dtx, on.into());
    }

    /// Sets the widest audio bandwidth to code.
    pub fn set_max_bandwidth(&mut self, bandwidth: Bandwidth) {
        self.config.max_bandwidth = bandwidth;
        self.set(EncoderSetting::MaxBandwidth, sys::bandwidth_code(bandwidth));
    }

    /// Sets what the signal is.
    pub fn set_signal(&mut self, signal: Signal) {
        self.config.signal = signal;
        self.set(EncoderSetting::Signal, sys::signal_code(signal));
    }

    /// The audio bandwidth of the last packet; before the first, the widest.
    #[must_use]
    pub fn bandwidth(&self) -> Bandwidth {
        sys::bandwidth_of(self.state.get(EncoderReading::Bandwidth)).unwrap_or(Bandwidth::Full)
    }

    /// Whether the encoder is in a pause of discontinuous transmission.
    #[must_use]
    pub fn is_in_dtx(&self) -> bool {
        self.state.get(EncoderReading::InDtx) != 0
    }

    /// The state of the range coder after the last packet; a decoder that took the packet has the same (RFC 6716,
    /// section 6.1).
    #[must_use]
    pub fn final_range(&self) -> u32 {
        self.state.get(EncoderReading::FinalRange) as u32
    }

    /// Gives every setting to libopus. Values were checked before they came into `config`.
    fn apply(&mut self) {
        let config = self.config;
        self.set(EncoderSetting::Bitrate, config.bitrate as i32);
        self.set(EncoderSetting::Complexity, config.complexity.into());
        self.set(EncoderSetting::ExpectedLoss, config.expected_loss.into());
        self.set_rate_control(config.rate_control);
        self.set_inband_fec(config.inband_fec);
        self.set_dtx(config.dtx);
        self.set_max_bandwidth(config.max_bandwidth);
        self.set_signal(config.signal);
        self.set(EncoderSetting::ForceMode, sys::mode_code(self.mdct_only));
    }

    fn set(&mut self, setting: EncoderSetting, value: i32) {
        let done = self.state.set(setting, value);
        debug_assert_eq!(done, Ok(()), "libopus takes every value that was checked");
    }

    /// Samples per channel of the frame, if there is such a frame and the buffer can hold something useful of it.
    #[inline]
    fn frame(&self, pcm_len: usize, out_len: usize) -> Result<usize, CodecError> {
        let channels = self.config.channels.count();
        let samples = pcm_len.div_ceil(channels);
        let step = self.config.sample_rate.hz() as usize / STEPS_PER_SECOND;
        let steps = samples / step;
        if pcm_len != samples * channels || samples != steps * step || !is_frame(steps) {
            return Err(CodecError::FrameLength { expected: frame_below(steps) * step, actual: samples });
        }
        let needed = least_bytes(steps);
        if out_len < needed {
            return Err(CodecError::BufferTooSmall { needed, actual: out_len });
        }
        Ok(samples)
    }
}

impl Encoder for OpusEncoder {
    #[inline]
    fn sample_rate(&self) -> SampleRate {
        self.config.sample_rate
    }

    #[inline]
    fn channels(&self) -> Channels {
        self.config.channels
    }

    #[inline]
    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let samples = self.frame(pcm.len(), out.len())?;
        self.state.encode_f32(pcm, samples, out)
    }

    fn lookahead(&self) -> usize {
        usize::try_from(self.state.get(EncoderReading::Lookahead)).unwrap_or(0)
    }

    fn set_complexity(&mut self, complexity: u8) -> Result<(), CodecError> {
        config::complexity(complexity)?;
        self.config.complexity = complexity;
        self.set(EncoderSetting::Complexity, complexity.into());
        Ok(())
    }

    fn set_mdct_only(&mut self, on: bool) -> Result<(), CodecError> {
        self.mdct_only = on;
        self.set(EncoderSetting::ForceMode, sys::mode_code(on));
        Ok(())
    }

    fn set_bitrate(&mut self, bits_per_second: u32) -> Result<(), CodecError> {
        config::bitrate(bits_per_second)?;
        self.config.bitrate = bits_per_second;
        self.set(EncoderSetting::Bitrate, bits_per_second as i32);
        Ok(())
    }

    fn set_expected_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        config::expected_loss(percent)?;
        self.config.expected_loss = percent;
        self.set(EncoderSetting::ExpectedLoss, percent.into());
        Ok(())
    }

    /// Initialises the memory anew: libopus' own reset leaves a little behind (whether FEC was on at the last rate,
    /// how much it sounded like a voice), and packets would differ from a new encoder's.
    fn reset(&mut self) {
        let done = self.state.init(sys::application_code(self.config.application));
        debug_assert_eq!(done, Ok(()), "what was built once can be built again");
        self.apply();
    }
}

/// Frames are counted in steps of 2.5 ms, the shortest.
const STEPS_PER_SECOND: usize = 400;

/// Every duration of a frame, in steps.
const FRAMES: [usize; 9] = [1, 2, 4, 8, 16, 24, 32, 40, 48];

const fn is_frame(steps: usize) -> bool {
    const MASK: u64 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 16 | 1 << 24 | 1 << 32 | 1 << 40 | 1 << 48;
    steps < 64 && MASK >> steps & 1 != 0
}

/// The longest frame that is not longer, or else the shortest there is.
fn frame_below(steps: usize) -> usize {
    FRAMES.into_iter().rev().find(|&frame| frame <= steps).unwrap_or(FRAMES[0])
}

/// Below this libopus codes no sound at all, but a packet that says so.
const fn least_bytes(steps: usize) -> usize {
    match STEPS_PER_SECOND / steps {
        50.. => 3,
        frames_per_second => 300usize.div_ceil(frames_per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_and_the_list_of_frames_agree() {
        for steps in 0..200 {
            assert_eq!(is_frame(steps), FRAMES.contains(&steps), "{steps}");
        }
    }
}
