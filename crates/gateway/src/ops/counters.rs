//! Totals since start, as Prometheus counters.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::call::{EndReason, Note};

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Counter { $($(#[doc = $help])+ $variant,)+ }

        const COUNTERS: &[(&str, &str)] = &[$(($name, concat!($($help),+)),)+];
    };
}

counters! {
    /// Device connections accepted, before anything was said.
    Accepted = "mqtt_accepted_total",
    /// Devices that were let in.
    Connected = "mqtt_connected_total",
    /// Devices that were not let in.
    Refused = "mqtt_refused_total",
    /// Connections on which TLS did not come about: bytes that are none, or a device that does not trust the certificate.
    TlsFailed = "mqtt_tls_failed_total",
    /// Connections that did not say CONNECT in time.
    ConnectTimeout = "mqtt_connect_timeout_total",
    /// Connections closed to make room for newer ones while too many had not said CONNECT.
    HalfOpenEvicted = "mqtt_half_open_evicted_total",
    /// Connections closed because there were too many.
    TooManyConnections = "mqtt_too_many_total",
    /// Connections closed for bytes that are not MQTT as it should be.
    Malformed = "mqtt_malformed_total",
    /// Connections closed for silence beyond the keep-alive.
    KeepAliveExpired = "mqtt_keepalive_expired_total",
    /// Connections closed by a newer one of the same device.
    Replaced = "mqtt_replaced_total",
    /// Connections closed because the device did not read.
    SlowReader = "mqtt_slow_reader_total",
    /// WebSocket connections accepted, before anything was said.
    WebSocketAccepted = "websocket_accepted_total",
    /// Devices on WebSocket that were not let in.
    WebSocketRefused = "websocket_refused_total",
    /// Connections that did not become a WebSocket in time.
    WebSocketTimeout = "websocket_connect_timeout_total",
    /// WebSocket connections closed because there were too many.
    WebSocketTooMany = "websocket_too_many_total",
    /// WebSocket connections closed for breaking the protocol.
    WebSocketMalformed = "websocket_malformed_total",
    /// Binary frames of devices that were not as they should be.
    WebSocketBadFrames = "websocket_frames_bad_total",
    /// WebSocket connections closed because the device no longer answered.
    WebSocketSilent = "websocket_silent_total",
    /// Messages from devices.
    Messages = "messages_total",
    /// Messages from devices that were not as they should be.
    BadMessages = "messages_bad_total",
    /// Messages beyond what a device may send in a second.
    MessageRate = "messages_rate_limited_total",
    /// Hellos beyond the rate of a device or network.
    HelloRate = "hellos_rate_limited_total",
    /// Hellos answered with a session.
    SessionsBegan = "sessions_total",
    /// Hellos refused.
    SessionsRefused = "sessions_refused_total",
    /// Sessions whose device was never seen on UDP.
    UdpNeverSeen = "udp_never_seen_total",
    /// Rooms joined.
    RoomReady = "rooms_joined_total",
    /// Rooms lost.
    RoomLost = "rooms_lost_total",
    /// Replies spoken.
    Replies = "replies_total",
    /// Replies stopped by the device.
    Aborts = "replies_aborted_total",
    /// Messages of sessions that were over.
    Stale = "messages_stale_total",
    /// Messages dropped for want of a place to keep them.
    MessagesDropped = "messages_dropped_total",
    /// Packets dropped for want of a place to keep them: on the control plane, or while a chat server was being joined.
    AudioDropped = "audio_dropped_total",
    /// Replies whose end was not reported in time.
    PlayoutOverdue = "playout_overdue_total",
    /// Frames from chat servers that were not as they should be.
    BadFrames = "room_frames_bad_total",
    /// Frames to chat servers dropped because the server did not read.
    RoomStalled = "room_frames_stalled_total",
    /// Rooms that refused us: token, rights, a full room.
    RoomRefused = "rooms_refused_total",
    /// Rooms whose server could not be reached.
    RoomUnreachable = "rooms_unreachable_total",
    /// Rooms to which no media path came up, or that lost it for good.
    RoomMediaFailed = "rooms_media_failed_total",
    /// Rooms whose connection broke and that were resumed or joined anew.
    RoomInterrupted = "rooms_interrupted_total",
    /// Times a room sent more than is taken: seconds of too much data, texts that had to wait for their turn.
    RoomFlooded = "rooms_flooded_total",
    /// Times a chat server was 10 s ahead of what its device plays, and was read no further until that was played.
    RoomHeld = "rooms_held_total",
    /// Rooms into which no agent came, or none came back.
    AgentMissing = "rooms_agent_missing_total",
    /// Tracks of rooms that are not received: too many, encrypted, denied.
    TrackRefused = "rooms_tracks_refused_total",
    /// Messages of rooms that mean nothing to devices.
    RoomIgnored = "room_messages_ignored_total",
    /// Requests to the operations or management port without the right token.
    Unauthorized = "http_unauthorized_total",
}

/// The upper ends of the buckets of the time from hello to answer, in ms.
const BUCKETS_MS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// See the [module](self).
#[derive(Debug)]
pub struct Counters {
    totals: [AtomicU64; COUNTERS.len()],
    ended: [AtomicU64; EndReason::ALL.len()],
    hello: [AtomicU64; BUCKETS_MS.len() + 1],
    hello_micros: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            totals: [const { AtomicU64::new(0) }; COUNTERS.len()],
            ended: [const { AtomicU64::new(0) }; EndReason::ALL.len()],
            hello: [const { AtomicU64::new(0) }; BUCKETS_MS.len() + 1],
            hello_micros: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Counts one.
    pub fn add(&self, counter: Counter) {
        self.totals[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.totals[counter as usize].load(Ordering::Relaxed)
    }

    /// Counts what a call noted.
    pub fn note(&self, note: Note) {
        let counter = match note {
            Note::SessionEnded(reason) => {
                if let Some(at) = EndReason::ALL.iter().position(|known| *known == reason) {
                    self.ended[at].fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            Note::SessionBegan => Counter::SessionsBegan,
            Note::Refused => Counter::SessionsRefused,
            Note::RoomReady => Counter::RoomReady,
            Note::RoomLost => Counter::RoomLost,
            Note::UdpNeverSeen => Counter::UdpNeverSeen,
            Note::ReplyBegan => Counter::Replies,
            Note::Aborted => Counter::Aborts,
            Note::StaleMessage => Counter::Stale,
            Note::MessageDropped => Counter::MessagesDropped,
            Note::PlayoutOverdue => Counter::PlayoutOverdue,
            Note::UdpSeen | Note::MqttLost | Note::MqttReturned | Note::ReplyEnded => return,
        };
        self.add(counter);
    }

    /// Counts a hello by how long its answer took to be handed to the connection.
    pub fn hello(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BUCKETS_MS.iter().position(|ms| micros <= ms * 1000).unwrap_or(BUCKETS_MS.len());
        self.hello[at].fetch_add(1, Ordering::Relaxed);
        self.hello_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Appends everything in Prometheus' text format 0.0.4, with what was counted `elsewhere` added.
    pub fn render(&self, elsewhere: &[(Counter, u64)], out: &mut String) {
        for (at, ((name, help), total)) in COUNTERS.iter().zip(&self.totals).enumerate() {
            let further = elsewhere.iter().filter(|(counter, _)| *counter as usize == at);
            let total = total.load(Ordering::Relaxed) + further.map(|(_, count)| count).sum::<u64>();
            let help = help.trim();
            let _ = writeln!(
                out,
                "# HELP evenkeel_{name} {help}\n# TYPE evenkeel_{name} counter\nevenkeel_{name} {total}"
            );
        }
        let name = "evenkeel_sessions_ended_total";
        let _ = writeln!(out, "# HELP {name} Sessions that ended, by reason.\n# TYPE {name} counter");
        for (reason, total) in EndReason::ALL.iter().zip(&self.ended) {
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {}", reason.name(), total.load(Ordering::Relaxed));
        }
        let name = "evenkeel_hello_seconds";
        let _ = writeln!(out, "# HELP {name} From reading a hello to its answer.\n# TYPE {name} histogram");
        let mut count = 0;
        for (at, bucket) in self.hello.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let le = BUCKETS_MS.get(at).map_or("+Inf".to_owned(), |ms| (*ms as f64 / 1000.0).to_string());
            let _ = writeln!(out, "{name}_bucket{{le=\"{le}\"}} {count}");
        }
        let seconds = self.hello_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum {seconds}\n{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_reasons_and_times_are_rendered() {
        let counters = Counters::default();
        counters.add(Counter::Connected);
        counters.note(Note::SessionEnded(EndReason::Idle));
        counters.note(Note::UdpNeverSeen);
        counters.hello(Duration::from_millis(3));
        counters.hello(Duration::from_secs(9));
        let mut out = String::new();
        counters.render(&[(Counter::BadFrames, 2), (Counter::Connected, 3)], &mut out);
        for line in [
            "evenkeel_mqtt_connected_total 4",
            "evenkeel_room_frames_bad_total 2",
            "evenkeel_udp_never_seen_total 1",
            "evenkeel_sessions_ended_total{reason=\"idle\"} 1",
            "evenkeel_hello_seconds_bucket{le=\"0.002\"} 0",
            "evenkeel_hello_seconds_bucket{le=\"0.005\"} 1",
            "evenkeel_hello_seconds_bucket{le=\"+Inf\"} 2",
            "evenkeel_hello_seconds_count 2",
            "# HELP evenkeel_replies_total Replies spoken.",
        ] {
            assert!(out.lines().any(|found| found == line), "{line} is not in\n{out}");
        }
    }
}
