//! libopus with nothing of ours around it, to hold our own against: in the benchmark that compares the whole path
//! with the bare encoder, and in the tests that compare [`evenkeel_core::framing`] with libopus' parser and
//! repacketizer. Nothing on the audio path uses this.
#![allow(unsafe_code)]

use core::ffi::c_int;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use evenkeel_core::error::CodecError;
use evenkeel_core::framing::{Bandwidth, MAX_FRAMES};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use opusic_sys as ffi;

use crate::config::{EncoderConfig, RateControl};
use crate::sys::{self, checked};

/// The C encoder as a C program would use it: created and freed by libopus, one frame size, no check but the one that
/// keeps it sound.
pub struct BareEncoder {
    state: NonNull<ffi::OpusEncoder>,
    frame: usize,
    channels: usize,
}

impl BareEncoder {
    /// Creates the C encoder with the settings of `config`, for frames of `duration`.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn new(config: &EncoderConfig, duration: FrameDuration) -> Result<Self, CodecError> {
        let rate = config.sample_rate.hz() as i32;
        let channels = config.channels.count();
        let application = sys::application_code(config.application);
        let mut code = 0;
        // SAFETY: `code` outlives the call.
        let state = unsafe { ffi::opus_encoder_create(rate, channels as c_int, application, &raw mut code) };
        checked(code)?;
        let state = NonNull::new(state).ok_or(CodecError::Internal { code, reason: "out of memory" })?;
        let encoder = Self { state, frame: duration.samples_at(config.sample_rate), channels };
        for (request, value) in [
            (ffi::OPUS_SET_BITRATE_REQUEST, config.bitrate as i32),
            (ffi::OPUS_SET_COMPLEXITY_REQUEST, config.complexity.into()),
            (ffi::OPUS_SET_VBR_REQUEST, (config.rate_control != RateControl::Cbr).into()),
            (
                ffi::OPUS_SET_VBR_CONSTRAINT_REQUEST,
                (config.rate_control == RateControl::ConstrainedVbr).into(),
            ),
            (ffi::OPUS_SET_INBAND_FEC_REQUEST, config.inband_fec.into()),
            (ffi::OPUS_SET_PACKET_LOSS_PERC_REQUEST, config.expected_loss.into()),
            (ffi::OPUS_SET_DTX_REQUEST, config.dtx.into()),
            (ffi::OPUS_SET_MAX_BANDWIDTH_REQUEST, sys::bandwidth_code(config.max_bandwidth)),
            (ffi::OPUS_SET_SIGNAL_REQUEST, sys::signal_code(config.signal)),
        ] {
            // SAFETY: the state was just created; each of these requests takes one `opus_int32`.
            checked(unsafe { ffi::opus_encoder_ctl(encoder.state.as_ptr(), request, value) })?;
        }
        Ok(encoder)
    }

    /// `opus_encode_float`: interleaved samples of one frame in, what libopus returns out (bytes, or an error below
    /// zero).
    ///
    /// # Panics
    /// If `pcm` has not the samples of one frame.
    #[inline]
    pub fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> i32 {
        assert_eq!(pcm.len(), self.frame * self.channels, "one frame");
        // SAFETY: the state is alive; `pcm` has exactly the samples announced, `out` the bytes.
        unsafe {
            ffi::opus_encode_float(
                self.state.as_ptr(),
                pcm.as_ptr(),
                self.frame as c_int,
                out.as_mut_ptr(),
                out.len() as i32,
            )
        }
    }

    /// `OPUS_SET_BITRATE`, in bits per second.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError> {
        let (request, value) = (ffi::OPUS_SET_BITRATE_REQUEST, bitrate as i32);
        // SAFETY: the state is alive; the request takes one `opus_int32`.
        checked(unsafe { ffi::opus_encoder_ctl(self.state.as_ptr(), request, value) }).map(|_| ())
    }

    /// `OPUS_GET_LOOKAHEAD`: samples per channel by which coding delays the sound.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn lookahead(&self) -> Result<usize, CodecError> {
        let mut samples = 0i32;
        // SAFETY: the state is alive; the request writes one `opus_int32`, which outlives the call.
        let code = unsafe {
            ffi::opus_encoder_ctl(self.state.as_ptr(), ffi::OPUS_GET_LOOKAHEAD_REQUEST, &raw mut samples)
        };
        checked(code).and_then(|_| checked(samples))
    }

    /// `OPUS_RESET_STATE`, which leaves a little behind.
    pub fn reset(&mut self) {
        // SAFETY: the state is alive; the request takes nothing.
        unsafe { ffi::opus_encoder_ctl(self.state.as_ptr(), ffi::OPUS_RESET_STATE) };
    }
}

