//! A call on virtual time, one behaviour a test.

use serde_json::json;

use super::*;
use crate::device::envelope::{Envelope, Limits};
use crate::device::message::{Incoming, Message};
use crate::media::{MediaEvent, PlaceError, ReplyId};
use crate::room::{RoomEvent, TtsState};

struct Rig {
    call: Call,
    now: Time,
    sessions: u64,
    route: Route,
}

impl Rig {
    fn new() -> Self {
        Self {
            call: Call::new(Arc::new(CallConfig::default()), 1),
            now: Time::ZERO,
            sessions: 0,
            route: Route::Chat,
        }
    }

    /// With a session and a room that has joined.
    fn ready() -> Self {
        let mut rig = Self::new();
        rig.hello();
        rig.room(1, RoomEvent::Ready { session_id: Some("theirs".into()) });
        rig.drain();
        rig
    }

    /// In the middle of a reply that flows.
    fn speaking() -> Self {
        let mut rig = Self::ready();
        rig.media(MediaEvent::FirstDatagram { from: ([127, 0, 0, 1], 9).into() });
        rig.tts(1, TtsState::Start);
        rig.written();
        rig.drain();
        assert!(rig.call.is_speaking());
        rig
    }

    fn hello(&mut self) {
        let Message::Hello(hello) = message("hello", json!({"version": 3})).message else { unreachable!() };
        self.sessions += 1;
        let media = MediaId { lane: 0, serial: self.sessions };
        let grant = Grant {
            placement: Placement { media, host: "h".into(), port: 7, connection_id: 5 },
            session_id: format!("s{}", self.sessions),
            key: [1; 32],
            source: SourcePolicy::Any,
            route: self.route,
        };
        self.call.handle_hello(hello, Ok(grant), self.now);
    }

    fn say(&mut self, kind: &str, fields: Value) {
        self.call.handle_message(Box::new(message(kind, fields)), self.now);
    }

    fn room(&mut self, id: u32, event: RoomEvent) {
        self.call.handle_room(RoomId(id), event, self.now);
    }

    fn tts(&mut self, room: u32, state: TtsState) {
        let name = match state {
            TtsState::Start => "start",
            TtsState::Sentence => "sentence_start",
            TtsState::Stop => "stop",
        };
        let text = json!({"type": "tts", "state": name, "session_id": "theirs"}).to_string();
        self.room(room, RoomEvent::Tts { state, envelope: envelope(&text) });
    }

    fn media(&mut self, event: MediaEvent) {
        let media = self.call.media().unwrap();
        self.call.handle_media(media, event, self.now);
    }

    /// The newest receipt that was asked for comes in.
    fn written(&mut self) {
        let receipt = Receipt(self.call.next_receipt - 1);
        self.call.handle_written(receipt, self.now);
    }

    fn after(&mut self, wait: Duration) {
        let end = self.now + wait;
        while let Some(at) = self.call.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.call.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// What came out, one short word each.
    fn drain(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(output) = self.call.poll_output() {
            words.push(match output {
                Output::Device { text, .. } => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    let state = value["state"].as_str().or(value["reason"].as_str()).unwrap_or_default();
                    let id = value["session_id"].as_str().unwrap_or_default();
                    format!("device {} {state} {id}", value["type"].as_str().unwrap())
                }
                Output::Media(media, command) => {
                    let name = format!("{command:?}");
                    let name = match command {
                        MediaCommand::Open(_) => "Open",
                        _ => &name,
                    };
                    format!("media {} {name}", media.serial)
                }
                Output::Room(room, command) => {
                    let name = match command {
                        RoomCommand::Join(_) => "join".to_owned(),
                        RoomCommand::Leave => "leave".to_owned(),
                        RoomCommand::Device { text, .. } => text,
                        RoomCommand::Mcp(_) => "mcp".to_owned(),
                    };
                    format!("room {} {name}", room.0)
                }
                Output::Note(_) => continue,
                other => format!("{other:?}"),
            });
        }
        words.iter().map(|word| word.trim_end().to_owned()).collect()
    }
}

fn message(kind: &str, mut fields: Value) -> Incoming {
    fields["type"] = kind.into();
    Incoming::parse(fields.to_string().as_bytes(), Limits::default()).unwrap()
}

