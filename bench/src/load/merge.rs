//! Several processes' reports as one.

use evenkeel_core::stats::Histogram;

use super::{LoadReport, Millis};

impl LoadReport {
    /// The sums over all of `reports`, which ran at the same time. Percentiles come from the merged histograms.
    #[must_use]
    pub fn merge(reports: Vec<Self>) -> Option<Self> {
        let latency = merged(reports.iter().map(|report| &report.latency_histogram));
        let departure = merged(reports.iter().map(|report| &report.departure_histogram));
        let mut all = reports.into_iter();
        let mut sum = all.next()?;
        for report in all {
            sum.streams += report.streams;
            sum.seconds = sum.seconds.max(report.seconds);
            sum.frames += report.frames;
            sum.packets += report.packets;
            sum.dropped += report.dropped;
            sum.late_50ms += report.late_50ms;
            sum.refused += report.refused;
            sum.cores += report.cores;
            sum.bare_opus_cores = sum.bare_opus_cores.zip(report.bare_opus_cores).map(|(a, b)| a + b);
            sum.rss_mb += report.rss_mb;
            sum.rung_changes += report.rung_changes;
            sum.moved += report.moved;
            if report.source_late_ms.p999 > sum.source_late_ms.p999 {
                sum.source_late_ms = report.source_late_ms;
            }
            sum.timeline.extend(report.timeline);
        }
        sum.ratio_to_bare_opus = sum.bare_opus_cores.map(|bare| sum.cores / bare);
        (sum.latency_ms, sum.latency_histogram) = (Millis::from(&latency), super::buckets(&latency));
        (sum.departure_error_ms, sum.departure_histogram) =
            (Millis::from(&departure), super::buckets(&departure));
        sum.timeline.sort_by(|a, b| a.at.total_cmp(&b.at));
        Some(sum)
    }
}

fn merged<'a>(histograms: impl Iterator<Item = &'a Vec<(f64, u64)>>) -> Histogram {
    let mut all = Histogram::new();
    for &(end_ms, count) in histograms.flatten() {
        all.record_many((end_ms * 1e6) as u64, count);
    }
    all
}
