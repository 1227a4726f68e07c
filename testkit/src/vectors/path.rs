//! `vectors/path.json`.

use evenkeel_core::ladder::{Ladder, SinkCapability};
use evenkeel_core::pcm::{Format, SampleFormat};
use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{Application, EncoderConfig, OpusEncoder};
use serde::{Deserialize, Serialize};

use super::Hex;

/// `vectors/path.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathVectors {
    /// The libopus that made the packets.
    pub opus: String,
    /// Signals, and what a sender makes of them.
    pub cases: Vec<PathCase>,
}

/// A signal, settings, and the datagrams they give. Every session has the key, connection id, session id and
/// timestamp start of [`PathCase::sealer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathCase {
    /// What it is, in words.
    pub name: String,
    /// The signal.
    pub input: PathInput,
    /// `voip`, `audio` or `low delay`.
    pub application: String,
    /// The encoder's rate, in hertz.
    pub encoder_rate: u32,
    /// The encoder's channels.
    pub encoder_channels: usize,
    /// In bits a second.
    pub bitrate: u32,
    /// 0 to 10.
    pub complexity: u8,
    /// In milliseconds.
    pub frame_ms: f64,
    /// The rung of the ladder: `full`, `medium` or `minimal`.
    pub rung: String,
    /// Whether any build must give these bytes. If not, those must that run libopus' AVX2 code; others may differ in
    /// single bits of their samples, and must decode to nearly the same.
    pub is_exact_everywhere: bool,
    /// In order.
    pub datagrams: Vec<Hex>,
}

/// A signal that integers describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInput {
    /// Samples per channel and second.
    pub rate: u32,
    /// 1 or 2.
    pub channels: usize,
    /// Samples per channel.
    pub samples: usize,
}

impl PathInput {
    /// The signal: two triangles and noise, the right channel half of the left and upside down. All is integer
    /// arithmetic, with divisions that round towards zero; `vectors/README.md` says the same in words.
    #[must_use]
    pub fn pcm(&self) -> Vec<i16> {
        let triangle = |n: i32, hz: i32| {
            let period = self.rate as i32 / hz;
            ((n % period) * 1024 / period - 512).abs() * 4 - 1024
        };
        let mut seed = 1u32;
        let left = (0..self.samples as i32).map(|n| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (seed >> 24) as i32 - 128;
            (6 * triangle(n, 120) + 3 * triangle(n, 700) + noise) as i16
        });
        left.flat_map(|left| [left, -left / 2].into_iter().take(self.channels)).collect()
    }
}

impl PathCase {
    /// Sends the signal; gives the datagrams.
    ///
    /// # Panics
    /// If the settings are none.
    #[must_use]
    pub fn send(&self) -> Vec<Hex> {
        let rate = |hz| SampleRate::from_hz(hz).expect("a supported rate");
        let channels = |count| Channels::from_count(count).expect("one or two channels");
        let config = EncoderConfig {
            sample_rate: rate(self.encoder_rate),
            channels: channels(self.encoder_channels),
            application: match self.application.as_str() {
                "voip" => Application::Voip,
                "audio" => Application::Audio,
                "low delay" => Application::LowDelay,
                other => panic!("no application is called {other}"),
            },
            bitrate: self.bitrate,
            complexity: self.complexity,
            ..EncoderConfig::default()
        };
        let ladder = Ladder::new(self.complexity, SinkCapability { pcm: true, clear: false }, false);
        let below_full = ["minimal", "medium"].iter().position(|rung| *rung == self.rung);
        assert!(below_full.is_some() || self.rung == "full", "no rung is called {}", self.rung);
        let input = Format {
            rate: rate(self.input.rate),
            channels: channels(self.input.channels),
            sample: SampleFormat::I16,
        };
        let frame = FrameDuration::from_millis(self.frame_ms).expect("a frame's duration");
        let encoder = OpusEncoder::new(config).expect("valid settings");
        let mut sender = Sender::new(input, frame, ladder, encoder, Self::sealer()).expect("valid settings");
        sender.set_position(below_full.map_or(0, |up| ladder.last() - up));
        let mut datagrams = Vec::new();
        let pcm = self.input.pcm();
        sender
            .push(pcm[..].into(), |sealed| datagrams.push(sealed.datagram.into()))
            .expect("the input's format");
        sender.flush(|sealed| datagrams.push(sealed.datagram.into())).expect("far from every limit");
        datagrams
    }

    /// What every case is sealed with: `aes-128-ctr`, a key of sixteen times 0x2a, connection id 0x01020304, downlink
    /// timestamps from 1000 on.
    #[must_use]
    pub fn sealer() -> Sealer {
        Sealer::new(&Self::keys(), Direction::Downlink, 1_000)
    }

    /// The keys of every case.
    ///
    /// # Panics
    /// Never: the key has its length.
    #[must_use]
    pub fn keys() -> SessionKeys {
        SessionKeys::new(Suite::Aes128Ctr, &[0x2a; 16], 0x0102_0304, b"").expect("sixteen bytes")
    }
}
