//! Chat servers that stall, flood or go away at any step, or send what no server may: the device of the call is answered all
//! the while and can hang up, each is counted, nothing grows, and a call with another server loses no packet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use evenkeel_core::packet::HEADER_LEN;
use evenkeel_device::chat_server;
use evenkeel_device::control::Control;
use evenkeel_device::identity::Identity;
use evenkeel_device::session::{Hello, Session};
use evenkeel_gateway::run::Gateway;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::bystander::Bystander;
use support::metrics::{counted, counted_at_least, metric, page};
use support::{KEY, PATIENCE, eventually, resident, until, whole};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How far a server goes along before it does what it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Accepted,
    HalfUpgraded,
    Upgraded,
    Greeted,
    Speaking,
    WithinAFrame,
}

const STEPS: [Step; 6] =
    [Step::Accepted, Step::HalfUpgraded, Step::Upgraded, Step::Greeted, Step::Speaking, Step::WithinAFrame];

/// Where it is counted: in the metrics, in the call's own figures, or, as it costs nothing, nowhere.
const LOST: &str = "evenkeel_rooms_lost_total";
const BAD_FRAMES: &str = "evenkeel_room_frames_bad_total";
const SLOWED: &str = "evenkeel_rooms_flooded_total";
const HELD: &str = "evenkeel_rooms_held_total";
const AUDIO: &str = "dropped";
const HARMLESS: &str = "";

/// What all queues of a call may hold at once, and a little of the allocator's. It is far from what is sent.
const QUEUES: usize = 24 << 20;

/// A server goes along with a call as far as `step`.
async fn go_along(stream: TcpStream, step: Step) -> Option<TcpStream> {
    let mut stream = stream;
    match step {
        Step::Accepted => return Some(stream),
        Step::HalfUpgraded => {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs").await;
            return Some(stream);
        }
        _ => {}
    }
    // The gateway may give up before.
    let mut socket = tokio_tungstenite::accept_async(stream).await.ok()?;
    if step == Step::Upgraded {
        return Some(socket.into_inner());
    }
    hear(&mut socket, "hello").await;
    let hello = json!({"type": "hello", "transport": "websocket", "session_id": "theirs"});
    let _ = socket.send(Message::text(hello.to_string())).await;
    if step == Step::Greeted {
        return Some(socket.into_inner());
    }
    hear(&mut socket, "listen").await;
    let start = json!({"type": "tts", "state": "start", "session_id": "theirs"});
    let _ = socket.send(Message::text(start.to_string())).await;
    for _ in 0..3 {
        let _ = socket.send(Message::Binary(audio(&[0x58, 0xe0, 1]).into())).await;
    }
    let mut stream = socket.into_inner();
    if step == Step::WithinAFrame {
        // 256 bytes are announced, and ten come.
        let _ = stream.write_all(&[&[0x82, 0x7e, 1, 0][..], &[0; 10]].concat()).await;
    }
    Some(stream)
}

async fn hear(socket: &mut WebSocketStream<TcpStream>, kind: &str) {
    while let Some(Ok(message)) = socket.next().await {
        if message.to_text().is_ok_and(|text| text.contains(&format!("\"type\":\"{kind}\""))) {
            return;
        }
    }
}

/// A binary frame's content.
fn audio(opus: &[u8]) -> Vec<u8> {
    let length = (opus.len() as u32).to_be_bytes();
    [&[1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 60][..], &length, opus].concat()
}

/// A WebSocket frame as a server writes it (RFC 6455, section 5.2).
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match content.len() {
        short @ 0..126 => frame.push(short as u8),
        long => frame.extend_from_slice(&[126, (long >> 8) as u8, long as u8]),
    }
    frame.extend_from_slice(content);
    frame
}

/// A gateway whose calls go to a good chat server, but for one device's, which go to whatever `bad` does with a connection.
struct Rig {
    gateway: Gateway,
    bystander: Bystander,
    memory: usize,
}

