//! `evenkeel load`: many streams on an engine of this process, and whether they are on time.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use evenkeel_bench::load::{
    Capacity, CapacityStep, Kind, LoadConfig, LoadReport, Millis, OverloadReport, Sample, SoakReport, Tick,
    find_capacity, run_load, run_overload, run_soak,
};
use evenkeel_core::seal::Suite;
use evenkeel_core::units::{FrameDuration, SampleRate};
use evenkeel_device::chat_server;
use evenkeel_engine::EngineConfig;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;
use crate::load_cluster;
use crate::load_gateway;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  evenkeel load --streams 100 --seconds 30
  evenkeel load --find-capacity
  evenkeel load --relay --streams 1000 --frame 60 --json
  evenkeel load --overload 2 --plot overload.svg
  evenkeel load --streams 100 --processes 2
  evenkeel load --soak --seconds 600 --plot soak.svg

  evenkeel serve --set room.loopback=true &
  evenkeel load --devices 1000 --server 127.0.0.1:1883
  evenkeel load --devices 5000 --server 127.0.0.1:1883 --idle

  evenkeel load --chat-server 127.0.0.1:8000 &
  evenkeel serve --set room.kind=websocket --set websocket.servers=ws://127.0.0.1:8000 &
  evenkeel load --devices 1000 --server 127.0.0.1:1883

Every figure is of this machine and this moment: compare ratios (to bare libopus, in the same run).";

/// Run many streams at once, or many devices on a gateway, and tell whether every packet left on time
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many streams.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    streams: u32,
    #[command(flatten)]
    gateway: Option<load_gateway::Args>,
    /// Load nothing, but be a chat server that says back each packet, for a gateway with `room.kind=websocket`.
    #[arg(long, value_name = "HOST:PORT", exclusive = true)]
    chat_server: Option<String>,
    /// For how many seconds (with --find-capacity: each step).
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Relay Opus packets instead of coding PCM.
    #[arg(long)]
    relay: bool,
    /// Sample rate of the PCM pushed, in Hz.
    #[arg(long, default_value_t = 48_000, conflicts_with = "relay")]
    rate: u32,
    /// Duration of a packet, in ms.
    #[arg(long, default_value_t = 20.0)]
    frame: f64,
    /// Opus complexity, 0 to 10.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=10), conflicts_with = "relay")]
    complexity: u8,
    /// How packets are sealed.
    #[arg(long, value_enum, default_value_t = Profile::Compat)]
    profile: Profile,
    /// Media threads; one a core by default.
    #[arg(long)]
    lanes: Option<usize>,
    /// Step the number of streams up until one is not on time (departure error p99.9 over 1 ms, or a drop).
    #[arg(long, conflicts_with_all = ["overload", "processes"])]
    find_capacity: bool,
    /// Run this many times what fits for --seconds, between stretches of what fits.
    #[arg(long, value_name = "FACTOR", conflicts_with = "processes")]
    overload: Option<f64>,
    /// Let streams come and go all the while, and fail (exit code 1) if memory grows.
    #[arg(long, conflicts_with_all = ["overload", "find_capacity", "processes"])]
    soak: bool,
    /// Spread the streams over this many processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// Which of the cores it may use the first lane is pinned to.
    #[arg(long, default_value_t = 0, hide = true)]
    first_core: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw histograms and a time line into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Names of the suites.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    /// AES-128-CTR, as deployed devices speak it.
    Compat,
    /// AES-256-CTR.
    #[value(name = "compat-256")]
    Compat256,
    /// AES-128-GCM.
    #[value(name = "aes-128-gcm")]
    Aes128Gcm,
    /// AES-256-GCM.
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    #[value(name = "chacha20-poly1305")]
    Chacha20Poly1305,
}

impl Profile {
    /// As it is given on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl From<Profile> for Suite {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Compat => Self::Aes128Ctr,
            Profile::Compat256 => Self::Aes256Ctr,
            Profile::Aes128Gcm => Self::Aes128Gcm,
            Profile::Aes256Gcm => Self::Aes256Gcm,
            Profile::Chacha20Poly1305 => Self::ChaCha20Poly1305,
        }
    }
}

