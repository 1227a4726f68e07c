//! What several measurements build alike.

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::ladder::{Ladder, SinkCapability};
use evenkeel_core::pcm::{Format, SampleFormat};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{EncoderConfig, OpusEncoder};

use crate::speech::Speech;

/// How a live call comes in.
pub(crate) const INPUT: Format =
    Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::F32 };

/// How it is coded: VOIP, 24 kb/s, complexity 5, from 48 kHz.
pub(crate) const CODING: EncoderConfig = EncoderConfig {
    sample_rate: SampleRate::HZ_48000,
    channels: Channels::Mono,
    application: evenkeel_opus::Application::Voip,
    bitrate: 24_000,
    complexity: 5,
    rate_control: evenkeel_opus::RateControl::ConstrainedVbr,
    inband_fec: false,
    expected_loss: 0,
    dtx: false,
    max_bandwidth: Bandwidth::Full,
    signal: evenkeel_opus::Signal::Auto,
};

/// What deployed firmware speaks.
pub(crate) const SUITE: Suite = Suite::Aes128Ctr;

pub(crate) fn keys(suite: Suite) -> SessionKeys {
    let key: Vec<u8> = (0..suite.key_len() as u8).collect();
    SessionKeys::new(suite, &key, 0x0bad_cafe, b"bench").expect("a key of the suite's length")
}

pub(crate) fn sealer(suite: Suite) -> Sealer {
    Sealer::new(&keys(suite), Direction::Downlink, 1)
}

pub(crate) fn opener(suite: Suite, kind: PayloadKind) -> Opener {
    Opener::new(&keys(suite), Direction::Downlink, kind)
}

/// A sender to a sink that takes anything, at the rung of its ladder that `position` says.
pub(crate) fn sender<E: Encoder>(
    encoder: E,
    complexity: u8,
    position: usize,
    frame: FrameDuration,
) -> Result<Sender<E>, CodecError> {
    let mut sender = sender_with(encoder, complexity, frame, sealer(SUITE))?;
    sender.set_position(position);
    Ok(sender)
}

pub(crate) fn sender_with<E: Encoder>(
    encoder: E,
    complexity: u8,
    frame: FrameDuration,
    sealer: Sealer,
) -> Result<Sender<E>, CodecError> {
    let ladder = Ladder::new(complexity, SinkCapability { pcm: true, clear: true }, true);
    Ok(Sender::new(INPUT, frame, ladder, encoder, sealer)?)
}

/// Speech as Opus packets of 20 ms.
pub(crate) fn packets(
    speech: &Speech,
    coding: EncoderConfig,
    count: usize,
) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut encoder = OpusEncoder::new(coding)?;
    let mut packet = [0; 1_500];
    let mut code = |frame: &[f32]| {
        let len = encoder.encode(frame, &mut packet)?;
        Ok(packet[..len].to_vec())
    };
    (0..count).map(|i| code(speech.frame(i, FrameDuration::MS_20))).collect()
}
