//! What the server says: joining, resuming, descriptions, participants and tracks.

use std::time::Instant;

use livekit_protocol as proto;
use proto::leave_request::Action;
use proto::participant_info::State;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;

use super::peer::{PeerConnection, Role, Wanted, parse_candidate, tracks_by_mid};
use super::room::{Change, Room};
use super::types::{CloseReason, Event, Speaker};
use super::{Participant, Published, Route, Session, roles};
use crate::data::{Delivery, Inbox, Outbox};
use crate::error::{MediaError, SignalError};
use crate::signal::{Connections, SignalCommand};

/// The most audio sections a session offers, beyond the tracks it may receive at once.
const SPARE_SECTIONS: usize = 4;
/// How many speakers of one update are told.
const SPEAKER_LIMIT: usize = 64;

impl Participant {
    pub(super) fn handle_joined(
        &mut self,
        now: Instant,
        connection: u32,
        connections: Connections,
        join: proto::JoinResponse,
    ) {
        self.end_calls();
        let us = join.participant.unwrap_or_default();
        let next_track = self.session.as_ref().map_or(self.next_track, |s| s.room.next_track());
        self.next_track = next_track;
        let config = &self.config;
        let peers = roles(connections)
            .iter()
            .enumerate()
            .map(|(i, role)| {
                let udp = if i == 0 { config.udp } else { config.second_udp.or(config.udp) };
                PeerConnection::new(now, *role, config, udp)
            })
            .collect();
        let random = self.next_random();
        let published = self.config.publish.is_some().then(|| Published {
            cid: format!("evenkeel-{random:016x}"),
            info: None,
            // The upper half stays free, or an early loss could hide a wrap of the sequence (RFC 3711 3.3.1).
            sequence: random & 0x7fff,
            time: (random >> 16) as u32,
            is_muted: false,
        });
        let config = &self.config;
        self.session = Some(Session {
            connection,
            sid: us.sid.clone(),
            identity: us.identity.clone(),
            room: Room::new(config.participants, config.tracks, config.subscribe, next_track),
            peers,
            receive_wanted: usize::from(config.subscribe && connections == Connections::Single),
            offer_again: false,
            restart_again: false,
            routes: Vec::new(),
            ssrcs: Vec::new(),
            published,
            inbox: Inbox::new(config.data_rate),
            outbox: Outbox::default(),
            is_connected: false,
            media_by: Some(now + config.media_timeout),
            resume_at: None,
            tcp_at: config.tcp_after.map(|after| now + after),
            tcps: Vec::new(),
        });
        let room = join.room.unwrap_or_default().name;
        self.emit(Event::Joined { room, sid: us.sid, identity: us.identity });
        self.add_track();
        self.offer(false);
        self.update_participants(&join.other_participants);
    }

    /// Announces our track; must come before the offer that carries it.
    fn add_track(&mut self) {
        let Some(publish) = self.config.publish.clone() else { return };
        let Some(published) = self.session.as_ref().and_then(|s| s.published.as_ref()) else { return };
        let features = if publish.stereo { vec![proto::AudioTrackFeature::TfStereo.into()] } else { vec![] };
        let request = proto::AddTrackRequest {
            cid: published.cid.clone(),
            name: publish.name,
            r#type: proto::TrackType::Audio.into(),
            source: proto::TrackSource::Microphone.into(),
            disable_red: true,
            audio_features: features,
            ..proto::AddTrackRequest::default()
        };
        self.request(Request::AddTrack(request));
    }

    /// Makes and sends an offer of what the session wants; later, if one is under way.
    fn offer(&mut self, restart: bool) {
        let Some(session) = &mut self.session else { return };
        let peer = &mut session.peers[0];
        if peer.is_negotiating() {
            session.offer_again = true;
            session.restart_again |= restart;
            return;
        }
        let wanted = Wanted {
            cid: session.published.as_ref().map(|p| p.cid.as_str()),
            receive: session.receive_wanted,
            restart,
        };
        if let Some(offer) = peer.offer(wanted) {
            self.request(Request::Offer(offer));
        }
    }

    pub(super) fn handle_resumed(
        &mut self,
        now: Instant,
        connection: u32,
        reconnect: &proto::ReconnectResponse,
    ) {
        let Some(session) = &mut self.session else { return };
        session.connection = connection;
        if session.peers[0].is_negotiating() {
            // Whether the server saw the offer cannot be known, and two minds about the sections cannot be mended.
            self.rejoin();
            return;
        }
        let described = if session.is_dual() { 1 } else { 0 };
        let state = proto::SyncState {
            answer: session.peers[described].last_answer.clone(),
            offer: session.peers[described].last_offer.clone(),
            subscription: Some(proto::UpdateSubscription {
                track_sids: session.room.subscribed(),
                subscribe: true,
                ..proto::UpdateSubscription::default()
            }),
            publish_tracks: session
                .published
                .iter()
                .filter_map(|p| {
                    let (cid, track) = (p.cid.clone(), Some(p.info.clone()?));
                    Some(proto::TrackPublishedResponse { cid, track })
                })
                .collect(),
            datachannel_receive_states: session.inbox.receive_states(),
            ..proto::SyncState::default()
        };
        session.media_by = Some(now + self.config.media_timeout);
        session.resume_at = None;
        for peer in &mut session.peers {
            peer.expect_candidates_again();
        }
        let muted = session.published.as_ref().filter(|p| p.is_muted).and_then(|p| p.info.clone());
        self.request(Request::SyncState(state));
        self.offer(true);
        if let Some(track) = muted {
            self.request(Request::Mute(proto::MuteTrackRequest { sid: track.sid, muted: true }));
        }
        self.send_unseen(reconnect.last_message_seq);
        self.emit(Event::Resumed);
    }

