//! Golden vectors: the files in `vectors/`, which every language's binding is held to. `vectors/README.md` says what
//! their fields mean; `examples/make_vectors.rs` makes them.

mod path;
mod resample;
mod seal;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use evenkeel_core::error::{OpenError, PacketError};

pub use path::{PathCase, PathInput, PathVectors};
pub use resample::{ResampleCase, ResampleVectors};
pub use seal::{Derived, Opening, SealVectors, SealedPacket, Session};

/// `vectors/framing.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FramingVectors {
    /// What each packet is.
    pub inspections: Vec<Inspection>,
    /// Packets joined to one.
    pub merges: Vec<Merging>,
    /// Frames taken out of a packet.
    pub splits: Vec<Splitting>,
}

/// What a packet is, or that it is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The packet.
    pub packet: Hex,
    /// Whether it is a valid Opus packet; if not, the rest is missing.
    pub is_valid: bool,
    /// How many frames it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// How long it lasts, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u32>,
    /// Whether it codes two channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_stereo: Option<bool>,
    /// Whether it carries redundancy (LBRR).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_lbrr: Option<bool>,
    /// Whether nothing but DTX is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_dtx: Option<bool>,
}

/// Packets joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merging {
    /// In order.
    pub packets: Vec<Hex>,
    /// The packet made of them; none if they cannot be joined.
    pub merged: Option<Hex>,
}

/// Frames taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Splitting {
    /// The packet.
    pub packet: Hex,
    /// The first frame taken.
    pub from: usize,
    /// The first frame not taken.
    pub to: usize,
    /// The packet made of them; none if there are no such frames.
    pub part: Option<Hex>,
}

/// Reads `vectors/<name>.json`.
///
/// # Panics
/// If it is not there or not what it should be.
#[must_use]
pub fn load<T: DeserializeOwned>(name: &str) -> T {
    let path = file(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where `vectors/<name>.json` is.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(name).with_extension("json")
}

/// How the vectors name the reason for which a datagram is refused.
#[must_use]
pub fn refusal(error: &OpenError) -> &'static str {
    match error {
        OpenError::Packet(PacketError::Truncated { .. }) => "truncated",
        OpenError::Packet(PacketError::Oversized { .. }) => "oversized",
        OpenError::Packet(PacketError::Type { .. }) => "type",
        OpenError::Packet(PacketError::Length { .. }) => "length",
        OpenError::Packet(PacketError::ConnectionId { .. }) => "connection id",
        OpenError::Packet(PacketError::Reflected) => "reflected",
        OpenError::Packet(PacketError::Payload { .. }) => "payload",
        OpenError::Packet(PacketError::Opus { .. }) => "opus",
        OpenError::Replayed { .. } => "replayed",
        OpenError::Stale { .. } => "stale",
        OpenError::TooFarAhead { .. } => "too far ahead",
        OpenError::Forged => "forged",
        _ => "other",
    }
}

/// Bytes, in hexadecimal digits where they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl From<&[u8]> for Hex {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{digits} is not hexadecimal")))
    }
}
