//! UDP datagrams in packet captures: the classic pcap file format, in and out.
//!
//! The format is that of the IETF draft draft-ietf-opsawg-pcap. pcapng is recognised, and refused with the command that
//! converts it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use evenkeel_core::units::Time;
use thiserror::Error;

use crate::ip::{self, Link};
use crate::ogg::read_up_to;

/// Magic numbers: what timestamps count beside seconds.
const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// The block type that begins a pcapng file; the same in both byte orders.
const MAGIC_PCAPNG: u32 = 0x0a0d_0d0a;

/// Frames begin with an IP header.
const LINKTYPE_RAW: u32 = 101;

/// The last time that a capture can tell: early in 2106.
const LAST: Time = Time::from_nanos(u32::MAX as u64 * 1_000_000_000 + 999_999_999);

/// The longest frame that is read, in bytes: what capture tools cut frames to.
pub const MAX_FRAME: usize = 262_144;

/// A capture could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PcapError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is not one byte.
    #[error("the file is empty")]
    Empty,
    /// Another file format.
    #[error("not a packet capture: it begins with 0x{magic:08x}")]
    NotPcap {
        /// The first four bytes, little-endian.
        magic: u32,
    },
    /// The newer format.
    #[error("pcapng is not read; convert with: editcap -F pcap IN OUT.pcap")]
    PcapNg,
    /// A version of the format that does not exist.
    #[error("version {major}.{minor} of the pcap format is unknown; 2.4 is read")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Frames of a kind that IP is not looked for in.
    #[error(
        "link type {link_type} is not supported; loopback (0), Ethernet (1), raw IP (101) and Linux cooked (113, 276) are"
    )]
    LinkType {
        /// The number found.
        link_type: u32,
    },
    /// The file ends inside its header.
    #[error("the file ends inside its header, after {actual} of 24 bytes")]
    HeaderCutOff {
        /// Bytes there were.
        actual: usize,
    },
    /// The file ends inside a frame. Those before it have been read.
    #[error("the file ends inside frame {frame}: {announced} bytes announced, {present} are there")]
    FrameCutOff {
        /// Which frame, from 1, as Wireshark counts.
        frame: u64,
        /// Bytes it should have, in its header or its data.
        announced: usize,
        /// Bytes there were.
        present: usize,
    },
    /// A frame longer than any capture tool writes.
    #[error("frame {frame} announces {announced} bytes; at most {MAX_FRAME} are possible")]
    FrameTooLong {
        /// Which frame, from 1.
        frame: u64,
        /// Bytes it should have.
        announced: u32,
    },
    /// A datagram that cannot be written.
    #[error(
        "a datagram of {len} bytes from {from} to {to} cannot be written: at most {} bytes, one address family",
        ip::MAX_PAYLOAD
    )]
    Datagram {
        /// Its sender.
        from: SocketAddr,
        /// Its receiver.
        to: SocketAddr,
        /// Its length, in bytes.
        len: usize,
    },
}

/// A UDP datagram and when it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When, since the Unix epoch.
    pub time: Time,
    /// Its sender.
    pub from: SocketAddr,
    /// Its receiver.
    pub to: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Reads the UDP datagrams of a capture, in the order of the file.
///
/// Everything else in it (other protocols, fragments, frames that were cut off when captured) is left out and counted.
pub struct PcapReader<R> {
    source: R,
    order: Order,
    nanos_per_tick: u64,
    link: Link,
    frame: Vec<u8>,
    frames: u64,
    skipped: u64,
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

impl<R: Read> PcapReader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// Any [`PcapError`] about the header.
    pub fn new(mut source: R) -> Result<Self, PcapError> {
        let mut header = [0; 24];
        let actual = read_up_to(&mut source, &mut header)?;
        if actual == 0 {
            return Err(PcapError::Empty);
        }
        let [m0, m1, m2, m3, v0, v1, v2, v3, .., l0, l1, l2, l3] = header;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        let (order, nanos_per_tick) = match magic {
            MAGIC_MICROS => (Order::Little, 1_000),
            MAGIC_NANOS => (Order::Little, 1),
            _ if magic.swap_bytes() == MAGIC_MICROS => (Order::Big, 1_000),
            _ if magic.swap_bytes() == MAGIC_NANOS => (Order::Big, 1),
            MAGIC_PCAPNG => return Err(PcapError::PcapNg),
            _ => return Err(PcapError::NotPcap { magic }),
        };
        if actual < header.len() {
            return Err(PcapError::HeaderCutOff { actual });
        }
        let (major, minor) = match order {
            Order::Little => (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([v2, v3])),
            Order::Big => (u16::from_be_bytes([v0, v1]), u16::from_be_bytes([v2, v3])),
        };
        if (major, minor) != (2, 4) {
            return Err(PcapError::Version { major, minor });
        }
        // The upper bits say whether frames end in a checksum, which IP lengths leave out anyway.
        let link_type = order.u32([l0, l1, l2, l3]) & 0xffff;
        let link = Link::from_number(link_type).ok_or(PcapError::LinkType { link_type })?;
        Ok(Self { source, order, nanos_per_tick, link, frame: Vec::new(), frames: 0, skipped: 0 })
    }

