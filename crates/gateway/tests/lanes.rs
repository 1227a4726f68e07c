//! Running lanes, with real sockets and threads.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use evenkeel_core::packet::{HEADER_LEN, Header};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_gateway::chat::Connection;
use evenkeel_gateway::fuzz::FarEnd;
use evenkeel_gateway::lane::guest::chat::{ChatGuest, Told};
use evenkeel_gateway::lane::guest::{Arrival, Guest, Link};
use evenkeel_gateway::lane::stream::Stream;
use evenkeel_gateway::lane::{Lanes, PlaneConfig};
use evenkeel_gateway::media::GuestId;
use evenkeel_gateway::media::{
    DownlinkFormat, Encryption, EventReceiver, Gate, MediaCommand, MediaEvent, MediaId, MediaPlane, Open,
    PlaceError, Placement, Route, SendError, SessionKey, SourcePolicy, Transport,
};

const LIMIT: Duration = Duration::from_secs(20);

fn start(lanes: usize) -> (Lanes, Vec<EventReceiver>) {
    let config = PlaneConfig {
        lanes,
        address: Ipv4Addr::LOCALHOST.into(),
        first_port: 0,
        together: 1,
        ..PlaneConfig::default()
    };
    let next = Arc::new(AtomicU32::new(1));
    Lanes::start(config, counting(next, 0x9e37_79b9)).unwrap()
}

/// Numbers that are all unlike, for want of a CSPRNG.
fn counting(next: Arc<AtomicU32>, step: u32) -> impl Fn(&mut [u8]) + Send + Clone + 'static {
    move |bytes| {
        for number in bytes.as_chunks_mut::<4>().0 {
            *number = next.fetch_add(step, Ordering::Relaxed).to_ne_bytes();
        }
    }
}

struct Device {
    media: MediaId,
    connection_id: u32,
    socket: UdpSocket,
    sealer: Sealer,
    opener: Opener,
}

impl Device {
    fn open(plane: &dyn MediaPlane, route: Route) -> Self {
        let Placement { media, host, port, connection_id } = plane.place().unwrap();
        let key = SessionKey::new(Encryption::Aes128Ctr, &[7; 32]);
        let keys = SessionKeys::new(Suite::Aes128Ctr, key.expose(), connection_id, b"s").unwrap();
        let open = Open {
            transport: Transport::Udp,
            encryption: Encryption::Aes128Ctr,
            key,
            session_id: "s".into(),
            connection_id,
            source: SourcePolicy::First,
            downlink: DownlinkFormat {
                sample_rate: SampleRate::HZ_24000,
                frame_duration: FrameDuration::MS_60,
            },
            route,
            first_datagram_limit: LIMIT,
            active_interval: LIMIT,
        };
        plane.send(media, MediaCommand::Open(Box::new(open))).unwrap();
        plane.send(media, MediaCommand::Gate(Gate::Flow { lead: Duration::ZERO })).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect(SocketAddr::new(host.parse().unwrap(), port)).unwrap();
        let sealer = Sealer::new(&keys, Direction::Uplink, 0);
        let opener = Opener::new(&keys, Direction::Downlink, PayloadKind::Opus);
        Self { media, connection_id, socket, sealer, opener }
    }

    fn say(&mut self, number: u8) {
        let mut datagram = [0; HEADER_LEN + 50];
        datagram[HEADER_LEN..].fill(number);
        datagram[HEADER_LEN] = 0x58;
        self.sealer.seal_echo(&mut datagram, 50, 0).unwrap();
        self.socket.send(&datagram).unwrap();
    }

    fn hear(&mut self) -> u8 {
        let mut datagram = [0; 1500];
        let len = self.socket.recv(&mut datagram).expect("something is heard in time");
        *self.opener.open(&mut datagram[..len]).unwrap().payload.last().unwrap()
    }
}

async fn next(events: &mut EventReceiver) -> MediaEvent {
    loop {
        let event = tokio::time::timeout(LIMIT, events.next()).await.expect("an event comes in time").1;
        if !matches!(event, MediaEvent::Stats(_) | MediaEvent::AudioActive) {
            return event;
        }
    }
}

