//! Loads as pictures: histograms of latency and departure error, and the lanes over time.

use crate::plot::{Axis, Color, Figure, Layer, Panel, Shape, bins};

use super::{Capacity, LoadReport, OverloadReport, Sample, SoakReport, Tick};

/// Bars a decade of a histogram.
const PER_DECADE: u32 = 12;

const LANES: [Color; 4] = [Color::Blue, Color::Orange, Color::Green, Color::Purple];

impl LoadReport {
    /// The run as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let title = format!("{} streams for {:.0} s", self.streams, self.seconds);
        let subtitle = format!(
            "{} frames, {} dropped; {:.3} cores; latency p99 {:.2} ms, departure error p99.9 {:.3} ms",
            self.frames, self.dropped, self.cores, self.latency_ms.p99, self.departure_error_ms.p999
        );
        Figure::new(title, subtitle)
            .with(histogram("From push to departure", "latency in ms", &self.latency_histogram))
            .with(histogram("How late packets left", "departure error in ms", &self.departure_histogram))
            .with(loads(&self.timeline))
            .with(rungs(&self.timeline))
            .svg()
    }
}

impl OverloadReport {
    /// The run as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let back = self
            .seconds_to_full
            .map_or("not back at full".to_owned(), |s| format!("back at full after {s:.1} s"));
        let subtitle = format!(
            "{} dropped, {back}, at most {} rung changes a stream within 10 s",
            self.dropped, self.rung_changes_per_10s
        );
        Figure::new(format!("{} times what fits", self.factor), subtitle)
            .with(streams(&self.timeline))
            .with(loads(&self.timeline))
            .with(rungs(&self.timeline))
            .svg()
    }
}

impl Capacity {
    /// The search as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut steps: Vec<_> =
            self.steps.iter().map(|step| (step.streams as f64, step.departure_error_ms.p999)).collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let panel = Panel::new(Axis::linear("streams"), Axis::log("departure error p99.9 in ms"))
            .with(Layer::new("tried", Color::Blue, Shape::Line(steps)))
            .with(Layer::new("limit", Color::Red, Shape::Level(1.0)))
            .with(Layer::new("bare libopus", Color::Grey, Shape::Upright(self.bare_streams)));
        let subtitle = format!("{:.1} % of what bare libopus alone would fill", self.share_of_bare * 100.0);
        Figure::new(format!("{} streams stay on time", self.streams), subtitle).with(panel).svg()
    }
}

impl SoakReport {
    /// The run as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let line = |of: fn(&Sample) -> f64| self.samples.iter().map(|s| (s.at, of(s))).collect();
        let top = (1.2 * self.most_mb).max(1.0);
        let memory = Panel::new(Axis::linear("seconds"), Axis::linear("MB").between(0.0, top))
            .titled("Physical memory")
            .with(Layer::new("", Color::Blue, Shape::Line(line(|sample| sample.rss_mb))));
        let streams = Panel::new(Axis::linear("seconds"), Axis::linear("streams"))
            .titled("Load")
            .with(Layer::new("", Color::Green, Shape::Step(line(|sample| sample.streams as f64))));
        let subtitle = format!(
            "{} at a time, {} frames, {} dropped; memory grew by {:.2} MB after warm-up",
            self.streams, self.frames, self.dropped, self.growth_mb
        );
        let title = format!("{} streams came and went in {:.0} s", self.opened, self.seconds);
        Figure::new(title, subtitle).with(memory).with(streams).svg()
    }
}

fn histogram(title: &str, label: &str, buckets: &[(f64, u64)]) -> Panel {
    let bars = bins::weighted_log(buckets.iter().copied(), PER_DECADE);
    Panel::new(Axis::log(label), Axis::log("packets")).titled(title).with(Layer::new(
        "",
        Color::Blue,
        Shape::Bars(bars),
    ))
}

fn loads(timeline: &[Tick]) -> Panel {
    let lanes = timeline.iter().map(|tick| tick.loads.len()).max().unwrap_or(0);
    let line = |lane: usize| {
        timeline.iter().filter_map(move |tick| Some((tick.at, 100.0 * tick.loads.get(lane)?))).collect()
    };
    let panel =
        Panel::new(Axis::linear("seconds"), Axis::linear("% busy").between(0.0, 100.0)).titled("Lanes");
    (0..lanes).fold(panel, |panel, lane| {
        panel.with(Layer::new(format!("lane {lane}"), LANES[lane % LANES.len()], Shape::Line(line(lane))))
    })
}

fn rungs(timeline: &[Tick]) -> Panel {
    let worst = |tick: &Tick| tick.positions.iter().max().map_or(0.0, |&position| position as f64);
    let steps = timeline.iter().map(|tick| (tick.at, worst(tick))).collect();
    Panel::new(Axis::linear("seconds"), Axis::linear("rungs below full")).titled("Ladder").with(Layer::new(
        "",
        Color::Green,
        Shape::Step(steps),
    ))
}

fn streams(timeline: &[Tick]) -> Panel {
    let steps = timeline.iter().map(|tick| (tick.at, tick.streams as f64)).collect();
    Panel::new(Axis::linear("seconds"), Axis::linear("streams")).titled("Load").with(Layer::new(
        "",
        Color::Blue,
        Shape::Step(steps),
    ))
}
