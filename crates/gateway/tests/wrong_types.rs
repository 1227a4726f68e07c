//! JSON that is not as it should be, in every field of every message: each is answered by what is wrong with it, counted, and
//! has no effect on the session that is open. What is merely unknown is passed on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, SystemTime};

use evenkeel_gateway::control::{HubConfig, RoomMaker};
use evenkeel_gateway::device::envelope::Limits;
use evenkeel_gateway::device::message::Incoming;
use evenkeel_gateway::device::mqtt::EndpointConfig;
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::ops::management::{self, token};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Device, Gateway, KEY, often, packet, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Every message that is looked into, with every field that is.
fn messages() -> [Value; 6] {
    [
        json!({
            "type": "hello", "session_id": "s", "version": 3, "transport": "udp",
            "features": {"mcp": true, "aec": true, "glyph_push": false, "sealed": ["aes-256-gcm"]},
            "text_font": {"bundle": "b", "charset": "c", "size": 14, "bpp": 1},
            "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
        }),
        json!({"type": "listen", "session_id": "s", "state": "detect", "mode": "auto", "text": "hi"}),
        json!({"type": "abort", "session_id": "s", "reason": "wake_word_detected"}),
        json!({"type": "mcp", "session_id": "s", "payload": {"jsonrpc": "2.0", "id": 1, "result": {}}}),
        json!({"type": "goodbye", "session_id": "s"}),
        json!({"type": "udp_timeout", "session_id": "s"}),
    ]
}

/// The places of all values but those that are passed on unread: what is within JSON-RPC.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(fields) if at != "/payload" => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found));
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

fn wrong_values() -> [Value; 9] {
    let deep = (0..12).fold(json!(1), |inner, _| json!([inner]));
    [
        json!(true),
        json!(7),
        json!(-1.5e300),
        json!("text"),
        json!([]),
        json!({}),
        json!([{"type": "hello"}]),
        json!({"session_id": "s"}),
        deep,
    ]
}

async fn gateway() -> Gateway {
    let config =
        HubConfig { hellos_per_device: often(), messages_per_device: often(), ..HubConfig::default() };
    Gateway::with(RoomMaker::Echo, config, EndpointConfig::default(), None).await
}

async fn say_text(device: &mut Device<TcpStream>, text: &str) {
    device.send(&packet(0x30, &[b"\0\x0ddevice-server", text.as_bytes()].concat())).await;
}

