//! What the lane reports.

use evenkeel_core::units::Time;

use super::session::{Reply, RoomLink};
use super::{Call, EndReason, Note};
use crate::media::{MediaCommand, MediaEvent, MediaId, Route};

impl Call {
    /// The lane reported this of a media session; one that is not the current one has no effect.
    pub fn handle_media(&mut self, media: MediaId, event: MediaEvent, now: Time) {
        let Some(session) = self.session.as_mut().filter(|session| session.media == media) else { return };
        match event {
            MediaEvent::FirstDatagram { .. } => {
                session.seen = true;
                session.active = now;
                self.note(Note::UdpSeen);
            }
            MediaEvent::NeverSeen => self.note(Note::UdpNeverSeen),
            MediaEvent::AudioActive => session.active = now,
            MediaEvent::DownlinkWaiting => {
                session.active = now;
                if matches!(session.reply, Reply::Silent | Reply::Stopping { .. })
                    && session.lane_tells_replies
                {
                    self.begin_reply(None);
                }
            }
            MediaEvent::DownlinkEnded
                if session.lane_tells_replies && !matches!(session.reply, Reply::Silent) =>
            {
                self.end_reply(now);
            }
            MediaEvent::DownlinkEnded => {}
            MediaEvent::PlayedOut(played) => {
                session.active = now;
                if matches!(session.reply, Reply::Stopping { reply, .. } if reply == played) {
                    self.reply_played(now);
                }
            }
            MediaEvent::Stats(_) => {}
            MediaEvent::KeyExhausted => self.end(EndReason::KeyExhausted, true, now),
            MediaEvent::Failed(_) | MediaEvent::Closed(_) => self.end(EndReason::MediaFailed, true, now),
        }
        self.settle();
    }

    /// The call leaves its room and is connected to another device: at once if `peer` is its media session, later if
    /// it is still awaited. Without a session there is nothing to connect: `false`.
    pub fn handle_bridge(&mut self, peer: Option<MediaId>, now: Time) -> bool {
        let Some(session) = &mut self.session else { return false };
        let room = std::mem::replace(&mut session.room, RoomLink::Bridged);
        session.active = now;
        session.backlog.clear();
        let media = session.media;
        self.leave(&room, now);
        match peer {
            Some(peer) => {
                self.media_command(media, MediaCommand::Flush);
                self.media_command(media, MediaCommand::Route(Route::Peer(peer)));
                self.begin_reply(None);
            }
            None => self.end_reply_of_lost_room(now),
        }
        true
    }

    /// The other device is gone.
    pub fn handle_peer_gone(&mut self, now: Time) {
        if self.session.as_ref().is_some_and(|session| matches!(session.room, RoomLink::Bridged)) {
            self.end(EndReason::PeerGone, true, now);
            self.settle();
        }
    }
}
