//! How many streams this machine carries: steps up until one is not on time.

use std::time::Duration;

use serde::Serialize;

use super::fleet::Fleet;
use super::material::Material;
use super::{LoadConfig, LoadError, Millis, Tick, bare};

/// The departure error over which a step has failed.
const LIMIT_MS: f64 = 1.0;

/// How long a step runs before it is judged anew.
const SETTLE: Duration = Duration::from_secs(1);

/// One number of streams that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct CapacityStep {
    /// How many streams.
    pub streams: usize,
    /// Frames and packets dropped.
    pub dropped: u64,
    /// How late packets left.
    pub departure_error_ms: Millis,
    /// How late the load itself was.
    pub source_late_ms: Millis,
    /// Whether all were on time.
    pub passed: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// The most streams that were on time.
    pub streams: usize,
    /// How many the lanes could code with nothing around the encoder: lanes times the frame, over one bare encode.
    pub bare_streams: f64,
    /// The first over the second.
    pub share_of_bare: f64,
    /// What was tried, in order.
    pub steps: Vec<CapacityStep>,
}

/// Looks for the most streams that stay on time, each number tried for `config.duration`. Streams keep their rung.
///
/// # Errors
/// [`LoadError`] if a step could not begin.
pub fn find(config: &LoadConfig, mut progress: impl FnMut(&CapacityStep)) -> Result<Capacity, LoadError> {
    let mut config = config.clone();
    config.engine.adapt = false;
    config.engine.admission = false;
    let material = Material::new(&config)?;
    config.streams = 100;
    let bare_streams = match bare::seconds_per_frame(&config, &material) {
        Some(seconds) => config.engine.lanes as f64 * config.frame.as_duration().as_secs_f64() / seconds,
        None => 40_000.0,
    };
    drop(material);
    let (mut low, mut high) = (0, (bare_streams * 1.02) as usize);
    let mut next = (bare_streams * 0.85) as usize;
    let resolution = ((bare_streams / 100.0) as usize).max(1);
    let mut steps = Vec::new();
    while high - low > resolution {
        let mut step = try_with(&config, next)?;
        // A disturbance from outside must not decide: what fails is tried once more.
        if !step.passed {
            progress(&step);
            steps.push(step);
            step = try_with(&config, next)?;
        }
        progress(&step);
        if step.passed {
            low = next
        } else {
            high = next
        }
        steps.push(step);
        next = usize::midpoint(low, high);
    }
    Ok(Capacity { streams: low, bare_streams, share_of_bare: low as f64 / bare_streams, steps })
}

fn try_with(config: &LoadConfig, streams: usize) -> Result<CapacityStep, LoadError> {
    let material = Material::new(config)?;
    let mut fleet = Fleet::start(config, material)?;
    fleet.open(streams)?;
    fleet.drive(SETTLE + config.duration, |_: Tick| {});
    let source_late_ms: Millis = fleet.source_late().into();
    let (totals, ..) = fleet.finish();
    let dropped = totals.dropped + totals.late + totals.output_dropped;
    let departure_error_ms: Millis = (&totals.departure).into();
    let passed = dropped == 0 && departure_error_ms.p999 <= LIMIT_MS;
    Ok(CapacityStep { streams, dropped, departure_error_ms, source_late_ms, passed })
}
