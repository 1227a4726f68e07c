//! A device, the gateway, a real LiveKit server and a real agent; `make livekit` runs this.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../../livekit/tests/common/mod.rs"]
mod common;
mod rig;

use std::time::Duration;

use common::audio::{encode, likeness, read_pcm, speech, temporary, write_pcm};
use common::{Server, ServerOptions, join, publishing, tools};
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_livekit::driver::{Packet, Room};
use evenkeel_livekit::participant::{AudioLevel, Event};
use rig::{Call, Gateway, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_and_agent_hear_each_other() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let mut call = Call::begin(&gateway, 1).await;
    let mut agent = server.peer(&call.room(), "agent").await;
    let said = speech(6.0);

    let (up, down) = (temporary("call-up"), temporary("call-down"));
    agent.until("track").await;
    agent.record(&up).await;
    call.talk(&encode(&said, 60)).await;
    agent.stop(&up, said.len()).await;
    let heard = likeness(&said, &read_pcm(&up));
    println!("likeness of what the device said and the agent heard: {heard:.3}");
    assert!(heard > 0.8, "{heard}");

    write_pcm(&down, &said);
    agent.tell(json!({"do": "speak", "path": down})).await;
    assert_eq!(call.hear("tts").await["state"], "start");
    assert_eq!(call.hear("tts").await["state"], "stop");
    let heard = likeness(&said, &call.heard());
    println!("likeness of what the agent said and the device heard: {heard:.3}");
    assert!(heard > 0.9, "{heard}");
    let gaps = call.gaps();
    println!("{gaps:?}");
    assert_eq!(gaps.lost, 0);
    let _ = (std::fs::remove_file(up), std::fs::remove_file(down));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_agent_says_of_itself_reaches_the_device_and_the_other_way() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let mut call = Call::begin(&gateway, 2).await;
    let mut agent = server.peer(&call.room(), "agent").await;
    agent.until("track").await;

    let data = |text: serde_json::Value| json!({"do": "data", "topic": "", "text": text.to_string(), "reliable": true});
    agent.tell(json!({"do": "attributes", "attributes": {"lk.agent.state": "thinking"}})).await;
    assert_eq!(call.hear("llm").await["state"], "think");
    agent.tell(data(json!({"type": "user_input_transcribed", "transcript": "heard"}))).await;
    assert_eq!(call.hear("stt").await["text"], "heard");
    let transcription =
        json!({"lk.segment_id": "s", "lk.transcribed_track_id": "", "lk.transcription_final": "true"});
    let words =
        json!({"do": "text", "topic": "lk.transcription", "text": "said", "attributes": transcription});
    agent.tell(words).await;
    let sentence = call.hear("tts").await;
    assert_eq!((&sentence["state"], &sentence["text"]), (&json!("sentence_start"), &json!("said")));
    agent.tell(json!({"do": "text", "topic": "emotion", "text": "happy", "attributes": {}})).await;
    assert_eq!(call.hear("llm").await["emotion"], "happy");
    agent
        .tell(data(
            json!({"type": "function_call", "id": 5, "function_call": {"name": "f", "arguments": {"a": 1}}}),
        ))
        .await;
    let asked = call.hear("mcp").await;
    assert_eq!(asked["payload"]["params"], json!({"name": "f", "arguments": {"a": 1}}));
    call.say(json!({"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 5, "result": {"ok": true}}})).await;
    let answer = agent.until("data").await["text"].as_str().unwrap().to_owned();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["payload"]["result"], json!({"ok": true}));

    for (message, expected) in [
        (json!({"type": "abort", "reason": "wake_word_detected"}), "abort"),
        (json!({"type": "playback_control", "action": "next"}), "playback_control"),
    ] {
        call.say(message).await;
        let got = agent.until("data").await["text"].as_str().unwrap().to_owned();
        assert!(got.contains(expected), "{got}");
    }
    call.say(json!({"type": "listen", "state": "start", "mode": "manual"})).await;
    // The abort is a call to the agent too, and it may overtake the data of it or not.
    let called = agent.until("called").await["method"].clone();
    let called = if called == "interrupt" { agent.until("called").await["method"].clone() } else { called };
    assert_eq!(called, "start_turn");
    call.say(json!({"type": "listen", "state": "stop", "mode": "manual"})).await;
    assert_eq!(agent.until("called").await["method"], "end_turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_reply_ends_at_once_and_the_next_is_heard() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let mut call = Call::begin(&gateway, 3).await;
    let mut agent = server.peer(&call.room(), "agent").await;
    let file = temporary("call-abort");
    write_pcm(&file, &speech(8.0));
    agent.tell(json!({"do": "speak", "path": file})).await;
    assert_eq!(call.hear("tts").await["state"], "start");
    call.until_packets(10).await;
    call.say(json!({"type": "abort"})).await;
    assert_eq!(call.hear("tts").await["state"], "stop");
    assert_eq!(agent.until("called").await["method"], "interrupt");
    // What had left before it was told may still be on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = call.packets();
    agent.until("spoken").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(call.packets() < before + 3, "{} packets, {before} before", call.packets());
    agent.tell(json!({"do": "speak", "path": file})).await;
    assert_eq!(call.hear("tts").await["state"], "start");
    call.until_packets(before + 10).await;
    let _ = std::fs::remove_file(file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_leaves_and_returns_is_heard_again_and_a_deleted_room_ends_the_call() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let mut call = Call::begin(&gateway, 4).await;
    let file = temporary("call-again");
    write_pcm(&file, &speech(20.0));
    for _ in 0..2 {
        let mut agent = server.peer(&call.room(), "agent").await;
        agent.tell(json!({"do": "speak", "path": file})).await;
        assert_eq!(call.hear("tts").await["state"], "start");
        call.until_packets(call.packets() + 10).await;
        drop(agent);
        server.api("RemoveParticipant", json!({"room": call.room(), "identity": "agent"})).await;
        assert_eq!(call.hear("tts").await["state"], "stop");
    }
    server.api("DeleteRoom", json!({"room": call.room()})).await;
    assert_eq!(call.hear("goodbye").await["reason"], "room_ended");
    let _ = std::fs::remove_file(file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_without_an_agent_and_a_server_that_refuses_are_told() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |config| config.livekit.agent_limit = Duration::from_secs(2)).await;
    let mut call = Call::begin(&gateway, 5).await;
    assert!(call.hear("alert").await["message"].as_str().unwrap().contains("no agent"));
    assert_eq!(call.hear("goodbye").await["reason"], "room_ended");

    let gateway =
        Gateway::start(&server, |config| config.livekit.api_secret = "x".repeat(40).as_str().into()).await;
    let mut call = Call::begin(&gateway, 6).await;
    assert!(call.hear("alert").await["message"].as_str().unwrap().contains("refused the token"));
    assert_eq!(call.hear("goodbye").await["reason"], "room_ended");

    let gateway = Gateway::start(&server, |config| {
        config.livekit.url = "ws://127.0.0.1:9".into();
        config.call.room_return_limit = Duration::from_secs(3);
    })
    .await;
    let mut call = Call::begin(&gateway, 7).await;
    assert!(call.hear("alert").await["message"].as_str().unwrap().contains("cannot be reached"));
    assert_eq!(call.hear("goodbye").await["reason"], "room_gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_returns_keeps_the_call() {
    let Some(tools) = tools() else { return };
    let mut server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let mut call = Call::begin(&gateway, 8).await;
    let file = temporary("call-killed");
    write_pcm(&file, &speech(20.0));
    let mut agent = server.peer(&call.room(), "agent").await;
    agent.tell(json!({"do": "speak", "path": file})).await;
    assert_eq!(call.hear("tts").await["state"], "start");
    call.until_packets(10).await;
    drop(agent);
    server.kill().await;
    assert_eq!(call.hear("tts").await["state"], "stop");
    server.restart().await;
    let back = std::time::Instant::now();
    let mut agent = server.peer(&call.room(), "agent").await;
    agent.tell(json!({"do": "speak", "path": file})).await;
    assert_eq!(call.hear("tts").await["state"], "start");
    call.until_packets(call.packets() + 10).await;
    println!("audio is back {} ms after the server", back.elapsed().as_millis());
    let _ = std::fs::remove_file(file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_and_go_leave_nothing_behind() {
    const AT_ONCE: u32 = 10;
    let Some(tools) = tools() else { return };
    let cycles = std::env::var("EVENKEEL_LIVEKIT_CYCLES").map_or(500, |cycles| cycles.parse().unwrap());
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let memory = || evenkeel_sys::clock::process_resident().unwrap() >> 20;
    let (mut seen, mut number) = (Vec::new(), 100);
    for round in 1..=cycles / AT_ONCE {
        let mut calls = Vec::new();
        for _ in 0..AT_ONCE {
            number += 1;
            calls.push(Call::begin(&gateway, number).await);
        }
        until(|| gateway.count(Counter::RoomReady) >= u64::from(round * AT_ONCE)).await;
        for call in calls {
            call.hang_up().await;
        }
        until(|| gateway.live() == 0).await;
        // Sockets are the lanes' to close, which they do in their own time.
        until(|| seen.first().is_none_or(|(before, _)| files() <= *before)).await;
        if round >= 5 {
            seen.push((files(), memory()));
        }
    }
    let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
    println!("files and MiB after {} cycles {first:?}, after {cycles} {last:?}", 5 * AT_ONCE);
    assert!(last.1 <= first.1 + 10, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_video_and_twenty_tracks_leave_the_call_alive() {
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let mut call = Call::begin(&gateway, 20).await;
    let mut agent = server.peer(&call.room(), "agent").await;
    agent.tell(json!({"do": "tracks", "count": 20})).await;
    agent.until("published").await;
    agent.tell(json!({"do": "flood"})).await;
    until(|| gateway.count(Counter::RoomFlooded) > 0 && gateway.count(Counter::TrackRefused) > 0).await;
    agent.tell(json!({"do": "calm"})).await;
    agent.until("flooded").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = json!({"type": "user_input_transcribed", "text": "alive"}).to_string();
    agent.tell(json!({"do": "data", "topic": "", "text": text, "reliable": true})).await;
    assert_eq!(call.hear("stt").await["text"], "alive");
    assert!(gateway.count(Counter::RoomIgnored) > 0, "what a flood says is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_calls_in_twenty_rooms_lose_nothing() {
    const CALLS: u32 = 20;
    let Some(tools) = tools() else { return };
    let server = Server::start(&tools, ServerOptions::default()).await;
    let gateway = Gateway::start(&server, |_| ()).await;
    let said = speech(10.0);
    let (up, down) = (encode(&said, 60), encode(&said, 20));
    let mut talks = tokio::task::JoinSet::new();
    for number in 0..CALLS {
        let mut call = Call::begin(&gateway, 200 + number).await;
        let mut agent = join(server.signal(&call.room(), "agent"), publishing()).await;
        let (up, down) = (up.clone(), down.clone());
        talks.spawn(async move {
            let (talk, speak) = (call.talk(&up), speak(&mut agent, &down));
            let (_, heard) = tokio::join!(talk, speak);
            assert_eq!(call.hear("tts").await["state"], "start");
            assert_eq!(call.hear("tts").await["state"], "stop");
            (call.gaps(), heard)
        });
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let load = gateway.load();
    let (mut down_packets, mut lost, mut over, mut up_packets) = (0, 0, 0.0, 0);
    while let Some(done) = talks.join_next().await {
        let (gaps, heard) = done.unwrap();
        down_packets += gaps.packets;
        lost += gaps.lost;
        over += gaps.gaps_over_percent / f64::from(CALLS);
        up_packets += heard;
    }
    println!(
        "{CALLS} calls, both ways: {:.2} ms CPU of the lanes a second and call; down {down_packets} packets, {lost} lost, \
         {over:.2} % of gaps over 65 ms; up {up_packets} of {} packets",
        load * 1000.0 / f64::from(CALLS),
        up.len() * CALLS as usize,
    );
    assert_eq!(lost, 0);
    assert!(up_packets as usize * 10 > up.len() * CALLS as usize * 9, "all but the first are heard");
}

/// Sends packets of 20 ms as an agent, and counts what it hears meanwhile and for a second after.
async fn speak(agent: &mut Room, packets: &[Vec<u8>]) -> u64 {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let (mut heard, mut next) = (0, packets.iter());
    let mut end = None;
    loop {
        tokio::select! {
            event = agent.recv() => heard += u64::from(matches!(event, Some(Event::Audio(_)))),
            _ = ticks.tick(), if end.is_none() => match next.next() {
                Some(payload) => {
                    let (payload, level) = (payload.clone(), AudioLevel::SPEECH);
                    let packet = Packet { payload, advance: 960, lost: 0, marker: false, level };
                    agent.send_audio(packet).await.unwrap();
                }
                None => end = Some(tokio::time::Instant::now() + Duration::from_secs(1)),
            },
            () = tokio::time::sleep_until(end.unwrap_or_else(tokio::time::Instant::now)), if end.is_some() => return heard,
        }
    }
}
