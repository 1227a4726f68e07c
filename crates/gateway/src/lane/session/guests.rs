//! What a session has to do with the room's end that lives beside it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_core::relay::MAX_OPUS_PACKET;
use evenkeel_core::units::Time;

use super::{Session, Shared, micros};
use crate::lane::guest::chat::Loss;
use crate::lane::guest::{Guest, Word};
use crate::lane::random::Random;
use crate::lane::ring::Head;
use crate::lane::stream::Written;
use crate::lane::uplink::Heard;
use crate::lane::voices::Said;
use crate::media::GuestId;
use crate::media::{MediaEvent, Route};

/// What a device says while its chat server is still being joined is kept for so long.
const BACKLOG: Duration = Duration::from_secs(3);

impl Session {
    /// Whether a room's end may live beside it.
    pub(in crate::lane) const fn takes_guests(&self) -> bool {
        self.route.takes_guests()
    }

    /// A room's end moves in, whose sockets the thread knows by `ports`. One that was there before moves out.
    pub(in crate::lane) fn attach(&mut self, mut guest: Guest, ports: Vec<u32>, shared: &mut Shared<'_>) {
        self.dismiss(shared);
        guest.settle(ports, self.rate, shared.now);
        self.guest = Some(guest);
        self.note_guest();
        match self.may_go_on.take() {
            Some(id) => self.handle_go_on(id, shared),
            None => self.handle_nudge(shared),
        }
    }

    /// This guest may go on. It may still be on its way here, which is another than that of commands.
    pub(super) fn handle_go_on(&mut self, id: GuestId, shared: &mut Shared<'_>) {
        let mut is_here = false;
        self.with_guest(shared, |guest, _, random| is_here = guest.handle_go_on(id, random));
        self.may_go_on = (!is_here).then_some(id);
    }

    /// There is something in the queues of its guest.
    pub(super) fn handle_nudge(&mut self, shared: &mut Shared<'_>) {
        self.with_guest(shared, Guest::handle_nudge);
    }

    /// A datagram came on a port of its guest.
    pub(in crate::lane) fn handle_guest_datagram(
        &mut self,
        port: u32,
        from: SocketAddr,
        datagram: &[u8],
        shared: &mut Shared<'_>,
    ) {
        self.with_guest(shared, |guest, now, _| guest.handle_datagram(now, port, from, datagram));
    }

    /// Bytes came on its guest's stream.
    pub(in crate::lane) fn handle_guest_bytes(&mut self, bytes: &[u8], shared: &mut Shared<'_>) {
        self.with_guest(shared, |guest, _, _| guest.handle_bytes(bytes));
    }

    /// No more will come there.
    pub(in crate::lane) fn handle_guest_end(&mut self, loss: Loss, shared: &mut Shared<'_>) {
        self.with_guest(shared, |guest, _, _| guest.handle_end(loss));
    }

    /// The thread writes what its guest has to be written.
    pub(in crate::lane) fn write_guest(
        &mut self,
        write: impl FnOnce(&[u8]) -> io::Result<Written>,
        shared: &mut Shared<'_>,
    ) {
        self.with_guest(shared, |guest, now, _| guest.write(now, write));
    }

    pub(super) fn handle_guest_timeout(&mut self, shared: &mut Shared<'_>) {
        if self.guest_due.is_some_and(|due| due <= shared.now) {
            self.with_guest(shared, Guest::handle_timeout);
        }
    }

    /// Hands over what the device said, or keeps it until it can be.
    pub(super) fn tell_guest(&mut self, heard: &Heard<'_>, shared: &mut Shared<'_>) {
        let timestamp = self.stamps.room_of(heard.echoed).unwrap_or(heard.media.as_millis() as u32);
        if self.guest.as_ref().is_some_and(Guest::is_open) {
            self.with_guest(shared, |guest, now, random| guest.publish(now, heard, timestamp, random));
        } else if self.route == Route::Chat {
            let duration = Duration::from_micros(heard.frames.duration_us().into());
            while self.backlog.duration() + duration > BACKLOG && self.backlog.drop_head().is_some() {
                shared.totals.unkept += 1;
            }
            let is_kept = self.backlog.push(heard.opus, duration, timestamp, shared.budget);
            shared.totals.unkept += u64::from(!is_kept);
        }
    }

    /// Does something with the guest, then what it wants.
    fn with_guest(&mut self, shared: &mut Shared<'_>, work: impl FnOnce(&mut Guest, Time, &Random)) {
        let Some(mut guest) = self.guest.take() else { return };
        let now = shared.now;
        // What is late already when the lane comes to it is late by that, too.
        let due = guest.next_playout().map_or(now, |due| due.min(now));
        work(&mut guest, now, shared.random);
        self.catch_up(&mut guest, shared);
        let (random, mut errands) = (shared.random, std::mem::take(shared.errands));
        guest.drain(
            now,
            random,
            |errand| errands.push_back(errand),
            |word| match word {
                Word::Packet(opus, timestamp) => self.push_downlink(opus, timestamp, shared),
                Word::Voice(said) => {
                    match said {
                        Said::Began => self.downlink.announce_again(),
                        Said::Opus(opus) => _ = self.push_downlink(opus, micros(due), shared),
                        Said::Ended => shared.reports.insist(self.media, MediaEvent::DownlinkEnded),
                    }
                    true
                }
            },
        );
        *shared.errands = errands;
        shared.totals.count_room(guest.take_counts());
        let is_gone = guest.is_gone();
        self.guest = Some(guest);
        self.note_guest();
        if is_gone {
            self.dismiss(shared);
        }
    }

    /// To be called whenever the guest was changed.
    pub(super) fn note_guest(&mut self) {
        self.guest_due = self.guest.as_ref().map(Guest::next_timeout);
    }

    /// Hands over what was kept.
    fn catch_up(&mut self, guest: &mut Guest, shared: &mut Shared<'_>) {
        if self.backlog.peek().is_none() || !guest.is_open() {
            return;
        }
        let mut opus = [0; MAX_OPUS_PACKET];
        while let Some(head) = self.backlog.pop(&mut opus) {
            if let Head::Packet(packet) = head {
                guest.publish_late(&opus[..packet.len], packet.stamp, shared.random);
            }
        }
        self.backlog.close(shared.budget);
    }

    /// The guest, if there is one, moves out.
    pub(super) fn dismiss(&mut self, shared: &mut Shared<'_>) {
        let Some(guest) = self.guest.take() else { return };
        self.note_guest();
        if guest.is_speaking() {
            shared.reports.insist(self.media, MediaEvent::DownlinkEnded);
        }
        guest.move_out(|errand| shared.errands.push_back(errand));
    }
}
