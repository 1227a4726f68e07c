//! Against a real LiveKit server and real peers; see `common`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::audio::{decode, encode, likeness, read_pcm, speech, temporary, write_pcm};
use common::{PATIENCE, Peer, Server, ServerOptions, api, join, pick, publishing, tools, until};
use evenkeel_livekit::data::{Call, Delivery, RpcErrorCode};
use evenkeel_livekit::driver::{Packet, Room};
use evenkeel_livekit::error::SignalError;
use evenkeel_livekit::participant::{AudioLevel, CloseReason, Event, TrackRefusal};
use evenkeel_livekit::proto::DisconnectReason;
use evenkeel_livekit::signal::{Connections, SignalConfig, TokenSource};
use evenkeel_livekit::token::{ApiKey, TokenRequest};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Sends packets of `ms` milliseconds each, on time.
async fn say(room: &Room, packets: &[Vec<u8>], ms: u64) {
    let mut ticks = interval(Duration::from_millis(ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for payload in packets {
        ticks.tick().await;
        let packet = Packet {
            payload: payload.clone(),
            advance: ms as u32 * 48,
            lost: 0,
            marker: false,
            level: AudioLevel::SPEECH,
        };
        room.send_audio(packet).await.unwrap();
    }
}

/// Lets a peer say something, and gives what came of it, as one line of samples.
async fn hear(room: &mut Room, peer: &mut Peer, said: &[f32]) -> Vec<f32> {
    let file = temporary("said");
    write_pcm(&file, said);
    peer.tell(json!({"do": "publish"})).await;
    until(room, |e| matches!(e, Event::TrackSubscribed(t) if t.identity == "agent")).await;
    peer.tell(json!({"do": "speak", "path": file})).await;
    let mut packets = Vec::new();
    // A track may be silent at first, for long where the machine is busy, and is silent again when all is said.
    let patience = |heard: bool| if heard { Duration::from_secs(3) } else { PATIENCE };
    while let Ok(event) = timeout(patience(!packets.is_empty()), room.recv()).await {
        if let Event::Audio(audio) = event.expect("the room") {
            packets.push((audio.time, audio.payload.to_vec()));
        }
        let first = packets.first().map_or(0, |p: &(u64, Vec<u8>)| p.0);
        if packets.last().is_some_and(|p| p.0 - first > said.len() as u64 + 48_000) {
            break;
        }
    }
    let _ = std::fs::remove_file(file);
    decode(&packets)
}

#[tokio::test]
async fn a_peer_that_speaks_is_heard() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let mut room = join(server.signal("r", "device"), publishing()).await;
    let mut peer = server.peer("r", "agent").await;
    let said = speech(6.0);
    let likeness = likeness(&said, &hear(&mut room, &mut peer, &said).await);
    println!("likeness of what the peer said and what came: {likeness:.3}");
    assert!(likeness > 0.9, "{likeness}");
}

#[tokio::test]
async fn what_we_say_is_heard_by_a_peer_in_20_and_in_60_ms_packets() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    for ms in [20, 60] {
        let name = format!("r{ms}");
        let mut room = join(server.signal(&name, "device"), publishing()).await;
        let mut peer = server.peer(&name, "agent").await;
        let file = temporary(&format!("heard-{ms}"));
        peer.until("track").await;
        peer.record(&file).await;
        let said = speech(6.0);
        say(&room, &encode(&said, ms), ms as u64).await;
        let speakers = peer.until("speakers").await;
        assert_eq!(speakers["identities"][0], "device");
        until(&mut room, |e| matches!(e, Event::FirstListener)).await;
        let ours = |e: &Event| matches!(e, Event::Speakers(s) if s.iter().any(|s| s.identity == "device" && s.active));
        until(&mut room, ours).await;
        peer.stop(&file, said.len()).await;
        let likeness = likeness(&said, &read_pcm(&file));
        println!("likeness of what we said in {ms} ms packets and what the peer heard: {likeness:.3}");
        assert!(likeness > 0.8, "{likeness}");
    }
}

