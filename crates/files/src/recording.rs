//! Reads a recording of any format we know, as interleaved `f32`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use evenkeel_core::units::{Channels, SampleRate};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::probe::{Hint, Probe};
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::default::formats::{FlacReader, MpaReader, OggReader, WavReader};
use symphonia::default::meta::Id3v2Reader;

use crate::error::FileError;
use crate::mp3;
use crate::ogg::read_up_to;
use crate::opus::OpusReader;
use crate::opus_pcm::OpusPcm;
use crate::wav;

/// How much of a file is looked at to tell its format, in bytes: an MP3 begins there at the latest.
const START: usize = 16 * 1024;

/// Where in an Ogg file the first packet begins: behind a page header and one segment.
const FIRST_OGG_PACKET: usize = 28;

/// Anything a recording can be read from.
pub trait Source: Read + Seek + Send + Sync + 'static {}
impl<T: Read + Seek + Send + Sync + 'static> Source for T {}

/// A file format that [`Recording`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RIFF WAVE.
    Wav,
    /// FLAC.
    Flac,
    /// MPEG audio, layer III.
    Mp3,
    /// Vorbis, or FLAC, in Ogg.
    Ogg,
    /// Opus in Ogg.
    OggOpus,
}

impl Format {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "WAV",
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Ogg => "Ogg",
            Self::OggOpus => "Ogg Opus",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A recording, read as a stream of interleaved samples in -1.0 to 1.0.
///
/// Encoder delay and padding that a format announces are left out. A packet that does not decode (a damaged MP3, say) is
/// left out and counted. Bytes at which the decoder panics are an error like any other malformed file's.
pub struct Recording {
    decoder: AnyDecoder,
    format: Format,
    rate: SampleRate,
    channels: Channels,
    announced: Option<u64>,
    given: u64,
    ended: bool,
}

enum AnyDecoder {
    Symphonia(Symphonia),
    Opus(OpusPcm<BufReader<Box<dyn Source>>>),
}

impl Recording {
    /// Opens a file.
    ///
    /// # Errors
    /// Any [`FileError`] about the start of the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        Self::read_from(file)
    }

    /// As [`Recording::open`], from any source.
    ///
    /// # Errors
    /// Any [`FileError`] about the start of the file.
    pub fn read_from(mut source: impl Source) -> Result<Self, FileError> {
        let mut start = vec![0; START];
        let len = read_up_to(&mut source, &mut start)?;
        source.rewind()?;
        let start = &start[..len];
        if start.is_empty() {
            return Err(FileError::Empty);
        }
        let in_ogg = start.get(FIRST_OGG_PACKET..).filter(|_| start.starts_with(b"OggS"));
        if in_ogg.is_some_and(|packet| packet.starts_with(b"OpusHead")) {
            return Self::opus(Box::new(source));
        }
        let wav = start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WAVE");
        let announced_by_wav = if wav { Some(wav::inspect(&mut source)?) } else { None };
        let (decoder, format, rate, channels) = contained("audio file", || Symphonia::new(source, start))?;
        let announced = announced_by_wav.unwrap_or(decoder.announced);
        let decoder = AnyDecoder::Symphonia(decoder);
        Ok(Self { decoder, format, rate, channels, announced, given: 0, ended: false })
    }

    fn opus(source: Box<dyn Source>) -> Result<Self, FileError> {
        let mut source = BufReader::new(source);
        let announced = OpusReader::announced_samples(&mut source)?;
        let packets = OpusReader::new(source)?;
        let channels = packets.head().channels;
        let decoder = AnyDecoder::Opus(OpusPcm::new(packets)?);
        let (format, rate) = (Format::OggOpus, SampleRate::HZ_48000);
        Ok(Self { decoder, format, rate, channels, announced, given: 0, ended: false })
    }

    /// The file's format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The rate of what [`Recording::read`] gives; 48 kHz for Opus.
    #[must_use]
    pub fn sample_rate(&self) -> SampleRate {
        self.rate
    }

