use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::error::{ConfigError, OpenError};

const OPUS: [u8; 4] = [0x48, 1, 2, 3];

fn keys(suite: Suite) -> SessionKeys {
    let key: Vec<u8> = (0..suite.key_len() as u8).collect();
    SessionKeys::new(suite, &key, 0xfeed_beef, b"session").unwrap()
}

fn sealed(sealer: &mut Sealer, payload: &[u8], media_ms: u64) -> (Header, Vec<u8>) {
    let mut datagram = vec![0; payload.len() + sealer.overhead()];
    datagram[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
    let (header, len) = sealer.seal(&mut datagram, payload.len(), media_ms).unwrap();
    assert_eq!(len, datagram.len());
    (header, datagram)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn ctr_gives_the_vectors_of_nist_sp_800_38a() {
    let counter: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
    let plain = hex("6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
         30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710");
    for (key, cipher) in [
        // F.5.1
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff
             5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee",
        ),
        // F.5.5
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5
             2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6",
        ),
    ] {
        let mut data = plain.clone();
        ctr::Ctr::new(&hex(key)).apply(&counter, &mut data);
        assert_eq!(data, hex(cipher));
    }
}

#[test]
fn ctr_ends_anywhere_and_its_counter_wraps() {
    let ctr = ctr::Ctr::new(&hex("2b7e151628aed2a6abf7158809cf4f3c"));
    let keystream = |counter: [u8; 16], len: usize| {
        let mut data = vec![0; len];
        ctr.apply(&counter, &mut data);
        data
    };
    let start = u128::MAX - 1;
    let whole = keystream(start.to_be_bytes(), 100);
    for len in 0..100 {
        assert_eq!(keystream(start.to_be_bytes(), len), whole[..len]);
    }
    for (i, block) in whole.chunks(16).enumerate() {
        assert_eq!(keystream(start.wrapping_add(i as u128).to_be_bytes(), block.len()), block);
    }
}

#[test]
fn a_packet_cipher_is_the_compat_profile_for_who_writes_headers() {
    for suite in [Suite::Aes128Ctr, Suite::Aes256Ctr] {
        let key: Vec<u8> = (0..suite.key_len() as u8).collect();
        let cipher = PacketCipher::new(&key).unwrap();
        let mut sealer = Sealer::new(&keys(suite), Direction::Downlink, 7);
        for (i, len) in [1, 15, 16, 17, 300].into_iter().enumerate() {
            let payload: Vec<u8> = OPUS.iter().copied().cycle().take(len).collect();
            let (_, mut datagram) = sealed(&mut sealer, &payload, 20 * i as u64);
            let (header, body) = datagram.split_first_chunk_mut::<HEADER_LEN>().unwrap();
            let ciphertext = body.to_vec();
            cipher.apply(header, body);
            assert_eq!(body, payload);
            cipher.apply(header, body);
            assert_eq!(body, ciphertext);
        }
        assert!(!format!("{cipher:?}").contains("0, 1, 2"));
    }
    for len in [0, 15, 17, 24, 31, 33] {
        let refused = PacketCipher::new(&vec![0; len]).unwrap_err();
        assert!(matches!(refused, ConfigError::KeySize { actual, .. } if actual == len), "{refused}");
    }
}

#[test]
fn gcm_gives_the_vectors_of_its_specification() {
    // The GCM specification (McGrew and Viega), test cases 4 and 16, which NIST SP 800-38D took over.
    let plain = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let salt = hex("cafebabefacedbaddecaf888").try_into().unwrap();
    for (suite, key, cipher) in [
        (
            Suite::Aes128Gcm,
            "feffe9928665731c6d6a8f9467308308",
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091 5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            Suite::Aes256Gcm,
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ] {
        let aead = aead::Aead::new(suite, &hex(key), salt);
        let mut data = plain.clone();
        data.resize(plain.len() + 16, 0);
        aead.seal(0, &aad, &mut data).unwrap();
        assert_eq!(data, hex(cipher));
        aead.open(0, &aad, &mut data).unwrap();
        assert_eq!(data[..plain.len()], plain);
    }
}

#[test]
fn chacha20_poly1305_gives_the_vector_of_rfc_8439() {
    // Section 2.8.2.
    let plain =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                  sunscreen would be it.";
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let salt = hex("070000004041424344454647").try_into().unwrap();
    let mut data = [&plain[..], &[0; 16]].concat();
    aead::Aead::new(Suite::ChaCha20Poly1305, &key, salt)
        .seal(0, &hex("50515253c0c1c2c3c4c5c6c7"), &mut data)
        .unwrap();
    assert_eq!(data[plain.len()..], hex("1ae10b594f09e26a7e902ecbd0600691"));
    assert_eq!(data[..8], hex("d31a8d34648e60db"));
}

#[test]
fn hkdf_gives_the_vectors_of_rfc_5869() {
    // Appendix A.1 to A.3.
    let long = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    for (ikm, salt, info, okm) in [
        (
            vec![0x0b; 22],
            hex("000102030405060708090a0b0c"),
            hex("f0f1f2f3f4f5f6f7f8f9"),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            long(0x00, 0x4f),
            long(0x60, 0xaf),
            long(0xb0, 0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09
             da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            vec![],
            vec![],
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ] {
        let expected = hex(okm);
        let mut out = vec![0; expected.len()];
        keys::derive(&ikm, &salt, &info, &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn a_key_of_the_wrong_size_is_refused() {
    for suite in Suite::ALL {
        for len in [0, 15, 17, 24, 31, 33] {
            assert!(SessionKeys::new(suite, &vec![0; len], 1, b"").is_err(), "{suite:?} {len}");
        }
        assert_eq!(Suite::from_name(suite.name()), Some(suite));
    }
    assert!(!format!("{:?}", keys(Suite::Aes128Ctr)).contains("0, 1, 2"));
}

#[test]
fn what_one_side_seals_the_other_opens_both_ways() {
    for suite in Suite::ALL {
        let keys = keys(suite);
        for direction in [Direction::Uplink, Direction::Downlink] {
            let mut sealer = Sealer::new(&keys, direction, u32::MAX - 30);
            let mut opener = Opener::new(&keys, direction, PayloadKind::Opus);
            for i in 0..5 {
                let (header, mut datagram) = sealed(&mut sealer, &OPUS, i * 20);
                assert_eq!(header.sequence, i as u32 + 1);
                assert_eq!(datagram.len(), 20 + suite.tag_len());
                let opened = opener.open(&mut datagram).unwrap();
                assert_eq!((opened.header, opened.payload), (header, &OPUS[..]));
                assert_eq!(sealer.media_ms_of(header.timestamp), Some(i * 20));
            }
        }
    }
}

#[test]
fn any_changed_bit_is_noticed_by_the_sealed_profile_and_changes_no_state() {
    for suite in Suite::ALL.into_iter().filter(|s| s.is_authenticated()) {
        let keys = keys(suite);
        let mut sealer = Sealer::new(&keys, Direction::Uplink, 1);
        let mut opener = Opener::new(&keys, Direction::Uplink, PayloadKind::Opus);
        let (_, datagram) = sealed(&mut sealer, &OPUS, 0);
        for bit in 0..datagram.len() * 8 {
            let mut forged = datagram.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(&mut forged).is_err(), "{suite:?} bit {bit}");
        }
        assert!(opener.open(&mut datagram.clone()).is_ok());
        assert_eq!(opener.open(&mut datagram.clone()), Err(OpenError::Replayed { sequence: 1 }));
    }
}

#[test]
fn the_compat_profile_lets_no_garbage_move_the_sequence() {
    let keys = keys(Suite::Aes128Ctr);
    let mut opener = Opener::new(&keys, Direction::Uplink, PayloadKind::Opus);
    let mut sealer = Sealer::new(&keys, Direction::Uplink, 1);
    let garbage = [0x03u8, 0x00, 9, 9];
    let (_, mut bad) = sealed(&mut sealer, &garbage, 0);
    assert!(matches!(opener.open(&mut bad), Err(OpenError::Packet(PacketError::Opus { .. }))));
    let mut again = Sealer::new(&keys, Direction::Uplink, 1);
    let (_, mut good) = sealed(&mut again, &OPUS, 0);
    assert!(opener.open(&mut good).is_ok(), "sequence 1 was not used up");
}

#[test]
fn a_reflected_packet_is_refused() {
    let keys = keys(Suite::Aes128Ctr);
    let (_, mut datagram) = sealed(&mut Sealer::new(&keys, Direction::Downlink, 1), &OPUS, 0);
    let mut opener = Opener::new(&keys, Direction::Uplink, PayloadKind::Opus);
    assert_eq!(opener.open(&mut datagram), Err(PacketError::Reflected.into()));
}

#[test]
fn pcm_is_opened_only_where_it_was_agreed_on_and_clear_only_where_that_was() {
    let kinds = [PayloadKind::Opus, PayloadKind::OpusOrPcm, PayloadKind::OpusOrPcmInClear];
    for suite in Suite::ALL {
        let keys = keys(suite);
        for (i, kind) in kinds.into_iter().enumerate() {
            let mut sealer = Sealer::new(&keys, Direction::Downlink, 1);
            let mut opener = Opener::new(&keys, Direction::Downlink, kind);
            let mut datagram = [0x5a; HEADER_LEN + 20 + 16];
            let (_, len) = sealer.seal_pcm(&mut datagram, 20, 0).unwrap();
            let opened = opener.open(&mut datagram[..len]);
            assert_eq!(opened.is_ok_and(|o| o.payload == [0x5a; 20]), i >= 1, "{suite:?} {kind:?}");
            let mut datagram = [0x5a; HEADER_LEN + 20 + 16];
            let (_, len) = sealer.send_pcm_in_clear(&mut datagram, 20, 20).unwrap();
            assert_eq!(datagram[HEADER_LEN..len], [0x5a; 20]);
            assert_eq!(opener.open(&mut datagram[..len]).is_ok(), i >= 2, "{suite:?} {kind:?}");
        }
    }
}

#[test]
fn a_forged_leap_in_clear_does_not_shut_out_what_is_sealed() {
    let keys = keys(Suite::Aes128Gcm);
    let mut sealer = Sealer::new(&keys, Direction::Downlink, 1);
    let mut opener = Opener::new(&keys, Direction::Downlink, PayloadKind::OpusOrPcmInClear);
    assert!(opener.open(&mut sealed(&mut sealer, &OPUS, 0).1).is_ok());
    let mut forged = [0x5a; HEADER_LEN + 20];
    let header = Header {
        flags: FLAG_DOWNLINK | FLAG_PCM | FLAG_CLEAR,
        payload_len: 20,
        connection_id: keys.connection_id(),
        timestamp: 9,
        sequence: 1 << 30,
    };
    forged[..HEADER_LEN].copy_from_slice(&header.emit());
    assert!(matches!(opener.open(&mut forged), Err(OpenError::TooFarAhead { .. })));
    assert!(opener.open(&mut sealed(&mut sealer, &OPUS, 20).1).is_ok());
}

#[test]
fn what_no_datagram_holds_is_not_sealed() {
    for suite in Suite::ALL {
        let mut sealer = Sealer::new(&keys(suite), Direction::Downlink, 1);
        let most = MAX_PAYLOAD - suite.tag_len();
        let mut datagram = vec![0; 70_000];
        let oversized = SealError::Oversized { limit: most, actual: most + 1 };
        assert_eq!(sealer.seal(&mut datagram, most + 1, 0), Err(oversized));
        assert_eq!(sealer.seal(&mut datagram, most, 0).unwrap().1, 65_507);
    }
}

#[test]
fn misuse_of_a_sealer_is_an_error_and_seals_nothing() {
    let mut sealer = Sealer::new(&keys(Suite::Aes128Gcm), Direction::Downlink, 7);
    let mut datagram = [0; 40];
    assert_eq!(sealer.seal(&mut datagram, 0, 0), Err(SealError::Empty));
    assert_eq!(sealer.seal(&mut datagram, 9, 0), Err(SealError::Oversized { limit: 8, actual: 9 }));
    assert_eq!(sealer.seal(&mut datagram, 8, 0).unwrap().0.sequence, 1);
    assert_eq!(sealer.seal(&mut datagram, 8, 0), Err(SealError::TimestampReused));
    assert_eq!(sealer.seal(&mut datagram, 8, u64::from(u32::MAX)), Err(SealError::KeyExhausted));
    assert_eq!(sealer.seal(&mut datagram, 8, 1).unwrap().0.sequence, 2);
}

#[test]
fn a_compat_key_is_used_up_after_two_to_the_31_packets() {
    let mut sealer = Sealer::new(&keys(Suite::Aes128Ctr), Direction::Downlink, 7);
    sealer.next = u64::from(COMPAT_PACKET_LIMIT) - 1;
    assert!(sealer.seal(&mut [0; 40], 8, 0).is_ok());
    assert_eq!(sealer.seal(&mut [0; 40], 8, 1), Err(SealError::KeyExhausted));
}

/// Every 128-bit counter block that a packet's keystream uses.
fn counter_blocks(header: &Header, payload_len: usize) -> impl Iterator<Item = u128> {
    let first = u128::from_be_bytes(header.emit());
    (0..payload_len.div_ceil(16) as u128).map(move |i| first.wrapping_add(i))
}

proptest! {
    #[test]
    fn no_counter_block_is_ever_used_twice(
        start: u32,
        near_wrap: bool,
        downlink in proptest::collection::vec((1usize..1400, 1u64..200), 1..120),
        uplink in proptest::collection::vec((1usize..1400, any::<u16>()), 0..120),
    ) {
        let keys = keys(Suite::Aes128Ctr);
        let start = if near_wrap { u32::MAX - start % 500 } else { start };
        let mut down = Sealer::new(&keys, Direction::Downlink, start);
        let mut used = HashSet::new();
        let mut media_ms = 0;
        let mut timestamps = vec![0u32];
        let mut datagram = [0; 1500];
        for (len, step) in downlink {
            let (header, _) = down.seal(&mut datagram, len, media_ms).unwrap();
            media_ms += step;
            prop_assert!(header.timestamp != 0 && header.is_downlink());
            timestamps.push(header.timestamp);
            for block in counter_blocks(&header, len) {
                prop_assert!(used.insert(block), "a downlink block came twice");
            }
        }
        // What firmware does on the uplink: any timestamp it saw, or zero.
        let mut up = Sealer::new(&keys, Direction::Uplink, 0);
        for (len, pick) in uplink {
            let timestamp = timestamps[usize::from(pick) % timestamps.len()];
            let (header, _) = up.seal_echo(&mut datagram, len, timestamp).unwrap();
            for block in counter_blocks(&header, len) {
                prop_assert!(!used.contains(&block), "an uplink block met a downlink block");
            }
        }
    }

    #[test]
    fn nothing_that_arrives_panics_or_is_let_in(
        suite in 0usize..5,
        mut datagram in proptest::collection::vec(any::<u8>(), 0..300),
        looks_right: bool,
    ) {
        let keys = keys(Suite::ALL[suite]);
        let mut opener = Opener::new(&keys, Direction::Uplink, PayloadKind::Opus);
        if looks_right && datagram.len() >= HEADER_LEN {
            let payload_len = (datagram.len() - HEADER_LEN) as u16;
            let header = Header { flags: 0, payload_len, connection_id: 0xfeed_beef, timestamp: 0, sequence: 1 };
            datagram[..HEADER_LEN].copy_from_slice(&header.emit());
        }
        let opened = opener.open(&mut datagram).is_ok();
        prop_assert!(!opened || !Suite::ALL[suite].is_authenticated());
    }
}
