//! What goes in comes out: every rate, channel count, frame duration and application.
#![allow(clippy::unwrap_used)]

use evenkeel_core::codec::{Decoder, Encoder};
use evenkeel_core::framing::{Frames, Mode};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder};
use evenkeel_testkit::voice::snr_db;
use std::f32::consts::TAU;

const APPLICATIONS: [Application; 3] = [Application::Voip, Application::Audio, Application::LowDelay];

fn rates() -> impl Iterator<Item = SampleRate> {
    SampleRate::ALL.into_iter().filter(|rate| rate.is_opus())
}

/// A chord within telephone bandwidth, the right channel quieter and with one more tone.
fn chord(rate: SampleRate, channels: Channels, seconds: f32) -> Vec<f32> {
    let samples = (rate.hz() as f32 * seconds) as usize;
    (0..samples)
        .flat_map(|n| {
            let tone = |hz: f32| (TAU * hz * n as f32 / rate.hz() as f32).sin();
            let left = 0.2 * tone(440.0) + 0.1 * tone(880.0) + 0.1 * tone(1_320.0);
            [left, 0.7 * left + 0.1 * tone(660.0)].into_iter().take(channels.count())
        })
        .collect()
}

#[test]
fn every_rate_channel_count_duration_and_application_comes_back() {
    for rate in rates() {
        for channels in [Channels::Mono, Channels::Stereo] {
            for duration in FrameDuration::ALL {
                for application in APPLICATIONS {
                    let snr = round_trip(rate, channels, duration, application);
                    // SILK shapes its noise and filters below the voice, which turns the phase: less by this measure.
                    let bound = if application == Application::Voip { 6.0 } else { 20.0 };
                    assert!(
                        snr > bound,
                        "{rate}, {channels:?}, {duration}, {application:?}: SNR {snr:.1} dB"
                    );
                }
            }
        }
    }
}

/// Codes a second and gives the SNR of its second half, in which the codec has settled.
fn round_trip(
    rate: SampleRate,
    channels: Channels,
    duration: FrameDuration,
    application: Application,
) -> f64 {
    let config = EncoderConfig {
        sample_rate: rate,
        channels,
        application,
        bitrate: 64_000 * channels.count() as u32,
        ..EncoderConfig::default()
    };
    let mut encoder = OpusEncoder::new(config).unwrap();
    let mut decoder = OpusDecoder::new(rate, channels).unwrap();
    let meant = chord(rate, channels, 1.2);
    let (mut packet, mut heard) = (vec![0; MAX_PACKET_BYTES], Vec::new());
    let samples = duration.samples_at(rate);
    let mut frame = vec![0.0; samples * channels.count()];
    for pcm in meant.chunks_exact(frame.len()) {
        let len = encoder.encode(pcm, &mut packet).unwrap();
        let inside = Frames::parse(&packet[..len]).unwrap();
        assert_eq!(inside.duration_us(), duration.as_micros());
        assert_eq!(decoder.decode(&packet[..len], &mut frame), Ok(samples));
        assert_eq!(decoder.last_packet_samples(), samples);
        assert_eq!(decoder.final_range(), encoder.final_range());
        assert_eq!(decoder.bandwidth(), Some(inside.toc().bandwidth()));
        assert_eq!(encoder.bandwidth(), inside.toc().bandwidth());
        heard.extend_from_slice(&frame);
    }
    let delay = encoder.lookahead() * channels.count();
    let half = heard.len() / 2;
    snr_db(&meant[half - delay..], &heard[half..])
}

#[test]
fn the_lookahead_is_the_delay_and_low_delay_has_less() {
    let lookahead = |application| {
        let config = EncoderConfig { application, ..EncoderConfig::default() };
        OpusEncoder::new(config).unwrap().lookahead()
    };
    assert_eq!(lookahead(Application::Voip), 312);
    assert_eq!(lookahead(Application::Voip) - lookahead(Application::LowDelay), 48 * 4);
}

