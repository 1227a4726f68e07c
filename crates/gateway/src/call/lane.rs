//! What the lane reports.

use bytes::Bytes;
use evenkeel_core::units::Time;

use super::session::{Reply, RoomLink};
use super::{Call, EndReason, Note, Output, Packet};
use crate::media::{MediaCommand, MediaEvent, MediaId, Route};
use crate::room::RoomCommand;

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
            MediaEvent::Uplink { packet, timestamp } => {
                self.handle_uplink(media, Bytes::copy_from_slice(packet.opus()), timestamp, now);
            }
            MediaEvent::AudioActive => session.active = now,
            MediaEvent::DownlinkWaiting => {
                session.active = now;
                if matches!(session.reply, Reply::Silent | Reply::Stopping { .. }) && session.in_lane {
                    self.begin_reply(None);
                }
            }
            MediaEvent::DownlinkEnded if session.in_lane && !matches!(session.reply, Reply::Silent) => {
                self.end_reply(now);
            }
            MediaEvent::DownlinkEnded => {}
            MediaEvent::PlayedOut(played) => {
                session.active = now;
                if matches!(session.reply, Reply::Stopping { reply, .. } if reply == played) {
                    self.reply_played(now);
                }
            }
            // Audio goes past the call: to its device it is not news.
            MediaEvent::Stats(_) | MediaEvent::Downlink { .. } => {}
            MediaEvent::KeyExhausted => self.end(EndReason::KeyExhausted, true, now),
            MediaEvent::Failed(_) | MediaEvent::Closed(_) => self.end(EndReason::MediaFailed, true, now),
        }
        self.settle();
    }

    /// A packet of the uplink, as [`MediaEvent::Uplink`], that was taken out of its queue already.
    pub fn handle_uplink(&mut self, media: MediaId, opus: Bytes, timestamp: u32, now: Time) {
        if let Some(session) = self.session.as_mut().filter(|session| session.media == media) {
            session.active = now;
            self.uplink(Packet { opus, timestamp });
        }
    }

    fn uplink(&mut self, packet: Packet) {
        let Some(session) = &mut self.session else { return };
        match session.room {
            RoomLink::Ready { id, .. } => {
                let Packet { opus, timestamp } = packet;
                self.out.push_back(Output::Room(id, RoomCommand::Audio { opus, timestamp }));
            }
            RoomLink::Ended | RoomLink::Bridged => {}
            _ => {
                if !session.backlog.push_packet(packet) {
                    self.note(Note::AudioDropped);
                }
            }
        }
    }

    /// The call leaves its room and is connected to another device: at once if `peer` is its media session, later if
    /// it is still awaited. Without a session there is nothing to connect: `false`.
    pub fn handle_bridge(&mut self, peer: Option<MediaId>, now: Time) -> bool {
        let Some(session) = &mut self.session else { return false };
        let room = std::mem::replace(&mut session.room, RoomLink::Bridged);
        session.active = now;
        session.backlog.take();
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
