//! Calls in rooms of chat servers: one by another hand, and some that misbehave at every step.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{Opener, Sealer};
use evenkeel_device::session::Session;
use evenkeel_gateway::chat::audio;
use evenkeel_gateway::device::tls::Tls;
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::run::Gateway;
use evenkeel_testkit::tools;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::tls::Certificate;
use support::{Device, PATIENCE, until, whole};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A gateway whose rooms are these servers.
async fn gateway(urls: &[String], settings: &[(&str, &str)]) -> Gateway {
    let servers = urls.join(",");
    let ours = [("room.kind", "websocket"), ("websocket.servers", &*servers), ("call.room_retry", "20ms")];
    whole(&ours.iter().chain(settings).copied().collect::<Vec<_>>()).await
}

fn counted(gateway: &Gateway, counter: Counter) -> u64 {
    let lanes = gateway.hub().plane.lanes();
    let of_lanes = match counter {
        Counter::BadFrames => lanes.iter().map(|lane| lane.room_frames_bad).sum(),
        Counter::RoomStalled => lanes.iter().map(|lane| lane.room_frames_stalled).sum(),
        _ => 0,
    };
    gateway.hub().registry.counters.get(counter) + of_lanes
}

async fn device(gateway: &Gateway, number: u8) -> Device<TcpStream> {
    Device::connect(TcpStream::connect(gateway.started().mqtt[0]).await.unwrap(), number).await
}

/// The audio of a device.
struct Voice {
    socket: UdpSocket,
    sealer: Sealer,
    opener: Opener,
}

impl Voice {
    /// Of the session that `hello` answered with.
    async fn of(hello: &Value) -> Self {
        let session = Session::parse(hello).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(session.server).await.unwrap();
        Self { socket, sealer: session.sealer(), opener: session.opener() }
    }

    /// Says a packet of 60 ms, known by its last byte.
    async fn say(&mut self, number: u8) {
        let mut datagram = [number; HEADER_LEN + 90];
        datagram[HEADER_LEN] = 0x58;
        self.sealer.seal_echo(&mut datagram, 90, 0).unwrap();
        self.socket.send(&datagram).await.unwrap();
    }

    /// The number of the next packet that comes.
    async fn hear(&mut self) -> u8 {
        let mut datagram = [0; 1500];
        let came = tokio::time::timeout(PATIENCE, self.socket.recv(&mut datagram)).await;
        let len = came.expect("nothing came").unwrap();
        *self.opener.open(&mut datagram[..len]).unwrap().payload.last().unwrap()
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
    let gateway = gateway(&[url], &[("websocket.secret", "topsecret")]).await;
    let mut device = device(&gateway, 1).await;
    device.say(json!({"type": "hello", "version": 3, "features": {"mcp": false}})).await;
    let hello = device.hear().await;
    let session = hello["session_id"].clone();
    let mut voice = Voice::of(&hello).await;
    // Before the room is there: kept, and given to it in order.
    device.say(json!({"type": "listen", "state": "detect", "text": "hey", "session_id": session})).await;
    for number in 0..10 {
        voice.say(number).await;
    }
    device.say(json!({"type": "listen", "state": "start", "mode": "auto", "session_id": session})).await;
    assert_eq!(device.hear().await, json!({"type": "stt", "text": "hi", "session_id": session}));
    assert_eq!(device.hear().await, json!({"type": "tts", "state": "start", "session_id": session}));
    for number in 0..10 {
        assert_eq!(voice.hear().await, number);
    }
    device.say(json!({"type": "listen", "state": "stop", "session_id": session})).await;
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

async fn upgraded<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket.send(Message::text(r#"{"type":"hello","session_id":"theirs"}"#)).await.unwrap();
    socket
}

/// Speaks once the device listens, and then says back each packet.
async fn well_behaved<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut socket = upgraded(stream).await;
    while let Some(Ok(message)) = socket.next().await {
        let answer = match message {
            Message::Text(text) if text.contains("start") => {
                Message::text(r#"{"type":"tts","state":"start"}"#)
            }
            message if message.is_binary() => message,
            _ => continue,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

/// A device whose room is well behaved hears itself.
async fn hears_itself(device: &mut Device<TcpStream>) {
    let hello = device.hello().await;
    let mut voice = Voice::of(&hello).await;
    device.say(json!({"type": "listen", "state": "start"})).await;
    assert_eq!(device.hear().await["state"], "start");
    for number in 0..5 {
        voice.say(number).await;
        assert_eq!(voice.hear().await, number);
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
    let urls = [refusing, closes_at_once, no_websocket, closes_after_upgrade, garbage_hello, good];
    let gateway = gateway(&urls, &[]).await;
    let mut first = device(&gateway, 1).await;
    hears_itself(&mut first).await;
    assert_eq!(counted(&gateway, Counter::RoomReady), 1);
    assert_eq!(counted(&gateway, Counter::RoomLost), 5);
    hears_itself(&mut device(&gateway, 2).await).await;
    assert_eq!(counted(&gateway, Counter::RoomLost), 5, "the next call is led past them");
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
        let urls = [stalls, server(well_behaved).await];
        let gateway = gateway(&urls, &[("call.join_limit", "1100ms")]).await;
        let mut first = device(&gateway, 1).await;
        assert_eq!(first.hello().await["type"], "hello", "the device does not wait for the room");
        until(|| counted(&gateway, Counter::RoomLost) == 1).await;
        until(|| counted(&gateway, Counter::RoomReady) == 1).await;
        hears_itself(&mut device(&gateway, 2).await).await;
        assert_eq!(counted(&gateway, Counter::RoomLost), 1, "the next call is led past it");
    }
}

#[tokio::test]
async fn over_tls_as_over_tcp() {
    let certificate = Certificate::new("chat-server");
    let tls = Tls::open(&certificate.file, &certificate.key_file).unwrap().server_config().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    well_behaved(stream).await;
                }
            });
        }
    });
    let urls = [format!("wss://localhost:{port}/")];
    let gateway = gateway(&urls, &[("websocket.ca_file", certificate.file.to_str().unwrap())]).await;
    let mut first = device(&gateway, 1).await;
    hears_itself(&mut first).await;
    first.say(json!({"type": "goodbye"})).await;
    until(|| gateway.hub().registry.live() == 0).await;
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
    let gateway = gateway(&[url], &[]).await;
    let mut device = device(&gateway, 1).await;
    device.hello().await;
    assert_eq!(device.hear().await["emotion"], "happy");
    until(|| counted(&gateway, Counter::BadFrames) == 10).await;
    assert_eq!(gateway.hub().registry.live(), 1);
}

