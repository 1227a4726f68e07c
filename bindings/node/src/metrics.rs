//! `AudioMetrics`: how long frames took.

use evenkeel_core::stats::{Histogram, Window};
use napi::bindgen_prelude::Unknown;
use napi::{Env, Result};
use napi_derive::napi;

use crate::fault::{Fault, Outcome};
use crate::options::number;

/// What was recorded, in milliseconds.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct FrameStats {
    /// Frames recorded.
    pub frames: f64,
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub stdev: f64,
    /// The mean absolute difference of consecutive frames.
    pub jitter: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The mean of the last hundred.
    pub recent_mean: f64,
    /// The longest of the last hundred.
    pub recent_max: f64,
}

/// A histogram of what frames took, and the last hundred of them.
#[derive(Default)]
pub(crate) struct Record {
    histogram: Histogram,
    window: Window,
}

impl Record {
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram.record(nanos);
        self.window.record(nanos);
    }

    pub(crate) fn stats(&self) -> FrameStats {
        let recent = (self.window.mean() as f64 / 1e6, self.window.max() as f64 / 1e6);
        FrameStats { recent_mean: recent.0, recent_max: recent.1, ..FrameStats::of(&self.histogram) }
    }
}

impl FrameStats {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let summary = histogram.summary();
        let ms = |nanos: u64| nanos as f64 / 1e6;
        Self {
            frames: summary.count as f64,
            min: ms(summary.min),
            mean: summary.mean / 1e6,
            stdev: summary.stdev / 1e6,
            jitter: summary.jitter / 1e6,
            p50: ms(summary.p50),
            p90: ms(summary.p90),
            p99: ms(summary.p99),
            p999: ms(summary.p999),
            max: ms(summary.max),
            recent_mean: 0.0,
            recent_max: 0.0,
        }
    }
}

/// Times of frames, kept in 4 KB however many there are.
#[napi]
pub struct AudioMetrics {
    record: Box<Record>,
}

#[napi]
impl AudioMetrics {
    /// Nothing recorded.
    #[napi(constructor, catch_unwind)]
    pub fn new() -> Self {
        Self { record: Box::default() }
    }

    /// Records what a frame took, in milliseconds.
    #[napi(catch_unwind)]
    pub fn record_frame(&mut self, env: Env, ms: Unknown<'_>) -> Result<()> {
        let nanos = millis(ms).map_err(|fault| fault.throw(&env))? * 1e6;
        self.record.record(nanos.round() as u64);
        Ok(())
    }

    /// What was recorded, in milliseconds.
    #[napi(catch_unwind)]
    pub fn get_stats(&self) -> FrameStats {
        self.record.stats()
    }

    /// Forgets all.
    #[napi(catch_unwind)]
    pub fn reset(&mut self) {
        *self.record = Record::default();
    }
}

/// A time that is none less than zero.
pub(crate) fn millis(ms: Unknown<'_>) -> Outcome<f64> {
    let ms = number(ms, "ms")?;
    if (0.0..=1e9).contains(&ms) {
        Ok(ms)
    } else {
        Err(Fault::range(format!("ms must be from 0 to 1e9, not {ms}")))
    }
}
