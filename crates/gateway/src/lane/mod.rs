//! The media plane: lanes, each a thread with one UDP socket and the sessions of its devices.
//!
//! A [`Lane`] is what a thread does without being one: it knows no socket and no clock, so tests run it on virtual
//! time. `handle_*` takes what came (commands, datagrams, packets of other lanes, time), [`Lane::poll_transmit`] gives
//! what has to leave, [`Lane::next_timeout`] says when to come back. Events go to the control plane's queue. After
//! warm-up nothing allocates, and nothing ever waits for a lock.

mod deadlines;
mod downlink;
pub mod guest;
mod intake;
mod mix;
mod parrot;
mod plane;
mod random;
mod reports;
mod ring;
mod session;
mod stamps;
pub mod stream;
#[cfg(test)]
mod tests;
mod thread;
mod uplink;
mod voice;
pub mod voices;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use evenkeel_core::packet::Header;
use evenkeel_core::units::{SampleRate, Time};
use evenkeel_sys::cache::{CAN_PREFETCH, prefetch};

pub use self::plane::{FULL_LOAD, LaneStart, Lanes, PlaneConfig};

use self::deadlines::Deadlines;
use self::guest::chat::Loss;
use self::guest::{Errand, Guest};
use self::random::Random;
use self::reports::{Reports, Totals};
use self::ring::Budget;
use self::session::{Session, Shared, Transmit, micros};
use self::stream::Written;
use self::uplink::Refusal;
use crate::media::{
    EventSender, LaneReport, MediaCommand, MediaEvent, MediaFailure, MediaId, Open, OpusPacket,
};

/// How much sooner than its deadline a packet may leave, so that one system call sends several. A busy lane turns every
/// two of these, so a packet is this much early at most, and late by this and what waking takes.
pub const EARLY: Duration = Duration::from_micros(700);

/// Sessions that are brought near at once: more would push each other out again.
const FORESIGHT: usize = 64;

/// How soon events that did not fit are offered again.
const RETRY: Duration = Duration::from_millis(5);

/// How often the lane's gauges begin anew.
const PERIOD: Duration = Duration::from_secs(1);

/// How a lane is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    /// Its number.
    pub index: u16,
    /// Sessions it opens at most. Default 10,000; an idle one costs about 2 KB.
    pub max_sessions: usize,
    /// Bytes that all its queues of packets may take together. Default 64 MiB.
    pub max_queued_bytes: usize,
}

impl Default for LaneConfig {
    fn default() -> Self {
        Self { index: 0, max_sessions: 10_000, max_queued_bytes: 64 << 20 }
    }
}

/// Packets on their way from a session in one lane to a session in another: a queue for each lane, by its number.
pub type Inboxes = Arc<[ArrayQueue<(MediaId, OpusPacket)>]>;

/// See the [module](self).
pub struct Lane {
    config: LaneConfig,
    random: Random,
    sessions: Vec<Option<Box<Session>>>,
    free: Vec<u32>,
    by_connection: HashMap<u32, u32, BuildHasherDefault<OurNumbers>>,
    by_serial: HashMap<u64, u32, BuildHasherDefault<OurNumbers>>,
    /// When sessions have something to send, and when they have something else to do.
    sends: Deadlines,
    chores: Deadlines,
    /// Sessions that will be touched.
    near: Vec<u32>,
    /// What left since the last [`Lane::handle_transmitted`], and when it was due.
    departures: Vec<Departure>,
    budget: Budget,
    reports: Reports,
    inboxes: Inboxes,
    /// Lanes whose inbox was filled, a bit each.
    to_wake: u64,
    errands: VecDeque<Errand>,
    totals: Totals,
    next_period: Time,
    retry: Option<Time>,
}

/// An Opus packet for the session of another device, if what was handled gave one.
type Forward<'a> = Option<(MediaId, &'a [u8])>;

/// What is brought near of a session: each says where the next is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The session.
    Session,
    /// Where packets wait for their time.
    Queue,
    /// The room's end beside it.
    Guest,
    /// What is on its way from and to the room.
    Bytes,
}

impl Reach {
    /// In their order.
    const ALL: [Self; 4] = [Self::Session, Self::Queue, Self::Guest, Self::Bytes];
}

/// A packet that is about to leave.
struct Departure {
    slot: u32,
    due: Time,
    played_out: Option<u32>,
}

