//! What is going on: live calls, their figures over the last minutes, and what happened to them.
//!
//! Everything is bounded: a call keeps [`MAX_SAMPLES`] samples and [`MAX_TRACE`] events, and of ended calls the last
//! [`MAX_ENDED`] are kept for their traces.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use evenkeel_core::units::Time;
use serde::Serialize;

use super::counters::Counters;
use crate::call::{EndReason, Note};
use crate::device::credentials::Mac;
use crate::media::{MediaId, MediaStats, Transport};

/// Four minutes of samples every [`crate::media::STATS_INTERVAL`].
pub const MAX_SAMPLES: usize = 120;
/// Events kept of one call.
pub const MAX_TRACE: usize = 200;
/// Ended calls kept.
pub const MAX_ENDED: usize = 50;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Registry {
    /// Totals since start.
    pub counters: Counters,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    live: BTreeMap<MediaId, CallRecord>,
    ended: VecDeque<CallRecord>,
}

#[derive(Debug)]
struct CallRecord {
    media: MediaId,
    mac: Mac,
    session_id: String,
    room: String,
    transport: Transport,
    began: Time,
    ended: Option<(Time, EndReason)>,
    udp: Option<SocketAddr>,
    room_ready: bool,
    speaking: bool,
    stats: MediaStats,
    samples: VecDeque<Sample>,
    trace: VecDeque<(Time, Note)>,
}

/// The figures of one interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the gateway started.
    pub at: f32,
    /// Lost of what should have come, in percent.
    pub loss: f32,
    /// Interarrival jitter of the uplink, in ms.
    pub jitter: f32,
    /// The 99th percentile departure error, in ms.
    pub departure: f32,
    /// Packets queued to the device.
    pub queued: u16,
    /// The rung.
    pub rung: u8,
}

/// One call, as `/api/calls` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CallView {
    /// Names the call in `/api/calls/{id}`.
    pub id: String,
    /// The device.
    pub device: String,
    /// Its room.
    pub room: String,
    /// The lane.
    pub lane: u16,
    /// How long it has lasted, or did, in seconds.
    pub seconds: f64,
    /// Why it ended, if it did.
    pub ended: Option<&'static str>,
    /// How its audio travels: `udp` or `websocket`.
    pub transport: &'static str,
    /// The device's UDP address, once seen.
    pub udp: Option<String>,
    /// Whether the room has joined.
    pub room_ready: bool,
    /// Whether a reply is being spoken.
    pub speaking: bool,
    /// Packets from the device.
    pub received: u64,
    /// Packets from the device that never came.
    pub lost: u64,
    /// Packets from the device that came after a later one, and were not passed on.
    pub late: u64,
    /// Datagrams refused.
    pub refused: u64,
    /// Packets to the device.
    pub sent: u64,
    /// Packets to the device that were dropped.
    pub dropped: u64,
    /// Times the downlink ran dry.
    pub underruns: u64,
    /// The last minutes.
    pub samples: Vec<Sample>,
}

/// One event of a trace.
#[derive(Clone, Debug, Serialize)]
pub struct TraceEvent {
    /// Seconds since the call began.
    pub at: f64,
    /// What happened.
    pub event: String,
}

impl Registry {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session began.
    pub fn began(
        &self,
        media: MediaId,
        mac: Mac,
        session_id: &str,
        room: &str,
        transport: Transport,
        now: Time,
    ) {
        let record = CallRecord {
            media,
            mac,
            session_id: session_id.to_owned(),
            room: room.to_owned(),
            transport,
            began: now,
            ended: None,
            udp: None,
            room_ready: false,
            speaking: false,
            stats: MediaStats::default(),
            samples: VecDeque::new(),
            trace: VecDeque::new(),
        };
        self.calls().live.insert(media, record);
    }

    /// A call noted something.
    pub fn note(&self, media: Option<MediaId>, note: Note, now: Time) {
        self.counters.note(note);
        let mut calls = self.calls();
        let Some(record) = media.and_then(|media| calls.live.get_mut(&media)) else { return };
        match note {
            Note::RoomReady => record.room_ready = true,
            Note::RoomLost => record.room_ready = false,
            Note::ReplyBegan => record.speaking = true,
            Note::ReplyEnded | Note::Aborted => record.speaking = false,
            _ => {}
        }
        if record.trace.len() == MAX_TRACE {
            record.trace.pop_front();
        }
        record.trace.push_back((now, note));
        if let Note::SessionEnded(reason) = note
            && let Some(mut record) = media.and_then(|media| calls.live.remove(&media))
        {
            record.ended = Some((now, reason));
            if calls.ended.len() == MAX_ENDED {
                calls.ended.pop_front();
            }
            calls.ended.push_back(record);
        }
    }

    /// The device was seen on UDP.
    pub fn seen(&self, media: MediaId, from: SocketAddr) {
        if let Some(record) = self.calls().live.get_mut(&media) {
            record.udp = Some(from);
        }
    }