#[test]
fn devices_hear_themselves_and_each_other() {
    let (lanes, _events) = start(2);
    let plane = lanes.plane();
    let mut devices: Vec<_> = (0..6).map(|_| Device::open(&*plane, Route::Loopback)).collect();
    assert!((0..2).all(|lane| devices.iter().filter(|d| d.media.lane == lane).count() == 3), "spread evenly");
    for round in 0..3 {
        for device in &mut devices {
            device.say(round);
            assert_eq!(device.hear(), round);
        }
    }
    let (a, b) = (0, (1..6).find(|&i| devices[i].media.lane != devices[0].media.lane).unwrap());
    for (one, other) in [(a, b), (b, a)] {
        let peer = devices[other].media;
        plane.send(devices[one].media, MediaCommand::Route(Route::Peer(peer))).unwrap();
    }
    // Commands are carried out before what comes after them is received, or a turn later.
    std::thread::sleep(Duration::from_millis(20));
    for (one, other) in [(a, b), (b, a)] {
        devices[one].say(77);
        assert_eq!(devices[other].hear(), 77);
    }
}

#[test]
fn a_flood_of_forged_datagrams_is_counted_and_felt_by_no_call() {
    const ROUNDS: u32 = 32;
    let (lanes, _events) = start(1);
    let plane = lanes.plane();
    let mut devices: Vec<_> = (0..3).map(|_| Device::open(&*plane, Route::Loopback)).collect();
    let target = devices[0].socket.peer_addr().unwrap();
    let strangers: Vec<_> = (0..16).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let known = devices[0].connection_id;
    let mut sent = 0;
    for device in &mut devices {
        device.say(1);
        assert_eq!(device.hear(), 1);
    }
    for round in 0..ROUNDS {
        for (at, stranger) in strangers.iter().enumerate() {
            let far = 0x4000_0000 + round * 10_000;
            let garbage = [round as u8 ^ 0x5a; 60];
            let forged = |id: u32, sequence: u32, payload: &[u8]| {
                let payload_len = payload.len() as u16;
                let header = Header { flags: 0, payload_len, connection_id: id, timestamp: 0, sequence };
                [&header.emit()[..], payload].concat()
            };
            let datagrams = [
                forged(known ^ (1 << (round % 32)), round, &garbage),
                forged(known, 0, &garbage),
                forged(known, far, &garbage),
                forged(known, round + 2, &[]),
                forged(known, round + 2, &garbage)[..40].to_vec(),
                vec![at as u8; round as usize % 20],
            ];
            for datagram in &datagrams {
                stranger.send_to(datagram, target).unwrap();
                sent += 1;
            }
        }
        // Each call goes on, packet by packet, and to its own address.
        for device in &mut devices {
            device.say(round as u8);
            assert_eq!(device.hear(), round as u8);
        }
    }
    let counted = || {
        let report = &plane.lanes()[0];
        report.refused.total() + report.unknown
    };
    for _ in 0..200 {
        if counted() == sent {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(counted(), sent, "each is counted, once");
    for stranger in strangers {
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.recv(&mut [0; 100]).is_err(), "strangers are told nothing");
    }
}

/// The gateway's end of a connection to a chat server, with TLS or without, and the server's.
fn connection(tls: bool) -> (Stream, Box<dyn ReadWrite>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(LIMIT)).unwrap();
    if !tls {
        return (Stream::new(near, None).unwrap(), Box::new(far));
    }
    let (server, client) = tls_pair();
    let server = std::thread::spawn(move || {
        let mut server = rustls::ServerConnection::new(server).unwrap();
        server.complete_io(&mut far).unwrap();
        rustls::StreamOwned::new(server, far)
    });
    let mut session = rustls::ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut near).unwrap();
    }
    (Stream::new(near, Some(session)).unwrap(), Box::new(server.join().unwrap()))
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn tls_pair() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

