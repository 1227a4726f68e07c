//! Bodies of the fuzz targets: each takes any bytes and must neither panic nor grow without bound.

use std::time::Instant;

use livekit_protocol::signal_response::Message as Response;

use crate::data::{DataRate, Delivery, Inbox};
use crate::participant::{Event, Output, Participant, ParticipantConfig, Publish};
use crate::signal::{Connections, SignalEvent};
use crate::stream::Deframer;
use crate::{participant, signal};

/// What a server says to a participant: messages, each behind its length in two bytes.
///
/// # Panics
/// If the participant never has enough, or says something after it closed.
pub fn signal_messages(now: Instant, bytes: &[u8]) {
    let config = ParticipantConfig {
        publish: Some(Publish { name: "device".into(), stereo: false }),
        udp: Some(([127, 0, 0, 1], 5000).into()),
        ..ParticipantConfig::default()
    };
    let mut participant = Participant::new(now, config, 1);
    let (mut connection, mut rest) = (0, bytes);
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (message, behind) = behind.split_at(behind.len().min(u16::from_be_bytes(*length).into()));
        rest = behind;
        let Ok(response) = signal::parse(message, 64 * 1024) else { continue };
        let event = match response.message {
            Some(Response::Join(join)) => {
                connection += 1;
                SignalEvent::Joined { connection, connections: Connections::Single, join: join.into() }
            }
            _ => SignalEvent::Message(response.into()),
        };
        let was_closed = participant.is_closed();
        participant.handle_signal(now, event);
        let mut outputs = 0;
        loop {
            match participant.poll_output() {
                Output::Timeout(_) => break,
                Output::Event(Event::Closed(_)) => assert!(!was_closed, "it closed twice"),
                _ => outputs += 1,
            }
            assert!(outputs < 10_000, "one message is answered without end");
        }
    }
}

/// Messages of a data channel: each byte string is cut by its first byte into a kind and the rest.
pub fn data_packets(now: Instant, bytes: &[u8]) {
    let mut inbox = Inbox::new(DataRate::default());
    for piece in bytes.split(|b| *b == 0xfe) {
        let delivery = if piece.len() % 2 == 0 { Delivery::Reliable } else { Delivery::Lossy };
        let _ = inbox.handle(now, delivery, piece);
    }
}

/// What a TCP connection brings, in pieces of the length the first byte says.
pub fn tcp_stream(bytes: &[u8]) {
    let Some((cut, rest)) = bytes.split_first() else { return };
    let mut deframer = Deframer::new();
    for piece in rest.chunks(usize::from(*cut).max(1)) {
        if deframer.handle(piece, |_| ()).is_err() {
            return;
        }
    }
}

/// A trickled candidate.
pub fn candidate(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = participant::parse_candidate(text);
    }
}
