//! The media side of many devices on one thread: one socket, one heap of deadlines, batches both ways.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::SegQueue;
use evenkeel_core::packet::{HEADER_LEN, Header};
use evenkeel_core::seal::{Opener, Sealer};
use evenkeel_core::stats::Histogram;
use evenkeel_core::units::Time;
use evenkeel_sys::clock;
use evenkeel_sys::udp::{BATCH, BufferSizes, Receiver, Sender, Socket};
use evenkeel_sys::wait::sleep_until;

use crate::ear::{Ear, Listening};
use crate::session::Session;

/// What a device sends: one frame of SILK of 60 ms, marked as voice, of a size that speech has at 16 kb/s.
const PACKET_LEN: usize = 120;
const TOC_SILK_WB_60_MS: u8 = 0x58;
const VOICE: u8 = 0xe0;
/// Then follow, if the packet is ours, this, when it was sent, and its number.
const STAMP: [u8; 4] = *b"EVKL";

/// How often the thread looks for packets, in and out.
const TURN: Duration = Duration::from_micros(500);

/// What the control side tells the thread.
pub(crate) enum Command {
    /// A device has a session and talks from now on.
    Add(u32, Box<Session>),
    /// A device was told that the reply is over.
    Pause(u32),
    /// A device hangs up.
    Remove(u32),
    /// Everything counts from now on.
    Begin,
    /// Nobody talks any longer; what is under way still counts.
    Hush,
    /// The thread ends.
    Stop,
}

/// The way to the thread.
pub(crate) type Commands = Arc<SegQueue<Command>>;

/// What a thread saw of its devices.
pub(crate) struct Seen {
    pub(crate) ear: Ear,
    /// From sending to hearing one's own packet, in ns.
    pub(crate) round_trip: Histogram,
    /// Own packets that came back, and that did not though later ones did.
    pub(crate) echoed: u64,
    pub(crate) not_echoed: u64,
    pub(crate) sent: u64,
    /// How late the thread itself was, in ns.
    pub(crate) own_lateness: Histogram,
    pub(crate) not_opened: u64,
}

impl Seen {
    pub(crate) fn new(frame: Duration) -> Self {
        Self {
            ear: Ear::new(frame),
            round_trip: Histogram::new(),
            echoed: 0,
            not_echoed: 0,
            sent: 0,
            own_lateness: Histogram::new(),
            not_opened: 0,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.ear.merge(&other.ear);
        self.round_trip.merge(&other.round_trip);
        self.own_lateness.merge(&other.own_lateness);
        self.echoed += other.echoed;
        self.not_echoed += other.not_echoed;
        self.sent += other.sent;
        self.not_opened += other.not_opened;
    }
}

struct Device {
    sealer: Sealer,
    opener: Opener,
    server: SocketAddr,
    connection_id: u32,
    listening: Listening,
    number: u32,
    /// The number of its newest packet that came back.
    echoed: Option<u32>,
}

/// One thread's devices.
pub(crate) struct Fleet {
    socket: Socket,
    commands: Commands,
    frame: Duration,
    devices: HashMap<u32, Device>,
    by_connection: HashMap<u32, u32>,
    due: BinaryHeap<Reverse<(Time, u32)>>,
    seen: Seen,
    sender: Sender,
    is_hushed: bool,
}

impl Fleet {
    pub(crate) fn new(local: SocketAddr, frame: Duration, commands: Commands) -> io::Result<Self> {
        let buffers = BufferSizes { receive: 4 << 20, send: 4 << 20 };
        Ok(Self {
            socket: Socket::bind(local, buffers)?,
            commands,
            frame,
            devices: HashMap::new(),
            by_connection: HashMap::new(),
            due: BinaryHeap::new(),
            seen: Seen::new(frame),
            sender: Sender::new(),
            is_hushed: false,
        })
    }

    pub(crate) fn run(mut self) -> Seen {
        let mut receiver = Receiver::new();
        loop {
            let began = clock::now();
            self.receive(&mut receiver);
            while let Some(command) = self.commands.pop() {
                if matches!(command, Command::Stop) {
                    return self.seen;
                }
                self.obey(command, began);
            }
            self.send();
            sleep_until(began + TURN);
        }
    }

