//! What streams and lanes tell of themselves, and the same as Prometheus text.

use std::fmt::Write as _;
use std::time::Duration;

use evenkeel_core::stats::{Histogram, Summary};

use crate::stream::StreamId;

/// What one stream did since it was opened. Histograms are in nanoseconds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamReport {
    /// Which stream.
    pub id: StreamId,
    /// The lane it is on.
    pub lane: usize,
    /// Frames taken up.
    pub frames: u64,
    /// Packets that left.
    pub packets: u64,
    /// Bytes of datagrams that left.
    pub bytes: u64,
    /// Frames dropped because the input queue was full.
    pub dropped: u64,
    /// Frames and packets dropped because they were more than the limit late.
    pub late: u64,
    /// Packets, of any stream, that its own displaced in an output whose consumer did not take them.
    pub output_dropped: u64,
    /// Frames of which no packet could be made: no valid Opus (relay), or the key is used up.
    pub refused: u64,
    /// Times the schedule was laid anew because a frame came too late for its deadline.
    pub underruns: u64,
    /// Frames in which there was nothing to hear and nothing was sent.
    pub silent: u64,
    /// Frames that no rung could carry.
    pub muted: u64,
    /// Frames that a lower rung carried because the encoder failed.
    pub fallbacks: u64,
    /// Panics of its encoder; the first closes the stream.
    pub panics: u64,
    /// Changes of rung.
    pub rung_changes: u64,
    /// The key has sealed all it may; the stream is silent until it is opened anew.
    pub key_exhausted: bool,
    /// The rung it is on, such as `full/5`; `relay` for one that does not code.
    pub rung: String,
    /// The position of that rung, 0 the best.
    pub position: usize,
    /// Frames that wait for the codec.
    pub queued: usize,
    /// What one frame costs: a mean over about fifty.
    pub cost: Duration,
    /// The mean of `processing` over the last hundred frames.
    pub recent_mean: Duration,
    /// The largest of `processing` over the last hundred frames.
    pub recent_max: Duration,
    /// From when a frame could be taken up (it was pushed, and its stream was not far ahead of its deadlines) until
    /// it was worked on.
    pub processing: Histogram,
    /// From the push of a frame until its packet left.
    pub latency: Histogram,
    /// Between when a packet should have left and when it left, early or late (paced streams).
    pub departure: Histogram,
}

/// What one lane did since it started.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LaneReport {
    /// Which lane.
    pub lane: usize,
    /// Streams on it.
    pub streams: usize,
    /// The share of its time it worked over about the last second, 0.0 to 1.0.
    pub load: f64,
    /// The position of the ladder that its plan allows, 0 the best.
    pub position: usize,
    /// Codec jobs done.
    pub jobs: u64,
    /// Streams that moved away because the lane was over budget.
    pub moved: u64,
    /// CPU time its thread used, in seconds.
    pub cpu_seconds: f64,
}

/// Everything an engine tells at once.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// One a lane.
    pub lanes: Vec<LaneReport>,
    /// One a stream that is open.
    pub streams: Vec<StreamReport>,
    /// Streams refused by admission.
    pub refused: u64,
    /// What all streams that were ever open did together.
    pub totals: Totals,
}

/// Sums over all streams, those that are closed included.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Streams opened.
    pub streams: u64,
    /// Frames taken up.
    pub frames: u64,
    /// Packets that left.
    pub packets: u64,
    /// Frames dropped because an input queue was full.
    pub dropped: u64,
    /// Frames and packets dropped because they were more than the limit late.
    pub late: u64,
    /// Packets dropped because a consumer did not take them.
    pub output_dropped: u64,
    /// Frames of which no packet could be made: no valid Opus (relay), or a key is used up.
    pub refused: u64,
    /// Times a schedule was laid anew because a frame came too late for its deadline.
    pub underruns: u64,
    /// Frames in which there was nothing to hear and nothing was sent.
    pub silent: u64,
    /// Frames that no rung could carry.
    pub muted: u64,
    /// Frames that a lower rung carried because an encoder failed.
    pub fallbacks: u64,
    /// Streams closed because their encoder panicked.
    pub panics: u64,
    /// Changes of rung.
    pub rung_changes: u64,
    /// From when a frame could be taken up until it was worked on, in nanoseconds.
    pub processing: Histogram,
    /// From the push of a frame until its packet left, in nanoseconds.
    pub latency: Histogram,
    /// Between when a packet should have left and when it left, in nanoseconds.
    pub departure: Histogram,
}

