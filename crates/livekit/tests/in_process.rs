//! A participant against str0m as its server, on virtual time.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "common/sfu.rs"]
mod sfu;

use std::time::Duration;

use evenkeel_livekit::data::{Call, DataRate, Delivery, RpcErrorCode};
use evenkeel_livekit::error::{MediaError, SendError};
use evenkeel_livekit::participant::{AudioLevel, CloseReason, Event, OpusIn, OpusOut, TrackRefusal};
use evenkeel_livekit::proto;
use evenkeel_livekit::signal::SignalEvent;
use proto::data_packet::Value;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use sfu::{AGENT_TRACK, Behaviour, World, config, join_response, participant};

fn packet(payload: &[u8]) -> OpusOut<'_> {
    let level = AudioLevel { dbov: -33, voice: true };
    OpusOut { payload, advance: 2880, lost: 0, marker: false, level }
}

fn audio(world: &mut World) -> Vec<OpusIn> {
    let audio = |e: Event| if let Event::Audio(a) = e { Some(a) } else { None };
    world.events.drain(..).filter_map(audio).collect()
}

fn user(sequence: u32, payload: &[u8]) -> proto::DataPacket {
    proto::DataPacket {
        participant_identity: "agent".into(),
        participant_sid: "PA_agent".into(),
        sequence,
        value: Some(Value::User(proto::UserPacket { payload: payload.to_vec(), ..Default::default() })),
        ..Default::default()
    }
}

#[test]
fn payloads_pass_untouched_both_ways_with_sequence_time_and_level() {
    for ice_lite in [false, true] {
        let mut world = World::connected(Behaviour {
            ice_lite,
            latency: Duration::from_millis(20),
            ..Default::default()
        });
        let subscribed = |r: &Request| matches!(r, Request::Subscription(s) if s.track_sids == [AGENT_TRACK]);
        assert!(world.requests.iter().any(subscribed));
        assert!(world.events.iter().any(|e| matches!(e, Event::TrackSubscribed(t) if t.identity == "agent")));
        world.events.clear();
        for i in 0..100u8 {
            let now = world.now;
            world.participant.send_audio(now, packet(&[0xfc, i])).unwrap();
            world.drain();
            world.sfu.speak(now, &[0xf8, i], 960);
            world.flush();
            world.run(Duration::from_millis(20));
        }
        world.run(Duration::from_millis(100));
        assert_eq!(world.sfu.heard.len(), 100);
        let first = &world.sfu.heard[0];
        for (i, heard) in (0..).zip(&world.sfu.heard) {
            assert_eq!(*heard.payload, [0xfc, i as u8]);
            assert_eq!(*heard.seq_no, *first.seq_no + i);
            assert_eq!(heard.time.numer(), first.time.numer() + i * 2880);
            assert_eq!(heard.header.ext_vals.audio_level, Some(-33));
            assert_eq!(heard.header.ext_vals.voice_activity, Some(true));
        }
        let came = audio(&mut world);
        assert_eq!(came.len(), 100);
        for (i, audio) in (0..).zip(&came) {
            assert_eq!(*audio.payload, [0xf8, i as u8]);
            assert_eq!(audio.sequence, came[0].sequence + i);
            assert_eq!(audio.time, came[0].time + i * 960);
            assert_eq!(audio.level, Some(AudioLevel { dbov: -20, voice: true }));
        }
    }
}

#[test]
fn lost_packets_leave_a_gap_that_others_see() {
    let mut world = World::connected(Behaviour::default());
    let now = world.now;
    world.participant.send_audio(now, packet(b"a")).unwrap();
    world.participant.send_audio(now, OpusOut { lost: 3, advance: 4 * 2880, ..packet(b"b") }).unwrap();
    world.drain();
    world.run(Duration::from_millis(10));
    let heard = &world.sfu.heard;
    assert_eq!(*heard[1].seq_no - *heard[0].seq_no, 4);
    assert_eq!(heard[1].time.numer() - heard[0].time.numer(), 4 * 2880);
}

#[test]
fn sequences_go_on_past_the_wrap() {
    let mut world = World::connected(Behaviour::default());
    for i in 0..40u32 {
        let now = world.now;
        world.participant.send_audio(now, OpusOut { lost: 4000, ..packet(&i.to_be_bytes()) }).unwrap();
        world.drain();
        world.run(Duration::from_millis(20));
    }
    let heard: Vec<u32> =
        world.sfu.heard.iter().map(|p| u32::from_be_bytes(p.payload[..].try_into().unwrap())).collect();
    assert_eq!(heard, (0..40).collect::<Vec<_>>());
}

