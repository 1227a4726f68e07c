//! Fuzz bodies: each takes arbitrary bytes and panics if a promise is broken. Fuzz targets call them, and tests replay
//! them on every change.

mod call;
mod far_end;
mod lane;
mod room;
mod source;

pub use call::call;
pub use far_end::FarEnd;
pub use lane::lane;
pub use room::{livekit_candidate, livekit_data, livekit_signal, livekit_stream, room_events};

use bytes::Bytes;

use crate::chat::{Connection, audio};
use crate::config::{Config, ConfigError, Sources, import};
use crate::device::broker;
use crate::device::envelope::Limits;
use crate::device::message::Incoming;
use crate::device::mqtt::codec::{self, MqttError};
use crate::device::websocket::frame::{self as device_frame, Frame, Version};
use crate::device::websocket::request::Caller;
use crate::room::RoomEvent;
use crate::room::websocket::text::{self, ServerText};

/// Takes any bytes, and panics if something is wrong.
pub type Body = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Body)] = &[
    ("gateway_call", call),
    ("gateway_chat_server_frame", chat_server_frame),
    ("gateway_chat_server_stream", chat_server_stream),
    ("gateway_ingest", ingest),
    ("gateway_lane", lane),
    ("gateway_livekit_candidate", livekit_candidate),
    ("gateway_livekit_data", livekit_data),
    ("gateway_livekit_signal", livekit_signal),
    ("gateway_livekit_stream", livekit_stream),
    ("gateway_message", message),
    ("gateway_mqtt_stream", mqtt_stream),
    ("gateway_room_events", room_events),
    ("gateway_settings", settings),
    ("gateway_websocket_device", websocket_device),
];

/// Runs one target on one input.
///
/// # Panics
/// If there is no such target, or it finds something wrong.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("{name} is not in TARGETS")).1(data);
}

/// Any bytes as a message of a device: parsed or refused, and what is passed on stays what it was.
pub fn message(bytes: &[u8]) {
    let Ok(incoming) = Incoming::parse(bytes, Limits::default()) else { return };
    assert_eq!(incoming.envelope.text().as_bytes(), bytes, "the text is kept as it was");
    let text = incoming.envelope.readdressed("another");
    let again = Incoming::parse(text.as_bytes(), Limits { bytes: usize::MAX, ..Limits::default() });
    let again = again.expect("a message stays one when it is readdressed");
    assert_eq!(again.session_id.as_deref(), Some("another"));
    assert_eq!(again.message, incoming.message);
}

/// Any bytes as a message of a chat server: parsed or refused, never more than is there.
pub fn chat_server_frame(bytes: &[u8]) {
    if let Ok((timestamp, opus)) = audio::parse(bytes) {
        assert!(!opus.is_empty() && opus.len() + audio::HEADER_LEN <= bytes.len());
        let again = [&audio::header(timestamp, opus.len())[..], opus].concat();
        assert_eq!(audio::parse(&again), Ok((timestamp, opus)));
    }
    if let Ok(ServerText::Event(RoomEvent::Tts { envelope, .. } | RoomEvent::Text(envelope))) =
        text::parse(bytes)
    {
        assert_eq!(envelope.text().as_bytes(), bytes, "the text is kept as it was");
    }
}

/// Any bytes as what a chat server sends: the same is heard wherever the stream is cut, no more is kept than a message, and
/// each ping is answered by what it said.
pub fn chat_server_stream(bytes: &[u8]) {
    let Some((&step, stream)) = bytes.split_first() else { return };
    let whole = chat_server_events(std::iter::once(stream));
    let cut = chat_server_events(stream.chunks(usize::from(step % 16) + 1));
    assert_eq!(whole, cut, "where the stream is cut makes a difference");
}

fn chat_server_events<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
    let (mut connection, mut events) = (Connection::default(), Vec::new());
    for chunk in chunks {
        connection.push_input(chunk);
        loop {
            match connection.poll_event(|| 7) {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    events.push(error.to_string());
                    return (events, connection.output().to_vec());
                }
            }
        }
        assert!(connection.wants_input(), "more is kept than one message");
    }
    (events, connection.output().to_vec())
}

