//! A call under any order of inputs, watched for what it promises.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::units::Time;
use serde_json::{Map, Value, json};

use super::source::Source;
use crate::call::{Call, CallConfig, Grant, Note, Output, Receipt};
use crate::device::envelope::{Envelope, Limits};
use crate::device::mcp::Token;
use crate::device::message::{Incoming, Message};
use crate::media::{
    Gate, MediaCommand, MediaEvent, MediaFailure, MediaId, MediaStats, PlaceError, Placement, ReplyId, Route,
    SourcePolicy,
};
use crate::room::{RoomCommand, RoomEvent, RoomId, TtsState};

/// Drives a call with inputs chosen by `bytes`, and panics if it breaks one of the promises of [`crate::call`].
pub fn call(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let config =
        CallConfig { lead: Duration::from_millis(u64::from(source.byte())), ..CallConfig::default() };
    let mut call = Call::new(Arc::new(config), u32::from(source.byte()));
    let route = *source.pick(&[Route::Chat, Route::Echo, Route::Participant]);
    let mut watch = Watch { route, ..Watch::default() };
    while !source.is_empty() {
        step(&mut call, &mut source, &mut watch);
        watch.drain(&mut call);
    }
    // Whatever happened: left alone, a call comes to rest.
    call.handle_mqtt_lost(watch.now);
    watch.drain(&mut call);
    for _ in 0..1000 {
        let Some(at) = call.poll_timeout() else { break };
        watch.now = watch.now.max(at);
        call.handle_timeout(watch.now);
        watch.drain(&mut call);
        assert!(call.poll_timeout().is_none_or(|next| next > watch.now), "a timer that is due again at once");
    }
    assert!(call.is_quiet(), "a call nobody talks to goes on for ever");
    assert_eq!(watch.open, None, "the media session outlives the call");
    assert_eq!(watch.joined, None, "the room outlives the call");
    assert!(watch.placed.is_empty(), "placements were neither opened nor given back: {:?}", watch.placed);
}

fn step(call: &mut Call, source: &mut Source<'_>, watch: &mut Watch) {
    let now = watch.now;
    match source.byte() % 24 {
        0 | 1 => hello(call, source, watch),
        2 => device(call, watch, "listen", json!({"state": "start", "mode": "auto"})),
        3 => device(call, watch, "listen", json!({"state": "stop"})),
        4 => device(call, watch, "abort", json!({"reason": "wake_word_detected"})),
        5 => device(call, watch, "goodbye", json!({})),
        6 => device(call, watch, "udp_timeout", json!({})),
        7 => device(
            call,
            watch,
            "mcp",
            json!({"payload": {"id": 10_000 + u64::from(source.byte() % 4), "result": {"tools": []}}}),
        ),
        8 => stale(call, source, watch),
        9 => {
            watch.mqtt_up = false;
            call.handle_mqtt_lost(now);
        }
        10 => {
            watch.mqtt_up = true;
            call.handle_mqtt_returned();
        }
        11 | 12 => room(call, source, watch),
        13 => room_event(call, watch, RoomEvent::Ready { session_id: Some("theirs".into()) }),
        14 => room_event(call, watch, tts(TtsState::Start)),
        15 => room_event(call, watch, tts(TtsState::Stop)),
        16 => room_event(call, watch, tts(TtsState::Sentence)),
        17 | 18 => {
            if !watch.unwritten.is_empty() {
                let receipt = watch.unwritten.remove(0);
                watch.written = Some(receipt);
                call.handle_written(receipt, now);
            }
        }
        19 => media(call, source, watch),
        20 => {
            if let Some(reply) = watch.marked.take() {
                watch.played = true;
                media_event(call, watch, MediaEvent::PlayedOut(reply));
            }
        }
        21 => {
            call.handle_command(Token(7), "tools/call", None, Duration::from_secs(5), now);
        }
        22 => {
            let peer = MediaId { lane: 9, serial: 9 };
            match source.byte() % 6 {
                0 => _ = call.handle_bridge(None, now),
                1 => _ = call.handle_bridge(Some(peer), now),
                2 => call.handle_peer_gone(now),
                3 => call.handle_hang_up(now),
                4 => call.handle_drain(now + Duration::from_secs(30), now),
                _ => {}
            }
        }
        _ => {
            watch.now = now + Duration::from_millis(u64::from(source.byte()) * 50);
            if call.poll_timeout().is_some_and(|at| at <= watch.now) {
                call.handle_timeout(watch.now);
            }
        }
    }
}

fn incoming(value: &Value) -> Box<Incoming> {
    Box::new(Incoming::parse(value.to_string().as_bytes(), Limits::default()).expect("a valid message"))
}

