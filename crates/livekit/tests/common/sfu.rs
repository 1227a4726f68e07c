//! A server for one participant, in this process and on virtual time: str0m answers its offers. Nothing is simulated of
//! the media path itself: ICE, DTLS, SRTP and SCTP run on both sides.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evenkeel_livekit::participant::{Event, Output, Participant, ParticipantConfig, Publish, Transmit};
use evenkeel_livekit::proto;
use evenkeel_livekit::signal::{Connections, SignalCommand, SignalEvent};
use prost::Message as _;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use str0m::change::SdpOffer;
use str0m::channel::ChannelId;
use str0m::media::{Direction, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, Event as RtcEvent, Input, Output as RtcOutput, Rtc};

pub const OURS: &str = "10.0.0.1:5000";
pub const SERVERS: &str = "10.0.0.2:7882";
pub const AGENT_TRACK: &str = "TR_agent";

/// How the server behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    pub ice_lite: bool,
    /// The most time a datagram takes.
    pub latency: Duration,
    pub wrong_fingerprint: bool,
}

/// The server's side.
pub struct Sfu {
    pub rtc: Rtc,
    pub timeout: Instant,
    /// What the participant published.
    pub heard: Vec<RtpPacket>,
    /// What it sent over data channels.
    pub data: Vec<proto::DataPacket>,
    pub keep_heard: bool,
    pub heard_count: u64,
    reliable: Option<ChannelId>,
    lossy: Option<ChannelId>,
    sending: Option<Mid>,
    sequence: u64,
    time: u32,
}

impl Sfu {
    pub fn new(now: Instant, behaviour: Behaviour) -> Self {
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .set_ice_lite(behaviour.ice_lite)
            .build(now);
        rtc.add_local_candidate(Candidate::host(SERVERS.parse().unwrap(), "udp").unwrap());
        Self {
            rtc,
            timeout: now,
            heard: Vec::new(),
            data: Vec::new(),
            keep_heard: true,
            heard_count: 0,
            reliable: None,
            lossy: None,
            sending: None,
            sequence: 500,
            time: 77_000,
        }
    }

    pub fn answer(&mut self, offer: &proto::SessionDescription) -> proto::SessionDescription {
        let answer = self.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&offer.sdp).unwrap()).unwrap();
        let sdp = answer.to_sdp_string();
        let mids: Vec<Mid> =
            sdp.lines().filter_map(|l| l.trim_end().strip_prefix("a=mid:")).map(Mid::from).collect();
        self.sending = mids
            .into_iter()
            .find(|m| self.rtc.media(*m).is_some_and(|m| m.direction() == Direction::SendOnly));
        proto::SessionDescription {
            r#type: "answer".into(),
            sdp,
            id: offer.id,
            mid_to_track_id: self.sending.iter().map(|m| (m.to_string(), AGENT_TRACK.into())).collect(),
        }
    }

    /// The agent says something, `advance` ticks after what it said before.
    pub fn speak(&mut self, now: Instant, payload: &[u8], advance: u32) {
        let mid = self.sending.unwrap();
        let pt = self.rtc.media(mid).unwrap().remote_pts()[0];
        self.sequence += 1;
        self.time += advance;
        let (sequence, time) = (self.sequence, self.time);
        let level =
            ExtensionValues { audio_level: Some(-20), voice_activity: Some(true), ..Default::default() };
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx_by_mid(mid, None).unwrap();
        stream.write_rtp(RtpWrite::new(pt, sequence.into(), time, now, payload).ext_vals(level));
    }

    pub fn send(&mut self, reliable: bool, packet: &proto::DataPacket) {
        let id = if reliable { self.reliable } else { self.lossy }.unwrap();
        assert!(self.rtc.channel(id).unwrap().write(true, &packet.encode_to_vec()).unwrap());
    }

    /// Takes a datagram, or just the time, and gives what is to be sent.
    pub fn handle(&mut self, now: Instant, datagram: Option<&[u8]>, mut send: impl FnMut(Vec<u8>)) {
        let input = match datagram {
            Some(bytes) => Input::Receive(
                now,
                Receive::new(Protocol::Udp, OURS.parse().unwrap(), SERVERS.parse().unwrap(), bytes).unwrap(),
            ),
            None => Input::Timeout(now),
        };
        self.rtc.handle_input(input).unwrap();
        self.drain(&mut send);
    }

    pub fn drain(&mut self, send: &mut impl FnMut(Vec<u8>)) {
        loop {
            match self.rtc.poll_output().unwrap() {
                RtcOutput::Timeout(t) => {
                    self.timeout = t;
                    return;
                }
                RtcOutput::Transmit(t) => send(t.contents.into()),
                RtcOutput::Event(RtcEvent::RtpPacket(packet)) => {
                    self.heard_count += 1;
                    if self.keep_heard {
                        self.heard.push(packet);
                    }
                }
                RtcOutput::Event(RtcEvent::ChannelOpen(id, label)) => match label.as_str() {
                    "_reliable" => self.reliable = Some(id),
                    "_lossy" => self.lossy = Some(id),
                    _ => {}
                },
                RtcOutput::Event(RtcEvent::ChannelData(data)) => {
                    self.data.push(proto::DataPacket::decode(&*data.data).unwrap());
                }
                RtcOutput::Event(_) => {}
            }
        }
    }
}

