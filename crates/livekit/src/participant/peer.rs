//! One peer connection: str0m in RTP mode, and the offer/answer that shapes it.

use std::net::SocketAddr;
use std::time::Instant;

use livekit_protocol as proto;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::TcpType;
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Candidate, Rtc};

use super::types::ParticipantConfig;
use crate::data::{Delivery, PACKET_LIMIT};
use crate::error::{MediaError, shorten};

/// The largest session description taken, in bytes.
const DESCRIPTION_LIMIT: usize = 64 * 1024;
/// How many candidates of the server are taken, and how many of them may be ICE-TCP ones we connect to.
const CANDIDATE_LIMIT: usize = 32;
const TCP_LIMIT: usize = 4;
/// What is buffered for sending on data channels, in bytes.
const CHANNEL_BUFFER: usize = 128 * 1024;

/// What a peer connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Both directions; we make the offers.
    Both,
    /// What we send; we make the offers.
    Publisher,
    /// What we receive; the server makes the offers.
    Subscriber,
}

/// What an offer shall bring about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The track to publish.
    pub(super) cid: Option<&'a str>,
    /// How many sections to receive audio there shall be.
    pub(super) receive: usize,
    /// New ICE credentials.
    pub(super) restart: bool,
}

pub(super) struct PeerConnection {
    pub(super) rtc: Rtc,
    pub(super) role: Role,
    pub(super) timeout: Instant,
    /// Our addresses it receives at.
    pub(super) locals: Vec<SocketAddr>,
    pub(super) ice_is_up: bool,
    pub(super) reliable: Option<ChannelId>,
    pub(super) lossy: Option<ChannelId>,
    pub(super) audio: Option<Mid>,
    pub(super) tcp_remotes: Vec<SocketAddr>,
    pub(super) last_offer: Option<proto::SessionDescription>,
    pub(super) last_answer: Option<proto::SessionDescription>,
    receive: Vec<Mid>,
    pending: Option<(SdpPendingOffer, proto::SessionDescription)>,
    offers: u32,
    described: bool,
    early: Vec<Candidate>,
    candidates: usize,
}

impl PeerConnection {
    pub(super) fn new(now: Instant, role: Role, config: &ParticipantConfig, udp: Option<SocketAddr>) -> Self {
        let mut extensions = ExtensionMap::empty();
        extensions.set(1, Extension::AudioLevel);
        extensions.set(4, Extension::RtpMid);
        let mut settings = Rtc::builder()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .set_extension_map(extensions)
            .set_send_buffer_audio(8)
            .set_sctp_max_message_size(PACKET_LIMIT as u32)
            .set_sctp_max_buffered_amount(CHANNEL_BUFFER);
        if let Some(certificate) = &config.certificate {
            settings = settings.set_dtls_cert(certificate.clone());
        }
        let mut rtc = settings.build(now);
        if let Some(candidate) = udp.and_then(|a| Candidate::host(a, "udp").ok()) {
            rtc.add_local_candidate(candidate);
        }
        Self {
            rtc,
            role,
            timeout: now,
            locals: udp.into_iter().collect(),
            ice_is_up: false,
            reliable: None,
            lossy: None,
            audio: None,
            tcp_remotes: Vec::new(),
            last_offer: None,
            last_answer: None,
            receive: Vec::new(),
            pending: None,
            offers: 0,
            described: false,
            early: Vec::new(),
            candidates: 0,
        }
    }

    /// Whether the server has described its end.
    pub(super) fn is_described(&self) -> bool {
        self.described
    }

    /// Whether an offer of ours waits for its answer.
    pub(super) fn is_negotiating(&self) -> bool {
        self.pending.is_some()
    }