impl Lane {
    /// A lane without sessions. `random` gives numbers from a CSPRNG.
    #[must_use]
    pub fn new(
        config: LaneConfig,
        random: impl FnMut() -> u32 + Send + 'static,
        events: EventSender,
        inboxes: Inboxes,
    ) -> Self {
        Self {
            config,
            random: Random::new(random),
            sessions: Vec::new(),
            free: Vec::new(),
            by_connection: HashMap::default(),
            by_serial: HashMap::default(),
            sends: Deadlines::default(),
            chores: Deadlines::default(),
            near: Vec::with_capacity(FORESIGHT),
            departures: Vec::with_capacity(64),
            budget: Budget::new(config.max_queued_bytes),
            reports: Reports::new(events),
            inboxes,
            to_wake: 0,
            errands: VecDeque::new(),
            totals: Totals::default(),
            next_period: Time::ZERO,
            retry: None,
        }
    }

    /// Carries out a command. One for a session that is not there has no effect.
    pub fn handle_command(&mut self, now: Time, media: MediaId, command: MediaCommand) {
        match command {
            MediaCommand::Open(open) => self.open(now, media, &open),
            MediaCommand::Close => self.close(media),
            MediaCommand::Uplink { opus, timestamp } => self.handle_stream(now, media, &opus, timestamp),
            command => {
                let Some(&slot) = self.by_serial.get(&media.serial) else { return };
                self.with(slot, now, |session, shared| session.handle_command(command, shared));
            }
        }
    }

    /// Takes in a room's end, whose sockets the thread knows by `ports`. Without its session, it leaves at once.
    pub fn attach(&mut self, now: Time, media: MediaId, mut guest: Guest, ports: Vec<u32>) {
        let slot = self.by_serial.get(&media.serial).copied();
        match slot.filter(|&slot| self.session(slot).is_some_and(Session::takes_guests)) {
            Some(slot) => _ = self.with(slot, now, |session, shared| session.attach(guest, ports, shared)),
            None => {
                guest.settle(ports, SampleRate::HZ_24000, now);
                guest.move_out(|errand| self.errands.push_back(errand));
            }
        }
    }

    /// Takes a datagram from a socket of a guest.
    pub fn handle_guest_datagram(
        &mut self,
        now: Time,
        media: MediaId,
        port: u32,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        let Some(&slot) = self.by_serial.get(&media.serial) else { return };
        self.with(slot, now, |session, shared| session.handle_guest_datagram(port, from, datagram, shared));
    }

    /// Takes bytes from the stream of a guest.
    pub fn handle_guest_bytes(&mut self, now: Time, media: MediaId, bytes: &[u8]) {
        let Some(&slot) = self.by_serial.get(&media.serial) else { return };
        self.with(slot, now, |session, shared| session.handle_guest_bytes(bytes, shared));
    }

    /// No more will come on the stream of a guest.
    pub fn handle_guest_end(&mut self, now: Time, media: MediaId, loss: Loss) {
        let Some(&slot) = self.by_serial.get(&media.serial) else { return };
        self.with(slot, now, |session, shared| session.handle_guest_end(loss, shared));
    }

    /// Gives `write` what a guest has to be written, after [`Errand::Write`].
    pub fn write_guest(
        &mut self,
        now: Time,
        media: MediaId,
        write: impl FnOnce(&[u8]) -> io::Result<Written>,
    ) {
        let Some(&slot) = self.by_serial.get(&media.serial) else { return };
        self.with(slot, now, |session, shared| session.write_guest(write, shared));
    }

    /// What guests want of the thread. Call until there is none.
    pub fn poll_errand(&mut self) -> Option<Errand> {
        self.errands.pop_front()
    }

