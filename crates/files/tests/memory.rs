//! No length in a file is believed before the bytes are there, and a long file costs no more than a short one.
#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Read, Seek, SeekFrom};

use evenkeel_files::{FileError, Recording};
use evenkeel_testkit::alloc::{CountingAllocator, largest_allocation};
use evenkeel_testkit::fuzz;
use evenkeel_testkit::recordings::clip;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The decoding library reserves up to 4 MiB before it reads, and lets go of it at the end of the file.
const BOUND: usize = 4 << 20;

#[test]
fn lengths_that_lie_cost_little() {
    let clips = ["cmn-16k.wav", "de-24k.flac", "es-44k1.mp3", "chords-stereo-44k1.ogg", "fr.opus"];
    for name in clips {
        let mut bytes = std::fs::read(clip(name)).unwrap();
        bytes.truncate(3_000);
        for at in 0..400 {
            let mut lying = bytes.clone();
            lying[at..at + 4].fill(0xff);
            let largest = largest_allocation(|| {
                fuzz::run("recording", &lying);
                fuzz::run("ogg_opus", &lying);
            });
            assert!(largest <= BOUND, "{name}: {largest} bytes for 0xffffffff at {at}");
        }
    }
    let id3 = [b"ID3\x04\0\0\x7f\x7f\x7f\x7fAPIC\x7f\x7f\x7f\x7f\0\0".as_slice(), &[0; 100]].concat();
    assert!(largest_allocation(|| fuzz::run("recording", &id3)) <= BOUND);
    let mut pcap = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\x65\0\0\0".to_vec();
    pcap.extend([0, 0, 4, 0].iter().cycle().take(64));
    assert!(largest_allocation(|| fuzz::run("pcap_read", &pcap)) <= 1 << 12);
}

/// An hour of silence as a WAV file that is never in memory.
struct Hour {
    head: Vec<u8>,
    at: u64,
}

const HOUR_BYTES: u32 = 3_600 * 16_000 * 2;

impl Hour {
    fn new() -> Self {
        let mut head = std::fs::read(clip("cmn-16k.wav")).unwrap();
        let data = head.windows(4).position(|w| w == b"data").unwrap();
        head.truncate(data + 4);
        head.extend(HOUR_BYTES.to_le_bytes());
        let riff = HOUR_BYTES + head.len() as u32 - 8;
        head[4..8].copy_from_slice(&riff.to_le_bytes());
        Self { head, at: 0 }
    }

    fn len(&self) -> u64 {
        self.head.len() as u64 + u64::from(HOUR_BYTES)
    }
}

impl Read for Hour {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.len() - self.at).unwrap();
        let count = out.len().min(left);
        for (i, byte) in out[..count].iter_mut().enumerate() {
            *byte = self.head.get(self.at as usize + i).copied().unwrap_or(0);
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Hour {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.len().saturating_add_signed(by),
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        }
        .min(self.len());
        Ok(self.at)
    }
}

#[test]
fn an_hour_is_streamed() {
    let largest = largest_allocation(|| {
        let mut recording = Recording::read_from(Hour::new()).unwrap();
        let mut out = vec![0.0; 4_096];
        while recording.read(&mut out).unwrap() > 0 {}
        assert_eq!(recording.given_samples(), u64::from(HOUR_BYTES) / 2);
    });
    assert!(largest <= 1 << 18, "{largest} bytes at once");
}

#[test]
fn an_empty_source_is_no_reason_to_reserve() {
    let largest = largest_allocation(|| {
        let empty = Recording::read_from(Cursor::new(Vec::new()));
        assert!(matches!(empty.err(), Some(FileError::Empty)));
    });
    assert!(largest <= 1 << 16);
}
