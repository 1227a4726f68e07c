//! A chat server whose connection lives in the lane.

use super::guest::chat::Loss;
use super::*;
use crate::chat::wire::WireError;
use crate::media::GuestId;

/// A session whose server has joined and whose room knows of it, at time 0.
fn joined() -> (Rig, usize) {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.server_heard(n);
    (rig, n)
}

/// A text of the server.
fn text(said: &str) -> Vec<u8> {
    FarEnd::say(0x81, said.as_bytes())
}

/// What the room was told, in short.
fn words(rig: &mut Rig, n: usize) -> Vec<String> {
    let word = |told| match told {
        Told::Text(text) => String::from_utf8(text).unwrap(),
        Told::Closed(code) => format!("closed {code:?}"),
        Told::Lost(loss) => format!("lost: {loss}"),
        Told::Left(_) => "left".to_owned(),
    };
    rig.told(n).into_iter().map(word).collect()
}

/// The frames that were written to the server since.
fn frames(rig: &mut Rig, n: usize) -> Vec<(u8, Vec<u8>)> {
    rig.run_errands();
    std::iter::from_fn(|| rig.devices[n].server.as_mut()?.frame()).collect()
}

#[test]
fn what_the_device_says_before_the_server_is_there_reaches_it_behind_the_first_texts() {
    let mut rig = Rig::new();
    let n = rig.open_as(Open { route: Route::Echo, ..Rig::open_request(0, Route::Chat) });
    rig.command(n, MediaCommand::Route(Route::Chat));
    for i in 0..60 {
        rig.say(n, &silk60(true, i));
        rig.run(MS * 60);
    }
    rig.join(n);
    rig.say(n, &silk60(true, 60));
    assert!(frames(&mut rig, n).is_empty(), "not before the room said so");
    rig.ask(n, "listen");
    rig.go_on(n);
    let written = frames(&mut rig, n);
    assert_eq!(written[0], (0x81, b"listen".to_vec()));
    let fills: Vec<u8> = written[1..].iter().filter_map(|(_, message)| message.last().copied()).collect();
    assert_eq!(fills, (11..=60).collect::<Vec<_>>(), "the last three seconds");
    rig.say(n, &silk60(true, 61));
    assert_eq!(rig.server_heard(n), [(61 * 60, silk60(true, 61))]);
    rig.close(n);
    assert_eq!(rig.lane.report().queued_bytes, 0);
}

#[test]
fn behind_a_text_audio_waits_until_the_call_has_dealt_with_it() {
    let (mut rig, n) = joined();
    rig.command(n, FLOW);
    let said = [
        FarEnd::say_audio(0, &silk60(true, 1)),
        text("stop"),
        text("start"),
        FarEnd::say_audio(60, &silk60(true, 2)),
    ];
    rig.server_says(n, &said.concat());
    assert_eq!(words(&mut rig, n), ["stop"]);
    rig.command(n, MediaCommand::Mark(ReplyId(1)));
    rig.go_on(n);
    assert_eq!(words(&mut rig, n), ["start"]);
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_fills(), [1]);
    assert!(
        rig.drain().contains(&MediaEvent::PlayedOut(ReplyId(1))),
        "the mark is behind what came before it"
    );
    rig.go_on(n);
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_fills(), [1, 2]);
}

#[test]
fn what_came_before_the_end_of_a_connection_is_heard_before_it() {
    let (mut rig, n) = joined();
    rig.command(n, FLOW);
    let said = [text("stop"), FarEnd::say_audio(0, &silk60(true, 1)), FarEnd::say(0x88, &[3, 0xe8])];
    rig.server_says(n, &said.concat());
    rig.lane.handle_guest_end(rig.now, rig.devices[n].media, Loss::Ended);
    assert_eq!(words(&mut rig, n), ["stop"]);
    rig.go_on(n);
    assert_eq!(words(&mut rig, n), ["closed Some(1000)"]);
    rig.run(MS * 100);
    assert_eq!(rig.devices[n].heard_fills(), [1]);
}

