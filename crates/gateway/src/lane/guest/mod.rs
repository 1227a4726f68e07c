//! A room's end of a call that lives in a lane, beside the session of its device: a LiveKit participant, or the
//! connection to a chat server.
//!
//! The room joins on the control plane and hands over what it joined with. From then on audio never leaves the lane;
//! only what the room says, and what it is asked, passes through queues.

pub mod chat;
pub mod livekit;

use std::io;
use std::net::SocketAddr;

use evenkeel_core::units::{SampleRate, Time};
use evenkeel_livekit::participant::Transmit;
use evenkeel_sys::cache::prefetch;
use evenkeel_sys::udp::Socket;

use self::chat::{ChatGuest, Counts, HandBack, Loss};
use self::livekit::LiveKitGuest;
use super::Reach;
use super::random::Random;
use super::stream::{Stream, Written};
use super::uplink::Heard;
use super::voices::Said;
use crate::media::GuestId;

/// What a lane is handed.
pub struct Arrival {
    /// Who moves in.
    pub guest: Guest,
    /// Its sockets, in the order it knows them by.
    pub links: Vec<Link>,
}

/// A socket of a guest.
#[derive(Debug)]
pub enum Link {
    /// Of a participant.
    Udp(Socket),
    /// Of a chat server.
    Stream(Stream),
}

/// See the [module](self).
#[derive(Debug)]
pub enum Guest {
    /// A LiveKit participant.
    LiveKit(Box<LiveKitGuest>),
    /// The connection to a chat server.
    Chat(Box<ChatGuest>),
}

/// What a guest wants of its lane's thread.
#[derive(Debug)]
pub enum Errand {
    /// Send a datagram from this port.
    Send(u32, Transmit),
    /// Fetch by [`super::Lane::write_guest`] what is to be written to this port.
    Write(u32),
    /// Read no more from this port.
    Pause(u32),
    /// Read again.
    Resume(u32),
    /// Close this port.
    Close(u32),
    /// Give the connection of this port back to its room.
    HandBack(u32, Box<HandBack>),
}

