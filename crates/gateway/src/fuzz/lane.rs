//! Datagrams, true and false, and commands in any order into a lane.

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate, Time};

use super::far_end::FarEnd;
use super::source::Source;
use crate::lane::guest::Errand;
use crate::lane::guest::chat::Told;
use crate::lane::{Lane, LaneConfig};
use crate::media::{
    DownlinkFormat, Encryption, EventReceiver, Gate, MediaCommand, MediaEvent, MediaId, Open, ReplyId, Route,
    SessionKey, SourcePolicy, Transport, events,
};

const SESSIONS: usize = 4;
const LIMIT: usize = 64 << 10;

/// Any bytes as what devices, forgers and the control plane do to a lane: no packet leaves that the device cannot open,
/// none before its time, memory stays bounded, and closing gives all of it back.
pub fn lane(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut world = World::new();
    while !source.is_empty() {
        match source.byte() % 8 {
            0 => world.forge(&mut source),
            1 | 2 => world.speak(&mut source),
            3 => world.command(&mut source),
            4 | 5 => world.downlink(&mut source),
            6 => world.open(&mut source),
            _ => world.advance(Duration::from_micros(u64::from(source.byte()).pow(2) * 40)),
        }
        world.turn();
    }
    world.end();
}

struct World {
    lane: Lane,
    events: EventReceiver,
    now: Time,
    devices: [Option<Device>; SESSIONS],
    servers: [Option<FarEnd>; SESSIONS],
    serials: [u64; SESSIONS],
    next_serial: u64,
}