#[test]
fn what_one_room_had_to_say_of_its_server_is_not_said_of_the_next() {
    let (mut rig, n) = joined();
    rig.server_says(n, &text("hello"));
    rig.join(n);
    rig.server_says(n, &text("other"));
    rig.command(n, MediaCommand::GoOn(GuestId(7)));
    assert_eq!(words(&mut rig, n), [""; 0]);
    rig.go_on(n);
    assert_eq!(words(&mut rig, n), ["other"]);
}

#[test]
fn a_story_told_at_once_is_played_to_its_end() {
    let (mut rig, n) = joined();
    rig.command(n, FLOW);
    rig.say(n, &silk60(true, 0));
    // Four minutes: twice as long as anything is queued.
    let mut story: Vec<u8> =
        (0..4000u32).flat_map(|i| FarEnd::say_audio(i * 60, &silk60(true, i as u8))).collect();
    for _ in 0..4100 * 60 / 20 {
        rig.run_errands();
        if rig.devices[n].is_read && !story.is_empty() {
            let rest = story.split_off(story.len().min(4096));
            rig.server_says(n, &std::mem::replace(&mut story, rest));
        }
        assert!(rig.lane.report().queued_bytes < 64 << 10);
        rig.run(MS * 20);
    }
    let fills = (0..4000u32).map(|i| i as u8).collect::<Vec<_>>();
    assert!(rig.devices[n].heard_fills() == fills, "{} were heard", rig.devices[n].heard.len());
    assert!(rig.lane.report().rooms_held > 100);
}

#[test]
fn what_a_stream_kept_is_flushed_though_nothing_more_is_said() {
    let (mut rig, n) = joined();
    rig.ask(n, "listen");
    let Some(Errand::Write(_)) = rig.lane.poll_errand() else { panic!("there is something to say") };
    let media = rig.devices[n].media;
    // TLS takes all, and cannot send it.
    rig.lane.write_guest(rig.now, media, |bytes| Ok(Written { count: bytes.len(), is_flushed: false }));
    assert!(rig.lane.poll_errand().is_none());
    rig.now = rig.now + MS * 20;
    rig.lane.handle_timeout(rig.now);
    let Some(Errand::Write(_)) = rig.lane.poll_errand() else { panic!("it is asked again") };
    rig.lane.write_guest(rig.now, media, |bytes| Ok(Written { count: bytes.len(), is_flushed: true }));
    rig.run(MS * 100);
    assert!(rig.lane.poll_errand().is_none());
}

#[test]
fn a_server_that_floods_is_read_no_further_than_it_is_dealt_with() {
    let (mut rig, n) = joined();
    rig.server_says(n, &text("x"));
    let mut paused = false;
    let bad = FarEnd::say(0x82, &[0; 1000]);
    for _ in 0..1000 {
        rig.server_says(n, &bad);
        while let Some(errand) = rig.lane.poll_errand() {
            paused |= matches!(errand, Errand::Pause(_));
        }
        if paused {
            break;
        }
    }
    assert!(paused, "the thread is told to read no more");
    rig.go_on(n);
    let resumed = std::iter::from_fn(|| rig.lane.poll_errand()).any(|e| matches!(e, Errand::Resume(_)));
    assert!(resumed, "and to go on once there is room");
    assert!((15..20).contains(&rig.lane.report().room_frames_bad));
}

#[test]
fn bad_messages_are_counted_and_the_call_goes_on() {
    let (mut rig, n) = joined();
    rig.command(n, FLOW);
    for bad in [&[][..], &[1], &[0; 15], &[0; 16], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1]] {
        rig.server_says(n, &FarEnd::say(0x82, bad));
    }
    rig.downlink(n, silk60(true, 1), 0);
    rig.run(MS * 100);
    assert_eq!(rig.devices[n].heard_fills(), [1]);
    assert_eq!(rig.lane.report().room_frames_bad, 5);
}