impl Rig {
    async fn start<F>(bad: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || chat_server::run("127.0.0.1:0", |at| tell.send(at).unwrap()).unwrap());
        let good = format!("ws://{}/", told.recv().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = format!("ws://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(bad(stream));
            }
        });
        let flooded: Vec<String> =
            (0..CROWD).map(|number| format!("02:42:00:00:00:{:02x}", number + 1)).collect();
        let flooded = flooded.join(",");
        let gateway = whole(&[
            ("room.kind", "websocket"),
            ("websocket.servers", &good),
            ("websocket.development_servers", &served),
            ("websocket.development_devices", &flooded),
            ("media.lanes", "1"),
            ("call.join_limit", "700ms"),
            ("call.room_retry", "100ms"),
            ("devices.hello_burst", "1000"),
        ])
        .await;
        let bystander = Bystander::call(&gateway, json!({})).await;
        Self { gateway, bystander, memory: 0 }
    }

    async fn count(&self, what: &str) -> u64 {
        match what {
            HARMLESS => u64::from(self.gateway.hub().registry.live() == 2),
            AUDIO => {
                let calls = page(&self.gateway, "/api/calls?ended=true").await;
                let calls: Value = serde_json::from_str(&calls).unwrap();
                let of_calls = calls["calls"].as_array().unwrap().iter();
                let dropped: u64 = of_calls.map(|call| call[AUDIO].as_u64().unwrap()).sum();
                dropped + metric(&self.gateway, "evenkeel_audio_dropped_total", "").await
            }
            name => metric(&self.gateway, name, "").await,
        }
    }

    /// Waits until more of it was counted than `before`.
    async fn counts(&self, what: &str, before: u64) {
        let counted = async || self.count(what).await > before;
        assert!(eventually(counted).await, "{what} is still {before}");
    }

    /// A device whose call goes to the bad server, and that talks.
    async fn victim(&self) -> Victim {
        self.device(0).await
    }

    async fn device(&self, number: u8) -> Victim {
        let server = self.gateway.started().mqtt[0].to_string();
        let mac = [2, 66, 0, 0, 0, number + 1];
        let mut control = Control::connect(&server, &Identity::new("G", mac, "u", Some(KEY))).await.unwrap();
        let session = control.hello(&Hello::default()).await.unwrap();
        control.listen(&session, "auto").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut sealer = session.sealer();
        for number in 0..5 {
            let mut datagram = vec![0; 60 + sealer.overhead()];
            datagram[HEADER_LEN..HEADER_LEN + 3].copy_from_slice(&[0x58, 0xe0, number]);
            let (_, len) = sealer.seal_echo(&mut datagram, 60, 0).unwrap();
            socket.send_to(&datagram[..len], session.server).await.unwrap();
        }
        Victim { control, session }
    }

    /// The victim hangs up, and its call is over.
    async fn hang_up(&self, mut victim: Victim) {
        let goodbye = json!({"type": "goodbye", "session_id": victim.session.id});
        victim.control.say(&goodbye).await.unwrap();
        // What it has not read would reset its connection, and its goodbye be lost with that.
        until(|| self.gateway.hub().registry.live() == 1).await;
        drop(victim);
        until(|| self.gateway.hub().connected() == 1).await;
    }

    /// After the first round of all there is, memory has its size.
    fn remember(&mut self) {
        self.memory = resident();
    }

    async fn end(self) {
        let grown = resident().saturating_sub(self.memory);
        assert!(grown < QUEUES, "grew by {grown} bytes");
        self.bystander.felt_nothing(&self.gateway).await;
    }
}

struct Victim {
    control: Control,
    session: Session,
}

