//! One media session: both directions of one device, and where its audio goes.

mod guests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_core::error::{ConfigError, SealError};
use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::units::{SampleRate, Time};

use super::Reach;
use super::downlink::{Downlink, Due};
use super::guest::{Errand, Guest};
use super::parrot::Parrot;
use super::random::Random;
use super::reports::{Peaks, Reports, Totals};
use super::ring::{Budget, PacketRing};
use super::stamps::Stamps;
use super::uplink::{Heard, Refusal, Uplink};
use crate::media::GuestId;
use crate::media::{
    Departed, Encryption, Gate, MediaCommand, MediaEvent, MediaId, MediaStats, Open, OpusPacket, ReplyId,
    Route, STATS_INTERVAL, Transport,
};

/// Sessions report together, this often: waking the control plane costs more than what it is told.
const REPORT_SLOT: Duration = Duration::from_millis(100);

/// After how long without a packet a loopback's reply has ended.
const LOOPBACK_PAUSE: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Session {
    pub(super) media: MediaId,
    pub(super) connection_id: u32,
    uplink: Uplink,
    downlink: Downlink,
    /// Seals datagrams; `None` where packets leave over the device's connection.
    sealer: Option<Sealer>,
    stamps: Stamps,
    route: Route,
    parrot: Parrot,
    guest: Option<Guest>,
    /// When the guest wants to be asked again. Kept here, where it is read for each packet that leaves.
    guest_due: Option<Time>,
    /// The one that may go on, if that was said before it came.
    may_go_on: Option<GuestId>,
    /// What the device said that its chat server has yet to hear.
    backlog: PacketRing,
    /// What the device decodes at.
    rate: SampleRate,
    opened: Time,
    /// When to give up on a first datagram.
    first_limit: Option<Time>,
    next_stats: Time,
    last_active: Option<Time>,
    active_interval: Duration,
    /// When a loopback's reply ends unless another packet comes.
    loopback_end: Option<Time>,
    last_media_ms: Option<u64>,
    is_exhausted: bool,
    refused: u64,
    sent: u64,
    /// Packets of the room that are no Opus.
    malformed: u64,
    peaks: Peaks,
}

/// What a session shares with its lane.
pub(super) struct Shared<'a> {
    pub(super) now: Time,
    pub(super) budget: &'a mut Budget,
    pub(super) reports: &'a mut Reports,
    pub(super) errands: &'a mut VecDeque<Errand>,
    pub(super) totals: &'a mut Totals,
    pub(super) random: &'a Random,
}

/// A datagram to send.
pub(super) struct Transmit {
    pub(super) to: SocketAddr,
    pub(super) len: usize,
    pub(super) due: Time,
    /// Of a participant's packet, when it was played out, in [`micros`].
    pub(super) played_out: Option<u32>,
}

impl Session {
    pub(super) fn new(media: MediaId, open: &Open, random: u32, now: Time) -> Result<Self, ConfigError> {
        let suite = match open.encryption {
            Encryption::Aes128Ctr => Suite::Aes128Ctr,
            Encryption::Aes128Gcm => Suite::Aes128Gcm,
            Encryption::Aes256Gcm => Suite::Aes256Gcm,
            Encryption::Chacha20Poly1305 => Suite::ChaCha20Poly1305,
        };
        let session_id = open.session_id.as_bytes();
        let keys = SessionKeys::new(suite, open.key.expose(), open.connection_id, session_id)?;
        let is_udp = open.transport == Transport::Udp;
        let opener = is_udp.then(|| Opener::new(&keys, Direction::Uplink, PayloadKind::Opus));
        let sealer = is_udp.then(|| Sealer::new(&keys, Direction::Downlink, random));
        let mut downlink = Downlink::new(open.downlink.frame_duration);
        downlink.set_live(is_live(open.route));
        if !is_udp {
            // Its connection is there, so it can be sent to at once.
            downlink.handle_address(now);
        }
        Ok(Self {
            media,
            connection_id: open.connection_id,
            uplink: Uplink::new(opener, open.source),
            downlink,
            sealer,
            stamps: Stamps::default(),
            route: open.route,
            parrot: Parrot::default(),
            guest: None,
            guest_due: None,
            may_go_on: None,
            backlog: PacketRing::default(),
            rate: open.downlink.sample_rate,
            opened: now,
            first_limit: is_udp.then(|| now + open.first_datagram_limit),
            // Spread, so that thousands that open together do not all report at once.
            next_stats: slot(now + STATS_INTERVAL.mul_f64(0.5 + f64::from(random >> 16) / 65_536.0)),
            last_active: None,
            active_interval: open.active_interval,
            loopback_end: None,
            last_media_ms: None,
            is_exhausted: false,
            refused: 0,
            sent: 0,
            malformed: 0,
            peaks: Peaks::default(),
        })
    }