#[tokio::test]
async fn the_node_sdk_hears_and_is_heard() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let mut room = join(server.signal("r", "device"), publishing()).await;
    let mut peer = server.node_peer("r", "agent").await;
    peer.until("track").await;
    let (said, heard) = (speech(5.0), temporary("node-heard"));
    peer.record(&heard).await;
    say(&room, &encode(&said, 60), 60).await;
    peer.stop(&heard, said.len()).await;
    let up = likeness(&said, &read_pcm(&heard));
    let down = likeness(&said, &hear(&mut room, &mut peer, &said).await);
    println!("likeness with the Node SDK: up {up:.3}, down {down:.3}");
    assert!(up > 0.8 && down > 0.9, "{up} {down}");
}

#[tokio::test]
async fn audio_passes_with_ice_lite_over_tcp_and_over_two_connections() {
    let Some(tools) = tools() else { return };
    let cases = [
        ("ICE lite", ServerOptions { ice_lite: true, ..Default::default() }, Connections::Single),
        ("ICE-TCP", ServerOptions { tcp_only: true, ..Default::default() }, Connections::Single),
        ("two connections", ServerOptions::default(), Connections::Dual),
        (
            "two connections, ICE lite",
            ServerOptions { ice_lite: true, ..Default::default() },
            Connections::Dual,
        ),
    ];
    for (name, options, connections) in cases {
        let server = Server::start(&tools, options).await;
        let mut signal = server.signal("r", "device");
        signal.connections = connections;
        let mut room = join(signal, publishing()).await;
        let mut peer = server.peer("r", "agent").await;
        let (said, heard) = (speech(4.0), temporary("way-heard"));
        peer.until("track").await;
        peer.record(&heard).await;
        say(&room, &encode(&said, 20), 20).await;
        peer.stop(&heard, said.len()).await;
        let up = likeness(&said, &read_pcm(&heard));
        let down = likeness(&said, &hear(&mut room, &mut peer, &said).await);
        println!("{name}: likeness up {up:.3}, down {down:.3}");
        assert!(up > 0.8 && down > 0.9, "{name}: {up} {down}");
    }
}

