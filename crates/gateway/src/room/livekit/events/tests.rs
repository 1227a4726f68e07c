//! Room event by room event, what a device is told.

use std::collections::HashMap;

use evenkeel_livekit::data::{DataMessage, Delivery, Text};

use super::*;

fn events() -> Events {
    let mut events = Events::new("device".to_owned());
    events.handle(&Event::Published { sid: "TR_own".into() }, &mut Vec::new());
    events.handle(&Event::ParticipantJoined(agent("initializing")), &mut Vec::new());
    events
}

fn agent(state: &str) -> RemoteParticipant {
    RemoteParticipant {
        sid: "PA_1".into(),
        identity: "agent".into(),
        name: String::new(),
        agent: true,
        attributes: HashMap::from([("lk.agent.state".to_owned(), state.to_owned())]),
    }
}

fn data(topic: &str, payload: &str) -> Event {
    let (sender, topic, payload) = ("agent".to_owned(), topic.to_owned(), payload.as_bytes().to_vec());
    Event::Data(DataMessage { sender, topic, delivery: Delivery::Reliable, payload })
}

/// What comes of an event: cues by name, messages as JSON.
fn told(events: &mut Events, event: &Event) -> Vec<String> {
    let mut effects = Vec::new();
    events.handle(event, &mut effects);
    let name = |effect| match effect {
        Effect::Room(
            RoomEvent::Text(envelope) | RoomEvent::Tts { envelope, .. } | RoomEvent::Mcp { envelope, .. },
        ) => envelope.text().to_owned(),
        Effect::Room(event) => format!("{event:?}"),
        Effect::Cue(cue) => format!("{cue:?}"),
        other => format!("{other:?}"),
    };
    effects.into_iter().map(name).collect()
}

#[test]
fn what_agents_say_of_themselves() {
    const START: &str = r#"{"state":"start","type":"tts"}"#;
    const THINK: &str = r#"{"state":"think","type":"llm"}"#;
    let mut events = events();
    for (state, expected) in [
        ("listening", &["Quiet"][..]),
        ("thinking", &[THINK]),
        ("thinking", &[]),
        ("speaking", &["Speaking", START]),
        ("listening", &["Quiet"]),
        ("speaking", &["Speaking", START]),
        ("thinking", &["Quiet", THINK]),
    ] {
        assert_eq!(told(&mut events, &Event::ParticipantChanged(agent(state))), expected, "{state}");
    }
    let changed = |state: &str| {
        data(
            "",
            &format!(r#"{{"type":"agent_state_changed","data":{{"old_state":"x","new_state":"{state}"}}}}"#),
        )
    };
    assert_eq!(told(&mut events, &changed("speaking")), ["Speaking", START]);
    assert_eq!(told(&mut events, &changed("listening")), ["Quiet"]);
    let left = Event::ParticipantLeft { identity: "agent".into() };
    assert_eq!(told(&mut events, &left), ["Unknown"]);
    assert_eq!(events.agent(), None);
}

#[test]
fn the_events_of_the_protocol() {
    let mut events = events();
    for (payload, expected) in [
        (
            r#"{"type":"speech_created","text":"Hi"}"#,
            &["Speaking", r#"{"state":"start","text":"Hi","type":"tts"}"#][..],
        ),
        (r#"{"type":"user_input_transcribed","transcript":"a"}"#, &[r#"{"text":"a","type":"stt"}"#]),
        (
            r#"{"type":"user_input_transcribed","data":{"text":"b","is_final":true}}"#,
            &[r#"{"text":"b","type":"stt"}"#],
        ),
        (r#"{"type":"user_input_transcribed","text":"c","is_final":false}"#, &[]),
        (
            r#"{"type":"llm_emotion","emotion":"happy","text":"x"}"#,
            &[r#"{"emotion":"happy","text":"x","type":"llm"}"#],
        ),
        (r#"{"type":"music_playback_stopped"}"#, &["Quiet"]),
        (
            r#"{"type":"device_control","id":7,"action":"self.audio.set","params":{"v":3}}"#,
            &[
                r#"{"payload":{"id":7,"jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"v":3},"name":"self.audio.set"}},"type":"mcp"}"#,
            ],
        ),
        (
            r#"{"type":"function_call","id":8,"function_call":{"name":"f","arguments":"{\"a\":1}"}}"#,
            &[
                r#"{"payload":{"id":8,"jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"a":1},"name":"f"}},"type":"mcp"}"#,
            ],
        ),
        (r#"{"type":"custom","payload":{"x":1.50}}"#, &[r#"{"type":"custom","payload":{"x":1.50}}"#]),
        (r#"{"type":"tts","state":"stop"}"#, &["Quiet"]),
        (r#"{"type":"goodbye"}"#, &["Ended"]),
        (r#"{"type":"metrics_collected"}"#, &["Ignored"]),
        ("no json", &["Ignored"]),
        ("[]", &["Ignored"]),
    ] {
        assert_eq!(told(&mut events, &data("", payload)), expected, "{payload}");
    }
    assert_eq!(told(&mut events, &data("emotion", "sad")), [r#"{"emotion":"sad","type":"llm"}"#]);
    let text = Event::Text(Text {
        sender: "agent".into(),
        topic: "emotion".into(),
        attributes: HashMap::new(),
        text: r#"{"emotion":"calm"}"#.into(),
    });
    assert_eq!(told(&mut events, &text), [r#"{"emotion":"calm","type":"llm"}"#]);
}

#[test]
fn transcripts_are_told_apart_by_track_and_only_when_final() {
    let mut events = events();
    let said = |track: &str, speaker: &str, is_final| {
        let (track, speaker, text) = (track.to_owned(), speaker.to_owned(), "words".to_owned());
        Event::Transcript(Transcript { track, speaker, text, is_final, ..Transcript::default() })
    };
    let stt = [r#"{"text":"words","type":"stt"}"#];
    let sentence = [r#"{"state":"sentence_start","text":"words","type":"tts"}"#];
    assert_eq!(told(&mut events, &said("TR_own", "agent", true)), stt);
    assert_eq!(told(&mut events, &said("", "device", true)), stt);
    assert_eq!(told(&mut events, &said("TR_other", "device", true)), sentence);
    assert_eq!(told(&mut events, &said("", "agent", true)), sentence);
    assert!(told(&mut events, &said("TR_own", "agent", false)).is_empty());
}