#[test]
fn data_passes_both_ways_and_reliable_packets_once() {
    let mut world = World::connected(Behaviour::default());
    let now = world.now;
    world.participant.send_data(now, Delivery::Reliable, "topic", &["agent"], b"hello").unwrap();
    world.participant.send_data(now, Delivery::Lossy, "", &[], b"quick").unwrap();
    world.drain();
    world.run(Duration::from_millis(50));
    let sent = &world.sfu.data;
    assert_eq!(sent.len(), 2, "{sent:?}");
    let reliable = sent.iter().find(|p| p.sequence == 1).unwrap();
    assert_eq!(reliable.destination_identities, ["agent"]);
    assert!(sent.iter().any(|p| p.sequence == 0));

    world.sfu.send(true, &user(1, b"x"));
    world.sfu.send(true, &user(1, b"x"));
    world.sfu.send(false, &user(0, b"y"));
    world.flush();
    world.run(Duration::from_millis(50));
    let got: Vec<_> = world
        .events
        .iter()
        .filter_map(|e| if let Event::Data(d) = e { Some((d.payload.as_slice(), d.delivery)) } else { None })
        .collect();
    assert_eq!(got.len(), 2);
    assert!(got.contains(&(b"x", Delivery::Reliable)) && got.contains(&(b"y", Delivery::Lossy)));
    assert_eq!(world.participant.counters().data_repeated, 1);
}

#[test]
fn a_flood_of_data_is_cut_off_and_audio_goes_on() {
    let mut c = config();
    c.data_rate = DataRate { packets: 50, bytes: 100_000 };
    let mut world = World::new(c, Behaviour::default());
    world.run(Duration::from_secs(2));
    world.events.clear();
    for i in 0..1000 {
        world.sfu.send(false, &user(0, &[0; 100]));
        if i % 20 == 0 {
            let now = world.now;
            world.sfu.speak(now, b"opus", 960);
            world.flush();
            world.run(Duration::from_millis(1));
        }
    }
    world.flush();
    world.run(Duration::from_millis(100));
    let count = |f: fn(&Event) -> bool| world.events.iter().filter(|e| f(e)).count();
    assert!(count(|e| matches!(e, Event::Data(_))) <= 60);
    assert_eq!(count(|e| matches!(e, Event::Flooded)), 1);
    assert_eq!(count(|e| matches!(e, Event::Audio(_))), 50);
    assert!(world.participant.counters().data_flood > 800);
}

#[test]
fn calls_are_made_answered_and_given_up() {
    let mut world = World::connected(Behaviour::default());
    let now = world.now;
    let call = Call { destination: "agent", method: "m", payload: "p", timeout: Duration::from_secs(10) };
    let answered = world.participant.call(now, call).unwrap();
    let silent = world.participant.call(now, call).unwrap();
    world.drain();
    world.run(Duration::from_millis(50));
    let Some(Value::RpcRequest(request)) = world.sfu.data[0].value.clone() else { panic!() };
    let response = proto::RpcResponse {
        request_id: request.id.clone(),
        value: Some(proto::rpc_response::Value::Payload("yes".into())),
    };
    let from_agent = |value| proto::DataPacket { value: Some(value), ..user(0, b"") };
    world.sfu.send(true, &from_agent(Value::RpcResponse(response)));
    let request = proto::RpcRequest { id: "q".into(), method: "who".into(), version: 1, ..request };
    world.sfu.send(true, &from_agent(Value::RpcRequest(request)));
    world.flush();
    world.run(Duration::from_millis(50));
    let id = world.events.iter().find_map(|e| match e {
        Event::RpcRequest { id, caller, method, .. } if caller == "agent" && method == "who" => Some(*id),
        _ => None,
    });
    let now = world.now;
    let error = RpcErrorCode::UnsupportedMethod.error();
    world.participant.answer(now, id.unwrap(), Err(error)).unwrap();
    world.drain();
    world.run(Duration::from_secs(8));
    let results: Vec<_> = world
        .events
        .iter()
        .filter_map(
            |e| if let Event::RpcResult { id, result } = e { Some((*id, result.clone())) } else { None },
        )
        .collect();
    assert_eq!(results[0], (answered, Ok("yes".to_owned())));
    assert_eq!(results[1], (silent, Err(RpcErrorCode::ConnectionTimeout.error())));
    let answers: Vec<_> = world.sfu.data.iter().filter_map(|p| p.value.clone()).collect();
    assert!(answers.iter().any(|v| matches!(v, Value::RpcAck(a) if a.request_id == "q")));
    let refused = |v: &Value| {
        matches!(v, Value::RpcResponse(r) if matches!(&r.value,
        Some(proto::rpc_response::Value::Error(e)) if e.code == 1400))
    };
    assert!(answers.iter().any(refused));
}

