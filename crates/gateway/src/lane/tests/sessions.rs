//! Gates, marks, flushing, first datagrams, keys.

use super::*;

fn is_waiting(event: &MediaEvent) -> bool {
    matches!(event, MediaEvent::DownlinkWaiting)
}

fn played(events: &[MediaEvent]) -> Vec<u32> {
    events.iter().filter_map(|e| if let MediaEvent::PlayedOut(r) = e { Some(r.0) } else { None }).collect()
}

#[test]
fn nothing_leaves_before_the_gate_opens_and_the_room_is_announced_once() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    (0..3).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.run(MS * 500);
    assert_eq!(rig.drain().iter().filter(|e| is_waiting(e)).count(), 1);
    assert!(rig.devices[n].heard.is_empty());
    rig.command(n, MediaCommand::Gate(Gate::Flow { lead: MS * 40 }));
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_at(), [540, 600, 660]);
    rig.command(n, MediaCommand::Gate(Gate::Hold));
    rig.downlink(n, silk60(true, 3), 0);
    assert!(rig.drain().iter().any(is_waiting), "anew after a hold");
}

#[test]
fn a_gate_that_closes_in_the_middle_keeps_the_rest() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.command(n, FLOW);
    (0..4).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.run(MS * 70);
    rig.command(n, MediaCommand::Gate(Gate::Hold));
    rig.run(MS * 230);
    rig.command(n, FLOW);
    rig.run(MS * 300);
    assert_eq!(rig.devices[n].heard_at(), [0, 60, 300, 360]);
    assert_eq!(rig.close(n).underruns, 0, "we held it ourselves");
}

#[test]
fn after_an_abort_no_more_than_the_packet_under_way_is_heard() {
    for command in [MediaCommand::Flush, MediaCommand::Gate(Gate::Discard)] {
        let mut rig = Rig::new();
        let n = rig.open(Route::Chat);
        rig.greet(n);
        rig.command(n, FLOW);
        (0..100).for_each(|i| rig.downlink(n, silk60(true, i), 0));
        rig.command(n, MediaCommand::Mark(ReplyId(1)));
        rig.run(MS * 130);
        rig.command(n, command.clone());
        rig.run(MS * 2000);
        assert_eq!(rig.devices[n].heard_at(), [0, 60, 120], "{command:?}");
        assert!(played(&rig.drain()).is_empty(), "marks go with what they mark");
        rig.downlink(n, silk60(true, 7), 0);
        rig.run(MS * 100);
        let expected = if command == MediaCommand::Flush { 4 } else { 3 };
        assert_eq!(rig.devices[n].heard.len(), expected, "{command:?}");
    }
}

#[test]
fn a_mark_is_reached_when_the_last_packet_was_played_not_sent() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.command(n, FLOW);
    (0..2).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.command(n, MediaCommand::Mark(ReplyId(1)));
    rig.downlink(n, silk60(true, 2), 0);
    rig.command(n, MediaCommand::Mark(ReplyId(2)));
    rig.command(n, MediaCommand::Mark(ReplyId(3)));
    rig.run(MS * 119);
    assert!(played(&rig.drain()).is_empty());
    rig.run(MS * 2);
    assert_eq!(played(&rig.drain()), [1]);
    rig.run(MS * 58);
    assert!(played(&rig.drain()).is_empty());
    rig.run(MS * 2);
    assert_eq!(played(&rig.drain()), [2, 3]);
    assert_eq!(rig.devices[n].heard_at(), [0, 60, 120], "a mark between two replies delays none");
}

#[test]
fn a_mark_behind_nothing_is_reached_at_once_even_on_hold() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.command(n, MediaCommand::Mark(ReplyId(4)));
    rig.turn();
    assert_eq!(played(&rig.drain()), [4]);
    rig.downlink(n, silk60(true, 0), 0);
    rig.command(n, MediaCommand::Mark(ReplyId(5)));
    rig.run(MS * 1000);
    assert!(played(&rig.drain()).is_empty(), "but not behind a packet that is held");
}