    /// Makes an offer that brings about what is wanted.
    pub(super) fn offer(&mut self, wanted: Wanted<'_>) -> Option<proto::SessionDescription> {
        let idle: Vec<Mid> = self
            .receive
            .iter()
            .copied()
            .filter(|m| self.rtc.media(*m).is_some_and(|m| m.direction() == Direction::Inactive))
            .collect();
        let mut change = self.rtc.sdp_api();
        let first = self.audio.is_none() && self.offers == 0;
        if first && let Some(cid) = wanted.cid {
            let stream = Some("evenkeel".to_owned());
            let mid =
                change.add_media(MediaKind::Audio, Direction::SendOnly, stream, Some(cid.to_owned()), None);
            self.audio = Some(mid);
        }
        if self.offers == 0 {
            change.add_channel_with_config(ChannelConfig {
                label: "_reliable".to_owned(),
                ordered: true,
                reliability: Reliability::Reliable,
                ..ChannelConfig::default()
            });
            change.add_channel_with_config(ChannelConfig {
                label: "_lossy".to_owned(),
                ordered: false,
                reliability: Reliability::MaxRetransmits { retransmits: 0 },
                ..ChannelConfig::default()
            });
        }
        for mid in idle {
            change.set_direction(mid, Direction::RecvOnly);
        }
        for _ in self.receive.len()..wanted.receive {
            self.receive.push(change.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None));
        }
        if wanted.restart {
            change.ice_restart(true);
        }
        if !change.has_changes() {
            // The server wants an offer to answer, and str0m makes one only for a change.
            let mid = *self.receive.last()?;
            change.set_direction(mid, Direction::Inactive);
            change.set_direction(mid, Direction::RecvOnly);
        }
        let (offer, pending) = change.apply()?;
        self.offers += 1;
        let description = proto::SessionDescription {
            r#type: "offer".to_owned(),
            sdp: offer.to_sdp_string(),
            id: self.offers,
            ..proto::SessionDescription::default()
        };
        self.pending = Some((pending, description.clone()));
        Some(description)
    }

    /// Takes the answer to our offer. An answer to an older offer changes nothing.
    pub(super) fn handle_answer(&mut self, answer: proto::SessionDescription) -> Result<bool, MediaError> {
        match &self.pending {
            Some((_, offer)) if answer.id == 0 || answer.id == offer.id => {}
            _ => return Ok(false),
        }
        let parsed = SdpAnswer::from_sdp_string(limited(&answer.sdp)?).map_err(|e| description(&e))?;
        let Some((pending, offer)) = self.pending.take() else { return Ok(false) };
        self.rtc.sdp_api().accept_answer(pending, parsed).map_err(|e| description(&e))?;
        self.last_offer = Some(offer);
        self.last_answer = Some(answer);
        self.now_described();
        Ok(true)
    }

    /// Takes the server's offer and makes the answer.
    pub(super) fn handle_offer(
        &mut self,
        offer: proto::SessionDescription,
    ) -> Result<proto::SessionDescription, MediaError> {
        let parsed = SdpOffer::from_sdp_string(limited(&offer.sdp)?).map_err(|e| description(&e))?;
        let answer = self.rtc.sdp_api().accept_offer(parsed).map_err(|e| description(&e))?;
        let answer = proto::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answer.to_sdp_string(),
            id: offer.id,
            ..proto::SessionDescription::default()
        };
        self.last_offer = Some(offer);
        self.last_answer = Some(answer.clone());
        self.now_described();
        Ok(answer)
    }

    fn now_described(&mut self) {
        self.described = true;
        for candidate in std::mem::take(&mut self.early) {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    /// Takes a candidate of the server. Whether it was taken.
    pub(super) fn handle_candidate(&mut self, candidate: Candidate) -> bool {
        if self.candidates >= CANDIDATE_LIMIT {
            return false;
        }
        self.candidates += 1;
        if candidate.tcptype() == Some(TcpType::Passive) && self.tcp_remotes.len() < TCP_LIMIT {
            self.tcp_remotes.push(candidate.addr());
        }
        if self.described {
            self.rtc.add_remote_candidate(candidate);
        } else {
            self.early.push(candidate);
        }
        true
    }

    /// The server forgets its candidates when ICE restarts, and sends them again.
    pub(super) fn expect_candidates_again(&mut self) {
        self.candidates = 0;
    }

    /// A TCP connection is open: a local candidate.
    pub(super) fn handle_tcp_open(&mut self, local: SocketAddr) {
        if let Ok(candidate) = Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build() {
            self.rtc.add_local_candidate(candidate);
            self.locals.push(local);
        }
    }

    pub(super) fn handle_tcp_closed(&mut self, local: SocketAddr) {
        self.locals.retain(|l| *l != local);
        if let Ok(candidate) = Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build() {
            self.rtc.direct_api().invalidate_candidate(&candidate);
        }
    }

    /// The payload type of Opus for the track we send.
    pub(super) fn opus(&self) -> Option<Pt> {
        self.rtc.media(self.audio?)?.remote_pts().first().copied()
    }

    pub(super) fn channel(&self, delivery: Delivery) -> Option<ChannelId> {
        match delivery {
            Delivery::Reliable => self.reliable,
            Delivery::Lossy => self.lossy,
        }
    }

    /// Whether audio, and data if `data`, can pass.
    pub(super) fn is_ready(&self, data: bool) -> bool {
        self.rtc.is_connected() && (!data || (self.reliable.is_some() && self.lossy.is_some()))
    }
}

fn limited(sdp: &str) -> Result<&str, MediaError> {
    if sdp.len() > DESCRIPTION_LIMIT {
        return Err(MediaError::Description { reason: format!("{} bytes long", sdp.len()) });
    }
    Ok(sdp)
}

fn description(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Description { reason: shorten(&error.to_string()) }
}

/// The candidate in what the server trickles: JSON, as browsers make it.
///
/// # Errors
/// What is wrong with it. Candidates by mDNS name are among it.
pub fn parse_candidate(init: &str) -> Result<Option<Candidate>, &'static str> {
    if init.len() > 4096 {
        return Err("longer than any candidate");
    }
    let json: serde_json::Value = serde_json::from_str(init).map_err(|_| "not JSON")?;
    match json.get("candidate").and_then(serde_json::Value::as_str) {
        Some("") | None => Ok(None),
        Some(text) => Candidate::from_sdp_string(text).map(Some).map_err(|_| "not a candidate"),
    }
}