impl Args {
    fn duration(&self) -> Result<Duration, Failure> {
        if !(0.1..=86_400.0).contains(&self.seconds) {
            return Err(Failure::input(format!("--seconds must be from 0.1 to 86400, not {}", self.seconds)));
        }
        Ok(Duration::from_secs_f64(self.seconds))
    }

    fn config(&self) -> Result<LoadConfig, Failure> {
        if self.overload.is_some_and(|factor| !(1.0..=20.0).contains(&factor)) {
            return Err(Failure::input("--overload must be from 1 to 20"));
        }
        let mut engine = EngineConfig::default();
        engine.lanes = self.lanes.unwrap_or(engine.lanes);
        engine.first_core = self.first_core;
        engine.check().map_err(Failure::input)?;
        let kind = if self.relay {
            Kind::Relay
        } else {
            let rate = SampleRate::from_hz(self.rate).map_err(Failure::input)?;
            Kind::Transcode { rate, complexity: self.complexity }
        };
        Ok(LoadConfig {
            streams: self.streams as usize,
            duration: self.duration()?,
            kind,
            frame: FrameDuration::from_millis(self.frame).map_err(Failure::input)?,
            suite: self.profile.into(),
            engine,
        })
    }
}

/// Does what was asked.
///
/// # Errors
/// [`Failure`] for settings that cannot be, or a machine that does not let it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(listen) = &args.chat_server {
        let say = |address| terminal::say(format_args!("says back each packet: ws://{address}"));
        let Err(error) = chat_server::run(listen, say);
        return Err(Failure::machine(format!("{listen}: {error}")));
    }
    if let Some(gateway) = &args.gateway {
        let output = load_gateway::Output { json: args.json, plot: args.plot.as_deref() };
        return load_gateway::run(gateway, args.duration()?, &output);
    }
    let config = args.config()?;
    if args.find_capacity {
        return capacity(args, &config);
    }
    if args.soak {
        return soak(args, &config);
    }
    let progress = progress(args);
    if let Some(factor) = args.overload {
        let report = run_overload(&config, factor, |tick| show(&progress, tick)).map_err(Failure::machine)?;
        progress.finish_and_clear();
        plot(args, || report.svg())?;
        return print(args, &report, overload_table);
    }
    let report = if args.processes > 1 {
        load_cluster::run(args.processes, &config, &args.profile.name())?
    } else {
        run_load(&config, |tick| show(&progress, tick)).map_err(Failure::machine)?
    };
    progress.finish_and_clear();
    plot(args, || report.svg())?;
    print(args, &report, load_table)
}

fn capacity(args: &Args, config: &LoadConfig) -> Result<(), Failure> {
    let progress = progress(args);
    let show = |step: &CapacityStep| {
        let word = if step.passed { "on time" } else { "not on time" };
        let error = step.departure_error_ms.p999;
        progress.println(format!(
            "{:5} streams: {word}, departure error p99.9 {error:.2} ms, {} dropped",
            step.streams, step.dropped
        ));
    };
    let found = find_capacity(config, show).map_err(Failure::machine)?;
    progress.finish_and_clear();
    plot(args, || found.svg())?;
    print(args, &found, capacity_table)
}

fn soak(args: &Args, config: &LoadConfig) -> Result<(), Failure> {
    let progress = terminal::progress(Some(config.duration.as_secs()), args.json);
    let show = |sample: &Sample| {
        progress.set_position(sample.at as u64);
        if (sample.at as u64).is_multiple_of(30) {
            progress
                .println(format!("{:5.0} s: {} streams, {:.1} MB", sample.at, sample.streams, sample.rss_mb));
        }
    };
    let report = run_soak(config, show).map_err(Failure::machine)?;
    progress.finish_and_clear();
    plot(args, || report.svg())?;
    print(args, &report, soak_table)?;
    if report.flat {
        return Ok(());
    }
    Err(Failure::machine(format!(
        "memory grew by {:.2} MB after warm-up; {:.2} MB is the most",
        report.growth_mb, report.limit_mb
    )))
}