/// Says which datagrams arrive; `true` for those to the server.
pub type Filter = Box<dyn FnMut(bool, &[u8]) -> bool>;

/// A participant, its server, and the time.
pub struct World {
    pub now: Instant,
    pub participant: Participant,
    pub sfu: Sfu,
    pub behaviour: Behaviour,
    pub events: Vec<Event>,
    pub requests: Vec<Request>,
    pub commands: Vec<&'static str>,
    /// Which datagrams arrive.
    pub passes: Filter,
    connection: u32,
    to_server: VecDeque<(Instant, Vec<u8>)>,
    to_us: VecDeque<(Instant, Vec<u8>)>,
}

pub fn config() -> ParticipantConfig {
    let mut config = ParticipantConfig::default();
    config.publish = Some(Publish { name: "device".into(), stereo: false });
    config.udp = Some(OURS.parse().unwrap());
    config
}

/// What the server says on joining: one agent is here, with one audio track.
pub fn join_response() -> proto::JoinResponse {
    proto::JoinResponse {
        room: Some(proto::Room { name: "room".into(), ..Default::default() }),
        participant: Some(participant("PA_us", "device", [])),
        other_participants: vec![participant("PA_agent", "agent", [AGENT_TRACK])],
        ..Default::default()
    }
}

pub fn participant<const N: usize>(sid: &str, identity: &str, tracks: [&str; N]) -> proto::ParticipantInfo {
    proto::ParticipantInfo {
        sid: sid.into(),
        identity: identity.into(),
        tracks: tracks.map(|sid| proto::TrackInfo { sid: sid.into(), ..Default::default() }).into(),
        attributes: HashMap::from([("lk.agent.state".into(), "listening".into())]),
        ..Default::default()
    }
}

