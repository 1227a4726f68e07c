//! A lane and devices on virtual time.

mod attack;
mod pacing;
mod rooms;
mod servers;
mod sessions;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use evenkeel_core::packet::{HEADER_LEN, Header};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate, Time};

use super::guest::chat::Told;
use super::*;
use crate::fuzz::FarEnd;
use crate::media::{
    DownlinkFormat, Encryption, EventReceiver, Gate, MediaStats, Refused, ReplyId, Route, SessionKey,
    SourcePolicy, Transport, events,
};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const FLOW: MediaCommand = MediaCommand::Gate(Gate::Flow { lead: Duration::ZERO });

/// A packet of one SILK frame of 60 ms (wideband) with the voice flags given.
pub(super) fn silk60(is_voice: bool, fill: u8) -> Vec<u8> {
    [&[0x58, if is_voice { 0xe0 } else { 0 }][..], &[fill; 90]].concat()
}

/// A packet of one CELT frame of 20 ms.
pub(super) fn celt20(fill: u8) -> Vec<u8> {
    [&[0xf8][..], &[fill; 60]].concat()
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A device: seals what it says, opens what it is sent.
pub(super) struct Device {
    pub(super) media: MediaId,
    pub(super) address: SocketAddr,
    pub(super) sealer: Sealer,
    opener: Opener,
    /// Its chat server, if its route has one.
    pub(super) server: Option<FarEnd>,
    /// Its lane reads what the server says.
    pub(super) is_read: bool,
    /// Arrived: when, the header, the Opus packet.
    pub(super) heard: Vec<(Time, Header, Vec<u8>)>,
}

impl Device {
    pub(super) fn seal(&mut self, opus: &[u8]) -> Vec<u8> {
        self.seal_echo(opus, 0)
    }

    pub(super) fn seal_echo(&mut self, opus: &[u8], timestamp: u32) -> Vec<u8> {
        let mut datagram = vec![0; opus.len() + self.sealer.overhead()];
        datagram[HEADER_LEN..HEADER_LEN + opus.len()].copy_from_slice(opus);
        self.sealer.seal_echo(&mut datagram, opus.len(), timestamp).unwrap();
        datagram
    }

    /// When packets came, in ms since the lane began.
    pub(super) fn heard_at(&self) -> Vec<u64> {
        self.heard.iter().map(|h| h.0.as_nanos() / 1_000_000).collect()
    }

    /// The last byte of each packet that came: what tests number them by.
    pub(super) fn heard_fills(&self) -> Vec<u8> {
        self.heard.iter().filter_map(|h| h.2.last().copied()).collect()
    }
}

/// A lane, its devices, its control plane, and what time it is.
pub(super) struct Rig {
    pub(super) lane: Lane,
    pub(super) events: EventReceiver,
    pub(super) devices: Vec<Device>,
    pub(super) now: Time,
    by_address: HashMap<SocketAddr, usize>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(LaneConfig::default(), 4096)
    }

    pub(super) fn with(config: LaneConfig, queue: usize) -> Self {
        let inboxes: Vec<_> = (0..2).map(|_| ArrayQueue::new(64)).collect();
        Self::in_plane(config, queue, inboxes.into())
    }

    pub(super) fn in_plane(config: LaneConfig, queue: usize, inboxes: Inboxes) -> Self {
        let (sender, events) = events(queue);
        let mut random = 0x1234_5678u32;
        let random = move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random
        };
        let lane = Lane::new(config, random, sender, inboxes);
        let now = Time::from_millis(0);
        Self { lane, events, devices: Vec::new(), now, by_address: HashMap::new() }
    }

    pub(super) fn open_request(n: usize, route: Route) -> Open {
        Open {
            transport: Transport::Udp,
            encryption: Encryption::Aes128Ctr,
            key: SessionKey::new(Encryption::Aes128Ctr, &[n as u8 + 1; 32]),
            session_id: format!("s{n}"),
            connection_id: 0x7000_0000 + n as u32,
            source: SourcePolicy::Ip([10, 0, 0, n as u8].into()),
            downlink: DownlinkFormat {
                sample_rate: SampleRate::HZ_24000,
                frame_duration: FrameDuration::MS_60,
            },
            route,
            first_datagram_limit: Duration::from_secs(10),
            active_interval: Duration::from_secs(1),
        }
    }

    /// Opens a session for a device at 10.0.0.n; returns n.
    pub(super) fn open(&mut self, route: Route) -> usize {
        let n = self.devices.len();
        self.open_as(Self::open_request(n, route))
    }

    pub(super) fn open_as(&mut self, open: Open) -> usize {
        let n = self.devices.len();
        let media = MediaId { lane: self.lane.config.index, serial: 100 + n as u64 };
        let suite = Suite::from_name(open.encryption.name()).unwrap();
        let keys = SessionKeys::new(suite, open.key.expose(), open.connection_id, open.session_id.as_bytes())
            .unwrap();
        let address = SocketAddr::new([10, 0, 0, n as u8].into(), 5000);
        self.by_address.insert(address, n);
        self.devices.push(Device {
            media,
            address,
            sealer: Sealer::new(&keys, Direction::Uplink, 0),
            opener: Opener::new(&keys, Direction::Downlink, PayloadKind::Opus),
            server: None,
            is_read: true,
            heard: Vec::new(),
        });
        let has_server = open.route == Route::Chat;
        self.command(n, MediaCommand::Open(Box::new(open)));
        if has_server {
            self.join(n);
            self.go_on(n);
        }
        n
    }

    /// A chat server joins; what comes of it waits until [`Rig::go_on`].
    pub(super) fn join(&mut self, n: usize) {
        let (server, guest) = FarEnd::new();
        let media = self.devices[n].media;
        self.devices[n].server = Some(server);
        self.lane.attach(self.now, media, guest, vec![n as u32]);
    }

    /// Its room has dealt with the last text.
    pub(super) fn go_on(&mut self, n: usize) {
        self.command(n, FarEnd::GO_ON);
    }

    /// Its room says this to it.
    pub(super) fn ask(&mut self, n: usize, text: &str) {
        if let Some(server) = &self.devices[n].server {
            server.ask(text);
        }
        self.command(n, MediaCommand::Nudge);
    }

    /// The chat server says this, a whole frame or not.
    pub(super) fn server_says(&mut self, n: usize, bytes: &[u8]) {
        let media = self.devices[n].media;
        self.lane.handle_guest_bytes(self.now, media, bytes);
    }

    /// What the chat server heard since: timestamps and packets.
    pub(super) fn server_heard(&mut self, n: usize) -> Vec<(u32, Vec<u8>)> {
        self.run_errands();
        self.devices[n].server.as_mut().map_or_else(Vec::new, FarEnd::heard)
    }

    /// What the room was told since.
    pub(super) fn told(&mut self, n: usize) -> Vec<Told> {
        let server = &mut self.devices[n].server;
        std::iter::from_fn(|| server.as_mut()?.told()).collect()
    }

    /// As a thread would whose sockets take all there is.
    pub(super) fn run_errands(&mut self) {
        while let Some(errand) = self.lane.poll_errand() {
            match errand {
                Errand::Write(port) => {
                    let Device { media, server, .. } = &mut self.devices[port as usize];
                    let server = server.as_mut().expect("only servers are written to");
                    self.lane.write_guest(self.now, *media, |bytes| server.take(bytes, usize::MAX));
                }
                Errand::Pause(port) => self.devices[port as usize].is_read = false,
                Errand::Resume(port) => self.devices[port as usize].is_read = true,
                _ => {}
            }
        }
    }

    pub(super) fn command(&mut self, n: usize, command: MediaCommand) {
        let media = self.devices[n].media;
        self.lane.handle_command(self.now, media, command);
    }

    /// The chat server says a packet.
    pub(super) fn downlink(&mut self, n: usize, opus: Vec<u8>, timestamp: u32) {
        self.server_says(n, &FarEnd::say_audio(timestamp, &opus));
    }

    /// The device says a packet now, from its own address.
    pub(super) fn say(&mut self, n: usize, opus: &[u8]) {
        let mut datagram = self.devices[n].seal(opus);
        let from = self.devices[n].address;
        self.lane.handle_datagram(self.now, from, &mut datagram);
    }

    /// The device is heard of for the first time, by a packet without voice; nothing is left of that in the events.
    pub(super) fn greet(&mut self, n: usize) {
        self.say(n, &silk60(false, 0));
        self.drain();
    }

    /// Runs the lane as its thread would, until `until`: at each of its deadlines, not between.
    pub(super) fn run_until(&mut self, until: Time) {
        loop {
            self.turn();
            match self.lane.next_timeout() {
                Some(next) if next <= until => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    pub(super) fn run(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    pub(super) fn turn(&mut self) {
        self.lane.handle_inbox(self.now);
        self.lane.handle_timeout(self.now);
        let mut datagram = [0; 1500];
        while let Some((to, len)) = self.lane.poll_transmit(self.now, &mut datagram) {
            let Some(&n) = self.by_address.get(&to) else { continue };
            let device = &mut self.devices[n];
            let opened = device.opener.open(&mut datagram[..len]).expect("the device can open it");
            device.heard.push((self.now, opened.header, opened.payload.to_vec()));
        }
        self.lane.handle_transmitted(self.now);
        self.run_errands();
        self.lane.finish_turn();
    }

    /// What was reported since, but for figures.
    pub(super) fn drain(&mut self) -> Vec<MediaEvent> {
        std::iter::from_fn(|| self.events.try_next())
            .map(|event| event.1)
            .filter(|event| !matches!(event, MediaEvent::Stats(_) | MediaEvent::AudioActive))
            .collect()
    }

    /// The figures of a session so far.
    pub(super) fn stats(&mut self, n: usize) -> MediaStats {
        let slot = self.lane.by_serial[&self.devices[n].media.serial];
        self.lane.sessions[slot as usize].as_mut().unwrap().stats()
    }

    pub(super) fn close(&mut self, n: usize) -> MediaStats {
        self.command(n, MediaCommand::Close);
        match self.drain().pop() {
            Some(MediaEvent::Closed(stats)) => stats,
            other => panic!("{other:?} is not the end"),
        }
    }
}
