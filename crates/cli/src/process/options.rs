//! The options of `evenkeel process`, and what they mean to the library.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use evenkeel_core::error::ConfigError;
use evenkeel_core::framing::Bandwidth;
use evenkeel_core::ladder::{Ladder, Rung, SinkCapability};
use evenkeel_core::seal::{SessionKeys, Suite};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig, RateControl};
use indicatif::ProgressBar;

use super::random;
use crate::failure::Failure;
use crate::terminal;
use crate::weather::Weather;

const EXAMPLES: &str = "\
Examples:
  Code a recording as Opus, and listen to it:
      evenkeel process talk.flac --to talk.opus

  Hear what a bad network does to it, and what redundancy saves:
      evenkeel process talk.flac --to bad.wav --loss 10 --burst 2 --jitter 20
      evenkeel process talk.flac --to better.wav --loss 10 --burst 2 --jitter 20 --fec

  See the encrypted datagrams in Wireshark, and turn them back into sound:
      evenkeel process talk.flac --to talk.pcap --key 000102030405060708090a0b0c0d0e0f
      evenkeel process talk.pcap --to back.wav --key 000102030405060708090a0b0c0d0e0f

Exit codes: 0 done, 1 the machine refused (disk, permissions), 2 the input or an option is wrong.";

/// Send a recording through the audio path, and write what comes out
///
/// Reads WAV, FLAC, MP3, Ogg Vorbis and Ogg Opus, and packet captures (pcap) of what was sent before. The ending of --to says
/// what is written: .opus plays everywhere, .wav is what a listener hears, concealment and all, and .pcap holds the
/// encrypted datagrams. A file of that name is replaced, once the new one is complete.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The recording or capture to read
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,

    /// The file to write: .opus, .wav or .pcap
    #[arg(long, value_name = "OUT")]
    pub(super) to: PathBuf,

    #[command(flatten)]
    pub(super) coding: Coding,

    #[command(flatten)]
    pub(super) session: Session,

    #[command(flatten)]
    pub(super) weather: Weather,

    /// Print one JSON object instead of the summary
    #[arg(long, help_heading = "Report")]
    pub(super) json: bool,

    /// No progress bar, no summary
    #[arg(long, short, help_heading = "Report", conflicts_with = "json")]
    pub(super) quiet: bool,
}

impl Args {
    /// A bar that counts to `seconds` of sound; where nobody looks, none.
    pub(super) fn progress(&self, seconds: Option<u64>) -> ProgressBar {
        // What takes less than a blink needs no bar.
        let is_short = seconds.is_some_and(|seconds| seconds < 60);
        terminal::progress(seconds, self.quiet || is_short)
    }
}

/// How to code.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Coding")]
pub(super) struct Coding {
    /// What the sound is for; decides which of its two codecs Opus leans to
    #[arg(long, value_enum, default_value = "voip")]
    application: ApplicationName,

    /// Bits per second, 6k to 510k
    #[arg(long, value_name = "BPS", default_value = "24k", value_parser = bitrate)]
    bitrate: u32,

    /// Search effort: 0 is fastest, 10 is best
    #[arg(long, value_name = "0-10", default_value_t = 5)]
    complexity: u8,

    /// Which rung of the ladder to be on, as an engine would choose it when there is too much to do
    #[arg(long, value_enum, default_value = "full")]
    rung: RungName,

    /// Let the bit rate vary freely [default: vary, but bounded]
    #[arg(long, conflicts_with = "cbr")]
    vbr: bool,

    /// Keep the bit rate constant
    #[arg(long)]
    cbr: bool,

    /// Carry a coarse copy of each frame in the next, so that a lost one can be recovered
    #[arg(long)]
    fec: bool,

    /// Loss to prepare for, in percent; more makes redundancy better, and the rest worse [default: 10 with --fec, else 0]
    #[arg(long, value_name = "PERCENT")]
    expected_loss: Option<u8>,

    /// Send next to nothing in silence
    #[arg(long)]
    dtx: bool,

