//! Datagrams that were not sent by the device move no call's address, sequence or audio.

use super::*;

/// A device in the middle of a call, at packet 10.
fn in_call(source: SourcePolicy) -> (Rig, usize) {
    let mut rig = Rig::new();
    let n = rig.open_as(Open { source, ..Rig::open_request(0, Route::Chat) });
    for _ in 0..10 {
        rig.say(n, &silk60(true, 1));
        rig.run(MS * 60);
    }
    rig.command(n, FLOW);
    rig.drain();
    rig.server_heard(n);
    (rig, n)
}

/// The call goes on as if nothing had been: the device's next packet is heard, and the answer goes to its address.
fn is_unmoved(rig: &mut Rig, n: usize) {
    assert!(rig.server_heard(n).is_empty() && rig.drain().is_empty(), "the room hears nothing of it");
    let before = rig.devices[n].heard.len();
    rig.say(n, &silk60(true, 2));
    assert_eq!(rig.server_heard(n).len(), 1);
    rig.downlink(n, silk60(true, 3), 0);
    rig.run(MS * 100);
    assert_eq!(rig.devices[n].heard.len(), before + 1);
    rig.drain();
}

const HOME: SourcePolicy = SourcePolicy::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 0)));

fn forged(connection_id: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len() as u16;
    let header = Header { flags: 0, payload_len, connection_id, timestamp: 0, sequence };
    [&header.emit()[..], payload].concat()
}