    /// Brings near what is outside of it, see [`super::Reach`].
    pub(super) fn foresee(&self, reach: Reach) {
        if reach == Reach::Queue {
            self.downlink.foresee();
        } else if let Some(guest) = &self.guest {
            guest.foresee(reach);
        }
    }

    /// A datagram with the session's connection id. Returns what has to be brought to another session.
    pub(super) fn handle_datagram<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        shared: &mut Shared<'_>,
    ) -> Result<Option<(MediaId, &'a [u8])>, Refusal> {
        let heard = match self.uplink.handle(shared.now, from, datagram) {
            Ok(heard) => heard,
            Err(refusal) => {
                self.refused += 1;
                return Err(refusal);
            }
        };
        if heard.is_first {
            self.first_limit = None;
            self.downlink.handle_address(shared.now);
            shared.reports.insist(self.media, MediaEvent::FirstDatagram { from });
        }
        Ok(self.hear(heard, shared))
    }

    /// A packet that came over the device's connection. Returns as [`Session::handle_datagram`].
    pub(super) fn handle_stream<'a>(
        &mut self,
        opus: &'a [u8],
        timestamp: u32,
        shared: &mut Shared<'_>,
    ) -> Result<Option<(MediaId, &'a [u8])>, Refusal> {
        // Datagrams are the only way in where there are datagrams.
        let heard = if self.sealer.is_some() {
            Err(Refusal::Source)
        } else {
            self.uplink.handle_stream(shared.now, opus, timestamp)
        };
        match heard {
            Ok(heard) => Ok(self.hear(heard, shared)),
            Err(refusal) => {
                self.refused += 1;
                Err(refusal)
            }
        }
    }

    fn hear<'a>(&mut self, heard: Heard<'a>, shared: &mut Shared<'_>) -> Option<(MediaId, &'a [u8])> {
        // A decoder cannot use a packet whose successor it had; nobody behind us puts them in order.
        if heard.is_late {
            return None;
        }
        self.note_active(shared);
        match self.route {
            Route::Echo => self.tell_parrot(&heard, shared),
            Route::Loopback => {
                self.loopback_end = Some(shared.now + LOOPBACK_PAUSE);
                self.push_downlink(heard.opus, 0, shared);
            }
            Route::Peer(peer) => return Some((peer, heard.opus)),
            Route::Participant | Route::Chat => self.tell_guest(&heard, shared),
        }
        None
    }

    fn tell_parrot(&mut self, heard: &Heard<'_>, shared: &mut Shared<'_>) {
        if self.parrot.is_speaking() && self.downlink.is_played_out(shared.now) {
            self.parrot.listen(shared.budget);
        }
        self.parrot.hear(shared.now, heard.opus, &heard.frames, shared.budget);
    }

    /// An Opus packet for the device. Returns whether more may come at once.
    pub(super) fn push_downlink(&mut self, opus: &[u8], stamp: u32, shared: &mut Shared<'_>) -> bool {
        match self.downlink.push(opus, stamp, shared.now, shared.budget) {
            Ok(true) => shared.reports.insist(self.media, MediaEvent::DownlinkWaiting),
            Ok(false) => {}
            Err(_) => self.malformed += 1,
        }
        !self.downlink.is_far_ahead()
    }

    /// Carries out any command but those that open and close.
    pub(super) fn handle_command(&mut self, command: MediaCommand, shared: &mut Shared<'_>) {
        match command {
            MediaCommand::Gate(gate) => self.handle_gate(gate, shared),
            MediaCommand::Flush => {
                self.downlink.flush(shared.budget);
            }
            MediaCommand::Mark(reply) => self.push_mark(reply, shared),
            MediaCommand::Route(route) => self.handle_route(route, shared),
            MediaCommand::Nudge => self.handle_nudge(shared),
            MediaCommand::GoOn(id) => self.handle_go_on(id, shared),
            MediaCommand::Open(_) | MediaCommand::Close | MediaCommand::Uplink { .. } => {}
        }
    }

    fn handle_gate(&mut self, gate: Gate, shared: &mut Shared<'_>) {
        self.downlink.handle_gate(gate, shared.now, shared.budget);
        match gate {
            Gate::Hold => {
                if let Some(guest) = &mut self.guest {
                    guest.resume();
                }
                self.note_guest();
            }
            // A participant speaks on until it is interrupted; when that is over is told later.
            Gate::Discard if self.guest.as_mut().is_some_and(|guest| guest.stop()) => self.note_guest(),
            // Told to be silent, a room in the lane has nothing more to say of this reply.
            Gate::Discard if self.route.tells_replies() => {
                self.parrot.listen(shared.budget);
                self.loopback_end = None;
                shared.reports.insist(self.media, MediaEvent::DownlinkEnded);
            }
            _ => {}
        }
    }

    fn push_mark(&mut self, reply: ReplyId, shared: &mut Shared<'_>) {
        self.downlink.push_mark(reply, shared.now, shared.budget);
    }

    fn handle_route(&mut self, route: Route, shared: &mut Shared<'_>) {
        self.route = route;
        self.loopback_end = None;
        self.parrot.listen(shared.budget);
        self.downlink.set_live(is_live(route));
        self.backlog.clear(shared.budget);
        if !route.takes_guests() {
            self.dismiss(shared);
        }
    }

    /// Does what is due but for sending.
    pub(super) fn handle_timeout(&mut self, shared: &mut Shared<'_>) {
        let now = shared.now;
        if self.first_limit.is_some_and(|at| at <= now) {
            self.first_limit = None;
            shared.reports.insist(self.media, MediaEvent::NeverSeen);
        }
        if self.next_stats <= now {
            self.next_stats = slot(now + STATS_INTERVAL);
            let stats = self.stats();
            shared.reports.say(self.media, MediaEvent::Stats(stats));
        }
        if let Some(utterance) = self.parrot.speak(now) {
            let is_first = self.downlink.push_all(utterance, now, shared.budget);
            if is_first {
                shared.reports.insist(self.media, MediaEvent::DownlinkWaiting);
            }
            shared.reports.insist(self.media, MediaEvent::DownlinkEnded);
        }
        self.handle_guest_timeout(shared);
        if self.loopback_end.is_some_and(|at| at <= now) {
            self.loopback_end = None;
            shared.reports.insist(self.media, MediaEvent::DownlinkEnded);
        }
    }

    /// When to call [`Session::handle_timeout`].
    pub(super) fn next_timeout(&self) -> Time {
        let rest = [self.first_limit, self.loopback_end, self.parrot.next_due(), self.guest_due];
        rest.into_iter().flatten().fold(self.next_stats, Time::min)
    }

    /// When [`Session::poll_transmit`] has something to do.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.downlink.next_due()
    }

    /// Seals the next packet due by `horizon` into `datagram`. Reports the marks that are due before it, and what leaves
    /// over the device's connection.
    pub(super) fn poll_transmit(
        &mut self,
        horizon: Time,
        datagram: &mut [u8],
        shared: &mut Shared<'_>,
    ) -> Option<Transmit> {
        loop {
            let payload = &mut datagram[HEADER_LEN..];
            match self.downlink.poll(shared.now, horizon, payload, shared.budget)? {
                Due::Played(reply) => shared.reports.insist(self.media, MediaEvent::PlayedOut(reply)),
                Due::Packet { packet, due } if self.sealer.is_none() => {
                    self.report_downlink(&payload[..packet.len], packet.stamp, due, shared);
                }
                Due::Packet { packet, due } => {
                    // It flows, so there is an address.
                    let to = self.uplink.address()?;
                    if let Some(len) = self.seal(datagram, packet.len, packet.stamp, due, shared) {
                        let played_out = (self.route == Route::Participant).then_some(packet.stamp);
                        self.sent += 1;
                        self.note_active(shared);
                        return Some(Transmit { to, len, due, played_out });
                    }
                    self.downlink.counts.dropped += 1;
                }
            }
        }
    }

    fn report_downlink(&mut self, opus: &[u8], stamp: u32, due: Time, shared: &mut Shared<'_>) {
        let Some(packet) = OpusPacket::new(opus) else {
            self.downlink.counts.dropped += 1;
            return;
        };
        let media_ms = self.media_ms(due);
        let timestamp = media_ms as u32;
        self.last_media_ms = Some(media_ms);
        self.note_sent(timestamp, stamp);
        self.sent += 1;
        self.peaks.record(Duration::from_nanos(shared.now.signed_nanos_since(due).unsigned_abs()));
        self.note_active(shared);
        shared.reports.say_packet(Departed { media: self.media, packet, timestamp });
    }

    /// Media time is when it is due, so what the device echoes can be placed in time; it never stands still.
    fn media_ms(&self, due: Time) -> u64 {
        let media_ms = due.since(self.opened).as_millis() as u64;
        self.last_media_ms.map_or(media_ms, |last| media_ms.max(last + 1))
    }

    fn note_sent(&mut self, timestamp: u32, stamp: u32) {
        if self.route == Route::Chat {
            self.stamps.note(timestamp, stamp);
        }
    }

    fn seal(
        &mut self,
        datagram: &mut [u8],
        len: usize,
        stamp: u32,
        due: Time,
        shared: &mut Shared<'_>,
    ) -> Option<usize> {
        let media_ms = self.media_ms(due);
        match self.sealer.as_mut()?.seal(datagram, len, media_ms) {
            Ok((header, len)) => {
                self.last_media_ms = Some(media_ms);
                self.note_sent(header.timestamp, stamp);
                Some(len)
            }
            Err(SealError::KeyExhausted) if !self.is_exhausted => {
                self.is_exhausted = true;
                shared.reports.insist(self.media, MediaEvent::KeyExhausted);
                None
            }
            Err(_) => None,
        }
    }

    /// A packet left, this far from its deadline.
    pub(super) fn handle_departed(&mut self, error: Duration) {
        self.peaks.record(error);
    }

    /// The figures; those that are since the last report begin anew.
    pub(super) fn stats(&mut self) -> MediaStats {
        let (departure_p99_micros, departure_max_micros) = self.peaks.take();
        MediaStats {
            received: self.uplink.received(),
            lost: self.uplink.lost(),
            late: self.uplink.late(),
            refused: self.refused,
            sent: self.sent,
            dropped: self.downlink.counts.dropped + self.malformed,
            underruns: self.downlink.counts.underruns,
            jitter_micros: u32::try_from(self.uplink.jitter().as_micros()).unwrap_or(u32::MAX),
            departure_p99_micros,
            departure_max_micros,
            queued: u32::try_from(self.downlink.queued()).unwrap_or(u32::MAX),
            rung: 0,
        }
    }

    /// Packets sent, since the session opened.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Packets that were not sent because their deadline was missed, since the session opened.
    pub(super) const fn missed(&self) -> u64 {
        self.downlink.counts.missed
    }

    /// The last figures; gives back what it holds of the lane's memory.
    pub(super) fn close(
        mut self: Box<Self>,
        budget: &mut Budget,
        errands: &mut VecDeque<Errand>,
    ) -> MediaStats {
        if let Some(guest) = self.guest.take() {
            guest.move_out(|errand| errands.push_back(errand));
        }
        self.backlog.close(budget);
        self.downlink.close(budget);
        self.parrot.close(budget);
        self.stats()
    }

    fn note_active(&mut self, shared: &mut Shared<'_>) {
        if self.last_active.is_none_or(|last| shared.now.since(last) >= self.active_interval) {
            self.last_active = Some(shared.now);
            shared.reports.say(self.media, MediaEvent::AudioActive);
        }
    }
}

/// The end of the slot in which reports are due then.
fn slot(due: Time) -> Time {
    let length = REPORT_SLOT.as_nanos() as u64;
    Time::from_nanos(due.as_nanos().div_ceil(length) * length)
}

/// A time as packets carry it; it wraps.
pub(super) const fn micros(time: Time) -> u32 {
    (time.as_nanos() / 1000) as u32
}

/// Whether what the route gives is spoken live, so that waiting is delay.
const fn is_live(route: Route) -> bool {
    matches!(route, Route::Loopback | Route::Peer(_) | Route::Participant)
}
