//! Ogg Opus files that we write play everywhere, and those that others write read here.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use evenkeel_core::framing::{Frames, merge};
use evenkeel_core::units::Channels;
use evenkeel_files::{FileError, OpusHead, OpusReader, OpusWriter};
use evenkeel_testkit::{recordings, tools};

const HEAD: OpusHead = OpusHead { channels: Channels::Mono, pre_skip: 312, input_rate: 48_000, gain: 0 };

/// The packets of a file, and what of each belongs to the recording.
fn packets(bytes: &[u8]) -> Result<Vec<(Vec<u8>, u32, u32)>, FileError> {
    let mut reader = OpusReader::new(bytes)?;
    let mut packets = Vec::new();
    while let Some(p) = reader.next_packet()? {
        packets.push((p.data.to_vec(), p.samples, p.keep));
    }
    Ok(packets)
}

fn french() -> Vec<(Vec<u8>, u32, u32)> {
    packets(&std::fs::read(recordings::clip("fr.opus")).unwrap()).unwrap()
}

fn write(head: OpusHead, packets: &[Vec<u8>], length: Option<u64>) -> Vec<u8> {
    let mut writer = OpusWriter::new(Vec::new(), head, 0x1234_5678).unwrap();
    packets.iter().for_each(|p| writer.write(p).unwrap());
    writer.finish(length).unwrap()
}

/// The same frames, up to so many to a packet.
fn repacked(packets: &[Vec<u8>], frames: usize) -> Vec<Vec<u8>> {
    let mut out = vec![0; 10_000];
    let repack = |group: &[Vec<u8>]| {
        let parsed: Vec<_> = group.iter().map(|p| Frames::parse(p).unwrap()).collect();
        let len = merge(&parsed, &mut out).unwrap();
        out[..len].to_vec()
    };
    // Only frames of one configuration can share a packet.
    packets.chunk_by(|a, b| a[0] >> 2 == b[0] >> 2).flat_map(|same| same.chunks(frames)).map(repack).collect()
}

