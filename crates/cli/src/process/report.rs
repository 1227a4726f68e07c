//! What was done, for people and for machines.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use evenkeel_core::seal::SessionKeys;
use evenkeel_files::Recording;
use evenkeel_testkit::network::NetworkStats;
use serde::Serialize;

use super::capture::Capture;
use super::send::Live;
use crate::far_end::{Closed, Far, Kind};

/// Everything there is to say. Parts that do not apply are left out.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) input: Input,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) coding: Option<CodingReport>,
    pub(super) session: SessionReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<NetworkReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) heard: Option<HeardReport>,
    pub(super) output: OutputReport,
}

/// What was read.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Input {
    Recording {
        path: String,
        format: &'static str,
        sample_rate_hz: u32,
        channels: usize,
        seconds: f64,
        damaged_packets: u64,
    },
    Capture {
        path: String,
        datagrams: u64,
        /// Datagrams of other streams, and frames that are no whole datagram.
        others: u64,
        seconds: f64,
    },
}

#[derive(Serialize)]
pub(super) struct CodingReport {
    application: String,
    sample_rate_hz: u32,
    channels: usize,
    complexity: u8,
    rung: String,
    bitrate_asked_bps: u32,
    bitrate_bps: f64,
    frame_ms: f64,
    frames: u64,
    packets: u64,
    silent_frames: u64,
    payload_bytes: u64,
    silenced_samples: u64,
    /// From samples to sealed packet.
    frame_us: Times,
    frames_per_second: f64,
    times_real_time: f64,
}