fn hello(call: &mut Call, source: &mut Source<'_>, watch: &mut Watch) {
    let sealed = source.byte() & 1 == 1;
    let value = json!({"type": "hello", "version": 3,
        "features": {"mcp": source.byte() & 1 == 1, "sealed": if sealed { json!(["aes-256-gcm"]) } else { json!([]) }}});
    let Message::Hello(hello) = incoming(&value).message else { unreachable!("it is a hello") };
    if !watch.mqtt_up {
        watch.mqtt_up = true;
        call.handle_mqtt_returned();
        watch.drain(call);
    }
    let grant = if source.byte().is_multiple_of(8) { Err(PlaceError::Full) } else { Ok(watch.grant()) };
    call.handle_hello(hello, grant, watch.now);
}

fn device(call: &mut Call, watch: &mut Watch, kind: &str, mut fields: Value) {
    fields["type"] = kind.into();
    if let Some(id) = &watch.session {
        fields["session_id"] = id.as_str().into();
    }
    if kind == "abort" {
        watch.aborting = true;
    }
    call.handle_message(incoming(&fields), watch.now);
    watch.drain(call);
    watch.aborting = false;
}

fn stale(call: &mut Call, source: &mut Source<'_>, watch: &mut Watch) {
    let kind = source.pick(&["listen", "abort", "goodbye", "udp_timeout", "character-change"]);
    let value = json!({"type": kind, "session_id": "stale", "state": "start"});
    call.handle_message(incoming(&value), watch.now);
}

fn tts(state: TtsState) -> RoomEvent {
    let text = match state {
        TtsState::Start => r#"{"type":"tts","state":"start"}"#,
        TtsState::Sentence => r#"{"type":"tts","state":"sentence_start","text":"t"}"#,
        TtsState::Stop => r#"{"type":"tts","state":"stop"}"#,
    };
    RoomEvent::Tts { state, envelope: envelope(text) }
}

fn envelope(text: &str) -> Envelope {
    Envelope::new(text.as_bytes(), Limits::default()).expect("a valid message")
}