struct Device {
    transport: Transport,
    sealer: Sealer,
    opener: Opener,
    connection_id: u32,
    last_datagram: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (sender, events) = events(16);
        let config = LaneConfig { index: 0, max_sessions: SESSIONS, max_queued_bytes: LIMIT };
        let inboxes = vec![ArrayQueue::new(2)].into();
        let lane = Lane::new(config, || 7, sender, inboxes);
        let now = Time::from_millis(1000);
        let mut world = Self {
            lane,
            events,
            now,
            devices: [const { None }; SESSIONS],
            servers: [const { None }; SESSIONS],
            serials: [0; SESSIONS],
            next_serial: 1,
        };
        (0..SESSIONS).for_each(|n| world.open_at(n, &mut Source::new(&[n as u8, 0, 0])));
        world
    }

    fn open(&mut self, source: &mut Source<'_>) {
        let n = usize::from(source.byte()) % SESSIONS;
        let media = MediaId { lane: 0, serial: self.serials[n] };
        self.lane.handle_command(self.now, media, MediaCommand::Close);
        self.open_at(n, source);
    }

    fn open_at(&mut self, n: usize, source: &mut Source<'_>) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let media = MediaId { lane: 0, serial };
        let route = *source.pick(&[Route::Chat, Route::Echo, Route::Loopback, Route::Peer(media)]);
        let encryption = *source.pick(&[Encryption::Aes128Ctr, Encryption::Aes128Gcm]);
        let source_policy = *source.pick(&[SourcePolicy::Any, SourcePolicy::First]);
        let key = SessionKey::new(encryption, &[serial as u8; 32]);
        let connection_id = 0x100 + n as u32;
        let suite = Suite::from_name(encryption.name()).expect("it has that name");
        let keys = SessionKeys::new(suite, key.expose(), connection_id, b"fuzz").expect("the key fits");
        let transport = if serial % 4 == 3 { Transport::WebSocket } else { Transport::Udp };
        self.devices[n] = Some(Device {
            transport,
            sealer: Sealer::new(&keys, Direction::Uplink, 0),
            opener: Opener::new(&keys, Direction::Downlink, PayloadKind::Opus),
            connection_id,
            last_datagram: Vec::new(),
        });
        self.serials[n] = serial;
        let open = Open {
            transport,
            encryption,
            key,
            session_id: "fuzz".into(),
            connection_id,
            source: source_policy,
            downlink: DownlinkFormat {
                sample_rate: SampleRate::HZ_24000,
                frame_duration: FrameDuration::MS_60,
            },
            route,
            first_datagram_limit: Duration::from_secs(1),
            active_interval: Duration::from_secs(1),
        };
        self.lane.handle_command(self.now, media, MediaCommand::Open(Box::new(open)));
        self.join(n);
    }

    /// A chat server joins the session; where it does not fit it is told so.
    fn join(&mut self, n: usize) {
        let (server, guest) = FarEnd::new();
        self.servers[n] = Some(server);
        let media = MediaId { lane: 0, serial: self.serials[n] };
        self.lane.attach(self.now, media, guest, vec![n as u32]);
        self.lane.handle_command(self.now, media, FarEnd::GO_ON);
    }

    /// A true datagram, or one of before again.
    fn speak(&mut self, source: &mut Source<'_>) {
        let n = usize::from(source.byte()) % SESSIONS;
        let from = address(n, source.byte());
        let opus = opus(source);
        let replays = source.byte().is_multiple_of(8);
        let Some(device) = &mut self.devices[n] else { return };
        if device.transport == Transport::WebSocket {
            let media = MediaId { lane: 0, serial: self.serials[n] };
            let command = MediaCommand::Uplink { opus: opus.into(), timestamp: u32::from(source.byte()) };
            return self.lane.handle_command(self.now, media, command);
        }
        if !replays || device.last_datagram.is_empty() {
            let mut datagram = vec![0; opus.len() + device.sealer.overhead()];
            datagram[HEADER_LEN..HEADER_LEN + opus.len()].copy_from_slice(&opus);
            let sealed = device.sealer.seal_echo(&mut datagram, opus.len(), u32::from(source.byte()));
            sealed.expect("a packet that is not empty can be sealed");
            device.last_datagram = datagram;
        }
        self.lane.handle_datagram(self.now, from, &mut device.last_datagram.clone());
    }

    /// Any bytes, made to look like a datagram of a session.
    fn forge(&mut self, source: &mut Source<'_>) {
        let n = usize::from(source.byte()) % SESSIONS;
        let len = usize::from(source.byte());
        let mut datagram: Vec<u8> = (0..len).map(|_| source.byte()).collect();
        if let (Some(device), true) = (&self.devices[n], len >= HEADER_LEN) {
            datagram[0] = 1;
            datagram[2..4].copy_from_slice(&((len - HEADER_LEN) as u16).to_be_bytes());
            datagram[4..8].copy_from_slice(&device.connection_id.to_be_bytes());
        }
        self.lane.handle_datagram(self.now, address(n, source.byte()), &mut datagram);
    }

    /// What a chat server says: packets, texts, or anything, in whole frames or not.
    fn downlink(&mut self, source: &mut Source<'_>) {
        let n = usize::from(source.byte()) % SESSIONS;
        let count = source.byte() % 40;
        let opus = opus(source);
        let mut said: Vec<u8> = (0..count).flat_map(|i| FarEnd::say_audio(u32::from(i), &opus)).collect();
        match source.byte() % 8 {
            0 => said.extend(FarEnd::say(0x81, b"{\"type\":\"tts\"}")),
            1 => said.extend(FarEnd::say(source.byte(), &opus)),
            2 => said.extend((0..count).map(|_| source.byte())),
            3 => said.truncate(usize::from(source.byte())),
            4 if source.byte().is_multiple_of(4) => return self.join(n),
            _ => {}
        }
        let media = MediaId { lane: 0, serial: self.serials[n] };
        self.lane.handle_guest_bytes(self.now, media, &said);
    }

    fn command(&mut self, source: &mut Source<'_>) {
        let n = usize::from(source.byte()) % SESSIONS;
        let media = MediaId { lane: 0, serial: self.serials[n] };
        let peer = MediaId { lane: u16::from(source.byte() % 3), serial: self.serials[(n + 1) % SESSIONS] };
        let command = match source.byte() % 8 {
            0 => MediaCommand::Flush,
            1 => MediaCommand::Mark(ReplyId(source.byte().into())),
            2 => MediaCommand::Gate(Gate::Hold),
            3 => MediaCommand::Gate(Gate::Discard),
            4 => MediaCommand::Route(*source.pick(&[
                Route::Chat,
                Route::Echo,
                Route::Loopback,
                Route::Peer(peer),
            ])),
            5 if source.byte().is_multiple_of(4) => MediaCommand::Close,
            _ => MediaCommand::Gate(Gate::Flow { lead: Duration::from_millis(source.byte().into()) }),
        };
        self.lane.handle_command(self.now, media, command);
    }

    /// To a later time, as a thread would that may come late.
    fn advance(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(next) = self.lane.next_timeout().filter(|&next| next <= until) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = until;
    }

    fn turn(&mut self) {
        self.lane.handle_inbox(self.now);
        self.lane.handle_timeout(self.now);
        let mut datagram = [0; 1500];
        let before = self.lane.report();
        while let Some((_, len)) = self.lane.poll_transmit(self.now, &mut datagram) {
            let id = u32::from_be_bytes([datagram[4], datagram[5], datagram[6], datagram[7]]);
            let device = self.devices[id as usize - 0x100].as_mut().expect("a session that is open");
            assert_eq!(device.transport, Transport::Udp, "a datagram to a device that takes none");
            let opened = device.opener.open(&mut datagram[..len]).expect("the device can open it");
            assert!(opened.header.is_downlink() && opened.header.timestamp != 0);
        }
        self.lane.handle_transmitted(self.now);
        self.run_errands();
        assert!(self.lane.next_timeout().is_none_or(|next| next > self.now), "a turn leaves nothing undone");
        let after = self.lane.report();
        assert!(after.queued_bytes <= LIMIT as u64);
        assert!(after.sent - before.sent <= 64 * SESSIONS as u64, "a turn is bounded");
        self.lane.finish_turn();
        while let Some((_, event)) = self.events.try_next() {
            assert!(!matches!(event, MediaEvent::Failed(_)), "nothing was asked that cannot be");
        }
    }

    /// As a thread would whose sockets take what there is, but for every fifth.
    fn run_errands(&mut self) {
        while let Some(errand) = self.lane.poll_errand() {
            let Errand::Write(port) = errand else { continue };
            let n = port as usize;
            let at_most = if self.serials[n] % 5 == 4 { 100 } else { usize::MAX };
            let media = MediaId { lane: 0, serial: self.serials[n] };
            if let Some(server) = &mut self.servers[n] {
                self.lane.write_guest(self.now, media, |bytes| server.take(bytes, at_most));
                while server.frame().is_some() {}
            }
        }
        for (n, server) in self.servers.iter_mut().enumerate() {
            let Some(server) = server else { continue };
            while let Some(told) = server.told() {
                if matches!(told, Told::Text(_)) {
                    let media = MediaId { lane: 0, serial: self.serials[n] };
                    self.lane.handle_command(self.now, media, FarEnd::GO_ON);
                }
            }
        }
    }

    fn end(&mut self) {
        for serial in self.serials {
            self.lane.handle_command(self.now, MediaId { lane: 0, serial }, MediaCommand::Close);
        }
        self.turn();
        let report = self.lane.report();
        assert_eq!((report.sessions, report.queued_bytes), (0, 0), "closing gives all back");
    }
}

fn address(n: usize, port: u8) -> SocketAddr {
    SocketAddr::new([10, 0, 0, n as u8].into(), 1000 + u16::from(port % 2))
}

/// Something that is mostly an Opus packet.
fn opus(source: &mut Source<'_>) -> Vec<u8> {
    let any = source.byte();
    let toc = *source.pick(&[0x58, 0xf8, 0x48, 0xfc, 0x0b, any]);
    let len = usize::from(source.byte()) * if source.byte().is_multiple_of(16) { 5 } else { 1 };
    let mut opus = vec![source.byte(); len + 1];
    opus[0] = toc;
    opus
}
