//! When a packet was spoken: its media time, from its sequence and, where they can be trusted, timestamps.

use core::time::Duration;

use super::nanos;

/// Timestamps that advance by this much more than the sequence are not believed; beyond it a pause is recognised
/// from the silence that it makes.
const LONGEST_PAUSE: i64 = 2_000_000_000;

/// Media time in nanoseconds, from an arbitrary start.
#[derive(Debug)]
pub(super) struct Timeline {
    timestamp_hz: Option<u32>,
    newest: Option<Mark>,
}

#[derive(Debug)]
struct Mark {
    sequence: u32,
    timestamp: u32,
    media: i64,
    duration: i64,
}

impl Timeline {
    pub(super) const fn new(timestamp_hz: Option<u32>) -> Self {
        Self { timestamp_hz, newest: None }
    }

    pub(super) fn reset(&mut self) {
        self.newest = None;
    }

    /// The media time of a packet.
    pub(super) fn place(&mut self, sequence: u32, timestamp: u32, duration: Duration) -> i64 {
        let duration = nanos(duration);
        let Some(newest) = &self.newest else {
            self.newest = Some(Mark { sequence, timestamp, media: 0, duration });
            return 0;
        };
        let steps = i64::from(sequence.wrapping_sub(newest.sequence) as i32);
        let by_sequence = steps * if steps > 0 { newest.duration } else { duration };
        let ticks = i64::from(timestamp.wrapping_sub(newest.timestamp) as i32);
        let media = newest.media.saturating_add(self.advance(by_sequence, ticks));
        if steps > 0 {
            self.newest = Some(Mark { sequence, timestamp, media, duration });
        }
        media
    }

    /// How far media time goes on (or back), given what the sequence and what the timestamp say.
    fn advance(&self, by_sequence: i64, ticks: i64) -> i64 {
        let Some(hz) = self.timestamp_hz else { return by_sequence };
        let by_timestamp = ticks * 1_000_000_000 / i64::from(hz);
        let is_same_way = by_timestamp.signum() == by_sequence.signum();
        let least = by_sequence.abs() / 2;
        let most = by_sequence.abs() + LONGEST_PAUSE;
        if is_same_way && (least..=most).contains(&by_timestamp.abs()) { by_timestamp } else { by_sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const PACKET: Duration = Duration::from_millis(20);

    #[test]
    fn without_timestamps_the_sequence_alone_counts() {
        let mut timeline = Timeline::new(None);
        assert_eq!(timeline.place(u32::MAX, 0, PACKET), 0);
        assert_eq!(timeline.place(2, 0, PACKET), 60 * MS);
        assert_eq!(timeline.place(1, 0, PACKET), 40 * MS);
        assert_eq!(timeline.place(3, 0, PACKET), 80 * MS);
    }

    #[test]
    fn timestamps_show_pauses_that_the_sequence_does_not() {
        let mut timeline = Timeline::new(Some(48_000));
        timeline.place(1, u32::MAX, PACKET);
        assert_eq!(timeline.place(2, 959, PACKET), 20 * MS);
        assert_eq!(timeline.place(3, 959 + 48_000, PACKET), 1020 * MS);
        assert_eq!(timeline.place(2, 959, PACKET), 20 * MS, "the same again, later");
    }

    #[test]
    fn timestamps_that_cannot_be_are_not_believed() {
        let mut timeline = Timeline::new(Some(1000));
        timeline.place(1, 0, PACKET);
        assert_eq!(timeline.place(2, 0, PACKET), 20 * MS, "constant");
        assert_eq!(timeline.place(3, 1 << 31, PACKET), 40 * MS, "backwards");
        assert_eq!(timeline.place(4, (1 << 31) + 1_000_000, PACKET), 60 * MS, "a quarter of an hour");
    }
}
