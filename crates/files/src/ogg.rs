//! Pages of an Ogg stream (RFC 3533, section 6).

use std::io::{self, Read, Write};

use crate::error::FileError;

/// Bytes of a page header before the segment table.
const HEADER_LEN: usize = 27;

/// The most segments a page has; each is at most 255 bytes.
pub(crate) const MAX_SEGMENTS: usize = 255;

/// The largest page, in bytes.
pub(crate) const MAX_PAGE_LEN: usize = HEADER_LEN + MAX_SEGMENTS + MAX_SEGMENTS * 255;

/// The first packet of this page began on an earlier one.
pub(crate) const FLAG_CONTINUED: u8 = 1;
/// The first page of a logical stream.
pub(crate) const FLAG_FIRST: u8 = 2;
/// The last page of a logical stream.
pub(crate) const FLAG_LAST: u8 = 4;

/// The granule position of a page on which no packet ends.
pub(crate) const NO_GRANULE: u64 = u64::MAX;

/// One page. Reused from page to page; never larger than [`MAX_PAGE_LEN`].
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) flags: u8,
    pub(crate) granule: u64,
    pub(crate) serial: u32,
    pub(crate) sequence: u32,
    pub(crate) segments: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Page {
    /// Reads the next page into this one. `false` where the source ended before it.
    pub(crate) fn read(&mut self, source: &mut impl Read) -> Result<bool, FileError> {
        let mut header = [0; HEADER_LEN];
        let got = read_up_to(source, &mut header)?;
        if got == 0 {
            return Ok(false);
        }
        if !header[..got].starts_with(&b"OggS"[..got.min(4)]) {
            return Err(malformed("a page does not begin with \"OggS\""));
        }
        if got < HEADER_LEN {
            return Err(cut("page header"));
        }
        if header[4] != 0 {
            return Err(malformed("the page version is not 0"));
        }
        let [_, _, _, _, _, flags, rest @ ..] = header;
        let (granule, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let (serial, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let (sequence, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let (checksum, _) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        self.flags = flags;
        self.granule = u64::from_le_bytes(*granule);
        self.serial = u32::from_le_bytes(*serial);
        self.sequence = u32::from_le_bytes(*sequence);
        self.segments.resize(usize::from(header[26]), 0);
        if read_up_to(source, &mut self.segments)? < self.segments.len() {
            return Err(cut("segment table"));
        }
        self.body.resize(self.segments.iter().map(|&s| usize::from(s)).sum(), 0);
        if read_up_to(source, &mut self.body)? < self.body.len() {
            return Err(cut("page"));
        }
        let expected = u32::from_le_bytes(*checksum);
        header[22..26].fill(0);
        if crc(crc(crc(0, &header), &self.segments), &self.body) != expected {
            return Err(malformed("the checksum of a page does not match"));
        }
        Ok(true)
    }

    /// Writes the page, with its checksum.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(b"OggS");
        header[5] = self.flags;
        header[6..14].copy_from_slice(&self.granule.to_le_bytes());
        header[14..18].copy_from_slice(&self.serial.to_le_bytes());
        header[18..22].copy_from_slice(&self.sequence.to_le_bytes());
        header[26] = self.segments.len() as u8;
        let checksum = crc(crc(crc(0, &header), &self.segments), &self.body);
        header[22..26].copy_from_slice(&checksum.to_le_bytes());
        out.write_all(&header)?;
        out.write_all(&self.segments)?;
        out.write_all(&self.body)
    }

    /// Whether a packet fits, whole, behind those that are there.
    pub(crate) fn has_room_for(&self, packet_len: usize) -> bool {
        self.segments.len() + packet_len / 255 < MAX_SEGMENTS
    }

    /// Adds a whole packet. The caller has asked [`Page::has_room_for`].
    pub(crate) fn push(&mut self, packet: &[u8]) {
        debug_assert!(self.has_room_for(packet.len()));
        self.segments.extend(std::iter::repeat_n(255, packet.len() / 255));
        self.segments.push((packet.len() % 255) as u8);
        self.body.extend_from_slice(packet);
    }

    /// Forgets the packets.
    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.body.clear();
    }

    pub(crate) fn is_last(&self) -> bool {
        self.flags & FLAG_LAST != 0
    }
}

/// Fills `out` as far as the source goes.
pub(crate) fn read_up_to(source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < out.len() {
        match source.read(&mut out[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

fn malformed(reason: &'static str) -> FileError {
    FileError::Malformed { format: "Ogg", reason }
}

fn cut(part: &'static str) -> FileError {
    FileError::EndsInside { format: "Ogg", part }
}

// Polynomial 0x04c11db7, not reflected, no final inversion.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut r = (i as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            r = (r << 1) ^ if r >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[i] = r;
        i += 1;
    }
    table
};

fn crc(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, &b| (crc << 8) ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ b)])
}
