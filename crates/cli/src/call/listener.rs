//! What somebody hears of a call: replies put in order and in time by a jitter buffer, as a device would play them.

use std::time::Duration;

use evenkeel_core::error::ConfigError;
use evenkeel_core::jitter::{JitterBuffer, JitterConfig, JitterStats, Playout};
use evenkeel_core::units::Time;
use evenkeel_device::call::{CallReport, Held};
use serde::Serialize;

use crate::far_end::Pace;

/// What was heard, in packets unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Listened {
    /// Played in their turn.
    pub(super) played: u64,
    /// Never came, although later ones did.
    pub(super) lost: u64,
    /// Came after their turn, and were not played.
    pub(super) late: u64,
    /// Lost, and brought back from what the packet behind them says of them.
    pub(super) recovered: u64,
    /// Left out, so that what is said comes sooner.
    pub(super) left_out: u64,
    /// How long was made up because nothing was there to play, in ms.
    pub(super) concealed_ms: f64,
    /// How long packets were held so that late ones could be waited for, in ms, on average.
    pub(super) delay_ms: f64,
}

/// Listens to all replies. Each is a new beginning, as a device stops to play when it is told that one is over.
pub(super) fn listen(held: &Held, config: JitterConfig) -> Result<Listened, ConfigError> {
    let mut opener = held.session.opener();
    let mut reply = Reply::new(config)?;
    let mut starts = starts(&held.report).peekable();
    let (mut heard, mut delays) = (Listened::default(), 0.0);
    let mut close = |reply: Reply| {
        let stats = reply.finish();
        heard.played += stats.played;
        heard.lost += stats.lost;
        heard.late += stats.late;
        heard.recovered += stats.recovered;
        heard.left_out += stats.dropped + stats.overflow;
        heard.concealed_ms += millis(stats.concealed_time);
        delays += millis(stats.mean_delay) * stats.played as f64;
        heard.delay_ms = delays / heard.played.max(1) as f64;
    };
    for datagram in &held.datagrams {
        while starts.next_if(|start| *start <= datagram.at).is_some() {
            close(std::mem::replace(&mut reply, Reply::new(config)?));
        }
        let at = Time::ZERO + datagram.at;
        if let Ok(opened) = opener.open(&mut datagram.sealed.clone()) {
            reply.hear(at, opened.header.sequence, opened.header.timestamp, opened.payload);
        }
    }
    close(reply);
    Ok(heard)
}

/// When the device was told that it is about to be spoken to.
fn starts(report: &CallReport) -> impl Iterator<Item = Duration> {
    let is_start = |message: &serde_json::Value| message["type"] == "tts" && message["state"] == "start";
    let started = report.messages.iter().filter(move |told| is_start(&told.message));
    started.map(|told| Duration::from_secs_f64(told.at_ms.max(0.0) / 1e3))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Reply {
    buffer: JitterBuffer,
    pace: Pace,
}

impl Reply {
    fn new(config: JitterConfig) -> Result<Self, ConfigError> {
        Ok(Self { buffer: JitterBuffer::new(config)?, pace: Pace::default() })
    }

    fn hear(&mut self, at: Time, sequence: u32, timestamp: u32, opus: &[u8]) {
        while let Some(now) = self.pace.before(at) {
            self.play(now);
        }
        self.pace.begin(at);
        let _ = self.buffer.insert(sequence, timestamp, opus, at);
    }

    fn play(&mut self, now: Time) {
        let duration = Playout::duration(&self.buffer.next(now));
        self.pace.pass(duration);
    }

    fn finish(mut self) -> JitterStats {
        let end = self.pace.hang_up();
        while let Some(now) = self.pace.before(end).filter(|_| !self.buffer.is_empty()) {
            self.play(now);
        }
        self.buffer.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::packet::HEADER_LEN;
    use evenkeel_core::seal::{Direction, Sealer};
    use evenkeel_core::units::FrameDuration;
    use evenkeel_device::call::{HeardDatagram, Message};
    use evenkeel_device::session::Session;
    use serde_json::json;

    fn session() -> Session {
        let hello = json!({
            "session_id": "s", "audio_params": {"sample_rate": 24000, "frame_duration": 60},
            "udp": {"server": "127.0.0.1", "port": 9, "encryption": "aes-128-ctr",
                "key": "000102030405060708090a0b0c0d0e0f", "nonce": "01000000000000070000000000000000"},
        });
        Session::parse(&hello).unwrap()
    }

    /// A call of two replies of 20 packets each with two seconds between them, without the packets in `missing`.
    fn held(missing: &[usize]) -> Held {
        let session = session();
        let mut sealer = Sealer::new(session.keys(), Direction::Downlink, 1);
        let mut datagrams = Vec::new();
        for number in 0..40 {
            let at = Duration::from_millis(60 * number as u64 + if number < 20 { 0 } else { 2000 });
            // SILK, 60 ms, with voice.
            let opus = [&[0x58, 0xe0][..], &[number as u8; 60]].concat();
            let mut sealed = vec![0; opus.len() + sealer.overhead()];
            sealed[HEADER_LEN..HEADER_LEN + opus.len()].copy_from_slice(&opus);
            let len = sealer.seal(&mut sealed, opus.len(), at.as_millis() as u64).unwrap().1;
            sealed.truncate(len);
            if !missing.contains(&number) {
                datagrams.push(HeardDatagram { at, sealed });
            }
        }
        let told = |at_ms, state| Message { at_ms, message: json!({"type": "tts", "state": state}) };
        let messages =
            vec![told(-5.0, "start"), told(1300.0, "stop"), told(3100.0, "start"), told(4500.0, "stop")];
        let report = CallReport { messages, ..CallReport::default() };
        Held { report, session, datagrams }
    }

    fn heard(missing: &[usize]) -> Listened {
        let packet_duration = FrameDuration::MS_60;
        let config = JitterConfig { packet_duration, timestamp_hz: Some(1_000), ..JitterConfig::default() };
        listen(&held(missing), config).unwrap()
    }

    #[test]
    fn nothing_is_made_up_where_nothing_is_missing_and_the_pause_between_replies_is_none() {
        let all = heard(&[]);
        assert_eq!((all.played, all.lost, all.late, all.concealed_ms), (40, 0, 0, 0.0));
    }

    #[test]
    fn what_is_lost_within_replies_is_made_up_for() {
        let some = heard(&[5, 6, 15, 30]);
        assert_eq!((some.played, some.lost, some.late, some.concealed_ms), (36, 4, 0, 240.0));
        let ends = heard(&[0, 19, 20, 39]);
        assert_eq!((ends.played, ends.lost, ends.concealed_ms), (36, 0, 0.0), "nobody can miss the ends");
    }
}