    /// Brings near what these datagrams will touch. To be called for a batch before the first is handled: the lane then waits for
    /// memory a few times, not for each.
    pub fn foresee<'a>(&mut self, datagrams: impl Iterator<Item = &'a [u8]>) {
        let ids = datagrams.filter_map(Header::peek_connection_id);
        self.near.extend(ids.filter_map(|id| self.by_connection.get(&id)).take(FORESIGHT));
        self.bring_near(&Reach::ALL);
    }

    /// The same before what comes from these guests.
    pub fn foresee_guests(&mut self, guests: impl Iterator<Item = MediaId>) {
        self.near.extend(guests.filter_map(|media| self.by_serial.get(&media.serial)).take(FORESIGHT));
        self.bring_near(&Reach::ALL);
    }

    /// The same before what is due is sent.
    pub fn foresee_due(&mut self, now: Time) {
        self.near.extend(self.sends.some_due(now + EARLY));
        self.bring_near(&[Reach::Session, Reach::Queue]);
    }

    fn bring_near(&mut self, reaches: &[Reach]) {
        for &reach in reaches.iter().filter(|_| CAN_PREFETCH) {
            for session in self.near.iter().filter_map(|&slot| self.session(slot)) {
                match reach {
                    Reach::Session => prefetch(session),
                    beyond => session.foresee(beyond),
                }
            }
        }
        self.near.clear();
    }

    /// Takes a datagram from the lane's socket; its bytes are decrypted in place.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &mut [u8]) {
        self.totals.received += 1;
        let slot = Header::peek_connection_id(datagram).and_then(|id| self.by_connection.get(&id));
        let Some(&slot) = slot else {
            self.totals.unknown += 1;
            return;
        };
        let handled = self.with(slot, now, |session, shared| session.handle_datagram(from, datagram, shared));
        self.follow(now, handled);
    }

    /// Takes a packet that came over a device's connection.
    fn handle_stream(&mut self, now: Time, media: MediaId, opus: &[u8], timestamp: u32) {
        let Some(&slot) = self.by_serial.get(&media.serial) else { return };
        self.totals.received += 1;
        let handled = self.with(slot, now, |session, shared| session.handle_stream(opus, timestamp, shared));
        self.follow(now, handled);
    }

    /// Does with what a device said whatever its session could not.
    fn follow(&mut self, now: Time, handled: Option<Result<Forward<'_>, Refusal>>) {
        match handled {
            Some(Ok(Some((peer, opus)))) => self.bring_to_peer(now, peer, opus),
            Some(Err(refusal)) => self.totals.refuse(refusal),
            Some(Ok(None)) | None => {}
        }
    }

    /// Takes what other lanes brought. Call once a turn.
    pub fn handle_inbox(&mut self, now: Time) {
        let inboxes = Arc::clone(&self.inboxes);
        let Some(inbox) = inboxes.get(usize::from(self.config.index)) else { return };
        // No more than was there, so that other lanes cannot hold this one up.
        for _ in 0..inbox.len() {
            let Some((media, packet)) = inbox.pop() else { break };
            self.hear_peer(now, media, packet.opus());
        }
    }

    /// Does what is due but for sending.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.next_period <= now {
            self.next_period = now + PERIOD;
            self.totals.begin_period();
        }
        self.retry = self.reports.retry().then_some(now + RETRY);
        while let Some((due, slot)) = self.chores.first()
            && due <= now
        {
            self.with(slot, now, |session, shared| session.handle_timeout(shared));
        }
    }

    /// The next datagram to send: where, and how many bytes of `datagram`, which must hold 1500. Call until it gives
    /// none or a batch is full; send; then say so by [`Lane::handle_transmitted`].
    pub fn poll_transmit(&mut self, now: Time, datagram: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let horizon = now + EARLY;
        while let Some((due, slot)) = self.sends.first()
            && due <= horizon
        {
            let counts = |lane: &Self| lane.session(slot).map_or((0, 0), |s| (s.missed(), s.sent()));
            let (missed, before) = counts(self);
            let sent =
                self.with(slot, now, |session, shared| session.poll_transmit(horizon, datagram, shared));
            let (missed_now, sent_now) = counts(self);
            self.totals.missed += missed_now - missed;
            self.totals.sent += sent_now - before;
            if let Some(transmit) = sent.flatten() {
                let Transmit { due, played_out, .. } = transmit;
                self.departures.push(Departure { slot, due, played_out });
                return Some((transmit.to, transmit.len));
            }
        }
        None
    }

    /// What [`Lane::poll_transmit`] gave has left at `now`.
    pub fn handle_transmitted(&mut self, now: Time) {
        for Departure { slot, due, played_out } in self.departures.drain(..) {
            let error = Duration::from_nanos(now.signed_nanos_since(due).unsigned_abs());
            self.totals.departed(error);
            if let Some(played_out) = played_out {
                self.totals.passed(Duration::from_micros(micros(now).wrapping_sub(played_out).into()));
            }
            if let Some(Some(session)) = self.sessions.get_mut(slot as usize) {
                session.handle_departed(error);
            }
        }
    }

    /// When to call [`Lane::handle_timeout`] and [`Lane::poll_transmit`] again, if nothing else comes.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let first = |deadlines: &Deadlines| deadlines.first().map(|first| first.0);
        let retry = if self.reports.is_owing() { Some(self.retry.unwrap_or(Time::ZERO)) } else { None };
        [first(&self.sends), first(&self.chores), retry].into_iter().flatten().min()
    }

    /// Wakes the control plane if there is anything to hear, and returns which lanes have to be woken, a bit each.
    /// Call at the end of a turn.
    pub fn finish_turn(&mut self) -> u64 {
        self.reports.wake();
        std::mem::take(&mut self.to_wake)
    }

    /// What it did so far; the load is not its to know.
    #[must_use]
    pub fn report(&self) -> LaneReport {
        LaneReport {
            sessions: self.by_serial.len() as u32,
            queued_bytes: (self.config.max_queued_bytes - self.budget.free()) as u64,
            events_lost: self.reports.lost(),
            ..self.totals.report()
        }
    }

    fn open(&mut self, now: Time, media: MediaId, open: &Open) {
        if let Err(failure) = self.try_open(now, media, open) {
            self.reports.insist(media, MediaEvent::Failed(failure));
        }
    }

    fn try_open(&mut self, now: Time, media: MediaId, open: &Open) -> Result<(), MediaFailure> {
        if self.by_serial.len() >= self.config.max_sessions {
            return Err(MediaFailure::Full);
        }
        if self.by_connection.contains_key(&open.connection_id) || self.by_serial.contains_key(&media.serial)
        {
            return Err(MediaFailure::Collision);
        }
        let session = Session::new(media, open, self.random.next(), now).map_err(|_| MediaFailure::Setup)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() as u32 - 1
        });
        self.by_connection.insert(session.connection_id, slot);
        self.by_serial.insert(media.serial, slot);
        self.chores.set(slot, Some(session.next_timeout()));
        self.sessions[slot as usize] = Some(Box::new(session));
        Ok(())
    }

    fn close(&mut self, media: MediaId) {
        let Some(slot) = self.by_serial.remove(&media.serial) else { return };
        let Some(session) = self.sessions[slot as usize].take() else { return };
        self.by_connection.remove(&session.connection_id);
        self.sends.set(slot, None);
        self.chores.set(slot, None);
        self.departures.retain(|departure| departure.slot != slot);
        self.free.push(slot);
        let stats = session.close(&mut self.budget, &mut self.errands);
        self.reports.insist(media, MediaEvent::Closed(stats));
    }

    fn bring_to_peer(&mut self, now: Time, peer: MediaId, opus: &[u8]) {
        if peer.lane == self.config.index {
            return self.hear_peer(now, peer, opus);
        }
        let Some(inbox) = self.inboxes.get(usize::from(peer.lane)) else { return };
        if let Some(packet) = OpusPacket::new(opus)
            && inbox.push((peer, packet)).is_ok()
        {
            self.to_wake |= 1 << (peer.lane % 64);
        }
    }

    fn hear_peer(&mut self, now: Time, media: MediaId, opus: &[u8]) {
        let Some(&slot) = self.by_serial.get(&media.serial) else { return };
        self.with(slot, now, |session, shared| session.push_downlink(opus, 0, shared));
    }

    fn session(&self, slot: u32) -> Option<&Session> {
        self.sessions.get(slot as usize)?.as_deref()
    }

    /// Does something with a session, then notes when it wants to be asked again.
    fn with<R>(
        &mut self,
        slot: u32,
        now: Time,
        work: impl FnOnce(&mut Session, &mut Shared<'_>) -> R,
    ) -> Option<R> {
        let session = self.sessions.get_mut(slot as usize)?.as_deref_mut()?;
        let mut shared = Shared {
            now,
            budget: &mut self.budget,
            reports: &mut self.reports,
            errands: &mut self.errands,
            totals: &mut self.totals,
            random: &self.random,
        };
        let result = work(session, &mut shared);
        self.sends.set(slot, session.next_due());
        self.chores.set(slot, Some(session.next_timeout()));
        Some(result)
    }
}

/// For numbers that we chose ourselves: connection ids from a CSPRNG, serials that count up. Those looked up are not stored,
/// so nobody can make them collide.
#[derive(Default)]
struct OurNumbers(u64);

impl Hasher for OurNumbers {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0.rotate_left(8) ^ u64::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4), and the upper half below, as the
        // map takes bits from both ends.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(32);
    }
}
