//! Datagrams: their headers, and opening them, of both profiles.

use evenkeel_core::error::{OpenError, PacketError};
use evenkeel_core::framing::Frames;
use evenkeel_core::packet::{HEADER_LEN, Header, TYPE_AUDIO};
use evenkeel_core::relay::UpRelay;
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::units::FrameDuration;

use super::Script;

/// So that no input takes long.
const MAX_STEPS: usize = 200;

/// Sealed ahead, for the script to pick from.
const PACKETS: usize = 8;

/// Reads the bytes as a datagram's header; what is read is written again the same.
pub(super) fn header(datagram: &[u8]) {
    let peeked = Header::peek_connection_id(datagram);
    match Header::parse(datagram) {
        Ok(header) => {
            assert_eq!(header.emit()[..], datagram[..HEADER_LEN]);
            assert_eq!(header.payload(datagram).len(), usize::from(header.payload_len));
            assert_eq!(peeked, Some(header.connection_id));
        }
        Err(PacketError::Truncated { needed, actual }) => {
            assert!(needed == HEADER_LEN && actual == datagram.len() && actual < HEADER_LEN);
            assert_eq!(peeked, None);
        }
        Err(PacketError::Type { actual }) => assert!(actual != TYPE_AUDIO && peeked.is_none()),
        Err(PacketError::Length { announced, present }) => {
            assert!(announced > present && present == datagram.len() - HEADER_LEN);
        }
        Err(other) => panic!("{other}"),
    }
}

/// An opener's life: good datagrams in any order and number, the same with bytes changed or cut off, and noise. None
/// is let in twice; what is refused changes nothing; and with a tag nothing is let in that was not sealed.
pub(super) fn open(data: &[u8]) {
    let mut script = Script(data);
    let suite = script.pick(&Suite::ALL);
    let direction = script.pick(&[Direction::Uplink, Direction::Downlink]);
    let kind = script.pick(&[PayloadKind::Opus, PayloadKind::OpusOrPcm, PayloadKind::OpusOrPcmInClear]);
    let keys = SessionKeys::new(suite, &vec![7; suite.key_len()], 0x0102_0304, b"fuzz").expect("a key");
    let sealed = seal(&keys, direction);
    let mut opener = Opener::new(&keys, direction, kind);
    let relayed = Opener::new(&keys, direction, PayloadKind::Opus);
    let mut relay = UpRelay::new(relayed, FrameDuration::MS_20);
    let mut let_in = [false; PACKETS + 1];

    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        let datagram = next(&mut script, &sealed);
        let (mut work, mut again) = (datagram.clone(), datagram.clone());
        match opener.open(&mut work) {
            Ok(opened) => {
                let is_pcm = opened.header.is_pcm();
                assert!(is_pcm || Frames::parse(opened.payload).is_ok());
                assert!(!is_pcm || kind != PayloadKind::Opus);
                assert!(!opened.header.is_clear() || kind == PayloadKind::OpusOrPcmInClear);
                if suite.is_authenticated() && !opened.header.is_clear() {
                    let len = datagram.len().min(HEADER_LEN + usize::from(opened.header.payload_len));
                    assert!(sealed.iter().any(|own| own[..] == datagram[..len]), "it was never sealed");
                    let seen = &mut let_in[opened.header.sequence as usize];
                    assert!(!*seen, "it was let in twice");
                    *seen = true;
                }
                let again = opener.open(&mut again);
                assert!(
                    matches!(again, Err(OpenError::Replayed { .. } | OpenError::Stale { .. })),
                    "let in twice: {again:?}"
                );
            }
            // The only refusal that is remembered: three in a row that agree are let in.
            Err(OpenError::TooFarAhead { .. }) => {
                assert!(!suite.is_authenticated() || kind == PayloadKind::OpusOrPcmInClear);
            }
            Err(error) => assert_eq!(opener.open(&mut again), Err(error)),
        }
        // The relay takes whatever it is given, too.
        let _ = relay.push(&mut datagram.clone(), |packet, _| assert!(!packet.is_empty()));
    }
}

/// Some packets of Opus and PCM, sequences from 1 on.
fn seal(keys: &SessionKeys, direction: Direction) -> Vec<Vec<u8>> {
    let mut sealer = Sealer::new(keys, direction, 5);
    let one = |i: usize| {
        let payload = [vec![0x48], vec![i as u8; 3 * i + 1]].concat();
        let mut datagram = [&[0; HEADER_LEN], &payload[..], &[0; 16]].concat();
        let (len, media_ms) = (payload.len(), 20 * i as u64);
        let sealed = match i % 4 {
            1 => sealer.seal_pcm(&mut datagram, len, media_ms),
            2 => sealer.send_pcm_in_clear(&mut datagram, len, media_ms),
            _ => sealer.seal(&mut datagram, len, media_ms),
        };
        let (_, len) = sealed.expect("far from every limit");
        datagram.truncate(len);
        datagram
    };
    (0..PACKETS).map(one).collect()
}

fn next(script: &mut Script<'_>, sealed: &[Vec<u8>]) -> Vec<u8> {
    let step = script.byte();
    let mut datagram = sealed[usize::from(step & 7)].clone();
    match step >> 4 {
        // As it is, or with something behind it.
        0..=5 => {}
        6 => datagram.push(script.byte()),
        // Cut off.
        7 => datagram.truncate(usize::from(script.byte())),
        // Bytes changed, in the header mostly.
        8..=11 => {
            for _ in 0..=step >> 4 & 3 {
                let at = usize::from(script.byte()) % HEADER_LEN;
                datagram[at] = script.byte();
            }
        }
        12 => {
            let at = usize::from(script.byte()) % datagram.len();
            datagram[at] ^= script.byte();
        }
        // Another sequence.
        13 | 14 => datagram[12..16].copy_from_slice(&u32::from(script.u16()).to_be_bytes()),
        _ => {
            let len = usize::from(script.byte());
            datagram = script.bytes(len).to_vec();
        }
    }
    datagram
}
