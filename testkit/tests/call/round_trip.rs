//! Every rate, channel count, frame duration and suite.

use std::f64::consts::TAU;

use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::resample::Resampler;
use evenkeel_core::seal::Suite;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_testkit::voice::{segmental_snr_db, snr_db, synthetic};

use super::{GOOD, LOOKAHEAD, MONO_48, decoder, encoder, listen, patient, send, sender};

const SECONDS: f64 = 0.8;

/// A chord within telephone bandwidth; on the right quieter, and with another tone.
fn chord(seconds: f64, channel: usize) -> f32 {
    let tone = |hz: f64| (TAU * hz * seconds).sin();
    let left = 0.2 * tone(300.0) + 0.1 * tone(600.0) + 0.1 * tone(900.0);
    (if channel == 0 { left } else { 0.6 * left + 0.1 * tone(450.0) }) as f32
}

/// Samples as they sound `late` seconds after the chord began.
fn samples(rate: SampleRate, channels: Channels, late: f64, range: std::ops::Range<usize>) -> Vec<f32> {
    range
        .flat_map(|n| {
            let seconds = n as f64 / f64::from(rate.hz()) - late;
            (0..channels.count()).map(move |channel| chord(seconds, channel))
        })
        .collect()
}

fn resampling_delay(from: SampleRate, to: SampleRate) -> f64 {
    Resampler::new(from, to, Channels::Mono).delay() as f64 / f64::from(to.hz())
}

#[test]
fn every_rate_channel_count_duration_and_suite_comes_back() {
    let mut worst = (f64::INFINITY, String::new());
    for rate in SampleRate::ALL {
        for channels in [Channels::Mono, Channels::Stereo] {
            for (i, frame) in FrameDuration::ALL.into_iter().enumerate() {
                for (j, suite) in Suite::ALL.into_iter().enumerate() {
                    let sample = [SampleFormat::F32, SampleFormat::I16][(i + j) % 2];
                    let snr = round_trip(Format { rate, channels, sample }, frame, suite);
                    if snr < worst.0 {
                        worst = (snr, format!("{rate}, {channels:?}, {sample:?}, {frame}, {suite:?}"));
                    }
                }
            }
        }
    }
    println!("worst: {worst:?}");
    assert!(worst.0 > BOUND_DB, "{worst:?}");
}

/// At 128 kb/s; packets of 120 ms get less, as they must fit a datagram.
const BOUND_DB: f64 = 20.0;

/// The SNR of the second half, in which the codec has settled.
fn round_trip(input: Format, frame: FrameDuration, suite: Suite) -> f64 {
    let Format { rate, channels, sample } = input;
    let coded = if rate.is_opus() { rate } else { SampleRate::HZ_48000 };
    let config = evenkeel_opus::EncoderConfig { sample_rate: coded, channels, ..GOOD };
    let mut sender = sender(encoder(config), input, frame, suite);
    let mut receiver = patient(decoder(config), rate, suite);

    let given = samples(rate, channels, 0.0, 0..(SECONDS * f64::from(rate.hz())) as usize);
    let ints: Vec<i16> = given.iter().map(|s| (s * 32_768.0).round() as i16).collect();
    let all = if sample == SampleFormat::F32 { Samples::F32(&given) } else { Samples::I16(&ints) };
    let mut sent = Vec::new();
    let mut take = |sealed: evenkeel_core::seal::Sealed<'_>| {
        assert_eq!(sealed.duration, frame.as_duration());
        sent.push((Time::ZERO + sealed.media_time, sealed.datagram.to_vec()));
    };
    // In pieces that fit nothing.
    let (mut rest, mut piece) = (all, 2 * 217);
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(piece);
        sender.push(head, &mut take).unwrap();
        (rest, piece) = (tail, piece + 2);
    }
    sender.flush(&mut take).unwrap();

    let heard = listen(&mut receiver, sent);
    assert!(heard.is_all_packets(), "{input:?}, {frame}: {:?}", receiver.jitter());
    let late = LOOKAHEAD as f64 / 48_000.0 + resampling_delay(rate, coded) + resampling_delay(coded, rate);
    let count = (heard.samples.len() / channels.count()).min(given.len() / channels.count());
    let meant = samples(rate, channels, late, count / 2..count);
    snr_db(&meant, &heard.samples[count / 2 * channels.count()..count * channels.count()])
}

#[test]
fn a_voice_keeps_its_shape_from_syllable_to_syllable() {
    let voice = synthetic(1.5);
    for frame in FrameDuration::ALL {
        let mut sender = sender(encoder(GOOD), MONO_48, frame, Suite::Aes128Gcm);
        let sent = send(&mut sender, &voice);
        let mut receiver = patient(decoder(GOOD), SampleRate::HZ_48000, Suite::Aes128Gcm);
        let heard = listen(&mut receiver, sent);
        let snr = segmental_snr_db(&voice, &heard.samples[LOOKAHEAD..]);
        println!("{frame}: {snr:.1} dB");
        assert!(snr > 15.0, "{frame}: segmental SNR {snr:.1} dB");
    }
}
