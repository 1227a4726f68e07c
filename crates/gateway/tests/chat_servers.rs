//! Calls in rooms of chat servers: one by another hand, and some that misbehave at every step.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evenkeel_gateway::call::CallConfig;
use evenkeel_gateway::config::Config;
use evenkeel_gateway::control::{Clock, HubConfig, RoomMaker};
use evenkeel_gateway::device::mqtt::EndpointConfig;
use evenkeel_gateway::media::{MediaCommand, MediaEvent, ReplyId, UplinkPacket};
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::room::websocket::servers::Servers;
use evenkeel_gateway::room::websocket::{Bearer, WebSocketRooms};
use evenkeel_testkit::tools;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use support::{Gateway, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

async fn gateway(urls: Vec<String>, secret: Option<&str>) -> Gateway {
    gateway_that_waits(urls, secret, CallConfig::default().join_limit).await.0
}

async fn gateway_that_waits(
    urls: Vec<String>,
    secret: Option<&str>,
    join_limit: Duration,
) -> (Gateway, Arc<WebSocketRooms>) {
    let rooms = WebSocketRooms {
        servers: Servers::new(urls),
        bearer: Bearer::new(secret),
        tls: Config::default().client_tls().unwrap(),
        clock: Clock::start(),
    };
    let call = CallConfig { room_retry: Duration::from_millis(20), join_limit, ..CallConfig::default() };
    let config = HubConfig { call: Arc::new(call), ..HubConfig::default() };
    let rooms = Arc::new(rooms);
    let maker = RoomMaker::WebSocket { rooms: Arc::clone(&rooms), development: HashMap::new() };
    (Gateway::with(maker, config, EndpointConfig::default(), None).await, rooms)
}

impl Gateway {
    fn uplink(&self, serial: u64, byte: u8) {
        let packet = UplinkPacket::new(&[8, byte]).unwrap();
        self.report(serial, MediaEvent::Uplink { packet, timestamp: u32::from(byte) * 60 });
    }

    fn downlink(&self) -> Vec<Bytes> {
        let told = self.lanes.told.lock().unwrap();
        let opus = |(_, command): &(_, MediaCommand)| match command {
            MediaCommand::Downlink { opus, .. } => Some(opus.clone()),
            _ => None,
        };
        told.iter().filter_map(opus).collect()
    }

    fn counted(&self, counter: Counter) -> u64 {
        self.hub.registry.counters.get(counter)
    }
}

#[tokio::test]
async fn a_conversation_with_a_chat_server_of_another_hand() {
    let Some(python) = tools::python("gateway") else { return };
    let mut server = tokio::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chat_server.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().unwrap();
    let url = format!("ws://127.0.0.1:{}/xiaozhi/v1/?from=mqtt_gateway", port.strip_prefix("PORT ").unwrap());
    let gateway = gateway(vec![url], Some("topsecret")).await;
    let mut device = gateway.device(1).await;
    device.say(json!({"type": "hello", "version": 3, "features": {"mcp": false}})).await;
    let session = device.hear().await["session_id"].clone();
    // Before the room is there: kept, and given to it in order.
    device.say(json!({"type": "listen", "state": "detect", "text": "hey", "session_id": session})).await;
    for byte in 0..10 {
        gateway.uplink(0, byte);
    }
    device.say(json!({"type": "listen", "state": "start", "mode": "auto", "session_id": session})).await;
    assert_eq!(device.hear().await, json!({"type": "stt", "text": "hi", "session_id": session}));
    assert_eq!(device.hear().await, json!({"type": "tts", "state": "start", "session_id": session}));
    until(|| gateway.downlink().len() == 10).await;
    assert_eq!(gateway.downlink()[9], Bytes::from_static(&[8, 9]));
    device.say(json!({"type": "listen", "state": "stop", "session_id": session})).await;
    until(|| gateway.lanes.names().iter().any(|name| name == "Mark")).await;
    gateway.report(0, MediaEvent::PlayedOut(ReplyId(1)));
    assert_eq!(device.hear().await["state"], "stop");
    device.say(json!({"type": "bye", "session_id": session})).await;
    assert_eq!(device.hear().await["reason"], "room_ended");
    drop(server.stdin.take());
    let mut seen = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        assert!(!line.starts_with("WRONG"), "{line}");
        seen.push(line);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

/// Serves every connection by `script`; gives the address.
async fn server<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    format!("ws://{address}/")
}

async fn upgraded(stream: TcpStream) -> WebSocketStream<TcpStream> {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket.send(Message::text(r#"{"type":"hello","session_id":"theirs"}"#)).await.unwrap();
    socket
}

async fn well_behaved(stream: TcpStream) {
    let mut socket = upgraded(stream).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn servers_that_fail_at_any_step_are_left_out_and_the_call_goes_on() {
    let refusing = "ws://127.0.0.1:1/".to_owned();
    let closes_at_once = server(|stream| async { drop(stream) }).await;
    let no_websocket = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    let closes_after_upgrade = server(|stream| async {
        drop(tokio_tungstenite::accept_async(stream).await);
    })
    .await;
    let garbage_hello = server(|stream| async {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let _ = socket.send(Message::text("no json")).await;
        let _ = socket.send(Message::Close(None)).await;
    })
    .await;
    let good = server(well_behaved).await;
    let urls = vec![refusing, closes_at_once, no_websocket, closes_after_upgrade, garbage_hello, good];
    let gateway = gateway(urls, None).await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    until(|| gateway.counted(Counter::RoomReady) == 1).await;
    assert_eq!(gateway.counted(Counter::RoomLost), 5);
    let mut next = gateway.device(2).await;
    next.hello().await;
    until(|| gateway.counted(Counter::RoomReady) == 2).await;
    assert_eq!(gateway.counted(Counter::RoomLost), 5, "the next call is led past them");
}

#[tokio::test]
async fn servers_that_stall_at_any_step_of_joining_are_left_out() {
    let silent = server(|stream| async {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let no_hello = server(|stream| async {
        let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    // Answers byte by byte, and would for hours.
    let dribbles = server(|mut stream| async move {
        while stream.write_all(b"H").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    for stalls in [silent, no_hello, dribbles] {
        let urls = vec![stalls, server(well_behaved).await];
        let (gateway, rooms) = gateway_that_waits(urls, None, Duration::from_millis(1100)).await;
        let mut device = gateway.device(1).await;
        assert_eq!(device.hello().await["type"], "hello", "the device does not wait for the room");
        until(|| gateway.counted(Counter::RoomLost) == 1).await;
        let health: Vec<_> =
            rooms.servers.health(rooms.clock.now()).into_iter().map(|server| server.1).collect();
        assert_eq!(health, [false, true]);
        until(|| gateway.counted(Counter::RoomReady) == 1).await;
        gateway.device(2).await.hello().await;
        until(|| gateway.counted(Counter::RoomReady) == 2).await;
        assert_eq!(gateway.counted(Counter::RoomLost), 1, "the next call is led past it");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_lost_after_two_pings() {
    let url = server(|stream| async {
        let socket = upgraded(stream).await;
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let gateway = gateway(vec![url], None).await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    until(|| gateway.counted(Counter::RoomReady) == 1).await;
    tokio::time::pause();
    for second in 0..70 {
        assert!(second > 30 || gateway.counted(Counter::RoomLost) == 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
    assert!(gateway.counted(Counter::RoomLost) >= 1);
    assert_eq!(gateway.hub.registry.live(), 1);
}

#[tokio::test]
async fn bad_frames_are_counted_and_dropped() {
    let url = server(|stream| async {
        let mut socket = upgraded(stream).await;
        let mut lying = vec![0; 17];
        lying[15] = 200;
        for bad in [vec![], vec![1], vec![0; 15], vec![0; 16], lying] {
            socket.send(Message::Binary(bad.into())).await.unwrap();
        }
        for bad in ["", "[]", "{}", "{\"type\":1}", &"[".repeat(1000)] {
            socket.send(Message::text(bad.to_owned())).await.unwrap();
        }
        socket.send(Message::text(r#"{"type":"llm","emotion":"happy"}"#)).await.unwrap();
        let _ = socket.next().await;
    })
    .await;
    let gateway = gateway(vec![url], None).await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    assert_eq!(device.hear().await["emotion"], "happy");
    assert_eq!(gateway.counted(Counter::BadFrames), 10);
    assert_eq!(gateway.hub.registry.live(), 1);
}

#[tokio::test]
async fn a_server_that_floods_is_cut_and_others_feel_nothing() {
    let url = server(|stream| async {
        let mut socket = upgraded(stream).await;
        let text = Message::text(r#"{"type":"stt","text":"flood"}"#);
        let audio = Message::Binary(evenkeel_gateway::room::websocket::frame::emit_audio(0, &[8, 1]).into());
        for _ in 0..20_000 {
            if socket.send(text.clone()).await.is_err() || socket.send(audio.clone()).await.is_err() {
                return;
            }
        }
        let _ = socket.next().await;
    })
    .await;
    let gateway = gateway(vec![url], None).await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    let reading = tokio::spawn(async move {
        let mut heard = 0;
        while heard < 40 {
            device.hear().await;
            heard += 1;
        }
        device
    });
    let mut other = gateway.device(2).await;
    assert_eq!(other.hello().await["type"], "hello");
    let mut device = reading.await.unwrap();
    until(|| gateway.counted(Counter::MessagesDropped) > 10_000).await;
    device.say(json!({"type": "goodbye"})).await;
    until(|| gateway.hub.registry.live() == 1).await;
}

#[tokio::test]
async fn a_server_that_does_not_read_costs_frames_and_no_memory() {
    let url = server(|stream| async {
        let socket = upgraded(stream).await;
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let gateway = gateway(vec![url], None).await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    until(|| gateway.counted(Counter::RoomReady) == 1).await;
    let packet = UplinkPacket::new(&[8; 1400]).unwrap();
    let mut sent = 0;
    while gateway.counted(Counter::RoomStalled) < 100 {
        gateway.report(0, MediaEvent::Uplink { packet, timestamp: 0 });
        sent += 1;
        if sent % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(sent < 100_000, "nothing was dropped");
    }
    device.say(json!({"type": "goodbye"})).await;
    until(|| gateway.hub.registry.live() == 0).await;
}

#[tokio::test]
async fn a_server_that_dies_is_replaced_within_the_call() {
    let dies = server(|stream| async {
        let mut socket = upgraded(stream).await;
        let _ = socket.next().await;
        let start = r#"{"type":"tts","state":"start","session_id":"theirs"}"#;
        let _ = socket.send(Message::text(start)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    })
    .await;
    let good = server(well_behaved).await;
    let gateway = gateway(vec![dies, good], None).await;
    let mut device = gateway.device(1).await;
    device.hello().await;
    device.say(json!({"type": "listen", "state": "start"})).await;
    assert_eq!(device.hear().await["state"], "start");
    until(|| gateway.counted(Counter::RoomReady) == 2).await;
    gateway.report(0, MediaEvent::PlayedOut(ReplyId(1)));
    assert_eq!(device.hear().await["state"], "stop", "the cut reply still ends");
    gateway.uplink(0, 7);
    until(|| !gateway.downlink().is_empty()).await;
    assert_eq!(gateway.hub.registry.live(), 1);
}
