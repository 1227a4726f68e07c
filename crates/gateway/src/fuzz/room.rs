//! What a LiveKit room may send.

use std::collections::HashMap;
use std::time::Instant;

use evenkeel_livekit::data::{DataMessage, Delivery, Text, Transcript};
use evenkeel_livekit::participant::{Event, RemoteParticipant};

use crate::room::livekit::events::Events;

/// Any bytes as a candidate that a server trickles.
pub fn livekit_candidate(bytes: &[u8]) {
    evenkeel_livekit::fuzz::candidate(bytes);
}

/// Any bytes as what comes on data channels.
pub fn livekit_data(bytes: &[u8]) {
    evenkeel_livekit::fuzz::data_packets(Instant::now(), bytes);
}

/// Any bytes as what a server says on the signal connection, to a participant that does what it is told.
pub fn livekit_signal(bytes: &[u8]) {
    evenkeel_livekit::fuzz::signal_messages(Instant::now(), bytes);
}

/// Any bytes as what comes on an ICE-TCP connection.
pub fn livekit_stream(bytes: &[u8]) {
    evenkeel_livekit::fuzz::tcp_stream(bytes);
}

/// Any bytes as what others in a room say: pieces between 0xfe, whose first byte says in which way. Whatever it is, it
/// comes to little for the call to do.
pub fn room_events(bytes: &[u8]) {
    let mut events = Events::new("device".to_owned());
    let mut effects = Vec::new();
    for piece in bytes.split(|byte| *byte == 0xfe) {
        let Some((kind, said)) = piece.split_first() else { continue };
        events.handle(&event(*kind, said), &mut effects);
        assert!(effects.len() <= 8, "one event comes to {effects:?}");
        effects.clear();
        let _ = events.agent();
    }
}

fn event(kind: u8, said: &[u8]) -> Event {
    let text = String::from_utf8_lossy(said).into_owned();
    let sender = format!("agent {}", kind >> 4);
    let topic = if kind & 8 == 0 { "" } else { "emotion" }.to_owned();
    match kind % 6 {
        0 => Event::Data(DataMessage { sender, topic, delivery: Delivery::Reliable, payload: said.to_vec() }),
        1 => Event::Text(Text { sender, topic, attributes: HashMap::new(), text }),
        2 => Event::Transcript(Transcript {
            speaker: if kind & 8 == 0 { sender.clone() } else { "device".to_owned() },
            sender,
            track: String::new(),
            segment: "s".to_owned(),
            text,
            is_final: kind & 16 == 0,
        }),
        3 => Event::ParticipantLeft { identity: sender },
        4 => Event::RoomMoved { room: text },
        _ => Event::ParticipantChanged(RemoteParticipant {
            sid: text.clone(),
            identity: sender,
            name: text.clone(),
            agent: kind & 8 == 0,
            attributes: HashMap::from([("lk.agent.state".to_owned(), text)]),
        }),
    }
}