#[test]
fn a_text_longer_than_a_packet_arrives_in_order() {
    let mut world = World::connected(Behaviour { latency: Duration::from_millis(5), ..Default::default() });
    let text = "é".repeat(20_000);
    let now = world.now;
    world.participant.send_text(now, "lk.transcription", &[], &[("lk.segment_id", "1")], &text).unwrap();
    world.drain();
    world.run(Duration::from_secs(1));
    let mut got = Vec::new();
    for packet in &world.sfu.data {
        match packet.value.as_ref().unwrap() {
            Value::StreamHeader(h) => assert_eq!(h.total_length, Some(40_000)),
            Value::StreamChunk(c) => got.extend_from_slice(&c.content),
            Value::StreamTrailer(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

#[test]
fn without_a_media_path_sessions_are_made_anew_and_then_given_up() {
    let mut c = config();
    c.tcp_after = None;
    let mut world = World::new(c, Behaviour::default());
    world.passes = Box::new(|_, _| false);
    for _ in 0..2 {
        world.run(Duration::from_secs(11));
        assert_eq!(world.commands.pop(), Some("rejoin"));
        assert!(!world.participant.is_closed());
        world.join();
    }
    world.run(Duration::from_secs(11));
    assert_eq!(world.commands.pop(), Some("leave"));
    let after = Duration::from_secs(10);
    let last = world.events.last();
    let expected = CloseReason::Media(MediaError::IceTimeout { after });
    assert!(matches!(last, Some(Event::Closed(r)) if *r == expected), "{last:?}");
    assert_eq!(world.participant.counters().media_failures, 3);
}

#[test]
fn dtls_that_never_finishes_is_told_apart_from_ice() {
    let mut c = config();
    c.media_failures = 1;
    let mut world = World::new(c, Behaviour::default());
    world.passes = Box::new(|_, datagram| !(20..64).contains(&datagram[0]));
    world.run(Duration::from_secs(11));
    let last = world.events.last();
    assert!(
        matches!(last, Some(Event::Closed(CloseReason::Media(MediaError::DtlsTimeout { .. })))),
        "{last:?}"
    );
}

#[test]
fn a_server_with_another_certificate_than_it_said_is_not_talked_to() {
    let mut c = config();
    c.media_failures = 1;
    let mut world = World::new(c, Behaviour { wrong_fingerprint: true, ..Default::default() });
    world.run(Duration::from_secs(11));
    let last = world.events.last();
    assert!(
        matches!(last, Some(Event::Closed(CloseReason::Media(MediaError::Connection { .. })))),
        "{last:?}"
    );
}

#[test]
fn garbage_datagrams_are_counted_and_change_nothing() {
    let mut world = World::connected(Behaviour::default());
    let (ours, servers) = ("10.0.0.1:5000".parse().unwrap(), "10.0.0.2:7882".parse().unwrap());
    let mut seed = 1u32;
    for len in 0..600usize {
        let bytes: Vec<u8> = (0..len % 200)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let now = world.now;
        world.participant.handle_datagram(now, ours, servers, &bytes);
        world.drain();
    }
    assert!(world.participant.counters().datagrams_unknown > 100);
    let now = world.now;
    world.participant.send_audio(now, packet(b"still here")).unwrap();
    world.drain();
    world.run(Duration::from_millis(10));
    assert_eq!(&*world.sfu.heard[0].payload, b"still here");
}

#[test]
fn when_the_path_dies_a_resume_is_asked_for_and_then_a_new_session() {
    let mut world = World::connected(Behaviour::default());
    world.passes = Box::new(|_, _| false);
    for _ in 0..600 {
        world.run(Duration::from_millis(100));
        if world.commands.contains(&"rejoin") {
            break;
        }
    }
    assert_eq!(world.commands, ["resume", "rejoin"]);
    world.passes = Box::new(|_, _| true);
    world.join();
    world.events.clear();
    world.run(Duration::from_secs(2));
    assert!(world.events.iter().any(|e| matches!(e, Event::Connected)), "{:?}", world.events);
}

#[test]
fn resuming_restarts_ice_and_audio_goes_on_with_the_same_sequence() {
    let mut world = World::connected(Behaviour { latency: Duration::from_millis(5), ..Default::default() });
    let now = world.now;
    world.participant.send_audio(now, packet(b"before")).unwrap();
    world.drain();
    world.run(Duration::from_millis(50));
    let reconnect = Box::default();
    world.participant.handle_signal(world.now, SignalEvent::Resumed { connection: 1, reconnect });
    world.drain();
    world.run(Duration::from_secs(2));
    let synced =
        world.requests.iter().find_map(|r| if let Request::SyncState(s) = r { Some(s) } else { None });
    let synced = synced.expect("the state is told");
    assert_eq!(synced.subscription.as_ref().unwrap().track_sids, [AGENT_TRACK]);
    assert!(synced.offer.is_some() && synced.answer.is_some());
    assert!(world.events.iter().any(|e| matches!(e, Event::Resumed)));
    let now = world.now;
    world.participant.send_audio(now, packet(b"after")).unwrap();
    world.drain();
    world.run(Duration::from_millis(50));
    let heard = &world.sfu.heard;
    assert_eq!(heard.len(), 2);
    assert_eq!(*heard[1].seq_no, *heard[0].seq_no + 1);
}

#[test]
fn an_agent_that_leaves_and_comes_back_is_heard_again() {
    let mut world = World::connected(Behaviour::default());
    let mut gone = participant("PA_agent", "agent", [AGENT_TRACK]);
    gone.state = proto::participant_info::State::Disconnected.into();
    let update = |p| Response::Update(proto::ParticipantUpdate { participants: vec![p] });
    world.events.clear();
    world.say(update(gone));
    assert!(matches!(&world.events[..], [Event::TrackEnded { .. }, Event::ParticipantLeft { .. }]));
    world.requests.clear();
    world.say(update(participant("PA_again", "agent", [AGENT_TRACK])));
    assert!(matches!(&world.requests[..], [Request::Subscription(_)]));
    let requirement = proto::MediaSectionsRequirement { num_audios: 0, num_videos: 0 };
    world.say(Response::MediaSectionsRequirement(requirement));
    world.run(Duration::from_millis(100));
    assert!(world.events.iter().any(|e| matches!(e, Event::TrackSubscribed(_))), "{:?}", world.events);
    world.events.clear();
    let now = world.now;
    world.sfu.speak(now, b"again", 960);
    world.flush();
    world.run(Duration::from_millis(50));
    assert_eq!(audio(&mut world).len(), 1);
}

#[test]
fn more_sections_than_the_limits_are_never_offered() {
    let mut world = World::connected(Behaviour::default());
    for _ in 0..10 {
        let requirement = proto::MediaSectionsRequirement { num_audios: 1_000_000, num_videos: 5 };
        world.say(Response::MediaSectionsRequirement(requirement));
        world.run(Duration::from_millis(50));
    }
    assert!(world.participant.is_connected());
}

#[test]
fn a_caller_that_takes_nothing_costs_bounded_memory() {
    let mut world = World::connected(Behaviour::default());
    let now = world.now;
    for _ in 0..10_000 {
        world.participant.send_audio(now, packet(&[0; 200])).unwrap();
    }
    let dropped = world.participant.counters().outputs_dropped;
    assert!(dropped > 8000, "{dropped}");
}

#[test]
fn what_cannot_be_sent_says_why() {
    let mut c = config();
    c.publish = None;
    let mut world = World::new(c, Behaviour::default());
    let now = world.now;
    assert_eq!(world.participant.send_audio(now, packet(b"x")), Err(SendError::NotPublishing));
    let early = world.participant.send_data(now, Delivery::Reliable, "", &[], b"x");
    assert_eq!(early, Err(SendError::NotConnected));
    let long = [0; 1201];
    assert!(matches!(world.participant.send_audio(now, packet(&long)), Err(SendError::Oversized { .. })));
    world.run(Duration::from_secs(2));
    let now = world.now;
    let large = vec![0; 70_000];
    let refused = world.participant.send_data(now, Delivery::Reliable, "", &[], &large);
    assert!(matches!(refused, Err(SendError::Oversized { .. })));
    let filled = (0..100)
        .find_map(|_| world.participant.send_data(now, Delivery::Reliable, "", &[], &large[..60_000]).err());
    assert!(matches!(filled, Some(SendError::Congested { .. })), "{filled:?}");
}

#[test]
fn a_track_the_server_withholds_is_told() {
    let mut world = World::connected(Behaviour::default());
    world.events.clear();
    let response = proto::SubscriptionResponse { track_sid: AGENT_TRACK.into(), ..Default::default() };
    world.say(Response::SubscriptionResponse(response));
    assert!(matches!(
        &world.events[..],
        [Event::TrackEnded { .. }, Event::TrackRefused { reason: TrackRefusal::Denied, .. }]
    ));
}

#[test]
fn being_moved_replaces_everyone() {
    let mut world = World::connected(Behaviour::default());
    world.events.clear();
    let moved = proto::RoomMovedResponse {
        room: Some(proto::Room { name: "elsewhere".into(), ..Default::default() }),
        participant: join_response().participant,
        other_participants: vec![participant("PA_2", "other", ["TR_2"])],
        token: "t".into(),
    };
    world.say(Response::RoomMoved(moved));
    assert!(matches!(&world.events[..],
        [Event::RoomMoved { room }, Event::ParticipantJoined(p)] if room == "elsewhere" && p.identity == "other"));
    assert!(world.participant.is_connected());
}
