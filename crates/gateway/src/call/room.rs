//! What the room says, and how it is joined, lost and joined anew.

use evenkeel_core::units::Time;

use super::session::{Outage, Reply, RoomLink};
use super::{Call, EndReason, Note, Output};
use crate::device::message::Message;
use crate::room::{RoomCommand, RoomEvent, RoomId, SETTLED, TtsState};

impl Call {
    /// The room said this. What a room says that is not, or no longer, the call's has no effect.
    pub fn handle_room(&mut self, room: RoomId, event: RoomEvent, now: Time) {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.room == room) {
            if matches!(event, RoomEvent::Left | RoomEvent::Lost | RoomEvent::Ended) {
                self.leaving = None;
                self.join_if_waiting(now);
            }
            return;
        }
        let Some(session) = self.session.as_mut().filter(|session| session.room.id() == Some(room)) else {
            return;
        };
        match event {
            RoomEvent::Ready { session_id } => self.room_ready(room, session_id, now),
            RoomEvent::Lost => self.room_lost(now),
            RoomEvent::Ended | RoomEvent::Left => {
                session.room = RoomLink::Ended;
                self.end_reply_of_lost_room(now);
                self.end_if_due(now);
            }
            RoomEvent::Tts { state, envelope } => {
                session.active = now;
                match state {
                    TtsState::Start => {
                        let text = envelope.readdressed(&session.id);
                        self.begin_reply(Some(text));
                    }
                    TtsState::Sentence if matches!(session.reply, Reply::Discarding) => {}
                    TtsState::Sentence => {
                        let text = envelope.readdressed(&session.id);
                        self.say(text);
                    }
                    TtsState::Stop => self.end_reply(now),
                }
            }
            RoomEvent::Mcp { payload, envelope } => {
                if !self.mcp.as_mut().is_some_and(|mcp| mcp.handle_room(&payload)) {
                    let text = envelope.readdressed(&session.id);
                    self.say(text);
                }
            }
            RoomEvent::Text(envelope) => {
                session.active = now;
                let text = envelope.readdressed(&session.id);
                self.say(text);
            }
        }
        self.settle();
    }

    /// Joins as soon as no other room is being left.
    pub(super) fn join_if_waiting(&mut self, now: Time) {
        if self.leaving.is_some() {
            return;
        }
        if let Some(session) = &self.session
            && matches!(session.room, RoomLink::Waiting)
        {
            self.join(None, now);
        }
    }

    fn join(&mut self, outage: Option<Outage>, now: Time) {
        let Some(session) = &mut self.session else { return };
        let id = RoomId(self.next_room);
        self.next_room = self.next_room.wrapping_add(1);
        session.room = RoomLink::Joining { id, until: now + self.config.join_limit, outage };
        let join = Box::new(session.join());
        self.out.push_back(Output::Room(id, RoomCommand::Join(join)));
    }

    fn room_ready(&mut self, id: RoomId, room_session: Option<String>, now: Time) {
        let Some(session) = &mut self.session else { return };
        let RoomLink::Joining { outage, .. } = session.room else { return };
        session.room = RoomLink::Ready { id, session_id: room_session, since: now, outage };
        let backlog = std::mem::take(&mut session.backlog);
        let said_anew = backlog.iter().any(|incoming| matches!(incoming.message, Message::Listen(_)));
        let listening = session.listening.clone();
        self.note(Note::RoomReady);
        // A room that comes back has forgotten that the device was listening.
        if outage.is_some()
            && !said_anew
            && let Some(listening) = listening
        {
            self.pass_to_room(listening);
        }
        for incoming in backlog {
            self.pass_to_room(incoming);
        }
    }

    fn room_lost(&mut self, now: Time) {
        let Some(session) = &mut self.session else { return };
        let mut outage = match session.room {
            RoomLink::Joining { outage: Some(outage), .. } => outage,
            // It did not really come back.
            RoomLink::Ready { outage: Some(outage), since, .. } if now.since(since) < SETTLED => outage,
            _ => Outage { since: now, attempts: 0 },
        };
        outage.attempts += 1;
        let wait = self.config.room_retry * (1 << (outage.attempts - 1).min(4));
        session.room = RoomLink::Ended;
        self.note(Note::RoomLost);
        self.end_reply_of_lost_room(now);
        // Half of the wait is spread, so that the calls of a restarted server do not come back in one burst.
        let retry = now + wait / 2 + self.spread(wait / 2);
        if retry.since(outage.since) > self.config.room_return_limit {
            return self.end(EndReason::RoomGone, true, now);
        }
        if let Some(session) = &mut self.session {
            session.room = RoomLink::Lost { retry, outage };
        }
    }

    /// The room will not say `tts stop` any more.
    pub(super) fn end_reply_of_lost_room(&mut self, now: Time) {
        let reply = self.session.as_ref().map(|session| &session.reply);
        if matches!(reply, Some(Reply::Starting { .. } | Reply::Speaking)) {
            self.end_reply(now);
        }
    }

    /// What is due in the session is done.
    pub(super) fn handle_session_timeout(&mut self, now: Time) {
        let Some(session) = &self.session else { return };
        if session.active + self.config.idle_limit <= now {
            return self.end(EndReason::Idle, true, now);
        }
        if let Reply::Stopping { until, .. } = session.reply
            && until <= now
        {
            self.note(Note::PlayoutOverdue);
            self.reply_played(now);
        }
        let Some(session) = &self.session else { return };
        match session.room {
            RoomLink::Joining { id, until, .. } if until <= now => {
                self.out.push_back(Output::Room(id, RoomCommand::Leave));
                self.room_lost(now);
            }
            RoomLink::Lost { retry, outage } if retry <= now => self.join(Some(outage), now),
            _ => {}
        }
    }
}