    /// The widest audio bandwidth to code
    #[arg(long, value_enum, default_value = "full")]
    bandwidth: BandwidthName,

    /// Duration of a packet: 2.5, 5, 10, 20, 40, 60, 80, 100 or 120
    #[arg(long, value_name = "MS", default_value = "20", value_parser = frame)]
    pub(super) frame: FrameDuration,

    /// Sample rate to code at and to write, in Hz: 8000, 12000, 16000, 24000 or 48000 [default: the recording's, or the next
    /// higher that Opus codes]
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub(super) rate: Option<SampleRate>,

    /// Channels to code and to write: 1 or 2 [default: the recording's]
    #[arg(long, value_name = "COUNT", value_parser = channels)]
    pub(super) channels: Option<Channels>,
}

impl Coding {
    /// The ladder, and the position on it.
    pub(super) fn ladder(&self) -> (Ladder, usize) {
        let sink = SinkCapability { pcm: true, clear: false };
        let ladder = Ladder::new(self.complexity, sink, false);
        let is_asked = |rung: &Rung| match self.rung {
            RungName::Full => matches!(rung, Rung::Full { .. }),
            RungName::Medium => *rung == Rung::Medium,
            RungName::Minimal => *rung == Rung::Minimal,
        };
        (ladder, ladder.rungs().iter().position(is_asked).unwrap_or(0))
    }

    /// Whether what is sent is PCM, and no Opus.
    pub(super) fn is_pcm(&self) -> bool {
        self.rung == RungName::Minimal
    }

