//! The datagrams of one stream in a packet capture.

use std::fs::File;
use std::io::{BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_core::framing::Toc;
use evenkeel_core::packet::Header;
use evenkeel_core::seal::{Direction, Opener, PayloadKind, SessionKeys};
use evenkeel_core::units::{Channels, Time};
use evenkeel_files::pcap::PcapReader;

use super::options::Way;
use crate::failure::Failure;

/// What a capture begins with: pcap in both byte orders and with both ticks, and pcapng.
const BEGINNINGS: [[u8; 4]; 5] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

/// Whether a file is a packet capture, rather than a recording.
pub(super) fn is_capture(path: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    read.map_err(|e| Failure::wrong_file(path, e))?;
    Ok(BEGINNINGS.iter().any(|beginning| start == beginning))
}

/// A capture, of which only one stream is given: that of the first datagram that could be ours, in one direction.
pub(super) struct Capture {
    path: PathBuf,
    reader: PcapReader<BufReader<File>>,
    /// The first datagram, which had to be read to know the stream.
    first: Option<(Time, Vec<u8>)>,
    stream: Stream,
    begin: Time,
    end: Time,
    datagrams: u64,
    others: u64,
}

/// A stream: connection and way tell it from others; a device may change its address.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) connection_id: u32,
    pub(super) way: Way,
}

impl Stream {
    fn of(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Self> {
        let header = Header::parse(payload).ok()?;
        let way = if header.is_downlink() { Way::Down } else { Way::Up };
        Some(Self { from, to, connection_id: header.connection_id, way })
    }

    fn is(&self, other: &Self) -> bool {
        (self.connection_id, self.way) == (other.connection_id, other.way)
    }

    pub(super) fn direction(&self) -> Direction {
        match self.way {
            Way::Up => Direction::Uplink,
            Way::Down => Direction::Downlink,
        }
    }
}

impl Capture {
    pub(super) fn open(path: &Path, way: Option<Way>) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| Failure::wrong_file(path, e))?;
        let mut reader = PcapReader::new(BufReader::new(file)).map_err(|e| Failure::wrong_file(path, e))?;
        let mut others = 0;
        while let Some(datagram) = reader.next_datagram().map_err(|e| Failure::wrong_file(path, e))? {
            let stream = Stream::of(datagram.from, datagram.to, datagram.payload);
            let Some(stream) = stream.filter(|stream| way.is_none_or(|way| way == stream.way)) else {
                others += 1;
                continue;
            };
            let begin = datagram.time;
            let first = Some((begin, datagram.payload.to_vec()));
            let path = path.to_owned();
            return Ok(Self { path, reader, first, stream, begin, end: begin, datagrams: 1, others });
        }
        let frames = reader.frames();
        Err(Failure::wrong_file(path, format!("none of its {frames} frames is an audio datagram of ours")))
    }

    /// The next datagram of the stream, and when it was captured.
    pub(super) fn next(&mut self) -> Result<Option<(Time, Vec<u8>)>, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let path = &self.path;
        while let Some(d) = self.reader.next_datagram().map_err(|e| Failure::wrong_file(path, e))? {
            if Stream::of(d.from, d.to, d.payload).is_some_and(|stream| stream.is(&self.stream)) {
                self.end = d.time;
                self.datagrams += 1;
                return Ok(Some((d.time, d.payload.to_vec())));
            }
            self.others += 1;
        }
        Ok(None)
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    /// The channels of the first packet; mono if it cannot be opened. To be asked before [`Capture::next`].
    pub(super) fn channels(&self, keys: &SessionKeys) -> Channels {
        let mut opener = Opener::new(keys, self.stream.direction(), PayloadKind::Opus);
        let mut datagram = self.first.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        let is_stereo = opener.open(&mut datagram).is_ok_and(|opened| Toc(opened.payload[0]).is_stereo());
        if is_stereo { Channels::Stereo } else { Channels::Mono }
    }

    /// From the first datagram to the last so far.
    pub(super) fn span(&self) -> Duration {
        self.end.since(self.begin)
    }

    /// Datagrams of the stream so far.
    pub(super) fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Datagrams so far that belong to other streams, and frames that were no whole datagram.
    pub(super) fn others(&self) -> u64 {
        self.others + self.reader.skipped()
    }
}
