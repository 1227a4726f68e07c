//! What hearing costs: the decoder alone, and the whole receiver around it.

use std::hint::black_box;

use evenkeel_core::codec::Decoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::receiver::Receiver;
use evenkeel_core::seal::PayloadKind;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_opus::OpusDecoder;
use serde::Serialize;

use crate::race::race;
use crate::setup::{self, CODING, SUITE};
use crate::speech::Speech;

const WARM_UP: usize = 50;

/// What 20 ms cost at one output rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReceiveFigures {
    /// Samples a second of what comes out.
    pub output_hz: u32,
    /// Of the decoder, in hertz; a resampler stands behind it where that differs.
    pub decoder_hz: u32,
    /// The decoder alone, in microseconds, when nothing interrupts.
    pub decode_us: f64,
    /// Datagram to samples: open, jitter buffer, decode, resample.
    pub receive_us: f64,
}

/// Receives `frames` packets of 20 ms without loss.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
pub fn measure(speech: &Speech, frames: usize) -> Result<Vec<ReceiveFigures>, CodecError> {
    let packets = setup::packets(speech, CODING, 500)?;
    [
        (SampleRate::HZ_16000, SampleRate::HZ_16000),
        (SampleRate::HZ_24000, SampleRate::HZ_24000),
        (SampleRate::HZ_44100, SampleRate::HZ_48000),
        (SampleRate::HZ_48000, SampleRate::HZ_48000),
    ]
    .into_iter()
    .map(|(output, rate)| one(&packets, frames, output, rate))
    .collect()
}

fn one(
    packets: &[Vec<u8>],
    frames: usize,
    output: SampleRate,
    rate: SampleRate,
) -> Result<ReceiveFigures, CodecError> {
    let decoder = || OpusDecoder::new(rate, Channels::Mono);
    let mut alone = decoder()?;
    let opener = setup::opener(SUITE, PayloadKind::Opus);
    let mut receiver = Receiver::new(opener, JitterConfig::default(), decoder()?, output)?;
    let mut datagrams = seal_all(packets, WARM_UP + frames);
    let mut out = vec![0.0; receiver.max_output()];
    let mut decoded = vec![0.0; FrameDuration::MS_120.samples_at(rate)];
    let [decode, receive] = race(
        WARM_UP,
        frames,
        [
            &mut |lap| {
                // Another packet than the receiver's: whoever comes second to one finds its branches predicted.
                let packet = &packets[(lap + packets.len() / 2) % packets.len()];
                let samples = alone.decode(packet, &mut decoded);
                black_box(samples.expect("a packet of ours"));
            },
            &mut |lap| {
                let now = Time::from_millis(20 * lap as u64);
                receiver.receive(&mut datagrams[lap], now).expect("just sealed");
                black_box(receiver.pull(now, &mut out).expect("there is room").samples);
            },
        ],
    );
    Ok(ReceiveFigures {
        output_hz: output.hz(),
        decoder_hz: rate.hz(),
        decode_us: decode.typical_us(),
        receive_us: receive.typical_us(),
    })
}

fn seal_all(packets: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    let mut sealer = setup::sealer(SUITE);
    let seal = |i: usize| {
        let packet = &packets[i % packets.len()];
        let mut datagram = [&[0; HEADER_LEN], packet.as_slice()].concat();
        sealer.seal(&mut datagram, packet.len(), 20 * i as u64).expect("it fits");
        datagram
    };
    (0..count).map(seal).collect()
}
