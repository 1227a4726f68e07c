use super::*;
use std::collections::HashMap;

const BUFFERS: BufferSizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };

fn bind(address: &str) -> Socket {
    Socket::bind(address.parse().unwrap(), BUFFERS).unwrap()
}

fn put(sender: &mut Sender, to: SocketAddr, bytes: &[u8]) -> bool {
    sender.push(|buffer| {
        buffer[..bytes.len()].copy_from_slice(bytes);
        Some((to, bytes.len()))
    })
}

fn take(receiver: &mut Receiver, socket: &Socket) -> Vec<(SocketAddr, Vec<u8>)> {
    receiver.receive(socket).unwrap();
    receiver.datagrams().map(|(from, bytes)| (from, bytes.to_vec())).collect()
}

#[test]
fn a_batch_goes_to_many_and_comes_from_many() {
    let (hub, mut sender, mut receiver) = (bind("127.0.0.1:0"), Sender::new(), Receiver::new());
    let spokes = [(); 5].map(|()| bind("127.0.0.1:0"));
    let mut sent = 0;
    for i in 0..BATCH as u8 {
        let to = spokes[usize::from(i) % 5].local_addr().unwrap();
        assert!(put(&mut sender, to, &[i; 3][..usize::from(i % 4)]));
    }
    assert!(sender.is_full() && !put(&mut sender, NOWHERE, &[]));
    sent += sender.send(&hub).sent;
    assert_eq!((sent, sender.is_empty(), sender.is_full()), (BATCH, true, false));
    for (s, spoke) in spokes.iter().enumerate() {
        let got = take(&mut receiver, spoke);
        let expected: Vec<_> =
            (s as u8..BATCH as u8).step_by(5).map(|i| vec![i; usize::from(i % 4)]).collect();
        assert_eq!(got.iter().map(|g| g.1.clone()).collect::<Vec<_>>(), expected);
        assert!(got.iter().all(|g| g.0 == hub.local_addr().unwrap()));
        put(&mut sender, hub.local_addr().unwrap(), &[s as u8]);
        sender.send(spoke);
    }
    let by_source: HashMap<_, _> = take(&mut receiver, &hub).into_iter().collect();
    for (s, spoke) in spokes.iter().enumerate() {
        assert_eq!(by_source[&spoke.local_addr().unwrap()], [s as u8]);
    }
    assert_eq!(receiver.receive(&hub).unwrap(), 0);
    assert_eq!(receiver.datagrams().count(), 0);
}

#[test]
fn more_than_a_batch_is_taken_in_turns_and_in_order() {
    let (a, b, mut sender, mut receiver) =
        (bind("127.0.0.1:0"), bind("127.0.0.1:0"), Sender::new(), Receiver::new());
    for i in 0..80u8 {
        if sender.is_full() {
            sender.send(&a);
        }
        put(&mut sender, b.local_addr().unwrap(), &[i]);
    }
    sender.send(&a);
    let (mut got, mut turns) = (Vec::new(), Vec::new());
    while receiver.receive(&b).unwrap() > 0 {
        let taken: Vec<u8> = receiver.datagrams().map(|(_, bytes)| bytes[0]).collect();
        turns.push(taken.len());
        got.extend(taken);
    }
    assert_eq!(got, (0..80).collect::<Vec<_>>());
    assert_eq!(turns, [32, 32, 16]);
}

#[test]
fn a_datagram_that_is_refused_does_not_lose_the_others() {
    let (a, b, mut sender, mut receiver) =
        (bind("127.0.0.1:0"), bind("127.0.0.1:0"), Sender::new(), Receiver::new());
    let to = b.local_addr().unwrap();
    // Port 0 and an address of the other family cannot be sent to.
    for bad in ["127.0.0.1:0", "[::1]:9"] {
        for to in [bad.parse().unwrap(), to, bad.parse().unwrap(), bad.parse().unwrap(), to] {
            put(&mut sender, to, &[1]);
        }
        let result = sender.send(&a);
        assert_eq!((result.sent, result.refused, result.waiting), (2, 3, 0), "{bad}");
        assert!(result.error.is_some());
        assert_eq!(receiver.receive(&b).unwrap(), 2);
    }
}

#[test]
fn one_that_is_too_long_is_cut() {
    let (a, b, mut receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"), Receiver::new());
    a.inner.send_to(&[7; 5000], b.local_addr().unwrap()).unwrap();
    assert_eq!(take(&mut receiver, &b)[0].1, [7; MAX_DATAGRAM]);
}

#[test]
fn an_unspecified_ipv6_socket_speaks_both() {
    let Ok(both) = Socket::bind("[::]:0".parse().unwrap(), BUFFERS) else {
        return; // no IPv6 on this machine
    };
    let port = both.local_addr().unwrap().port();
    let (mut sender, mut receiver) = (Sender::new(), Receiver::new());
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(peer) = Socket::bind(local.parse().unwrap(), BUFFERS) else { continue };
        let peer_address = peer.local_addr().unwrap();
        put(&mut sender, SocketAddr::new(peer_address.ip(), port), b"up");
        assert_eq!(sender.send(&peer).sent, 1);
        assert_eq!(take(&mut receiver, &both), [(peer_address, b"up".to_vec())]);
        put(&mut sender, peer_address, b"down");
        assert_eq!(sender.send(&both).sent, 1);
        assert_eq!(take(&mut receiver, &peer)[0].1, b"down");
    }
}

#[test]
fn buffers_are_as_asked_or_as_the_kernel_allows() {
    let small = BufferSizes { receive: 64 << 10, send: 64 << 10 };
    let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), small).unwrap();
    assert_eq!(socket.buffer_sizes().unwrap(), small);
    let huge = BufferSizes { receive: 1 << 30, send: 1 << 30 };
    let granted = Socket::bind("127.0.0.1:0".parse().unwrap(), huge).unwrap().buffer_sizes().unwrap();
    assert!(granted.receive >= 64 << 10 && granted.receive <= 1 << 30, "{granted:?}");
}

#[test]
fn the_portable_calls_do_the_same() {
    let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let (mut buffers, mut places) = (vec![[0; MAX_DATAGRAM]; BATCH], [(NOWHERE, 0); BATCH]);
    assert!(single::receive(&b.inner, false, &mut buffers, &mut places).is_err());
    for (i, buffer) in buffers.iter_mut().enumerate() {
        buffer[0] = i as u8;
        places[i] = (b.local_addr().unwrap(), 1);
    }
    places[4].0.set_port(0);
    assert_eq!(single::send(&a.inner, false, &buffers, &places, 0..9).unwrap(), 4);
    assert!(single::send(&a.inner, false, &buffers, &places, 4..9).is_err());
    assert_eq!(single::send(&a.inner, false, &buffers, &places, 5..9).unwrap(), 4);
    assert_eq!(single::receive(&b.inner, false, &mut buffers, &mut places).unwrap(), 8);
    let got: Vec<_> = buffers.iter().zip(&places).take(8).map(|(b, p)| (b[0], *p)).collect();
    assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>(), [0, 1, 2, 3, 5, 6, 7, 8]);
    assert!(got.iter().all(|g| g.1 == (a.local_addr().unwrap(), 1)));
}
