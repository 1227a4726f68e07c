//! The thread of a lane: a thin shell that moves datagrams between the socket and the [`Lane`].
//!
//! A turn, in this order: send what is due, carry out commands, receive, do what else is due, send what became due by
//! that. After a turn that did something the thread sleeps until the turn's time is up, deaf to everything: so thousands
//! of packets a second come and go in batches, for at most a millisecond of delay: a wake-up costs as much as ten
//! packets. After a turn that did nothing it waits for the next deadline, datagram or command.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::units::Time;
use evenkeel_sys::clock;
use evenkeel_sys::rest::Rest;
use evenkeel_sys::udp::{BATCH, Receiver, Sender, Socket};
use evenkeel_sys::wait::{Waiter, sleep_until};

use super::guest::{Arrival, Errand};
use super::plane::{LanePort, Plane};
use super::{EARLY, Lane};
use crate::media::MediaId;

/// How long a busy turn lasts at least. What is due in the first half of the next has left with this one.
const TURN: Duration = Duration::from_micros(2 * EARLY.as_micros() as u64);

/// Batches received in one turn, so that a flood does not keep due packets from leaving.
const RECEIVE_BATCHES: usize = 8;

/// Commands carried out in one turn, for the same reason; each takes well under a microsecond.
const COMMANDS: usize = 512;

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
    /// The sockets of participants, by port. Their tokens begin at 1.
    ports: Vec<Option<(MediaId, Socket)>>,
    free_ports: Vec<u32>,
    rest: Rest,
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
        waiter.add(&socket, 0)?;
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
                    if let Err(error) = self.waiter.wait(until) {
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
        sent.max(received).max(obeyed).max(visited)
    }

    fn send(&mut self) -> Found {
        let mut found = Found::Nothing;
        loop {
            let now = clock::now();
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

    /// Takes in participants that were handed over.
    fn welcome(&mut self) {
        while let Some((media, arrival)) = self.plane.port(self.index).arrivals.try_pop() {
            let Arrival { guest, sockets } = *arrival;
            let ports = sockets.into_iter().map(|socket| self.add_port(media, socket)).collect();
            self.lane.attach(clock::now(), media, Box::new(guest), ports);
        }
    }

    fn add_port(&mut self, media: MediaId, socket: Socket) -> u32 {
        let port = self.free_ports.pop().unwrap_or_else(|| {
            self.ports.push(None);
            self.ports.len() as u32 - 1
        });
        if let Err(error) = self.waiter.add(&socket, u64::from(port) + 1) {
            tracing::error!(lane = self.index, %error, "a participant's socket cannot be watched");
        }
        self.ports[port as usize] = Some((media, socket));
        port
    }

    /// Receives what came for participants.
    fn receive_guests(&mut self) -> Found {
        if self.ports.len() == self.free_ports.len() || self.waiter.wait(Some(Time::ZERO)).is_err() {
            return Found::Nothing;
        }
        let mut found = Found::Nothing;
        for &token in self.waiter.ready() {
            let port = token.wrapping_sub(1) as u32;
            let Some(Some((media, socket))) = self.ports.get(port as usize) else { continue };
            // One batch each: what is left is there in the next turn.
            if let Ok(count) = self.receiver.receive(socket)
                && count > 0
            {
                found = Found::Something;
                let now = clock::now();
                for (from, datagram) in self.receiver.datagrams() {
                    self.lane.handle_guest_datagram(now, *media, port, from, datagram);
                }
            }
        }
        found
    }

    fn run_errands(&mut self) {
        while let Some(errand) = self.lane.poll_errand() {
            match errand {
                Errand::Send(port, transmit) => {
                    if let Some(Some((_, socket))) = self.ports.get(port as usize) {
                        // What the kernel does not take is lost, as on any network.
                        let _ = socket.send_to(&transmit.contents, transmit.destination);
                    }
                }
                Errand::Close(port) => {
                    if let Some((_, socket)) = self.ports.get_mut(port as usize).and_then(Option::take) {
                        let _ = self.waiter.remove(&socket);
                        self.free_ports.push(port);
                    }
                }
            }
        }
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
