//! The far end: what arrives becomes a file.

mod opus_out;
mod wav_out;

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_core::error::OpenError;
use evenkeel_core::jitter::{JitterConfig, JitterStats};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, SessionKeys};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_files::pcap::{Datagram, PcapWriter};
use evenkeel_files::{OpusHead, OpusWriter, WavFormat, WavWriter};
use evenkeel_opus::OpusDecoder;
use evenkeel_testkit::network::{Network, NetworkStats};

use self::opus_out::OpusOut;
use self::wav_out::WavOut;
use crate::failure::Failure;
use crate::new_file::NewFile;

/// How late a packet may be where nobody is waiting.
pub(crate) const LONG: Duration = Duration::from_millis(500);

/// A pause longer than this is cut to it: what a capture says of time may be anything.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who sends to whom in captures that we write: addresses for documentation (RFC 5737), and the ports of the protocol.
pub(crate) const DOCUMENTATION: (SocketAddr, SocketAddr) = (
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 8884),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 5004),
);

/// What is written, as the ending of a file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Opus,
    Wav,
    Pcap,
}

impl Kind {
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "opus" => Ok(Self::Opus),
            "wav" => Ok(Self::Wav),
            "pcap" => Ok(Self::Pcap),
            _ => Err(Failure::wrong_file(path, "the ending tells what to write: .opus, .wav or .pcap")),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Opus => "Ogg Opus",
            Self::Wav => "WAV",
            Self::Pcap => "pcap",
        }
    }
}

/// How long a listener waits for packets that are late.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// As long as it seems worth it, which changes with the network, as in a call.
    Adaptive,
    /// Always this long.
    Fixed(Duration),
}

impl Patience {
    /// A jitter buffer that waits so.
    pub(crate) fn jitter(self, packet_duration: FrameDuration, direction: Direction) -> JitterConfig {
        let defaults = JitterConfig {
            packet_duration,
            timestamp_hz: (direction == Direction::Downlink).then_some(1_000),
            // Enough for the shortest packets and the longest wait.
            capacity: 1_024,
            ..JitterConfig::default()
        };
        match self {
            Self::Adaptive => defaults,
            Self::Fixed(depth) => {
                JitterConfig { min_depth: depth, initial_depth: depth, max_depth: depth, ..defaults }
            }
        }
    }
}

/// How the far end is to be set up.
pub(crate) struct FarEnd<'a> {
    pub(crate) keys: &'a SessionKeys,
    pub(crate) direction: Direction,
    /// Rate and channels to write.
    pub(crate) rate: SampleRate,
    pub(crate) channels: Channels,
    /// By how much coding delays the sound: left out at the start.
    pub(crate) delay: Duration,
    pub(crate) packet_duration: FrameDuration,
    pub(crate) patience: Patience,
    /// Sender and receiver in a capture.
    pub(crate) ends: (SocketAddr, SocketAddr),
}

impl FarEnd<'_> {
    /// Sets it up, with the file that it writes.
    pub(crate) fn open(&self, kind: Kind, path: &Path) -> Result<Output, Failure> {
        let failed = |e: &dyn Display| Failure::in_output(path, e);
        let file = NewFile::create(path).map_err(|e| failed(&e))?;
        if kind == Kind::Pcap {
            let (from, to) = self.ends;
            let writer = PcapWriter::new(file).map_err(|e| failed(&e))?;
            return Ok(Output::Pcap(PcapOut { writer, from, to }));
        }
        let payload = if kind == Kind::Wav { PayloadKind::OpusOrPcm } else { PayloadKind::Opus };
        let opener = Opener::new(self.keys, self.direction, payload);
        if kind == Kind::Wav {
            let decoder = OpusDecoder::new(self.rate, self.channels).map_err(Failure::input)?;
            let writer = WavWriter::new(file, self.rate, self.channels, WavFormat::Int16);
            let writer = writer.map_err(|e| failed(&e))?;
            let out = WavOut::new(opener, self.jitter(), decoder, writer, self.delay);
            return Ok(Output::Wav(Box::new(out.map_err(Failure::input)?)));
        }
        let pre_skip = (self.delay.as_nanos() * 48_000).div_ceil(1_000_000_000);
        let head = OpusHead {
            channels: self.channels,
            pre_skip: u16::try_from(pre_skip).unwrap_or(u16::MAX),
            input_rate: self.rate.hz(),
            gain: 0,
        };
        let writer = OpusWriter::new(file, head, self.keys.connection_id()).map_err(|e| failed(&e))?;
        let out = OpusOut::new(opener, self.jitter(), writer);
        Ok(Output::Opus(Box::new(out.map_err(Failure::input)?)))
    }

    fn jitter(&self) -> JitterConfig {
        self.patience.jitter(self.packet_duration, self.direction)
    }
}

/// What was heard at the far end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Far {
    /// What is in the file, in samples per channel at 48 kHz.
    pub(crate) played_samples: u64,
    pub(crate) jitter: JitterStats,
    pub(crate) refused: Refused,
}

