//! Output rates and channels that differ from what was sent.

use evenkeel_core::seal::Suite;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{EncoderConfig, OpusDecoder};
use evenkeel_testkit::voice::synthetic;

use super::{GOOD, MONO_48, encoder, listen, patient, send, sender};

/// Mean power.
fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>() / samples.len() as f64
}

#[test]
fn every_output_rate_gets_its_number_of_samples_and_the_same_loudness() {
    let voice = synthetic(2.0);
    let sent = send(&mut sender(encoder(GOOD), MONO_48, FrameDuration::MS_60, Suite::Aes128Ctr), &voice);
    for output in SampleRate::ALL {
        for decoded_at in SampleRate::ALL.into_iter().filter(|rate| rate.is_opus()) {
            let decoder = OpusDecoder::new(decoded_at, Channels::Mono).unwrap();
            let mut receiver = patient(decoder, output, Suite::Aes128Ctr);
            assert_eq!(receiver.output_rate(), output);
            let heard = listen(&mut receiver, sent.clone());
            assert!(heard.is_all_packets());
            let expected =
                sent.len() * FrameDuration::MS_60.as_micros() as usize / 1_000 * output.hz() as usize / 1_000;
            assert!(heard.samples.len().abs_diff(expected) <= 1, "{output}: {}", heard.samples.len());
            let ratio = power(&heard.samples) / power(&voice);
            assert!((0.7..1.1).contains(&ratio), "{decoded_at} to {output}: {ratio:.2} of the power");
        }
    }
}

#[test]
fn mono_is_heard_on_both_sides_and_stereo_as_its_mean() {
    let voice = synthetic(1.0);
    let sent = send(&mut sender(encoder(GOOD), MONO_48, FrameDuration::MS_20, Suite::Aes128Ctr), &voice);
    let stereo = OpusDecoder::new(SampleRate::HZ_48000, Channels::Stereo).unwrap();
    let heard = listen(&mut patient(stereo, SampleRate::HZ_44100, Suite::Aes128Ctr), sent);
    assert!(heard.samples.chunks_exact(2).all(|pair| pair[0] == pair[1]));

    let config = EncoderConfig { channels: Channels::Stereo, ..GOOD };
    let left_only: Vec<f32> = voice.iter().flat_map(|&s| [s, 0.0]).collect();
    let input = evenkeel_core::pcm::Format { channels: Channels::Stereo, ..MONO_48 };
    let sent = send(&mut sender(encoder(config), input, FrameDuration::MS_20, Suite::Aes128Ctr), &left_only);
    let mono = OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono).unwrap();
    let heard = listen(&mut patient(mono, SampleRate::HZ_48000, Suite::Aes128Ctr), sent);
    let ratio = power(&heard.samples) / power(&voice);
    assert!((0.2..0.3).contains(&ratio), "half the amplitude is a quarter of the power, not {ratio:.2}");
}
