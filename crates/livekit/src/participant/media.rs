//! Packets in and out of the peer connections, and what they mean.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Event as RtcEvent, IceConnectionState, Input, Output as RtcOutput};

use super::types::{AudioLevel, Event, OpusIn, OpusOut, Output, TcpId, Transmit};
use super::{Participant, Session, Tcp};
use crate::data::Delivery;
use crate::error::{MediaError, SendError, shorten};
use crate::signal::SignalCommand;

/// The largest Opus payload that is sent, in bytes: it fits a datagram on any path.
const PAYLOAD_LIMIT: usize = 1200;
/// How long after its media the server may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// How far off a timeout is when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

impl Participant {
    /// Publishes an Opus packet, now.
    ///
    /// # Errors
    /// [`SendError::NotConnected`] while there is no media path, [`SendError::NotPublishing`] when the configuration
    /// names no track, [`SendError::Oversized`] beyond 1200 bytes. Time and sequence advance in the first case, too.
    pub fn send_audio(&mut self, now: Instant, packet: OpusOut<'_>) -> Result<(), SendError> {
        if packet.payload.len() > PAYLOAD_LIMIT {
            let actual = packet.payload.len();
            return Err(SendError::Oversized { what: "an audio packet", limit: PAYLOAD_LIMIT, actual });
        }
        let Some(session) = &mut self.session else { return Err(SendError::NotConnected) };
        let Some(published) = &mut session.published else { return Err(SendError::NotPublishing) };
        published.sequence += 1 + u64::from(packet.lost);
        published.time = published.time.wrapping_add(packet.advance);
        let peer = &mut session.peers[0];
        let (Some(mid), Some(pt)) = (peer.audio, peer.opus()) else { return Err(SendError::NotConnected) };
        if !peer.rtc.is_connected() {
            return Err(SendError::NotConnected);
        }
        let mut direct = peer.rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(mid, None) else { return Err(SendError::NotConnected) };
        let extensions = ExtensionValues {
            audio_level: Some(packet.level.dbov.clamp(-127, 0)),
            voice_activity: Some(packet.level.voice),
            ..ExtensionValues::default()
        };
        let rtp = RtpWrite::new(pt, published.sequence.into(), published.time, now, packet.payload)
            .marker(packet.marker)
            .ext_vals(extensions);
        stream.write_rtp(rtp);
        self.pump(now);
        // str0m sends what was written when it next gets the time, and asks for that at once.
        if self.session.as_ref().is_some_and(|s| s.peers[0].timeout <= now) {
            self.feed_time(now, 0);
            self.pump(now);
        }
        Ok(())
    }

