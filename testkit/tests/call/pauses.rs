//! Discontinuous transmission, end to end.

use std::iter::repeat_n;

use evenkeel_core::receiver::Content;
use evenkeel_core::seal::Suite;
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig};
use evenkeel_testkit::voice::{snr_db, synthetic};

use super::{GOOD, MONO_48, decoder, encoder, listen, patient, send, sender};

#[test]
fn a_pause_is_hardly_sent_and_speech_after_it_is_in_its_place() {
    let config = EncoderConfig { application: Application::Voip, bitrate: 40_000, dtx: true, ..GOOD };
    let words = synthetic(1.0);
    let pause = 48_000 * 3;
    let samples: Vec<f32> =
        words.iter().copied().chain(repeat_n(0.0, pause)).chain(words.iter().copied()).collect();
    let suite = Suite::Aes128Ctr;
    let mut sender = sender(encoder(config), MONO_48, FrameDuration::MS_20, suite);
    let sent = send(&mut sender, &samples);
    let counters = sender.counters();
    assert_eq!(counters.frames, 250);
    assert!(counters.silent > 100, "{counters:?}");
    assert_eq!(counters.packets + counters.silent, counters.frames);

    let mut receiver = patient(decoder(config), SampleRate::HZ_48000, suite);
    let heard = listen(&mut receiver, sent);
    assert_eq!(receiver.jitter().lost, 0, "a pause is no loss");
    let in_pause = &heard.samples[48_000 + 24_000..48_000 + 96_000];
    assert!(in_pause.iter().all(|sample| sample.abs() < 0.01));
    assert!(heard.count(Content::Silence) > 0);

    // The second time the words are said they sound as the first time, wherever the pause put them.
    let energy = |from: usize| heard.samples[from..from + 960].iter().map(|s| s * s).sum::<f32>();
    let onset = (96_000..heard.samples.len() - 960).step_by(48).find(|&at| energy(at) > 1.0).unwrap();
    let first = (0..48_000).step_by(48).find(|&at| energy(at) > 1.0).unwrap();
    let len = 30_000;
    let best = (onset.saturating_sub(480)..onset + 480)
        .map(|at| snr_db(&heard.samples[first..first + len], &heard.samples[at..at + len]))
        .fold(f64::NEG_INFINITY, f64::max);
    println!("second against first: {best:.1} dB");
    assert!(best > 3.0, "{best:.1} dB");
}
