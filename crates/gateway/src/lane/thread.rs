//! The thread of a lane: a thin shell that moves datagrams between the socket and the [`Lane`].
//!
//! A turn, in this order: send what is due, carry out commands, receive, do what else is due, send what became due by
//! that. After a turn that did something the thread sleeps until the turn's time is up, deaf to everything: so thousands
//! of packets a second come and go in batches, for about a millisecond of delay: a wake-up costs as much as ten
//! packets. After a turn that did nothing it waits for the next deadline, datagram or command.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::units::Time;
use evenkeel_sys::clock;
use evenkeel_sys::rest::Rest;
use evenkeel_sys::udp::{BATCH, Receiver, Sender, Socket};
use evenkeel_sys::wait::{READY_BATCH, Trigger, Waiter, sleep_until};

use super::guest::chat::Loss;
use super::guest::{Arrival, Errand, Link};
use super::plane::{LanePort, Plane};
use super::{EARLY, Lane};
use crate::media::MediaId;

/// How long a busy turn lasts at least. What is due in the first half of the next has left with this one.
const TURN: Duration = Duration::from_micros(2 * EARLY.as_micros() as u64);

/// Batches received in one turn, so that a flood does not keep due packets from leaving.
const RECEIVE_BATCHES: usize = 8;

/// Commands carried out in one turn, for the same reason; each takes well under a microsecond.
const COMMANDS: usize = 512;

/// Bytes read from one stream at once: a second of voice, so that a burst is soon in.
const READ: usize = 4096;

/// What is received for guests in one turn, in bytes, so that servers that flood do not keep due packets from leaving.
const GUEST_BYTES: usize = 64 * 1024;

/// What receiving costs at least, in bytes that could be read for it.
const LEAST_COST: usize = 256;

/// How often figures are published.
const PUBLISH: Duration = Duration::from_millis(250);

/// A load as small as this is published as it is, and then no more.
const IDLE: f32 = 0.01;

/// How often load is measured.
const LOAD: Duration = Duration::from_secs(1);

pub(super) struct LaneThread {
    lane: Lane,
    index: usize,
    socket: Socket,
    waiter: Waiter,
    plane: Arc<Plane>,
    sender: Sender,
    receiver: Receiver,
    /// When figures are published next; `None` if those published are true until something happens.
    next_publish: Option<Time>,
    load: Load,
    /// The sockets of guests, by port. Their tokens begin at 1.
    ports: Vec<Option<Port>>,
    free_ports: Vec<u32>,
    /// Ports on which there is something, or may be though no event says so, in the order in which it is their turn.
    to_read: VecDeque<u32>,
    /// What was read last from a stream.
    bytes: Box<[u8; READ]>,
    rest: Rest,
}

/// A socket of a guest.
struct Port {
    media: MediaId,
    link: Link,
    /// Whether the waiter watches it.
    is_watched: bool,
    /// Whether it is among those to be read.
    is_to_read: bool,
    /// Whether a short read says nothing of what is behind it, and no event will.
    until_dry: bool,
}

impl Port {
    /// It is read when it is its turn.
    fn read_later(&mut self, port: u32, to_read: &mut VecDeque<u32>) {
        if !std::mem::replace(&mut self.is_to_read, true) {
            to_read.push_back(port);
        }
    }
}

/// What a turn found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Something,
    /// And there is more of it.
    TooMuch,
}

impl LaneThread {
    pub(super) fn new(
        lane: Lane,
        index: usize,
        socket: Socket,
        mut waiter: Waiter,
        plane: Arc<Plane>,
    ) -> io::Result<Self> {
        waiter.add(&socket, 0, Trigger::Level)?;
        let (sender, receiver) = (Sender::new(), Receiver::new());
        let load = Load::default();
        Ok(Self {
            lane,
            index,
            socket,
            waiter,
            plane,
            sender,
            receiver,
            next_publish: Some(Time::ZERO),
            load,
            ports: Vec::new(),
            free_ports: Vec::new(),
            to_read: VecDeque::new(),
            bytes: Box::new([0; READ]),
            rest: Rest::new(clock::now()),
        })
    }

    pub(super) fn run(mut self) {
        self.rest.handle_wake(clock::now());
        while !self.plane.is_stopping() {
            let began = clock::now();
            let found = self.turn();
            self.publish(began, found);
            let now = clock::now();
            let rest = self.rest.poll(now);
            self.rest.handle_sleep(now);
            // Whatever there is to do.
            rest.into_iter().for_each(sleep_until);
            match found {
                Found::TooMuch => {}
                Found::Something => sleep_until(began + TURN),
                Found::Nothing => {
                    let until = [self.lane.next_timeout(), self.next_publish].into_iter().flatten().min();
                    if let Err(error) = self.wait(until) {
                        tracing::error!(%error, "a lane cannot wait");
                        sleep_until(began + Duration::from_millis(1));
                    }
                }
            }
            self.rest.handle_wake(clock::now());
        }
    }