    /// The next datagram, or `None` at the end.
    ///
    /// # Errors
    /// Any [`PcapError`] about the file from here on. A second call after an error is of no use.
    pub fn next_datagram(&mut self) -> Result<Option<Datagram<'_>>, PcapError> {
        let time = loop {
            let Some(time) = self.next_frame()? else { return Ok(None) };
            if ip::find_udp(self.link, &self.frame).is_some() {
                break time;
            }
            self.skipped += 1;
        };
        let found = ip::find_udp(self.link, &self.frame);
        Ok(found.map(|(from, to, payload)| Datagram { time, from, to, payload }))
    }

    /// Frames read so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames so far that were no whole UDP datagram.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn next_frame(&mut self) -> Result<Option<Time>, PcapError> {
        let frame = self.frames + 1;
        let mut header = [0; 16];
        let present = read_up_to(&mut self.source, &mut header)?;
        if present == 0 {
            return Ok(None);
        }
        if present < header.len() {
            return Err(PcapError::FrameCutOff { frame, announced: header.len(), present });
        }
        let [s0, s1, s2, s3, t0, t1, t2, t3, l0, l1, l2, l3, ..] = header;
        let announced = self.order.u32([l0, l1, l2, l3]);
        if announced as usize > MAX_FRAME {
            return Err(PcapError::FrameTooLong { frame, announced });
        }
        self.frame.clear();
        let mut rest = (&mut self.source).take(u64::from(announced));
        let present = rest.read_to_end(&mut self.frame)?;
        if present < announced as usize {
            return Err(PcapError::FrameCutOff { frame, announced: announced as usize, present });
        }
        self.frames = frame;
        let seconds = u64::from(self.order.u32([s0, s1, s2, s3]));
        let ticks = u64::from(self.order.u32([t0, t1, t2, t3]));
        // More than a second of ticks is no time at all, but the frame is none the worse for it.
        let nanos = (ticks * self.nanos_per_tick).min(999_999_999);
        Ok(Some(Time::from_nanos(seconds * 1_000_000_000 + nanos)))
    }
}

/// Writes UDP datagrams as a capture, with nanosecond timestamps, that Wireshark and tcpdump open.
pub struct PcapWriter<W> {
    out: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header. Buffer `out`: it is written to in small pieces.
    ///
    /// # Errors
    /// [`PcapError::Io`].
    pub fn new(mut out: W) -> Result<Self, PcapError> {
        out.write_all(&MAGIC_NANOS.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&(MAX_FRAME as u32).to_le_bytes())?;
        out.write_all(&LINKTYPE_RAW.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Adds a datagram. Times are since the Unix epoch, to the year 2106; beyond, they stay there.
    ///
    /// # Errors
    /// [`PcapError::Datagram`] if it is too long or of mixed address families, and nothing was written;
    /// [`PcapError::Io`].
    pub fn write(&mut self, datagram: &Datagram<'_>) -> Result<(), PcapError> {
        let Datagram { time, from, to, payload } = *datagram;
        let mut headers = [0; ip::MAX_HEADER];
        let header_len = ip::build_headers(from, to, payload, &mut headers).ok_or(PcapError::Datagram {
            from,
            to,
            len: payload.len(),
        })?;
        let len = (header_len + payload.len()) as u32;
        let nanos = time.as_nanos().min(LAST.as_nanos());
        let (seconds, nanos) = ((nanos / 1_000_000_000) as u32, (nanos % 1_000_000_000) as u32);
        for word in [seconds, nanos, len, len] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&headers[..header_len])?;
        self.out.write_all(payload)?;
        Ok(())
    }

    /// Flushes, and gives back what was written to.
    ///
    /// # Errors
    /// [`PcapError::Io`].
    pub fn finish(mut self) -> Result<W, PcapError> {
        self.out.flush()?;
        Ok(self.out)
    }
}
