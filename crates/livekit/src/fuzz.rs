//! Bodies of the fuzz targets: each takes any bytes and must neither panic nor grow without bound.

use std::time::Instant;

use crate::data::{DataRate, Delivery, Inbox};
use crate::stream::Deframer;
use crate::{participant, signal};

/// A message of the server.
pub fn signal_message(bytes: &[u8]) {
    let _ = signal::parse(bytes, 64 * 1024);
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