    fn turn(&mut self) -> Found {
        let sent = self.send();
        // In this order: a device that was told of its session may send at once, and its lane must know of it by then.
        let obeyed = self.obey();
        let received = self.receive();
        let visited = self.receive_guests();
        self.welcome();
        let now = clock::now();
        self.lane.handle_inbox(now);
        self.lane.handle_timeout(now);
        let sent = sent.max(self.send());
        self.run_errands();
        let to_wake = self.lane.finish_turn();
        self.plane.wake(to_wake);
        // A guest that is read again has no event to wait for.
        let visited = if self.to_read.is_empty() { visited } else { visited.max(Found::Something) };
        sent.max(received).max(obeyed).max(visited)
    }

    fn send(&mut self) -> Found {
        let mut found = Found::Nothing;
        loop {
            let now = clock::now();
            self.lane.foresee_due(now);
            while self.sender.push(|datagram| self.lane.poll_transmit(now, datagram)) {}
            if self.sender.is_empty() {
                return found;
            }
            found = Found::Something;
            let result = self.sender.send(&self.socket);
            self.lane.handle_transmitted(clock::now());
            if let Some(error) = result.error {
                tracing::debug!(lane = self.index, refused = result.refused, %error, "packets were not sent");
            }
            // The kernel takes no more for now: what waits goes out with the next turn.
            if result.waiting > 0 {
                return found;
            }
        }
    }

    fn receive(&mut self) -> Found {
        for batch in 0..RECEIVE_BATCHES {
            let count = match self.receiver.receive(&self.socket) {
                Ok(count) => count,
                Err(error) => {
                    tracing::warn!(lane = self.index, %error, "nothing can be received");
                    0
                }
            };
            let now = clock::now();
            self.lane.foresee(self.receiver.datagrams().map(|(_, datagram)| &*datagram));
            for (from, datagram) in self.receiver.datagrams() {
                self.lane.handle_datagram(now, from, datagram);
            }
            if count < BATCH {
                return if batch + count > 0 { Found::Something } else { Found::Nothing };
            }
        }
        Found::TooMuch
    }

    fn obey(&mut self) -> Found {
        let now = clock::now();
        let port = self.plane.port(self.index);
        for obeyed in 0..COMMANDS {
            let Some((media, command)) = port.commands.try_pop() else {
                return if obeyed > 0 { Found::Something } else { Found::Nothing };
            };
            self.lane.handle_command(now, media, command);
        }
        Found::TooMuch
    }

    /// Takes in guests that were handed over.
    fn welcome(&mut self) {
        while let Some((media, arrival)) = self.plane.port(self.index).arrivals.try_pop() {
            let Arrival { guest, links } = *arrival;
            let ports = links.into_iter().map(|link| self.add_port(media, link)).collect();
            self.lane.attach(clock::now(), media, guest, ports);
        }
    }

    fn add_port(&mut self, media: MediaId, link: Link) -> u32 {
        let port = self.free_ports.pop().unwrap_or_else(|| {
            self.ports.push(None);
            self.ports.len() as u32 - 1
        });
        self.ports[port as usize] =
            Some(Port { media, link, is_watched: false, is_to_read: false, until_dry: false });
        self.watch(port, true);
        port
    }

    /// Looks from here on for what comes on a port, or no longer.
    fn watch(&mut self, port: u32, watched: bool) {
        let Some(Some(entry)) = self.ports.get_mut(port as usize) else { return };
        if std::mem::replace(&mut entry.is_watched, watched) == watched {
            return;
        }
        let token = u64::from(port) + 1;
        let result = match (&entry.link, watched) {
            (Link::Udp(socket), true) => self.waiter.add(socket, token, Trigger::Level),
            (Link::Udp(socket), false) => self.waiter.remove(socket),
            (Link::Stream(stream), true) => self.waiter.add(stream, token, Trigger::Edge),
            (Link::Stream(stream), false) => self.waiter.remove(stream),
        };
        if let Err(error) = result {
            tracing::error!(lane = self.index, %error, "a socket of a room cannot be watched");
        }
        // What TLS has decrypted already makes no event.
        if watched && matches!(entry.link, Link::Stream(_)) {
            entry.read_later(port, &mut self.to_read);
        }
    }

    /// As [`Waiter::wait`], and notes which ports have something: of a stream no other wait says so again.
    fn wait(&mut self, until: Option<Time>) -> io::Result<bool> {
        let was_called = self.waiter.wait(until)?;
        for ready in self.waiter.ready() {
            let port = ready.token.wrapping_sub(1) as u32;
            if let Some(Some(entry)) = self.ports.get_mut(port as usize) {
                entry.until_dry |= ready.until_dry;
                entry.read_later(port, &mut self.to_read);
            }
        }
        Ok(was_called)
    }