fn room(call: &mut Call, source: &mut Source<'_>, watch: &mut Watch) {
    let event = match source.byte() % 8 {
        0 => RoomEvent::Lost,
        1 => RoomEvent::Ended,
        2 => RoomEvent::Left,
        3 => tts(TtsState::Sentence),
        4 => RoomEvent::Text(envelope(r#"{"type":"stt","text":"hi"}"#)),
        5 => {
            let mut payload = Map::new();
            payload.insert("method".into(), "tools/list".into());
            RoomEvent::Mcp { payload, envelope: envelope(r#"{"type":"mcp","payload":{}}"#) }
        }
        _ => RoomEvent::Ready { session_id: None },
    };
    if source.byte().is_multiple_of(4) {
        let other = RoomId(u32::from(source.byte()));
        if watch.joined == Some(other)
            && matches!(event, RoomEvent::Lost | RoomEvent::Ended | RoomEvent::Left)
        {
            watch.joined = None;
        }
        return call.handle_room(other, event, watch.now);
    }
    if matches!(event, RoomEvent::Left)
        && let Some(left) = watch.left.take()
    {
        return call.handle_room(left, event, watch.now);
    }
    room_event(call, watch, event);
}

fn room_event(call: &mut Call, watch: &mut Watch, event: RoomEvent) {
    let Some(room) = watch.joined else { return };
    if matches!(event, RoomEvent::Lost | RoomEvent::Ended | RoomEvent::Left) {
        watch.joined = None;
    }
    call.handle_room(room, event, watch.now);
}

fn media(call: &mut Call, source: &mut Source<'_>, watch: &mut Watch) {
    let event = match source.byte() % 10 {
        0 => MediaEvent::FirstDatagram { from: ([127, 0, 0, 1], 9).into() },
        1 => MediaEvent::NeverSeen,
        2 => MediaEvent::AudioActive,
        3 => MediaEvent::DownlinkWaiting,
        9 => MediaEvent::DownlinkEnded,
        4 => MediaEvent::PlayedOut(ReplyId(u32::from(source.byte()) + 10_000)),
        5 => MediaEvent::Stats(MediaStats::default()),
        6 if source.byte().is_multiple_of(4) => MediaEvent::KeyExhausted,
        7 if source.byte().is_multiple_of(4) => MediaEvent::Failed(MediaFailure::Full),
        _ => MediaEvent::AudioActive,
    };
    if source.byte().is_multiple_of(8) {
        return call.handle_media(
            MediaId { lane: 0, serial: u64::from(source.byte()) + 1_000_000 },
            event,
            watch.now,
        );
    }
    media_event(call, watch, event);
}

fn media_event(call: &mut Call, watch: &Watch, event: MediaEvent) {
    if let Some(media) = watch.open {
        call.handle_media(media, event, watch.now);
    }
}

/// What the world looks like to the device, the lane and the room.
#[derive(Debug)]
struct Watch {
    now: Time,
    mqtt_up: bool,
    serial: u64,
    route: Route,
    /// Granted, and neither opened nor released.
    placed: Vec<MediaId>,
    open: Option<MediaId>,
    gate: Gate,
    joined: Option<RoomId>,
    left: Option<RoomId>,
    session: Option<String>,
    /// Sessions the device may still be told of.
    told: Vec<String>,
    unwritten: Vec<Receipt>,
    written: Option<Receipt>,
    asked: Option<Receipt>,
    marked: Option<ReplyId>,
    played: bool,
    aborting: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            now: Time::ZERO,
            mqtt_up: true,
            serial: 0,
            route: Route::Chat,
            placed: Vec::new(),
            open: None,
            gate: Gate::Hold,
            joined: None,
            left: None,
            session: None,
            told: Vec::new(),
            unwritten: Vec::new(),
            written: None,
            asked: None,
            marked: None,
            played: false,
            aborting: false,
        }
    }
}

impl Watch {
    fn grant(&mut self) -> Grant {
        self.serial += 1;
        let media = MediaId { lane: 0, serial: self.serial };
        self.placed.push(media);
        Grant {
            placement: Placement { media, host: "h".into(), port: 1, connection_id: self.serial as u32 },
            session_id: format!("session-{}", self.serial),
            key: [7; 32],
            source: SourcePolicy::Any,
            route: self.route,
        }
    }

    fn drain(&mut self, call: &mut Call) {
        while let Some(output) = call.poll_output() {
            match output {
                Output::Device { text, receipt } => self.device(&text, receipt),
                Output::Media(media, command) => self.media(media, command),
                Output::Release(media) => {
                    assert!(self.placed.contains(&media), "released what was not placed");
                    self.placed.retain(|placed| *placed != media);
                }
                Output::Room(room, command) => self.room(room, &command),
                Output::Note(Note::PlayoutOverdue) => self.played = true,
                Output::Result(..) | Output::Note(_) => {}
            }
        }
        assert_eq!(call.media(), self.open, "the call and the lane disagree");
    }

    fn device(&mut self, text: &str, receipt: Option<Receipt>) {
        assert!(self.mqtt_up, "said to a device that is not there: {text}");
        let value: Value = serde_json::from_str(text).expect("JSON");
        match (value["type"].as_str(), value["state"].as_str()) {
            (Some("hello"), _) => {
                let id = value["session_id"].as_str().expect("an id").to_owned();
                self.told.push(id.clone());
                self.session = Some(id);
            }
            (Some("goodbye"), _) => {
                let id = value["session_id"].as_str().expect("an id");
                let known = id == "stale" || self.told.iter().any(|told| told == id);
                assert!(known, "goodbye for a session the device never had: {id}");
                if self.session.as_deref() == Some(id) {
                    assert_eq!(self.open, None, "goodbye while the media session is open");
                    self.session = None;
                }
            }
            (Some("tts"), Some("start")) => {
                if let Some(receipt) = receipt {
                    self.asked = Some(receipt);
                    self.unwritten.push(receipt);
                }
            }
            (Some("tts"), Some("stop")) => {
                let flowing = matches!(self.gate, Gate::Flow { .. });
                assert!(!flowing || self.played, "tts stop before the reply was played");
            }
            _ => {}
        }
        if let (Some(id), Some(session)) = (value["session_id"].as_str(), &self.session)
            && id != "stale"
            && value["type"] != "goodbye"
        {
            assert_eq!(id, session, "a message of another session: {text}");
        }
    }

    fn media(&mut self, media: MediaId, command: MediaCommand) {
        match command {
            MediaCommand::Open(_) => {
                assert_eq!(self.open, None, "two media sessions");
                assert!(self.placed.contains(&media), "opened what was not placed");
                self.placed.retain(|placed| *placed != media);
                self.open = Some(media);
                self.gate = Gate::Hold;
                (self.marked, self.played, self.asked) = (None, false, None);
            }
            MediaCommand::Close => {
                assert_eq!(self.open.take(), Some(media), "closed what was not open");
                self.gate = Gate::Hold;
            }
            other => {
                assert_eq!(self.open, Some(media), "{other:?} to a session that is not open");
                match other {
                    MediaCommand::Gate(gate @ Gate::Flow { .. }) => {
                        assert!(self.asked.is_some() && self.written == self.asked, "audio before tts start");
                        (self.gate, self.played) = (gate, false);
                    }
                    MediaCommand::Gate(gate) => self.gate = gate,
                    MediaCommand::Mark(reply) => {
                        assert!(matches!(self.gate, Gate::Flow { .. }), "a mark nobody will reach");
                        (self.marked, self.played) = (Some(reply), false);
                    }
                    _ => {}
                }
            }
        }
        if self.aborting {
            assert!(!matches!(self.gate, Gate::Flow { .. }), "audio flows after an abort");
        }
    }

    fn room(&mut self, room: RoomId, command: &RoomCommand) {
        match command {
            RoomCommand::Join(_) => {
                assert_eq!(self.joined, None, "two rooms");
                self.joined = Some(room);
            }
            RoomCommand::Leave => {
                assert_eq!(self.joined.take(), Some(room), "left a room that was not joined");
                self.left = Some(room);
            }
            _ => assert_eq!(self.joined, Some(room), "said to a room that is not joined"),
        }
    }
}
