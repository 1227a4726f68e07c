//! A lane and devices on virtual time.

mod attack;
mod pacing;
mod rooms;
mod sessions;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use evenkeel_core::packet::{HEADER_LEN, Header};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate, Time};

use super::*;
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
            heard: Vec::new(),
        });
        self.command(n, MediaCommand::Open(Box::new(open)));
        n
    }

    pub(super) fn command(&mut self, n: usize, command: MediaCommand) {
        let media = self.devices[n].media;
        self.lane.handle_command(self.now, media, command);
    }

    pub(super) fn downlink(&mut self, n: usize, opus: Vec<u8>, timestamp: u32) {
        self.command(n, MediaCommand::Downlink { opus: Bytes::from(opus), timestamp });
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