fn envelope(text: &str) -> Envelope {
    Envelope::new(text.as_bytes(), Limits::default()).unwrap()
}

const S: Duration = Duration::from_secs(1);

#[test]
fn a_hello_is_answered_before_the_room_is_asked() {
    let mut rig = Rig::new();
    rig.hello();
    assert_eq!(rig.drain(), ["media 1 Open", "device hello  s1", "room 1 join"]);
}

#[test]
fn what_the_device_says_while_the_room_joins_reaches_it_in_order() {
    let mut rig = Rig::new();
    rig.hello();
    rig.drain();
    rig.say("listen", json!({"state": "detect", "session_id": "s1"}));
    rig.say("listen", json!({"state": "start"}));
    assert!(rig.drain().is_empty());
    rig.room(1, RoomEvent::Ready { session_id: Some("theirs".into()) });
    assert_eq!(
        rig.drain(),
        [
            r#"room 1 {"session_id":"theirs","state":"detect","type":"listen"}"#,
            r#"room 1 {"state":"start","type":"listen"}"#,
        ]
    );
}

#[test]
fn what_waits_for_a_room_is_bounded() {
    let mut rig = Rig::new();
    rig.hello();
    for _ in 0..1000 {
        rig.say("listen", json!({"state": "start"}));
    }
    rig.drain();
    rig.room(1, RoomEvent::Ready { session_id: None });
    assert_eq!(rig.drain().len(), 32);
}

#[test]
fn a_repeated_hello_waits_for_the_old_room_but_is_answered_at_once() {
    let mut rig = Rig::ready();
    rig.hello();
    assert_eq!(rig.drain(), ["media 1 Close", "room 1 leave", "media 2 Open", "device hello  s2"]);
    rig.hello();
    assert_eq!(rig.drain(), ["media 2 Close", "media 3 Open", "device hello  s3"]);
    rig.room(1, RoomEvent::Left);
    assert_eq!(rig.drain(), ["room 2 join"]);
    rig.tts(1, TtsState::Start);
    assert!(rig.drain().is_empty(), "the old room has no say");
}

#[test]
fn a_room_that_never_leaves_holds_nobody_up() {
    let mut rig = Rig::ready();
    rig.hello();
    rig.drain();
    rig.after(Duration::from_millis(499));
    assert!(rig.drain().is_empty());
    rig.after(Duration::from_millis(1));
    assert_eq!(rig.drain(), ["room 2 join"]);
}

#[test]
fn audio_flows_once_tts_start_was_written() {
    let mut rig = Rig::ready();
    rig.tts(1, TtsState::Start);
    assert_eq!(rig.drain(), ["device tts start s1"]);
    rig.call.handle_written(Receipt(77), rig.now);
    assert!(rig.drain().is_empty(), "not the receipt that was asked for");
    rig.written();
    assert_eq!(rig.drain(), ["media 1 Gate(Flow { lead: 0ns })"]);
}

#[test]
fn tts_stop_waits_for_playout() {
    let mut rig = Rig::speaking();
    rig.tts(1, TtsState::Stop);
    assert_eq!(rig.drain(), ["media 1 Mark(ReplyId(1))"]);
    rig.media(MediaEvent::PlayedOut(ReplyId(9)));
    rig.after(S * 60);
    assert!(rig.drain().is_empty());
    rig.media(MediaEvent::PlayedOut(ReplyId(1)));
    assert_eq!(rig.drain(), ["device tts stop s1", "media 1 Gate(Hold)", "media 1 Flush"]);
}

#[test]
fn a_reply_that_ends_before_its_start_was_written_still_plays() {
    let mut rig = Rig::ready();
    rig.tts(1, TtsState::Start);
    rig.tts(1, TtsState::Stop);
    assert_eq!(rig.drain(), ["device tts start s1"]);
    rig.written();
    assert_eq!(rig.drain(), ["media 1 Gate(Flow { lead: 0ns })", "media 1 Mark(ReplyId(1))"]);
}

#[test]
fn a_reply_that_follows_at_once_is_one_with_the_first() {
    let mut rig = Rig::speaking();
    rig.tts(1, TtsState::Stop);
    rig.tts(1, TtsState::Start);
    rig.media(MediaEvent::PlayedOut(ReplyId(1)));
    rig.tts(1, TtsState::Stop);
    assert_eq!(rig.drain(), ["media 1 Mark(ReplyId(1))", "media 1 Mark(ReplyId(2))"]);
    rig.media(MediaEvent::PlayedOut(ReplyId(2)));
    assert_eq!(rig.drain()[0], "device tts stop s1");
}