/// A file in a directory of this test's own.
fn saved(name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ogg_opus");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn ffmpeg_samples(path: &Path) -> Option<usize> {
    let ffmpeg = tools::find("ffmpeg")?;
    let run = Command::new(ffmpeg).args(["-v", "error", "-i"]).arg(path).args(["-f", "s16le", "-"]).output();
    let run = run.unwrap();
    assert!(run.status.success() && run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(run.stdout.len() / 2)
}

fn opusdec_samples(path: &Path) -> Option<usize> {
    let opusdec = tools::find("opusdec")?;
    let wav = path.with_extension("wav");
    let run = Command::new(opusdec).arg("--quiet").arg(path).arg(&wav).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut recording = evenkeel_files::Recording::open(&wav).unwrap();
    let mut out = [0.0; 4_096];
    while recording.read(&mut out).unwrap() > 0 {}
    Some(recording.given_samples() as usize)
}

#[test]
fn a_file_by_ffmpeg_reads_and_says_how_long_it_is() {
    let path = recordings::clip("fr.opus");
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(OpusReader::new(bytes.as_slice()).unwrap().head(), HEAD);
    assert_eq!(OpusReader::announced_samples(&mut Cursor::new(&bytes)).unwrap(), Some(85_410));
    let packets = french();
    assert!(packets.iter().all(|(_, samples, _)| *samples == 960));
    let (trimmed, whole) = packets.split_last().unwrap();
    assert!(whole.iter().all(|(_, samples, keep)| samples == keep));
    assert!(trimmed.2 < 960);
    let kept: u64 = packets.iter().map(|p| u64::from(p.2)).sum();
    assert_eq!(kept, 85_410 + 312);
}

#[test]
fn any_packet_duration_plays_to_the_sample() {
    let french: Vec<_> = french().into_iter().map(|p| p.0).collect();
    for frames in 1..=6 {
        let packets_in = repacked(&french, frames);
        let whole = french.len() as u64 * 960 - 312;
        for length in [whole, whole - 1, whole - 500] {
            let bytes = write(HEAD, &packets_in, Some(length));
            let back = packets(&bytes).unwrap();
            assert!(back.iter().map(|p| &p.0).eq(&packets_in));
            assert_eq!(back.iter().map(|p| u64::from(p.2)).sum::<u64>(), length + 312);
            assert_eq!(OpusReader::announced_samples(&mut Cursor::new(&bytes)).unwrap(), Some(length));
            let path = saved(&format!("{frames}-{length}.opus"), &bytes);
            if let Some(samples) = ffmpeg_samples(&path) {
                assert_eq!(samples as u64, length, "{frames} frames a packet");
            }
            if let Some(samples) = opusdec_samples(&path) {
                assert_eq!(samples as u64, length, "{frames} frames a packet");
            }
        }
    }
}

#[test]
fn opusinfo_finds_nothing_to_warn_of() {
    let Some(opusinfo) = tools::find("opusinfo") else { return };
    let french: Vec<_> = french().into_iter().map(|p| p.0).collect();
    let length = french.len() as u64 * 960 - 312 - 500;
    let path = saved("info.opus", &write(HEAD, &repacked(&french, 3), Some(length)));
    let run = Command::new(opusinfo).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    assert!(!said.to_lowercase().contains("warning"), "{said}");
    assert!(said.contains("Playback length: 0m:01.7"), "{said}");
}

#[test]
fn pages_hold_a_second_at_most_and_large_packets_fit() {
    let toc_stereo_20ms = 0b1111_1100;
    for len in [1, 254, 255, 256, 510, 1_275] {
        let mut packet = vec![7; len];
        packet[0] = toc_stereo_20ms;
        let packets_in = vec![packet; 333];
        let bytes = write(OpusHead { channels: Channels::Stereo, ..HEAD }, &packets_in, None);
        let back = packets(&bytes).unwrap();
        assert!(back.iter().map(|p| &p.0).eq(&packets_in), "{len}");
        let mut granules = bytes.windows(14).filter(|w| w.starts_with(b"OggS\0"));
        let mut last = 0;
        for page in &mut granules {
            let granule = u64::from_le_bytes(*page[6..].first_chunk().unwrap());
            assert!(granule >= last && granule <= last + 48_000);
            last = granule;
        }
        assert_eq!(last, 333 * 960);
    }
}

#[test]
fn a_file_without_packets_is_valid() {
    assert!(packets(&write(HEAD, &[], Some(0))).unwrap().is_empty());
    assert!(packets(&write(HEAD, &[], None)).unwrap().is_empty());
}

#[test]
fn what_is_no_packet_is_not_written() {
    let mut writer = OpusWriter::new(Vec::new(), HEAD, 1).unwrap();
    assert!(matches!(writer.write(&[]), Err(FileError::Packet { index: 0, .. })));
    assert!(matches!(writer.write(&[0b11]), Err(FileError::Packet { index: 0, .. })));
    assert_eq!(writer.samples(), 0);
}

#[test]
fn a_cut_or_damaged_file_is_an_error_at_every_byte() {
    let french: Vec<_> = french().into_iter().map(|p| p.0).collect();
    let whole = write(HEAD, &french[..60], None);
    let pages: Vec<_> = (0..whole.len() - 4).filter(|&at| whole[at..].starts_with(b"OggS")).collect();
    for len in 0..whole.len() {
        match packets(&whole[..len]) {
            // A recorder that was stopped between two pages leaves such a file; players play it.
            Ok(_) => assert!(pages[2..].contains(&len), "{len}"),
            Err(FileError::Empty) => assert_eq!(len, 0),
            Err(FileError::EndsInside { .. }) => {}
            Err(other) => panic!("{len}: {other}"),
        }
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(packets(&damaged).is_err(), "{at}");
    }
}

#[test]
fn chains_and_other_streams() {
    let french: Vec<_> = french().into_iter().map(|p| p.0).collect();
    let one = write(HEAD, &french, None);
    let two = [one.clone(), one.clone()].concat();
    assert!(matches!(packets(&two), Err(FileError::Unsupported { .. })));
    let tagged = [one.as_slice(), b"TAG something behind the end"].concat();
    assert_eq!(packets(&tagged).unwrap().len(), french.len());

    let mut surround = one.clone();
    surround[28 + 9] = 6;
    assert!(packets(&surround).is_err());
}
