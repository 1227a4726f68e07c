//! What a lane tells the control plane: events, of which some may not be lost, and figures.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_core::error::OpenError;
use evenkeel_core::stats::Histogram;

use super::guest::chat::Counts;
use super::uplink::Refusal;
use crate::media::{
    DEPARTURE_BOUNDS_MICROS, Departed, EventSender, LaneReport, MediaEvent, MediaId, Refused,
};

/// How many events are kept for a control plane that does not take them; beyond it is lost anyway.
const MOST_OWED: usize = 4096;

/// The way out for events.
pub(super) struct Reports {
    sender: EventSender,
    owed: VecDeque<(MediaId, MediaEvent)>,
}

impl Reports {
    pub(super) const fn new(sender: EventSender) -> Self {
        Self { sender, owed: VecDeque::new() }
    }

    /// Says something that the next of its kind makes up for.
    pub(super) fn say(&mut self, media: MediaId, event: MediaEvent) {
        self.sender.push(media, event);
    }

    /// Hands over a packet; one for which there is no room is lost.
    pub(super) fn say_packet(&mut self, departed: Departed) {
        self.sender.push_packet(departed);
    }

    /// Says something that may not be lost: if the queue is full it is kept and said later, in order.
    pub(super) fn insist(&mut self, media: MediaId, event: MediaEvent) {
        if self.owed.is_empty() && self.sender.offer(media, event.clone()) {
            return;
        }
        if self.owed.len() < MOST_OWED {
            self.owed.push_back((media, event));
        } else {
            self.sender.push(media, event);
        }
    }

    /// Tries again to say what is owed. Returns whether something still is.
    pub(super) fn retry(&mut self) -> bool {
        while let Some((media, event)) = self.owed.front() {
            if !self.sender.offer(*media, event.clone()) {
                return true;
            }
            self.owed.pop_front();
        }
        false
    }

    pub(super) fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn wake(&mut self) {
        self.sender.wake();
    }

    pub(super) fn lost(&self) -> u64 {
        self.sender.lost()
    }
}

/// What happened since the lane started.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) missed: u64,
    pub(super) unknown: u64,
    pub(super) refused: Refused,
    /// Packets of devices that spoke longer than is kept for a room that is joined.
    pub(super) unkept: u64,
    room: Counts,
    departures: [u64; DEPARTURE_BOUNDS_MICROS.len() + 1],
    departure_sum: Duration,
    transits: [u64; DEPARTURE_BOUNDS_MICROS.len() + 1],
    transit_sum: Duration,
    /// Departure errors of this period and the one before, in ns.
    now: Histogram,
    before: Histogram,
}

impl Totals {
    pub(super) fn departed(&mut self, error: Duration) {
        self.departures[range(error)] += 1;
        self.departure_sum += error;
        self.now.record(error.as_nanos() as u64);
    }

    /// A packet of a participant left, so long after it had been played out of its jitter buffer.
    pub(super) fn passed(&mut self, transit: Duration) {
        self.transits[range(transit)] += 1;
        self.transit_sum += transit;
    }

    /// A guest counted this.
    pub(super) const fn count_room(&mut self, counts: Counts) {
        self.room.bad += counts.bad;
        self.room.stalled += counts.stalled;
        self.room.held += counts.held;
    }

    /// Begins a new period for the gauges.
    pub(super) fn begin_period(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let refused = &mut self.refused;
        let kind = match refusal {
            Refusal::Source => &mut refused.source,
            Refusal::Open(OpenError::Replayed { .. }) => &mut refused.replayed,
            Refusal::Open(OpenError::Stale { .. }) => &mut refused.stale,
            Refusal::Open(OpenError::TooFarAhead { .. }) => &mut refused.far,
            Refusal::Open(OpenError::Forged) => &mut refused.forged,
            Refusal::Open(_) => &mut refused.malformed,
        };
        *kind += 1;
    }

    pub(super) fn report(&self) -> LaneReport {
        let period = if self.before.count() > 0 { &self.before } else { &self.now };
        LaneReport {
            departure_p99_micros: (period.quantile(0.99) / 1000) as u32,
            departures: self.departures,
            departure_sum_micros: self.departure_sum.as_micros() as u64,
            transits: self.transits,
            transit_sum_micros: self.transit_sum.as_micros() as u64,
            missed: self.missed,
            unknown: self.unknown,
            refused: self.refused,
            received: self.received,
            sent: self.sent,
            room_frames_bad: self.room.bad,
            room_frames_stalled: self.room.stalled,
            rooms_held: self.room.held,
            unkept: self.unkept,
            ..LaneReport::default()
        }
    }
}

/// In which of the ranges that are counted it falls.
fn range(time: Duration) -> usize {
    let micros = time.as_micros();
    DEPARTURE_BOUNDS_MICROS.partition_point(|&bound| micros > u128::from(bound))
}

/// The largest departure errors of a session since it was last asked.
#[derive(Default)]
pub(super) struct Peaks {
    count: u32,
    largest: u32,
    second: u32,
}

impl Peaks {
    pub(super) fn record(&mut self, error: Duration) {
        let micros = u32::try_from(error.as_micros()).unwrap_or(u32::MAX);
        self.count += 1;
        self.second = self.second.max(micros.min(self.largest));
        self.largest = self.largest.max(micros);
    }

    /// The 99th percentile and the maximum in µs, and begins anew. With fewer than 200 values the percentile is exact, with
    /// more it is at most this.
    pub(super) fn take(&mut self) -> (u32, u32) {
        let Self { count, largest, second } = std::mem::take(self);
        (if count >= 100 { second } else { largest }, largest)
    }
}
