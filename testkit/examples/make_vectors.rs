//! Makes the golden vectors anew: `cargo run -p evenkeel-testkit --example make_vectors`. Do it only when the protocol
//! or libopus changes, and look at what differs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use evenkeel_core::framing::{self, Frames};
use evenkeel_core::packet::{FLAG_DOWNLINK, FLAG_PCM, HEADER_LEN, Header};
use evenkeel_core::seal::{Direction, Opener, Sealer, Suite};
use evenkeel_testkit::vectors::{
    Derived, FramingVectors, Hex, Inspection, Merging, Opening, PathCase, PathInput, PathVectors,
    ResampleCase, ResampleVectors, SealVectors, SealedPacket, Session, Splitting, file, refusal,
};
use hkdf::Hkdf;
use serde::Serialize;
use sha2::Sha256;

fn main() {
    write("seal", &SealVectors { sessions: Suite::ALL.map(session).to_vec() });
    write("framing", &framing());
    write("path", &PathVectors { opus: evenkeel_opus::libopus_version().to_owned(), cases: path() });
    write("resample", &ResampleVectors { cases: resample() });
}

/// Every kind of ratio, five milliseconds of each.
fn resample() -> Vec<ResampleCase> {
    [
        (48_000, 24_000, 1, false),
        (48_000, 16_000, 1, true),
        (16_000, 48_000, 1, false),
        (24_000, 48_000, 2, false),
        (44_100, 48_000, 1, true),
        (48_000, 44_100, 1, false),
        (22_050, 16_000, 2, true),
        (8_000, 24_000, 1, false),
    ]
    .map(|(rate, to, channels, is_aligned)| {
        let input = PathInput { rate, channels, samples: rate as usize / 200 };
        let case = ResampleCase { input, to, is_aligned, output: Hex::default() };
        ResampleCase { output: case.resample(), ..case }
    })
    .to_vec()
}

fn write(name: &str, vectors: &impl Serialize) {
    let path = file(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, serde_json::to_string_pretty(vectors).unwrap() + "\n").unwrap();
    println!("{}", path.display());
}

/// A SILK packet of one frame of 20 ms and so many bytes.
fn opus(len: usize) -> Vec<u8> {
    std::iter::once(0x48).chain((1..len).map(|i| (i * 7) as u8)).collect()
}

fn session(suite: Suite) -> Session {
    let key: Vec<u8> = (0..suite.key_len()).map(|i| (0x10 + 3 * i) as u8).collect();
    let mut session = Session {
        suite: suite.name().to_owned(),
        key: Hex(key),
        connection_id: 0xc0ff_ee01,
        session_id: Hex(b"5f1c7a52-0d7e-4a47-9d1c-6a2b1f0e9c33".to_vec()),
        uplink: None,
        downlink: None,
        timestamp_start: u32::MAX - 5,
        downlink_packets: Vec::new(),
        uplink_packets: Vec::new(),
        arriving: Vec::new(),
    };
    if suite.is_authenticated() {
        session.uplink = Some(derived(&session, "evenkeel sealed v1 up"));
        session.downlink = Some(derived(&session, "evenkeel sealed v1 down"));
    }
    session.downlink_packets = downlink(&session);
    session.uplink_packets = uplink(&session);
    session.arriving = arriving(&session);
    session
}

fn derived(session: &Session, info: &str) -> Derived {
    let mut okm = vec![0; session.suite().key_len() + 12];
    let hkdf = Hkdf::<Sha256>::new(Some(&session.session_id.0), &session.key.0);
    hkdf.expand(info.as_bytes(), &mut okm).unwrap();
    let salt = okm.split_off(session.suite().key_len());
    Derived { key: Hex(okm), salt: Hex(salt) }
}

/// The timestamp passes its end, and skips zero.
fn downlink(session: &Session) -> Vec<SealedPacket> {
    let mut sealer = Sealer::new(&session.keys(), Direction::Downlink, session.timestamp_start);
    [
        ("opus", 1, 0),
        ("opus", 16, 5),
        ("opus", 17, 6),
        ("pcm", 32, 26),
        ("pcm in clear", 32, 46),
        ("opus", 300, 1_046),
    ]
    .into_iter()
    .map(|(kind, len, media_ms)| {
        let payload = opus(len);
        let mut datagram = [&[0; HEADER_LEN], &payload[..], &[0; 16]].concat();
        let (header, len) = match kind {
            "opus" => sealer.seal(&mut datagram, len, media_ms),
            "pcm" => sealer.seal_pcm(&mut datagram, len, media_ms),
            _ => sealer.send_pcm_in_clear(&mut datagram, len, media_ms),
        }
        .unwrap();
        packet(kind, payload, Some(media_ms), header, &datagram[..len])
    })
    .collect()
}

