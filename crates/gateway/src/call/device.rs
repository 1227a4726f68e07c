//! What the device says.

use std::collections::VecDeque;

use evenkeel_core::units::Time;

use super::session::{Reply, RoomLink, Session};
use super::{Call, EndReason, Grant, Mqtt, Note, Output, Receipt};
use crate::device::answer::{self, HelloAnswer};
use crate::device::message::{Hello, Incoming, ListenState, Message};
use crate::media::{
    DownlinkFormat, Encryption, Gate, MediaCommand, Open, PlaceError, ReplyId, SessionKey, Transport,
};
use crate::room::RoomCommand;

impl Call {
    /// The device wants a session. `grant` is what it will be made of, or why it cannot be.
    ///
    /// The answer is among the first outputs: it does not wait for any room.
    pub fn handle_hello(&mut self, hello: Box<Hello>, grant: Result<Grant, PlaceError>, now: Time) {
        self.end(EndReason::NewHello, false, now);
        let grant = match grant {
            Ok(grant) if self.draining.is_some() => {
                self.out.push_back(Output::Release(grant.placement.media));
                Err(PlaceError::Draining)
            }
            other => other,
        };
        match grant {
            Ok(grant) => self.begin(hello, grant, now),
            Err(error) => {
                self.say(answer::error(&error.to_string()));
                self.note(Note::Refused);
            }
        }
        self.settle();
    }

    fn begin(&mut self, hello: Box<Hello>, grant: Grant, now: Time) {
        let Grant { placement, session_id, key, source, route } = grant;
        let (transport, encryption) = (hello.transport, self.suite(&hello));
        let key = SessionKey::new(encryption, &key);
        let media = placement.media;
        let downlink = self.config.downlink;
        let open = Open {
            transport,
            encryption,
            key: key.clone(),
            session_id: session_id.clone(),
            connection_id: placement.connection_id,
            source,
            downlink: DownlinkFormat {
                sample_rate: downlink.sample_rate,
                frame_duration: downlink.frame_duration,
            },
            route,
            first_datagram_limit: self.config.first_datagram_limit,
            active_interval: self.config.idle_limit / 8,
        };
        self.media_command(media, MediaCommand::Open(Box::new(open)));
        self.say(match transport {
            Transport::Udp => {
                let session_id = session_id.clone();
                HelloAnswer { session_id, placement, encryption, key, audio: downlink }.to_json()
            }
            Transport::WebSocket => answer::websocket_hello(&session_id, downlink),
        });
        self.note(Note::SessionBegan);
        if let Some(mcp) = self.mcp.as_mut().filter(|_| hello.mcp) {
            mcp.handle_session(now);
        }
        self.session = Some(Session {
            id: session_id,
            media,
            hello,
            room: RoomLink::Waiting,
            reply: Reply::Silent,
            lane_tells_replies: route.tells_replies(),
            seen: transport == Transport::WebSocket,
            owes_stop: false,
            listening: None,
            backlog: VecDeque::new(),
            active: now,
        });
        self.join_if_waiting(now);
    }

    /// The first suite of ours that the device knows; `compat` if none.
    fn suite(&self, hello: &Hello) -> Encryption {
        let known = self.config.sealed.iter().find(|suite| hello.sealed.contains(suite));
        known.copied().unwrap_or(Encryption::Aes128Ctr)
    }

    /// The device said anything but `hello`. (A `hello` needs a [`Grant`]: see [`Call::handle_hello`].)
    pub fn handle_message(&mut self, incoming: Box<Incoming>, now: Time) {
        self.heard(incoming, now);
        self.settle();
    }