impl Drop for BareEncoder {
    fn drop(&mut self) {
        // SAFETY: libopus created it, and it is not used after this.
        unsafe { ffi::opus_encoder_destroy(self.state.as_ptr()) };
    }
}

/// The C decoder as a C program would use it.
pub struct BareDecoder {
    state: NonNull<ffi::OpusDecoder>,
    channels: usize,
}

impl BareDecoder {
    /// Creates the C decoder.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn new(rate: SampleRate, channels: Channels) -> Result<Self, CodecError> {
        let channels = channels.count();
        let mut code = 0;
        // SAFETY: `code` outlives the call.
        let state = unsafe { ffi::opus_decoder_create(rate.hz() as i32, channels as c_int, &raw mut code) };
        checked(code)?;
        let state = NonNull::new(state).ok_or(CodecError::Internal { code, reason: "out of memory" })?;
        Ok(Self { state, channels })
    }

    /// `opus_decode_float`: a packet in, interleaved samples out. Returns samples per channel.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        self.decode_or_recover(packet, out, false)
    }

    /// The same for the packet before this one, which was lost: its redundancy, or else concealment. Fills `out`.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn decode_fec(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        self.decode_or_recover(packet, out, true)
    }

    /// The same for a packet that was lost without anything after it. Fills `out`.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn conceal(&mut self, out: &mut [f32]) -> Result<usize, CodecError> {
        self.decode_or_recover(&[], out, false)
    }

    fn decode_or_recover(
        &mut self,
        packet: &[u8],
        out: &mut [f32],
        is_fec: bool,
    ) -> Result<usize, CodecError> {
        let data = if packet.is_empty() { ptr::null() } else { packet.as_ptr() };
        let samples = out.len() / self.channels;
        // SAFETY: the state is alive; the packet, null if there is none, has the bytes announced, and `out` room for
        // the samples of every channel.
        checked(unsafe {
            ffi::opus_decode_float(
                self.state.as_ptr(),
                data,
                packet.len() as i32,
                out.as_mut_ptr(),
                samples as c_int,
                is_fec.into(),
            )
        })
    }
}

impl Drop for BareDecoder {
    fn drop(&mut self) {
        // SAFETY: libopus created it, and it is not used after this.
        unsafe { ffi::opus_decoder_destroy(self.state.as_ptr()) };
    }
}

/// `opus_packet_parse`: the frames of a packet.
///
/// # Errors
/// What libopus answers.
pub fn parse(packet: &[u8]) -> Result<Vec<&[u8]>, CodecError> {
    let mut frames = [ptr::null::<u8>(); MAX_FRAMES];
    let mut sizes = [0i16; MAX_FRAMES];
    // SAFETY: the packet has the bytes announced; the two arrays have the 48 places that libopus may fill.
    let count = checked(unsafe {
        ffi::opus_packet_parse(
            packet.as_ptr(),
            packet.len() as i32,
            ptr::null_mut(),
            frames.as_mut_ptr(),
            sizes.as_mut_ptr(),
            ptr::null_mut(),
        )
    })?;
    let places = frames.iter().zip(sizes).take(count);
    Ok(places
        .map(|(frame, size)| &packet[frame.addr() - packet.as_ptr().addr()..][..size as usize])
        .collect())
}

/// `opus_packet_get_nb_samples`: samples per channel of a packet at `rate`.
///
/// # Errors
/// What libopus answers.
pub fn samples(packet: &[u8], rate: SampleRate) -> Result<usize, CodecError> {
    let (len, hz) = (packet.len() as i32, rate.hz() as i32);
    // SAFETY: the packet has the bytes announced.
    checked(unsafe { ffi::opus_packet_get_nb_samples(packet.as_ptr(), len, hz) })
}

