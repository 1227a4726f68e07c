//! What goes over the data channels: packets, RPC calls and text streams.
//!
//! Everything here is bookkeeping on values: [`Inbox`] reads what a channel brought and says what it means,
//! [`Outbox`] numbers what is sent reliably and keeps the last of it for a resumed session.

mod rpc;
mod text;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use prost::Message as _;
use proto::data_packet::Value;

pub use rpc::{Call, CallId, PAYLOAD_LIMIT as RPC_PAYLOAD_LIMIT, RequestId, RpcError, RpcErrorCode};
pub(crate) use rpc::{Calls, Requests, response};
pub(crate) use text::{Assembler, split};
pub use text::{TEXT_LIMIT, Text, Transcript};

/// The largest data packet sent or taken, in bytes, with its wrapping.
pub const PACKET_LIMIT: usize = 64 * 1024;
/// How many publishers' sequences are remembered, to tell a repeated packet.
const PUBLISHER_LIMIT: usize = 64;
/// How much of what was sent reliably is kept for a resumed session.
const KEPT_PACKETS: usize = 128;
const KEPT_BYTES: usize = 128 * 1024;

/// How a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// In order, sent again until it arrives, and not twice.
    Reliable,
    /// At once or never.
    Lossy,
}

/// A data packet of another participant, or of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// The sender's identity; empty when the server sent it.
    pub sender: String,
    /// The topic; empty when none was given.
    pub topic: String,
    /// How it came.
    pub delivery: Delivery,
    /// What it says.
    pub payload: Vec<u8>,
}

/// What a packet on a data channel means.
#[derive(Debug)]
pub(crate) enum Received {
    Data(DataMessage),
    Text(Text),
    Transcript(Transcript),
    RpcRequest {
        sender: String,
        request: proto::RpcRequest,
    },
    RpcAck(proto::RpcAck),
    RpcResponse(proto::RpcResponse),
    /// Half of something, or a kind of packet that concerns nobody here.
    Nothing,
}

/// Why a packet was dropped. Counted, never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// More bytes than a packet may have.
    #[error("a data packet of {actual} bytes; {PACKET_LIMIT} are the most")]
    Oversized {
        /// How many there were.
        actual: usize,
    },
    /// Not a data packet.
    #[error("not a LiveKit data packet")]
    Malformed,
    /// Seen before.
    #[error("a reliable packet came twice")]
    Repeated,
    /// Others send more than is taken.
    #[error("more data packets than are taken")]
    Flood,
    /// A text stream broke a limit or its own order.
    #[error("a text stream was dropped: {reason}")]
    Stream {
        /// What was wrong.
        reason: &'static str,
    },
}

/// Reads one data packet.
///
/// # Errors
/// [`DataError::Oversized`] or [`DataError::Malformed`].
pub fn parse(bytes: &[u8]) -> Result<proto::DataPacket, DataError> {
    if bytes.len() > PACKET_LIMIT {
        return Err(DataError::Oversized { actual: bytes.len() });
    }
    proto::DataPacket::decode(bytes).map_err(|_| DataError::Malformed)
}

/// How many data packets, and how many bytes of them, are taken a second. A burst of one second's worth is let
/// through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRate {
    /// Packets a second.
    pub packets: u32,
    /// Bytes a second.
    pub bytes: u32,
}

impl Default for DataRate {
    /// 500 packets and 512 KiB a second.
    fn default() -> Self {
        Self { packets: 500, bytes: 512 * 1024 }
    }
}

/// Reads what comes: bounded in rate, without repetitions, text streams put together.
#[derive(Debug)]
pub(crate) struct Inbox {
    rate: DataRate,
    packets: f64,
    bytes: f64,
    filled: Option<Instant>,
    sequences: HashMap<String, u32>,
    texts: Assembler,
}

impl Inbox {
    pub(crate) fn new(rate: DataRate) -> Self {
        Self {
            rate,
            packets: f64::from(rate.packets),
            bytes: f64::from(rate.bytes),
            filled: None,
            sequences: HashMap::new(),
            texts: Assembler::default(),
        }
    }