#[tokio::test]
async fn a_wrong_type_in_any_field_of_any_message_is_named_counted_and_without_effect() {
    let gateway = gateway().await;
    let mut bystander = gateway.device(2).await;
    bystander.hello().await;
    let mut device = gateway.device(1).await;
    let session = device.hello().await["session_id"].clone();
    let told = || gateway.lanes.names();
    until(|| told().len() >= 2).await;
    let before = told();
    let mut tried = 0;
    for message in messages() {
        let mut found = Vec::new();
        places(&message, "", &mut found);
        for place in found {
            let name = place[1..].replace('/', ".").replace(".0", "");
            for wrong in wrong_values() {
                let mut bad = message.clone();
                if place != "/session_id" {
                    bad["session_id"] = session.clone();
                }
                let slot = bad.pointer_mut(&place).unwrap();
                if std::mem::discriminant(slot) == std::mem::discriminant(&wrong) {
                    continue;
                }
                *slot = wrong;
                say_text(&mut device, &bad.to_string()).await;
                let answer = device.hear().await;
                let why = answer["message"].as_str().unwrap_or_default();
                assert!(answer["type"] == "error" && why.contains(&format!("`{name}`")), "{bad}: {answer}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 200, "{tried}");
    assert_eq!(gateway.hub.registry.counters.get(Counter::BadMessages), tried);
    assert_eq!((told(), gateway.hub.registry.live()), (before, 2), "nothing came of any");
    device.say(json!({"type": "goodbye", "session_id": session})).await;
    until(|| gateway.hub.registry.live() == 1).await;
}

#[tokio::test]
async fn what_is_missing_is_named_and_null_is_as_if_missing() {
    let gateway = gateway().await;
    let mut device = gateway.device(1).await;
    let needed = [("hello", "version"), ("listen", "state"), ("mcp", "payload"), ("abort", "type")];
    for (kind, field) in needed {
        for null in [true, false] {
            let mut message = messages().into_iter().find(|message| message["type"] == kind).unwrap();
            match null {
                true => message[field] = Value::Null,
                false => _ = message.as_object_mut().unwrap().remove(field),
            }
            say_text(&mut device, &message.to_string()).await;
            let answer = device.hear().await;
            let why = answer["message"].as_str().unwrap();
            assert!(why.contains(&format!("`{field}`")), "{message}: {answer}");
        }
    }
    assert_eq!(gateway.hub.registry.counters.get(Counter::BadMessages), 2 * needed.len() as u64);
}

#[tokio::test]
async fn deep_and_long_json_is_refused_wherever_it_is() {
    let gateway = gateway().await;
    let mut device = gateway.device(1).await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(2500), close.repeat(2500));
    let mut bad = 0;
    for nested in [deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(8000), "{\"a\":".repeat(1600)] {
        for text in [
            nested.clone(),
            format!(r#"{{"type":"listen","state":"start","x":{nested}}}"#),
            format!(r#"{{"x":{nested},"type":"hello","version":3}}"#),
        ] {
            if text.len() > 8000 {
                // Longer than a packet may be, it would end the connection.
                continue;
            }
            say_text(&mut device, &text).await;
            let answer = device.hear().await;
            assert!(answer["message"].as_str().unwrap().contains("deeper than 16"), "{answer}");
            bad += 1;
        }
    }
    // As long as a packet may be: read. One byte more: the connection is over before it is read.
    let long = |bytes: usize| {
        let frame = r#"{"type":"hello","version":3,"x":""}"#.len() + b"\0\x0ddevice-server".len();
        format!(r#"{{"type":"hello","version":3,"x":"{}"}}"#, "x".repeat(bytes - frame))
    };
    say_text(&mut device, &long(8192)).await;
    assert_eq!(device.hear().await["type"], "hello");
    let mut other = gateway.device(2).await;
    say_text(&mut other, &long(8193)).await;
    assert!(other.is_closed().await);
    let counters = &gateway.hub.registry.counters;
    assert_eq!((counters.get(Counter::BadMessages), counters.get(Counter::Malformed)), (bad, 1));
    assert_eq!(gateway.hub.registry.live(), 1);
}

/// An answer of the management API to a body.
async fn post(path: &str, headers: &str, body: &str, gateway: &Gateway) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = management::router(gateway.hub.clone(), KEY.into());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serving.abort();
    answer[9..12].parse().unwrap()
}

#[tokio::test]
async fn the_management_api_refuses_wrong_types_in_every_field() {
    let gateway = gateway().await;
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let day = (unix.as_secs() / Duration::from_secs(86_400).as_secs()) as i64;
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", token(KEY, day));
    let macs = json!({"caller_mac": "aa:bb:cc:dd:ee:01", "target_mac": "aa:bb:cc:dd:ee:02"});
    for (path, body, fields) in [
        (
            "/api/commands/x",
            json!({"type": "mcp", "payload": {"method": "m"}}),
            &["", "/type", "/payload", "/payload/method"][..],
        ),
        ("/api/devices/status", json!({"clientIds": ["x"]}), &["", "/clientIds"]),
        ("/api/call/request", macs, &["", "/caller_mac", "/target_mac"]),
        ("/api/call/accept", json!({"mac": "aa:bb:cc:dd:ee:02"}), &["", "/mac"]),
    ] {
        assert_ne!(post(path, &headers, &body.to_string(), &gateway).await, 400, "{path}");
        for place in fields {
            for wrong in wrong_values() {
                let mut bad = body.clone();
                let slot = bad.pointer_mut(place).unwrap();
                if std::mem::discriminant(slot) == std::mem::discriminant(&wrong) {
                    continue;
                }
                *slot = wrong;
                assert_eq!(post(path, &headers, &bad.to_string(), &gateway).await, 400, "{path} {bad}");
            }
        }
        for broken in ["", "{", "nul", "\u{0}", &"[".repeat(10_000)] {
            assert_eq!(post(path, &headers, broken, &gateway).await, 400, "{path} {broken:.20}");
        }
    }
}

/// Any JSON, of few levels.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(hello|listen|udp|start|opus|aes-256-gcm|.{0,8})".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(
                "(type|session_id|state|version|sealed|sample_rate|.{0,3})",
                inner,
                0..4
            )
            .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any values in any fields at once: refused by what is wrong, or taken and passed on as it was.
    #[test]
    fn any_values_in_any_fields_are_refused_or_passed_on_as_they_were(
        which in 0usize..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any_json()), 0..4),
        more in proptest::collection::btree_map(".{0,6}", any_json(), 0..3),
    ) {
        let mut message = messages()[which].clone();
        for (at, value) in changes {
            let mut found = Vec::new();
            places(&message, "", &mut found);
            // Names with slashes lead nowhere.
            if let Some(slot) = found.get(at.index(found.len().max(1))).and_then(|at| message.pointer_mut(at)) {
                *slot = value;
            }
        }
        if let Value::Object(fields) = &mut message {
            fields.extend(more);
        }
        let text = message.to_string();
        match Incoming::parse(text.as_bytes(), Limits::default()) {
            Ok(incoming) => prop_assert_eq!(incoming.envelope.text(), text),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