#[test]
fn before_the_first_datagram_the_downlink_waits() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.command(n, FLOW);
    (0..3).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.run(MS * 1000);
    assert!(rig.devices[n].heard.is_empty());
    rig.drain();
    rig.say(n, &silk60(false, 0));
    let from = rig.devices[n].address;
    assert_eq!(rig.drain()[0], MediaEvent::FirstDatagram { from });
    rig.run(MS * 500);
    assert_eq!(rig.devices[n].heard_at(), [1000, 1060, 1120]);
}

#[test]
fn a_device_that_never_comes_is_reported_once() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.run(Duration::from_millis(9_999));
    assert!(rig.drain().is_empty());
    rig.run(Duration::from_secs(60));
    assert_eq!(rig.drain(), [MediaEvent::NeverSeen]);
    // The server was lost meanwhile, as it answers no pings.
    rig.join(n);
    rig.go_on(n);
    rig.greet(n);
    rig.command(n, FLOW);
    rig.downlink(n, silk60(true, 0), 0);
    rig.run(MS);
    assert_eq!(rig.devices[n].heard.len(), 1, "and is served when it comes after all");
}

#[test]
fn echoed_timestamps_are_mapped_back_to_the_rooms() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.command(n, FLOW);
    (0..9).for_each(|i| rig.downlink(n, celt20(i), 70_000 + u32::from(i) * 20));
    rig.run(MS * 200);
    rig.server_heard(n);
    for i in 0..3 {
        let ours = rig.devices[n].heard[i].1.timestamp;
        let from = rig.devices[n].address;
        let mut datagram = rig.devices[n].seal_echo(&silk60(true, 0), ours);
        rig.lane.handle_datagram(rig.now, from, &mut datagram);
        let heard = rig.server_heard(n);
        assert_eq!(heard, [(70_000 + i as u32 * 60, silk60(true, 0))], "that of the first of the three");
    }
    rig.say(n, &silk60(true, 0));
    assert_eq!(rig.server_heard(n), [(240, silk60(true, 0))], "media time where it echoes none");
}

#[test]
fn a_key_that_is_used_up_is_reported_once() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.command(n, FLOW);
    // 2^32 ms: the timestamps have gone round.
    rig.now = Time::from_millis(1 << 32);
    (0..3).for_each(|i| rig.downlink(n, silk60(true, i), 0));
    rig.turn();
    rig.run(MS * 300);
    let events = rig.drain();
    assert_eq!(events.iter().filter(|e| matches!(e, MediaEvent::KeyExhausted)).count(), 1);
    assert!(rig.devices[n].heard.is_empty());
    assert_eq!(rig.close(n).dropped, 3);
}

#[test]
fn every_suite_carries_audio_both_ways() {
    let suites =
        [Encryption::Aes128Ctr, Encryption::Aes128Gcm, Encryption::Aes256Gcm, Encryption::Chacha20Poly1305];
    for encryption in suites {
        let mut rig = Rig::new();
        let key = SessionKey::new(encryption, &[9; 32]);
        let n = rig.open_as(Open { encryption, key, ..Rig::open_request(0, Route::Chat) });
        rig.greet(n);
        rig.command(n, FLOW);
        rig.downlink(n, silk60(true, 1), 0);
        rig.say(n, &silk60(true, 2));
        rig.run(MS);
        assert_eq!(rig.devices[n].heard_fills(), [1]);
        assert_eq!(rig.drain(), [MediaEvent::DownlinkWaiting]);
        assert_eq!(rig.server_heard(n).pop(), Some((60, silk60(true, 2))));
    }
}

#[test]
fn what_cannot_be_opened_fails_and_harms_nobody() {
    let config = LaneConfig { max_sessions: 2, ..LaneConfig::default() };
    let mut rig = Rig::with(config, 4096);
    let n = rig.open(Route::Chat);
    rig.open_as(Open { connection_id: 0x7000_0000, ..Rig::open_request(1, Route::Chat) });
    assert_eq!(rig.drain(), [MediaEvent::Failed(MediaFailure::Collision)]);
    rig.open(Route::Chat);
    rig.open(Route::Chat);
    assert_eq!(rig.drain(), [MediaEvent::Failed(MediaFailure::Full)]);
    rig.greet(n);
    rig.say(n, &silk60(true, 0));
    assert_eq!(rig.server_heard(n).len(), 2);
    assert_eq!(rig.lane.report().sessions, 2);
    rig.close(n);
    rig.open(Route::Chat);
    assert!(rig.drain().is_empty(), "there is room again");
}

