//! Calls in LiveKit rooms: each a device and an agent that talk at the same time, in a room of its own on a real server,
//! through a gateway in a process of its own. What the devices and agents notice, and what the gateway costs.
//!
//! `tools/livekit load`, `compare` and `quality` install what this needs and run it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on ends"
)]

mod agent;
mod device;
mod gateway;
mod load;
mod record;

#[path = "../../../livekit/tests/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use self::gateway::Kind;
use self::load::Figures;

#[derive(Parser)]
struct Args {
    /// Calls, each in a room of its own.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    calls: u32,
    /// For how long all of them talk.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The program to measure.
    #[arg(long)]
    evenkeel: PathBuf,
    /// Measure the gateway of bench/peers/node too, and print both side by side.
    #[arg(long, value_name = "rooms.mjs")]
    node: Option<PathBuf>,
    /// Instead of all this, let an agent of LiveKit's SDK and a device say a recording to each other, and write what was
    /// said and heard into this folder, as 16-bit samples at 48 kHz.
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let Some(tools) = common::tools() else {
        eprintln!(
            "rooms: EVENKEEL_LIVEKIT_TOOLS is not set; `tools/livekit load`, `compare` and `quality` run this"
        );
        std::process::exit(2);
    };
    if let Some(folder) = &args.record {
        return record::run(&tools, &args.evenkeel, folder).await;
    }
    let mut kinds = vec![Kind::Evenkeel(args.evenkeel)];
    kinds.extend(args.node.map(Kind::Node));
    let mut columns = Vec::new();
    for kind in &kinds {
        eprintln!("rooms: {} carries {} calls for {} s", kind.name(), args.calls, args.seconds);
        columns.push((
            kind.name(),
            load::run(&tools, kind, args.calls, Duration::from_secs(args.seconds)).await,
        ));
    }
    print(args.calls, args.seconds, &columns);
}

fn print(calls: u32, seconds: u64, columns: &[(&str, Figures)]) {
    println!("{calls} calls in {calls} rooms, {seconds} s, both ways\n");
    let line = |cells: Vec<String>| println!("| {} |", cells.join(" | "));
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        line([name.to_owned()].into_iter().chain(columns.iter().map(|(_, figures)| cell(figures))).collect());
    };
    line([String::new()].into_iter().chain(columns.iter().map(|(name, _)| (*name).to_owned())).collect());
    println!("|{}", "---|".repeat(columns.len() + 1));
    row("CPU a second and call, ms", &|f| format!("{:.2}", f.cpu_ms));
    row("memory a call after the first, KB", &|f| format!("{:.0}", f.call_kb));
    row("memory of the process, MB", &|f| format!("{:.0}", f.process_mb));
    row("packets to devices", &|f| f.down.packets.to_string());
    row("of these lost", &|f| f.down.lost.to_string());
    row("gaps over 65 ms, %", &|f| format!("{:.3}", f.down.gaps_over_percent));
    row("gap p50, p99, max, ms", &|f| {
        let gap = f.down.gap_ms;
        format!("{:.1}, {:.1}, {:.1}", gap.p50, gap.p99, gap.max)
    });
    row("packets to agents", &|f| f.up.count.to_string());
    row("of these lost", &|f| f.up.lost().to_string());
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    row("dropped by the gateway, over 50 ms late", &|f| or_dash(f.noticed.map(|n| n.missed.to_string())));
    row("out of the jitter buffer to UDP out, p99 at most, ms", &|f| {
        or_dash(f.noticed.map(|n| format!("{:.2}", n.transit_p99_ms)))
    });
    row("hello to the agent's first audio, median and longest, ms", &|f| {
        or_dash(f.first_audio.map(|(median, longest)| format!("{median:.0}, {longest:.0}")))
    });
}
