//! Streams that come and go for a long time: whether what they take is given back.

use std::time::Duration;

use evenkeel_sys::clock;
use serde::Serialize;

use super::fleet::Fleet;
use super::material::Material;
use super::{LoadConfig, LoadError, Millis};

/// How often memory is looked at, and streams close and open.
const SECOND: Duration = Duration::from_secs(1);

/// The share of the streams, in %, that close and are followed by others each second.
const RENEWED: usize = 5;

/// The share of the run, in %, that is warm-up: allocators and queues take what they need at most.
const WARM_UP: usize = 25;

/// The most that memory may grow over a run after warm-up, in MB: a fraction of a byte a frame, and less than what
/// one stream holds for the thousands that came and went.
const LIMIT_MB: f64 = 1.0;

/// A second of the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Streams open.
    pub streams: usize,
    /// Physical memory of the process.
    pub rss_mb: f64,
}

/// What the run measured.
#[derive(Clone, Debug, Serialize)]
pub struct SoakReport {
    /// Streams open at any time.
    pub streams: usize,
    /// Streams opened over all.
    pub opened: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// Frames taken up.
    pub frames: u64,
    /// Packets that left.
    pub packets: u64,
    /// Frames and packets dropped, for any reason but that their stream was closed.
    pub dropped: u64,
    /// How late packets left.
    pub departure_error_ms: Millis,
    /// Memory after warm-up, at the most and at the end.
    pub warm_mb: f64,
    /// The most there was.
    pub most_mb: f64,
    /// What there was at the end.
    pub last_mb: f64,
    /// How fast memory grew after warm-up: the slope of the line of least squares.
    pub slope_mb_per_hour: f64,
    /// The same over the time that was measured.
    pub growth_mb: f64,
    /// The most that this may be.
    pub limit_mb: f64,
    /// Whether it was no more.
    pub flat: bool,
    /// Memory over time.
    pub samples: Vec<Sample>,
}

/// Runs `config.streams` streams for `config.duration`, some of which close each second while others open; `progress`
/// hears of each second.
///
/// # Errors
/// [`LoadError`] if it could not begin, or a stream could not be opened.
pub fn run(config: &LoadConfig, mut progress: impl FnMut(&Sample)) -> Result<SoakReport, LoadError> {
    let seconds = config.duration.as_secs().max(4) as usize;
    let renewed = (config.streams * RENEWED / 100).max(1);
    let mut samples = Vec::with_capacity(seconds);
    let began = clock::now();
    let mut fleet = Fleet::start(config, Material::new(config)?)?;
    fleet.open(config.streams)?;
    for turn in 0..seconds {
        fleet.drive(SECOND, |_| {});
        let sample = Sample {
            at: clock::now().since(began).as_secs_f64(),
            streams: fleet.streams(),
            rss_mb: clock::process_resident().map_or(f64::NAN, |bytes| bytes as f64 / 1e6),
        };
        progress(&sample);
        samples.push(sample);
        fleet.close_some(renewed, turn);
        fleet.open(config.streams - fleet.streams())?;
    }
    let (totals, ..) = fleet.finish();
    let warm = &samples[seconds * WARM_UP / 100..];
    let slope = slope(warm);
    let growth_mb = slope * (warm[warm.len() - 1].at - warm[0].at);
    Ok(SoakReport {
        streams: config.streams,
        opened: totals.streams,
        seconds: clock::now().since(began).as_secs_f64(),
        frames: totals.frames,
        packets: totals.packets,
        dropped: totals.dropped + totals.late + totals.output_dropped,
        departure_error_ms: (&totals.departure).into(),
        warm_mb: warm[0].rss_mb,
        most_mb: warm.iter().map(|sample| sample.rss_mb).fold(0.0, f64::max),
        last_mb: warm[warm.len() - 1].rss_mb,
        slope_mb_per_hour: slope * 3_600.0,
        growth_mb,
        limit_mb: LIMIT_MB,
        // What could not be measured is not flat.
        flat: growth_mb <= LIMIT_MB,
        samples,
    })
}

/// The slope of the line of least squares through the samples, in MB a second.
fn slope(samples: &[Sample]) -> f64 {
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
    let (at, rss) = (mean(|sample| sample.at), mean(|sample| sample.rss_mb));
    let sum = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>();
    let spread = sum(&|sample| (sample.at - at).powi(2));
    if spread == 0.0 { 0.0 } else { sum(&|sample| (sample.at - at) * (sample.rss_mb - rss)) / spread }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rss_mb: impl Fn(f64) -> f64) -> Vec<Sample> {
        (0..60).map(|i| f64::from(i) * 1.01).map(|at| Sample { at, streams: 1, rss_mb: rss_mb(at) }).collect()
    }

    #[test]
    fn the_slope_is_that_of_what_grows_whatever_jitters() {
        assert!(slope(&samples(|_| 40.0)).abs() < 1e-12);
        assert!((slope(&samples(|at| 40.0 + 0.25 * at)) - 0.25).abs() < 1e-9);
        let jitter = |at: f64| if (at as u64).is_multiple_of(2) { 0.3 } else { -0.3 };
        assert!((slope(&samples(|at| 40.0 + 0.25 * at + jitter(at))) - 0.25).abs() < 0.01);
        assert_eq!(slope(&samples(|_| 40.0)[..1]), 0.0);
        assert!(slope(&samples(|_| f64::NAN)).is_nan());
    }
}