impl Victim {
    /// Waits for a message of this kind.
    async fn told(&mut self, kind: &str) -> Value {
        let told = async {
            loop {
                let message = self.control.next().await.unwrap();
                if message["type"] == kind {
                    return message;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("never told {kind}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_go_away_at_any_step() {
    let connections = AtomicUsize::new(0);
    let mut rig = Rig::start(move |stream| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        async move {
            let Some(stream) = go_along(stream, STEPS[number % STEPS.len()]).await else { return };
            if (number / STEPS.len()).is_multiple_of(2) {
                // Not politely: what was sent is thrown away, and a reset comes.
                stream.set_zero_linger().unwrap();
            }
        }
    })
    .await;
    for round in 0..3 {
        let before = rig.count(LOST).await;
        let victim = rig.victim().await;
        // It is joined anew each time, so the next step has its turn.
        counted_at_least(&rig.gateway, LOST, "", before + STEPS.len() as u64).await;
        rig.hang_up(victim).await;
        if round == 0 {
            rig.remember();
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_stall_at_any_step() {
    for step in STEPS {
        let mut rig = Rig::start(move |stream| async move {
            let stream = go_along(stream, step).await;
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        rig.remember();
        for _ in 0..2 {
            let before = rig.count(LOST).await;
            let mut victim = rig.victim().await;
            match step {
                Step::Accepted | Step::HalfUpgraded | Step::Upgraded => {
                    rig.counts(LOST, before).await;
                }
                Step::Greeted => {}
                Step::Speaking | Step::WithinAFrame => {
                    assert_eq!(victim.told("tts").await["state"], "start", "{step:?}");
                }
            }
            // The device has a call all the same, and may end it and begin another.
            assert_eq!(rig.gateway.hub().registry.live(), 2, "{step:?}");
            let again = victim.control.hello(&Hello::default()).await.unwrap();
            victim.session = again;
            rig.hang_up(victim).await;
        }
        rig.end().await;
    }
}

/// What a server floods with over and over, from which step on, and where that is counted.
fn floods() -> Vec<(Step, Vec<u8>, &'static str)> {
    let text = json!({"type": "stt", "text": "flood", "session_id": "theirs"}).to_string();
    let start = json!({"type": "tts", "state": "start"}).to_string();
    let stop = json!({"type": "tts", "state": "stop"}).to_string();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let mcp = json!({"type": "mcp", "payload": request}).to_string();
    let voice = frame(0x82, &audio(&[0x58, 0xe0, 1]));
    let replies = [frame(0x81, start.as_bytes()), voice.clone(), frame(0x81, stop.as_bytes())].concat();
    vec![
        (Step::Accepted, b"x".to_vec(), LOST),
        (Step::HalfUpgraded, b"ocket\r\nX-Header: y\r\n".to_vec(), LOST),
        (Step::Upgraded, frame(0x81, text.as_bytes()), LOST),
        (Step::Upgraded, voice.clone(), LOST),
        (Step::Greeted, frame(0x81, text.as_bytes()), SLOWED),
        (Step::Greeted, frame(0x82, &audio(&[0x58; 1000])), AUDIO),
        (Step::Speaking, voice, HELD),
        (Step::Speaking, frame(0x82, &[]), BAD_FRAMES),
        (Step::Speaking, frame(0x82, &[1; 15]), BAD_FRAMES),
        (Step::Speaking, frame(0x89, &[7; 125]), HARMLESS),
        (Step::Speaking, frame(0x8a, &[]), HARMLESS),
        (Step::Speaking, replies, SLOWED),
        (Step::Speaking, frame(0x81, mcp.as_bytes()), SLOWED),
        // A message that never ends, in whole frames.
        (Step::Speaking, frame(0x00, &[0; 1000]), LOST),
    ]
}

/// How much of each.
const FLOOD: usize = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_flood_at_any_step() {
    let (which, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, ended) = (Arc::clone(&which), Arc::clone(&over));
    let mut rig = Rig::start(move |stream| {
        let (step, one, _) = floods()[asked.load(Ordering::Relaxed)].clone();
        let ended = Arc::clone(&ended);
        async move {
            let Some(mut stream) = go_along(stream, step).await else { return };
            if one[0] == 0 {
                let first_of_many = frame(0x02, &audio(&[0; 100]));
                let _ = stream.write_all(&first_of_many).await;
            }
            let many = one.repeat(64 * 1024 / one.len());
            let mut sent = 0;
            while sent < FLOOD {
                // Until the gateway has enough of it, and reads no more or goes away.
                let write = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&many)).await;
                if !matches!(write, Ok(Ok(()))) {
                    break;
                }
                sent += many.len();
            }
            ended.fetch_add(1, Ordering::Relaxed);
            // A connection closed with something unread is reset, and what was sent is thrown away.
            let _ = stream.shutdown().await;
            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await;
    // Memory has its size once each was there.
    let rounds = [floods(), floods()].concat();
    for (number, (_, _, counter)) in rounds.into_iter().enumerate() {
        let number = number % floods().len();
        which.store(number, Ordering::Relaxed);
        let before = over.load(Ordering::Relaxed);
        let counted = rig.count(counter).await;
        let mut victim = rig.victim().await;
        {
            let flooded = until(|| over.load(Ordering::Relaxed) > before);
            tokio::pin!(flooded);
            loop {
                tokio::select! {
                    () = &mut flooded => break,
                    message = victim.control.next() => drop(message.unwrap()),
                }
            }
        }
        rig.counts(counter, counted).await;
        rig.hang_up(victim).await;
        if number + 1 == floods().len() && rig.memory == 0 {
            rig.remember();
        }
    }
    rig.end().await;
}

/// Calls that are flooded at once.
const CROWD: u8 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_floods_many_calls_at_once() {
    let over = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&over);
    // The dearest there is to read, as it is the smallest.
    let many = frame(0x82, &[]).repeat(32 * 1024);
    let mut rig = Rig::start(move |stream| {
        let (ended, many) = (Arc::clone(&ended), many.clone());
        async move {
            let Some(mut stream) = go_along(stream, Step::Greeted).await else { return };
            let lasting = tokio::time::sleep(Duration::from_secs(3));
            tokio::pin!(lasting);
            loop {
                tokio::select! {
                    biased;
                    () = &mut lasting => break,
                    result = stream.write_all(&many) => if result.is_err() { break },
                }
            }
            ended.fetch_add(1, Ordering::Relaxed);
            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await;
    rig.remember();
    let before = rig.count(BAD_FRAMES).await;
    let mut victims = Vec::new();
    for number in 0..CROWD {
        victims.push(rig.device(number).await);
    }
    until(|| over.load(Ordering::Relaxed) >= usize::from(CROWD)).await;
    assert!(rig.count(BAD_FRAMES).await > before + 100 * u64::from(CROWD));
    rig.end().await;
}

/// Serves each call by sending, once it has greeted, whatever is in `frames`; then it goes on without a word.
async fn rig_that_sends(frames: &Arc<Mutex<Vec<u8>>>) -> Rig {
    let frames = Arc::clone(frames);
    Rig::start(move |stream| {
        let frames = Arc::clone(&frames);
        async move {
            let Some(mut stream) = go_along(stream, Step::Greeted).await else { return };
            let bytes = frames.lock().unwrap().clone();
            let _ = stream.write_all(&bytes).await;
            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lying_and_meaningless_frames_are_counted_and_left_out() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let mut bad: Vec<Vec<u8>> = (0..16).map(|length| frame(0x82, &vec![1; length])).collect();
    for announced in [0u32, 2, 0x0001_0000, u32::MAX] {
        let mut lying = audio(&[0x58]);
        lying[12..16].copy_from_slice(&announced.to_be_bytes());
        bad.push(frame(0x82, &lying));
    }
    for text in [
        "",
        "null",
        "7",
        "[]",
        "{}",
        "{",
        "\u{0}",
        r#"{"type":"#,
        &"[".repeat(1000),
        &"{\"type\":".repeat(50),
    ] {
        bad.push(frame(0x81, text.as_bytes()));
    }
    let wrong = ["null", "true", "7", "[]", "{}", "[\"tts\"]"];
    bad.extend([&b"{\"type\":\"\xff\"}"[..], b"\xe4\xb8", b"\xed\xa0\x80"].map(|text| frame(0x81, text)));
    bad.extend(wrong.map(|kind| frame(0x81, format!(r#"{{"type":{kind},"state":"start"}}"#).as_bytes())));
    let count = bad.len() as u64;
    // Of a field that is not as it should be, the message is passed on: what it means is the device's to say.
    let mut odd = Vec::new();
    for value in wrong {
        odd.push(format!(r#"{{"type":"tts","state":{value},"text":{value}}}"#));
        odd.push(format!(r#"{{"type":"stt","text":{value},"session_id":{value}}}"#));
        odd.push(format!(r#"{{"type":"mcp","payload":{value}}}"#));
        odd.push(format!(r#"{{"type":"hello","session_id":{value},"audio_params":{value}}}"#));
    }
    let last = frame(0x81, br#"{"type":"llm","emotion":"happy"}"#);
    let odd = odd.iter().flat_map(|text| frame(0x81, text.as_bytes()));
    *frames.lock().unwrap() = bad.concat().into_iter().chain(odd).chain(last).collect();

    let mut rig = rig_that_sends(&frames).await;
    rig.remember();
    for round in 1..=3 {
        let mut victim = rig.victim().await;
        assert_eq!(victim.told("llm").await["emotion"], "happy");
        counted(&rig.gateway, BAD_FRAMES, "", round * count).await;
        assert_eq!(rig.count(LOST).await, 0);
        rig.hang_up(victim).await;
    }
    rig.end().await;
}

/// What breaks the WebSocket protocol (RFC 6455, sections 5.2 to 5.5, 7.4 and 8.1), or is longer than anything may be.
fn violations() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a reserved bit", frame(0xc2, &audio(&[0x58]))),
        ("a reserved opcode", frame(0x83, b"x")),
        ("a reserved control opcode", frame(0x8b, b"x")),
        ("a mask", vec![0x82, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("a ping in parts", frame(0x09, b"x")),
        ("a long ping", frame(0x89, &[0; 126])),
        ("the end of what never began", frame(0x80, b"x")),
        ("a message within another", [frame(0x01, b"{"), frame(0x82, &audio(&[0x58]))].concat()),
        ("a length of more than there is", vec![0x82, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a length with its top bit set", vec![0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a close in trouble", frame(0x88, &1011u16.to_be_bytes())),
        ("no WebSocket at all", b"HTTP/1.1 500 Oh\r\n\r\n".repeat(20)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_costs_the_room_and_not_the_call() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let mut rig = rig_that_sends(&frames).await;
    rig.remember();
    for (what, bytes) in violations() {
        *frames.lock().unwrap() = bytes;
        let before = rig.count(LOST).await;
        let mut victim = rig.victim().await;
        // It is joined anew, and loses that room too.
        assert!(eventually(async || rig.count(LOST).await >= before + 2).await, "{what}");
        *frames.lock().unwrap() = frame(0x81, br#"{"type":"llm","emotion":"happy"}"#);
        assert_eq!(victim.told("llm").await["emotion"], "happy", "{what}");
        rig.hang_up(victim).await;
    }
    rig.end().await;
}