    pub(super) fn handle_message(&mut self, now: Instant, message: Response) {
        let Some(session) = &mut self.session else { return };
        match message {
            Response::Answer(answer) => self.handle_answer(answer),
            Response::Offer(offer) => self.handle_offer(offer),
            Response::Trickle(trickle) => {
                let at = match trickle.target() {
                    proto::SignalTarget::Subscriber if session.is_dual() => 1,
                    _ => 0,
                };
                let taken = match parse_candidate(&trickle.candidate_init) {
                    Ok(Some(candidate)) => session.peers[at].handle_candidate(candidate),
                    Ok(None) => true,
                    Err(_) => false,
                };
                self.counters.signal_ignored += u64::from(!taken);
            }
            Response::Update(update) => self.update_participants(&update.participants),
            Response::MediaSectionsRequirement(requirement) => {
                let most = self.config.tracks + SPARE_SECTIONS;
                session.receive_wanted = (session.receive_wanted + requirement.num_audios as usize).min(most);
                self.offer(false);
            }
            Response::TrackPublished(response) => self.handle_published(response),
            Response::TrackUnpublished(_) => self.rejoin(),
            Response::TrackSubscribed(_) => self.emit(Event::FirstListener),
            Response::Mute(mute) => {
                if let Some(published) = &mut session.published
                    && published.info.as_ref().is_some_and(|i| i.sid == mute.sid)
                {
                    published.is_muted = mute.muted;
                    self.emit(Event::MutedByServer { muted: mute.muted });
                }
            }
            Response::SpeakersChanged(changed) => {
                let speakers = changed
                    .speakers
                    .iter()
                    .take(SPEAKER_LIMIT)
                    .filter_map(|s| {
                        let identity = match s.sid == session.sid {
                            true => session.identity.as_str(),
                            false => session.room.identity(&s.sid)?,
                        };
                        Some(Speaker { identity: identity.to_owned(), level: s.level, active: s.active })
                    })
                    .collect();
                self.emit(Event::Speakers(speakers));
            }
            Response::SubscriptionResponse(response) => {
                let mut changes = Vec::new();
                session.room.deny(&response.track_sid, &mut changes);
                self.apply(changes);
            }
            Response::RoomMoved(moved) => self.handle_room_moved(now, moved),
            Response::Join(_) | Response::Reconnect(_) => self.counters.signal_ignored += 1,
            _ => {}
        }
    }

    fn handle_answer(&mut self, answer: proto::SessionDescription) {
        let Some(session) = &mut self.session else { return };
        let mids = answer.mid_to_track_id.clone();
        let sdp = if mids.is_empty() { answer.sdp.clone() } else { String::new() };
        match session.peers[0].handle_answer(answer) {
            Ok(true) => {
                self.route(0, &mids, &sdp);
                let Some(session) = &mut self.session else { return };
                if std::mem::take(&mut session.offer_again) {
                    let restart = std::mem::take(&mut session.restart_again);
                    self.offer(restart);
                }
            }
            Ok(false) => self.counters.signal_ignored += 1,
            Err(error) => self.fail_media(error),
        }
    }

    fn handle_offer(&mut self, offer: proto::SessionDescription) {
        let Some(session) = &mut self.session else { return };
        let Some(at) = session.peers.iter().position(|p| p.role == Role::Subscriber) else {
            self.counters.signal_ignored += 1;
            return;
        };
        let mids = offer.mid_to_track_id.clone();
        let sdp = if mids.is_empty() { offer.sdp.clone() } else { String::new() };
        match session.peers[at].handle_offer(offer) {
            Ok(answer) => {
                self.request(Request::Answer(answer));
                self.route(at, &mids, &sdp);
            }
            Err(error) => self.fail_media(error),
        }
    }

    /// Learns which section brings which track.
    fn route(&mut self, peer: usize, mids: &std::collections::HashMap<String, String>, sdp: &str) {
        let Some(session) = &mut self.session else { return };
        session.routes.retain(|r| r.peer != peer);
        session.ssrcs.clear();
        let told = mids.iter().map(|(mid, track)| (mid.as_str(), track.as_str())).chain(tracks_by_mid(sdp));
        for (mid, track) in told.take(self.config.tracks + SPARE_SECTIONS) {
            session.routes.push(Route { peer, mid: mid.into(), track_sid: track.to_owned() });
        }
        self.activate_tracks();
    }

