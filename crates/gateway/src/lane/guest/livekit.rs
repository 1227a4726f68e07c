//! A LiveKit participant that lives in a lane, beside the session of its device.
//!
//! The call's room joins on the control plane and hands over what it joined with: the participant, its end of the
//! signal connection, and its sockets. From then on the lane polls the participant; only what the room says, and what
//! it is asked, passes through queues. Audio never leaves the lane.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evenkeel_core::units::{SampleRate, Time};
use evenkeel_livekit::data::{Call, CallId, Delivery, RequestId, RpcError, RpcErrorCode};
use evenkeel_livekit::participant::{AudioLevel, Event, OpusOut, Output, Participant, TcpId, Transmit};
use evenkeel_livekit::signal::SignalHandle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender};

use super::Errand;
use crate::lane::uplink::Heard;
use crate::lane::voices::{Cue, Said, Voices};

/// Signal messages and requests taken in one turn, so that one room cannot hold up a lane.
const BUDGET: usize = 32;

/// Calls of ours that may be open.
const MOST_CALLS: usize = 16;

/// A participant that wants the time again at once gets it no sooner than this.
const BREATH: Duration = Duration::from_millis(1);

/// Ticks of RTP time in a second.
const RTP_HZ: u128 = 48_000;

/// See the [module](self).
pub struct LiveKitGuest {
    participant: Participant,
    signal: SignalHandle,
    requests: Receiver<Request>,
    told: Sender<Told>,
    /// The same moment on the lane's clock and on the participant's.
    anchor: (Time, Instant),
    /// The addresses of its sockets, and what the lane calls them.
    locals: Vec<SocketAddr>,
    ports: Vec<u32>,
    calls: Vec<(CallId, &'static str)>,
    voices: Voices,
    /// When the participant wants the time.
    due: Time,
    /// Media time of the last packet published.
    published: Option<Published>,
    is_gone: bool,
}

#[derive(Clone, Copy)]
struct Published {
    media: Duration,
    duration: Duration,
    was_voice: bool,
}

/// What the room asks of the participant.
#[derive(Debug)]
pub enum Request {
    /// Send a data packet, reliably.
    Data {
        /// Its topic; may be empty.
        topic: &'static str,
        /// The text.
        text: String,
    },
    /// Call a method; answered by [`Told::Answered`].
    Call {
        /// Of whom.
        to: String,
        /// Which.
        method: &'static str,
        /// With what.
        payload: String,
        /// How long the answer may take.
        limit: Duration,
    },
    /// Say that a method called of us is not there.
    Refuse(RequestId),
    /// What the agent says of itself.
    Cue(Cue),
    /// A TCP connection is open.
    TcpOpened {
        /// Which.
        id: TcpId,
        /// Its address on our side.
        local: SocketAddr,
    },
    /// A packet came over TCP.
    TcpPacket {
        /// The connection's address on our side.
        local: SocketAddr,
        /// And on the other.
        remote: SocketAddr,
        /// What.
        packet: Vec<u8>,
    },
    /// A TCP connection is gone.
    TcpClosed(TcpId),
}

/// What the room is told.
#[derive(Debug)]
pub enum Told {
    /// Something happened in the room; never audio or who speaks.
    Event(Event),
    /// A call of ours ended.
    Answered {
        /// Which method.
        method: &'static str,
        /// How.
        result: Result<String, RpcError>,
    },
    /// Open a TCP connection.
    Connect {
        /// Its name.
        id: TcpId,
        /// Whereto.
        remote: SocketAddr,
    },
    /// Send this over TCP.
    Transmit(Transmit),
}

impl LiveKitGuest {
    /// A participant that has joined by `signal`, or is about to. `locals` are the addresses of its sockets,
    /// `anchor` is one moment on both clocks.
    #[must_use]
    pub fn new(
        participant: Participant,
        signal: SignalHandle,
        requests: Receiver<Request>,
        told: Sender<Told>,
        locals: Vec<SocketAddr>,
        anchor: (Time, Instant),
    ) -> Self {
        Self {
            participant,
            signal,
            requests,
            told,
            anchor,
            locals,
            ports: Vec::new(),
            calls: Vec::new(),
            voices: Voices::new(SampleRate::HZ_24000),
            due: Time::ZERO,
            published: None,
            is_gone: false,
        }
    }

    /// The lane's names for its sockets, and what the device decodes at.
    pub(super) fn settle(&mut self, ports: Vec<u32>, rate: SampleRate) {
        self.ports = ports;
        self.voices = Voices::new(rate);
    }

    pub(super) fn ports(&self) -> &[u32] {
        &self.ports
    }

    /// Whether it has left.
    pub(super) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    pub(super) fn is_speaking(&self) -> bool {
        self.voices.is_speaking()
    }

    /// The device does not want to hear the rest of the reply. Whether there is a rest.
    pub(super) fn stop(&mut self) -> bool {
        self.voices.stop()
    }

    /// The device wants to hear what comes.
    pub(super) fn resume(&mut self) {
        self.voices.resume();
    }

    /// When to call [`LiveKitGuest::handle_timeout`].
    pub(super) fn next_timeout(&self) -> Time {
        self.voices.next_due().map_or(self.due, |due| due.min(self.due))
    }

    /// When something is played next, out of a jitter buffer or a mix.
    pub(super) fn next_playout(&self) -> Option<Time> {
        self.voices.next_playout()
    }