#[test]
fn commands_for_sessions_that_are_gone_have_no_effect() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.close(n);
    for command in [
        FLOW,
        MediaCommand::Flush,
        MediaCommand::Mark(ReplyId(1)),
        MediaCommand::Close,
        MediaCommand::Route(Route::Echo),
    ] {
        rig.command(n, command);
    }
    rig.downlink(n, silk60(true, 0), 0);
    rig.say(n, &silk60(true, 0));
    rig.run(Duration::from_secs(30));
    assert!(rig.drain().is_empty());
    assert_eq!((rig.lane.report().unknown, rig.lane.next_timeout()), (1, None));
}

#[test]
fn rubbish_from_the_room_is_counted_and_not_sent() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    rig.greet(n);
    rig.command(n, FLOW);
    for rubbish in [vec![0x03], vec![0x58; 1500], vec![0x01, 1]] {
        rig.downlink(n, rubbish, 0);
    }
    rig.downlink(n, silk60(true, 1), 0);
    rig.run(MS * 100);
    assert_eq!(rig.devices[n].heard_fills(), [1]);
    assert_eq!(rig.close(n).dropped, 3);
}

#[test]
fn what_may_not_be_lost_waits_for_a_control_plane_that_is_slow() {
    let mut rig = Rig::with(LaneConfig::default(), 4);
    let n = rig.open(Route::Chat);
    rig.greet(n);
    for _ in 0..10 {
        rig.now = rig.now + Duration::from_secs(1);
        rig.say(n, &silk60(true, 0));
    }
    (0..10).for_each(|i| rig.command(n, MediaCommand::Mark(ReplyId(i))));
    rig.turn();
    assert!(rig.lane.report().events_lost >= 6, "that audio flows");
    let lost = rig.lane.report().events_lost;
    let mut events = Vec::new();
    for _ in 0..10 {
        rig.run(MS * 10);
        events.extend(rig.drain());
    }
    assert_eq!(played(&events), (0..10).collect::<Vec<_>>());
    assert_eq!(rig.lane.report().events_lost, lost);
}

#[test]
fn loss_and_jitter_are_what_the_network_did() {
    use evenkeel_testkit::network::{Jitter, Loss, Network, NetworkConfig};
    let config = NetworkConfig {
        loss: Loss::Random(0.05),
        delay: MS * 30,
        jitter: Jitter::Exponential(MS * 10),
        reorder: 0.02,
        reorder_by: MS * 100,
        duplicate: 0.02,
        ..NetworkConfig::default()
    };
    let mut network = Network::new(7, config).unwrap();
    let mut rig = Rig::new();
    let n = rig.open(Route::Chat);
    let from = rig.devices[n].address;
    let mut heard = 0;
    for i in 0..2000u64 {
        let sent = Time::from_millis(i * 60);
        let datagram = rig.devices[n].seal(&silk60(true, 0));
        network.send(sent, &datagram);
        while let Some((at, mut datagram)) = network.poll(sent) {
            rig.lane.handle_datagram(at, from, &mut datagram);
            heard += rig.server_heard(n).len() as u64;
            rig.drain();
        }
    }
    let network = network.stats();
    let stats = rig.close(n);
    assert_eq!(stats.refused, network.duplicated, "a copy is a replay");
    let under_way = network.sent - network.lost + network.duplicated - network.delivered;
    assert!(stats.lost.abs_diff(network.lost) <= under_way, "{stats:?} {network:?}");
    assert_eq!(stats.received, network.delivered - network.duplicated);
    assert_eq!(stats.received - heard, stats.late, "only what came late is not passed on");
    assert!(stats.late > 0 && stats.late <= network.held_back);
    assert!((5_000..20_000).contains(&stats.jitter_micros), "{stats:?}");
}