    /// Takes a message of a data channel.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        delivery: Delivery,
        bytes: &[u8],
    ) -> Result<Received, DataError> {
        self.admit(now, bytes.len())?;
        let packet = parse(bytes)?;
        if delivery == Delivery::Reliable && packet.sequence != 0 && !packet.participant_sid.is_empty() {
            self.first_time(&packet.participant_sid, packet.sequence)?;
        }
        let sender = packet.participant_identity;
        Ok(match packet.value {
            Some(Value::User(user)) => {
                #[allow(deprecated)]
                let older_sender = user.participant_identity;
                Received::Data(DataMessage {
                    sender: if sender.is_empty() { older_sender } else { sender },
                    topic: user.topic.unwrap_or_default(),
                    delivery,
                    payload: user.payload,
                })
            }
            Some(Value::Transcription(t)) => Received::Transcript(Transcript::from_packet(sender, t)),
            Some(Value::RpcRequest(request)) => Received::RpcRequest { sender, request },
            Some(Value::RpcAck(ack)) => Received::RpcAck(ack),
            Some(Value::RpcResponse(response)) => Received::RpcResponse(response),
            Some(Value::StreamHeader(header)) => {
                self.texts.header(now, sender, header)?.map_or(Received::Nothing, Received::Text)
            }
            Some(Value::StreamChunk(chunk)) => {
                self.texts.chunk(now, &sender, chunk)?;
                Received::Nothing
            }
            Some(Value::StreamTrailer(trailer)) => {
                self.texts.trailer(&sender, trailer)?.map_or(Received::Nothing, Received::Text)
            }
            _ => Received::Nothing,
        })
    }

    fn admit(&mut self, now: Instant, len: usize) -> Result<(), DataError> {
        let passed = self.filled.map_or(Duration::ZERO, |t| now.saturating_duration_since(t)).as_secs_f64();
        self.filled = Some(now);
        let (packets, bytes) = (f64::from(self.rate.packets), f64::from(self.rate.bytes));
        self.packets = (self.packets + passed * packets).min(packets);
        self.bytes = (self.bytes + passed * bytes).min(bytes);
        if self.packets < 1.0 || self.bytes < len as f64 {
            return Err(DataError::Flood);
        }
        self.packets -= 1.0;
        self.bytes -= len as f64;
        Ok(())
    }

    fn first_time(&mut self, publisher: &str, sequence: u32) -> Result<(), DataError> {
        if let Some(last) = self.sequences.get_mut(publisher) {
            if sequence <= *last {
                return Err(DataError::Repeated);
            }
            *last = sequence;
            return Ok(());
        }
        if self.sequences.len() >= PUBLISHER_LIMIT
            && let Some(any) = self.sequences.keys().next().cloned()
        {
            // Any will do: forgetting a publisher only means that a repetition of its last packet would be taken.
            self.sequences.remove(&any);
        }
        self.sequences.insert(publisher.to_owned(), sequence);
        Ok(())
    }

    /// Forgets a publisher that left.
    pub(crate) fn forget(&mut self, publisher_sid: &str, identity: &str) {
        self.sequences.remove(publisher_sid);
        self.texts.forget(identity);
    }

    /// The last sequence of each publisher, for the server of a resumed session.
    pub(crate) fn receive_states(&self) -> Vec<proto::DataChannelReceiveState> {
        self.sequences
            .iter()
            .map(|(sid, seq)| proto::DataChannelReceiveState { publisher_sid: sid.clone(), last_seq: *seq })
            .collect()
    }
}

/// Numbers what is sent reliably, and keeps the newest of it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    sequence: u32,
    kept: VecDeque<(u32, Vec<u8>)>,
    kept_bytes: usize,
}

impl Outbox {
    /// The bytes of a packet. A reliable one is to be [kept](Self::keep) once the channel took it.
    pub(crate) fn encode(
        &self,
        participant_sid: &str,
        destinations: &[&str],
        delivery: Delivery,
        value: Value,
    ) -> Vec<u8> {
        let mut packet = proto::DataPacket {
            destination_identities: destinations.iter().map(|d| (*d).to_owned()).collect(),
            participant_sid: participant_sid.to_owned(),
            value: Some(value),
            ..proto::DataPacket::default()
        };
        #[allow(deprecated)]
        match delivery {
            Delivery::Reliable => packet.sequence = self.sequence.wrapping_add(1),
            Delivery::Lossy => packet.kind = proto::data_packet::Kind::Lossy.into(),
        }
        packet.encode_to_vec()
    }