#[derive(Serialize)]
struct Times {
    mean: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
pub(super) struct SessionReport {
    pub(super) suite: &'static str,
    pub(super) connection_id: String,
    /// The options that open it again; only if a capture was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to_open_again: Option<String>,
}

#[derive(Serialize)]
pub(super) struct NetworkReport {
    sent: u64,
    lost: u64,
    loss_percent: f64,
    held_back: u64,
    duplicated: u64,
    overflowed: u64,
}

#[derive(Serialize)]
pub(super) struct HeardReport {
    played: u64,
    lost: u64,
    recovered: u64,
    concealed: u64,
    concealed_ms: f64,
    late: u64,
    duplicates: u64,
    dropped: u64,
    refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_refusal: Option<String>,
    mean_delay_ms: f64,
    jitter_ms: f64,
}

#[derive(Serialize)]
pub(super) struct OutputReport {
    pub(super) path: String,
    pub(super) format: &'static str,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    #[serde(skip)]
    pub(super) kind: Kind,
}

impl Report {
    /// What can be said once the link is closed; the rest is for the caller to fill in.
    pub(super) fn new(input: Input, session: SessionReport, to: &Path, kind: Kind, closed: Closed) -> Self {
        let seconds = closed.far.map_or(input.seconds(), |far| far.played_samples as f64 / 48_000.0);
        let output = OutputReport {
            path: to.display().to_string(),
            format: kind.name(),
            bytes: closed.bytes,
            seconds,
            kind,
        };
        Self {
            input,
            coding: None,
            session,
            network: closed.network.map(NetworkReport::from),
            heard: closed.far.map(HeardReport::from),
            output,
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl SessionReport {
    pub(super) fn new(keys: &SessionKeys, to_open_again: Option<String>) -> Self {
        let connection_id = format!("{:08x}", keys.connection_id());
        Self { suite: keys.suite().name(), connection_id, to_open_again }
    }
}

impl Input {
    pub(super) fn recording(path: &Path, recording: &Recording) -> Self {
        Self::Recording {
            path: path.display().to_string(),
            format: recording.format().name(),
            sample_rate_hz: recording.sample_rate().hz(),
            channels: recording.channels().count(),
            seconds: recording.given_samples() as f64 / f64::from(recording.sample_rate().hz()),
            damaged_packets: recording.damaged_packets(),
        }
    }

    pub(super) fn capture(path: &Path, capture: &Capture) -> Self {
        Self::Capture {
            path: path.display().to_string(),
            datagrams: capture.datagrams(),
            others: capture.others(),
            seconds: capture.span().as_secs_f64(),
        }
    }

    fn seconds(&self) -> f64 {
        match self {
            Self::Recording { seconds, .. } | Self::Capture { seconds, .. } => *seconds,
        }
    }
}

impl CodingReport {
    pub(super) fn new(live: &Live, seconds: f64) -> Self {
        let (config, counters, frame_nanos) = (live.config(), live.counters(), live.frame_nanos());
        let frame = live.frame().as_duration();
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let summary = frame_nanos.summary();
        let busy = frame_nanos.sum() / 1e9;
        Self {
            application: format!("{:?}", config.application).to_lowercase(),
            sample_rate_hz: config.sample_rate.hz(),
            channels: config.channels.count(),
            complexity: config.complexity,
            rung: live.rung().to_string(),
            bitrate_asked_bps: config.bitrate,
            bitrate_bps: ratio(
                counters.payload_bytes as f64 * 8.0,
                counters.frames as f64 * frame.as_secs_f64(),
            ),
            frame_ms: frame.as_secs_f64() * 1e3,
            frames: counters.frames,
            packets: counters.packets,
            silent_frames: counters.silent,
            payload_bytes: counters.payload_bytes,
            silenced_samples: counters.silenced_samples,
            frame_us: Times {
                mean: summary.mean / 1_000.0,
                p50: micros(frame_nanos.quantile(0.5)),
                p99: micros(frame_nanos.quantile(0.99)),
                p999: micros(frame_nanos.quantile(0.999)),
                max: micros(summary.max),
            },
            frames_per_second: frame_nanos.per_second(),
            times_real_time: ratio(seconds, busy),
        }
    }
}

impl From<NetworkStats> for NetworkReport {
    fn from(stats: NetworkStats) -> Self {
        Self {
            sent: stats.sent,
            lost: stats.lost,
            loss_percent: ratio(stats.lost as f64 * 100.0, stats.sent as f64),
            held_back: stats.held_back,
            duplicated: stats.duplicated,
            overflowed: stats.overflowed,
        }
    }
}

impl From<Far> for HeardReport {
    fn from(far: Far) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Self {
            played: far.jitter.played,
            lost: far.jitter.lost,
            recovered: far.jitter.recovered,
            concealed: far.jitter.concealed,
            concealed_ms: ms(far.jitter.concealed_time),
            late: far.jitter.late,
            duplicates: far.jitter.duplicates,
            dropped: far.jitter.dropped + far.jitter.overflow,
            refused: far.refused.count,
            first_refusal: far.refused.first.map(|error| error.to_string()),
            mean_delay_ms: ms(far.jitter.mean_delay),
            jitter_ms: ms(far.jitter.jitter),
        }
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "read      {}", self.input)?;
        if let Some(coding) = &self.coding {
            writeln!(f, "coded     {coding}")?;
            let Times { mean, p99, max, .. } = coding.frame_us;
            let times = coding.times_real_time;
            writeln!(
                f,
                "time      {mean:.0} µs a frame, p99 {p99:.0}, max {max:.0}: {times:.0} times real time"
            )?;
        }
        writeln!(f, "session   {}, connection {}", self.session.suite, self.session.connection_id)?;
        if let Some(network) = &self.network {
            writeln!(f, "network   {network}")?;
        }
        if let Some(heard) = &self.heard {
            write!(f, "heard     {heard}")?;
            if self.network.is_some() {
                write!(f, "; played {:.0} ms later than the fastest came", heard.mean_delay_ms)?;
            }
            writeln!(f)?;
        }
        let OutputReport { path, format, bytes, seconds, .. } = &self.output;
        writeln!(f, "written   {path}: {format}, {seconds:.2} s, {bytes} bytes")?;
        writeln!(f)?;
        let path = quoted(path);
        match (self.output.kind, &self.session.to_open_again) {
            (Kind::Pcap, Some(options)) => {
                let wav = quoted(&Path::new(&self.output.path).with_extension("wav").display().to_string());
                writeln!(f, "Look at it:  wireshark {path}")?;
                write!(f, "Hear it:     evenkeel process {path} --to {wav} {options}")
            }
            (Kind::Pcap, None) => write!(f, "Look at it:  wireshark {path}"),
            _ => write!(f, "Listen:  ffplay -nodisp -autoexit {path}    (or mpv, vlc, a browser)"),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recording { path, format, sample_rate_hz, channels, seconds, damaged_packets } => {
                let channels = if *channels == 1 { "mono" } else { "stereo" };
                write!(f, "{path}: {format}, {sample_rate_hz} Hz, {channels}, {seconds:.2} s")?;
                if *damaged_packets > 0 {
                    write!(f, "; {damaged_packets} damaged packets left out")?;
                }
                Ok(())
            }
            Self::Capture { path, datagrams, others, seconds } => {
                write!(f, "{path}: {datagrams} datagrams in {seconds:.2} s")?;
                if *others > 0 {
                    write!(f, "; {others} frames of other traffic left out")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for CodingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, frame_ms, application, rung, sample_rate_hz, .. } = self;
        let (got, asked) = (self.bitrate_bps / 1e3, f64::from(self.bitrate_asked_bps) / 1e3);
        let channels = if self.channels == 1 { "mono" } else { "stereo" };
        write!(f, "{packets} packets of {frame_ms} ms, {got:.1} kb/s (asked {asked:.1}): {application}, ")?;
        write!(f, "rung {rung}, {sample_rate_hz} Hz {channels}")?;
        if self.silent_frames > 0 {
            write!(f, "; {} silent frames not sent", self.silent_frames)?;
        }
        if self.silenced_samples > 0 {
            write!(f, "; {} samples were no numbers", self.silenced_samples)?;
        }
        Ok(())
    }
}

impl fmt::Display for NetworkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, lost, loss_percent, held_back, duplicated, .. } = self;
        write!(
            f,
            "{lost} of {sent} datagrams lost ({loss_percent:.1} %), {held_back} overtaken, {duplicated} doubled"
        )
    }
}

impl fmt::Display for HeardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { played, lost, recovered, concealed_ms, late, .. } = self;
        write!(
            f,
            "{played} packets; {lost} missing, {recovered} of them recovered, {late} late; {concealed_ms:.0} ms concealed"
        )?;
        if let Some(why) = &self.first_refusal {
            write!(f, "; {} refused, first because {why}", self.refused)?;
        }
        Ok(())
    }
}

/// As a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@,".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
