//! Data packets, RPC and texts, between the data channels and the application.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::data_packet::Value;
use proto::data_stream::{Chunk, Header, TextHeader, Trailer, header::ContentHeader};

use super::Participant;
use super::types::Event;
use crate::data::{
    Call, CallId, DataError, Delivery, PACKET_LIMIT, Received, RequestId, RpcError, TEXT_LIMIT, split,
};
use crate::error::SendError;

/// How often a flood is told.
const FLOOD_EVERY: Duration = Duration::from_secs(1);
/// What may wait on the lossy channel, in bytes: more would only come late.
const LOSSY_BACKLOG: usize = 32 * 1024;

impl Participant {
    /// Sends a data packet to the participants of these identities, or to everyone when there are none.
    ///
    /// # Errors
    /// [`SendError::NotConnected`], [`SendError::Oversized`] beyond 64 KiB with wrapping, [`SendError::Congested`]
    /// when what was sent before still waits.
    pub fn send_data(
        &mut self,
        now: Instant,
        delivery: Delivery,
        topic: &str,
        destinations: &[&str],
        payload: &[u8],
    ) -> Result<(), SendError> {
        let user = proto::UserPacket {
            payload: payload.to_vec(),
            topic: (!topic.is_empty()).then(|| topic.to_owned()),
            ..proto::UserPacket::default()
        };
        self.send_value(now, delivery, destinations, Value::User(user))
    }

    /// Sends a text as a stream, to the participants of these identities, or to everyone when there are none.
    ///
    /// # Errors
    /// As [`send_data`](Self::send_data); at most 64 KiB of text. When it fails midway the receivers drop the text.
    pub fn send_text(
        &mut self,
        now: Instant,
        topic: &str,
        destinations: &[&str],
        attributes: &[(&str, &str)],
        text: &str,
    ) -> Result<(), SendError> {
        if text.len() > TEXT_LIMIT {
            return Err(SendError::Oversized { what: "a text", limit: TEXT_LIMIT, actual: text.len() });
        }
        let Some(session) = &self.session else { return Err(SendError::NotConnected) };
        self.next_stream += 1;
        let stream_id = format!("{}-{}", session.sid, self.next_stream);
        let header = Header {
            stream_id: stream_id.clone(),
            topic: topic.to_owned(),
            mime_type: "text/plain".to_owned(),
            total_length: Some(text.len() as u64),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            content_header: Some(ContentHeader::TextHeader(TextHeader::default())),
            ..Header::default()
        };
        self.send_value(now, Delivery::Reliable, destinations, Value::StreamHeader(header))?;
        for (index, piece) in split(text).enumerate() {
            let chunk = Chunk {
                stream_id: stream_id.clone(),
                chunk_index: index as u64,
                content: piece.as_bytes().to_vec(),
                ..Chunk::default()
            };
            self.send_value(now, Delivery::Reliable, destinations, Value::StreamChunk(chunk))?;
        }
        let trailer = Trailer { stream_id, ..Trailer::default() };
        self.send_value(now, Delivery::Reliable, destinations, Value::StreamTrailer(trailer))
    }