    /// Tells of the tracks whose section and whose publisher are both known.
    fn activate_tracks(&mut self) {
        let Some(session) = &mut self.session else { return };
        let new: Vec<_> =
            session.routes.iter().filter_map(|r| session.room.activate(&r.track_sid).cloned()).collect();
        for track in new {
            self.emit(Event::TrackSubscribed(track));
        }
    }

    fn update_participants(&mut self, infos: &[proto::ParticipantInfo]) {
        let Some(session) = &mut self.session else { return };
        let is_replaced = |i: &proto::ParticipantInfo| {
            i.identity == session.identity && i.sid != session.sid && i.state() != State::Disconnected
        };
        if infos.iter().any(is_replaced) {
            // Somebody joined under our identity while we were away, and the session we resumed is theirs.
            let (reason, action) = (proto::DisconnectReason::DuplicateIdentity, Action::Disconnect);
            self.signal(SignalCommand::Abandon);
            self.close(CloseReason::Signal(SignalError::Leave { reason, action }));
            return;
        }
        let mut changes = Vec::new();
        for info in infos.iter().filter(|i| i.sid != session.sid) {
            session.room.update(info, &mut changes);
        }
        self.apply(changes);
        self.activate_tracks();
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let mut subscribe = Vec::new();
        for change in changes {
            match change {
                Change::Joined(p) => self.emit(Event::ParticipantJoined(p)),
                Change::Changed(p) => self.emit(Event::ParticipantChanged(p)),
                Change::Left { sid, identity } => {
                    self.forget(&sid, &identity);
                    self.emit(Event::ParticipantLeft { identity });
                }
                Change::Subscribe { sid } => subscribe.push(sid),
                Change::Refused { sid, identity, reason } => {
                    self.emit(Event::TrackRefused { sid, identity, reason });
                }
                Change::Muted { track, muted } => self.emit(Event::TrackMuted { track, muted }),
                Change::Ended { track } => {
                    if let Some(session) = &mut self.session {
                        session.ssrcs.clear();
                    }
                    self.emit(Event::TrackEnded { track });
                }
                Change::Overfull => self.counters.signal_ignored += 1,
            }
        }
        if !subscribe.is_empty() {
            self.request(Request::Subscription(proto::UpdateSubscription {
                track_sids: subscribe,
                subscribe: true,
                ..proto::UpdateSubscription::default()
            }));
        }
    }

    fn handle_published(&mut self, response: proto::TrackPublishedResponse) {
        let published = self.session.as_mut().and_then(|s| s.published.as_mut());
        match (published, response.track) {
            (Some(published), Some(track)) if published.cid == response.cid => {
                let sid = track.sid.clone();
                published.info = Some(track);
                self.emit(Event::Published { sid });
            }
            _ => self.counters.signal_ignored += 1,
        }
    }

    /// The same connections, another room: who was there before is not here.
    fn handle_room_moved(&mut self, _now: Instant, moved: proto::RoomMovedResponse) {
        let Some(session) = &mut self.session else { return };
        if let Some(us) = moved.participant {
            session.sid = us.sid;
            session.identity = us.identity;
        }
        let config = &self.config;
        session.room =
            Room::new(config.participants, config.tracks, config.subscribe, session.room.next_track());
        session.ssrcs.clear();
        self.end_calls();
        self.emit(Event::RoomMoved { room: moved.room.unwrap_or_default().name });
        self.update_participants(&moved.other_participants);
    }

    /// Mutes or unmutes our track for everyone. While muted nothing should be sent.
    pub fn set_muted(&mut self, muted: bool) {
        let Some(published) = self.session.as_mut().and_then(|s| s.published.as_mut()) else { return };
        published.is_muted = muted;
        if let Some(sid) = published.info.as_ref().map(|i| i.sid.clone()) {
            self.request(Request::Mute(proto::MuteTrackRequest { sid, muted }));
        }
    }

    /// Gives up the session and joins anew.
    pub(super) fn rejoin(&mut self) {
        self.next_track = self.session.take().map_or(self.next_track, |s| s.room.next_track());
        self.end_calls();
        self.signal(SignalCommand::Rejoin);
    }

    /// Media failed: join anew, or give up when that failed too often.
    pub(super) fn fail_media(&mut self, error: MediaError) {
        self.counters.media_failures += 1;
        self.media_failures += 1;
        if self.media_failures >= self.config.media_failures {
            self.signal(SignalCommand::Leave);
            self.close(CloseReason::Media(error));
        } else {
            self.emit(Event::Interrupted(CloseReason::Media(error)));
            self.rejoin();
        }
    }

    /// Sends again what a resumed server has not seen.
    fn send_unseen(&mut self, last: u32) {
        let Some(session) = &mut self.session else { return };
        let peer = &mut session.peers[0];
        let Some(channel) = peer.channel(Delivery::Reliable) else { return };
        for bytes in session.outbox.unseen(last) {
            if let Some(mut channel) = peer.rtc.channel(channel)
                && !channel.write(true, bytes).unwrap_or(false)
            {
                break;
            }
        }
    }
}
