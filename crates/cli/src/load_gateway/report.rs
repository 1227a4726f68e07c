//! What many devices noticed of a gateway, and what it noticed itself.

use std::fmt;

use evenkeel_bench::plot::{Axis, Color, Figure, Layer, Panel, Shape, bins};
use evenkeel_device::ear::Millis;
use evenkeel_device::load::LoadReport;
use serde::Serialize;

use super::watch::Figures;

/// Bars a decade of a histogram.
const PER_DECADE: u32 = 24;

/// See the [module](self).
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) devices: LoadReport,
    pub(super) gateway: Option<Figures>,
}

impl Report {
    /// The report as an SVG document.
    pub(super) fn svg(&self) -> String {
        let panel = |title: &str, label: &str, buckets: &[(f64, u64)]| {
            let bars = bins::weighted_log(buckets.iter().copied(), PER_DECADE);
            let panel = Panel::new(Axis::log(label), Axis::log("packets")).titled(title);
            panel.with(Layer::new("", Color::Blue, Shape::Bars(bars)))
        };
        let r = &self.devices;
        let subtitle = format!(
            "{} packets heard, {} lost; {:.4} % of gaps over 65 ms; hello p99 {:.1} ms",
            r.heard.packets, r.heard.lost, r.heard.gaps_over_percent, r.hello_ms.p99
        );
        Figure::new(format!("{} devices for {:.0} s", r.devices, r.seconds), subtitle)
            .with(panel("Between packets", "gap in ms", &r.gap_histogram))
            .with(panel("There and back", "ms", &r.round_trip_histogram))
            .with(panel("From hello to its answer", "ms", &r.hello_histogram))
            .svg()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.devices;
        writeln!(f, "{} devices for {:.0} s, {} failed", r.devices, r.seconds, r.failed)?;
        if let Some(failure) = &r.first_failure {
            writeln!(f, "the first that failed: {failure}")?;
        }
        if r.sent > 0 {
            writeln!(
                f,
                "sent {} packets, heard {}, lost {}, not opened {}; {} came back, {} did not\n",
                r.sent, r.heard.packets, r.heard.lost, r.not_opened, r.echoed, r.not_echoed
            )?;
            writeln!(f, "{:<22}{:>9}{:>9}{:>9}{:>9}", "ms", "p50", "p99", "p99.9", "max")?;
            let mut row = |name: &str, ms: &Millis| {
                writeln!(f, "{name:<22}{:>9.3}{:>9.3}{:>9.3}{:>9.3}", ms.p50, ms.p99, ms.p999, ms.max)
            };
            row("hello to answer", &r.hello_ms)?;
            row("gap between packets", &r.heard.gap_ms)?;
            row("there and back", &r.round_trip_ms)?;
            row("the load itself late", &r.own_lateness_ms)?;
            writeln!(
                f,
                "\n{:.4} % of gaps over 65 ms, jitter (stdev of gaps) {:.3} ms",
                r.heard.gaps_over_percent, r.heard.gap_stdev_ms
            )?;
        }
        match &self.gateway {
            None => write!(f, "gateway: no figures (see --operations); ")?,
            Some(gateway) => {
                write!(
                    f,
                    "gateway: {:.3} cores, {:.1} MB, {} packets too late to send",
                    gateway.cores, gateway.rss_mb, gateway.missed
                )?;
                let p999 = gateway.departures_within.iter().find(|(_, share)| *share >= 99.9);
                match p999 {
                    Some((ms, _)) if gateway.sent > 0 => {
                        write!(f, ", 99.9 % left within {ms} ms of their deadline; ")?
                    }
                    _ => write!(f, "; ")?,
                }
            }
        }
        write!(f, "load: {:.3} cores", r.own_cores)
    }
}