#[test]
fn integers_and_floats_code_the_same() {
    let channels = Channels::Stereo;
    let config = EncoderConfig { channels, ..EncoderConfig::default() };
    let (mut a, mut b) = (OpusEncoder::new(config).unwrap(), OpusEncoder::new(config).unwrap());
    let decoder = || OpusDecoder::new(SampleRate::HZ_48000, channels).unwrap();
    let (mut to_floats, mut to_ints) = (decoder(), decoder());
    let ints: Vec<i16> =
        chord(config.sample_rate, channels, 0.4).iter().map(|s| (s * 32_768.0).round() as i16).collect();
    let floats: Vec<f32> = ints.iter().map(|&s| f32::from(s) / 32_768.0).collect();
    for (ints, floats) in ints.chunks_exact(1_920).zip(floats.chunks_exact(1_920)) {
        let (mut of_ints, mut of_floats) = ([0; 1_276], [0; 1_276]);
        let len = a.encode_i16(ints, &mut of_ints).unwrap();
        assert_eq!(b.encode(floats, &mut of_floats), Ok(len));
        assert_eq!(of_ints, of_floats);

        let (mut floats, mut ints) = ([0.0; 1_920], [0; 1_920]);
        assert_eq!(to_floats.decode(&of_ints[..len], &mut floats), Ok(960));
        assert_eq!(to_ints.decode_i16(&of_ints[..len], &mut ints), Ok(960));
        for (&float, &int) in floats.iter().zip(&ints) {
            assert!((float * 32_768.0 - f32::from(int)).abs() <= 1.0);
        }
    }
}

#[test]
fn every_output_rate_hears_the_same_packets() {
    let meant = chord(SampleRate::HZ_48000, Channels::Mono, 1.0);
    for rate in rates() {
        let mut encoder =
            OpusEncoder::new(EncoderConfig { bitrate: 64_000, ..EncoderConfig::default() }).unwrap();
        let mut decoder = OpusDecoder::new(rate, Channels::Stereo).unwrap();
        let (mut packet, mut heard, mut frame) = ([0; 1_276], Vec::new(), vec![0.0; 1_920]);
        for pcm in meant.chunks_exact(960) {
            let len = encoder.encode(pcm, &mut packet).unwrap();
            let samples = decoder.decode(&packet[..len], &mut frame).unwrap();
            assert_eq!(samples, FrameDuration::MS_20.samples_at(rate));
            let stereo = &frame[..2 * samples];
            assert!(stereo.chunks_exact(2).all(|pair| pair[0] == pair[1]));
            heard.extend(stereo.iter().step_by(2));
        }
        let energy = |s: &[f32]| s.iter().map(|s| s * s).sum::<f32>() / s.len() as f32;
        let ratio = energy(&heard[heard.len() / 2..]) / energy(&meant[meant.len() / 2..]);
        assert!((0.8..1.25).contains(&ratio), "{rate}: energy ratio {ratio}");
    }
}

#[test]
fn gain_is_in_steps_of_a_256th_of_a_decibel_and_stays_over_a_reset() {
    let mut encoder = OpusEncoder::new(EncoderConfig::default()).unwrap();
    let decoder = || OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono).unwrap();
    let (mut plain, mut louder) = (decoder(), decoder());
    louder.set_gain_q8(1_536);
    louder.reset();
    assert_eq!(louder.gain_q8(), 1_536);
    let (mut packet, mut a, mut b) = ([0; 1_276], [0.0; 960], [0.0; 960]);
    for pcm in chord(SampleRate::HZ_48000, Channels::Mono, 0.2).chunks_exact(960) {
        let len = encoder.encode(pcm, &mut packet).unwrap();
        plain.decode(&packet[..len], &mut a).unwrap();
        louder.decode(&packet[..len], &mut b).unwrap();
    }
    for (a, b) in a.iter().zip(b) {
        assert!((b - a * 1.995_26).abs() < 1e-3, "{a} {b}");
    }
}

#[test]
fn low_delay_is_never_silk_and_speech_at_a_low_rate_is() {
    for (application, expected) in [(Application::LowDelay, Mode::Celt), (Application::Voip, Mode::Silk)] {
        let config = EncoderConfig { application, bitrate: 10_000, ..EncoderConfig::default() };
        let mut encoder = OpusEncoder::new(config).unwrap();
        let mut packet = [0; 1_276];
        let len = encoder.encode(&chord(config.sample_rate, Channels::Mono, 0.02), &mut packet).unwrap();
        assert_eq!(Frames::parse(&packet[..len]).unwrap().toc().mode(), expected);
    }
}
