//! Opus packets in an Ogg file (RFC 7845), in and out.

use std::io::{Read, Seek, SeekFrom, Write};

use evenkeel_core::framing::Frames;
use evenkeel_core::units::Channels;

use crate::error::FileError;
use crate::ogg::{FLAG_CONTINUED, FLAG_FIRST, FLAG_LAST, MAX_PAGE_LEN, NO_GRANULE, Page, read_up_to};

/// The largest packet there can be, in bytes (RFC 7845, section 6).
const MAX_PACKET_LEN: usize = 61_440;

/// A page is written once it holds this much, in samples at 48 kHz: one second.
const PAGE_SAMPLES: u64 = 48_000;

/// What an Ogg Opus file says about itself before the audio (RFC 7845, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusHead {
    /// Channels to decode to.
    pub channels: Channels,
    /// Samples per channel at 48 kHz to drop from the start of what is decoded: the encoder's delay.
    pub pre_skip: u16,
    /// The rate of what was encoded, in hertz; a note only, decoding gives any rate. 0 is unknown.
    pub input_rate: u32,
    /// Gain to apply to what is decoded, in 1/256 dB.
    pub gain: i16,
}

impl OpusHead {
    fn parse(packet: &[u8]) -> Result<Self, FileError> {
        if !packet.starts_with(b"OpusHead") {
            return Err(FileError::Unsupported { format: "Ogg", what: "a first stream that is not Opus" });
        }
        let Some(&[version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family]) =
            packet[8..].first_chunk::<11>()
        else {
            return Err(malformed("the identification header has fewer than 19 bytes"));
        };
        if version >> 4 != 0 {
            return Err(FileError::Unsupported { format: "Ogg Opus", what: "a version other than 0.x or 1" });
        }
        if family > 1 {
            return Err(FileError::Unsupported {
                format: "Ogg Opus",
                what: "a channel mapping beyond family 1",
            });
        }
        Ok(Self {
            channels: Channels::from_count(usize::from(channels))?,
            pre_skip: u16::from_le_bytes([s0, s1]),
            input_rate: u32::from_le_bytes([r0, r1, r2, r3]),
            gain: i16::from_le_bytes([g0, g1]),
        })
    }

    fn emit(&self) -> [u8; 19] {
        let mut out = *b"OpusHead\x01\0\0\0\0\0\0\0\0\0\0";
        out[9] = self.channels.count() as u8;
        out[10..12].copy_from_slice(&self.pre_skip.to_le_bytes());
        out[12..16].copy_from_slice(&self.input_rate.to_le_bytes());
        out[16..18].copy_from_slice(&self.gain.to_le_bytes());
        out
    }
}

/// A packet as it stood in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusPacket<'a> {
    /// The packet; it passed the rules of RFC 6716, section 3.4.
    pub data: &'a [u8],
    /// What it decodes to, in samples per channel at 48 kHz.
    pub samples: u32,
    /// How many of those samples, from the first, belong to the recording: fewer than `samples` only at the very
    /// end of the file (RFC 7845, section 4.4, end trimming).
    pub keep: u32,
}

/// Reads the packets of the first stream in an Ogg file, which must be Opus.
///
/// Other streams multiplexed with it are skipped; a file of several streams one after the other ("chained") is
/// refused where the second begins.
pub struct OpusReader<R> {
    source: R,
    head: OpusHead,
    page: Page,
    /// The next segment of `page`, and where in its body it begins.
    segment: usize,
    offset: usize,
    packet: Vec<u8>,
    packets: u64,
    /// Granule position at the end of the page before, if a page ended a packet before.
    granule: u64,
    /// Samples of the last page that are left to give; `None` before the last page.
    left: Option<u64>,
    ended: bool,
}