fn uplink(session: &Session) -> Vec<SealedPacket> {
    let mut sealer = Sealer::new(&session.keys(), Direction::Uplink, 0);
    [(1, 0), (60, 0), (120, 0xffff_fffa)]
        .into_iter()
        .map(|(len, timestamp)| {
            let payload = opus(len);
            let mut datagram = [&[0; HEADER_LEN], &payload[..], &[0; 16]].concat();
            let (header, len) = sealer.seal_echo(&mut datagram, len, timestamp).unwrap();
            packet("opus", payload, None, header, &datagram[..len])
        })
        .collect()
}

fn packet(
    kind: &str,
    payload: Vec<u8>,
    media_ms: Option<u64>,
    header: Header,
    datagram: &[u8],
) -> SealedPacket {
    SealedPacket {
        kind: kind.to_owned(),
        payload: Hex(payload),
        media_ms,
        timestamp: header.timestamp,
        sequence: header.sequence,
        datagram: datagram.into(),
    }
}

fn arriving(session: &Session) -> Vec<Opening> {
    let mut sealer = Sealer::new(&session.keys(), Direction::Uplink, 0);
    let mut sent = Vec::new();
    for sequence in 1..=9_000u32 {
        let payload = if sequence == 5 { vec![0x4b, 0, 1, 2] } else { opus(20) };
        let mut datagram = [&[0; HEADER_LEN], &payload[..], &[0; 16]].concat();
        let (_, len) = sealer.seal_echo(&mut datagram, payload.len(), 0).unwrap();
        datagram.truncate(len);
        sent.push(datagram);
    }
    let nth = |sequence: usize| sent[sequence - 1].clone();
    let changed = |sequence: usize, at: usize, value: u8| {
        let mut datagram = nth(sequence);
        datagram[at] = value;
        datagram
    };
    let mut list = vec![
        ("the second packet, before the first", nth(2)),
        ("the first", nth(1)),
        ("the first again", nth(1)),
        ("fifteen bytes", nth(3)[..15].to_vec()),
        ("another type", changed(3, 0, 2)),
        ("a byte less than announced", nth(3)[..nth(3).len() - 1].to_vec()),
        ("another session's connection id", changed(3, 7, 2)),
        ("a downlink packet", changed(3, 1, FLAG_DOWNLINK)),
        ("PCM, which was not agreed on", changed(3, 1, FLAG_PCM)),
        ("nothing but a header", [&changed(3, 3, 0)[..2], &[0, 0], &nth(3)[4..16]].concat()),
        ("the third, a byte after its end", [nth(3), vec![9]].concat()),
        ("no Opus packet inside", nth(5)),
        ("the one hundredth", nth(100)),
        ("the thirty-sixth, 64 behind", nth(36)),
        ("the thirty-seventh, 63 behind", nth(37)),
        ("3001 ahead of the newest", nth(3_101)),
        ("3000 ahead of the newest", nth(3_100)),
        ("256 behind", nth(2_844)),
        ("255 behind", nth(2_845)),
        ("the 8000th", nth(8_000)),
        ("the 8001st", nth(8_001)),
        ("the 8002nd", nth(8_002)),
        ("the 8003rd", nth(8_003)),
    ];
    if session.suite().is_authenticated() {
        list.push(("a changed bit of the header", changed(8_100, 11, 1)));
        let last = nth(8_100).len() - 1;
        list.push(("a changed bit of the tag", changed(8_100, last, nth(8_100)[last] ^ 1)));
        list.push(("unchanged", nth(8_100)));
    }
    let (direction, kind) = Session::TAKES;
    let mut opener = Opener::new(&session.keys(), direction, kind);
    list.into_iter()
        .map(|(what, datagram)| {
            let mut work = datagram.clone();
            let opened = opener.open(&mut work);
            Opening {
                what: what.to_owned(),
                datagram: Hex(datagram),
                payload: opened.ok().map(|opened| opened.payload.into()),
                refused: opened.err().map(|error| refusal(&error).to_owned()),
            }
        })
        .collect()
}