#[test]
fn a_server_that_does_not_read_costs_frames_and_is_offered_them_again() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    for i in 0..700u32 {
        rig.say(n, &silk60(true, i as u8));
        while let Some(errand) = rig.lane.poll_errand() {
            assert!(matches!(errand, Errand::Write(_)));
            let nothing = Written { count: 0, is_flushed: false };
            rig.lane.write_guest(rig.now, rig.devices[n].media, |_| Ok(nothing));
        }
    }
    let stalled = rig.lane.report().room_frames_stalled;
    assert!(stalled > 0);
    rig.run(MS * 20);
    let heard = rig.server_heard(n);
    assert_eq!(heard.len() as u64 + stalled, 700, "what was kept goes out as soon as it is taken");
    assert!(heard.iter().enumerate().all(|(i, packet)| packet.0 == i as u32 * 60));
}

#[test]
fn pings_are_answered_and_a_silent_server_is_lost_after_two_of_ours() {
    let (mut rig, n) = joined();
    rig.server_says(n, &FarEnd::say(0x89, b"there?"));
    assert_eq!(frames(&mut rig, n), [(0x8a, b"there?".to_vec())]);
    rig.run(Duration::from_secs(39));
    assert!(frames(&mut rig, n).is_empty());
    rig.run(Duration::from_secs(2));
    assert_eq!(frames(&mut rig, n), [(0x89, vec![])]);
    rig.run(Duration::from_secs(18));
    rig.server_says(n, &FarEnd::say(0x8a, b""));
    rig.run(Duration::from_secs(30));
    assert_eq!(words(&mut rig, n), [""; 0], "it answered");
    rig.run(Duration::from_secs(40));
    assert_eq!(words(&mut rig, n), ["lost: the server fell silent"]);
}

#[test]
fn however_it_ends_the_room_is_told_and_the_call_stays() {
    type End = (&'static str, fn(&mut Rig, usize), &'static str);
    let ends: [End; 5] = [
        (
            "done",
            |rig, n| rig.server_says(n, &FarEnd::say(0x88, &1000u16.to_be_bytes())),
            "closed Some(1000)",
        ),
        ("without a code", |rig, n| rig.server_says(n, &FarEnd::say(0x88, &[])), "closed None"),
        ("masked", |rig, n| rig.server_says(n, &[0x81, 0x80]), "lost: a masked frame from the server"),
        ("gone", |rig, n| rig.lane.handle_guest_end(rig.now, rig.devices[n].media, Loss::Ended), ""),
        ("in fragments", |rig, n| rig.server_says(n, &[0x80, 0]), ""),
    ];
    for (what, end, expected) in ends {
        let (mut rig, n) = joined();
        end(&mut rig, n);
        let told = words(&mut rig, n);
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        assert!(told[0].starts_with(expected), "{what}: {told:?}");
        let back =
            std::iter::from_fn(|| rig.lane.poll_errand()).filter(|e| matches!(e, Errand::HandBack(..)));
        assert_eq!(back.count(), 1, "{what}: its connection goes back, to be closed");
        // Another takes its place, and hears what was said meanwhile.
        rig.say(n, &silk60(true, 7));
        rig.join(n);
        rig.go_on(n);
        assert_eq!(rig.server_heard(n), [(60, silk60(true, 7))], "{what}");
        rig.close(n);
        assert_eq!(rig.lane.report().queued_bytes, 0, "{what}");
    }
    assert_eq!(WireError::Masked.close_code(), 1002);
}

#[test]
fn a_room_that_leaves_says_so_and_one_whose_session_is_over_never_moves_in() {
    let (mut rig, n) = joined();
    rig.devices[n].server.as_mut().unwrap().leave();
    rig.command(n, MediaCommand::Nudge);
    let Some(Errand::HandBack(port, _)) = rig.lane.poll_errand() else { panic!("it leaves") };
    assert_eq!(port, n as u32);
    rig.close(n);
    rig.join(n);
    assert!(matches!(rig.lane.poll_errand(), Some(Errand::HandBack(..))), "there is nobody to live beside");
    let (mut rig, n) = joined();
    rig.join(n);
    assert!(matches!(rig.lane.poll_errand(), Some(Errand::HandBack(..))), "the one before moves out");
    rig.close(n);
    assert!(matches!(rig.lane.poll_errand(), Some(Errand::HandBack(..))), "and the last with its session");
}
