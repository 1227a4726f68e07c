//! `evenkeel bench`: what the audio path costs on this machine, held against the codec alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_bench::{Options, Outcome};
use indicatif::ProgressBar;

use crate::failure::Failure;
use crate::new_file::NewFile;
use crate::terminal;

/// Measure what the audio path costs on this machine, held against the codec alone.
///
/// Prints a table, and says what is over its limit; the exit code does not, as time depends on the machine. Let nothing
/// else run meanwhile, and look at ratios first.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Frames of 20 ms that the whole path codes; everything else takes a share of it.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    frames: u32,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Draw the time of every frame, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    let options = Options { frames: args.frames as usize };
    let outcome = evenkeel_bench::run(options, |stage| bar.set_message(stage));
    bar.finish_and_clear();
    let outcome = outcome.map_err(Failure::input)?;
    if let Some(path) = &args.plot {
        draw(&outcome, path).map_err(|error| Failure::in_output(path, error))?;
    }
    if args.json {
        let json = serde_json::to_string_pretty(&outcome.report);
        terminal::say(json.map_err(Failure::input)?);
    } else {
        terminal::say(&outcome.report);
    }
    Ok(())
}

fn draw(outcome: &Outcome, path: &Path) -> std::io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(outcome.figure().svg().as_bytes())?;
    file.commit().map(|_| ())
}
