//! `vectors/seal.json`.

use evenkeel_core::seal::{Direction, PayloadKind, SessionKeys, Suite};
use serde::{Deserialize, Serialize};

use super::Hex;

/// `vectors/seal.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealVectors {
    /// One or more for each suite.
    pub sessions: Vec<Session>,
}

/// What one key seals and opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name in a `hello`.
    pub suite: String,
    /// The session key.
    pub key: Hex,
    /// In every header.
    pub connection_id: u32,
    /// The salt of the key derivation.
    pub session_id: Hex,
    /// HKDF-SHA256's output for the uplink; none in the `compat` profile, which uses the key as it is.
    pub uplink: Option<Derived>,
    /// The same for the downlink.
    pub downlink: Option<Derived>,
    /// Where the downlink's media clock starts.
    pub timestamp_start: u32,
    /// Packets of one downlink, in order.
    pub downlink_packets: Vec<SealedPacket>,
    /// Packets of one uplink, in order.
    pub uplink_packets: Vec<SealedPacket>,
    /// Datagrams that arrive on the uplink, in order, at an opener that takes Opus alone.
    pub arriving: Vec<Opening>,
}

/// A key and the salt of its nonces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// 16 or 32 bytes.
    pub key: Hex,
    /// 12 bytes.
    pub salt: Hex,
}

/// A payload, and the datagram it becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealedPacket {
    /// `opus`; `pcm`, 16-bit big-endian; or `pcm in clear`.
    pub kind: String,
    /// The payload.
    pub payload: Hex,
    /// Media time since the session began, in milliseconds; downlink only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_ms: Option<u64>,
    /// In the header.
    pub timestamp: u32,
    /// In the header.
    pub sequence: u32,
    /// The whole.
    pub datagram: Hex,
}

/// A datagram that arrives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// What it is, in words.
    pub what: String,
    /// The whole.
    pub datagram: Hex,
    /// What is in it, if it is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Hex>,
    /// Why it is refused ([`super::refusal`]), if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Session {
    /// The suite.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn suite(&self) -> Suite {
        Suite::from_name(&self.suite).unwrap_or_else(|| panic!("no suite is called {}", self.suite))
    }

    /// The keys.
    ///
    /// # Panics
    /// If the key has not the suite's length.
    #[must_use]
    pub fn keys(&self) -> SessionKeys {
        let keys = SessionKeys::new(self.suite(), &self.key.0, self.connection_id, &self.session_id.0);
        keys.expect("a key of the suite's length")
    }

    /// What the opener of [`Session::arriving`] takes.
    pub const TAKES: (Direction, PayloadKind) = (Direction::Uplink, PayloadKind::Opus);
}