#[tokio::test]
async fn a_server_that_floods_is_slowed_down_and_others_feel_nothing() {
    let sent = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&sent);
    let floods = server(move |stream| {
        let sent = Arc::clone(&counter);
        async move {
            let mut socket = upgraded(stream).await;
            // As long as texts may be, so that what lies on the way is soon full.
            let text = json!({"type": "stt", "text": "flood".repeat(10_000)}).to_string();
            let silence = [&audio::header(0, 2)[..], &[0x58, 1]].concat();
            loop {
                for message in [Message::text(text.clone()), Message::Binary(silence.clone().into())] {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .await;
    let good = server(well_behaved).await;
    let gateway = gateway(&[floods, good], &[]).await;
    let mut flooded = device(&gateway, 1).await;
    flooded.hello().await;
    // The burst, and then what a second allows.
    for _ in 0..60 {
        flooded.hear().await;
    }
    hears_itself(&mut device(&gateway, 2).await).await;
    let ahead = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(ahead < 1000, "the server was let send {ahead} texts of 50 kB");
    flooded.say(json!({"type": "goodbye"})).await;
    until(|| gateway.hub().registry.live() == 1).await;
}

#[tokio::test]
async fn a_server_that_does_not_read_costs_frames_and_no_memory() {
    let url = server(|stream| async {
        let socket = upgraded(stream).await;
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let gateway = gateway(&[url], &[]).await;
    let mut device = device(&gateway, 1).await;
    let hello = device.hello().await;
    let mut voice = Voice::of(&hello).await;
    until(|| counted(&gateway, Counter::RoomReady) == 1).await;
    let before = support::resident();
    let mut sent = 0u32;
    while counted(&gateway, Counter::RoomStalled) < 100 {
        for _ in 0..50 {
            voice.say(1).await;
        }
        sent += 50;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(sent < 1_000_000, "nothing was dropped");
    }
    assert!(support::resident() < before + (16 << 20), "what waits for a server is bounded");
    device.say(json!({"type": "goodbye"})).await;
    until(|| gateway.hub().registry.live() == 0).await;
}

#[tokio::test]
async fn a_server_that_dies_is_replaced_within_the_call() {
    let dies = server(|stream| async {
        let mut socket = upgraded(stream).await;
        let _ = socket.next().await;
        let start = r#"{"type":"tts","state":"start","session_id":"theirs"}"#;
        let _ = socket.send(Message::text(start)).await;
        let speech = [&audio::header(0, 90)[..], &[0x58; 90]].concat();
        let _ = socket.send(Message::Binary(speech.into())).await;
        let _ = socket.next().await;
    })
    .await;
    let good = server(well_behaved).await;
    // Long enough that the reply has been played before the next server speaks: else both would be one.
    let gateway = gateway(&[dies, good], &[("call.room_retry", "1s")]).await;
    let mut device = device(&gateway, 1).await;
    let hello = device.hello().await;
    let mut voice = Voice::of(&hello).await;
    device.say(json!({"type": "listen", "state": "start"})).await;
    assert_eq!(device.hear().await["state"], "start");
    voice.say(1).await;
    assert_eq!(voice.hear().await, 0x58);
    assert_eq!(device.hear().await["state"], "stop", "the cut reply still ends");
    assert_eq!(device.hear().await["state"], "start", "the next server is told that the device listens");
    voice.say(7).await;
    while voice.hear().await != 7 {}
    assert_eq!(counted(&gateway, Counter::RoomReady), 2);
    assert_eq!(gateway.hub().registry.live(), 1);
}

#[tokio::test]
async fn whoever_leaves_closes_with_a_word() {
    for farewell in ["hello", "goodbye"] {
        let (said, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let url = server(move |stream| {
            let said = said.clone();
            async move {
                let mut socket = upgraded(stream).await;
                let mut last = None;
                while let Some(message) = socket.next().await {
                    last = Some(message);
                }
                let _ = said.send(last);
            }
        })
        .await;
        let gateway = gateway(&[url], &[]).await;
        let mut device = device(&gateway, 1).await;
        device.hello().await;
        until(|| counted(&gateway, Counter::RoomReady) == 1).await;
        device.say(json!({"type": farewell, "version": 3})).await;
        let last = tokio::time::timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
        let closed = matches!(&last, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1000);
        assert!(closed, "after a {farewell} the server is told that it was all, not {last:?}");
    }
}
