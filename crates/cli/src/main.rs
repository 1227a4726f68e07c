//! The `evenkeel` program: one file a verb.

mod failure;
mod load;
mod load_cluster;
mod new_file;
mod process;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps voice steady: resamples, Opus-codes, encrypts and paces audio.
#[derive(Parser)]
#[command(name = "evenkeel", version, propagate_version = true)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Load(load::Args),
    Process(process::Args),
}

fn main() -> ExitCode {
    let done = match Program::parse().verb {
        Verb::Load(args) => load::run(&args),
        Verb::Process(args) => process::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