    fn heard(&mut self, incoming: Box<Incoming>, now: Time) {
        if let Message::Mcp { payload } = &incoming.message
            && self.mcp.as_mut().is_some_and(|mcp| mcp.handle_device(payload, now))
        {
            return;
        }
        let current = match (&self.session, &incoming.session_id) {
            (Some(session), Some(id)) => session.id == *id,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !current {
            return self.heard_stale(&incoming);
        }
        let Some(session) = &mut self.session else { return };
        session.active = now;
        match &incoming.message {
            Message::Hello(_) => {}
            Message::Goodbye => self.end(EndReason::Goodbye, false, now),
            Message::UdpTimeout => self.end(EndReason::UdpTimeout, true, now),
            Message::Abort { .. } => {
                self.abort();
                self.pass_to_room(incoming);
                self.end_if_due(now);
            }
            Message::Listen(listen) => {
                match listen.state {
                    ListenState::Start => session.listening = Some(incoming.clone()),
                    ListenState::Stop => session.listening = None,
                    ListenState::Detect => {}
                }
                self.pass_to_room(incoming);
            }
            Message::Mcp { .. } | Message::Other { .. } => self.pass_to_room(incoming),
        }
    }

    /// A device that speaks of a session which is over is told that it is over.
    fn heard_stale(&mut self, incoming: &Incoming) {
        self.note(Note::StaleMessage);
        let wants_telling =
            !matches!(incoming.message, Message::Goodbye | Message::Hello(_) | Message::Mcp { .. });
        if wants_telling && let Some(id) = &incoming.session_id {
            self.say(answer::goodbye(id, None));
        }
    }

    /// Drops what is queued of the reply, and what is still to come of it.
    fn abort(&mut self) {
        let Some(session) = &mut self.session else { return };
        let media = session.media;
        if matches!(session.room, RoomLink::Bridged) {
            return;
        }
        match session.reply {
            Reply::Silent => self.media_command(media, MediaCommand::Flush),
            Reply::Starting { .. } | Reply::Speaking | Reply::Stopping { .. } => {
                session.reply = Reply::Discarding;
                self.media_command(media, MediaCommand::Gate(Gate::Discard));
                self.say_stop();
                self.note(Note::Aborted);
            }
            Reply::Discarding => {}
        }
    }

    /// Hands a message of the device to the room, or keeps it until there is one.
    pub(super) fn pass_to_room(&mut self, incoming: Box<Incoming>) {
        let Some(session) = &mut self.session else { return };
        match &session.room {
            RoomLink::Ready { id, session_id, .. } => {
                let text = match session_id {
                    Some(session_id) if incoming.envelope.has_session() => {
                        incoming.envelope.readdressed(session_id)
                    }
                    _ => incoming.envelope.text().to_owned(),
                };
                self.out.push_back(Output::Room(*id, RoomCommand::Device { incoming, text }));
            }
            RoomLink::Ended | RoomLink::Bridged => self.note(Note::MessageDropped),
            _ => {
                if !session.keep(incoming) {
                    self.note(Note::MessageDropped);
                }
            }
        }
    }

    /// A message for which a receipt was asked is on the wire.
    pub fn handle_written(&mut self, receipt: Receipt, now: Time) {
        let Some(session) = &mut self.session else { return };
        let Reply::Starting { receipt: awaited, ending } = session.reply else { return };
        if awaited != receipt {
            return;
        }
        session.reply = Reply::Speaking;
        let media = session.media;
        self.media_command(media, MediaCommand::Gate(Gate::Flow { lead: self.config.lead }));
        if ending {
            self.end_reply(now);
        }
    }

    /// The room's reply begins: the device is told first, and audio is held until it was. `text` is the `tts start`
    /// of the room, if it has one.
    pub(super) fn begin_reply(&mut self, text: Option<String>) {
        let Some(session) = &mut self.session else { return };
        let media = session.media;
        match session.reply {
            Reply::Silent | Reply::Discarding => {
                let discarding = matches!(session.reply, Reply::Discarding);
                let receipt = Receipt(self.next_receipt);
                self.next_receipt = self.next_receipt.wrapping_add(1);
                session.reply = Reply::Starting { receipt, ending: false };
                session.owes_stop = false;
                let text = text.unwrap_or_else(|| answer::tts(&session.id, "start", None));
                if discarding {
                    self.media_command(media, MediaCommand::Gate(Gate::Hold));
                }
                self.say_start(text, receipt);
                self.note(Note::ReplyBegan);
            }
            // The device still plays the reply before: to it, both are one.
            Reply::Stopping { .. } => session.reply = Reply::Speaking,
            Reply::Starting { ref mut ending, .. } => *ending = false,
            Reply::Speaking => {}
        }
    }

    /// The room is done with its reply: the device is told once it has played it.
    pub(super) fn end_reply(&mut self, now: Time) {
        let Some(session) = &mut self.session else { return };
        match session.reply {
            Reply::Starting { ref mut ending, .. } => *ending = true,
            Reply::Speaking => {
                let reply = ReplyId(self.next_reply);
                self.next_reply = self.next_reply.wrapping_add(1);
                let limit =
                    if session.seen { self.config.playout_limit } else { self.config.unseen_playout_limit };
                session.reply = Reply::Stopping { reply, until: now + limit };
                let media = session.media;
                self.media_command(media, MediaCommand::Mark(reply));
            }
            Reply::Silent => self.say_stop(),
            // A reply whose end the lane tells has nothing more to come; a chat server's may.
            Reply::Discarding if session.lane_tells_replies => {
                session.reply = Reply::Silent;
                let media = session.media;
                self.media_command(media, MediaCommand::Gate(Gate::Hold));
            }
            Reply::Stopping { .. } | Reply::Discarding => {}
        }
    }

    /// The device has played the reply.
    pub(super) fn reply_played(&mut self, now: Time) {
        let Some(session) = &mut self.session else { return };
        session.reply = Reply::Silent;
        let media = session.media;
        self.say_stop();
        self.media_command(media, MediaCommand::Gate(Gate::Hold));
        self.media_command(media, MediaCommand::Flush);
        self.note(Note::ReplyEnded);
        self.end_if_due(now);
    }

    /// Ends the session if only the reply was waited for.
    pub(super) fn end_if_due(&mut self, now: Time) {
        let Some(session) = &self.session else { return };
        if !matches!(session.reply, Reply::Silent | Reply::Discarding) {
            return;
        }
        if matches!(session.room, RoomLink::Ended) {
            self.end(EndReason::RoomEnded, true, now);
        } else if self.draining.is_some() {
            self.end(EndReason::Draining, true, now);
        }
    }

    fn say_start(&mut self, text: String, receipt: Receipt) {
        match self.mqtt {
            Mqtt::Up => self.out.push_back(Output::Device { text, receipt: Some(receipt) }),
            // Said when the connection returns; until then the audio is held.
            Mqtt::Down { .. } => {}
        }
    }

    fn say_stop(&mut self) {
        let Some(session) = &mut self.session else { return };
        match self.mqtt {
            Mqtt::Up => {
                let text = answer::tts(&session.id, "stop", None);
                self.say(text);
            }
            Mqtt::Down { .. } => session.owes_stop = true,
        }
    }

    /// Says again what a connection that broke may have swallowed.
    pub(super) fn repeat_reply_state(&mut self) {
        let Some(session) = &mut self.session else { return };
        let start = answer::tts(&session.id, "start", None);
        match session.reply {
            Reply::Starting { ref mut receipt, .. } => {
                *receipt = Receipt(self.next_receipt);
                self.next_receipt = self.next_receipt.wrapping_add(1);
                let receipt = *receipt;
                self.say_start(start, receipt);
            }
            Reply::Speaking | Reply::Stopping { .. } => self.say(start),
            Reply::Silent | Reply::Discarding if std::mem::take(&mut session.owes_stop) => self.say_stop(),
            Reply::Silent | Reply::Discarding => {}
        }
    }
}