    pub(super) fn encoder(&self, sample_rate: SampleRate, channels: Channels) -> EncoderConfig {
        EncoderConfig {
            sample_rate,
            channels,
            application: match self.application {
                ApplicationName::Voip => Application::Voip,
                ApplicationName::Audio => Application::Audio,
                ApplicationName::LowDelay => Application::LowDelay,
            },
            bitrate: self.bitrate,
            complexity: self.complexity,
            rate_control: match (self.vbr, self.cbr) {
                (true, _) => RateControl::Vbr,
                (_, true) => RateControl::Cbr,
                _ => RateControl::ConstrainedVbr,
            },
            inband_fec: self.fec,
            expected_loss: self.expected_loss.unwrap_or(if self.fec { 10 } else { 0 }),
            dtx: self.dtx,
            max_bandwidth: match self.bandwidth {
                BandwidthName::Narrow => Bandwidth::Narrow,
                BandwidthName::Medium => Bandwidth::Medium,
                BandwidthName::Wide => Bandwidth::Wide,
                BandwidthName::SuperWide => Bandwidth::SuperWide,
                BandwidthName::Full => Bandwidth::Full,
            },
            ..EncoderConfig::default()
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum RungName {
    /// Opus as asked.
    Full,
    /// Opus by the MDCT alone, at complexity 0.
    Medium,
    /// PCM.
    Minimal,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum ApplicationName {
    /// Speech, made intelligible.
    Voip,
    /// Anything, made faithful.
    Audio,
    /// Anything, with the least delay; the speech codec is off.
    LowDelay,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum BandwidthName {
    /// Up to 4 kHz.
    Narrow,
    /// Up to 6 kHz.
    Medium,
    /// Up to 8 kHz.
    Wide,
    /// Up to 12 kHz.
    SuperWide,
    /// Up to 20 kHz.
    Full,
}

/// How datagrams are encrypted.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Encryption")]
pub(super) struct Session {
    /// How datagrams are encrypted; compat is what deployed devices speak
    #[arg(long, value_enum, default_value = "compat")]
    profile: Profile,

    /// The session key: 32 hexadecimal digits, 64 for the 256-bit profiles [default: a random one, which is printed]
    #[arg(long, value_name = "HEX", env = "EVENKEEL_KEY", hide_env_values = true, value_parser = hex)]
    key: Option<Hex>,

    /// The session id, from which all profiles but compat derive their keys
    #[arg(long, value_name = "TEXT", default_value = "evenkeel")]
    session_id: String,

    /// Which way the packets went, where a capture has both [default: that of its first packet]
    #[arg(long, value_enum, value_name = "WAY")]
    pub(super) direction: Option<Way>,
}

impl Session {
    /// The key that was given, or a new one.
    pub(super) fn key_or_random(&self) -> Result<Vec<u8>, Failure> {
        match self.given_key() {
            Some(key) => Ok(key.to_vec()),
            None => Ok(random::<32>()?[..self.suite().key_len()].to_vec()),
        }
    }

    /// The key that was given.
    pub(super) fn given_key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| key.0.as_slice())
    }

    pub(super) fn suite(&self) -> Suite {
        match self.profile {
            Profile::Compat => Suite::Aes128Ctr,
            Profile::Compat256 => Suite::Aes256Ctr,
            Profile::Aes128Gcm => Suite::Aes128Gcm,
            Profile::Aes256Gcm => Suite::Aes256Gcm,
            Profile::Chacha20Poly1305 => Suite::ChaCha20Poly1305,
        }
    }

    pub(super) fn keys(&self, key: &[u8], connection_id: u32) -> Result<SessionKeys, Failure> {
        SessionKeys::new(self.suite(), key, connection_id, self.session_id.as_bytes()).map_err(Failure::input)
    }

    /// The options with which what was sealed can be opened again.
    pub(super) fn to_open_again(&self, key: &[u8]) -> String {
        let mut options = String::from("--key ");
        options.extend(key.iter().map(|byte| format!("{byte:02x}")));
        if let Some(profile) = self.profile.to_possible_value().filter(|_| self.suite() != Suite::Aes128Ctr) {
            options += &format!(" --profile {}", profile.get_name());
        }
        if self.suite().is_authenticated() && self.session_id != "evenkeel" {
            options += &format!(" --session-id {:?}", self.session_id);
        }
        options
    }
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Profile {
    /// AES-128-CTR, as deployed firmware speaks it.
    Compat,
    /// The same with a key of 256 bits.
    #[value(name = "compat-256")]
    Compat256,
    #[value(name = "aes-128-gcm")]
    Aes128Gcm,
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    #[value(name = "chacha20-poly1305")]
    Chacha20Poly1305,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Device to gateway.
    Up,
    /// Gateway to device.
    Down,
}

/// Bytes as they came from hexadecimal digits; its `Debug` does not show them.
#[derive(Clone)]
struct Hex(Vec<u8>);

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

fn hex(text: &str) -> Result<Hex, String> {
    let digit = |c: char| c.to_digit(16).ok_or(format!("{c:?} is no hexadecimal digit"));
    let digits: Vec<u32> = text.chars().map(digit).collect::<Result<_, _>>()?;
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(format!("{} digits make no whole bytes", digits.len()));
    }
    Ok(Hex(pairs.iter().map(|[high, low]| (high * 16 + low) as u8).collect()))
}

fn bitrate(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000.0),
        None => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| "give bits per second, as 24000 or 24k".to_string())?;
    // `as` saturates; the encoder checks the range.
    Ok((number * unit).round() as u32)
}

fn frame(text: &str) -> Result<FrameDuration, String> {
    let ms = text.trim_end_matches("ms").trim_end().parse().unwrap_or(f64::NAN);
    FrameDuration::from_millis(ms)
        .map_err(|_| ConfigError::FrameDuration { ms }.to_string().replace("NaN ms", &format!("{text:?}")))
}

fn rate(text: &str) -> Result<SampleRate, String> {
    let hz = text.parse().map_err(|_| "give a number of hertz".to_string())?;
    match SampleRate::from_hz(hz) {
        Ok(rate) if rate.is_opus() => Ok(rate),
        _ => Err(ConfigError::CodecRate { hz }.to_string()),
    }
}

fn channels(text: &str) -> Result<Channels, String> {
    let count = text.parse().map_err(|_| "give 1 or 2".to_string())?;
    Channels::from_count(count).map_err(|e| e.to_string())
}
