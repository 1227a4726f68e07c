//! The ladder, heard at the far end.

use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::receiver::Receiver;
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate, Time};
use evenkeel_testkit::voice::{snr_db, synthetic};

use super::{GOOD, LOOKAHEAD, MONO_48, decoder, encoder, keys, listen, patient, send, sender};

#[test]
fn pcm_comes_back_as_it_was_whatever_the_frame() {
    let voice = synthetic(1.0);
    for frame in FrameDuration::ALL {
        for suite in [Suite::Aes128Ctr, Suite::ChaCha20Poly1305] {
            let mut sender = sender(encoder(GOOD), MONO_48, frame, suite);
            let minimal = sender.ladder().rungs().iter().position(|r| r.to_string() == "minimal").unwrap();
            sender.set_position(minimal);
            let heard =
                listen(&mut patient(decoder(GOOD), SampleRate::HZ_48000, suite), send(&mut sender, &voice));
            assert!(heard.is_all_packets());
            let snr = snr_db(&voice, &heard.samples);
            assert!(snr > 75.0, "{frame}, {suite:?}: {snr:.1} dB");
        }
    }
}

#[test]
fn pcm_in_clear_is_heard_only_by_one_who_agreed_to_it() {
    let voice = synthetic(0.5);
    let suite = Suite::Aes256Gcm;
    for (kind, is_heard) in [(PayloadKind::OpusOrPcmInClear, true), (PayloadKind::OpusOrPcm, false)] {
        let mut sender = sender(encoder(GOOD), MONO_48, FrameDuration::MS_20, suite);
        sender.set_position(sender.ladder().last());
        let opener = Opener::new(&keys(suite), Direction::Downlink, kind);
        let output = SampleRate::HZ_48000;
        let mut receiver = Receiver::new(opener, JitterConfig::default(), decoder(GOOD), output).unwrap();
        let heard = listen(&mut receiver, send(&mut sender, &voice));
        assert_eq!(!heard.samples.is_empty(), is_heard);
        assert_eq!(receiver.counters().refused == 0, is_heard);
    }
}

/// Down the ladder and up again within a call: every packet is played, and each stretch sounds as its rung allows.
#[test]
fn rungs_change_without_a_gap() {
    let voice = synthetic(6.0);
    let suite = Suite::Aes128Gcm;
    let mut sender = sender(encoder(GOOD), MONO_48, FrameDuration::MS_20, suite);
    let last = sender.ladder().last() - 1;
    let mut sent = Vec::new();
    for (i, part) in voice.chunks(24_000).enumerate() {
        // Each half a second on another rung, to `minimal` and back.
        sender.set_position(if i <= last { i } else { (2 * last).saturating_sub(i) });
        let mut take = |s: evenkeel_core::seal::Sealed<'_>| {
            sent.push((Time::ZERO + s.media_time, s.datagram.to_vec()));
        };
        sender.push(part.into(), &mut take).unwrap();
    }
    let mut receiver = patient(decoder(GOOD), SampleRate::HZ_48000, suite);
    let heard = listen(&mut receiver, sent);
    assert!(heard.is_all_packets());
    assert_eq!(heard.samples.len(), voice.len());
    assert_eq!(receiver.jitter().lost + receiver.jitter().late, 0);
    // The MDCT keeps the shape of the wave, and PCM is the wave itself, without the encoder's delay.
    let minimal = last * 24_000 + 4_800..(last + 1) * 24_000;
    assert!(snr_db(&voice[minimal.clone()], &heard.samples[minimal]) > 75.0);
    let medium = (last - 1) * 24_000 + 4_800..last * 24_000 - LOOKAHEAD;
    let late = medium.start + LOOKAHEAD..medium.end + LOOKAHEAD;
    let snr = snr_db(&voice[medium], &heard.samples[late]);
    assert!(snr > 15.0, "medium: {snr:.1} dB");
}