    /// Calls a method of another participant; [`Event::RpcResult`] brings the answer, or what became of it.
    ///
    /// # Errors
    /// [`SendError::TooMany`] calls open, [`SendError::Oversized`] beyond 15 KiB, or as
    /// [`send_data`](Self::send_data).
    pub fn call(&mut self, now: Instant, call: Call<'_>) -> Result<CallId, SendError> {
        let sid = self.session.as_ref().map(|s| s.sid.clone()).ok_or(SendError::NotConnected)?;
        let (id, request) = self.calls.request(now, &sid, call)?;
        let sent = self.send_value(now, Delivery::Reliable, &[call.destination], Value::RpcRequest(request));
        if let Err(error) = sent {
            self.calls.withdraw(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Answers a call, once. A method that is not there is answered with
    /// [`RpcErrorCode::UnsupportedMethod`](crate::data::RpcErrorCode::UnsupportedMethod).
    ///
    /// # Errors
    /// [`SendError::Unknown`] when the call was answered or given up, or as [`send_data`](Self::send_data).
    pub fn answer(
        &mut self,
        now: Instant,
        id: RequestId,
        result: Result<&str, RpcError>,
    ) -> Result<(), SendError> {
        let (caller, response) = self.requests.answer(id, result)?;
        self.send_value(now, Delivery::Reliable, &[&caller], Value::RpcResponse(response))
    }

    fn send_value(
        &mut self,
        now: Instant,
        delivery: Delivery,
        destinations: &[&str],
        value: Value,
    ) -> Result<(), SendError> {
        let Some(session) = &mut self.session else { return Err(SendError::NotConnected) };
        let peer = &mut session.peers[0];
        let id = peer.channel(delivery).ok_or(SendError::NotConnected)?;
        let mut channel = peer.rtc.channel(id).ok_or(SendError::NotConnected)?;
        let bytes = session.outbox.encode(&session.sid, destinations, delivery, value);
        if bytes.len() > PACKET_LIMIT {
            return Err(SendError::Oversized {
                what: "a data packet",
                limit: PACKET_LIMIT,
                actual: bytes.len(),
            });
        }
        let queued = channel.buffered_amount();
        let late = delivery == Delivery::Lossy && queued > LOSSY_BACKLOG;
        if late || !channel.write(true, &bytes).map_err(|_| SendError::NotConnected)? {
            return Err(SendError::Congested { queued });
        }
        if delivery == Delivery::Reliable {
            session.outbox.keep(bytes);
        }
        self.pump(now);
        Ok(())
    }

    pub(super) fn handle_data(&mut self, now: Instant, delivery: Delivery, bytes: &[u8]) {
        let Some(session) = &mut self.session else { return };
        match session.inbox.handle(now, delivery, bytes) {
            Ok(received) => self.handle_received(now, received),
            Err(DataError::Repeated) => self.counters.data_repeated += 1,
            Err(DataError::Flood) => {
                self.counters.data_flood += 1;
                if self.flood_told.is_none_or(|t| now.saturating_duration_since(t) >= FLOOD_EVERY) {
                    self.flood_told = Some(now);
                    self.emit(Event::Flooded);
                }
            }
            Err(_) => self.counters.data_malformed += 1,
        }
    }

    fn handle_received(&mut self, now: Instant, received: Received) {
        match received {
            Received::Data(data) => self.emit(Event::Data(data)),
            Received::Text(text) => match text.transcript() {
                Some(transcript) => self.emit(Event::Transcript(transcript)),
                None => self.emit(Event::Text(text)),
            },
            Received::Transcript(transcript) => self.emit(Event::Transcript(transcript)),
            Received::RpcRequest { sender, request } => self.handle_request(now, sender, request),
            Received::RpcAck(ack) => self.calls.ack(&ack),
            Received::RpcResponse(response) => {
                if let Some((id, result)) = self.calls.response(response) {
                    self.emit(Event::RpcResult { id, result });
                }
            }
            Received::Nothing => {}
        }
    }

    fn handle_request(&mut self, now: Instant, caller: String, request: proto::RpcRequest) {
        let ack = proto::RpcAck { request_id: request.id.clone() };
        // A caller that cannot be answered now will see its own timeout.
        let _ = self.send_value(now, Delivery::Reliable, &[&caller], Value::RpcAck(ack));
        match self.requests.take(now, &caller, &request) {
            Ok(id) => self.emit(Event::RpcRequest {
                id,
                caller,
                method: request.method,
                payload: request.payload,
                timeout: Duration::from_millis(u64::from(request.response_timeout_ms)),
            }),
            Err(error) => {
                self.counters.rpc_refused += 1;
                let response = crate::data::response(request.id, Err(error));
                let _ = self.send_value(now, Delivery::Reliable, &[&caller], Value::RpcResponse(response));
            }
        }
    }

    /// A participant left: what it began will not end.
    pub(super) fn forget(&mut self, sid: &str, identity: &str) {
        if let Some(session) = &mut self.session {
            session.inbox.forget(sid, identity);
        }
        self.requests.forget(identity);
        while let Some((id, error)) = self.calls.abandoned(Some(identity)) {
            self.emit(Event::RpcResult { id, result: Err(error) });
        }
    }

    /// The session ended, and our calls with it.
    pub(super) fn end_calls(&mut self) {
        while let Some((id, error)) = self.calls.abandoned(None) {
            self.emit(Event::RpcResult { id, result: Err(error) });
        }
        self.requests = Default::default();
    }
}