/// Datagrams that could not be opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refused {
    pub(crate) count: u64,
    pub(crate) first: Option<OpenError>,
}

impl Refused {
    pub(crate) fn add(&mut self, error: OpenError) {
        self.count += 1;
        self.first.get_or_insert(error);
    }
}

/// The clock of a listener: starts when the first packet arrives, and goes on by what is played.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace(Option<Time>);

impl Pace {
    pub(crate) fn begin(&mut self, at: Time) {
        self.0.get_or_insert(at);
    }

    /// When a listener hangs up who hears nothing more.
    pub(crate) fn hang_up(&self) -> Time {
        self.0.unwrap_or_default() + LONGEST_PAUSE
    }

    /// The time now if it is before `end`; skips what a listener would not wait for.
    pub(crate) fn before(&mut self, end: Time) -> Option<Time> {
        let now = self.0?;
        if end.since(now) > LONGEST_PAUSE {
            self.0 = Some(end - LONGEST_PAUSE);
        }
        self.0.filter(|now| *now < end)
    }

    pub(crate) fn pass(&mut self, lasted: Duration) {
        self.0 = self.0.map(|now| now + lasted);
    }
}

/// Writes datagrams as they arrive, still sealed.
pub(crate) struct PcapOut {
    pub(crate) writer: PcapWriter<NewFile>,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// Where datagrams end.
pub(crate) enum Output {
    Opus(Box<OpusOut>),
    Wav(Box<WavOut>),
    Pcap(PcapOut),
}

/// A link at its end.
pub(crate) struct Closed {
    /// Length of the file, in bytes.
    pub(crate) bytes: u64,
    /// What was heard, if anybody listened.
    pub(crate) far: Option<Far>,
    pub(crate) network: Option<NetworkStats>,
}

/// The network, if there is one, and the file behind it.
pub(crate) struct Link {
    network: Option<Network>,
    output: Output,
    path: PathBuf,
}

impl Link {
    pub(crate) fn new(network: Option<Network>, output: Output, path: &Path) -> Self {
        Self { network, output, path: path.to_owned() }
    }

    /// Sends a datagram. To be called in the order of time.
    pub(crate) fn send(&mut self, now: Time, datagram: &[u8]) -> Result<(), Failure> {
        let Some(mut network) = self.network.take() else {
            return self.arrive(now, &mut datagram.to_vec());
        };
        network.send(now, datagram);
        let arrived = self.deliver(&mut network, now);
        self.network = Some(network);
        arrived
    }

    /// Lets all arrive that is under way, and completes the file. `length`, in samples per channel at 48 kHz, is how long
    /// the sound should be; what came over a network is as long as it is.
    ///
    /// Where a third of the datagrams was refused, key or profile must be wrong: an error, and no file.
    pub(crate) fn close(mut self, length: Option<u64>) -> Result<Closed, Failure> {
        let mut network = self.network.take();
        if let Some(network) = &mut network {
            while let Some(next) = network.next_time() {
                self.deliver(network, next)?;
            }
        }
        let length = length.filter(|_| network.is_none());
        let failed = |e: &dyn Display| Failure::in_output(&self.path, e);
        let (file, far) = match self.output {
            Output::Opus(out) => {
                out.finish(length).map(|(file, far)| (file, Some(far))).map_err(|e| failed(&e))?
            }
            Output::Wav(out) => {
                out.finish(length).map(|(file, far)| (file, Some(far))).map_err(|e| failed(&e))?
            }
            Output::Pcap(out) => (out.writer.finish().map_err(|e| failed(&e))?, None),
        };
        if let Some(Far { jitter, refused: Refused { count, first: Some(why) }, .. }) = far
            && count * 2 > jitter.received
        {
            let all = count + jitter.received;
            let advice = "is it the right --key and --profile?";
            return Err(Failure::input(format!(
                "{count} of {all} datagrams could not be opened ({why}): {advice}"
            )));
        }
        let bytes = file.commit().map_err(|e| failed(&e))?;
        Ok(Closed { bytes, far, network: network.map(|network| network.stats()) })
    }

    fn deliver(&mut self, network: &mut Network, now: Time) -> Result<(), Failure> {
        while let Some((at, mut datagram)) = network.poll(now) {
            self.arrive(at, &mut datagram)?;
        }
        Ok(())
    }

    fn arrive(&mut self, time: Time, datagram: &mut [u8]) -> Result<(), Failure> {
        let failed = |e: &dyn Display| Failure::in_output(&self.path, e);
        match &mut self.output {
            Output::Opus(out) => out.arrive(time, datagram).map_err(|e| failed(&e)),
            Output::Wav(out) => out.arrive(time, datagram).map_err(|e| failed(&e)),
            Output::Pcap(out) => {
                let (from, to) = (out.from, out.to);
                out.writer.write(&Datagram { time, from, to, payload: datagram }).map_err(|e| failed(&e))
            }
        }
    }
}
