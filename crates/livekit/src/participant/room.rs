//! Who is in the room and which of their tracks we receive. Bounded in both.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use proto::participant_info::{Kind, State};

use super::types::{RemoteParticipant, RemoteTrack, TrackId, TrackRefusal};

/// How many attributes are kept of a participant, and how many bytes they may have in all.
const ATTRIBUTE_LIMIT: usize = 64;
const ATTRIBUTE_BYTES: usize = 16 * 1024;
/// How many tracks are looked at of one participant.
const PUBLISHED_LIMIT: usize = 32;

/// What an update changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Joined(RemoteParticipant),
    Changed(RemoteParticipant),
    Left { sid: String, identity: String },
    Subscribe { sid: String },
    Refused { sid: String, identity: String, reason: TrackRefusal },
    Muted { track: TrackId, muted: bool },
    Ended { track: TrackId },
    Overfull,
}

#[derive(Debug)]
pub(super) struct Room {
    participant_limit: usize,
    track_limit: usize,
    subscribe: bool,
    participants: BTreeMap<String, RemoteParticipant>,
    tracks: BTreeMap<String, Track>,
    next_track: u32,
}

#[derive(Debug)]
struct Track {
    info: RemoteTrack,
    publisher: String,
    state: TrackState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrackState {
    Refused,
    Asked,
    Active,
}

impl Room {
    /// `next_track` goes on from an earlier session, so that no track id is used twice.
    pub(super) fn new(
        participant_limit: usize,
        track_limit: usize,
        subscribe: bool,
        next_track: u32,
    ) -> Self {
        Self {
            participant_limit,
            track_limit,
            subscribe,
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
            next_track,
        }
    }

    pub(super) fn next_track(&self) -> u32 {
        self.next_track
    }

    pub(super) fn identity(&self, sid: &str) -> Option<&str> {
        self.participants.get(sid).map(|p| p.identity.as_str())
    }

    /// The sids of all tracks asked for or received.
    pub(super) fn subscribed(&self) -> Vec<String> {
        self.tracks
            .iter()
            .filter(|(_, t)| t.state != TrackState::Refused)
            .map(|(sid, _)| sid.clone())
            .collect()
    }

    /// Takes what the server says of one other participant.
    pub(super) fn update(&mut self, info: &proto::ParticipantInfo, changes: &mut Vec<Change>) {
        if info.state() == State::Disconnected {
            self.leave(&info.sid, changes);
            return;
        }
        let attributes = info
            .attributes
            .iter()
            .take(ATTRIBUTE_LIMIT)
            .scan(0, |bytes, (k, v)| {
                *bytes += k.len() + v.len();
                (*bytes <= ATTRIBUTE_BYTES).then(|| (k.clone(), v.clone()))
            })
            .collect();
        let participant = RemoteParticipant {
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            name: info.name.clone(),
            agent: info.kind() == Kind::Agent,
            attributes,
        };
        let is_full = self.participants.len() >= self.participant_limit;
        match self.participants.get_mut(&info.sid) {
            Some(known) if *known == participant => {}
            Some(known) => {
                known.clone_from(&participant);
                changes.push(Change::Changed(participant));
            }
            None if is_full => {
                changes.push(Change::Overfull);
                return;
            }
            None => {
                self.participants.insert(info.sid.clone(), participant.clone());
                changes.push(Change::Joined(participant));
            }
        }
        self.update_tracks(info, changes);
    }

