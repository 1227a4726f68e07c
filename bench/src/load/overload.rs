//! More streams than the machine can carry at full quality, then as many as it can again: whether quality goes
//! down and comes back without a frame being late.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_core::stats::Histogram;
use evenkeel_engine::{Engine, Report, StreamId};
use serde::Serialize;

use super::fleet::Fleet;
use super::material::Material;
use super::{LoadConfig, LoadError, Millis, Tick, bare};

/// The share of the lanes that the streams of factor 1 take.
const BASE_LOAD: f64 = 0.75;

/// How long at factor 1 before and after.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(20);

/// How far apart the streams of the overload come, and go. They are opened and closed by the thread that plays the
/// sources, above the lanes in priority: several in one go would hold up the sources, not load the lanes.
const APART: Duration = Duration::from_micros(2_500);

/// How often all streams are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The span in which rung changes of one stream are counted.
const SPAN: f64 = 10.0;

/// One stretch of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// `before`, `over`, `after`.
    pub name: &'static str,
    /// Streams in it.
    pub streams: usize,
    /// Frames and packets dropped in it.
    pub dropped: u64,
    /// From the push of a frame until its packet left, in this phase.
    pub latency_ms: Millis,
    /// How late packets left, in this phase.
    pub departure_error_ms: Millis,
    /// The worst rung any stream was on, as a position of its ladder.
    pub worst_position: usize,
}

/// What the run measured.
#[derive(Clone, Debug, Serialize)]
pub struct OverloadReport {
    /// How much over.
    pub factor: f64,
    /// The stretches, in order.
    pub phases: Vec<Phase>,
    /// Frames and packets dropped over all.
    pub dropped: u64,
    /// Seconds from the end of the overload until every stream was at `full`; none if that did not come.
    pub seconds_to_full: Option<f64>,
    /// The most rung changes of one stream within ten seconds.
    pub rung_changes_per_10s: u64,
    /// The lanes over time.
    pub timeline: Vec<Tick>,
}

/// Runs `factor` times what fits for `config.duration`, between stretches of what fits.
///
/// # Errors
/// [`LoadError`] if it could not begin.
pub fn run(
    config: &LoadConfig,
    factor: f64,
    mut progress: impl FnMut(&Tick),
) -> Result<OverloadReport, LoadError> {
    let mut config = config.clone();
    config.engine.admission = false;
    let material = Material::new(&config)?;
    config.streams = 100;
    let per_frame = bare::seconds_per_frame(&config, &material).unwrap_or(2e-6);
    let fit = config.engine.lanes as f64 * config.frame.as_duration().as_secs_f64() / per_frame;
    let base = (fit * BASE_LOAD) as usize;
    let more = (base as f64 * (factor - 1.0)) as usize;
    let mut watch = Watch::default();
    let mut fleet = Fleet::start(&config, material)?;
    let mut timeline = Vec::new();
    let mut note = |tick: Tick| {
        progress(&tick);
        timeline.push(tick);
    };
    fleet.open(base)?;
    watch.phase("before", &mut fleet, BEFORE, base, &mut note);
    for _ in 0..more {
        fleet.open(1)?;
        fleet.drive(APART, |_| {});
    }
    watch.phase("over", &mut fleet, config.duration, base + more, &mut note);
    for _ in 0..more {
        fleet.close(1);
        fleet.drive(APART, |_| {});
    }
    watch.phase("after", &mut fleet, AFTER, base, &mut note);
    let rung_changes_per_10s = watch.most_changes();
    let dropped = watch.phases.iter().map(|phase| phase.dropped).sum();
    fleet.finish();
    Ok(OverloadReport {
        factor,
        phases: watch.phases,
        dropped,
        seconds_to_full: watch.seconds_to_full,
        rung_changes_per_10s,
        timeline,
    })
}

/// Looks at all streams again and again.
#[derive(Default)]
struct Watch {
    phases: Vec<Phase>,
    seconds_to_full: Option<f64>,
    now: f64,
    /// When each stream's count of changes was what, in order of time.
    changes: HashMap<StreamId, Vec<(f64, u64)>>,
    last: Totals,
}

/// The sums at the end of the last phase.
#[derive(Default)]
struct Totals {
    dropped: u64,
    latency: Histogram,
    departure: Histogram,
}

impl Watch {
    /// Lets the fleet run, and looks at it from another thread.
    fn phase(
        &mut self,
        name: &'static str,
        fleet: &mut Fleet<'_>,
        duration: Duration,
        streams: usize,
        note: &mut impl FnMut(Tick),
    ) {
        let engine = fleet.engine();
        thread::scope(|scope| {
            scope.spawn(move || self.look(name, &engine, duration, streams));
            // The last look is over by then, so that nothing waits for it.
            fleet.drive(duration + LOOK / 2, note);
        });
    }

    fn look(&mut self, name: &'static str, engine: &Engine, duration: Duration, streams: usize) {
        let (start, mut worst_position) = (self.now, 0);
        let mut totals = None;
        let began = Instant::now();
        for look in 1..=duration.as_millis().div_ceil(LOOK.as_millis()) as u32 {
            thread::sleep((LOOK * look).saturating_sub(began.elapsed()));
            self.now += LOOK.as_secs_f64();
            let report = engine.report();
            let position = report.streams.iter().map(|stream| stream.position).max().unwrap_or(0);
            worst_position = worst_position.max(position);
            if name == "after" && position == 0 && self.seconds_to_full.is_none() {
                self.seconds_to_full = Some(self.now - start);
            }
            self.note_changes(&report);
            totals = Some(report.totals);
        }
        let Some(totals) = totals else { return };
        let dropped = totals.dropped + totals.late + totals.output_dropped;
        self.phases.push(Phase {
            name,
            streams,
            dropped: dropped - self.last.dropped,
            latency_ms: (&totals.latency.since(&self.last.latency)).into(),
            departure_error_ms: (&totals.departure.since(&self.last.departure)).into(),
            worst_position,
        });
        self.last = Totals { dropped, latency: totals.latency, departure: totals.departure };
    }

    fn note_changes(&mut self, report: &Report) {
        for stream in &report.streams {
            let seen = self.changes.entry(stream.id).or_default();
            if seen.last().is_none_or(|&(_, count)| count != stream.rung_changes) {
                seen.push((self.now, stream.rung_changes));
            }
        }
    }

    fn most_changes(&self) -> u64 {
        let within = |seen: &Vec<(f64, u64)>| {
            let before = |at: f64| {
                seen.iter().rev().find(|&&(then, _)| then <= at - SPAN).map_or(0, |&(_, count)| count)
            };
            seen.iter().map(|&(at, count)| count - before(at)).max().unwrap_or(0)
        };
        self.changes.values().map(within).max().unwrap_or(0)
    }
}
