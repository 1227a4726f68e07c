//! The `evenkeel` program: one file a verb.

mod failure;
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
    Process(process::Args),
}

fn main() -> ExitCode {
    let done = match Program::parse().verb {
        Verb::Process(args) => process::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
