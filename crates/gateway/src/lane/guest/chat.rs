//! The connection to a chat server, living in a lane beside the session of its device.
//!
//! The call's room connects on the control plane and hands the connection over. From then on audio never leaves the
//! lane; texts go to the room and come from it through queues. What a server says keeps its order: behind a text
//! everything waits until the call has dealt with it, and behind more audio than its device will play for a while, until
//! that has been played. A server that talks without end is thereby slowed down, by what TCP has for that, and costs
//! nobody anything.

use std::io;
use std::time::Duration;

use evenkeel_core::units::Time;
use thiserror::Error;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender};

use super::Errand;
use crate::chat::wire::WireError;
use crate::chat::{Connection, Event};
use crate::lane::random::Random;
use crate::lane::stream::{Stream, Written};
use crate::media::GuestId;

/// How often a silent server is pinged; one that is silent for two in a row is lost.
const PING: Duration = Duration::from_secs(20);

/// How soon a server that did not read is offered more.
const RETRY: Duration = Duration::from_millis(20);

/// How soon a server that is far ahead of its device is read again.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is read ahead of what is dealt with while that waits, in bytes.
const AHEAD: usize = 16 * 1024;

/// Close codes (RFC 6455, section 7.4.1): done.
const NORMAL: u16 = 1000;

/// What the room asks for: say this to the server. That the room is gone, the end of its queue says.
#[derive(Debug)]
pub struct Request(pub String);

/// What the room is told.
#[derive(Debug)]
pub enum Told {
    /// The server said this. Nothing more comes until [`crate::media::MediaCommand::GoOn`].
    Text(Vec<u8>),
    /// The server closed, with this code if it gave one.
    Closed(Option<u16>),
    /// There is no way to go on.
    Lost(Loss),
    /// The connection, to be closed politely: the last there is.
    Left(Box<Farewell>),
}

