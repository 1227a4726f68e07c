//! How often the hot paths allocate. The program must have `evenkeel_testkit::alloc::CountingAllocator` as its global
//! allocator.

use std::hint::black_box;
use std::time::Duration;

use evenkeel_core::error::CodecError;
use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::receiver::Receiver;
use evenkeel_core::relay::{DownRelay, UpRelay};
use evenkeel_core::seal::{PayloadKind, Suite};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_opus::{EncoderConfig, OpusDecoder, OpusEncoder};
use evenkeel_testkit::alloc::count_allocations;
use evenkeel_testkit::network::{Jitter, Loss, Network, NetworkConfig};
use serde::Serialize;

use crate::setup::{self, CODING};
use crate::speech::Speech;

/// Heap allocations a frame of 20 ms, after the first second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Allocations {
    /// Samples to sealed packets, on every rung of the ladder.
    pub sender: f64,
    /// Datagrams to samples, over a network that loses, delays, reorders and duplicates, with redundancy.
    pub receiver: f64,
    /// Opus packets to datagrams of 60 ms, and those to packets of 20 ms.
    pub relay: f64,
}

/// Frames of the first second, which may allocate.
const WARM_UP: usize = 50;
/// Frames in which allocations are counted.
const FRAMES: usize = 500;

/// Counts.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
///
/// # Panics
/// If `CountingAllocator` is not the global allocator.
pub fn measure(speech: &Speech, suite: Suite) -> Result<Allocations, CodecError> {
    Ok(Allocations {
        sender: sender(speech, suite)?,
        receiver: receiver(speech, suite)?,
        relay: relay(speech, suite)?,
    })
}

const FRAME: FrameDuration = FrameDuration::MS_20;

fn sender(speech: &Speech, suite: Suite) -> Result<f64, CodecError> {
    let resampled = EncoderConfig { sample_rate: SampleRate::HZ_16000, ..CODING };
    let mut total = 0;
    for coding in [CODING, resampled] {
        let mut sender = setup::sender_with(OpusEncoder::new(coding)?, 5, FRAME, setup::sealer(suite))?;
        let rungs = sender.ladder().rungs().len();
        let mut push = |i: usize| {
            sender.set_position(i / 10 % rungs);
            let pushed = sender.push(speech.frame(i, FRAME).into(), |sealed| {
                black_box(sealed.datagram);
            });
            pushed.expect("frames of ours");
        };
        (0..WARM_UP).for_each(&mut push);
        total += count_allocations(|| (WARM_UP..WARM_UP + FRAMES).for_each(&mut push));
    }
    Ok(total as f64 / (2 * FRAMES) as f64)
}

fn receiver(speech: &Speech, suite: Suite) -> Result<f64, CodecError> {
    let coding = EncoderConfig { inband_fec: true, expected_loss: 20, dtx: true, ..CODING };
    let mut sender = setup::sender_with(OpusEncoder::new(coding)?, 5, FRAME, setup::sealer(suite))?;
    let mut network = Network::new(
        1,
        NetworkConfig {
            loss: Loss::Bursty { p: 0.1, mean_burst: 2.0 },
            delay: Duration::from_millis(30),
            jitter: Jitter::Exponential(Duration::from_millis(8)),
            reorder: 0.02,
            duplicate: 0.02,
            ..NetworkConfig::default()
        },
    )
    .expect("shares within their range");
    let mut arrivals = Vec::new();
    let frames = WARM_UP + FRAMES;
    for i in 0..frames {
        let now = Time::from_millis(20 * i as u64);
        let pushed = sender.push(speech.frame(i, FRAME).into(), |sealed| {
            network.send(now, sealed.datagram);
        });
        pushed.expect("frames of ours");
    }
    while let Some(at) = network.next_time() {
        arrivals.extend(network.poll(at));
    }
    let decoder = OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono)?;
    let opener = setup::opener(suite, PayloadKind::Opus);
    let mut receiver = Receiver::new(opener, JitterConfig::default(), decoder, SampleRate::HZ_44100)?;
    let mut out = vec![0.0; receiver.max_output()];
    let mut arrivals = arrivals.into_iter().peekable();
    let (mut now, mut taken) = (Time::ZERO, Vec::with_capacity(2 * frames));
    let mut until = |end: Time| {
        while now < end {
            while let Some((at, mut datagram)) = arrivals.next_if(|(at, _)| *at <= now) {
                // What is replayed is refused, and counted as that.
                let _ = black_box(receiver.receive(&mut datagram, at));
                // Freed after it was counted, with the rest.
                taken.push(datagram);
            }
            let pulled = receiver.pull(now, &mut out).expect("there is room");
            now = now + pulled.duration;
        }
    };
    until(Time::from_millis(20 * WARM_UP as u64));
    let count = count_allocations(|| until(Time::from_millis(20 * frames as u64)));
    let counters = receiver.counters();
    assert!(counters.recovered > 0 && counters.concealed > 0, "the network lost nothing: {counters:?}");
    Ok(count as f64 / FRAMES as f64)
}

fn relay(speech: &Speech, suite: Suite) -> Result<f64, CodecError> {
    let packets = setup::packets(speech, CODING, WARM_UP + FRAMES)?;
    let mut down = DownRelay::new(FrameDuration::MS_60, setup::sealer(suite));
    let mut up = UpRelay::new(setup::opener(suite, PayloadKind::Opus), FRAME);
    let mut datagram = [0; HEADER_LEN + 1_500];
    let mut pass = |packet: &[u8]| {
        let pushed = down.push(packet, |sealed| {
            let datagram = &mut datagram[..sealed.datagram.len()];
            datagram.copy_from_slice(sealed.datagram);
            let opened = up.push(datagram, |packet, _| {
                black_box(packet);
            });
            opened.expect("just sealed");
        });
        pushed.expect("packets of ours");
    };
    let (first, rest) = packets.split_at(WARM_UP);
    first.iter().for_each(|packet| pass(packet));
    let count = count_allocations(|| rest.iter().for_each(|packet| pass(packet)));
    Ok(count as f64 / FRAMES as f64)
}
