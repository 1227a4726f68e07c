//! Every measurement in one run, and what is asked of it.

use evenkeel_core::error::CodecError;
use evenkeel_core::seal::Suite;
use evenkeel_core::units::SampleRate;
use serde::Serialize;

use crate::allocations::{self, Allocations};
use crate::ladder::{self, Way};
use crate::path::{self, PathFigures, PathTimes};
use crate::plot::{Axis, Color, Figure, Layer, Panel, Shape, bins};
use crate::race::{Cost, Times};
use crate::receive::{self, ReceiveFigures};
use crate::relay::{self, RelayFigures};
use crate::repacketize::{self, MergeCost};
use crate::resample::{self, ResampleFigures};
use crate::seal::{self, SuiteFigures};
use crate::speech::Speech;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Frames that the whole path codes; the other measurements take a share of it. Default 20 000, which takes about
    /// half a minute.
    pub frames: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { frames: 20_000 }
    }
}

/// All figures. [`std::fmt::Display`] gives a table, `serde` the object that `evenkeel bench --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What was coded.
    pub input: &'static str,
    /// What is asked, and whether it was reached.
    pub limits: Vec<Limit>,
    /// The whole path beside the bare encoder.
    pub path: PathFigures,
    /// Sealing a packet.
    pub seal: SealFigures,
    /// Opening a packet.
    pub open: OpenFigures,
    /// Passing Opus on.
    pub relay: RelayFigures,
    /// Joining three packets alone, beside libopus.
    pub merge: MergeCost,
    /// Pairs of rates: all, or in a quick run those of which one is a multiple of the other.
    pub resample: Vec<ResampleFigures>,
    /// Heap allocations after the first second.
    pub allocations_per_frame: Allocations,
    /// Rungs of the ladder, `full/10` first.
    pub rungs: Vec<Way>,
    /// Ways from 48 kHz to Opus.
    pub inputs: Vec<Way>,
    /// Durations of packets.
    pub durations: Vec<Way>,
    /// Datagrams to samples.
    pub receive: Vec<ReceiveFigures>,
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor, as the operating system names it.
    pub cpu: String,
    /// How many threads run at once.
    pub cores: usize,
    /// The codec's version.
    pub opus: &'static str,
    /// Whether the program was optimised; the figures say nothing if not.
    pub is_optimised: bool,
}

/// Sealing a packet of 120 bytes with the suite of deployed firmware; and with every suite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SealFigures {
    /// Which suite `ns` is of.
    pub suite: &'static str,
    /// Bytes of payload.
    pub bytes: usize,
    /// Nanoseconds a packet.
    #[serde(flatten)]
    pub cost: Cost,
    /// Every suite, sealing and opening.
    pub suites: [SuiteFigures; 5],
}

/// Opening a packet of 120 bytes with the suite of deployed firmware.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenFigures {
    /// Which suite.
    pub suite: &'static str,
    /// Bytes of payload.
    pub bytes: usize,
    /// Nanoseconds a packet.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What is asked of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// The figure, as the JSON names it.
    pub key: String,
    /// What it is.
    pub value: f64,
    /// What it must not pass.
    pub limit: f64,
    /// Whether it does not.
    pub is_kept: bool,
}

/// A report, and the times of single frames behind it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All figures.
    pub report: Report,
    /// What is drawn.
    pub times: PathTimes,
}