#[test]
fn forged_datagrams_move_nothing() {
    for policy in [HOME, SourcePolicy::First, SourcePolicy::Any] {
        let (mut rig, n) = in_call(policy);
        let device = rig.devices[n].address;
        let attacker = address("192.0.2.66:6666");
        let id = 0x7000_0000;
        // What the payload decrypts to cannot be foreseen, but these are refused before or whatever it is.
        type Attempt = (&'static str, Vec<u8>, SocketAddr, fn(Refused) -> u64);
        let attempts: [Attempt; 8] = [
            ("stale sequence", forged(id, u32::MAX - 60, &[1; 90]), device, |r| r.stale),
            ("replayed sequence", forged(id, 7, &[1; 90]), device, |r| r.replayed),
            (
                "payload longer than the datagram",
                {
                    let mut datagram = forged(id, 11, &[1; 90]);
                    datagram.truncate(60);
                    datagram
                },
                device,
                |r| r.malformed,
            ),
            ("no payload", forged(id, 11, &[]), device, |r| r.malformed),
            ("wrong type", [&[2][..], &forged(id, 11, &[1; 90])[1..]].concat(), device, |_| 1),
            ("a header cut short", forged(id, 11, &[])[..15].to_vec(), device, |_| 1),
            ("reflected downlink", [&[1, 0x80][..], &forged(id, 11, &[1; 90])[2..]].concat(), device, |r| {
                r.malformed
            }),
            ("guessed id", forged(id + 77, 11, &[1; 90]), attacker, |_| 1),
        ];
        for (what, datagram, from, counted) in attempts {
            let before = rig.lane.report();
            rig.lane.handle_datagram(rig.now, from, &mut datagram.clone());
            let after = rig.lane.report();
            let total = |report: &LaneReport| report.refused.total() + report.unknown;
            assert_eq!(total(&after), total(&before) + 1, "{what} is counted");
            assert!(counted(after.refused) >= 1, "{what} is counted as what it is: {:?}", after.refused);
            is_unmoved(&mut rig, n);
        }
        assert_eq!(rig.close(n).lost, 0);
    }
}

#[test]
fn payloads_that_are_no_opus_move_nothing() {
    let (mut rig, n) = in_call(HOME);
    let device = rig.devices[n].address;
    let attacker = SocketAddr::new(device.ip(), 6666);
    // The attacker has seen a packet of the device and flips bits, as AES-CTR lets it.
    let mut seen = rig.devices[n].seal(&silk60(true, 0));
    seen[HEADER_LEN] ^= 0x58 ^ 0x03;
    seen[HEADER_LEN + 1] ^= 0xe0;
    rig.lane.handle_datagram(rig.now, attacker, &mut seen);
    assert_eq!(rig.lane.report().refused.malformed, 1);
    is_unmoved(&mut rig, n);
}

#[test]
fn a_far_sequence_needs_three_that_agree() {
    let (mut rig, n) = in_call(HOME);
    let device = rig.devices[n].address;
    // Sequences of a device that restarted its count, which looks the same as an attack with known keystream.
    let suite = Suite::Aes128Ctr;
    let keys = SessionKeys::new(suite, &[1; 16], 0x7000_0000, b"s0").unwrap();
    let mut far = Sealer::new(&keys, Direction::Uplink, 0);
    let mut next = |skip: usize| {
        let mut datagram = vec![0; HEADER_LEN + 92];
        for _ in 0..=skip {
            datagram = vec![0; HEADER_LEN + 92];
            datagram[HEADER_LEN..].copy_from_slice(&silk60(true, 5));
            far.seal_echo(&mut datagram, 92, 0).unwrap();
        }
        datagram
    };
    let mut one = next(20_000);
    rig.lane.handle_datagram(rig.now, device, &mut one);
    assert_eq!(rig.lane.report().refused.far, 1);
    is_unmoved(&mut rig, n);
    for expected in [2, 3] {
        rig.lane.handle_datagram(rig.now, device, &mut next(0));
        assert_eq!(rig.lane.report().refused.far, expected);
        assert!(rig.server_heard(n).is_empty());
    }
    rig.lane.handle_datagram(rig.now, device, &mut next(0));
    assert_eq!(rig.server_heard(n).len(), 1, "the third in a row is believed");
    assert_eq!(rig.close(n).lost, 0, "and nothing counts as lost for it");
}

#[test]
fn replayed_datagrams_move_nothing_wherever_they_come_from() {
    for policy in [HOME, SourcePolicy::Any] {
        let (mut rig, n) = in_call(policy);
        let datagram = rig.devices[n].seal(&silk60(true, 1));
        let device = rig.devices[n].address;
        rig.lane.handle_datagram(rig.now, device, &mut datagram.clone());
        rig.server_heard(n);
        for from in [device, SocketAddr::new(device.ip(), 1), address("192.0.2.1:5")] {
            rig.lane.handle_datagram(rig.now, from, &mut datagram.clone());
            is_unmoved(&mut rig, n);
        }
        assert_eq!(rig.close(n).refused, 3);
    }
}

#[test]
fn a_late_datagram_does_not_move_the_address_back() {
    let (mut rig, n) = in_call(HOME);
    let old = rig.devices[n].seal(&silk60(true, 1));
    rig.devices[n].address.set_port(7000);
    rig.by_address.insert(rig.devices[n].address, n);
    rig.say(n, &silk60(true, 1));
    rig.lane.handle_datagram(rig.now, address("10.0.0.0:5000"), &mut old.clone());
    rig.by_address.remove(&address("10.0.0.0:5000"));
    rig.server_heard(n);
    is_unmoved(&mut rig, n);
}

#[test]
fn the_address_moves_as_the_policy_says() {
    let (near, far) = (address("10.0.0.0:7777"), address("198.51.100.9:9"));
    for (policy, follows_near, follows_far) in
        [(HOME, true, false), (SourcePolicy::Any, true, true), (SourcePolicy::First, false, false)]
    {
        for (to, follows) in [(near, follows_near), (far, follows_far)] {
            let (mut rig, n) = in_call(policy);
            let home = rig.devices[n].address;
            rig.by_address.insert(to, n);
            rig.devices[n].address = to;
            rig.say(n, &silk60(true, 1));
            assert_eq!(rig.server_heard(n).len(), usize::from(follows), "{policy:?} {to}");
            assert_eq!(rig.lane.report().refused.source, u64::from(!follows));
            rig.downlink(n, silk60(true, 9), 0);
            rig.by_address.remove(if follows { &home } else { &to });
            rig.run(MS * 10);
            assert_eq!(rig.devices[n].heard.len(), 1, "{policy:?} {to}");
        }
    }
}

#[test]
fn with_a_tag_no_bit_can_be_changed() {
    let mut rig = Rig::new();
    let encryption = Encryption::Aes128Gcm;
    let key = SessionKey::new(encryption, &[9; 32]);
    let n = rig.open_as(Open { encryption, key, ..Rig::open_request(0, Route::Chat) });
    rig.greet(n);
    rig.command(n, FLOW);
    let from = rig.devices[n].address;
    let datagram = rig.devices[n].seal(&silk60(true, 4));
    for at in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        rig.lane.handle_datagram(rig.now, from, &mut changed);
    }
    let report = rig.lane.report();
    assert_eq!(report.refused.total() + report.unknown, datagram.len() as u64);
    rig.server_heard(n);
    rig.lane.handle_datagram(rig.now, from, &mut datagram.clone());
    assert_eq!(rig.server_heard(n).len(), 1, "the true one is still let in");
}
