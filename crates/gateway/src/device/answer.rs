//! What is said to a device.

use serde_json::{Map, Value, json};

use super::message::AudioParams;
use crate::media::{Encryption, Placement, SessionKey};

/// The answer to a `hello`: where to send, under which key, and what to expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAnswer {
    /// The session it begins.
    pub session_id: String,
    /// Where the session lives.
    pub placement: Placement,
    /// How datagrams are sealed.
    pub encryption: Encryption,
    /// With which key.
    pub key: SessionKey,
    /// What we will send.
    pub audio: AudioParams,
}

impl HelloAnswer {
    /// The JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({
            "type": "hello",
            "version": 3,
            "session_id": self.session_id,
            "transport": "udp",
            "udp": {
                "server": self.placement.host,
                "port": self.placement.port,
                "encryption": self.encryption.name(),
                "key": hex(self.key.expose()),
                "nonce": hex(&nonce_template(self.placement.connection_id)),
            },
            "audio_params": self.audio.to_json(),
        })
        .to_string()
    }
}

/// The answer to a `hello` over WebSocket, whose audio takes the same connection.
#[must_use]
pub fn websocket_hello(session_id: &str, audio: AudioParams) -> String {
    json!({
        "type": "hello",
        "transport": "websocket",
        "session_id": session_id,
        "audio_params": audio.to_json(),
    })
    .to_string()
}

/// The header that devices copy and fill in: type 1, no flags, the connection id, and zeros.
#[must_use]
pub fn nonce_template(connection_id: u32) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[0] = evenkeel_core::packet::TYPE_AUDIO;
    nonce[4..8].copy_from_slice(&connection_id.to_be_bytes());
    nonce
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `tts`: a reply begins (`start`), says a sentence (`sentence_start`), or ended (`stop`).
#[must_use]
pub fn tts(session_id: &str, state: &str, text: Option<&str>) -> String {
    let mut message = json!({"type": "tts", "session_id": session_id, "state": state});
    if let Some(text) = text {
        message["text"] = text.into();
    }
    message.to_string()
}

/// `goodbye`: the session is over. Acted on only if it is the device's current one.
#[must_use]
pub fn goodbye(session_id: &str, reason: Option<&str>) -> String {
    let mut message = json!({"type": "goodbye", "session_id": session_id});
    if let Some(reason) = reason {
        message["reason"] = reason.into();
    }
    message.to_string()
}

/// `error`: something the device asked for cannot be.
#[must_use]
pub fn error(message: &str) -> String {
    json!({"type": "error", "message": message}).to_string()
}

/// `mcp`: JSON-RPC to the device.
#[must_use]
pub fn mcp(session_id: Option<&str>, payload: Map<String, Value>) -> String {
    let mut message = json!({"type": "mcp", "payload": payload});
    if let Some(id) = session_id {
        message["session_id"] = id.into();
    }
    message.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaId;

    #[test]
    fn the_hello_answer_has_every_field_of_the_protocol() {
        let answer = HelloAnswer {
            session_id: "s".into(),
            placement: Placement {
                media: MediaId { lane: 0, serial: 1 },
                host: "203.0.113.1".into(),
                port: 8884,
                connection_id: 0xdead_beef,
            },
            encryption: Encryption::Aes128Ctr,
            key: SessionKey::new(Encryption::Aes128Ctr, &[0x0f; 32]),
            audio: AudioParams::DOWNLINK,
        };
        let json: Value = serde_json::from_str(&answer.to_json()).unwrap();
        assert_eq!(
            json,
            json!({
                "type": "hello", "version": 3, "session_id": "s", "transport": "udp",
                "udp": {
                    "server": "203.0.113.1", "port": 8884, "encryption": "aes-128-ctr",
                    "key": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "nonce": "01000000deadbeef0000000000000000",
                },
                "audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
            })
        );
    }

    #[test]
    fn optional_fields_are_left_out() {
        assert_eq!(goodbye("s", None), r#"{"session_id":"s","type":"goodbye"}"#);
        assert_eq!(tts("s", "stop", None), r#"{"session_id":"s","state":"stop","type":"tts"}"#);
        assert!(tts("s", "sentence_start", Some("a\"b")).contains(r#""text":"a\"b""#));
    }
}