/// Which track each section of a description brings, read from its msid lines (`PA_…|TR_…` is the stream), for
/// servers that do not say it in so many words.
pub(super) fn tracks_by_mid(sdp: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for section in sdp.split("\nm=").skip(1) {
        let value = |name: &str| section.lines().find_map(|l| l.trim_end().strip_prefix(name));
        let stream = value("a=msid:").or_else(|| {
            section
                .lines()
                .find_map(|l| l.trim_end().strip_prefix("a=ssrc:")?.split_once(" msid:").map(|x| x.1))
        });
        let track = stream.and_then(|s| s.split(' ').next()?.split_once('|')).map(|(_, track)| track);
        if let (Some(mid), Some(track)) = (value("a=mid:"), track) {
            found.push((mid, track));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickled_candidate_is_read() {
        let init = r#"{"candidate":"candidate:1 1 udp 2130706431 127.0.0.1 7882 typ host","sdpMid":"0","sdpMLineIndex":0}"#;
        assert_eq!(parse_candidate(init).unwrap().unwrap().addr().port(), 7882);
        let tcp = r#"{"candidate":"candidate:1 1 tcp 1671430143 127.0.0.1 7881 typ host tcptype passive"}"#;
        assert_eq!(parse_candidate(tcp).unwrap().unwrap().tcptype(), Some(TcpType::Passive));
        assert_eq!(parse_candidate(r#"{"candidate":""}"#), Ok(None));
        assert!(parse_candidate("candidate:1").is_err());
        assert!(parse_candidate(r#"{"candidate":"candidate:nonsense"}"#).is_err());
    }

    #[test]
    fn tracks_are_found_by_their_stream() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=mid:0\r\na=msid:PA_x|TR_y TR_y\r\nm=application 9 X\r\na=mid:1\r\n\
                   m=audio 9 X 111\r\na=ssrc:5 msid:PA_a|TR_b t\r\na=mid:2\r\n";
        assert_eq!(tracks_by_mid(sdp), [("0", "TR_y"), ("2", "TR_b")]);
    }
}