fn framing() -> FramingVectors {
    let celt = |fill: u8, len: usize| [vec![0xf8], vec![fill; len]].concat();
    let with = |head: &[u8], len: usize| [head.to_vec(), (0..len).map(|i| i as u8).collect()].concat();
    let packets = [
        vec![],
        vec![0x48],
        opus(20),
        with(&[0x49], 6),
        with(&[0x49], 7),
        with(&[0x4a, 2], 5),
        with(&[0x4a, 6], 5),
        with(&[0x4a, 252, 1], 300),
        with(&[0x4b, 3], 9),
        with(&[0x4b, 3], 10),
        with(&[0x4b, 0x83, 1, 4], 9),
        with(&[0x4b, 0x43, 5], 14),
        with(&[0x4b, 0x41, 255, 0], 260),
        with(&[0x4b, 7], 7),
        with(&[0x4b, 0], 4),
        with(&[0xfb, 6], 12),
        with(&[0xe3, 48], 48),
        with(&[0xe3, 49], 49),
        vec![0x4b],
        vec![0x4a],
        vec![0x4c, 0xff],
        vec![0x58, 0xff, 0xff],
        vec![0x58, 0x10, 0],
        with(&[0x48], 1_275),
        with(&[0x48], 1_276),
    ];
    let merges = [
        vec![celt(1, 50), celt(2, 50), celt(3, 50)],
        vec![celt(1, 50), celt(2, 51), celt(3, 52)],
        vec![celt(1, 300), celt(2, 251), celt(3, 252)],
        vec![celt(1, 3), celt(2, 3)],
        vec![celt(1, 3), celt(2, 4)],
        vec![celt(1, 9)],
        vec![with(&[0xf9], 6), celt(7, 3)],
        vec![celt(1, 3), opus(4)],
        vec![celt(1, 3); 7],
        vec![],
    ];
    let splits = [
        (with(&[0xfb, 3], 9), 0, 3),
        (with(&[0xfb, 3], 9), 1, 2),
        (with(&[0xfb, 0x83, 1, 4], 9), 1, 3),
        (with(&[0xfb, 0x43, 5], 14), 0, 2),
        (with(&[0xfb, 3], 9), 2, 4),
        (with(&[0xfb, 3], 9), 1, 1),
    ];
    FramingVectors {
        inspections: packets.into_iter().map(inspect).collect(),
        merges: merges.into_iter().map(merge).collect(),
        splits: splits.into_iter().map(split).collect(),
    }
}

fn inspect(packet: Vec<u8>) -> Inspection {
    let frames = Frames::parse(&packet).ok();
    Inspection {
        is_valid: frames.is_some(),
        frames: frames.map(|f| f.count()),
        duration_us: frames.map(|f| f.duration_us()),
        is_stereo: frames.map(|f| f.toc().is_stereo()),
        has_lbrr: frames.map(|f| f.has_lbrr()),
        is_dtx: frames.map(|f| f.is_dtx()),
        packet: Hex(packet),
    }
}

fn merge(packets: Vec<Vec<u8>>) -> Merging {
    let frames: Vec<_> = packets.iter().map(|packet| Frames::parse(packet).unwrap()).collect();
    let mut out = [0; 4_000];
    let merged = framing::merge(&frames, &mut out).ok().map(|len| out[..len].into());
    Merging { packets: packets.into_iter().map(Hex).collect(), merged }
}

fn split((packet, from, to): (Vec<u8>, usize, usize)) -> Splitting {
    let mut out = [0; 4_000];
    let part = framing::split(&Frames::parse(&packet).unwrap(), from..to, &mut out).ok();
    Splitting { packet: Hex(packet), from, to, part: part.map(|len| out[..len].into()) }
}

fn path() -> Vec<PathCase> {
    let voip = PathCase {
        name: "a call: 48 kHz, VOIP, 24 kb/s, 20 ms".to_owned(),
        input: PathInput { rate: 48_000, channels: 1, samples: 19_200 },
        application: "voip".to_owned(),
        encoder_rate: 48_000,
        encoder_channels: 1,
        bitrate: 24_000,
        complexity: 5,
        frame_ms: 20.0,
        rung: "full".to_owned(),
        is_exact_everywhere: false,
        datagrams: Vec::new(),
    };
    let cases = [
        voip.clone(),
        PathCase {
            name: "a device's downlink: 24 kHz, 60 ms, and a last frame that is not full".to_owned(),
            input: PathInput { rate: 24_000, channels: 1, samples: 10_000 },
            encoder_rate: 24_000,
            frame_ms: 60.0,
            ..voip.clone()
        },
        PathCase {
            name: "through the resampler and the mix: 44.1 kHz stereo to 16 kHz mono".to_owned(),
            input: PathInput { rate: 44_100, channels: 2, samples: 17_640 },
            encoder_rate: 16_000,
            ..voip.clone()
        },
        PathCase {
            name: "music: stereo, AUDIO, 64 kb/s, 10 ms".to_owned(),
            input: PathInput { rate: 48_000, channels: 2, samples: 9_600 },
            application: "audio".to_owned(),
            encoder_channels: 2,
            bitrate: 64_000,
            complexity: 10,
            frame_ms: 10.0,
            ..voip.clone()
        },
        PathCase { name: "rung medium: MDCT only".to_owned(), rung: "medium".to_owned(), ..voip.clone() },
        PathCase {
            name: "rung minimal: PCM as it came in".to_owned(),
            input: PathInput { rate: 16_000, channels: 1, samples: 640 },
            encoder_rate: 16_000,
            rung: "minimal".to_owned(),
            is_exact_everywhere: true,
            ..voip
        },
    ];
    cases.into_iter().map(|case| PathCase { datagrams: case.send(), ..case }).collect()
}
