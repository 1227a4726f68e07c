//! WAV files: writing them, and looking at one before it is decoded.

use std::io::{Read, Seek, SeekFrom, Write};

use evenkeel_core::error::BufferError;
use evenkeel_core::pcm;
use evenkeel_core::units::{Channels, SampleRate};

use crate::error::FileError;
use crate::ogg::read_up_to;

/// Bytes of the header we write.
const HEADER_LEN: u32 = 44;

/// The most bytes of samples a WAV file holds: its lengths are 32-bit.
const MAX_DATA: u64 = (u32::MAX - HEADER_LEN) as u64;

/// What a writer that cannot seek back leaves in a length field; those of espeak-ng, sox and ffmpeg are at or above this.
const STREAMED: u32 = 0x7fff_0000;

/// How samples are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WavFormat {
    /// 16-bit integers, rounded and clipped as [`pcm::to_i16`] does.
    Int16,
    /// 32-bit floating point, as it is.
    Float32,
}

impl WavFormat {
    const fn bytes(self) -> u16 {
        match self {
            Self::Int16 => 2,
            Self::Float32 => 4,
        }
    }

    const fn tag(self) -> u16 {
        match self {
            Self::Int16 => 1,
            Self::Float32 => 3,
        }
    }
}

/// Writes a WAV file as the samples come.
///
/// Until [`WavWriter::finish`] the header says "length unknown", so that a file whose writer died still plays.
pub struct WavWriter<W> {
    out: W,
    format: WavFormat,
    channels: Channels,
    data: u64,
    integers: Vec<i16>,
    bytes: Vec<u8>,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Writes the header. Buffer `out`: it is written to in as small pieces as samples come.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(
        mut out: W,
        rate: SampleRate,
        channels: Channels,
        format: WavFormat,
    ) -> Result<Self, FileError> {
        let frame = format.bytes() * channels.count() as u16;
        let mut header = [0; HEADER_LEN as usize];
        let fields: [&[u8]; 13] = [
            b"RIFF",
            &u32::MAX.to_le_bytes(),
            b"WAVE",
            b"fmt ",
            &16u32.to_le_bytes(),
            &format.tag().to_le_bytes(),
            &(channels.count() as u16).to_le_bytes(),
            &rate.hz().to_le_bytes(),
            &(rate.hz() * u32::from(frame)).to_le_bytes(),
            &frame.to_le_bytes(),
            &(format.bytes() * 8).to_le_bytes(),
            b"data",
            &u32::MAX.to_le_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            header[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        out.write_all(&header)?;
        Ok(Self { out, format, channels, data: 0, integers: Vec::new(), bytes: Vec::new() })
    }

    /// Adds interleaved samples in -1.0 to 1.0.
    ///
    /// # Errors
    /// [`FileError::Buffer`] if there are not as many samples of each channel, [`FileError::TooLong`] if they would not
    /// fit in 4 GiB; none was added then. [`FileError::Io`].
    pub fn write(&mut self, samples: &[f32]) -> Result<(), FileError> {
        if !samples.len().is_multiple_of(self.channels.count()) {
            return Err(BufferError::PartialFrame { samples: samples.len() }.into());
        }
        let len = samples.len() as u64 * u64::from(self.format.bytes());
        if self.data + len > MAX_DATA {
            return Err(FileError::TooLong { format: "WAV", limit: MAX_DATA });
        }
        self.bytes.clear();
        match self.format {
            WavFormat::Int16 => {
                self.integers.resize(samples.len(), 0);
                pcm::to_i16(samples, &mut self.integers)?;
                self.bytes.extend(self.integers.iter().flat_map(|s| s.to_le_bytes()));
            }
            WavFormat::Float32 => self.bytes.extend(samples.iter().flat_map(|s| s.to_le_bytes())),
        }
        self.out.write_all(&self.bytes)?;
        self.data += len;
        Ok(())
    }

    /// Samples per channel written so far.
    pub fn samples(&self) -> u64 {
        self.data / u64::from(self.format.bytes()) / self.channels.count() as u64
    }

    /// Writes the lengths into the header.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W, FileError> {
        // Within 32 bits: `write` let no more than MAX_DATA through.
        let data = self.data as u32;
        self.out.seek(SeekFrom::Start(4))?;
        self.out.write_all(&(data + HEADER_LEN - 8).to_le_bytes())?;
        self.out.seek(SeekFrom::Start(u64::from(HEADER_LEN - 4)))?;
        self.out.write_all(&data.to_le_bytes())?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Walks the chunks up to the samples, and checks every length on the way against the length of the file. Returns
/// how many samples per channel there are, `None` if its writer left the length open. Leaves the source at its start.
pub(crate) fn inspect(source: &mut (impl Read + Seek)) -> Result<Option<u64>, FileError> {
    let end = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(12))?;
    let mut format = None;
    loop {
        let mut chunk = [0; 8];
        let got = read_up_to(source, &mut chunk)?;
        let here = source.stream_position()?;
        if got < chunk.len() {
            return Err(FileError::EndsInside { format: "WAV", part: "header" });
        }
        let [t0, t1, t2, t3, l0, l1, l2, l3] = chunk;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        match &[t0, t1, t2, t3] {
            b"data" => {
                let frame = format.ok_or(malformed("the samples come before the format"))?;
                source.rewind()?;
                return Ok((len < STREAMED).then(|| u64::from(len) / frame));
            }
            b"fmt " => format = Some(read_format(source, len)?),
            _ => {}
        }
        let next = here + u64::from(len) + u64::from(len % 2);
        if next > end {
            return Err(FileError::EndsInside { format: "WAV", part: "header" });
        }
        source.seek(SeekFrom::Start(next))?;
    }
}

/// Checks the format, and returns the bytes of a sample of all channels.
fn read_format(source: &mut impl Read, len: u32) -> Result<u64, FileError> {
    let mut fields = [0; 16];
    if read_up_to(source, &mut fields)? < fields.len() {
        return Err(FileError::EndsInside { format: "WAV", part: "header" });
    }
    if len < 16 {
        return Err(malformed("the format chunk has fewer than 16 bytes"));
    }
    let [_, _, c0, c1, r0, r1, r2, r3, .., b0, b1] = fields;
    let channels = Channels::from_count(usize::from(u16::from_le_bytes([c0, c1])))?;
    SampleRate::from_hz(u32::from_le_bytes([r0, r1, r2, r3]))?;
    let bits = u16::from_le_bytes([b0, b1]);
    if !matches!(bits, 8 | 16 | 24 | 32 | 64) {
        return Err(FileError::Unsupported {
            format: "WAV",
            what: "a sample size other than 8, 16, 24, 32 or 64 bits",
        });
    }
    Ok(u64::from(bits / 8) * channels.count() as u64)
}

fn malformed(reason: &'static str) -> FileError {
    FileError::Malformed { format: "WAV", reason }
}
