//! Loss, reordering, duplicates and forgery.

use std::time::Duration;

use evenkeel_core::receiver::Content;
use evenkeel_core::seal::Suite;
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_opus::EncoderConfig;
use evenkeel_testkit::network::{Jitter, Loss, NetworkConfig};
use evenkeel_testkit::voice::{segmental_snr_db, synthetic};

use super::{GOOD, Heard, MONO_48, WITH_FEC, carry, decoder, encoder, listen, patient, send, sender};

const FRAME: FrameDuration = FrameDuration::MS_20;

fn packets(config: EncoderConfig, suite: Suite) -> Vec<(evenkeel_core::units::Time, Vec<u8>)> {
    send(&mut sender(encoder(config), MONO_48, FRAME, suite), &synthetic(6.0))
}

fn hear(config: EncoderConfig, suite: Suite, network: NetworkConfig) -> Heard {
    let mut receiver = patient(decoder(config), SampleRate::HZ_48000, suite);
    listen(&mut receiver, carry(packets(config, suite), 11, network))
}

#[test]
fn reordering_jitter_and_duplicates_within_the_depth_change_not_a_bit() {
    for suite in Suite::ALL {
        let calm = hear(GOOD, suite, NetworkConfig::default());
        assert!(calm.is_all_packets());
        let rough = hear(
            GOOD,
            suite,
            NetworkConfig {
                delay: Duration::from_millis(40),
                jitter: Jitter::Uniform(Duration::from_millis(60)),
                reorder: 0.1,
                duplicate: 0.1,
                ..NetworkConfig::default()
            },
        );
        assert!(rough.is_all_packets());
        assert!(rough.samples == calm.samples, "{suite:?}");
    }
}

#[test]
fn redundancy_brings_back_what_was_lost_alone_and_sounds_better_than_none() {
    let loss = NetworkConfig { loss: Loss::Random(0.1), ..NetworkConfig::default() };
    let without = EncoderConfig { inband_fec: false, ..WITH_FEC };
    let snr = |config, network| {
        let calm = hear(config, Suite::Aes128Ctr, NetworkConfig::default());
        let heard = hear(config, Suite::Aes128Ctr, network);
        assert_eq!(heard.samples.len(), calm.samples.len());
        (segmental_snr_db(&calm.samples, &heard.samples), heard)
    };
    let (with_fec, heard) = snr(WITH_FEC, loss);
    let lost = heard.stretches.len() - heard.count(Content::Packet);
    assert!(lost > 20, "{lost}");
    assert!(
        heard.count(Content::Recovered) * 10 >= lost * 7,
        "{} of {lost}",
        heard.count(Content::Recovered)
    );
    let (without_fec, heard) = snr(without, loss);
    assert_eq!((heard.count(Content::Recovered), heard.count(Content::Concealed)), (0, lost));
    println!("segmental SNR with FEC {with_fec:.1} dB, without {without_fec:.1} dB");
    assert!(with_fec > without_fec + 1.0, "{with_fec:.1} dB, {without_fec:.1} dB");
}

#[test]
fn bursts_are_concealed_and_time_is_kept() {
    let bursts = NetworkConfig { loss: Loss::Bursty { p: 0.2, mean_burst: 3.0 }, ..NetworkConfig::default() };
    let calm = hear(WITH_FEC, Suite::ChaCha20Poly1305, NetworkConfig::default());
    let heard = hear(WITH_FEC, Suite::ChaCha20Poly1305, bursts);
    assert!(heard.count(Content::Concealed) > 10);
    assert_eq!(heard.samples.len(), calm.samples.len(), "what was lost is as long as it was");
    assert!(heard.samples.iter().all(|sample| sample.is_finite() && sample.abs() < 1.5));
}

/// Whoever sends garbage to our port, or replays what he saw, changes nothing that is heard.
#[test]
fn what_is_forged_or_replayed_changes_not_a_bit() {
    for suite in Suite::ALL {
        let sent = packets(GOOD, suite);
        let mut receiver = patient(decoder(GOOD), SampleRate::HZ_48000, suite);
        let calm = listen(&mut receiver, sent.clone());
        let mut noisy = Vec::new();
        for (i, (time, datagram)) in sent.iter().enumerate() {
            noisy.push((*time, vec![i as u8; i % 40]));
            let mut foreign = datagram.clone();
            foreign[7] ^= 1;
            noisy.push((*time, foreign));
            noisy.push((*time, datagram[..datagram.len() - 1].to_vec()));
            if suite.is_authenticated() {
                let mut forged = datagram.clone();
                let last = forged.len() - 1 - i % 30;
                forged[last] ^= 0x10;
                noisy.push((*time, forged));
            }
            noisy.push((*time, datagram.clone()));
            noisy.push((*time, sent[i / 2].1.clone()));
        }
        let mut receiver = patient(decoder(GOOD), SampleRate::HZ_48000, suite);
        let heard = listen(&mut receiver, noisy.clone());
        assert!(heard.samples == calm.samples, "{suite:?}");
        assert_eq!(receiver.counters().opened, sent.len() as u64);
        assert_eq!(receiver.counters().refused, (noisy.len() - sent.len()) as u64);
    }
}
