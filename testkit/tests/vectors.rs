//! The golden vectors hold: for our code, and, where it is about the protocol, for a reading of it with other crates.
#![allow(clippy::unwrap_used)]

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aead::AeadInOut;
use evenkeel_core::codec::Decoder;
use evenkeel_core::framing::{self, Frames};
use evenkeel_core::packet::{HEADER_LEN, Header};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, Suite};
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_opus::OpusDecoder;
use evenkeel_testkit::vectors::{
    Derived, FramingVectors, Hex, PathCase, PathVectors, ResampleVectors, SealVectors, SealedPacket, Session,
    load, refusal,
};
use evenkeel_testkit::voice::snr_db;
use hkdf::Hkdf;
use sha2::Sha256;

fn sessions() -> Vec<Session> {
    let sessions = load::<SealVectors>("seal").sessions;
    assert_eq!(sessions.iter().map(Session::suite).collect::<Vec<_>>(), Suite::ALL);
    sessions
}

#[test]
fn what_is_sealed_is_sealed_so() {
    for session in sessions() {
        let mut down = Sealer::new(&session.keys(), Direction::Downlink, session.timestamp_start);
        let mut up = Sealer::new(&session.keys(), Direction::Uplink, 0);
        for (packets, is_downlink) in [(&session.downlink_packets, true), (&session.uplink_packets, false)] {
            for packet in packets {
                let len = packet.payload.0.len();
                let mut datagram = [&[0; HEADER_LEN], &packet.payload.0[..], &[0; 16]].concat();
                let (header, len) = match (is_downlink, packet.kind.as_str()) {
                    (false, _) => up.seal_echo(&mut datagram, len, packet.timestamp),
                    (true, "opus") => down.seal(&mut datagram, len, packet.media_ms.unwrap()),
                    (true, "pcm") => down.seal_pcm(&mut datagram, len, packet.media_ms.unwrap()),
                    (true, _) => down.send_pcm_in_clear(&mut datagram, len, packet.media_ms.unwrap()),
                }
                .unwrap();
                assert_eq!(datagram[..len], packet.datagram.0, "{} {packet:?}", session.suite);
                assert_eq!((header.timestamp, header.sequence), (packet.timestamp, packet.sequence));
            }
        }
    }
}

#[test]
fn what_is_sealed_is_opened_and_what_is_wrong_is_refused_for_that_reason() {
    for session in sessions() {
        let takes_all = PayloadKind::OpusOrPcmInClear;
        for (packets, direction) in
            [(&session.downlink_packets, Direction::Downlink), (&session.uplink_packets, Direction::Uplink)]
        {
            let mut opener = Opener::new(&session.keys(), direction, takes_all);
            for packet in packets {
                assert_eq!(opener.open(&mut packet.datagram.0.clone()).unwrap().payload, packet.payload.0);
            }
        }
        let (direction, kind) = Session::TAKES;
        let mut opener = Opener::new(&session.keys(), direction, kind);
        for arriving in &session.arriving {
            let mut datagram = arriving.datagram.0.clone();
            let opened = opener.open(&mut datagram);
            assert_eq!(
                opened.as_ref().ok().map(|opened| Hex(opened.payload.to_vec())),
                arriving.payload,
                "{}: {}",
                session.suite,
                arriving.what
            );
            assert_eq!(opened.as_ref().err().map(refusal), arriving.refused.as_deref(), "{}", arriving.what);
        }
        let refusals: std::collections::BTreeSet<_> =
            session.arriving.iter().filter_map(|arriving| arriving.refused.as_deref()).collect();
        assert!(refusals.len() >= 9, "{refusals:?}");
    }
}

#[test]
fn other_crates_read_the_protocol_the_same() {
    for session in sessions() {
        let derived = [(&session.uplink, "up"), (&session.downlink, "down")];
        for (derived, direction) in derived {
            let Some(derived) = derived else { continue };
            let mut okm = vec![0; session.key.0.len() + 12];
            let hkdf = Hkdf::<Sha256>::new(Some(&session.session_id.0), &session.key.0);
            hkdf.expand(format!("evenkeel sealed v1 {direction}").as_bytes(), &mut okm).unwrap();
            assert_eq!(okm, [&derived.key.0[..], &derived.salt.0].concat());
        }
        for (packets, derived) in
            [(&session.downlink_packets, &session.downlink), (&session.uplink_packets, &session.uplink)]
        {
            for packet in packets.iter().filter(|packet| packet.kind != "pcm in clear") {
                let payload = match derived {
                    None => counter_mode(&session, packet),
                    Some(derived) => authenticated(session.suite(), derived, packet),
                };
                assert_eq!(payload, packet.payload.0, "{}", session.suite);
            }
        }
    }
}

/// Header as counter, block by block.
fn counter_mode(session: &Session, packet: &SealedPacket) -> Vec<u8> {
    let (header, body) = packet.datagram.0.split_at(HEADER_LEN);
    let counter = u128::from_be_bytes(header.try_into().unwrap());
    let keystream = (0..).flat_map(|i| {
        let mut block = counter.wrapping_add(i).to_be_bytes().into();
        match <[u8; 16]>::try_from(&session.key.0[..]) {
            Ok(key) => aes::Aes128::new(&key.into()).encrypt_block(&mut block),
            Err(_) => aes::Aes256::new_from_slice(&session.key.0).unwrap().encrypt_block(&mut block),
        }
        <[u8; 16]>::from(block)
    });
    body.iter().zip(keystream).map(|(byte, key)| byte ^ key).collect()
}

