//! What quality costs: the rungs of the ladder, ways to take 48 kHz in, durations of packets.

use std::hint::black_box;

use evenkeel_core::codec::Encoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::relay::DownRelay;
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_opus::{EncoderConfig, OpusEncoder};
use serde::Serialize;

use crate::race::{Times, race};
use crate::setup::{self, CODING, SUITE};
use crate::speech::Speech;

/// One way to send speech, from samples to sealed packets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way {
    /// What it is.
    pub name: String,
    /// What 20 ms of speech cost, in microseconds, when nothing interrupts.
    pub us_per_20ms: f64,
    /// That over the same of the first way of the list; the median over blocks of 50 laps.
    pub relative: f64,
    /// How long a sample takes at most from being pushed to the end of the packet it leaves in, in milliseconds.
    pub delay_ms: f64,
    /// What packets carry, in kilobits a second.
    pub kbps: f64,
}

const FRAME: FrameDuration = FrameDuration::MS_20;
const WARM_UP: usize = 50;

/// Every rung a ladder may have, `full/10` first. They take turns, for `frames` frames each.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
pub fn rungs(speech: &Speech, frames: usize) -> Result<Vec<Way>, CodecError> {
    // Below `full/0` come `medium`, `minimal`, `emergency`, and nothing.
    let settings = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map(|complexity| (complexity, 0));
    let below = [1, 2, 3].map(|position| (0, position));
    let senders = settings.into_iter().chain(below).map(|(complexity, position)| {
        let encoder = OpusEncoder::new(EncoderConfig { complexity, ..CODING })?;
        setup::sender(encoder, complexity, position, FRAME)
    });
    let mut senders: Vec<_> = senders.collect::<Result<_, _>>()?;
    let senders: &mut [_; 14] = senders.as_mut_slice().try_into().expect("eleven and three");
    let times = race_senders(speech, frames, senders);
    let names = senders.each_ref().map(|s| s.ladder().get(s.position()).to_string());
    Ok(ways(names, senders, &times, 1))
}

/// Ways from 48 kHz to Opus: at 48 kHz with its bandwidth bounded to what 24 kHz can hold, through our resampler to
/// 24 kHz, and at 48 kHz unbounded; the same at 16 kHz.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
pub fn inputs(speech: &Speech, frames: usize) -> Result<Vec<Way>, CodecError> {
    let at = |sample_rate, max_bandwidth| -> Result<_, CodecError> {
        let encoder = OpusEncoder::new(EncoderConfig { sample_rate, max_bandwidth, ..CODING })?;
        setup::sender(encoder, CODING.complexity, 0, FRAME)
    };
    let mut senders = [
        at(SampleRate::HZ_48000, Bandwidth::SuperWide)?,
        at(SampleRate::HZ_24000, Bandwidth::SuperWide)?,
        at(SampleRate::HZ_48000, Bandwidth::Wide)?,
        at(SampleRate::HZ_16000, Bandwidth::Wide)?,
        at(SampleRate::HZ_48000, Bandwidth::Full)?,
    ];
    let times = race_senders(speech, frames, &mut senders);
    let names = [
        "48 kHz, bounded to 12 kHz",
        "resampled to 24 kHz",
        "48 kHz, bounded to 8 kHz",
        "resampled to 16 kHz",
        "48 kHz, unbounded",
    ];
    Ok(ways(names.map(str::to_owned), &senders, &times, 1))
}

/// Durations of packets, 20 ms first; the last way codes 20 ms and joins three packets to one of 60 ms.
///
/// # Errors
/// [`CodecError`] if the codec cannot be built.
pub fn durations(speech: &Speech, frames: usize) -> Result<Vec<Way>, CodecError> {
    const LAP: FrameDuration = FrameDuration::MS_60;
    let of = |frame| setup::sender(OpusEncoder::new(CODING)?, CODING.complexity, 0, frame);
    let mut senders = [of(FRAME)?, of(FrameDuration::MS_10)?, of(LAP)?];
    let mut encoder = OpusEncoder::new(CODING)?;
    let mut relay = DownRelay::new(LAP, setup::sealer(SUITE));
    let (mut packet, mut bytes, mut laps) = ([0; 1_500], 0, 0);
    let [a, b, c] = &mut senders;
    let [twenty, ten, sixty, joined] = race(
        WARM_UP,
        frames.div_ceil(3),
        [
            &mut |lap| push(a, speech.frame(lap, LAP)),
            &mut |lap| push(b, speech.frame(lap, LAP)),
            &mut |lap| push(c, speech.frame(lap, LAP)),
            &mut |lap| {
                for samples in speech.frame(lap, LAP).chunks(FRAME.samples_at(CODING.sample_rate)) {
                    let len = encoder.encode(samples, &mut packet).expect("a frame");
                    bytes += len;
                    let pushed = relay.push(&packet[..len], |sealed| {
                        black_box(sealed.datagram);
                    });
                    pushed.expect("a packet of ours");
                }
                laps += 1;
            },
        ],
    );
    let names = senders.each_ref().map(|sender| sender.frame_duration().to_string());
    let delay_ms = senders[2].delay().as_secs_f64() * 1e3;
    let relative = joined.ratio_to(&twenty).median;
    let mut list = ways(names, &senders, &[twenty, ten, sixty], 3);
    list.push(Way {
        name: "3 x 20 ms joined".to_owned(),
        us_per_20ms: joined.typical_us() / 3.0,
        relative,
        delay_ms,
        kbps: bytes as f64 * 8.0 / (f64::from(laps) * 60.0),
    });
    Ok(list)
}

fn race_senders<const N: usize>(
    speech: &Speech,
    frames: usize,
    senders: &mut [Sender<OpusEncoder>; N],
) -> [Times; N] {
    let mut turns = senders.each_mut().map(|sender| move |lap| push(sender, speech.frame(lap, FRAME)));
    race(WARM_UP, frames, turns.each_mut().map(|turn| turn as &mut dyn FnMut(usize)))
}

fn push(sender: &mut Sender<OpusEncoder>, samples: &[f32]) {
    let pushed = sender.push(samples.into(), |sealed| {
        black_box(sealed.datagram);
    });
    debug_assert_eq!(pushed, Ok(()));
}

/// A line for each; a lap was `per_lap` times 20 ms.
fn ways<const N: usize>(
    names: [String; N],
    senders: &[Sender<OpusEncoder>; N],
    times: &[Times; N],
    per_lap: u32,
) -> Vec<Way> {
    let mut list = Vec::with_capacity(N + 1);
    for ((name, sender), own) in names.into_iter().zip(senders).zip(times) {
        let counters = sender.counters();
        let frame_ms = sender.frame_duration().as_millis_f64();
        list.push(Way {
            name,
            us_per_20ms: own.typical_us() / f64::from(per_lap),
            relative: own.ratio_to(&times[0]).median,
            delay_ms: sender.delay().as_secs_f64() * 1e3,
            kbps: counters.payload_bytes as f64 * 8.0 / (counters.frames as f64 * frame_ms),
        });
    }
    list
}
