//! The bodies of the fuzz targets, on messages that are almost right.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::Instant;

use evenkeel_livekit::{fuzz, proto};
use proptest::prelude::*;
use prost::Message as _;
use proto::data_packet::Value;
use proto::data_stream::{Chunk, Header, TextHeader, Trailer, header::ContentHeader};
use proto::signal_response::Message as Response;

fn signal_messages() -> Vec<Vec<u8>> {
    let participant = proto::ParticipantInfo {
        sid: "PA_1".into(),
        identity: "agent".into(),
        tracks: vec![proto::TrackInfo { sid: "TR_1".into(), ..Default::default() }; 3],
        attributes: HashMap::from([("lk.agent.state".into(), "speaking".into())]),
        ..Default::default()
    };
    let join = proto::JoinResponse { other_participants: vec![participant.clone(); 3], ..Default::default() };
    let update = proto::ParticipantUpdate { participants: vec![participant] };
    let answer = proto::SessionDescription { sdp: "v=0\r\nm=audio 9\r\n".into(), ..Default::default() };
    [Response::Join(join), Response::Update(update), Response::Answer(answer)]
        .map(|m| framed(&proto::SignalResponse { message: Some(m) }.encode_to_vec()))
        .into()
}

/// Behind its length, as the body takes messages.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn data_packets() -> Vec<Vec<u8>> {
    let stream_id = String::from("s");
    let header = Header {
        stream_id: stream_id.clone(),
        content_header: Some(ContentHeader::TextHeader(TextHeader::default())),
        ..Default::default()
    };
    let chunk = Chunk { stream_id: stream_id.clone(), content: "grüße".into(), ..Default::default() };
    let values = [
        Value::StreamHeader(header),
        Value::StreamChunk(chunk),
        Value::StreamTrailer(Trailer { stream_id, ..Default::default() }),
        Value::RpcRequest(proto::RpcRequest { id: "r".into(), version: 1, ..Default::default() }),
        Value::RpcResponse(proto::RpcResponse { request_id: "r".into(), value: None }),
        Value::User(proto::UserPacket { payload: vec![1, 2, 3], ..Default::default() }),
        Value::Transcription(proto::Transcription {
            segments: vec![proto::TranscriptionSegment::default(); 4],
            ..Default::default()
        }),
    ];
    let packet = |value| proto::DataPacket {
        participant_sid: "PA_1".into(),
        sequence: 1,
        value: Some(value),
        ..Default::default()
    };
    vec![values.map(|v| packet(v).encode_to_vec()).join(&0xfe)]
}

fn candidates() -> Vec<Vec<u8>> {
    vec![
        br#"{"candidate":"candidate:1 1 udp 2130706431 127.0.0.1 7882 typ host ufrag x","sdpMid":"0"}"#
            .into(),
        br#"{"candidate":"candidate:1 1 tcp 1671430143 ::1 7881 typ host tcptype passive"}"#.into(),
    ]
}

fn streams() -> Vec<Vec<u8>> {
    vec![[vec![7], vec![0, 3, 1, 2, 3], vec![0, 0], vec![1, 0], vec![9; 256]].concat()]
}

type Target<'a> = (Vec<Vec<u8>>, &'a dyn Fn(&[u8]));

/// Overwrites, cuts out and repeats bytes.
fn spoil(mut bytes: Vec<u8>, changes: &[(u16, u8, u8)]) -> Vec<u8> {
    for (at, kind, value) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(*at) % bytes.len();
        match kind % 3 {
            0 => bytes[at] = *value,
            1 => drop(bytes.drain(at..bytes.len().min(at + usize::from(*value)))),
            _ => bytes.insert(at, *value),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn no_input_makes_them_panic(
        seed in 0usize..64,
        changes in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let now = Instant::now();
        let targets: [Target<'_>; 4] = [
            (vec![signal_messages().concat()], &|bytes| fuzz::signal_messages(now, bytes)),
            (data_packets(), &|bytes| fuzz::data_packets(now, bytes)),
            (candidates(), &fuzz::candidate),
            (streams(), &fuzz::tcp_stream),
        ];
        for (seeds, body) in targets {
            body(&spoil(seeds[seed % seeds.len()].clone(), &changes));
            body(&noise);
        }
    }
}
