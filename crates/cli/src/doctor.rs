//! `evenkeel doctor`: is this machine fit to run the gateway, and how many calls will it carry?

mod capacity;
mod machine;
mod network;
mod room;

use std::fmt;

use clap::Args as ClapArgs;
use evenkeel_gateway::config::Config;
use serde::Serialize;

use self::capacity::Capacity;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  evenkeel doctor
  evenkeel doctor --config evenkeel.toml --json

Run it before the gateway: what it tries are the gateway's own ports. Exit codes: 0 nothing stands in the way, 1 something does,
2 a setting is wrong.";

/// Look whether this machine is fit to run the gateway, and measure how many calls it will carry
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,

    /// Do not measure how many calls it carries, which takes some seconds
    #[arg(long)]
    quick: bool,

    /// Print one JSON object instead of the list
    #[arg(long)]
    json: bool,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// It will do; it could be better.
    Fair,
    /// The gateway cannot run so.
    Bad,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { what, verdict, text: text.into() }
    }
}

#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Capacity>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let config = args.settings.load()?;
    let report = examine(&config, args.quick)?;
    if args.json {
        terminal::say(serde_json::to_string_pretty(&report).map_err(Failure::machine)?);
    } else {
        terminal::say(&report);
    }
    match report.findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        count => Err(Failure::machine(format!("{count} of these stand in the way"))),
    }
}

fn examine(config: &Config, quick: bool) -> Result<Report, Failure> {
    let mut findings = network::look(config);
    findings.extend(machine::look(config));
    findings.extend(room::look(config)?);
    let capacity = if quick { None } else { Some(Capacity::measure(config)?) };
    Ok(Report { findings, capacity })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let mark = match finding.verdict {
                Verdict::Good => "good",
                Verdict::Fair => "fair",
                Verdict::Bad => "BAD ",
            };
            let start = if index > 0 { "\n" } else { "" };
            write!(f, "{start}{mark}  {:<16}{}", finding.what, finding.text)?;
        }
        match &self.capacity {
            Some(capacity) => write!(f, "\n\n{capacity}"),
            None => Ok(()),
        }
    }
}
