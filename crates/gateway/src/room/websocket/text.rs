//! Text messages of a chat server: JSON.

use serde_json::Value;

use crate::device::envelope::{Envelope, Limits};
use crate::device::message::MessageError;
use crate::room::{RoomEvent, TtsState};

/// What a text may cost. A server may say more at once than a device: lists of tools, long sentences.
pub const LIMITS: Limits = Limits { bytes: 64 * 1024, depth: 32 };

/// What a text from the server says.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerText {
    /// Its hello; the session as it knows it.
    Hello {
        /// `session_id`.
        session_id: Option<String>,
    },
    /// Anything later.
    Event(RoomEvent),
}

/// Reads a text. What is not understood is passed on, as long as it is a JSON object.
///
/// # Errors
/// [`MessageError`].
pub fn parse(text: &[u8]) -> Result<ServerText, MessageError> {
    let envelope = Envelope::new(text, LIMITS)?;
    let value: Value = serde_json::from_str(envelope.text())
        .map_err(|e| MessageError::Json { line: e.line(), column: e.column() })?;
    let Value::Object(mut object) = value else { return Err(MessageError::NotAnObject) };
    let field = |name: &str| object.get(name).and_then(Value::as_str);
    let event = match field("type") {
        Some("hello") => return Ok(ServerText::Hello { session_id: field("session_id").map(str::to_owned) }),
        Some("tts") => {
            let state = match field("state") {
                Some("start") => TtsState::Start,
                Some("stop") => TtsState::Stop,
                _ => TtsState::Sentence,
            };
            RoomEvent::Tts { state, envelope }
        }
        Some("mcp") => match object.remove("payload") {
            Some(Value::Object(payload)) => RoomEvent::Mcp { payload, envelope },
            _ => RoomEvent::Text(envelope),
        },
        Some("goodbye") => RoomEvent::Ended,
        Some(_) => RoomEvent::Text(envelope),
        None => return Err(MessageError::Missing { field: "type" }),
    };
    Ok(ServerText::Event(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_apart() {
        let parse = |text: &str| parse(text.as_bytes());
        assert_eq!(
            parse(r#"{"type":"hello","session_id":"x"}"#),
            Ok(ServerText::Hello { session_id: Some("x".into()) })
        );
        let tts = |text: &str| match parse(text) {
            Ok(ServerText::Event(RoomEvent::Tts { state, .. })) => state,
            other => panic!("{other:?}"),
        };
        assert_eq!(tts(r#"{"type":"tts","state":"start"}"#), TtsState::Start);
        assert_eq!(tts(r#"{"type":"tts","state":"stop"}"#), TtsState::Stop);
        assert_eq!(tts(r#"{"type":"tts","state":"sentence_end"}"#), TtsState::Sentence);
        assert_eq!(parse(r#"{"type":"goodbye"}"#), Ok(ServerText::Event(RoomEvent::Ended)));
        let text = r#"{"type":"new","x":[1.50]}"#;
        match parse(text) {
            Ok(ServerText::Event(RoomEvent::Text(envelope))) => assert_eq!(envelope.text(), text),
            other => panic!("{other:?}"),
        }
        for bad in ["", "[]", "{}", r#"{"type":3}"#, "{\"type\""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