    fn update_tracks(&mut self, info: &proto::ParticipantInfo, changes: &mut Vec<Change>) {
        let audio = || {
            let tracks = info.tracks.iter().take(PUBLISHED_LIMIT);
            tracks.filter(|t| t.r#type() == proto::TrackType::Audio)
        };
        let gone: Vec<String> = self
            .tracks
            .iter()
            .filter(|(sid, t)| t.publisher == info.sid && !audio().any(|a| a.sid == **sid))
            .map(|(sid, _)| sid.clone())
            .collect();
        for sid in gone {
            self.end(&sid, changes);
        }
        self.ask_again(changes);
        for track in audio() {
            match self.tracks.get_mut(&track.sid) {
                Some(known) if known.info.muted != track.muted => {
                    known.info.muted = track.muted;
                    if known.state == TrackState::Active {
                        changes.push(Change::Muted { track: known.info.id, muted: track.muted });
                    }
                }
                None if self.subscribe => self.find(info, track, changes),
                _ => {}
            }
        }
    }

    fn find(&mut self, info: &proto::ParticipantInfo, track: &proto::TrackInfo, changes: &mut Vec<Change>) {
        // Twice the limit of what is received is remembered, so that a slot that falls free finds its next track.
        if self.tracks.len() >= self.track_limit * 2 + 8 {
            changes.push(Change::Overfull);
            return;
        }
        let refusal = if track.encryption() != proto::encryption::Type::None {
            Some(TrackRefusal::Encrypted)
        } else if self.received() >= self.track_limit {
            Some(TrackRefusal::TooMany)
        } else {
            None
        };
        let sid = track.sid.clone();
        let identity = info.identity.clone();
        let state = if refusal.is_some() { TrackState::Refused } else { TrackState::Asked };
        let remote = RemoteTrack {
            id: TrackId(self.next_track),
            sid: sid.clone(),
            identity: identity.clone(),
            name: track.name.clone(),
            muted: track.muted,
            stereo: {
                #[allow(deprecated)]
                let older = track.stereo;
                older || track.audio_features.contains(&proto::AudioTrackFeature::TfStereo.into())
            },
        };
        self.next_track += 1;
        if refusal != Some(TrackRefusal::Encrypted) {
            self.tracks.insert(sid.clone(), Track { info: remote, publisher: info.sid.clone(), state });
        }
        changes.push(match refusal {
            None => Change::Subscribe { sid },
            Some(reason) => Change::Refused { sid, identity, reason },
        });
    }

    /// A slot may have fallen free.
    fn ask_again(&mut self, changes: &mut Vec<Change>) {
        let mut free = self.track_limit.saturating_sub(self.received());
        for (sid, track) in self.tracks.iter_mut().filter(|(_, t)| t.state == TrackState::Refused) {
            if free == 0 {
                break;
            }
            free -= 1;
            track.state = TrackState::Asked;
            changes.push(Change::Subscribe { sid: sid.clone() });
        }
    }

    fn received(&self) -> usize {
        self.tracks.values().filter(|t| t.state != TrackState::Refused).count()
    }

    fn leave(&mut self, sid: &str, changes: &mut Vec<Change>) {
        let Some(participant) = self.participants.remove(sid) else { return };
        let tracks: Vec<String> =
            self.tracks.iter().filter(|(_, t)| t.publisher == sid).map(|(s, _)| s.clone()).collect();
        for track in tracks {
            self.end(&track, changes);
        }
        changes.push(Change::Left { sid: sid.to_owned(), identity: participant.identity });
        self.ask_again(changes);
    }

    fn end(&mut self, sid: &str, changes: &mut Vec<Change>) {
        if let Some(track) = self.tracks.remove(sid)
            && track.state == TrackState::Active
        {
            changes.push(Change::Ended { track: track.info.id });
        }
    }

    /// The server will not let us have a track.
    pub(super) fn deny(&mut self, sid: &str, changes: &mut Vec<Change>) {
        if let Some(track) = self.tracks.remove(sid) {
            if track.state == TrackState::Active {
                changes.push(Change::Ended { track: track.info.id });
            }
            let reason = TrackRefusal::Denied;
            changes.push(Change::Refused { sid: sid.to_owned(), identity: track.info.identity, reason });
        }
    }

    /// A section of the session carries this track now; gives it when it is new.
    pub(super) fn activate(&mut self, sid: &str) -> Option<&RemoteTrack> {
        let track = self.tracks.get_mut(sid)?;
        if track.state == TrackState::Active {
            return None;
        }
        track.state = TrackState::Active;
        Some(&track.info)
    }

    /// The id of a track that is received.
    pub(super) fn track(&self, sid: &str) -> Option<TrackId> {
        self.tracks.get(sid).filter(|t| t.state == TrackState::Active).map(|t| t.info.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(sid: &str, tracks: impl IntoIterator<Item = (String, bool)>) -> proto::ParticipantInfo {
        proto::ParticipantInfo {
            sid: sid.into(),
            identity: format!("i-{sid}"),
            state: State::Active.into(),
            tracks: tracks
                .into_iter()
                .map(|(sid, video)| proto::TrackInfo {
                    sid,
                    r#type: if video { proto::TrackType::Video } else { proto::TrackType::Audio }.into(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn update(room: &mut Room, info: &proto::ParticipantInfo) -> Vec<Change> {
        let mut changes = Vec::new();
        room.update(info, &mut changes);
        changes
    }

    #[test]
    fn audio_is_subscribed_to_and_video_is_not() {
        let mut room = Room::new(4, 4, true, 0);
        let changes = update(&mut room, &info("P", [("A".into(), false), ("V".into(), true)]));
        assert!(matches!(&changes[..], [Change::Joined(_), Change::Subscribe { sid }] if sid == "A"));
        assert_eq!(update(&mut room, &info("P", [("A".into(), false)])), []);
    }

    #[test]
    fn of_twenty_tracks_as_many_as_allowed_are_taken_and_a_free_slot_is_filled() {
        let mut room = Room::new(4, 3, true, 0);
        let twenty = |from: usize| info("P", (from..20).map(|i| (format!("T{i:02}"), false)));
        let changes = update(&mut room, &twenty(0));
        let count = |f: fn(&Change) -> bool| changes.iter().filter(|c| f(c)).count();
        assert_eq!(count(|c| matches!(c, Change::Subscribe { .. })), 3);
        assert!(room.tracks.len() <= 3 * 2 + 8);
        let changes = update(&mut room, &twenty(1));
        assert!(changes.contains(&Change::Subscribe { sid: "T03".into() }), "{changes:?}");
        assert_eq!(room.subscribed().len(), 3);
    }

    #[test]
    fn leaving_ends_the_tracks() {
        let mut room = Room::new(4, 3, true, 7);
        update(&mut room, &info("P", [("A".into(), false)]));
        let id = room.activate("A").unwrap().id;
        assert_eq!(id, TrackId(7));
        assert!(room.activate("A").is_none());
        let mut gone = info("P", []);
        gone.state = State::Disconnected.into();
        let left = Change::Left { sid: "P".into(), identity: "i-P".into() };
        assert_eq!(update(&mut room, &gone), [Change::Ended { track: id }, left]);
        assert_eq!(room.track("A"), None);
    }

    #[test]
    fn participants_and_attributes_are_bounded() {
        let mut room = Room::new(2, 3, true, 0);
        for sid in ["A", "B", "C"] {
            let mut info = info(sid, []);
            info.attributes = (0..1000).map(|i| (i.to_string(), "x".repeat(100))).collect();
            update(&mut room, &info);
        }
        assert_eq!(room.participants.len(), 2);
        assert!(room.participants["A"].attributes.len() <= ATTRIBUTE_LIMIT);
    }
}