impl<R: Read> OpusReader<R> {
    /// Reads the headers.
    ///
    /// # Errors
    /// Any [`FileError`] about the start of the file.
    pub fn new(mut source: R) -> Result<Self, FileError> {
        let mut page = Page::default();
        if !page.read(&mut source)? {
            return Err(FileError::Empty);
        }
        if page.flags & FLAG_FIRST == 0 {
            return Err(malformed("the first page is not marked as the first"));
        }
        let head = OpusHead::parse(&page.body)?;
        let segment = page.segments.len();
        let mut reader = Self {
            source,
            head,
            page,
            segment,
            offset: 0,
            packet: Vec::new(),
            packets: 0,
            granule: 0,
            left: None,
            ended: false,
        };
        // Tags may be huge (a cover picture) and are of no use here: skipped, not kept.
        if !reader.assemble(8)? {
            return Err(FileError::EndsInside { format: "Ogg Opus", part: "headers" });
        }
        if reader.packet != b"OpusTags" {
            return Err(malformed("the second packet is not OpusTags"));
        }
        reader.granule = 0;
        Ok(reader)
    }

    /// What the file says about itself.
    pub fn head(&self) -> OpusHead {
        self.head
    }

    /// The next packet, or `None` at the end of the stream.
    ///
    /// # Errors
    /// Any [`FileError`] about the file from here on. A second call after an error is of no use.
    pub fn next_packet(&mut self) -> Result<Option<OpusPacket<'_>>, FileError> {
        if !self.assemble(MAX_PACKET_LEN)? {
            return Ok(None);
        }
        let frames =
            Frames::parse(&self.packet).map_err(|error| FileError::Packet { index: self.packets, error })?;
        let samples = frames.duration_us() / 125 * 6;
        self.packets += 1;
        let keep = match &mut self.left {
            None => samples,
            Some(left) => {
                let keep = samples.min(u32::try_from(*left).unwrap_or(u32::MAX));
                *left -= u64::from(keep);
                keep
            }
        };
        Ok(Some(OpusPacket { data: &self.packet, samples, keep }))
    }

    /// Collects the segments of the next packet, the first `limit` bytes of it; a longer audio packet is an error.
    fn assemble(&mut self, limit: usize) -> Result<bool, FileError> {
        self.packet.clear();
        loop {
            if self.segment == self.page.segments.len() && !self.turn_page()? {
                return if self.packet.is_empty() {
                    Ok(false)
                } else {
                    Err(FileError::EndsInside { format: "Ogg Opus", part: "last packet" })
                };
            }
            let len = usize::from(self.page.segments[self.segment]);
            let bytes = &self.page.body[self.offset..self.offset + len];
            if self.packet.len() + len <= limit {
                self.packet.extend_from_slice(bytes);
            } else if limit == MAX_PACKET_LEN {
                return Err(malformed("a packet is longer than 61440 bytes"));
            } else {
                self.packet.extend_from_slice(&bytes[..limit - self.packet.len()]);
            }
            self.offset += len;
            self.segment += 1;
            if len < 255 {
                return Ok(true);
            }
        }
    }

    /// Goes to the next page of our stream that has segments. `false` at the end.
    fn turn_page(&mut self) -> Result<bool, FileError> {
        let serial = self.page.serial;
        loop {
            if self.ended {
                return self.refuse_a_chain();
            }
            if !self.page.read(&mut self.source)? {
                return Ok(false);
            }
            if self.page.serial != serial {
                continue;
            }
            if (self.page.flags & FLAG_CONTINUED != 0) == self.packet.is_empty() {
                return Err(malformed("a packet is cut off between two pages"));
            }
            self.segment = 0;
            self.offset = 0;
            self.ended = self.page.is_last();
            if self.page.granule != NO_GRANULE {
                if self.ended {
                    self.left = Some(self.page.granule.saturating_sub(self.granule));
                }
                self.granule = self.page.granule;
            }
            if !self.page.segments.is_empty() {
                return Ok(true);
            }
        }
    }

    /// What follows the last page may be pages of other streams, or no Ogg at all, but not more to play.
    fn refuse_a_chain(&mut self) -> Result<bool, FileError> {
        while let Ok(true) = self.page.read(&mut self.source) {
            if self.page.flags & FLAG_FIRST != 0 {
                return Err(FileError::Unsupported {
                    format: "Ogg Opus",
                    what: "a chain of several recordings",
                });
            }
        }
        self.page.clear();
        self.segment = 0;
        Ok(false)
    }
}