    /// The channels of what [`Recording::read`] gives.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// How long the file says it is, in samples per channel. For MP3 it may be an estimate.
    #[must_use]
    pub fn announced_samples(&self) -> Option<u64> {
        self.announced
    }

    /// Samples per channel given so far.
    #[must_use]
    pub fn given_samples(&self) -> u64 {
        self.given
    }

    /// Packets that did not decode and were left out.
    #[must_use]
    pub fn damaged_packets(&self) -> u64 {
        match &self.decoder {
            AnyDecoder::Symphonia(decoder) => decoder.damaged,
            AnyDecoder::Opus(_) => 0,
        }
    }

    /// Fills `out` with interleaved samples. Returns samples per channel: fewer than fit only at the end, then 0.
    ///
    /// # Errors
    /// Any [`FileError`] about the file from here on; samples before the fault have been given. At the end,
    /// [`FileError::NoAudio`] if there were none and [`FileError::CutOff`] for a WAV or FLAC file that holds fewer than
    /// it announces. An error is told once: after it there is nothing more to read.
    pub fn read(&mut self, out: &mut [f32]) -> Result<usize, FileError> {
        if self.ended || out.len() < self.channels.count() {
            return Ok(0);
        }
        let samples = match &mut self.decoder {
            AnyDecoder::Symphonia(decoder) => decoder.read(out),
            AnyDecoder::Opus(decoder) => decoder.read(out),
        };
        let samples = samples.inspect_err(|_| self.ended = true)?;
        self.given += samples as u64;
        if samples == 0 {
            self.ended = true;
            self.check_end()?;
        }
        Ok(samples)
    }

    fn check_end(&self) -> Result<(), FileError> {
        let exact = matches!(self.format, Format::Wav | Format::Flac);
        match self.announced {
            Some(announced) if exact && self.given < announced => {
                Err(FileError::CutOff { announced, present: self.given })
            }
            _ if self.given > 0 => Ok(()),
            _ if self.damaged_packets() > 0 => {
                Err(FileError::Malformed { format: self.format.name(), reason: "not one packet decodes" })
            }
            _ => Err(FileError::NoAudio),
        }
    }
}

/// Everything but Opus.
struct Symphonia {
    packets: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    format: Format,
    rate: SampleRate,
    channels: Channels,
    announced: Option<u64>,
    decoded: Vec<f32>,
    /// The first sample in `decoded` that was not given out yet.
    at: usize,
    /// Met when samples were there to give first.
    fault: Option<FileError>,
    damaged: u64,
}