/// Header as associated data; nonce: salt XOR four zero bytes, rollover count (0 here) and sequence.
fn authenticated(suite: Suite, derived: &Derived, packet: &SealedPacket) -> Vec<u8> {
    let (header, body) = packet.datagram.0.split_at(HEADER_LEN);
    let (body, tag) = body.split_at(body.len() - 16);
    let mut nonce: [u8; 12] = derived.salt.0[..].try_into().unwrap();
    nonce.iter_mut().skip(8).zip(packet.sequence.to_be_bytes()).for_each(|(byte, mask)| *byte ^= mask);
    let (key, mut payload) = (&derived.key.0, body.to_vec());
    let tag = <[u8; 16]>::try_from(tag).unwrap().into();
    let (nonce, inout) = (nonce.into(), payload.as_mut_slice().into());
    match suite {
        Suite::Aes128Gcm => aes_gcm::Aes128Gcm::new_from_slice(key)
            .unwrap()
            .decrypt_inout_detached(&nonce, header, inout, &tag),
        Suite::Aes256Gcm => aes_gcm::Aes256Gcm::new_from_slice(key)
            .unwrap()
            .decrypt_inout_detached(&nonce, header, inout, &tag),
        _ => chacha20poly1305::ChaCha20Poly1305::new_from_slice(key)
            .unwrap()
            .decrypt_inout_detached(&nonce, header, inout, &tag),
    }
    .unwrap();
    payload
}

#[test]
fn packets_are_inspected_joined_and_cut_apart_so() {
    let vectors: FramingVectors = load("framing");
    for expected in &vectors.inspections {
        let frames = Frames::parse(&expected.packet.0).ok();
        assert_eq!(frames.is_some(), expected.is_valid, "{expected:?}");
        assert_eq!(frames.map(|f| f.count()), expected.frames);
        assert_eq!(frames.map(|f| f.duration_us()), expected.duration_us);
        assert_eq!(frames.map(|f| f.toc().is_stereo()), expected.is_stereo);
        assert_eq!(frames.map(|f| f.has_lbrr()), expected.has_lbrr);
        assert_eq!(frames.map(|f| f.is_dtx()), expected.is_dtx);
    }
    let mut out = [0; 4_000];
    for expected in &vectors.merges {
        let frames: Vec<_> =
            expected.packets.iter().map(|packet| Frames::parse(&packet.0).unwrap()).collect();
        let merged = framing::merge(&frames, &mut out).ok().map(|len| Hex(out[..len].to_vec()));
        assert_eq!(merged, expected.merged);
    }
    for expected in &vectors.splits {
        let frames = Frames::parse(&expected.packet.0).unwrap();
        let part = framing::split(&frames, expected.from..expected.to, &mut out).ok();
        assert_eq!(part.map(|len| Hex(out[..len].to_vec())), expected.part);
    }
}

#[test]
fn a_signal_becomes_these_packets() {
    let vectors: PathVectors = load("path");
    assert_eq!(vectors.opus, evenkeel_opus::libopus_version());
    for case in &vectors.cases {
        let sent = case.send();
        if case.is_exact_everywhere || runs_avx2() {
            assert!(sent == case.datagrams, "{}: other bytes", case.name);
            continue;
        }
        assert_eq!(sent.len(), case.datagrams.len(), "{}", case.name);
        let snr = snr_db(&decoded(case, &case.datagrams), &decoded(case, &sent));
        assert!(snr > 20.0, "{}: {snr:.1} dB", case.name);
    }
}

#[test]
fn a_signal_is_this_at_another_rate() {
    let cases = load::<ResampleVectors>("resample").cases;
    assert!(cases.len() >= 8);
    for case in cases {
        // Floats in a fixed order: the same on every machine.
        assert!(case.resample() == case.output, "{:?} to {}", case.input, case.to);
    }
}

/// Whether libopus chose, as on the machine that made the vectors, its code for AVX2 and FMA.
fn runs_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn decoded(case: &PathCase, datagrams: &[Hex]) -> Vec<f32> {
    let channels = Channels::from_count(case.encoder_channels).unwrap();
    let mut decoder = OpusDecoder::new(SampleRate::HZ_48000, channels).unwrap();
    let mut opener = Opener::new(&PathCase::keys(), Direction::Downlink, PayloadKind::Opus);
    let (mut heard, mut frame) = (Vec::new(), vec![0.0; 2 * 5_760]);
    for datagram in datagrams {
        let mut datagram = datagram.0.clone();
        assert!(Header::parse(&datagram).unwrap().is_downlink());
        let samples = decoder.decode(opener.open(&mut datagram).unwrap().payload, &mut frame).unwrap();
        heard.extend_from_slice(&frame[..samples * channels.count()]);
    }
    heard
}