impl Totals {
    /// Adds what one stream did.
    pub fn add(&mut self, stream: &StreamReport) {
        self.streams += 1;
        self.frames += stream.frames;
        self.packets += stream.packets;
        self.dropped += stream.dropped;
        self.late += stream.late;
        self.output_dropped += stream.output_dropped;
        self.refused += stream.refused;
        self.underruns += stream.underruns;
        self.silent += stream.silent;
        self.muted += stream.muted;
        self.fallbacks += stream.fallbacks;
        self.panics += stream.panics;
        self.rung_changes += stream.rung_changes;
        self.processing.merge(&stream.processing);
        self.latency.merge(&stream.latency);
        self.departure.merge(&stream.departure);
    }
}

impl Report {
    /// As Prometheus text (exposition format 0.0.4). Streams are summed; only lanes have a label, so that the number
    /// of time series stays small whatever runs.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut out = String::with_capacity(4096);
        let totals = &self.totals;
        for (name, help, value) in [
            ("streams_opened_total", "Streams opened.", totals.streams),
            ("streams_refused_total", "Streams refused by admission.", self.refused),
            ("frames_total", "Frames taken up.", totals.frames),
            ("packets_total", "Packets that left.", totals.packets),
            ("frames_dropped_total", "Frames dropped because an input queue was full.", totals.dropped),
            ("frames_late_total", "Frames dropped because they were too late.", totals.late),
            (
                "packets_untaken_total",
                "Packets dropped because a consumer did not take them.",
                totals.output_dropped,
            ),
            ("frames_refused_total", "Frames of which no packet could be made.", totals.refused),
            ("frames_silent_total", "Frames in which there was nothing to hear.", totals.silent),
            ("frames_muted_total", "Frames that no rung could carry.", totals.muted),
            ("underruns_total", "Times a frame came too late for its deadline.", totals.underruns),
            (
                "encoder_fallbacks_total",
                "Frames a lower rung carried because an encoder failed.",
                totals.fallbacks,
            ),
            ("encoder_panics_total", "Streams closed because their encoder panicked.", totals.panics),
            ("rung_changes_total", "Changes of rung.", totals.rung_changes),
        ] {
            family(&mut out, name, help, "counter");
            let _ = writeln!(out, "evenkeel_{name} {value}");
        }
        for (name, help, histogram) in [
            (
                "processing_seconds",
                "From when a frame could be taken up until it was worked on.",
                &totals.processing,
            ),
            ("latency_seconds", "From the push of a frame until its packet left.", &totals.latency),
            (
                "departure_error_seconds",
                "Between when packets should have left and when they did.",
                &totals.departure,
            ),
        ] {
            quantiles(&mut out, name, help, histogram);
        }
        type Gauge = (&'static str, &'static str, fn(&LaneReport) -> f64);
        let gauges: [Gauge; 4] = [
            ("lane_streams", "Streams on the lane.", |lane| lane.streams as f64),
            ("lane_load_ratio", "Share of its time the lane works.", |lane| lane.load),
            ("lane_ladder_position", "Position of the ladder the lane allows, 0 the best.", |lane| {
                lane.position as f64
            }),
            ("lane_cpu_seconds_total", "CPU time of the lane's thread.", |lane| lane.cpu_seconds),
        ];
        for (name, help, value) in gauges {
            family(&mut out, name, help, if name.ends_with("_total") { "counter" } else { "gauge" });
            for lane in &self.lanes {
                let _ = writeln!(out, "evenkeel_{name}{{lane=\"{}\"}} {}", lane.lane, value(lane));
            }
        }
        family(&mut out, "streams", "Streams on each rung.", "gauge");
        let mut rungs: Vec<(&str, usize)> = Vec::new();
        for stream in &self.streams {
            match rungs.iter_mut().find(|(rung, _)| *rung == stream.rung) {
                Some((_, count)) => *count += 1,
                None => rungs.push((&stream.rung, 1)),
            }
        }
        for (rung, count) in rungs {
            let _ = writeln!(out, "evenkeel_streams{{rung=\"{rung}\"}} {count}");
        }
        out
    }
}

fn family(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP evenkeel_{name} {help}\n# TYPE evenkeel_{name} {kind}");
}

fn quantiles(out: &mut String, name: &str, help: &str, histogram: &Histogram) {
    family(out, name, help, "summary");
    let Summary { count, p50, p90, p99, p999, max, .. } = histogram.summary();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    for (quantile, value) in [("0.5", p50), ("0.9", p90), ("0.99", p99), ("0.999", p999), ("1", max)] {
        let _ = writeln!(out, "evenkeel_{name}{{quantile=\"{quantile}\"}} {}", seconds(value));
    }
    let _ = writeln!(out, "evenkeel_{name}_sum {}\nevenkeel_{name}_count {count}", histogram.sum() / 1e9);
}
