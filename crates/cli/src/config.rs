//! `evenkeel config`: the gateway's settings as they are, as they could be, and as the old gateway had them.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use evenkeel_gateway::config::{self, Config};

use crate::failure::Failure;
use crate::settings::Settings;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  evenkeel config --default > evenkeel.toml         begin with all settings, documented
  evenkeel config                                   what `evenkeel serve` would run with, secrets hidden
  evenkeel config --check --config new.toml         is this file right?
  evenkeel config --import mqtt.json > evenkeel.toml    bring over the old gateway's file

Exit codes: 0 all is right, 2 something is wrong, which is said with file and line.";

/// Print the gateway's settings: the file, then the environment, then --set, each over the one before
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,

    /// Print the defaults, whatever file and environment say
    #[arg(long, conflicts_with_all = ["config", "set", "check", "import"])]
    default: bool,

    /// Print nothing if all is right
    #[arg(long, conflicts_with = "import")]
    check: bool,

    /// Translate the old gateway's mqtt.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "set"])]
    import: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(path) = &args.import {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::wrong_file(path, error))?;
        let translated = config::import(&text).map_err(|error| Failure::wrong_file(path, error))?;
        terminal::say(translated.trim_end());
        return Ok(());
    }
    let config = if args.default { Config::default() } else { args.settings.load()? };
    if !args.check {
        terminal::say(config.to_toml().trim_end());
    }
    Ok(())
}