fn progress(args: &Args) -> ProgressBar {
    let progress = terminal::progress(None, args.json);
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    progress.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn show(progress: &ProgressBar, tick: &Tick) {
    let loads: Vec<_> = tick.loads.iter().map(|load| format!("{:.0} %", load * 100.0)).collect();
    let rung = tick.positions.iter().max().copied().unwrap_or(0);
    let rung = if rung == 0 { "full".to_owned() } else { format!("{rung} below full") };
    progress.set_message(format!("{} streams, lanes {} busy, rung {rung}", tick.streams, loads.join(" / ")));
    progress.tick();
}

fn plot(args: &Args, draw: impl FnOnce() -> String) -> Result<(), Failure> {
    let Some(path) = &args.plot else { return Ok(()) };
    std::fs::write(path, draw()).map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

fn print<R: Serialize>(args: &Args, report: &R, table: fn(&R) -> String) -> Result<(), Failure> {
    let text = if args.json {
        serde_json::to_string_pretty(report).map_err(Failure::machine)?
    } else {
        table(report)
    };
    terminal::say(text);
    if let (Some(path), false) = (&args.plot, args.json) {
        terminal::say(format_args!("drawn into {}", path.display()));
    }
    Ok(())
}

fn row(name: &str, ms: &Millis) -> String {
    format!(
        "{name:<22}{:>9.3}{:>9.3}{:>9.3}{:>9.3}{:>9.3}{:>9.3}\n",
        ms.mean, ms.stdev, ms.p50, ms.p99, ms.p999, ms.max
    )
}

fn head() -> String {
    format!("{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "ms", "mean", "stdev", "p50", "p99", "p99.9", "max")
}

fn load_table(report: &LoadReport) -> String {
    let mut out = format!(
        "{} streams for {:.0} s: {} frames, {} packets, {} dropped ({} of them over 50 ms late)\n\n{}",
        report.streams,
        report.seconds,
        report.frames,
        report.packets,
        report.dropped,
        report.late_50ms,
        head()
    );
    out += &row("latency", &report.latency_ms);
    out += &row("departure error", &report.departure_error_ms);
    out += &row("the load itself late", &report.source_late_ms);
    out += &format!(
        "\n{:.3} cores, {:.1} MB, {} rung changes",
        report.cores, report.rss_mb, report.rung_changes
    );
    if let (Some(bare), Some(ratio)) = (report.bare_opus_cores, report.ratio_to_bare_opus) {
        out += &format!("; the same encodes alone {bare:.3} cores, ratio {ratio:.3}");
    }
    out
}

fn capacity_table(found: &Capacity) -> String {
    format!(
        "{} streams stay on time; bare libopus alone would fill the lanes with {:.0}: {:.1} % of that",
        found.streams,
        found.bare_streams,
        found.share_of_bare * 100.0
    )
}

fn soak_table(report: &SoakReport) -> String {
    format!(
        "{} streams at a time, {} opened, for {:.0} s: {} frames, {} packets, {} dropped\n\n{}{}\n\
         memory {:.2} MB after warm-up, {:.2} MB at most, {:.2} MB at the end: \
         grew by {:.2} MB ({:.2} MB an hour); {:.2} MB is the most",
        report.streams,
        report.opened,
        report.seconds,
        report.frames,
        report.packets,
        report.dropped,
        head(),
        row("departure error", &report.departure_error_ms),
        report.warm_mb,
        report.most_mb,
        report.last_mb,
        report.growth_mb,
        report.slope_mb_per_hour,
        report.limit_mb
    )
}

fn overload_table(report: &OverloadReport) -> String {
    let mut out = format!(
        "{} times what fits\n\n{:<12}{:>9}{:>9}  {}",
        report.factor,
        "",
        "streams",
        "dropped",
        head()
    );
    for phase in &report.phases {
        out += &format!("{:<12}{:>9}{:>9}  ", phase.name, phase.streams, phase.dropped);
        out += &row("latency", &phase.latency_ms);
        out += &format!("{:<12}{:>9}{:>9}  ", "", "", "");
        out += &row("departure error", &phase.departure_error_ms);
    }
    let back = report.seconds_to_full.map_or("not".to_owned(), |seconds| format!("{seconds:.1} s after"));
    out + &format!(
        "\nback at full {back}; at most {} rung changes a stream within 10 s",
        report.rung_changes_per_10s
    )
}
