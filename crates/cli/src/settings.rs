//! Where the gateway's settings come from: a file, the environment, and what was given on the command line.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use evenkeel_gateway::config::{Config, Sources};

use crate::failure::Failure;

/// Read if it is there and no other is named.
const USUAL_FILE: &str = "evenkeel.toml";

/// Variables of ours that are no settings of the gateway.
const NOT_SETTINGS: [&str; 2] = ["EVENKEEL_KEY", "EVENKEEL_NOTHING_SKIPPED"];

/// Where settings come from, the later over the earlier.
#[derive(ClapArgs, Debug)]
pub(crate) struct Settings {
    /// The file of settings [default: evenkeel.toml, if there is one]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one, whatever file and environment (EVENKEEL_SECTION_NAME) say; may be given again
    #[arg(long, short, value_name = "SECTION.NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// Reads them all, and checks them against each other.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let file = match &self.config {
            Some(path) => Some((path.clone(), std::fs::read_to_string(path))),
            None => match std::fs::read_to_string(USUAL_FILE) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                read => Some((PathBuf::from(USUAL_FILE), read)),
            },
        };
        let file = match file {
            Some((path, Ok(text))) => Some((path.display().to_string(), text)),
            Some((path, Err(error))) => return Err(Failure::wrong_file(&path, error)),
            None => None,
        };
        let env = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            (!NOT_SETTINGS.contains(&name.as_str())).then_some((name, value))
        });
        let sources = Sources { file, env: env.collect(), flags: self.set.clone() };
        let config = Config::load(&sources).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Failure::input(errors.join("\n"))
        })?;
        config.check().map_err(|error| Failure::input(error.located(&sources)))?;
        Ok(config)
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be SECTION.NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