#[tokio::test]
async fn data_calls_and_texts_pass_both_ways() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let mut room = join(server.signal("r", "device"), publishing()).await;
    let mut peer = server.peer("r", "agent").await;
    until(&mut room, |e| matches!(e, Event::ParticipantJoined(p) if p.identity == "agent")).await;

    for (delivery, reliable) in [(Delivery::Reliable, true), (Delivery::Lossy, false)] {
        room.send_data(delivery, "ours", &["agent"], b"from us").await.unwrap();
        let got = peer.until("data").await;
        assert_eq!(
            got,
            json!({"event": "data", "identity": "device", "topic": "ours", "text": "from us", "reliable": reliable})
        );
        peer.tell(json!({"do": "data", "topic": "theirs", "text": "from them", "reliable": reliable})).await;
        let data = pick(&mut room, |e| if let Event::Data(d) = e { Some(d) } else { None }).await;
        assert_eq!((data.sender.as_str(), data.topic.as_str(), data.delivery), ("agent", "theirs", delivery));
        assert_eq!(data.payload, b"from them");
    }

    let call =
        |method, payload| Call { destination: "agent", method, payload, timeout: Duration::from_secs(5) };
    for (method, payload, expected) in
        [("upper", "quiet", Ok("QUIET".to_owned())), ("upper", "fail", Err(1777)), ("nothing", "", Err(1400))]
    {
        let id = room.call(call(method, payload)).await.unwrap();
        let result = pick(&mut room, |e| match e {
            Event::RpcResult { id: i, result } if i == id => Some(result),
            _ => None,
        })
        .await;
        assert_eq!(result.map_err(|e| e.code), expected, "{method}({payload})");
    }

    peer.tell(json!({"do": "call", "to": "device", "method": "interrupt", "payload": "now"})).await;
    let id = pick(&mut room, |e| match e {
        Event::RpcRequest { id, caller, method, payload, .. } => {
            assert_eq!((caller.as_str(), method.as_str(), payload.as_str()), ("agent", "interrupt", "now"));
            Some(id)
        }
        _ => None,
    })
    .await;
    room.answer(id, Ok("done")).await.unwrap();
    assert_eq!(peer.until("answer").await["text"], "done");
    peer.tell(json!({"do": "call", "to": "device", "method": "none", "payload": ""})).await;
    let id = pick(&mut room, |e| if let Event::RpcRequest { id, .. } = e { Some(id) } else { None }).await;
    room.answer(id, Err(RpcErrorCode::UnsupportedMethod.error())).await.unwrap();
    assert_eq!(peer.until("rpc_error").await["code"], 1400);

    let long = "Grüße aus dem Raum. ".repeat(1500);
    room.send_text("chat", &[], &[("k", "v")], &long).await.unwrap();
    let got = peer.until("text").await;
    assert_eq!((got["text"].as_str().unwrap(), &got["attributes"]["k"]), (long.as_str(), &json!("v")));
    peer.tell(json!({"do": "text", "topic": "chat", "text": long, "attributes": {"a": "b"}})).await;
    let text = pick(&mut room, |e| if let Event::Text(t) = e { Some(t) } else { None }).await;
    assert_eq!((text.sender.as_str(), text.text, text.attributes["a"].as_str()), ("agent", long, "b"));
    let attributes =
        json!({"lk.segment_id": "s", "lk.transcribed_track_id": "TR_x", "lk.transcription_final": "true"});
    peer.tell(json!({"do": "text", "topic": "lk.transcription", "text": "hello", "attributes": attributes}))
        .await;
    let heard = pick(&mut room, |e| if let Event::Transcript(t) = e { Some(t) } else { None }).await;
    assert_eq!((heard.text.as_str(), heard.track.as_str(), heard.is_final), ("hello", "TR_x", true));
}

#[tokio::test]
async fn attributes_come_and_an_agent_that_leaves_is_told_and_heard_again_when_back() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let mut room = join(server.signal("r", "device"), publishing()).await;
    for _ in 0..3 {
        let mut peer = server.peer("r", "agent").await;
        peer.tell(json!({"do": "publish"})).await;
        until(&mut room, |e| matches!(e, Event::TrackSubscribed(_))).await;
        until(&mut room, |e| matches!(e, Event::Audio(_))).await;
        peer.tell(json!({"do": "attributes", "attributes": {"lk.agent.state": "speaking"}})).await;
        let speaks = |e: &Event| matches!(e, Event::ParticipantChanged(p) if p.attributes.get("lk.agent.state").is_some_and(|s| s == "speaking"));
        until(&mut room, speaks).await;
        drop(peer);
        server.api("RemoveParticipant", json!({"room": "r", "identity": "agent"})).await;
        until(&mut room, |e| matches!(e, Event::TrackEnded { .. })).await;
        until(&mut room, |e| matches!(e, Event::ParticipantLeft { identity } if identity == "agent")).await;
    }
}