#[test]
fn an_abort_drops_the_reply_and_what_still_comes_of_it() {
    for ending in [false, true] {
        let mut rig = Rig::speaking();
        if ending {
            rig.tts(1, TtsState::Stop);
            rig.drain();
        }
        rig.say("abort", json!({}));
        assert_eq!(
            rig.drain(),
            ["media 1 Gate(Discard)", "device tts stop s1", r#"room 1 {"type":"abort"}"#]
        );
        rig.tts(1, TtsState::Sentence);
        rig.tts(1, TtsState::Stop);
        assert!(rig.drain().is_empty());
        rig.tts(1, TtsState::Start);
        assert_eq!(rig.drain(), ["media 1 Gate(Hold)", "device tts start s1"]);
    }
}

#[test]
fn messages_of_no_session_or_an_old_one_are_answered_with_goodbye_to_that() {
    let mut rig = Rig::new();
    for kind in ["abort", "udp_timeout", "mode-change"] {
        rig.say(kind, json!({"session_id": "old"}));
        assert_eq!(rig.drain(), ["device goodbye  old"]);
    }
    rig.say("goodbye", json!({"session_id": "old"}));
    rig.say("abort", json!({}));
    assert!(rig.drain().is_empty());
    let mut rig = Rig::ready();
    rig.say("goodbye", json!({"session_id": "old"}));
    assert!(rig.drain().is_empty());
    rig.say("listen", json!({"session_id": "old", "state": "start"}));
    assert_eq!(rig.drain(), ["device goodbye  old"]);
    assert_eq!(rig.call.session_id(), Some("s1"));
}

#[test]
fn goodbye_ends_everything_and_says_nothing() {
    let mut rig = Rig::speaking();
    rig.say("goodbye", json!({"session_id": "s1"}));
    assert_eq!(rig.drain(), ["media 1 Close", "room 1 leave"]);
    rig.room(1, RoomEvent::Left);
    assert!(rig.call.is_quiet() && rig.call.poll_timeout().is_none());
}

#[test]
fn udp_timeout_makes_the_device_say_hello_anew() {
    let mut rig = Rig::ready();
    rig.media(MediaEvent::NeverSeen);
    rig.say("udp_timeout", json!({"session_id": "s1"}));
    assert_eq!(rig.drain(), ["media 1 Close", "room 1 leave", "device goodbye udp_timeout s1"]);
}

#[test]
fn a_reply_to_a_device_never_seen_ends_soon() {
    let mut rig = Rig::ready();
    rig.tts(1, TtsState::Start);
    rig.written();
    rig.tts(1, TtsState::Stop);
    rig.drain();
    rig.after(S * 2);
    assert_eq!(rig.drain()[0], "device tts stop s1");
}

#[test]
fn a_call_outlives_its_mqtt_connection_for_a_while() {
    let mut rig = Rig::speaking();
    rig.call.handle_mqtt_lost(rig.now);
    rig.tts(1, TtsState::Stop);
    rig.media(MediaEvent::PlayedOut(ReplyId(1)));
    rig.tts(1, TtsState::Start);
    assert_eq!(rig.drain(), ["media 1 Mark(ReplyId(1))", "media 1 Gate(Hold)", "media 1 Flush"]);
    rig.after(S * 59);
    rig.call.handle_mqtt_returned();
    assert_eq!(rig.drain(), ["device tts start s1"]);
    rig.written();
    assert_eq!(rig.drain(), ["media 1 Gate(Flow { lead: 0ns })"]);
    rig.call.handle_mqtt_lost(rig.now);
    rig.after(S * 60);
    assert_eq!(rig.drain(), ["media 1 Close", "room 1 leave"]);
}

#[test]
fn what_ended_while_mqtt_was_down_is_said_on_return() {
    let mut rig = Rig::ready();
    rig.call.handle_mqtt_lost(rig.now);
    rig.room(1, RoomEvent::Ended);
    assert_eq!(rig.drain(), ["media 1 Close"]);
    rig.call.handle_mqtt_returned();
    assert_eq!(rig.drain(), ["device goodbye  s1"]);
}

#[test]
fn a_lost_room_is_joined_anew_with_back_off_and_told_of_the_listening() {
    let mut rig = Rig::ready();
    rig.say("listen", json!({"state": "start", "mode": "auto"}));
    rig.drain();
    rig.room(1, RoomEvent::Lost);
    rig.after(Duration::from_millis(249));
    assert!(rig.drain().is_empty());
    rig.after(Duration::from_millis(251));
    assert_eq!(rig.drain(), ["room 2 join"]);
    rig.room(2, RoomEvent::Lost);
    rig.after(S);
    rig.room(3, RoomEvent::Ready { session_id: None });
    assert_eq!(rig.drain(), ["room 3 join", r#"room 3 {"mode":"auto","state":"start","type":"listen"}"#]);
}

#[test]
fn a_room_that_stays_away_ends_the_call() {
    let mut rig = Rig::ready();
    let mut joins = 0;
    rig.room(1, RoomEvent::Lost);
    while rig.call.session_id().is_some() {
        rig.after(Duration::from_millis(100));
        for word in rig.drain() {
            if let Some(room) = word.strip_suffix(" join").and_then(|word| word.strip_prefix("room ")) {
                joins += 1;
                rig.room(room.parse().unwrap(), RoomEvent::Lost);
            } else {
                assert!(["media 1 Close", "device goodbye room_gone s1"].contains(&word.as_str()), "{word}");
            }
        }
    }
    assert!((5..12).contains(&joins), "{joins} attempts");
    assert!(rig.now <= Time::from_millis(30_000));
}

#[test]
fn a_room_that_greets_and_goes_is_away_until_it_has_stayed() {
    for (stays, ends) in [(S, true), (S * 6, false)] {
        let mut rig = Rig::ready();
        let mut joins = 0;
        rig.room(1, RoomEvent::Lost);
        while joins < 10 && rig.call.session_id().is_some() {
            rig.after(Duration::from_millis(100));
            for word in rig.drain() {
                let Some(room) = word.strip_suffix(" join").and_then(|word| word.strip_prefix("room "))
                else {
                    continue;
                };
                joins += 1;
                let room = room.parse().unwrap();
                rig.room(room, RoomEvent::Ready { session_id: None });
                rig.after(stays);
                rig.room(room, RoomEvent::Lost);
            }
        }
        assert_eq!(rig.call.session_id().is_none(), ends, "after {joins} times of {stays:?}");
    }
}

#[test]
fn a_room_that_stalls_while_joining_counts_as_lost() {
    let mut rig = Rig::new();
    rig.hello();
    rig.drain();
    rig.after(S * 10);
    assert_eq!(rig.drain(), ["room 1 leave"]);
    rig.room(1, RoomEvent::Ready { session_id: None });
    assert!(!rig.call.is_room_ready());
    rig.after(S);
    assert_eq!(rig.drain(), ["room 2 join"]);
}

#[test]
fn a_room_that_ends_lets_its_farewell_play() {
    let mut rig = Rig::speaking();
    rig.room(1, RoomEvent::Ended);
    assert_eq!(rig.drain(), ["media 1 Mark(ReplyId(1))"]);
    rig.media(MediaEvent::PlayedOut(ReplyId(1)));
    let words = rig.drain();
    assert_eq!(words.first().unwrap(), "device tts stop s1");
    assert_eq!(words.last().unwrap(), "device goodbye room_ended s1");
}

#[test]
fn audio_keeps_a_call_from_being_idle() {
    let mut rig = Rig::ready();
    for _ in 0..20 {
        rig.after(S * 599);
        rig.media(MediaEvent::AudioActive);
    }
    assert!(rig.call.session_id().is_some());
    rig.drain();
    rig.after(S * 600);
    assert_eq!(rig.drain(), ["media 1 Close", "room 1 leave", "device goodbye idle s1"]);
}

#[test]
fn draining_lets_a_reply_finish_and_refuses_new_sessions() {
    let mut rig = Rig::ready();
    rig.call.handle_drain(rig.now + S * 30, rig.now);
    assert_eq!(rig.drain(), ["media 1 Close", "room 1 leave", "device goodbye draining s1"]);
    rig.hello();
    assert_eq!(rig.drain(), ["Release(MediaId { lane: 0, serial: 2 })", "device error"]);

    let mut rig = Rig::speaking();
    rig.call.handle_drain(rig.now + S * 30, rig.now);
    assert!(rig.drain().is_empty());
    rig.tts(1, TtsState::Stop);
    rig.media(MediaEvent::PlayedOut(ReplyId(1)));
    assert_eq!(rig.drain().last().unwrap(), "device goodbye draining s1");

    let mut rig = Rig::speaking();
    rig.call.handle_drain(rig.now + S * 30, rig.now);
    rig.after(S * 30);
    assert_eq!(rig.drain().last().unwrap(), "device goodbye draining s1");
}

#[test]
fn a_full_gateway_says_so() {
    let mut rig = Rig::new();
    let Message::Hello(hello) = message("hello", json!({"version": 3})).message else { unreachable!() };
    rig.call.handle_hello(hello, Err(PlaceError::Full), rig.now);
    assert_eq!(rig.drain(), ["device error"]);
}

#[test]
fn audio_begins_and_ends_replies_of_rooms_in_the_lane() {
    let mut rig = Rig { route: Route::Echo, ..Rig::new() };
    rig.hello();
    rig.room(1, RoomEvent::Ready { session_id: None });
    rig.drain();
    rig.media(MediaEvent::DownlinkWaiting);
    rig.media(MediaEvent::DownlinkWaiting);
    assert_eq!(rig.drain(), ["device tts start s1"]);
    rig.written();
    rig.media(MediaEvent::DownlinkEnded);
    assert_eq!(rig.drain(), ["media 1 Gate(Flow { lead: 0ns })", "media 1 Mark(ReplyId(1))"]);
    rig.say("abort", json!({}));
    rig.drain();
    rig.tts(1, TtsState::Stop);
    assert_eq!(rig.drain(), ["media 1 Gate(Hold)"]);
    rig.media(MediaEvent::DownlinkWaiting);
    assert_eq!(rig.drain(), ["device tts start s1"]);
}

#[test]
fn two_devices_are_connected_and_hang_up_together() {
    let mut rig = Rig::speaking();
    assert!(rig.call.handle_bridge(None, rig.now));
    assert_eq!(rig.drain(), ["room 1 leave", "media 1 Mark(ReplyId(1))"]);
    rig.media(MediaEvent::PlayedOut(ReplyId(1)));
    rig.drain();
    let peer = MediaId { lane: 1, serial: 8 };
    assert!(rig.call.handle_bridge(Some(peer), rig.now));
    rig.written();
    assert_eq!(
        rig.drain(),
        [
            "media 1 Flush",
            "media 1 Route(Peer(MediaId { lane: 1, serial: 8 }))",
            "device tts start s1",
            "media 1 Gate(Flow { lead: 0ns })",
        ]
    );
    rig.call.handle_peer_gone(rig.now);
    assert_eq!(rig.drain(), ["media 1 Close", "device goodbye peer_gone s1"]);
    assert!(!Rig::new().call.handle_bridge(None, Time::ZERO));
}

#[test]
fn the_rooms_tool_list_is_answered_from_the_cache() {
    let mut rig = Rig::new();
    let hello = message("hello", json!({"version": 3, "features": {"mcp": true}}));
    let Message::Hello(hello) = hello.message else { unreachable!() };
    let media = MediaId { lane: 0, serial: 1 };
    let grant = Grant {
        placement: Placement { media, host: "h".into(), port: 7, connection_id: 5 },
        session_id: "s1".into(),
        key: [1; 32],
        source: SourcePolicy::Any,
        route: Route::Chat,
    };
    rig.call.handle_hello(hello, Ok(grant), rig.now);
    rig.room(1, RoomEvent::Ready { session_id: None });
    assert!(rig.drain().contains(&"device mcp  s1".to_owned()));
    rig.say("mcp", json!({"payload": {"id": 10_000, "result": {}}}));
    rig.say("mcp", json!({"payload": {"id": 10_001, "result": {"tools": [{"name": "lamp"}]}}}));
    rig.drain();
    let Value::Object(payload) = json!({"id": 1, "method": "tools/list"}) else { unreachable!() };
    rig.room(1, RoomEvent::Mcp { payload, envelope: envelope(r#"{"type":"mcp"}"#) });
    assert_eq!(rig.drain(), ["room 1 mcp"]);
}
