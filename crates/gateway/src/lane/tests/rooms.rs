//! Rooms that live in the lane: the parrot, the loopback, another device.

use super::*;

/// The device speaks for `voice` packets and is silent for `silence`, as one that streams all the time.
fn speak(rig: &mut Rig, n: usize, voice: u8, silence: u8) {
    for i in 0..voice + silence {
        rig.say(n, &silk60(i < voice, i));
        rig.run(MS * 60);
    }
}

#[test]
fn the_parrot_says_back_what_was_said_once_the_speaker_pauses() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Echo);
    speak(&mut rig, n, 0, 20);
    speak(&mut rig, n, 25, 0);
    let last_word = rig.now - MS * 60;
    rig.drain();
    speak(&mut rig, n, 0, 10);
    assert!(rig.drain().is_empty(), "not before the pause is over");
    rig.run_until(last_word + parrot::PAUSE);
    assert_eq!(rig.drain(), [MediaEvent::DownlinkWaiting, MediaEvent::DownlinkEnded]);
    let began = rig.now;
    rig.command(n, FLOW);
    rig.command(n, MediaCommand::Mark(ReplyId(1)));
    rig.run(MS);
    assert_eq!(rig.devices[n].heard[0].0, began, "at once");
    rig.run(Duration::from_secs(3));
    // A little from before and after, so that no word is clipped.
    let expected: Vec<u8> = (17..20).chain(0..25).chain(0..2).collect();
    assert_eq!(rig.devices[n].heard_fills(), expected);
    assert_eq!(rig.drain(), [MediaEvent::PlayedOut(ReplyId(1))]);
}

#[test]
fn the_parrot_does_not_hear_itself_and_listens_again_afterwards() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Echo);
    for _ in 0..3 {
        speak(&mut rig, n, 10, 12);
        assert_eq!(rig.drain().iter().filter(|e| matches!(e, MediaEvent::DownlinkEnded)).count(), 1);
        rig.command(n, FLOW);
        let before = rig.devices[n].heard.len();
        speak(&mut rig, n, 10, 0);
        speak(&mut rig, n, 0, 8);
        assert!((10..16).contains(&(rig.devices[n].heard.len() - before)));
        rig.run(MS * 500);
        rig.command(n, MediaCommand::Gate(Gate::Hold));
        assert!(rig.drain().iter().all(|e| !matches!(e, MediaEvent::DownlinkEnded)));
    }
}

#[test]
fn a_noise_is_no_utterance() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Echo);
    rig.greet(n);
    for _ in 0..10 {
        speak(&mut rig, n, 1, 14);
    }
    assert!(rig.drain().is_empty());
}

#[test]
fn a_speaker_who_never_pauses_is_interrupted_and_costs_no_more_memory() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Echo);
    rig.greet(n);
    (0..4).for_each(|_| speak(&mut rig, n, 100, 0));
    assert_eq!(rig.drain().iter().filter(|e| matches!(e, MediaEvent::DownlinkWaiting)).count(), 1);
    rig.command(n, FLOW);
    rig.run(Duration::from_secs(30));
    assert!((330..340).contains(&rig.devices[n].heard.len()), "{}", rig.devices[n].heard.len());
}

#[test]
fn an_aborted_parrot_is_silent_and_listens() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Echo);
    speak(&mut rig, n, 30, 12);
    rig.command(n, FLOW);
    rig.run(MS * 200);
    rig.drain();
    let heard = rig.devices[n].heard.len();
    rig.command(n, MediaCommand::Gate(Gate::Discard));
    assert_eq!(rig.drain(), [MediaEvent::DownlinkEnded], "so that the reply can end");
    rig.command(n, MediaCommand::Gate(Gate::Hold));
    rig.run(MS * 2000);
    assert_eq!(rig.devices[n].heard.len(), heard);
    speak(&mut rig, n, 10, 12);
    assert_eq!(rig.drain(), [MediaEvent::DownlinkWaiting, MediaEvent::DownlinkEnded]);
}

#[test]
fn voice_is_told_by_size_where_packets_do_not_say() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Echo);
    let celt = |len: usize| [&[0xf8][..], &vec![1; len]].concat();
    let stream = |rig: &mut Rig, lens: &mut dyn Iterator<Item = usize>| {
        for len in lens {
            rig.say(n, &celt(len));
            rig.run(MS * 20);
        }
    };
    stream(&mut rig, &mut (0..20).map(|i| 20 + i % 5));
    stream(&mut rig, &mut (0..60).map(|i| 70 + i % 31));
    rig.drain();
    stream(&mut rig, &mut (0..40).map(|i| 20 + i % 5));
    assert_eq!(rig.drain(), [MediaEvent::DownlinkWaiting, MediaEvent::DownlinkEnded]);
    rig.command(n, FLOW);
    rig.run(Duration::from_secs(3));
    let times = rig.devices[n].heard_at();
    assert!((20..32).contains(&times.len()) && times.windows(2).all(|w| w[1] - w[0] == 60), "{times:?}");
}

#[test]
fn a_loopback_sends_each_packet_back_at_once() {
    let mut rig = Rig::new();
    let n = rig.open(Route::Loopback);
    rig.say(n, &silk60(true, 0));
    let from = rig.devices[n].address;
    assert_eq!(rig.drain(), [MediaEvent::FirstDatagram { from }, MediaEvent::DownlinkWaiting]);
    rig.command(n, FLOW);
    rig.run(MS * 60);
    speak(&mut rig, n, 20, 0);
    assert_eq!(rig.devices[n].heard_at(), (0..21).map(|i| i * 60).collect::<Vec<_>>());
    rig.run(Duration::from_secs(2));
    assert_eq!(rig.drain(), [MediaEvent::DownlinkEnded], "when the device says no more");
}

#[test]
fn two_devices_hear_each_other_in_one_lane_and_across_two() {
    let inboxes: Inboxes = (0..2).map(|_| ArrayQueue::new(64)).collect::<Vec<_>>().into();
    let rig = |index| {
        let config = LaneConfig { index, ..LaneConfig::default() };
        let mut rig = Rig::in_plane(config, 4096, Arc::clone(&inboxes));
        let n = rig.open(Route::Chat);
        rig.greet(n);
        rig.command(n, FLOW);
        rig
    };
    let (mut a, mut b) = (rig(0), rig(1));
    let other = a.open(Route::Peer(a.devices[0].media));
    a.command(0, MediaCommand::Route(Route::Peer(a.devices[other].media)));
    a.command(other, FLOW);
    a.greet(other);
    a.say(0, &silk60(true, 1));
    a.run(MS);
    assert_eq!((a.devices[0].heard.len(), a.devices[other].heard_fills()), (1, vec![1]));

    a.command(0, MediaCommand::Route(Route::Peer(b.devices[0].media)));
    b.command(0, MediaCommand::Route(Route::Peer(a.devices[0].media)));
    a.say(0, &silk60(true, 2));
    assert_eq!(a.lane.finish_turn(), 0b10, "the other lane has to be woken");
    b.run(MS);
    assert_eq!(b.devices[0].heard_fills(), [2]);
    b.say(0, &silk60(true, 3));
    assert_eq!(b.lane.finish_turn(), 0b01);
    a.run(MS * 100);
    assert_eq!(a.devices[0].heard_fills().last(), Some(&3));
    for _ in 0..1000 {
        b.say(0, &silk60(true, 4));
    }
    assert_eq!(inboxes[0].len(), 64, "a lane that does not come to it is not flooded");
}
