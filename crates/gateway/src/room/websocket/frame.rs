//! Frames of a chat server: 16 bytes and an Opus packet, or JSON text.
//!
//! ```text
//! 0          8           12          16
//! | (ignored) | timestamp | length n  | Opus, n bytes
//! ```
//! All integers are big-endian. To the server, bytes 0-7 are zero; from it they are informational.

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;

use crate::device::envelope::{Envelope, Limits};
use crate::device::message::MessageError;
use crate::room::{RoomEvent, TtsState};

const HEADER_LEN: usize = 16;

/// What a text frame may cost. A server may say more at once than a device: lists of tools, long sentences.
pub const TEXT_LIMITS: Limits = Limits { bytes: 64 * 1024, depth: 32 };

/// A binary frame from a server is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Shorter than its header.
    #[error("a binary frame of {actual} bytes; the header alone has {HEADER_LEN}")]
    Truncated {
        /// Its length, in bytes.
        actual: usize,
    },
    /// The length in the header does not fit the frame, or is zero.
    #[error("the header announces {announced} bytes of Opus, {present} are there")]
    Length {
        /// What the header says, in bytes.
        announced: usize,
        /// What follows it, in bytes.
        present: usize,
    },
}

/// A binary frame for the server.
#[must_use]
pub fn emit_audio(timestamp: u32, opus: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_LEN + opus.len());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(&timestamp.to_be_bytes());
    frame.extend_from_slice(&(opus.len() as u32).to_be_bytes());
    frame.extend_from_slice(opus);
    frame
}

/// Timestamp and Opus packet of a binary frame from the server, without copying.
///
/// # Errors
/// [`FrameError`].
pub fn parse_audio(frame: &Bytes) -> Result<(u32, Bytes), FrameError> {
    let word =
        |at: usize| frame.get(at..at + 4).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_be_bytes(*b));
    let (Some(timestamp), Some(length)) = (word(8), word(12)) else {
        return Err(FrameError::Truncated { actual: frame.len() });
    };
    let (announced, present) = (length as usize, frame.len() - HEADER_LEN);
    if announced == 0 || announced > present {
        return Err(FrameError::Length { announced, present });
    }
    Ok((timestamp, frame.slice(HEADER_LEN..HEADER_LEN + announced)))
}

/// What a text frame from the server says.
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

/// Reads a text frame. What is not understood is passed on, as long as it is a JSON object.
///
/// # Errors
/// [`MessageError`].
pub fn parse_text(text: &[u8]) -> Result<ServerText, MessageError> {
    let envelope = Envelope::new(text, TEXT_LIMITS)?;
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
    use proptest::prelude::*;

    #[test]
    fn short_and_lying_frames_are_refused() {
        for length in 0..16 {
            let frame = Bytes::from(vec![0; length]);
            assert_eq!(parse_audio(&frame), Err(FrameError::Truncated { actual: length }));
        }
        let mut frame = emit_audio(7, &[1, 2, 3]);
        frame[15] = 4;
        assert_eq!(parse_audio(&frame.clone().into()), Err(FrameError::Length { announced: 4, present: 3 }));
        frame[12] = 0xff;
        assert!(parse_audio(&frame.clone().into()).is_err());
        frame[12..16].fill(0);
        assert_eq!(parse_audio(&frame.into()), Err(FrameError::Length { announced: 0, present: 3 }));
    }

    #[test]
    fn the_header_is_as_the_protocol_says() {
        assert_eq!(emit_audio(0x0102_0304, &[9]), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 1, 9]);
        let from_server = Bytes::from_static(&[1, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0, 2, 8, 9, 77]);
        assert_eq!(parse_audio(&from_server), Ok((60, Bytes::from_static(&[8, 9]))));
    }

    #[test]
    fn text_is_told_apart() {
        let parse = |text: &str| parse_text(text.as_bytes());
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

    proptest! {
        #[test]
        fn audio_survives(timestamp: u32, opus in proptest::collection::vec(any::<u8>(), 1..500)) {
            let frame = Bytes::from(emit_audio(timestamp, &opus));
            prop_assert_eq!(parse_audio(&frame), Ok((timestamp, Bytes::from(opus))));
        }
    }
}