/// Any bytes as what a device on WebSocket sends, in each version, and as the query string of its upgrade: parsed or
/// refused, never more than is there.
pub fn websocket_device(bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    for version in Version::ALL {
        if let Ok(Frame::Audio { opus, timestamp }) = device_frame::parse(version, &frame) {
            assert!(!opus.is_empty() && opus.len() + version.header_len() <= bytes.len());
            let again = Bytes::from(device_frame::emit(version, timestamp, &opus));
            assert_eq!(device_frame::parse(version, &again), Ok(Frame::Audio { opus, timestamp }));
        }
    }
    if let Ok(query) = std::str::from_utf8(bytes)
        && let Ok(caller) = Caller::read(|_| None, Some(query))
    {
        assert_eq!(caller.client.text.parse(), Ok(caller.client.clone()), "a name is read as it was written");
        assert!(!caller.client.text.contains(char::is_control));
    }
}

/// Any bytes as what a broker passes on: refused, or from a device whose name is one level of a topic.
pub fn ingest(bytes: &[u8]) {
    let Ok((client, said)) = broker::ingest::parse(bytes, &[], Limits::default()) else { return };
    assert!(!client.text.contains(['/', '+', '#']));
    assert_eq!(client.text.parse(), Ok(client.clone()), "a name is read as it was written");
    assert!(said.len() <= bytes.len() * 6, "what was said grew");
}

/// Any bytes as `evenkeel.toml` and as the old gateway's `mqtt.json`: refused with a reason, or settings that are read
/// back as they were; what is translated can be read.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |text: &str| {
        Config::load(&Sources { file: Some(("fuzz.toml".to_owned(), text.to_owned())), ..Sources::default() })
    };
    match load(text) {
        Ok(config) => {
            let written = config.to_toml();
            let again = load(&written).expect("what is written can be read");
            assert_eq!(again.to_toml(), written);
            // Whether they can be together is another question; asking it must not panic.
            let _ = config.effective();
            let _ = config.broker();
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| !error.to_string().is_empty()))
        }
    }
    if let Ok(translated) = import(text) {
        for error in load(&translated).err().into_iter().flatten() {
            assert!(!matches!(error, ConfigError::Syntax { .. }), "{error} in\n{translated}");
        }
    }
}

/// Any bytes as what a client streams to the MQTT endpoint: each packet is found wherever the stream is cut, and no
/// more is ever kept than one packet of the limit.
pub fn mqtt_stream(bytes: &[u8]) {
    const LIMIT: usize = 64;
    let Some((&step, stream)) = bytes.split_first() else { return };
    let whole = mqtt_packets(std::iter::once(stream), LIMIT);
    let cut = mqtt_packets(stream.chunks(usize::from(step % 16) + 1), LIMIT);
    assert_eq!(whole, cut, "where the stream is cut makes a difference");
}

fn mqtt_packets<'a>(
    chunks: impl Iterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<String>, Option<MqttError>) {
    let (mut packets, mut pending) = (Vec::new(), Vec::new());
    for chunk in chunks {
        pending.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            match codec::decode(&pending[at..], limit) {
                Ok(Some((packet, taken))) => {
                    assert!(
                        taken >= 2 && at + taken <= pending.len(),
                        "a packet of bytes that are not there"
                    );
                    packets.push(format!("{packet:?}"));
                    at += taken;
                }
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
        pending.drain(..at);
        assert!(pending.len() < 5 + limit, "an incomplete packet is longer than the limit");
    }
    (packets, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn calls(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::call(&bytes);
        }

        #[test]
        fn lanes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::lane(&bytes);
        }

        #[test]
        fn chat_server_frames(bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..64)) {
            super::chat_server_frame(&bytes);
        }

        #[test]
        fn chat_server_streams(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), 0u8..6, proptest::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a])], 0..300)
        ) {
            super::chat_server_stream(&bytes);
        }

        #[test]
        fn websocket_devices(bytes in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..4, any::<u8>()], 0..64)) {
            super::websocket_device(&bytes);
        }

        #[test]
        fn websocket_queries(query in "(device-id=(aabbccddeeff|%61a%3A)&|client-id=(u|%40@@|%00)&|protocol-version=[1-4]&|x&){0,5}") {
            super::websocket_device(query.as_bytes());
        }

        #[test]
        fn mqtt_streams(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), 0u8..8, proptest::sample::select(vec![0x10, 0x30, 0x32, 0x82, 0xa2, 0xc0, 0xe0])], 0..300)
        ) {
            super::mqtt_stream(&bytes);
        }

        #[test]
        fn messages(text in r#"\{("(type|session_id|state|payload|version|features|audio_params|mode)":("(hello|listen|mcp|start|abort|\\"|\\\\|é)"|3|null|\{\}|\[1\]|\{"session_id":"x"\}),?){0,5}"type":"(hello|listen|abort|mcp|goodbye|x)"\}"#) {
            super::message(text.as_bytes());
        }
    }
}