    fn obey(&mut self, command: Command, now: Time) {
        match command {
            Command::Add(index, session) => self.add(index, &session, now),
            Command::Pause(index) => {
                if let Some(device) = self.devices.get_mut(&index) {
                    device.listening.pause();
                }
            }
            Command::Remove(index) => {
                if let Some(device) = self.devices.remove(&index) {
                    self.by_connection.remove(&device.connection_id);
                }
            }
            Command::Begin => {
                self.seen = Seen::new(self.frame);
                for device in self.devices.values_mut() {
                    device.listening.pause();
                    device.echoed = None;
                }
            }
            Command::Hush => self.is_hushed = true,
            Command::Stop => {}
        }
    }

    fn add(&mut self, index: u32, session: &Session, now: Time) {
        // The golden ratio spreads any number of devices evenly over the duration of a packet.
        let phase = self.frame.mul_f64((f64::from(index) * 0.618_033_988_749_895).fract());
        let connection_id = session.connection_id();
        let device = Device {
            sealer: session.sealer(),
            opener: session.opener(),
            server: session.server,
            connection_id,
            listening: Listening::default(),
            number: 0,
            echoed: None,
        };
        self.by_connection.insert(connection_id, index);
        self.devices.insert(index, device);
        self.due.push(Reverse((now + phase, index)));
    }

    fn send(&mut self) {
        loop {
            let now = clock::now();
            while !self.sender.is_full()
                && let Some(&Reverse((due, index))) = self.due.peek()
                && due <= now
            {
                self.due.pop();
                if self.is_hushed {
                    continue;
                }
                let Some(device) = self.devices.get_mut(&index) else { continue };
                self.sender.push(|datagram| device.say(now, datagram));
                self.seen.sent += 1;
                self.seen.own_lateness.record(now.since(due).as_nanos() as u64);
                self.due.push(Reverse((due + self.frame, index)));
            }
            if self.sender.is_empty() {
                return;
            }
            if self.sender.send(&self.socket).waiting > 0 {
                return;
            }
        }
    }

    fn receive(&mut self, receiver: &mut Receiver) {
        loop {
            // What cannot be received shows as lost.
            let count = receiver.receive(&self.socket).unwrap_or(0);
            let now = clock::now();
            for (_, datagram) in receiver.datagrams() {
                let index = Header::peek_connection_id(datagram).and_then(|id| self.by_connection.get(&id));
                let Some(device) = index.and_then(|index| self.devices.get_mut(index)) else { continue };
                device.hear(now, datagram, &mut self.seen);
            }
            if count < BATCH {
                return;
            }
        }
    }
}

impl Device {
    fn say(&mut self, now: Time, datagram: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let payload = &mut datagram[HEADER_LEN..HEADER_LEN + PACKET_LEN];
        payload.fill(0x55);
        payload[..2].copy_from_slice(&[TOC_SILK_WB_60_MS, VOICE]);
        payload[2..6].copy_from_slice(&STAMP);
        payload[6..14].copy_from_slice(&now.as_nanos().to_be_bytes());
        payload[14..18].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        let (_, len) = self.sealer.seal_echo(datagram, PACKET_LEN, 0).ok()?;
        Some((self.server, len))
    }

    fn hear(&mut self, now: Time, datagram: &mut [u8], seen: &mut Seen) {
        let Ok(opened) = self.opener.open(datagram) else {
            seen.not_opened += 1;
            return;
        };
        seen.ear.hear(&mut self.listening, now, opened.header.sequence);
        let Some(stamp) = opened.payload.get(2..18).filter(|stamp| stamp.starts_with(&STAMP)) else { return };
        let sent = stamp[4..12].iter().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let number = stamp[12..].iter().fold(0, |all, &byte| all << 8 | u32::from(byte));
        seen.round_trip.record(now.since(Time::from_nanos(sent)).as_nanos() as u64);
        seen.echoed += 1;
        if let Some(last) = self.echoed {
            seen.not_echoed += u64::from(number.saturating_sub(last + 1));
        }
        self.echoed = self.echoed.max(Some(number));
    }
}