/// What comes from the room.
pub(super) enum Word<'a> {
    /// A participant's, when it was played out of its jitter buffer.
    Voice(Said<'a>),
    /// A chat server's, with its timestamp.
    Packet(&'a [u8], u32),
}

impl Guest {
    /// The lane's names for its sockets, and what the device decodes at.
    pub(super) fn settle(&mut self, ports: Vec<u32>, rate: SampleRate, now: Time) {
        match self {
            Self::LiveKit(guest) => guest.settle(ports, rate),
            Self::Chat(guest) => guest.settle(ports, now),
        }
    }

    /// Brings near what it will need, see [`super::Reach`].
    pub(super) fn foresee(&self, reach: Reach) {
        match (self, reach) {
            (Self::Chat(guest), Reach::Guest) => prefetch(&**guest),
            (Self::Chat(guest), Reach::Bytes) => guest.foresee(),
            (Self::Chat(_), Reach::Session | Reach::Queue) | (Self::LiveKit(_), _) => {}
        }
    }

    /// Whether it has left, or is lost.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::LiveKit(guest) => guest.is_gone(),
            Self::Chat(guest) => guest.is_gone(),
        }
    }

    /// Whether what the device says can be handed to it.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::LiveKit(_) => true,
            Self::Chat(guest) => guest.is_open(),
        }
    }

    /// Whether a reply is under way whose end it would tell.
    pub(super) fn is_speaking(&self) -> bool {
        matches!(self, Self::LiveKit(guest) if guest.is_speaking())
    }

    /// The device does not want to hear the rest of the reply. Whether there is a rest, whose end is told later.
    pub(super) fn stop(&mut self) -> bool {
        match self {
            Self::LiveKit(guest) => guest.stop(),
            Self::Chat(_) => false,
        }
    }

    /// The device wants to hear what comes.
    pub(super) fn resume(&mut self) {
        if let Self::LiveKit(guest) = self {
            guest.resume();
        }
    }

    /// When to call [`Guest::handle_timeout`].
    pub(super) fn next_timeout(&self) -> Time {
        match self {
            Self::LiveKit(guest) => guest.next_timeout(),
            Self::Chat(guest) => guest.next_timeout(),
        }
    }

    /// When something is played next, out of a jitter buffer or a mix.
    pub(super) fn next_playout(&self) -> Option<Time> {
        match self {
            Self::LiveKit(guest) => guest.next_playout(),
            Self::Chat(_) => None,
        }
    }

    /// What it counted since it was last asked.
    pub(super) fn take_counts(&mut self) -> Counts {
        match self {
            Self::LiveKit(_) => Counts::default(),
            Self::Chat(guest) => guest.take_counts(),
        }
    }

    /// Takes what waits in its queues.
    pub(super) fn handle_nudge(&mut self, now: Time, random: &Random) {
        match self {
            Self::LiveKit(guest) => guest.handle_nudge(now),
            Self::Chat(guest) => guest.handle_nudge(random),
        }
    }

    /// Its room has dealt with what it was told. Returns whether it is the one that is meant.
    pub(super) fn handle_go_on(&mut self, id: GuestId, random: &Random) -> bool {
        match self {
            Self::LiveKit(_) => false,
            Self::Chat(guest) => guest.handle_go_on(id, random),
        }
    }

    /// A datagram came on one of its ports.
    pub(super) fn handle_datagram(&mut self, now: Time, port: u32, from: SocketAddr, datagram: &[u8]) {
        if let Self::LiveKit(guest) = self {
            guest.handle_datagram(now, port, from, datagram);
        }
    }

    /// Bytes came on its stream.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        if let Self::Chat(guest) = self {
            guest.handle_bytes(bytes);
        }
    }

    /// No more will come on its stream.
    pub(super) fn handle_end(&mut self, loss: Loss) {
        if let Self::Chat(guest) = self {
            guest.handle_end(loss);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time, random: &Random) {
        match self {
            Self::LiveKit(guest) => guest.handle_timeout(now),
            Self::Chat(guest) => guest.handle_timeout(now, random),
        }
    }

    /// Hands over what the device said.
    pub(super) fn publish(&mut self, now: Time, heard: &Heard<'_>, timestamp: u32, random: &Random) {
        match self {
            Self::LiveKit(guest) => guest.publish(now, heard),
            Self::Chat(guest) => guest.publish(timestamp, heard.opus, random),
        }
    }

    /// Hands over what the device said before it could be heard.
    pub(super) fn publish_late(&mut self, opus: &[u8], timestamp: u32, random: &Random) {
        if let Self::Chat(guest) = self {
            guest.publish(timestamp, opus, random);
        }
    }

    /// Does what it wants, after any input. What comes from the room goes to `word`, which says whether more may come at
    /// once: a chat server can wait.
    pub(super) fn drain(
        &mut self,
        now: Time,
        random: &Random,
        errand: impl FnMut(Errand),
        mut word: impl FnMut(Word<'_>) -> bool,
    ) {
        match self {
            Self::LiveKit(guest) => guest.drain(now, errand, |said| _ = word(Word::Voice(said))),
            Self::Chat(guest) => {
                guest.drain(now, random, errand, |opus, stamp| word(Word::Packet(opus, stamp)))
            }
        }
    }

    /// The thread writes what there is to be written.
    pub(super) fn write(&mut self, now: Time, write: impl FnOnce(&[u8]) -> io::Result<Written>) {
        if let Self::Chat(guest) = self {
            guest.write(now, write);
        }
    }

    /// It moves out.
    pub(super) fn move_out(self, mut errand: impl FnMut(Errand)) {
        match self {
            Self::LiveKit(guest) => guest.ports().iter().for_each(|&port| errand(Errand::Close(port))),
            Self::Chat(guest) => guest.hand_back().into_iter().for_each(errand),
        }
    }
}