    /// Takes what waits in its queues.
    pub(super) fn handle_nudge(&mut self, now: Time) {
        let at = self.instant(now);
        for _ in 0..BUDGET {
            let Some(event) = self.signal.try_recv() else { break };
            self.participant.handle_signal(at, event);
        }
        for _ in 0..BUDGET {
            match self.requests.try_recv() {
                Ok(request) => self.handle_request(now, request),
                Err(TryRecvError::Empty) => return,
                // The room has left it. Its signal connection says so to the server when it is dropped.
                Err(TryRecvError::Disconnected) => return self.is_gone = true,
            }
        }
    }

    /// A datagram came on one of its ports.
    pub(super) fn handle_datagram(&mut self, now: Time, port: u32, from: SocketAddr, datagram: &[u8]) {
        let Some(at) = self.ports.iter().position(|&own| own == port) else { return };
        let instant = self.instant(now);
        self.participant.handle_datagram(instant, self.locals[at], from, datagram);
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.due <= now {
            // A wake that found the lane's queue full is made up for here.
            self.handle_nudge(now);
            let at = self.instant(now);
            self.participant.handle_timeout(at);
        }
    }

    /// Publishes what the device said.
    pub(super) fn publish(&mut self, now: Time, heard: &Heard<'_>) {
        let duration = Duration::from_micros(heard.frames.duration_us().into());
        let is_voice = heard.frames.has_voice();
        let before = self.published.replace(Published { media: heard.media, duration, was_voice: is_voice });
        let step = before.map_or(duration, |before| heard.media.saturating_sub(before.media));
        let missing = before.map_or(Duration::ZERO, |before| step.saturating_sub(before.duration));
        let packet = OpusOut {
            payload: heard.opus,
            advance: (step.as_nanos() * RTP_HZ / 1_000_000_000) as u32,
            lost: (missing.as_nanos() / duration.as_nanos().max(1)).min(1000) as u16,
            marker: is_voice && before.is_none_or(|before| !before.was_voice),
            level: if is_voice { AudioLevel::SPEECH } else { AudioLevel::SILENT },
        };
        let at = self.instant(now);
        // What cannot be sent now is lost, and leaves a gap.
        let _ = self.participant.send_audio(at, packet);
    }

    /// Does what the participant wants, after any input. What is said comes out of `said`.
    pub(super) fn drain(&mut self, now: Time, mut errand: impl FnMut(Errand), said: impl FnMut(Said<'_>)) {
        loop {
            match self.participant.poll_output() {
                Output::Timeout(at) => {
                    self.due = self.time(at).max(now + BREATH);
                    break;
                }
                Output::Transmit(transmit) if transmit.tcp => self.tell(Told::Transmit(transmit)),
                Output::Transmit(transmit) => {
                    let local = self.locals.iter().position(|local| *local == transmit.source);
                    if let Some(&port) = local.and_then(|local| self.ports.get(local)) {
                        errand(Errand::Send(port, transmit));
                    }
                }
                Output::Signal(command) => {
                    let sent = self.signal.send(command);
                    sent.unwrap_or_else(|_| self.participant.handle_signal_stalled());
                }
                Output::Connect { id, remote } => self.tell(Told::Connect { id, remote }),
                Output::Event(event) => self.handle_event(now, event),
                _ => {}
            }
        }
        self.is_gone |= self.participant.is_closed();
        self.voices.poll(now, said);
    }

    fn handle_event(&mut self, now: Time, event: Event) {
        match &event {
            Event::Audio(packet) => return self.voices.hear(now, packet),
            Event::Speakers(_) => return,
            Event::TrackSubscribed(track) => self.voices.add(track.id),
            Event::TrackEnded { track } => self.voices.remove(*track),
            Event::Joined { .. } | Event::RoomMoved { .. } => self.voices.clear(),
            Event::RpcResult { id, result } => {
                if let Some(at) = self.calls.iter().position(|call| call.0 == *id) {
                    let (_, method) = self.calls.swap_remove(at);
                    self.tell(Told::Answered { method, result: result.clone() });
                }
                return;
            }
            _ => {}
        }
        self.tell(Told::Event(event));
    }

    fn handle_request(&mut self, now: Time, request: Request) {
        let at = self.instant(now);
        match request {
            Request::Data { topic, text } => {
                // The control plane counts nothing here: what a room does not take, it was told of by its state.
                let _ = self.participant.send_data(at, Delivery::Reliable, topic, &[], text.as_bytes());
            }
            Request::Call { to, method, payload, limit } => {
                let call = Call { destination: &to, method, payload: &payload, timeout: limit };
                if self.calls.len() < MOST_CALLS
                    && let Ok(id) = self.participant.call(at, call)
                {
                    self.calls.push((id, method));
                }
            }
            Request::Refuse(id) => {
                let _ = self.participant.answer(at, id, Err(RpcErrorCode::UnsupportedMethod.error()));
            }
            Request::Cue(cue) => self.voices.handle_cue(now, cue),
            Request::TcpOpened { id, local } => self.participant.handle_tcp_open(at, id, local),
            Request::TcpPacket { local, remote, packet } => {
                self.participant.handle_tcp_packet(at, local, remote, &packet);
            }
            Request::TcpClosed(id) => self.participant.handle_tcp_closed(at, id),
        }
    }

    /// A room that does not listen misses what is said; that it ended, it learns from the end of its queue.
    fn tell(&mut self, told: Told) {
        let _ = self.told.try_send(told);
    }

    fn instant(&self, time: Time) -> Instant {
        self.anchor.1 + time.since(self.anchor.0)
    }

    fn time(&self, instant: Instant) -> Time {
        self.anchor.0 + instant.saturating_duration_since(self.anchor.1)
    }
}

impl std::fmt::Debug for LiveKitGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveKitGuest").field("participant", &self.participant).finish_non_exhaustive()
    }
}
