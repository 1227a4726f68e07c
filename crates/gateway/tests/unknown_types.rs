//! Messages that the gateway does not know, or knows from one fork of the firmware, reach the room as they were written, and
//! those of the room reach the device.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use evenkeel_gateway::ops::counters::Counter;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::{Device, whole};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Those seen in the wild, and those that nobody has seen.
const MESSAGES: [&str; 13] = [
    r#"{"type":"start_greeting","session_id":"OURS"}"#,
    r#"{"type":"character-change","session_id":"OURS","characterName":"Luna"}"#,
    r#"{"session_id":"OURS","type":"mode-change","mode":"story"}"#,
    r#"{"type":"playback_control","session_id":"OURS","action":"next"}"#,
    r#"{"type":"function_call","session_id":"OURS","source":"rfid","function_call":{"name":"play","arguments":{"id":7.50,"x":null}}}"#,
    r#"{"type":"mobile_music_request","session_id":"OURS","song_name":"歌 \"x\" 🎵","content_type":"music","language":"zh"}"#,
    r#"{"type":"never-heard-of","session_id":"OURS","a":[1e2,{"session_id":"inner","type":"hello"}]}"#,
    r#"{"type":"","session_id":"OURS"}"#,
    r#"{"type":"hello2","session_id":"OURS"}"#,
    r#"{ "session_id" : "OURS" , "type" : "spaced" , "n" : 12345678901234567890 }"#,
    r#"{"type":"escaped","\u0073ession_id":"OURS"}"#,
    r#"{"type":"twice","session_id":"stale","session_id":"OURS"}"#,
    r#"{"type":"\u006cisten-not","session_id":"OURS","\u0000":"\ud83c\udfb5"}"#,
];

/// A chat server that tells what texts it hears, and says whatever it is told to.
async fn server() -> (String, mpsc::UnboundedReceiver<String>, mpsc::UnboundedSender<String>) {
    let (heard, hears) = mpsc::unbounded_channel();
    let (says, mut said) = mpsc::unbounded_channel::<String>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket.send(Message::text(r#"{"type":"hello","session_id":"theirs"}"#)).await.unwrap();
        loop {
            tokio::select! {
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return };
                    if let Message::Text(text) = message {
                        heard.send(text.to_string()).unwrap();
                    }
                }
                Some(text) = said.recv() => socket.send(Message::text(text)).await.unwrap(),
            }
        }
    });
    (url, hears, says)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_is_passed_on_as_it_was_written_both_ways() {
    let (url, mut hears, says) = server().await;
    let gateway =
        whole(&[("room.kind", "websocket"), ("websocket.servers", &url), ("media.lanes", "1")]).await;
    let stream = TcpStream::connect(gateway.started().mqtt[0]).await.unwrap();
    let mut device = Device::connect(stream, 1).await;
    device.hello().await;
    let session = device.session.clone().unwrap();
    // The first are said before the room is there, and kept for it in order.
    for message in MESSAGES {
        let body = [b"\0\x01t", message.replace("OURS", &session).as_bytes()].concat();
        device.send(&support::packet(0x30, &body)).await;
    }
    for message in MESSAGES {
        assert_eq!(hears.recv().await.unwrap(), message.replace("OURS", "theirs"));
    }
    for message in MESSAGES {
        says.send(message.replace("OURS", "theirs")).unwrap();
        let expected: Value = serde_json::from_str(&message.replace("OURS", &session)).unwrap();
        assert_eq!(device.hear().await, expected);
    }
    let counters = &gateway.hub().registry.counters;
    for counter in [Counter::BadMessages, Counter::MessagesDropped, Counter::Stale, Counter::RoomIgnored] {
        assert_eq!(counters.get(counter), 0, "{counter:?}");
    }
    // Of a session that is over, nothing is passed on: the device is told so.
    device.say(json!({"type": "never-heard-of", "session_id": "an old one"})).await;
    let told = device.hear().await;
    assert_eq!((&told["type"], &told["session_id"]), (&json!("goodbye"), &json!("an old one")));
    assert_eq!(counters.get(Counter::Stale), 1);
    assert!(hears.try_recv().is_err());
}
