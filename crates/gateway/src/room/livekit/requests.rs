//! What a device's messages mean to the agent in a LiveKit room.

use serde_json::json;

use crate::device::message::{ListenMode, ListenState, Message};

/// What is to be done in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Send this data packet.
    Data(String),
    /// Call this method of the agent, if it has it.
    Call {
        /// Which.
        method: &'static str,
        /// With what, JSON.
        payload: String,
    },
}

/// What a message asks for. `text` is the message as it was written.
#[must_use]
pub fn wishes(message: &Message, text: String) -> Vec<Wish> {
    let call = |method, payload: serde_json::Value| Wish::Call { method, payload: payload.to_string() };
    match message {
        Message::Abort { reason } => {
            let mut abort = json!({"type": "abort"});
            if let Some(reason) = reason {
                abort["reason"] = reason.as_str().into();
            }
            vec![call("interrupt", json!({"reason": reason})), Wish::Data(abort.to_string())]
        }
        Message::Listen(listen) => {
            let turn = match (listen.mode, listen.state) {
                (Some(ListenMode::Manual), ListenState::Start) => Some(call("start_turn", json!({}))),
                // Firmware names the mode when it starts, not when it stops; only who pushes to talk stops.
                (Some(ListenMode::Manual) | None, ListenState::Stop) => Some(call("end_turn", json!({}))),
                _ => None,
            };
            turn.into_iter().chain([Wish::Data(text)]).collect()
        }
        Message::Mcp { .. } | Message::Other { .. } => vec![Wish::Data(text)],
        Message::Hello(_) | Message::Goodbye | Message::UdpTimeout => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::envelope::Limits;
    use crate::device::message::Incoming;

    fn of(text: &str) -> Vec<Wish> {
        let incoming = Incoming::parse(text.as_bytes(), Limits::default()).unwrap();
        wishes(&incoming.message, text.to_owned())
    }

    fn methods(text: &str) -> Vec<&'static str> {
        let method = |wish: Wish| match wish {
            Wish::Call { method, .. } => Some(method),
            Wish::Data(_) => None,
        };
        of(text).into_iter().filter_map(method).collect()
    }

    #[test]
    fn devices_interrupt_and_push_to_talk() {
        let abort = of(r#"{"type":"abort","session_id":"s","reason":"wake_word_detected"}"#);
        assert_eq!(abort[1], Wish::Data(r#"{"reason":"wake_word_detected","type":"abort"}"#.into()));
        assert!(matches!(abort[0], Wish::Call { method: "interrupt", .. }));
        for (text, expected) in [
            (r#"{"type":"listen","state":"start","mode":"manual"}"#, &["start_turn"][..]),
            (r#"{"type":"listen","state":"stop","mode":"manual"}"#, &["end_turn"]),
            (r#"{"type":"listen","state":"stop"}"#, &["end_turn"]),
            (r#"{"type":"listen","state":"start","mode":"auto"}"#, &[]),
            (r#"{"type":"listen","state":"stop","mode":"realtime"}"#, &[]),
            (r#"{"type":"listen","state":"detect","text":"hi"}"#, &[]),
        ] {
            assert_eq!(methods(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_passed_on_as_it_is() {
        for text in [
            r#"{"type":"playback_control","action":"next"}"#,
            r#"{"type":"mcp","payload":{"jsonrpc":"2.0","id":1,"result":{}}}"#,
            r#"{"type":"function_call","source":"x","function_call":{"name":"y","arguments":{"z":1.50}}}"#,
        ] {
            assert_eq!(of(text), [Wish::Data(text.to_owned())]);
        }
    }
}