#[tokio::test]
async fn a_cut_signal_connection_is_resumed_while_audio_goes_on() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let proxy = Proxy::start(server.port).await;
    let mut signal = server.signal("r", "device");
    signal.url = format!("ws://127.0.0.1:{}", proxy.port);
    let mut room = join(signal, publishing()).await;
    let mut peer = server.peer("r", "agent").await;
    let file = temporary("long-said");
    write_pcm(&file, &speech(12.0));
    peer.tell(json!({"do": "speak", "path": file})).await;
    until(&mut room, |e| matches!(e, Event::Audio(_))).await;
    proxy.cut();
    until(&mut room, |e| matches!(e, Event::Interrupted(_))).await;
    until(&mut room, |e| matches!(e, Event::Resumed)).await;
    let mut before_end = 0;
    pick(&mut room, |e| {
        assert!(!matches!(e, Event::Joined { .. } | Event::TrackEnded { .. }), "{e:?}");
        before_end += u32::from(matches!(e, Event::Audio(_)));
        (before_end == 150).then_some(())
    })
    .await;
    room.send_data(Delivery::Reliable, "", &[], b"still here").await.unwrap();
    assert_eq!(peer.until("data").await["text"], "still here");
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_joined_anew() {
    let Some(tools) = tools() else { return };
    let mut server = Server::start(&tools, ServerOptions::default()).await;
    let mut room = join(server.signal("r", "device"), publishing()).await;
    server.kill().await;
    until(&mut room, |e| matches!(e, Event::Interrupted(_))).await;
    server.restart().await;
    let back = std::time::Instant::now();
    until(&mut room, |e| matches!(e, Event::Joined { .. })).await;
    until(&mut room, |e| matches!(e, Event::Connected)).await;
    println!("connected {} ms after the server's return", back.elapsed().as_millis());
    let mut peer = server.peer("r", "agent").await;
    peer.until("track").await;
    peer.tell(json!({"do": "publish"})).await;
    until(&mut room, |e| matches!(e, Event::Audio(_))).await;
}

#[tokio::test]
async fn every_way_out_of_a_room_is_told_as_what_it_is() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let mut first = join(server.signal("r", "device"), publishing()).await;
    let mut second = join(server.signal("r", "device"), publishing()).await;
    let reason = closed(&mut first).await;
    assert!(is_leave(&reason, DisconnectReason::DuplicateIdentity), "{reason:?}");
    server.api("RemoveParticipant", json!({"room": "r", "identity": "device"})).await;
    let reason = closed(&mut second).await;
    assert!(is_leave(&reason, DisconnectReason::ParticipantRemoved), "{reason:?}");
    let mut third = join(server.signal("r", "device"), publishing()).await;
    server.api("DeleteRoom", json!({"room": "r"})).await;
    let reason = closed(&mut third).await;
    assert!(is_leave(&reason, DisconnectReason::RoomDeleted), "{reason:?}");
    let mut fourth = join(server.signal("r", "device"), publishing()).await;
    fourth.leave().await;
    assert_eq!(closed(&mut fourth).await, CloseReason::Left);
}

#[tokio::test]
async fn a_token_the_server_does_not_take_is_named() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let wrong =
        TokenRequest::new("r", "device").mint(&ApiKey { key: "devkey".into(), secret: "x".repeat(40) });
    for (token, is_expected) in [
        (wrong.unwrap(), (|e| matches!(e, SignalError::TokenRefused { .. })) as fn(&SignalError) -> bool),
        ("nonsense".to_owned(), |e| matches!(e, SignalError::TokenRefused { .. })),
        (expired_token(), |e| *e == SignalError::TokenExpired),
    ] {
        let error = refused(&server, token).await;
        assert!(is_expected(&error), "{error:?}");
        assert!(!error.to_string().contains("eyJ"), "the token is told: {error}");
    }
}

#[tokio::test]
async fn a_room_that_must_exist_is_missed() {
    let Some(tools) = tools() else { return };
    let options = ServerOptions { rooms_must_exist: true, ..Default::default() };
    let server = Server::start(&tools, options).await;
    assert_eq!(refused(&server, server.token("nowhere", "device")).await, SignalError::RoomNotFound);
    server.api("CreateRoom", json!({"name": "here"})).await;
    join(server.signal("here", "device"), publishing()).await;
}

#[tokio::test]
async fn a_full_room_is_told() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let token = |identity: &str| {
        let mut request = TokenRequest::new("small", identity);
        request.max_participants = 1;
        request.mint(&api()).unwrap()
    };
    let signal = SignalConfig::new(server.url(), TokenSource::Fixed(token("first")));
    let _first = join(signal, publishing()).await;
    let error = refused(&server, token("second")).await;
    println!("a full room: {error}");
    assert!(matches!(
        error,
        SignalError::Server { .. } | SignalError::Refused { .. } | SignalError::Leave { .. }
    ));
}