impl World {
    pub fn new(config: ParticipantConfig, behaviour: Behaviour) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            participant: Participant::new(now, config, 1),
            sfu: Sfu::new(now, behaviour),
            behaviour,
            events: Vec::new(),
            requests: Vec::new(),
            commands: Vec::new(),
            passes: Box::new(|_, _| true),
            connection: 0,
            to_server: VecDeque::new(),
            to_us: VecDeque::new(),
        };
        world.join();
        world
    }

    /// Connected, with the agent's track subscribed to.
    pub fn connected(behaviour: Behaviour) -> Self {
        let mut world = Self::new(config(), behaviour);
        world.run(Duration::from_secs(2));
        assert!(world.participant.is_connected(), "{:?}", world.events);
        world
    }

    /// The signal connection has joined (anew).
    pub fn join(&mut self) {
        self.sfu = Sfu::new(self.now, self.behaviour);
        self.connection += 1;
        let (connection, join) = (self.connection, Box::new(join_response()));
        let event = SignalEvent::Joined { connection, connections: Connections::Single, join };
        self.participant.handle_signal(self.now, event);
        self.drain();
    }

    pub fn say(&mut self, message: Response) {
        let response = Box::new(proto::SignalResponse { message: Some(message) });
        self.participant.handle_signal(self.now, SignalEvent::Message(response));
        self.drain();
    }

    /// Takes everything the participant gives out.
    pub fn drain(&mut self) {
        let arrival = self.now + self.behaviour.latency;
        let mut offers = Vec::new();
        loop {
            match self.participant.poll_output() {
                Output::Timeout(_) => break,
                Output::Transmit(Transmit { contents, .. }) => {
                    if (self.passes)(true, &contents) {
                        self.to_server.push_back((arrival, contents));
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Signal(SignalCommand::Send { connection, request }) => {
                    assert_eq!(connection, self.connection);
                    match request.message.unwrap() {
                        Request::Offer(offer) => offers.push(offer),
                        request => self.requests.push(request),
                    }
                }
                Output::Signal(SignalCommand::Resume) => self.commands.push("resume"),
                Output::Signal(SignalCommand::Rejoin) => self.commands.push("rejoin"),
                Output::Signal(SignalCommand::Leave) => self.commands.push("leave"),
                other => panic!("{other:?}"),
            }
        }
        for offer in offers {
            let mut answer = self.sfu.answer(&offer);
            if self.behaviour.wrong_fingerprint {
                let at = answer.sdp.find("a=fingerprint:sha-256 ").unwrap() + "a=fingerprint:sha-256 ".len();
                answer.sdp.replace_range(at..at + 5, "00:00");
            }
            self.say(Response::Answer(answer));
        }
    }

    /// Lets time pass, event by event.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let ours: SocketAddr = OURS.parse().unwrap();
        let servers: SocketAddr = SERVERS.parse().unwrap();
        loop {
            let timeout = match self.participant.poll_output() {
                Output::Timeout(t) => t,
                other => panic!("not drained: {other:?}"),
            };
            let next = [Some(timeout), Some(self.sfu.timeout)]
                .into_iter()
                .chain([self.to_server.front().map(|d| d.0), self.to_us.front().map(|d| d.0)])
                .flatten()
                .min()
                .unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            let now = self.now;
            let arrival = now + self.behaviour.latency;
            let (to_us, passes) = (&mut self.to_us, &mut self.passes);
            let mut send = |bytes: Vec<u8>| {
                if passes(false, &bytes) {
                    to_us.push_back((arrival, bytes));
                }
            };
            if self.sfu.timeout <= now {
                self.sfu.handle(now, None, &mut send);
            }
            while let Some((_, bytes)) = self.to_server.pop_front_if(|d| d.0 <= now) {
                self.sfu.handle(now, Some(&bytes), &mut send);
            }
            self.sfu.drain(&mut send);
            while let Some((_, bytes)) = self.to_us.pop_front_if(|d| d.0 <= now) {
                self.participant.handle_datagram(now, ours, servers, &bytes);
                self.drain();
            }
            if timeout <= now && !self.participant.is_closed() {
                self.participant.handle_timeout(now);
                self.drain();
            }
            if self.participant.is_closed() {
                return;
            }
        }
    }

    /// Sends what the server has been told to say.
    pub fn flush(&mut self) {
        let arrival = self.now + self.behaviour.latency;
        let to_us = &mut self.to_us;
        self.sfu.drain(&mut |bytes| to_us.push_back((arrival, bytes)));
    }
}
