//! What a device notices of the downlink: when packets come, and which do not.

use std::time::Duration;

use evenkeel_core::stats::{Histogram, Summary};
use evenkeel_core::units::Time;
use serde::Serialize;

/// How much longer than a packet's duration the gap between two may be before it is noticed: 65 ms at 60 ms.
const TOLERANCE: Duration = Duration::from_millis(5);

/// What one device heard last; what it noticed goes to an [`Ear`], which many may share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listening {
    last: Option<(Time, u32)>,
}

/// Gaps between packets, and packets that never came.
#[derive(Clone, Debug)]
pub struct Ear {
    nominal: Duration,
    gaps: Histogram,
    over: u64,
    heard: u64,
    lost: u64,
}

/// What an [`Ear`] noticed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heard {
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not, going by the sequences.
    pub lost: u64,
    /// Gaps between one packet and the next.
    pub gap_ms: Millis,
    /// How many gaps were over 5 ms longer than a packet lasts, in percent.
    pub gaps_over_percent: f64,
    /// How far packets were from even, in ms: the standard deviation of the gaps.
    pub gap_stdev_ms: f64,
}

/// Percentiles in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Millis {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl From<Summary> for Millis {
    /// Of a summary in ns.
    fn from(summary: Summary) -> Self {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        Self { p50: ms(summary.p50), p99: ms(summary.p99), p999: ms(summary.p999), max: ms(summary.max) }
    }
}

impl Ear {
    /// For packets of this duration.
    #[must_use]
    pub fn new(nominal: Duration) -> Self {
        Self { nominal, gaps: Histogram::new(), over: 0, heard: 0, lost: 0 }
    }

    /// A packet came.
    pub fn hear(&mut self, device: &mut Listening, at: Time, sequence: u32) {
        self.heard += 1;
        if let Some((last, last_sequence)) = device.last {
            let step = sequence.wrapping_sub(last_sequence) as i32;
            if step <= 0 {
                // Late after all, so it was not lost.
                self.lost = self.lost.saturating_sub(1);
                return;
            }
            self.lost += step as u64 - 1;
            let gap = at.since(last);
            self.gaps.record(gap.as_nanos() as u64);
            self.over += u64::from(gap > self.nominal + TOLERANCE);
        }
        device.last = Some((at, sequence));
    }

    /// Adds all that another ear noticed.
    pub fn merge(&mut self, other: &Self) {
        self.gaps.merge(&other.gaps);
        self.over += other.over;
        self.heard += other.heard;
        self.lost += other.lost;
    }

    /// The gaps between packets, in ns.
    #[must_use]
    pub const fn gaps(&self) -> &Histogram {
        &self.gaps
    }

    /// What it noticed.
    #[must_use]
    pub fn heard(&self) -> Heard {
        let summary = self.gaps.summary();
        Heard {
            packets: self.heard,
            lost: self.lost,
            gap_ms: summary.into(),
            gaps_over_percent: 100.0 * self.over as f64 / summary.count.max(1) as f64,
            gap_stdev_ms: summary.stdev / 1e6,
        }
    }
}

impl Listening {
    /// A pause begins in which nothing is expected: the gap to what comes next does not count.
    pub fn pause(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_losses_are_counted_and_pauses_are_not() {
        let mut ear = Ear::new(Duration::from_millis(60));
        let mut device = Listening::default();
        for (ms, sequence) in [(0, 1), (60, 2), (124, 3), (190, 4), (310, 6), (320, 5), (370, 7)] {
            ear.hear(&mut device, Time::from_millis(ms), sequence);
        }
        let heard = ear.heard();
        assert_eq!((heard.packets, heard.lost, heard.gaps_over_percent), (7, 0, 40.0));
        assert!((heard.gap_ms.max - 120.0).abs() < 1e-9);
        device.pause();
        ear.hear(&mut device, Time::from_millis(5000), 8);
        assert_eq!(ear.heard().gap_ms, heard.gap_ms);
    }
}
