//! Captures: ours open in tshark, and every kind that tools write reads here.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_core::units::Time;
use evenkeel_files::pcap::{Datagram, PcapError, PcapReader, PcapWriter};
use evenkeel_testkit::fuzz;
use evenkeel_testkit::tools;
use proptest::prelude::*;

type Owned = (u64, SocketAddr, SocketAddr, Vec<u8>);

fn v4() -> (SocketAddr, SocketAddr) {
    ("192.0.2.1:5004".parse().unwrap(), "198.51.100.7:8884".parse().unwrap())
}

fn v6() -> (SocketAddr, SocketAddr) {
    ("[2001:db8::1]:5004".parse().unwrap(), "[2001:db8::2]:8884".parse().unwrap())
}

fn write(datagrams: &[Owned]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    for (nanos, from, to, payload) in datagrams {
        let time = Time::from_nanos(*nanos);
        writer.write(&Datagram { time, from: *from, to: *to, payload }).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<Owned>, PcapError> {
    let mut reader = PcapReader::new(bytes)?;
    let mut all = Vec::new();
    while let Some(d) = reader.next_datagram()? {
        all.push((d.time.as_nanos(), d.from, d.to, d.payload.to_vec()));
    }
    Ok(all)
}

fn some(lengths: &[usize]) -> Vec<Owned> {
    let start = 1_700_000_000_123_456_789;
    let one = |(i, &len): (usize, &usize)| {
        let (from, to) = if i % 2 == 0 { v4() } else { v6() };
        (start + i as u64 * 20_000_001, from, to, (0..len).map(|b| (b * 7 + i) as u8).collect())
    };
    lengths.iter().enumerate().map(one).collect()
}

fn saved(name: &str, bytes: &[u8]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("captures");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn tshark_dissects_with_right_lengths_checksums_and_times() {
    let Some(tshark) = tools::find("tshark") else { return };
    let lengths = [0, 1, 2, 16, 80, 181, 1_400, 1_471, 9_000, 65_507];
    let datagrams = some(&lengths);
    let path = saved("ours.pcap", &write(&datagrams));
    let run = Command::new(tshark)
        .args(["-n", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields"])
        .args(["-E", "separator=,"])
        .args(["-e", "frame.time_epoch", "-e", "ip.checksum.status", "-e", "udp.checksum.status"])
        .args(["-e", "udp.srcport", "-e", "udp.dstport", "-e", "udp.length"])
        .args(["-e", "_ws.malformed", "-r"])
        .arg(path)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8(run.stdout).unwrap();
    let expected: Vec<_> = datagrams
        .iter()
        .map(|(nanos, from, _, payload)| {
            let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let ip = if from.is_ipv4() { "1" } else { "" };
            format!("{seconds}.{rest:09},{ip},1,5004,8884,{},", payload.len() + 8)
        })
        .collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_written_reads_back() {
    let datagrams = some(&[0, 1, 100, 1_471, 65_507]);
    assert_eq!(read(&write(&datagrams)).unwrap(), datagrams);
}

#[test]
fn every_kind_that_editcap_and_text2pcap_write_reads() {
    let (Some(text2pcap), Some(editcap)) = (tools::find("text2pcap"), tools::find("editcap")) else { return };
    let text = saved("bytes.txt", b"0000 01 00 00 03 de ad be ef 00 00 00 00 00 00 00 01 61 62 63\n");
    let ethernet = text.with_file_name("ethernet.pcap");
    let run = |program: &Path, arguments: &[&str], files: [&Path; 2]| {
        let out = Command::new(program).args(arguments).args(files).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    run(
        &text2pcap,
        &["-q", "-F", "pcap", "-4", "192.0.2.1,198.51.100.7", "-u", "5004,8884"],
        [&text, &ethernet],
    );
    let expected = b"\x01\0\0\x03\xde\xad\xbe\xef\0\0\0\0\0\0\0\x01abc".as_slice();
    for format in ["pcap", "nsecpcap"] {
        let file = ethernet.with_file_name(format!("{format}.pcap"));
        run(&editcap, &["-F", format], [&ethernet, &file]);
        let all = read(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].1, all[0].2), v4());
        assert_eq!(all[0].3, expected);
    }
    let next_generation = ethernet.with_file_name("ng.pcapng");
    run(&editcap, &["-F", "pcapng"], [&ethernet, &next_generation]);
    let refused = read(&std::fs::read(next_generation).unwrap()).unwrap_err();
    assert!(matches!(refused, PcapError::PcapNg));
    assert!(refused.to_string().contains("editcap -F pcap"), "{refused}");
}

/// A capture of frames as given, in either byte order and with either tick.
fn capture(big: bool, magic: u32, link_type: u32, frames: &[&[u8]]) -> Vec<u8> {
    let w = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let mut bytes = [w(magic), version, w(0), w(0), w(65_535), w(link_type)].concat();
    for frame in frames {
        let len = frame.len() as u32;
        bytes.extend([w(10), w(500), w(len), w(len)].concat());
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// The IP packet of our writer, without the capture around it.
fn ip_packet(family: (SocketAddr, SocketAddr), payload: &[u8]) -> Vec<u8> {
    write(&[(0, family.0, family.1, payload.to_vec())])[24 + 16..].to_vec()
}

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;

#[test]
fn byte_orders_ticks_and_link_types() {
    let (four, six) = (ip_packet(v4(), b"four"), ip_packet(v6(), b"six"));
    let under = |header: &[u8], packet: &[u8]| [header, packet].concat();
    let mac = [0; 12];
    let tagged = [mac.as_slice(), &[0x81, 0, 0, 5, 0x81, 0, 0, 9]].concat();
    let kinds: Vec<(u32, Vec<u8>, Vec<u8>)> = vec![
        (101, four.clone(), six.clone()),
        (12, four.clone(), six.clone()),
        (0, under(&[2, 0, 0, 0], &four), under(&[0, 0, 0, 30], &six)),
        (1, under(&[&mac[..], &[8, 0]].concat(), &four), under(&[&mac[..], &[0x86, 0xdd]].concat(), &six)),
        (
            1,
            under(&[&tagged[..], &[8, 0]].concat(), &four),
            under(&[&tagged[..], &[0x86, 0xdd]].concat(), &six),
        ),
        (
            113,
            under(&[&[0; 14][..], &[8, 0]].concat(), &four),
            under(&[&[0; 14][..], &[0x86, 0xdd]].concat(), &six),
        ),
        (
            276,
            under(&[&[8, 0][..], &[0; 18]].concat(), &four),
            under(&[&[0x86, 0xdd][..], &[0; 18]].concat(), &six),
        ),
    ];
    for (link_type, four, six) in &kinds {
        for big in [false, true] {
            for (magic, tick) in [(MICROS, 1_000), (NANOS, 1)] {
                let time = 10_000_000_000 + 500 * tick;
                let expected =
                    vec![(time, v4().0, v4().1, b"four".to_vec()), (time, v6().0, v6().1, b"six".to_vec())];
                let bytes = capture(big, magic, *link_type, &[four, six]);
                assert_eq!(read(&bytes).unwrap(), expected, "link type {link_type}");
            }
        }
    }
    assert!(matches!(read(&capture(false, MICROS, 147, &[])), Err(PcapError::LinkType { link_type: 147 })));
}

#[test]
fn what_is_no_whole_udp_datagram_is_left_out_and_counted() {
    let good = ip_packet(v4(), b"good");
    let change = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let padded = [good.as_slice(), &[0; 20]].concat();
    let frames: Vec<Vec<u8>> = vec![
        vec![],
        vec![0x45],
        good[..27].to_vec(),
        good[..good.len() - 1].to_vec(),
        change(0, 0x44),
        change(0, 0x75),
        change(6, 0x20),
        change(7, 1),
        change(9, 6),
        change(25, 7),
        change(25, 200),
        change(3, 10),
        padded,
    ];
    let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
    let bytes = capture(false, MICROS, 101, &frames);
    let mut reader = PcapReader::new(bytes.as_slice()).unwrap();
    assert_eq!(reader.next_datagram().unwrap().unwrap().payload, b"good");
    assert!(reader.next_datagram().unwrap().is_none());
    assert_eq!((reader.frames(), reader.skipped()), (13, 12));
}

#[test]
fn ipv6_extension_headers_are_looked_behind() {
    let plain = ip_packet(v6(), b"deep");
    let with = |first: u8, extension: &[u8]| {
        let mut packet = plain.clone();
        packet[6] = first;
        packet.splice(40..40, extension.iter().copied());
        let len = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        packet
    };
    let found = |packet: &[u8]| read(&capture(false, NANOS, 101, &[packet])).unwrap().len();
    assert_eq!(found(&with(0, &[17, 0, 1, 4, 0, 0, 0, 0])), 1);
    assert_eq!(found(&with(60, &[17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), 1);
    assert_eq!(found(&with(44, &[17, 0, 0, 0, 1, 2, 3, 4])), 1);
    assert_eq!(found(&with(44, &[17, 0, 0, 1, 1, 2, 3, 4])), 0, "a first fragment");
    assert_eq!(found(&with(44, &[17, 0, 0, 8, 1, 2, 3, 4])), 0, "a later fragment");
    assert_eq!(found(&with(0, &[17, 255, 1, 4, 0, 0, 0, 0])), 0, "longer than the packet");
    assert_eq!(found(&with(51, &[17, 0, 1, 4, 0, 0, 0, 0])), 0, "not one that is known");
}

#[test]
fn broken_files_say_what_is_wrong() {
    assert!(matches!(read(b""), Err(PcapError::Empty)));
    assert!(matches!(read(b"RIFF\x10\0\0\0WAVEfmt "), Err(PcapError::NotPcap { .. })));
    let mut old = capture(false, MICROS, 101, &[]);
    old[4] = 1;
    assert!(matches!(read(&old), Err(PcapError::Version { major: 1, minor: 4 })));
    let mut huge = capture(false, MICROS, 101, &[&[0; 4]]);
    huge[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&huge), Err(PcapError::FrameTooLong { frame: 1, announced: u32::MAX })));
    huge[32..36].copy_from_slice(&262_144u32.to_le_bytes());
    assert!(matches!(read(&huge), Err(PcapError::FrameCutOff { frame: 1, announced: 262_144, present: 4 })));
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_says_so() {
    let datagrams = some(&[3, 40, 7]);
    let whole = write(&datagrams);
    let mut ends = vec![24];
    for (_, from, _, payload) in &datagrams {
        let headers = if from.is_ipv4() { 28 } else { 48 };
        ends.push(ends.last().unwrap() + 16 + headers + payload.len());
    }
    assert_eq!(*ends.last().unwrap(), whole.len());
    for len in 0..whole.len() {
        let result = read(&whole[..len]);
        match len {
            0 => assert!(matches!(result, Err(PcapError::Empty))),
            1..4 => assert!(matches!(result, Err(PcapError::NotPcap { .. }))),
            4..24 => assert!(matches!(result, Err(PcapError::HeaderCutOff { actual }) if actual == len)),
            _ if ends.contains(&len) => assert!(result.is_ok()),
            _ => {
                let expected = ends.iter().filter(|&&end| end <= len).count() as u64;
                assert!(matches!(result, Err(PcapError::FrameCutOff { frame, .. }) if frame == expected));
            }
        }
    }
}

#[test]
fn what_does_not_fit_a_datagram_is_not_written() {
    let (from, to) = v4();
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    let time = Time::ZERO;
    let too_long = writer.write(&Datagram { time, from, to, payload: &[0; 65_508] });
    assert!(matches!(too_long, Err(PcapError::Datagram { len: 65_508, .. })));
    let mixed = writer.write(&Datagram { time, from, to: v6().1, payload: &[] });
    assert!(matches!(mixed, Err(PcapError::Datagram { .. })));
    assert_eq!(writer.finish().unwrap().len(), 24);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        big: bool, nanos: bool, link_type in prop::sample::select(vec![0u32, 1, 12, 101, 113, 228, 276, 999]),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        let mut bytes = capture(big, if nanos { NANOS } else { MICROS }, link_type, &frames);
        bytes.extend_from_slice(&tail);
        fuzz::run("pcap_read", &bytes);
        fuzz::run("pcap_read", &tail);
    }

    #[test]
    fn damage_is_survived(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = write(&some(&[0, 3, 100, 20]));
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        fuzz::run("pcap_read", &bytes);
    }
}
