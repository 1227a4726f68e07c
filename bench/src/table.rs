//! The report for people.

use std::fmt::{self, Display, Formatter};

use crate::ladder::Way;
use crate::report::Report;

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(f, "{}, {} cores, {}", machine.cpu, machine.cores, machine.opus)?;
        writeln!(f, "input: {}, over and over", self.input)?;
        if !machine.is_optimised {
            writeln!(f, "NOT OPTIMISED: these figures say nothing; build with --release")?;
        }
        self.path(f)?;
        self.seal(f)?;
        self.relay(f)?;
        ways(f, "Rungs of the ladder", &self.rungs)?;
        ways(f, "From 48 kHz to Opus", &self.inputs)?;
        ways(f, "Durations of packets", &self.durations)?;
        self.receive(f)?;
        self.resample(f)?;
        self.limits(f)
    }
}

impl Report {
    fn path(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        writeln!(f, "\nWhole path: {}, {} kb/s", path.settings, short(path.kbps))?;
        writeln!(
            f,
            "{:34} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "µs a frame", "mean", "median", "99 %", "99.9 %", "max"
        )?;
        for (name, l) in [("  whole path", &path.latency_us), ("  Opus alone", &path.bare_opus_us)] {
            let [mean, p50, p99, p999, max] = [l.mean, l.p50, l.p99, l.p999, l.max].map(short);
            writeln!(f, "{name:34} {mean:>8} {p50:>8} {p99:>8} {p999:>8} {max:>8}")?;
        }
        let [low, high] = path.ratio_spread;
        writeln!(
            f,
            "  ratio {:.3} (median of blocks of 50 frames; 80 % of them between {low:.3} and {high:.3}; {:.3} of sums)",
            path.ratio_to_bare_opus, path.ratio_of_sums
        )?;
        writeln!(
            f,
            "  besides Opus {} µs; a frame takes {} µs longer (median)",
            short(path.other_than_opus_us),
            short(path.longer_than_bare_us)
        )?;
        if path.share_of_processor < 0.98 {
            let share = 100.0 * path.share_of_processor;
            writeln!(
                f,
                "  others had the processor: this thread had {share:.0} % of one, and waited the rest"
            )?;
        }
        let a = &self.allocations_per_frame;
        writeln!(f, "  allocations a frame: sender {}, receiver {}, relay {}", a.sender, a.receiver, a.relay)
    }

    fn seal(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:34} {:>8} {:>8} {:>8} {:>8}",
            "ns for 120 bytes", "seal", "fastest", "open", "fastest"
        )?;
        for s in &self.seal.suites {
            let [a, b, c, d] = [s.seal.ns, s.seal.fastest_ns, s.open.ns, s.open.fastest_ns].map(short);
            writeln!(f, "  {:32} {a:>8} {b:>8} {c:>8} {d:>8}", s.suite)?;
        }
        Ok(())
    }

    fn relay(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let relay = &self.relay;
        writeln!(f, "\nRelay, µs")?;
        for (name, us) in [
            ("60 ms opened, to 3 x 20 ms", relay.up_us),
            ("20 ms into 60 ms, sealed", relay.down_us),
            ("60 ms through both", relay.us_per_packet),
        ] {
            writeln!(f, "  {name:32} {:>8}", short(us))?;
        }
        let [ours, theirs] = [self.merge.ours_ns, self.merge.libopus_ns].map(|ns| short(ns / 1e3));
        writeln!(f, "  {:32} {ours:>8}   (libopus {theirs})", "3 x 20 ms joined, nothing else")?;
        Ok(())
    }

    fn receive(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:34} {:>8} {:>8}", "Receiving, µs per 20 ms", "decode", "whole")?;
        for r in &self.receive {
            let name = if r.output_hz == r.decoder_hz {
                format!("{} Hz", r.output_hz)
            } else {
                format!("{} Hz, decoded at {} Hz", r.output_hz, r.decoder_hz)
            };
            writeln!(f, "  {name:32} {:>8} {:>8}", short(r.decode_us), short(r.receive_us))?;
        }
        Ok(())
    }

    fn resample(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:34} {:>8} {:>8} {:>8} {:>8}",
            "Resampling, whole ratios", "µs/20 ms", "delay ms", "0.9 dB", "1.1 dB"
        )?;
        for r in self.resample.iter().filter(|r| r.from.max(r.to).is_multiple_of(r.from.min(r.to))) {
            let alias = r.alias_db.map_or("none".to_owned(), |db| format!("{db:.1}"));
            let name = format!("{} to {} Hz", r.from, r.to);
            let [us, delay, pass] = [r.us_per_20ms, r.delay_ms, r.passband_db].map(short);
            writeln!(f, "  {name:32} {us:>8} {delay:>8} {pass:>8} {alias:>8}")?;
        }
        Ok(())
    }

    fn limits(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:58} {:>8} {:>8}", "What is asked", "is", "at most")?;
        for limit in &self.limits {
            let verdict = if limit.is_kept { "kept" } else { "OVER" };
            let (value, at_most) = (format!("{:.3}", limit.value), limit.limit);
            writeln!(f, "  {:56} {value:>8} {at_most:>8}  {verdict}", limit.key)?;
        }
        let over = self.limits.iter().filter(|limit| !limit.is_kept).count();
        match over {
            0 => write!(f, "All {} are kept.", self.limits.len()),
            _ => write!(f, "{over} of {} are over.", self.limits.len()),
        }
    }
}

fn ways(f: &mut Formatter<'_>, title: &str, ways: &[Way]) -> fmt::Result {
    writeln!(f, "\n{title:34} {:>8} {:>8} {:>8} {:>8}", "µs/20 ms", "relative", "delay ms", "kb/s")?;
    for way in ways {
        let [us, delay, kbps] = [way.us_per_20ms, way.delay_ms, way.kbps].map(short);
        writeln!(f, "  {:32} {us:>8} {:>8.3} {delay:>8} {kbps:>8}", way.name, way.relative)?;
    }
    Ok(())
}