/// Why a server was lost.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Loss {
    /// It went away without a word.
    #[error("the server ended the connection")]
    Ended,
    /// The network, or TLS.
    #[error(transparent)]
    Network(#[from] io::Error),
    /// It broke the protocol.
    #[error(transparent)]
    Protocol(#[from] WireError),
    /// It said nothing for two pings.
    #[error("the server fell silent")]
    Silent,
}

/// A connection that is over but for its close.
#[derive(Debug)]
pub struct Farewell {
    /// The stream.
    pub stream: Stream,
    /// What was said on it, and is still to be said.
    pub connection: Connection,
}

/// What a lane counts of chat servers.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::lane) struct Counts {
    /// Binary messages that are no audio.
    pub(in crate::lane) bad: u64,
    /// Frames dropped because a server did not read.
    pub(in crate::lane) stalled: u64,
    /// Times a server was so far ahead of its device that it had to wait.
    pub(in crate::lane) held: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct ChatGuest {
    connection: Connection,
    requests: Receiver<Request>,
    told: Sender<Told>,
    ports: Vec<u32>,
    id: GuestId,
    /// The room knows that it is there.
    is_open: bool,
    /// A text is on its way to the room, and was not dealt with yet.
    is_fenced: bool,
    /// The device has enough to play until then.
    held: Option<Time>,
    /// The thread reads from it.
    is_read: bool,
    /// The thread was asked to write.
    is_due: bool,
    /// The stream kept some of what was written, and has to be asked again.
    owes_flush: bool,
    /// When to offer the server again what it did not take.
    retry: Option<Time>,
    next_ping: Time,
    was_heard: bool,
    was_pinged: bool,
    /// Nothing more will come. What came before is dealt with yet.
    loss: Option<Loss>,
    is_gone: bool,
    counts: Counts,
}

impl ChatGuest {
    /// A connection after both hellos. It begins with [`crate::media::MediaCommand::GoOn`].
    #[must_use]
    pub fn new(id: GuestId, connection: Connection, requests: Receiver<Request>, told: Sender<Told>) -> Self {
        Self {
            connection,
            requests,
            told,
            ports: Vec::new(),
            id,
            is_open: false,
            is_fenced: true,
            held: None,
            is_read: true,
            is_due: false,
            owes_flush: false,
            retry: None,
            next_ping: Time::ZERO,
            was_heard: true,
            was_pinged: false,
            loss: None,
            is_gone: false,
            counts: Counts::default(),
        }
    }

    pub(super) fn settle(&mut self, ports: Vec<u32>, now: Time) {
        self.ports = ports;
        self.next_ping = now + PING;
    }

    /// Brings near what is on its way.
    pub(super) fn foresee(&self) {
        self.connection.foresee();
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether the server may be sent audio: the room has said what comes before it.
    pub(super) const fn is_open(&self) -> bool {
        self.is_open && self.loss.is_none() && !self.is_gone
    }

    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    pub(super) fn next_timeout(&self) -> Time {
        [self.retry, self.held].into_iter().flatten().fold(self.next_ping, Time::min)
    }

    /// Takes what waits in its queue.
    pub(super) fn handle_nudge(&mut self, random: &Random) {
        // There is no more than the queue holds.
        for _ in 0..self.requests.len() + 1 {
            match self.requests.try_recv() {
                Ok(Request(text)) => {
                    let said = self.connection.send_text(&text, random.next());
                    self.counts.stalled += u64::from(!said);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.leave(NORMAL, random),
            }
        }
    }

    /// The last text was dealt with, or that the server is there. Returns whether it is this guest that is meant, and not one
    /// that was there before.
    pub(super) fn handle_go_on(&mut self, guest: GuestId, random: &Random) -> bool {
        let is_ours = guest == self.id;
        if is_ours {
            // What the room said before goes first.
            self.handle_nudge(random);
            (self.is_open, self.is_fenced) = (true, false);
        }
        is_ours
    }

    /// Bytes came.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.was_heard = true;
        self.connection.push_input(bytes);
    }

    /// No more will come.
    pub(super) fn handle_end(&mut self, loss: Loss) {
        self.loss.get_or_insert(loss);
    }

    pub(super) fn handle_timeout(&mut self, now: Time, random: &Random) {
        self.owes_flush |= self.retry.take_if(|retry| *retry <= now).is_some();
        self.held.take_if(|until| *until <= now);
        if now < self.next_ping {
            return;
        }
        self.next_ping = now + PING;
        let was_heard = std::mem::take(&mut self.was_heard);
        if !was_heard && self.was_pinged {
            return self.handle_end(Loss::Silent);
        }
        self.was_pinged = !was_heard;
        if self.was_pinged {
            self.connection.send_ping(random.next());
        }
    }

    /// Sends what the device said.
    pub(super) fn publish(&mut self, timestamp: u32, opus: &[u8], random: &Random) {
        let said = self.connection.send_audio(timestamp, opus, random.next());
        self.counts.stalled += u64::from(!said);
    }

    /// Reads what came and is not held back, after any input. Audio goes to `heard`, with the server's timestamp, which says
    /// whether more may come.
    pub(super) fn drain(
        &mut self,
        now: Time,
        random: &Random,
        mut errand: impl FnMut(Errand),
        mut heard: impl FnMut(&[u8], u32) -> bool,
    ) {
        while !self.is_fenced && self.held.is_none() && !self.is_gone {
            match self.connection.poll_event(|| random.next()) {
                Ok(Some(Event::Audio { timestamp, opus })) => {
                    if !heard(opus, timestamp) {
                        self.held = Some(now + PATIENCE);
                        self.counts.held += 1;
                    }
                }
                Ok(Some(Event::Text(text))) => {
                    let told = Told::Text(text.to_vec());
                    self.is_fenced = true;
                    self.tell(told);
                }
                Ok(Some(Event::Bad)) => self.counts.bad += 1,
                Ok(Some(Event::Close(code))) => {
                    self.tell(Told::Closed(code));
                    self.leave(NORMAL, random);
                }
                Ok(None) => {
                    let Some(loss) = self.loss.take() else { break };
                    self.is_gone = true;
                    self.tell(Told::Lost(loss));
                }
                Err(error) => {
                    self.tell(Told::Lost(error.into()));
                    self.leave(error.close_code(), random);
                }
            }
        }
        let Some(&port) = self.ports.first().filter(|_| !self.is_gone) else { return };
        if self.loss.is_some() {
            return;
        }
        let waits = self.is_fenced || self.held.is_some();
        let wants = if waits { self.connection.waiting() < AHEAD } else { self.connection.wants_input() };
        if std::mem::replace(&mut self.is_read, wants) != wants {
            errand(if wants { Errand::Resume(port) } else { Errand::Pause(port) });
        }
        let is_due = self.retry.is_none() && (self.owes_flush || !self.connection.output().is_empty());
        if is_due && !std::mem::replace(&mut self.is_due, true) {
            errand(Errand::Write(port));
        }
    }

    /// The thread writes what there is to be written.
    pub(super) fn write(&mut self, now: Time, write: impl FnOnce(&[u8]) -> io::Result<Written>) {
        (self.is_due, self.owes_flush) = (false, false);
        match write(self.connection.output()) {
            Ok(Written { count, is_flushed }) => {
                self.connection.consume_output(count);
                self.retry = (!is_flushed).then(|| now + RETRY);
            }
            Err(error) => self.handle_end(error.into()),
        }
    }

    /// It goes; its connection goes back to the room, which closes it.
    pub(super) fn hand_back(self) -> Option<Errand> {
        let port = *self.ports.first()?;
        let back = HandBack { connection: self.connection, told: self.told };
        Some(Errand::HandBack(port, Box::new(back)))
    }

    fn leave(&mut self, code: u16, random: &Random) {
        self.connection.send_close(code, random.next());
        self.is_gone = true;
    }

    /// A room that does not listen is gone, and with it the reason to be here.
    fn tell(&mut self, told: Told) {
        self.is_gone |= self.told.try_send(told).is_err();
    }
}

/// What goes back to the room with its connection.
#[derive(Debug)]
pub struct HandBack {
    connection: Connection,
    told: Sender<Told>,
}

impl HandBack {
    /// With its connection.
    pub(in crate::lane) fn with(self, stream: Stream) {
        // If nobody is there to close it politely it just closes.
        let _ = self.told.try_send(Told::Left(Box::new(Farewell { stream, connection: self.connection })));
    }
}