#[tokio::test]
async fn a_chat_server_hears_and_speaks_with_tls_and_without() {
    for tls in [false, true] {
        let (lanes, mut events) = start(1);
        let plane = lanes.plane();
        let mut device = Device::open(&*plane, Route::Chat);
        let (stream, mut server) = connection(tls);
        let (_requests, asked) = tokio::sync::mpsc::channel(4);
        let (tell, mut told) = tokio::sync::mpsc::channel(4);
        let guest = Guest::Chat(Box::new(ChatGuest::new(GuestId(3), Connection::default(), asked, tell)));
        let arrival = Arrival { guest, links: vec![Link::Stream(stream)] };
        assert!(plane.attach(device.media, Box::new(arrival)));
        plane.send(device.media, MediaCommand::GoOn(GuestId(3))).unwrap();
        device.say(9);
        assert!(matches!(next(&mut events[0]).await, MediaEvent::FirstDatagram { .. }));
        // Head, mask, header, packet.
        let mut frame = [0; 2 + 4 + 16 + 50];
        server.read_exact(&mut frame).unwrap();
        assert_eq!(frame[..2], [0x82, 0x80 | 66]);
        assert_eq!(frame[71] ^ frame[2 + 65 % 4], 9);
        // More than is read at once.
        let burst: Vec<u8> =
            (0..100u8).flat_map(|i| FarEnd::say_audio(0, &[&[0x58][..], &[i; 80]].concat())).collect();
        server.write_all(&burst).unwrap();
        server.flush().unwrap();
        assert_eq!(next(&mut events[0]).await, MediaEvent::DownlinkWaiting);
        for i in 0..4 {
            assert_eq!(device.hear(), i);
        }
        server.write_all(&FarEnd::say(0x81, b"a text")).unwrap();
        server.flush().unwrap();
        let text = tokio::time::timeout(LIMIT, told.recv()).await.unwrap();
        assert!(matches!(text, Some(Told::Text(text)) if text == b"a text"));
        plane.send(device.media, MediaCommand::Close).unwrap();
        let MediaEvent::Closed(stats) = next(&mut events[0]).await else { panic!() };
        assert_eq!((stats.received, stats.lost), (1, 0));
        assert_eq!(stats.sent + stats.dropped, 100, "all of the burst came");
        let left = tokio::time::timeout(LIMIT, told.recv()).await.unwrap();
        assert!(matches!(left, Some(Told::Left(_))), "the connection comes back");
        let mut report = plane.lanes().remove(0);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            report = plane.lanes().remove(0);
            if (report.sessions, report.received) == (0, 1) {
                break;
            }
        }
        assert_eq!((report.sessions, report.received, report.queued_bytes), (0, 1, 0));
    }
}

#[test]
fn placements_are_bounded_and_given_back() {
    let config = PlaneConfig {
        lanes: 2,
        address: Ipv4Addr::LOCALHOST.into(),
        first_port: 0,
        together: 1,
        lane: evenkeel_gateway::lane::LaneConfig { max_sessions: 3, ..Default::default() },
        ..PlaneConfig::default()
    };
    let (lanes, _events) = Lanes::start(config, |bytes: &mut [u8]| bytes.fill(7)).unwrap();
    let plane = lanes.plane();
    // One number for all: only one session a lane can have it.
    let placements: Vec<_> = (0..2).map(|_| plane.place().unwrap()).collect();
    assert_ne!(placements[0].media.lane, placements[1].media.lane);
    plane.release(placements[0].media);
    assert_eq!(plane.place().unwrap().media.lane, placements[0].media.lane);
    lanes.drain();
    assert_eq!(plane.place(), Err(PlaceError::Draining));
    let stale = MediaId { lane: 9, serial: 1 };
    assert_eq!(plane.send(stale, MediaCommand::Flush), Err(SendError::Gone));
    drop(lanes);
    assert_eq!(plane.send(placements[1].media, MediaCommand::Flush), Err(SendError::Gone));
}

#[test]
fn a_lane_is_filled_before_the_next_is_woken() {
    let config = PlaneConfig {
        lanes: 3,
        address: Ipv4Addr::LOCALHOST.into(),
        first_port: 0,
        together: 4,
        lane: evenkeel_gateway::lane::LaneConfig { max_sessions: 5, ..Default::default() },
        ..PlaneConfig::default()
    };
    let next = Arc::new(AtomicU32::new(1));
    let (lanes, _events) = Lanes::start(config, counting(next, 1)).unwrap();
    let plane = lanes.plane();
    let placed: Vec<_> = (0..15).map(|_| plane.place().unwrap().media.lane).collect();
    assert_eq!(placed, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 1, 2]);
    assert_eq!(plane.place(), Err(PlaceError::Full));
}

#[test]
fn a_full_plane_says_so() {
    let config = PlaneConfig {
        lanes: 1,
        address: Ipv4Addr::LOCALHOST.into(),
        first_port: 0,
        lane: evenkeel_gateway::lane::LaneConfig { max_sessions: 3, ..Default::default() },
        ..PlaneConfig::default()
    };
    let next = Arc::new(AtomicU32::new(1));
    let (lanes, _events) = Lanes::start(config, counting(next, 1)).unwrap();
    let plane = lanes.plane();
    let ids: Vec<_> = (0..3).map(|_| plane.place().unwrap().connection_id).collect();
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 3);
    assert_eq!(plane.place(), Err(PlaceError::Full));
}