/// Measures everything, and tells `stage` what comes next.
///
/// # Errors
/// [`CodecError`] if a codec cannot be built.
///
/// # Panics
/// If the program has not `evenkeel_testkit::alloc::CountingAllocator` as its global allocator.
pub fn run(options: Options, mut stage: impl FnMut(&'static str)) -> Result<Outcome, CodecError> {
    let frames = options.frames.max(100);
    let share = |part: usize| (frames / part).max(100);
    let speech = Speech::load();
    stage("allocations");
    let allocations_per_frame = allocations::measure(&speech, Suite::Aes128Ctr)?;
    stage("the whole path");
    let (path, times) = path::measure(&speech, frames)?;
    stage("sealing and opening");
    let suites = seal::measure(share(10));
    stage("relaying");
    let relay = relay::measure(&speech, share(10))?;
    let merge = repacketize::merge_three(share(100));
    stage("rungs of the ladder");
    let rungs = ladder::rungs(&speech, share(8))?;
    stage("ways from 48 kHz to Opus");
    let inputs = ladder::inputs(&speech, share(8))?;
    stage("durations of packets");
    let durations = ladder::durations(&speech, share(8))?;
    stage("receiving");
    let receive = receive::measure(&speech, share(8))?;
    stage("resampling");
    let resample = resample_pairs(frames).map(|(from, to)| resample::measure(from, to)).collect();

    let [compat, ..] = suites;
    let (suite, bytes) = (compat.suite, seal::BYTES);
    let mut report = Report {
        machine: Machine::this(),
        input: speech.name,
        limits: Vec::new(),
        path,
        seal: SealFigures { suite, bytes, cost: compat.seal, suites },
        open: OpenFigures { suite, bytes, cost: compat.open },
        relay,
        merge,
        resample,
        allocations_per_frame,
        rungs,
        inputs,
        durations,
        receive,
    };
    report.limits = limits(&report);
    Ok(Outcome { report, times })
}

/// Every pair of rates; in a quick run those alone of which one is a multiple of the other.
fn resample_pairs(frames: usize) -> impl Iterator<Item = (SampleRate, SampleRate)> {
    let pairs = SampleRate::ALL.into_iter().flat_map(|from| SampleRate::ALL.map(|to| (from, to)));
    let is_whole = |a: SampleRate, b: SampleRate| a.max(b).hz().is_multiple_of(a.min(b).hz());
    pairs.filter(move |&(from, to)| from != to && (frames >= QUICK || is_whole(from, to)))
}

/// Below so many frames a run is quick.
const QUICK: usize = 10_000;

/// What is asked.
fn limits(report: &Report) -> Vec<Limit> {
    let limit = |key: &str, value: f64, limit: f64| Limit {
        key: key.to_owned(),
        value,
        limit,
        is_kept: value <= limit,
    };
    let path = &report.path;
    let mut limits = vec![
        limit("path.ratio_to_bare_opus", path.ratio_to_bare_opus, 1.05),
        limit("path.other_than_opus_us", path.other_than_opus_us, 5.0),
        limit("path.latency_us.mean", path.latency_us.mean, 200.0),
        limit("path.latency_us.p999", path.latency_us.p999, 1_000.0),
        limit("seal.ns", report.seal.cost.ns, 120.0),
        limit("open.ns", report.open.cost.ns, 120.0),
    ];
    // The suites that come first are the headline.
    for suite in &report.seal.suites[1..] {
        limits.push(limit(&format!("seal.ns, {}", suite.suite), suite.seal.ns, 120.0));
        limits.push(limit(&format!("open.ns, {}", suite.suite), suite.open.ns, 120.0));
    }
    limits.push(limit("relay.us_per_packet", report.relay.us_per_packet, 1.0));
    let whole = report.resample.iter().filter(|r| r.from.max(r.to).is_multiple_of(r.from.min(r.to)));
    let worst = |of: fn(&ResampleFigures) -> f64| whole.clone().map(of).fold(f64::NEG_INFINITY, f64::max);
    limits.extend([
        limit("resample[].us_per_20ms, integer ratios, worst", worst(|r| r.us_per_20ms), 5.0),
        limit("resample[].delay_ms, integer ratios, worst", worst(|r| r.delay_ms), 2.0),
        limit("-resample[].passband_db, integer ratios, worst", worst(|r| -r.passband_db), 1.0),
        limit("resample[].alias_db, integer ratios, worst", worst(|r| r.alias_db.unwrap_or(0.0)), -80.0),
        limit("allocations_per_frame.sender", report.allocations_per_frame.sender, 0.0),
        limit("allocations_per_frame.receiver", report.allocations_per_frame.receiver, 0.0),
        limit("allocations_per_frame.relay", report.allocations_per_frame.relay, 0.0),
    ]);
    limits
}

impl Machine {
    fn this() -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cpu: model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            opus: evenkeel_opus::libopus_version(),
            is_optimised: !cfg!(debug_assertions),
        }
    }
}

impl Outcome {
    /// The time of every frame as a figure: in order, and how often each time came.
    #[must_use]
    pub fn figure(&self) -> Figure {
        let path = &self.report.path;
        let subtitle = format!(
            "{}\n{} frames of {}; {} on {}",
            path.settings, path.frames, self.report.input, self.report.machine.opus, self.report.machine.cpu
        );
        Figure::new("Time a frame takes: the whole path, and Opus alone", subtitle)
            .with(self.in_order())
            .with(self.how_often())
    }

    fn in_order(&self) -> Panel {
        let columns = |times: &Times| bins::columns(&microseconds(times), 0.02, 400);
        let (path, bare) = (columns(&self.times.path), columns(&self.times.bare));
        Panel::new(Axis::linear("speech (s)"), Axis::log("µs a frame"))
            .titled("In order")
            .with(Layer::new(
                "whole path, least to most",
                Color::Blue,
                Shape::Band(path.iter().map(|c| (c.x, c.min, c.max)).collect()),
            ))
            .with(Layer::new(
                "median",
                Color::Blue,
                Shape::Line(path.iter().map(|c| (c.x, c.median)).collect()),
            ))
            .with(Layer::new(
                "median of Opus alone",
                Color::Orange,
                Shape::Line(bare.iter().map(|c| (c.x, c.median)).collect()),
            ))
            .with(Layer::new("a frame lasts 20 ms", Color::Red, Shape::Level(20_000.0)))
    }

    fn how_often(&self) -> Panel {
        let bars = |times: &Times| bins::log(microseconds(times), 60);
        let latency = &self.report.path.latency_us;
        let rule = |name: &str, at: f64| {
            Layer::new(format!("{name} {}", crate::table::short(at)), Color::Grey, Shape::Upright(at))
        };
        Panel::new(Axis::log("µs a frame"), Axis::log("frames"))
            .titled("How often")
            .with(Layer::new("whole path", Color::Blue, Shape::Bars(bars(&self.times.path))))
            .with(Layer::new("Opus alone", Color::Orange, Shape::Outline(bars(&self.times.bare))))
            .with(rule("median", latency.p50))
            .with(rule("99 %", latency.p99))
            .with(rule("99.9 %", latency.p999))
            .with(rule("longest", latency.max))
    }
}

fn microseconds(times: &Times) -> Vec<f64> {
    times.nanos().iter().map(|&nanos| f64::from(nanos) / 1e3).collect()
}
