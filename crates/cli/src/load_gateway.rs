//! `evenkeel load --devices`: many devices on a gateway, and what they noticed.

mod report;
mod watch;

use std::path::Path;
use std::time::Duration;

use clap::Args as ClapArgs;
use evenkeel_device::load::{self, LoadConfig, Progress};

use self::report::Report;
use self::watch::Watch;
use crate::endpoint::endpoint;
use crate::failure::Failure;
use crate::terminal;

/// From here on a second thread sends and hears.
const DEVICES_PER_THREAD: u32 = 6_000;

/// Devices on a gateway instead of streams on an engine.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Devices on a gateway")]
#[group(id = "gateway_load", multiple = true)]
pub(crate) struct Args {
    /// How many devices; each talks and listens at once, through a gateway with `room.loopback`
    #[arg(
        long,
        required = false,
        conflicts_with_all = ["streams", "relay", "find_capacity", "overload", "processes", "lanes"],
        value_parser = clap::value_parser!(u32).range(1..=50_000)
    )]
    devices: u32,
    /// The gateway's MQTT endpoint, without TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", requires = "devices", value_parser = endpoint)]
    server: String,
    /// Connect, and say nothing
    #[arg(long, requires = "devices")]
    idle: bool,
    /// How many devices come a second
    #[arg(long, value_name = "RATE", default_value_t = 200.0, requires = "devices")]
    hellos: f64,
    /// The gateway's signature key, to make credentials with
    #[arg(long, env = "MQTT_SIGNATURE_KEY", hide_env_values = true, requires = "devices")]
    key: Option<String>,
    /// The gateway's operations port, to learn what the gateway itself notices, its CPU and memory
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8085", requires = "devices")]
    operations: String,
}

/// How the report is given.
pub(crate) struct Output<'a> {
    pub(crate) json: bool,
    pub(crate) plot: Option<&'a Path>,
}

/// Runs it.
pub(crate) fn run(args: &Args, duration: Duration, output: &Output<'_>) -> Result<(), Failure> {
    if !(0.1..=100_000.0).contains(&args.hellos) {
        return Err(Failure::input("--hellos must be from 0.1 to 100000 a second"));
    }
    let config = LoadConfig {
        server: args.server.clone(),
        devices: args.devices,
        duration,
        hellos_per_second: args.hellos,
        talk: !args.idle,
        threads: args.devices.div_ceil(DEVICES_PER_THREAD) as usize,
        signature_key: args.key.clone(),
        ..LoadConfig::default()
    };
    let bar = terminal::progress(None, output.json);
    let mut watch = Watch::new(&args.operations);
    let mut is_talking = false;
    let noticed = load::run(&config, |progress| {
        bar.set_message(said(&progress));
        bar.tick();
        if progress.talking.is_some() {
            // The first look is the start of what is measured, the last its end.
            watch.look(!is_talking);
            is_talking = true;
        }
    });
    bar.finish_and_clear();
    let report = Report { devices: noticed.map_err(Failure::machine)?, gateway: watch.figures() };
    if let Some(path) = output.plot {
        std::fs::write(path, report.svg()).map_err(|error| Failure::in_output(path, error))?;
    }
    if output.json {
        terminal::say(serde_json::to_string_pretty(&report).map_err(Failure::machine)?);
    } else {
        terminal::say(&report);
        if let Some(path) = output.plot {
            terminal::say(format_args!("drawn into {}", path.display()));
        }
    }
    match &report.devices.first_failure {
        Some(failure) if report.devices.failed == report.devices.devices => {
            Err(Failure::machine(format!("no device could stay: {failure}")))
        }
        _ if report.devices.sent > 0 && report.devices.heard.packets == 0 => Err(Failure::machine(
            "nothing was heard: with its echo room, does the gateway run with room.loopback=true; with another, is that \
                 there, and does it send each packet back? The gateway's dashboard and log say",
        )),
        _ => Ok(()),
    }
}

fn said(progress: &Progress) -> String {
    let talking = progress.talking.map_or(String::new(), |time| format!(", {:.0} s", time.as_secs_f64()));
    format!("{} devices, {} failed{talking}", progress.ready, progress.failed)
}