    /// Remembers a reliable packet that the channel took.
    pub(crate) fn keep(&mut self, bytes: Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        self.kept_bytes += bytes.len();
        self.kept.push_back((self.sequence, bytes));
        while self.kept.len() > KEPT_PACKETS || self.kept_bytes > KEPT_BYTES {
            let Some((_, old)) = self.kept.pop_front() else { break };
            self.kept_bytes -= old.len();
        }
    }

    /// What the server has not seen of what was kept, when `last` is the newest that it has.
    pub(crate) fn unseen(&self, last: u32) -> impl Iterator<Item = &[u8]> {
        self.kept.iter().filter(move |(sequence, _)| *sequence > last).map(|(_, bytes)| bytes.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(sid: &str, sequence: u32, payload: &[u8]) -> Vec<u8> {
        proto::DataPacket {
            participant_identity: "agent".into(),
            participant_sid: sid.into(),
            sequence,
            value: Some(Value::User(proto::UserPacket {
                payload: payload.to_vec(),
                topic: Some("t".into()),
                ..proto::UserPacket::default()
            })),
            ..proto::DataPacket::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn a_reliable_packet_is_taken_once() {
        let mut inbox = Inbox::new(DataRate::default());
        let now = Instant::now();
        let packet = user("PA_1", 1, b"x");
        assert!(
            matches!(inbox.handle(now, Delivery::Reliable, &packet), Ok(Received::Data(d)) if d.topic == "t")
        );
        assert_eq!(inbox.handle(now, Delivery::Reliable, &packet).unwrap_err(), DataError::Repeated);
        assert!(inbox.handle(now, Delivery::Reliable, &user("PA_1", 2, b"y")).is_ok());
        assert!(inbox.handle(now, Delivery::Reliable, &user("PA_2", 1, b"y")).is_ok());
        assert!(inbox.handle(now, Delivery::Lossy, &packet).is_ok());
    }

    #[test]
    fn a_flood_is_cut_off_and_ends_with_time() {
        let mut inbox = Inbox::new(DataRate { packets: 10, bytes: 1000 });
        let now = Instant::now();
        let taken =
            (0..100).filter(|_| inbox.handle(now, Delivery::Lossy, &user("P", 0, b"x")).is_ok()).count();
        assert_eq!(taken, 10);
        let later = now + Duration::from_millis(500);
        let taken =
            (0..100).filter(|_| inbox.handle(later, Delivery::Lossy, &user("P", 0, b"x")).is_ok()).count();
        assert_eq!(taken, 5);
        let last = later + Duration::from_secs(60);
        let large = user("P", 0, &[0; 2000]);
        assert_eq!(inbox.handle(last, Delivery::Lossy, &large).unwrap_err(), DataError::Flood);
    }

    #[test]
    fn publishers_are_remembered_up_to_the_limit() {
        let mut inbox = Inbox::new(DataRate::default());
        let now = Instant::now();
        for i in 0..400 {
            inbox.handle(now, Delivery::Reliable, &user(&format!("PA_{i}"), 1, b"")).unwrap();
        }
        assert_eq!(inbox.receive_states().len(), PUBLISHER_LIMIT);
    }

    #[test]
    fn what_the_server_missed_is_sent_again_and_no_more() {
        let mut outbox = Outbox::default();
        for i in 0..300u32 {
            let value = Value::User(proto::UserPacket { payload: vec![i as u8], ..Default::default() });
            let bytes = outbox.encode("PA", &[], Delivery::Reliable, value);
            outbox.keep(bytes);
        }
        let again: Vec<u32> =
            outbox.unseen(297).map(|b| proto::DataPacket::decode(b).unwrap().sequence).collect();
        assert_eq!(again, [298, 299, 300]);
        assert_eq!(outbox.unseen(0).count(), KEPT_PACKETS);
    }

    #[test]
    fn garbage_and_too_much_are_refused() {
        let mut inbox = Inbox::new(DataRate::default());
        let now = Instant::now();
        assert_eq!(inbox.handle(now, Delivery::Lossy, b"\xff\xff").unwrap_err(), DataError::Malformed);
        let large = vec![0; PACKET_LIMIT + 1];
        assert!(matches!(inbox.handle(now, Delivery::Lossy, &large), Err(DataError::Oversized { .. })));
    }
}
