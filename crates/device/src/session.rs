//! What the answer to a `hello` says, and the keys that follow from it.

use std::net::{SocketAddr, ToSocketAddrs};

use evenkeel_core::packet::Header;
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use serde_json::{Value, json};

use crate::DeviceError;

/// A media session as the gateway granted it.
pub struct Session {
    /// Its name in all messages.
    pub id: String,
    /// Where to send audio.
    pub server: SocketAddr,
    /// How packets are sealed.
    pub suite: Suite,
    /// The duration of a downlink packet in ms, as announced.
    pub frame_duration_ms: f64,
    /// The rate to decode at in Hz, as announced.
    pub sample_rate: u32,
    keys: SessionKeys,
}

impl Session {
    /// Reads the gateway's `hello`. May look a name up, which blocks.
    ///
    /// # Errors
    /// [`DeviceError::Protocol`] with what is missing or wrong.
    pub fn parse(message: &Value) -> Result<Self, DeviceError> {
        Self::read(message).map_err(|reason| DeviceError::Protocol { what: "hello", reason })
    }

    fn read(message: &Value) -> Result<Self, String> {
        let text = |at: &str| {
            let value = message.pointer(at).and_then(Value::as_str);
            value.ok_or_else(|| format!("{at} is missing in {message}"))
        };
        let number = |at: &str| {
            let value = message.pointer(at).and_then(Value::as_f64);
            value.ok_or_else(|| format!("{at} is missing in {message}"))
        };
        let host = text("/udp/server")?;
        let port = number("/udp/port")? as u16;
        let server = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.next();
        let suite = text("/udp/encryption")?;
        let suite = Suite::from_name(suite).ok_or_else(|| format!("encryption {suite} is unknown"))?;
        let key = unhex(text("/udp/key")?).ok_or("the key is not hex")?;
        let nonce = unhex(text("/udp/nonce")?).ok_or("the nonce is not hex")?;
        let header = Header::parse(&nonce).map_err(|error| format!("the nonce: {error}"))?;
        let id = text("/session_id")?.to_owned();
        let keys = SessionKeys::new(suite, &key, header.connection_id, id.as_bytes());
        Ok(Self {
            id,
            server: server.ok_or("the server's name has no address")?,
            suite,
            frame_duration_ms: number("/audio_params/frame_duration")?,
            sample_rate: number("/audio_params/sample_rate")? as u32,
            keys: keys.map_err(|error| error.to_string())?,
        })
    }

    /// The SSRC both directions carry.
    #[must_use]
    pub const fn connection_id(&self) -> u32 {
        self.keys.connection_id()
    }

    /// The keys of both directions.
    #[must_use]
    pub const fn keys(&self) -> &SessionKeys {
        &self.keys
    }

    /// Seals what the device says.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer::new(&self.keys, Direction::Uplink, 0)
    }

    /// Opens what the device hears.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener::new(&self.keys, Direction::Downlink, PayloadKind::Opus)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({} at {}, {})", self.id, self.server, self.suite.name())
    }
}

/// What a device says in its `hello`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// `features`, such as `{"mcp": true}`.
    pub features: Option<Value>,
}

impl Hello {
    /// As firmware writes it: 16 kHz, 60 ms.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut hello = json!({
            "type": "hello", "version": 3, "transport": "udp",
            "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
        });
        if let Some(features) = &self.features {
            hello["features"] = features.clone();
        }
        hello
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let pair = |p: &[u8]| Some((digit(p[0])? << 4 | digit(*p.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_what_is_wrong_is_named() {
        let answer = json!({
            "type": "hello", "session_id": "s1", "transport": "udp",
            "udp": {"server": "127.0.0.1", "port": 8884, "encryption": "aes-128-ctr",
                "key": "000102030405060708090a0b0c0d0e0f", "nonce": "010000001234567800000000000000000"[..32]},
            "audio_params": {"sample_rate": 24000, "frame_duration": 60, "channels": 1, "format": "opus"},
        });
        let session = Session::parse(&answer).unwrap();
        assert_eq!(
            (session.server.port(), session.suite, session.sample_rate),
            (8884, Suite::Aes128Ctr, 24_000)
        );
        for (at, value, word) in [
            ("key", json!("00"), "16 bytes"),
            ("key", json!("0g"), "hex"),
            ("nonce", json!("02"), "nonce"),
            ("encryption", json!("rot13"), "rot13"),
            ("port", json!("x"), "/udp/port"),
        ] {
            let mut wrong = answer.clone();
            wrong["udp"][at] = value;
            let error = Session::parse(&wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