#[tokio::test]
async fn floods_video_and_twenty_tracks_leave_the_call_alive() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let mut config = publishing();
    config.tracks = 4;
    config.data_rate.packets = 100;
    let mut room = join(server.signal("r", "device"), config).await;
    let mut peer = server.peer("r", "agent").await;
    peer.tell(json!({"do": "tracks", "count": 20})).await;
    peer.until("published").await;
    let (mut subscribed, mut refused) = (0, 0);
    pick(&mut room, |e| {
        match e {
            Event::TrackSubscribed(_) => subscribed += 1,
            Event::TrackRefused { reason: TrackRefusal::TooMany, .. } => refused += 1,
            _ => {}
        }
        (subscribed == 4 && refused > 0).then_some(())
    })
    .await;
    peer.tell(json!({"do": "flood"})).await;
    until(&mut room, |e| matches!(e, Event::Flooded)).await;
    while room.counters().await.unwrap().data_flood <= 100 {
        until(&mut room, |e| matches!(e, Event::Data(_))).await;
    }
    peer.tell(json!({"do": "calm"})).await;
    peer.until("flooded").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    until(&mut room, |e| matches!(e, Event::Audio(_))).await;
    room.send_data(Delivery::Reliable, "", &[], b"alive").await.unwrap();
    assert_eq!(peer.until("data").await["text"], "alive");
}

#[tokio::test]
async fn joining_and_leaving_many_times_leaves_no_file_open() {
    let Some(tools) = tools() else { return };
    let cycles = std::env::var("EVENKEEL_LIVEKIT_CYCLES").map_or(50, |n| n.parse().unwrap());
    let server = Server::start(&tools, ServerOptions::default()).await;
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut after_warm_up = 0;
    for cycle in 0..cycles {
        let mut room = join(server.signal("r", "device"), publishing()).await;
        room.leave().await;
        assert_eq!(closed(&mut room).await, CloseReason::Left);
        if cycle == 10 {
            after_warm_up = open();
        }
    }
    drop(server);
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("{} files open after 10 cycles, {} after {cycles}", after_warm_up, open());
    assert!(open() <= after_warm_up, "{} files are open, {after_warm_up} were", open());
}

/// A token whose time was over an hour ago.
fn expired_token() -> String {
    let ApiKey { key, secret } = api();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let claims = json!({"iss": key, "sub": "device", "nbf": 1_000_000_000, "exp": 1_000_000_600,
        "video": {"roomJoin": true, "room": "r"}});
    let signed =
        format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", encode(signature.as_ref()))
}

async fn closed(room: &mut Room) -> CloseReason {
    pick(room, |e| if let Event::Closed(reason) = e { Some(reason) } else { None }).await
}

async fn refused(server: &Server, token: String) -> SignalError {
    let signal = SignalConfig::new(server.url(), TokenSource::Fixed(token));
    let mut room = evenkeel_livekit::driver::join(signal, publishing(), 1).await.unwrap();
    match closed(&mut room).await {
        CloseReason::Signal(error) => error,
        other => panic!("{other:?}"),
    }
}

fn is_leave(reason: &CloseReason, wanted: DisconnectReason) -> bool {
    matches!(reason, CloseReason::Signal(SignalError::Leave { reason, .. }) if *reason == wanted)
}

/// Passes TCP connections on, and cuts them when asked.
struct Proxy {
    port: u16,
    cut: tokio::sync::watch::Sender<u32>,
}

impl Proxy {
    async fn start(to: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, was_cut) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let mut was_cut = was_cut.clone();
                was_cut.mark_unchanged();
                tokio::spawn(async move {
                    let mut outer = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inner, &mut outer) => {}
                        _ = was_cut.changed() => {}
                    }
                });
            }
        });
        Self { port, cut }
    }

    fn cut(&self) {
        self.cut.send_modify(|n| *n += 1);
    }
}