    /// The lane reported figures.
    pub fn stats(&self, media: MediaId, stats: MediaStats, now: Time) {
        let mut calls = self.calls();
        if let Some(record) = calls.live.get_mut(&media) {
            let before = std::mem::replace(&mut record.stats, stats);
            let lost = stats.lost.saturating_sub(before.lost) as f32;
            let expected = lost + stats.received.saturating_sub(before.received) as f32;
            if record.samples.len() == MAX_SAMPLES {
                record.samples.pop_front();
            }
            record.samples.push_back(Sample {
                at: now.as_nanos() as f32 / 1e9,
                loss: if expected > 0.0 { 100.0 * lost / expected } else { 0.0 },
                jitter: stats.jitter_micros as f32 / 1e3,
                departure: stats.departure_p99_micros as f32 / 1e3,
                queued: u16::try_from(stats.queued).unwrap_or(u16::MAX),
                rung: stats.rung,
            });
        } else if let Some(record) = calls.ended.iter_mut().find(|record| record.media == media) {
            record.stats = stats;
        }
    }

    /// How many calls are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.calls().live.len()
    }

    /// Live calls, oldest lane and serial first, at most `limit`; then, if `ended`, those that ended, newest first.
    #[must_use]
    pub fn views(&self, limit: usize, ended: bool, now: Time) -> Vec<CallView> {
        let calls = self.calls();
        let live = calls.live.values();
        let gone = calls.ended.iter().rev().filter(|_| ended);
        live.chain(gone).take(limit).map(|record| record.view(now)).collect()
    }

    /// One call, live or lately ended, and what happened to it.
    #[must_use]
    pub fn trace(&self, id: &str, now: Time) -> Option<(CallView, Vec<TraceEvent>)> {
        let calls = self.calls();
        let record = calls.live.values().chain(&calls.ended).find(|record| record.id() == id)?;
        let events = record.trace.iter().map(|(at, note)| TraceEvent {
            at: at.since(record.began).as_secs_f64(),
            event: format!("{note:?}"),
        });
        Some((record.view(now), events.collect()))
    }

    /// Sums over live calls.
    #[must_use]
    pub fn totals(&self) -> MediaStats {
        let calls = self.calls();
        calls.live.values().fold(MediaStats::default(), |sum, record| MediaStats {
            received: sum.received + record.stats.received,
            lost: sum.lost + record.stats.lost,
            late: sum.late + record.stats.late,
            refused: sum.refused + record.stats.refused,
            sent: sum.sent + record.stats.sent,
            dropped: sum.dropped + record.stats.dropped,
            underruns: sum.underruns + record.stats.underruns,
            ..sum
        })
    }
}

impl CallRecord {
    fn id(&self) -> String {
        format!("{}-{}", self.media.lane, self.media.serial)
    }

    fn view(&self, now: Time) -> CallView {
        let until = self.ended.map_or(now, |(at, _)| at);
        CallView {
            id: self.id(),
            device: self.mac.to_string(),
            room: format!("{} {}", self.room, self.session_id.get(..8).unwrap_or(&self.session_id)),
            lane: self.media.lane,
            seconds: until.since(self.began).as_secs_f64(),
            ended: self.ended.map(|(_, reason)| reason.name()),
            transport: self.transport.name(),
            udp: self.udp.map(|addr| addr.to_string()),
            room_ready: self.room_ready,
            speaking: self.speaking,
            received: self.stats.received,
            lost: self.stats.lost,
            late: self.stats.late,
            refused: self.stats.refused,
            sent: self.stats.sent,
            dropped: self.stats.dropped,
            underruns: self.stats.underruns,
            samples: self.samples.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIA: MediaId = MediaId { lane: 1, serial: 2 };

    #[test]
    fn a_call_is_shown_while_it_lives_and_traced_after_it_ended() {
        let registry = Registry::default();
        let second = |s| Time::from_millis(s * 1000);
        registry.began(
            MEDIA,
            "aabbccddeeff".parse().unwrap(),
            "session-1",
            "echo",
            Transport::Udp,
            second(1),
        );
        for n in 1..=2 * MAX_TRACE as u64 {
            let stats = MediaStats { received: 90 * n, lost: 10 * n, ..MediaStats::default() };
            registry.stats(MEDIA, stats, second(n));
            registry.note(Some(MEDIA), Note::ReplyBegan, second(n));
        }
        let view = registry.views(10, false, second(501)).remove(0);
        assert_eq!((view.seconds, view.samples.len(), view.received), (500.0, MAX_SAMPLES, 36_000));
        assert_eq!(view.samples[0].loss, 10.0);
        assert!(view.speaking);
        registry.note(Some(MEDIA), Note::SessionEnded(EndReason::Idle), second(400));
        assert_eq!(registry.live(), 0);
        assert!(registry.views(10, false, second(500)).is_empty());
        let (view, events) = registry.trace("1-2", second(500)).unwrap();
        assert_eq!((view.ended, view.seconds, events.len()), (Some("idle"), 399.0, MAX_TRACE));
        for serial in 0..200 {
            let media = MediaId { lane: 0, serial };
            registry.began(media, "aabbccddeeff".parse().unwrap(), "s", "echo", Transport::Udp, second(1));
            registry.note(Some(media), Note::SessionEnded(EndReason::Goodbye), second(2));
        }
        assert_eq!(registry.views(1000, true, second(3)).len(), MAX_ENDED);
    }
}