    /// Receives what came for guests, each in its turn.
    fn receive_guests(&mut self) -> Found {
        if self.ports.len() == self.free_ports.len() {
            return Found::Nothing;
        }
        // A command that came since commands were carried out must not wait for the next thing to happen.
        let mut found = match self.wait(Some(Time::ZERO)) {
            Ok(true) => Found::Something,
            Ok(false) => Found::Nothing,
            Err(_) => return Found::Nothing,
        };
        let ready = self.waiter.ready().len();
        let (mut left, now) = (GUEST_BYTES, clock::now());
        for at in 0..self.to_read.len() {
            if left == 0 {
                return Found::TooMuch;
            }
            if at % READY_BATCH == 0 {
                let ports = self.to_read.iter().take(READY_BATCH);
                let port = |&port: &u32| self.ports.get(port as usize)?.as_ref();
                self.lane.foresee_guests(ports.filter_map(port).map(|port| port.media));
            }
            let Some(port) = self.to_read.pop_front() else { break };
            if let Some(count) = self.receive_guest(now, port) {
                left = left.saturating_sub(count.max(LEAST_COST));
                found = found.max(Found::Something);
            }
        }
        // As many as one wait reports: there may be others.
        if ready >= READY_BATCH { Found::TooMuch } else { found }
    }

    /// Returns how many bytes came, if anything did.
    fn receive_guest(&mut self, now: Time, port: u32) -> Option<usize> {
        let entry = self.ports.get_mut(port as usize)?.as_mut()?;
        entry.is_to_read = false;
        if !entry.is_watched {
            return None;
        }
        let media = entry.media;
        match &mut entry.link {
            // One batch each: what is left is there in the next turn.
            Link::Udp(socket) => match self.receiver.receive(socket) {
                Ok(0) | Err(_) => None,
                Ok(_) => {
                    let mut received = 0;
                    for (from, datagram) in self.receiver.datagrams() {
                        received += datagram.len();
                        self.lane.handle_guest_datagram(now, media, port, from, datagram);
                    }
                    Some(received)
                }
            },
            Link::Stream(stream) => {
                let read = stream.read(&mut self.bytes[..]);
                let received = stream.take_received();
                match read {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return (received > 0).then_some(received);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        entry.read_later(port, &mut self.to_read);
                    }
                    Ok(0) => self.end_stream(now, port, Loss::Ended),
                    Err(error) => self.end_stream(now, port, error.into()),
                    Ok(count) => {
                        if count == READ || entry.until_dry || stream.may_hide_more() {
                            entry.read_later(port, &mut self.to_read);
                        }
                        self.lane.handle_guest_bytes(now, media, &self.bytes[..count]);
                    }
                }
                Some(received)
            }
        }
    }

    /// Nothing more will come from this stream, whatever the system says of it.
    fn end_stream(&mut self, now: Time, port: u32, loss: Loss) {
        self.watch(port, false);
        if let Some(Some(entry)) = self.ports.get(port as usize) {
            self.lane.handle_guest_end(now, entry.media, loss);
        }
    }

    fn run_errands(&mut self) {
        let now = clock::now();
        while let Some(errand) = self.lane.poll_errand() {
            match errand {
                Errand::Send(port, transmit) => {
                    if let Some(Some(Port { link: Link::Udp(socket), .. })) = self.ports.get(port as usize) {
                        // What the kernel does not take is lost, as on any network.
                        let _ = socket.send_to(&transmit.contents, transmit.destination);
                    }
                }
                Errand::Write(port) => {
                    if let Some(Some(Port { media, link: Link::Stream(stream), .. })) =
                        self.ports.get_mut(port as usize)
                    {
                        self.lane.write_guest(now, *media, |bytes| stream.write(bytes));
                    }
                }
                Errand::Pause(port) => self.watch(port, false),
                Errand::Resume(port) => self.watch(port, true),
                Errand::Close(port) => drop(self.take_port(port)),
                Errand::HandBack(port, back) => {
                    if let Some(Link::Stream(stream)) = self.take_port(port) {
                        back.with(stream);
                    }
                }
            }
        }
    }

    fn take_port(&mut self, port: u32) -> Option<Link> {
        self.watch(port, false);
        let entry = self.ports.get_mut(port as usize)?.take()?;
        if entry.is_to_read {
            self.to_read.retain(|&other| other != port);
        }
        self.free_ports.push(port);
        Some(entry.link)
    }

    fn publish(&mut self, now: Time, found: Found) {
        self.load.measure(now);
        match self.next_publish {
            None if found == Found::Nothing => return,
            None => self.next_publish = Some(now + PUBLISH),
            Some(_) => {}
        }
        if self.next_publish.is_none_or(|at| now < at) {
            return;
        }
        let LanePort { report, .. } = self.plane.port(self.index);
        // A reader that holds it just now gets the next one; the lane does not wait.
        if let Ok(mut report) = report.try_lock() {
            *report = self.lane.report();
            report.load = self.load.share;
            let is_idle = found == Found::Nothing && self.load.share < IDLE;
            self.next_publish = if is_idle { None } else { Some(now + PUBLISH) };
        }
    }
}

/// The share of time that the thread worked.
#[derive(Default)]
struct Load {
    since: Time,
    cpu: Duration,
    share: f32,
}

impl Load {
    fn measure(&mut self, now: Time) {
        let span = now.since(self.since);
        if span < LOAD {
            return;
        }
        let cpu = clock::thread_cpu();
        self.share = (cpu - self.cpu).as_secs_f32() / span.as_secs_f32();
        (self.since, self.cpu) = (now, cpu);
    }
}