    /// Takes the time; call it when the last [`Output::Timeout`] is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((id, error)) = self.calls.expired(now) {
            self.emit(Event::RpcResult { id, result: Err(error) });
        }
        let Some(session) = &mut self.session else { return };
        if session.tcp_at.is_some_and(|t| t <= now) {
            session.tcp_at = None;
            self.try_tcp();
        }
        let Some(session) = &mut self.session else { return };
        if session.resume_at.is_some_and(|t| t <= now) {
            session.resume_at = None;
            self.signal(SignalCommand::Resume);
        }
        let Some(session) = &self.session else { return };
        if session.media_by.is_some_and(|t| t <= now) {
            let after = self.config.media_timeout;
            let ice = session.peers.iter().filter(|p| p.is_described()).all(|p| p.ice_is_up);
            let error =
                if ice { MediaError::DtlsTimeout { after } } else { MediaError::IceTimeout { after } };
            self.fail_media(error);
            return;
        }
        for peer in 0..session.peers.len() {
            if self.session.as_ref().is_some_and(|s| s.peers[peer].timeout <= now) {
                self.feed_time(now, peer);
            }
        }
        self.pump(now);
    }

    pub(super) fn next_timeout(&self) -> Instant {
        let session = self.session.iter().flat_map(|s| {
            s.peers.iter().map(|p| p.timeout).chain(s.media_by).chain(s.tcp_at).chain(s.resume_at)
        });
        session.chain(self.calls.deadline()).min().unwrap_or_else(|| self.last_now + IDLE)
    }

    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        proto: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let Some(session) = &mut self.session else { return };
        let Ok(receive) = Receive::new(proto, remote, local, bytes) else {
            self.counters.datagrams_unknown += 1;
            return;
        };
        let input = Input::Receive(now, receive);
        // Two peer connections have one server, so it is our address that tells them apart, where it can.
        let at = match session.peers.iter().filter(|p| p.locals.contains(&local)).count() {
            0 => None,
            1 => session.peers.iter().position(|p| p.locals.contains(&local)),
            _ => session.peers.iter().position(|p| p.locals.contains(&local) && p.rtc.accepts(&input)),
        };
        let Some(at) = at else {
            self.counters.datagrams_unknown += 1;
            return;
        };
        if let Err(e) = session.peers[at].rtc.handle_input(input) {
            // str0m gives the errors of SRTP and DTLS records here as well; a forged datagram must not end a call.
            tracing::debug!(error = %e, "a datagram was not taken");
            self.counters.datagrams_unknown += 1;
        }
        self.pump(now);
    }

    fn feed_time(&mut self, now: Instant, peer: usize) {
        let Some(session) = &mut self.session else { return };
        if let Err(e) = session.peers[peer].rtc.handle_input(Input::Timeout(now)) {
            self.fail_media(MediaError::Connection { reason: shorten(&e.to_string()) });
        }
    }

    /// Drains the peer connections, as str0m asks for after every change.
    pub(super) fn pump(&mut self, now: Instant) {
        self.last_now = now;
        let mut peer = 0;
        while let Some(connection) = self.session.as_mut().and_then(|s| s.peers.get_mut(peer)) {
            match connection.rtc.poll_output() {
                Ok(RtcOutput::Timeout(t)) => {
                    connection.timeout = t;
                    peer += 1;
                }
                Ok(RtcOutput::Transmit(t)) => self.put(Output::Transmit(Transmit {
                    tcp: t.proto == Protocol::Tcp,
                    source: t.source,
                    destination: t.destination,
                    contents: t.contents.into(),
                })),
                Ok(RtcOutput::Event(e)) => self.handle_rtc_event(now, peer, e),
                Err(e) => {
                    self.fail_media(MediaError::Connection { reason: shorten(&e.to_string()) });
                    return;
                }
            }
        }
        self.check_connected();
    }

    fn handle_rtc_event(&mut self, now: Instant, at: usize, event: RtcEvent) {
        let Some(session) = &mut self.session else { return };
        let peer = &mut session.peers[at];
        match event {
            RtcEvent::RtpPacket(packet) => self.handle_rtp(at, packet),
            RtcEvent::ChannelOpen(id, label) => match label.as_str() {
                "_reliable" => peer.reliable = Some(id),
                "_lossy" => peer.lossy = Some(id),
                _ => {}
            },
            RtcEvent::ChannelData(data) => {
                let delivery = if peer.lossy == Some(data.id) { Delivery::Lossy } else { Delivery::Reliable };
                self.handle_data(now, delivery, &data.data);
            }
            RtcEvent::IceConnectionStateChange(state) => {
                peer.ice_is_up = state.is_connected();
                if state == IceConnectionState::Disconnected && session.media_by.is_none() {
                    session.media_by = Some(now + self.config.media_timeout);
                    session.tcp_at = self.config.tcp_after.map(|after| now + after);
                    self.signal(SignalCommand::Resume);
                }
            }
            // The server closed its end. Why, its `Leave` will tell; if none comes, resuming will.
            RtcEvent::Closed if session.media_by.is_none() => {
                session.media_by = Some(now + self.config.media_timeout);
                session.resume_at = Some(now + FAREWELL);
            }
            _ => {}
        }
    }

    fn handle_rtp(&mut self, at: usize, packet: RtpPacket) {
        let Some(session) = &mut self.session else { return };
        let ssrc = packet.header.ssrc;
        let known = session.ssrcs.iter().find(|(s, _)| *s == ssrc).map(|(_, track)| *track);
        let track = known.or_else(|| {
            let mid = session.peers[at].rtc.direct_api().stream_rx(&ssrc)?.mid();
            let route = session.routes.iter().find(|r| r.peer == at && r.mid == mid)?;
            let track = session.room.track(&route.track_sid)?;
            session.ssrcs.push((ssrc, track));
            Some(track)
        });
        // Only Opus is negotiated, so any other payload type has been refused by str0m already.
        let Some(track) = track.filter(|_| !packet.payload.is_empty()) else {
            self.counters.packets_unknown += 1;
            return;
        };
        let extensions = &packet.header.ext_vals;
        let level = extensions
            .audio_level
            .map(|dbov| AudioLevel { dbov, voice: extensions.voice_activity.unwrap_or(false) });
        self.emit(Event::Audio(OpusIn {
            track,
            sequence: *packet.seq_no,
            time: packet.time.numer(),
            level,
            received: packet.timestamp,
            payload: packet.payload,
        }));
    }

    /// Whether media came up.
    fn check_connected(&mut self) {
        let Some(session) = &mut self.session else { return };
        if session.media_by.is_none() || !session.is_up() {
            return;
        }
        session.media_by = None;
        session.tcp_at = None;
        self.media_failures = 0;
        if !std::mem::replace(&mut session.is_connected, true) {
            self.emit(Event::Connected);
        }
    }

    /// Opens a TCP connection to each of the server's addresses for ICE-TCP.
    fn try_tcp(&mut self) {
        let Some(session) = &mut self.session else { return };
        let mut connects = Vec::new();
        for (at, peer) in session.peers.iter().enumerate().filter(|(_, p)| !p.rtc.is_connected()) {
            for remote in &peer.tcp_remotes {
                self.next_tcp += 1;
                let id = TcpId(self.next_tcp);
                session.tcps.push(Tcp { id, peer: at, local: None });
                connects.push(Output::Connect { id, remote: *remote });
            }
        }
        connects.into_iter().for_each(|c| self.put(c));
    }
}

impl Session {
    /// The connection we send on carries audio and data, and any other that the server described carries audio.
    fn is_up(&self) -> bool {
        self.peers.iter().enumerate().all(|(i, p)| {
            if i == 0 { p.ice_is_up && p.is_ready(true) } else { !p.is_described() || p.is_ready(false) }
        })
    }
}