impl<R: Read + Seek> OpusReader<R> {
    /// Samples per channel at 48 kHz that the last page of the file announces, pre-skip taken off; `None` if there is
    /// no such page. Moves the source: call before [`OpusReader::new`].
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn announced_samples(source: &mut R) -> Result<Option<u64>, FileError> {
        source.rewind()?;
        let mut first = Page::default();
        if !first.read(source)? {
            return Ok(None);
        }
        let head = OpusHead::parse(&first.body)?;
        let end = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(end.saturating_sub(MAX_PAGE_LEN as u64 + 1)))?;
        let mut tail = vec![0; MAX_PAGE_LEN + 1];
        let len = read_up_to(source, &mut tail)?;
        source.rewind()?;
        let granule = tail[..len]
            .windows(18)
            .rev()
            .filter(|w| w.starts_with(b"OggS\0"))
            .filter(|w| w[14..18] == first.serial.to_le_bytes())
            .filter_map(|w| w[6..14].first_chunk().map(|g| u64::from_le_bytes(*g)))
            .find(|&g| g != NO_GRANULE);
        Ok(granule.map(|g| g.saturating_sub(u64::from(head.pre_skip))))
    }
}

/// Writes Opus packets as an Ogg file that any player plays.
///
/// Packets may be of any duration, and of different ones. Pages hold at most a second, and are written when full. Call
/// [`OpusWriter::finish`]: a file without its last page plays, but its end is not trimmed.
pub struct OpusWriter<W> {
    out: W,
    page: Page,
    head: OpusHead,
    /// Samples at 48 kHz in the pages that were written, and in this one.
    written: u64,
    pending: u64,
    packets: u64,
}

impl<W: Write> OpusWriter<W> {
    /// Writes the headers. `serial` names the stream within the file: any number, best a random one.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(out: W, head: OpusHead, serial: u32) -> Result<Self, FileError> {
        let mut writer = Self {
            out,
            page: Page { flags: FLAG_FIRST, serial, ..Page::default() },
            head,
            written: 0,
            pending: 0,
            packets: 0,
        };
        writer.page.push(&head.emit());
        writer.turn_page()?;
        let vendor = concat!("evenkeel ", env!("CARGO_PKG_VERSION"));
        let mut tags = b"OpusTags".to_vec();
        tags.extend_from_slice(&(vendor.len() as u32).to_le_bytes());
        tags.extend_from_slice(vendor.as_bytes());
        tags.extend_from_slice(&0u32.to_le_bytes());
        writer.page.push(&tags);
        writer.turn_page()?;
        Ok(writer)
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// [`FileError::Packet`] if it is no valid Opus packet, and nothing was added; [`FileError::Io`].
    pub fn write(&mut self, packet: &[u8]) -> Result<(), FileError> {
        let bad = |error| FileError::Packet { index: self.packets, error };
        let samples = u64::from(Frames::parse(packet).map_err(bad)?.duration_us() / 125 * 6);
        if packet.len() > MAX_PACKET_LEN {
            return Err(malformed("a packet is longer than 61440 bytes"));
        }
        let full = !self.page.segments.is_empty() && self.pending + samples > PAGE_SAMPLES;
        if full || !self.page.has_room_for(packet.len()) {
            self.turn_page()?;
        }
        self.page.push(packet);
        self.pending += samples;
        self.packets += 1;
        Ok(())
    }

    /// What the file says about itself.
    pub fn head(&self) -> OpusHead {
        self.head
    }

    /// Samples per channel at 48 kHz that the packets so far decode to, pre-skip included.
    pub fn samples(&self) -> u64 {
        self.written + self.pending
    }

    /// Writes the last page. With `length`, in samples per channel at 48 kHz, players drop what the packets decode to
    /// beyond it (pre-skip not counted); trimming is
    /// meant for less than a packet, and never reaches beyond the last page.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self, length: Option<u64>) -> Result<W, FileError> {
        if let Some(length) = length {
            let end = (length + u64::from(self.head.pre_skip)).max(self.written);
            self.pending = self.pending.min(end - self.written);
        }
        self.page.flags |= FLAG_LAST;
        self.turn_page()?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn turn_page(&mut self) -> Result<(), FileError> {
        self.written += self.pending;
        self.pending = 0;
        self.page.granule = self.written;
        self.page.write(&mut self.out)?;
        self.page.clear();
        self.page.sequence += 1;
        self.page.flags = 0;
        Ok(())
    }
}

fn malformed(reason: &'static str) -> FileError {
    FileError::Malformed { format: "Ogg Opus", reason }
}