/// `opus_packet_get_bandwidth`, as libopus numbers them; none of an empty packet.
#[must_use]
pub fn bandwidth(packet: &[u8]) -> Option<Bandwidth> {
    let first = packet.first()?;
    // SAFETY: it reads one byte, which is there.
    sys::bandwidth_of(unsafe { ffi::opus_packet_get_bandwidth(first) })
}

/// `opus_packet_has_lbrr`: whether a packet carries redundancy for the one before it.
///
/// # Errors
/// What libopus answers; [`CodecError::Internal`] for an empty packet, whose first byte libopus would read.
pub fn has_lbrr(packet: &[u8]) -> Result<bool, CodecError> {
    if packet.is_empty() {
        return checked(ffi::OPUS_INVALID_PACKET).map(|_| false);
    }
    // SAFETY: the packet has the bytes announced, and at least one.
    checked(unsafe { ffi::opus_packet_has_lbrr(packet.as_ptr(), packet.len() as i32) }).map(|yes| yes != 0)
}

/// `opus_packet_unpad`: drops padding, and what extensions are in it, in place. Returns the bytes that are left.
///
/// # Errors
/// What libopus answers.
pub fn unpad(packet: &mut [u8]) -> Result<usize, CodecError> {
    // SAFETY: the packet has the bytes announced.
    checked(unsafe { ffi::opus_packet_unpad(packet.as_mut_ptr(), packet.len() as i32) })
}

/// libopus' repacketizer. Memory is taken at construction.
pub struct BareRepacketizer(NonNull<ffi::OpusRepacketizer>);

impl BareRepacketizer {
    /// Creates the C repacketizer.
    ///
    /// # Errors
    /// [`CodecError::Internal`] if out of memory.
    pub fn new() -> Result<Self, CodecError> {
        // SAFETY: it takes nothing.
        let state = unsafe { ffi::opus_repacketizer_create() };
        NonNull::new(state)
            .map(Self)
            .ok_or(CodecError::Internal { code: ffi::OPUS_ALLOC_FAIL, reason: "out of memory" })
    }

    /// Takes up packets, to be put out anew by what is returned. Forgets what was taken up before.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn load<'a>(&'a mut self, packets: &[&'a [u8]]) -> Result<Loaded<'a>, CodecError> {
        let state = self.0.as_ptr();
        // SAFETY: the state is alive, and is only being initialised.
        unsafe { ffi::opus_repacketizer_init(state) };
        for packet in packets {
            // SAFETY: the packet has the bytes announced, and outlives what is returned, which alone reads it.
            checked(unsafe { ffi::opus_repacketizer_cat(state, packet.as_ptr(), packet.len() as i32) })?;
        }
        Ok(Loaded { state, packets: PhantomData })
    }
}

impl Drop for BareRepacketizer {
    fn drop(&mut self) {
        // SAFETY: libopus created it, and it is not used after this.
        unsafe { ffi::opus_repacketizer_destroy(self.0.as_ptr()) };
    }
}

/// A repacketizer that holds packets.
pub struct Loaded<'a> {
    state: *mut ffi::OpusRepacketizer,
    packets: PhantomData<&'a [u8]>,
}

impl Loaded<'_> {
    /// How many frames it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        // SAFETY: the state is alive while the borrow lasts.
        checked(unsafe { ffi::opus_repacketizer_get_nb_frames(self.state) }).unwrap_or(0)
    }

    /// `opus_repacketizer_out_range`: writes frames `begin..end` as one packet. Returns bytes written.
    ///
    /// # Errors
    /// What libopus answers.
    pub fn out(&mut self, begin: usize, end: usize, out: &mut [u8]) -> Result<usize, CodecError> {
        // SAFETY: the state and the packets it points into are alive while the borrow lasts; `out` has the bytes
        // announced; libopus checks the range.
        checked(unsafe {
            ffi::opus_repacketizer_out_range(
                self.state,
                begin as c_int,
                end as c_int,
                out.as_mut_ptr(),
                out.len() as i32,
            )
        })
    }
}
