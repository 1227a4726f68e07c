//! Many streams at once on an engine of this process: what `evenkeel load` measures.
//!
//! One thread plays the sources: it pushes each stream's frames at the stream's phase, never early, and drains what
//! comes out. The same frames are coded by the bare encoder before and after, so that the figures are ratios of one
//! run.

mod bare;
mod capacity;
mod drawing;
mod fleet;
mod material;
mod merge;
mod overload;
mod soak;

use std::time::{Duration, Instant};

use evenkeel_core::seal::Suite;
use evenkeel_core::stats::{Histogram, Summary};
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_engine::{EngineConfig, Totals};
use evenkeel_sys::clock;
use serde::{Deserialize, Serialize};

pub use capacity::{Capacity, CapacityStep, find as find_capacity};
pub use overload::{OverloadReport, Phase, run as run_overload};
pub use soak::{Sample, SoakReport, run as run_soak};

use fleet::Fleet;

/// What to run.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// How many streams.
    pub streams: usize,
    /// For how long.
    pub duration: Duration,
    /// What each stream does.
    pub kind: Kind,
    /// How long one packet lasts.
    pub frame: FrameDuration,
    /// How packets are sealed.
    pub suite: Suite,
    /// The engine's settings.
    pub engine: EngineConfig,
}

/// What a stream of the load does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f32 PCM at `rate` in, Opus (VOIP, 24 kb/s) out.
    Transcode {
        /// The rate pushed; where Opus does not code it, it is resampled to 48 kHz.
        rate: SampleRate,
        /// 0 to 10.
        complexity: u8,
    },
    /// Opus in, the same Opus out.
    Relay,
}

/// A moment of a run, for a progress line and a time line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tick {
    /// Seconds since the run began.
    pub at: f64,
    /// Streams open.
    pub streams: usize,
    /// The share of its time each lane works.
    pub loads: Vec<f64>,
    /// The position of the ladder each lane allows, 0 the best.
    pub positions: Vec<usize>,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Millis {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub stdev: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl From<&Histogram> for Millis {
    fn from(histogram: &Histogram) -> Self {
        let Summary { mean, stdev, p50, p99, p999, max, .. } = histogram.summary();
        let ms = |nanos: u64| nanos as f64 / 1e6;
        Self {
            mean: mean / 1e6,
            stdev: stdev / 1e6,
            p50: ms(p50),
            p99: ms(p99),
            p999: ms(p999),
            max: ms(max),
        }
    }
}

/// What a run measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadReport {
    /// Streams that ran.
    pub streams: usize,
    /// Seconds it took.
    pub seconds: f64,
    /// Frames taken up.
    pub frames: u64,
    /// Packets that left.
    pub packets: u64,
    /// Frames and packets dropped, for any reason.
    pub dropped: u64,
    /// Of those, dropped because they were over 50 ms late.
    pub late_50ms: u64,
    /// Streams that admission refused.
    pub refused: u64,
    /// From the push of a frame until its packet left.
    pub latency_ms: Millis,
    /// From when a packet should have left until it left.
    pub departure_error_ms: Millis,
    /// From when a frame should have been pushed until it was: how late the load itself was.
    pub source_late_ms: Millis,
    /// CPU time of the whole process over wall time, the source included.
    pub cores: f64,
    /// The same encodes alone, one after the other with nothing around them; none for a relay.
    pub bare_opus_cores: Option<f64>,
    /// `cores` over `bare_opus_cores`.
    pub ratio_to_bare_opus: Option<f64>,
    /// Physical memory of the process at the end of the run.
    pub rss_mb: f64,
    /// Changes of rung over all streams.
    pub rung_changes: u64,
    /// Streams that moved to another lane.
    pub moved: u64,
    /// The lanes over time.
    pub timeline: Vec<Tick>,
    /// `[upper bound in ms, count]` of the latency histogram.
    pub latency_histogram: Vec<(f64, u64)>,
    /// `[upper bound in ms, count]` of the departure error histogram.
    pub departure_histogram: Vec<(f64, u64)>,
}

/// A load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] evenkeel_engine::StartError),
    /// A stream did not open.
    #[error("stream {number}: {error}")]
    Open {
        /// Which one, from 1.
        number: usize,
        /// Why.
        error: evenkeel_engine::OpenError,
    },
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] evenkeel_core::error::ConfigError),
}

/// Runs a load; `progress` hears of it about twice a second.
///
/// # Errors
/// [`LoadError`] if it could not begin.
pub fn run_load(config: &LoadConfig, mut progress: impl FnMut(&Tick)) -> Result<LoadReport, LoadError> {
    let material = material::Material::new(config)?;
    let bare_before = bare::cores(config, &material);
    let mut fleet = Fleet::start(config, material)?;
    fleet.open(config.streams)?;
    let (started, cpu) = (Instant::now(), clock::process_cpu());
    let mut timeline = Vec::new();
    fleet.drive(config.duration, |tick| {
        progress(&tick);
        timeline.push(tick);
    });
    let seconds = started.elapsed().as_secs_f64();
    let cores = (clock::process_cpu() - cpu).as_secs_f64() / seconds;
    let rss_mb = clock::process_resident().map_or(f64::NAN, |bytes| bytes as f64 / 1e6);
    let source_late = fleet.source_late().clone();
    let (totals, moved, refused, material) = fleet.finish();
    let bare_after = bare::cores(config, &material);
    let bare_opus_cores = bare_before.zip(bare_after).map(|(a, b)| (a + b) / 2.0);
    Ok(report_of(
        config,
        &totals,
        Measured { seconds, cores, rss_mb, bare_opus_cores, source_late, timeline, moved, refused },
    ))
}

/// What was measured beside the engine's own figures.
struct Measured {
    seconds: f64,
    cores: f64,
    rss_mb: f64,
    bare_opus_cores: Option<f64>,
    source_late: Histogram,
    timeline: Vec<Tick>,
    moved: u64,
    refused: u64,
}

fn report_of(config: &LoadConfig, totals: &Totals, measured: Measured) -> LoadReport {
    LoadReport {
        streams: config.streams,
        seconds: measured.seconds,
        frames: totals.frames,
        packets: totals.packets,
        dropped: totals.dropped + totals.late + totals.output_dropped,
        late_50ms: totals.late,
        refused: measured.refused,
        latency_ms: (&totals.latency).into(),
        departure_error_ms: (&totals.departure).into(),
        source_late_ms: (&measured.source_late).into(),
        cores: measured.cores,
        bare_opus_cores: measured.bare_opus_cores,
        ratio_to_bare_opus: measured.bare_opus_cores.map(|bare| measured.cores / bare),
        rss_mb: measured.rss_mb,
        rung_changes: totals.rung_changes,
        moved: measured.moved,
        timeline: measured.timeline,
        latency_histogram: buckets(&totals.latency),
        departure_histogram: buckets(&totals.departure),
    }
}

/// `[upper bound in ms, count]` of each bucket.
fn buckets(histogram: &Histogram) -> Vec<(f64, u64)> {
    histogram.iter().map(|(end, n)| (end as f64 / 1e6, n)).collect()
}