impl Symphonia {
    fn new(source: impl Source, start: &[u8]) -> Result<(Self, Format, SampleRate, Channels), FileError> {
        // A signature counts at the start of a file only, not in the middle of some text.
        let mut probe = Probe::default();
        match start {
            [b'R', b'I', b'F', b'F', ..] => probe.register_format::<WavReader<'_>>(),
            [b'f', b'L', b'a', b'C', ..] => probe.register_format::<FlacReader<'_>>(),
            [b'O', b'g', b'g', b'S', ..] => probe.register_format::<OggReader<'_>>(),
            [b'I', b'D', b'3', ..] => {
                probe.register_metadata::<Id3v2Reader<'_>>();
                probe.register_format::<FlacReader<'_>>();
                probe.register_format::<MpaReader<'_>>();
            }
            _ if mp3::begins_in(start) => probe.register_format::<MpaReader<'_>>(),
            _ => return Err(FileError::NotAudio),
        }
        let stream = MediaSourceStream::new(Box::new(Sized::new(source)?), Default::default());
        let packets = probe
            .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|e| match e {
                DecodeError::Unsupported(_) => FileError::NotAudio,
                other => fault("audio file", other),
            })?;
        let format = match packets.format_info().short_name {
            "wave" => Format::Wav,
            "flac" => Format::Flac,
            "ogg" => Format::Ogg,
            _ => Format::Mp3,
        };
        let unsupported = |what| FileError::Unsupported { format: format.name(), what };
        let track =
            packets.default_track(TrackType::Audio).ok_or_else(|| unsupported("a file without audio"))?;
        let params = track.codec_params.as_ref().and_then(|p| p.audio());
        let params = params.ok_or_else(|| unsupported("this codec"))?;
        let rate = params.sample_rate.ok_or_else(|| unsupported("an unknown sample rate"))?;
        let rate = SampleRate::from_hz(rate)?;
        let channels = params.channels.as_ref().map_or(0, |c| c.count());
        let channels = Channels::from_count(channels)?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(params, &AudioDecoderOptions::default())
            .map_err(|e| match e {
                DecodeError::Unsupported(_) => unsupported("this codec"),
                other => fault(format.name(), other),
            })?;
        let (track, announced) = (track.id, track.num_frames);
        let this = Self {
            packets,
            decoder,
            track,
            format,
            rate,
            channels,
            announced,
            decoded: Vec::new(),
            at: 0,
            fault: None,
            damaged: 0,
        };
        Ok((this, format, rate, channels))
    }

    fn read(&mut self, out: &mut [f32]) -> Result<usize, FileError> {
        let channels = self.channels.count();
        let whole = out.len() / channels * channels;
        let mut at = 0;
        while at < whole {
            if self.at == self.decoded.len() {
                let format = self.format.name();
                let next = |this: &mut Self| contained(format, || this.decode_next());
                match self.fault.take().map_or_else(|| next(self), Err) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(fault) if at == 0 => return Err(fault),
                    Err(fault) => {
                        self.fault = Some(fault);
                        break;
                    }
                }
            }
            let take = (self.decoded.len() - self.at).min(whole - at);
            out[at..at + take].copy_from_slice(&self.decoded[self.at..self.at + take]);
            self.at += take;
            at += take;
        }
        Ok(at / channels)
    }

    /// Decodes until there are samples to give. `false` at the end of the file.
    fn decode_next(&mut self) -> Result<bool, FileError> {
        self.decoded.clear();
        self.at = 0;
        while self.decoded.is_empty() {
            let packet = match self.packets.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(false),
                // The readers of some formats end so; whether something is missing is told from the length.
                Err(DecodeError::IoError(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(e) => return Err(fault(self.format.name(), e)),
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(samples) => {
                    if samples.spec().rate() != self.rate.hz()
                        || samples.num_planes() != self.channels.count()
                    {
                        return Err(FileError::Unsupported {
                            format: self.format.name(),
                            what: "a change of rate or channels midway",
                        });
                    }
                    samples.copy_to_vec_interleaved(&mut self.decoded);
                }
                Err(DecodeError::DecodeError(_) | DecodeError::IoError(_)) => self.damaged += 1,
                Err(e) => return Err(fault(self.format.name(), e)),
            }
        }
        Ok(true)
    }
}

/// Runs decoders that nobody here wrote: what makes them panic is a malformed file, and must not end who reads it.
/// They must not be used again. The panic's message goes where all do, for whoever reports it to their authors.
fn contained<T>(format: &'static str, work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or(Err(FileError::Malformed { format, reason: "its decoder cannot cope with what it holds" }))
}

fn fault(format: &'static str, error: DecodeError) -> FileError {
    match error {
        DecodeError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            FileError::EndsInside { format, part: "header" }
        }
        DecodeError::IoError(e) => FileError::Io(e),
        DecodeError::DecodeError(reason) | DecodeError::LimitError(reason) => {
            FileError::Malformed { format, reason }
        }
        DecodeError::Unsupported(what) => FileError::Unsupported { format, what },
        DecodeError::ResetRequired => {
            FileError::Unsupported { format, what: "a chain of several recordings" }
        }
        _ => FileError::Malformed { format, reason: "it cannot be read on" },
    }
}

/// A source whose length is known, as the readers ask for it.
struct Sized<S> {
    source: S,
    len: u64,
}

impl<S: Source> Sized<S> {
    fn new(mut source: S) -> io::Result<Self> {
        let len = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        Ok(Self { source, len })
    }
}

impl<S: Source> Read for Sized<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.source.read(out)
    }
}

impl<S: Source> Seek for Sized<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.source.seek(to)
    }
}

impl<S: Source> MediaSource for Sized<S> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.len)
    }
}
