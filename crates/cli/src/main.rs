//! The `evenkeel` program: one file a verb.

mod bench;
mod failure;
mod load;
mod load_cluster;
mod new_file;
mod process;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use evenkeel_testkit::alloc::CountingAllocator;

/// The system's allocator, counting, so that `bench` can say how often the hot paths allocate: never, which is why the
/// count costs them nothing.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Keeps voice steady: resamples, Opus-codes, encrypts and paces audio.
#[derive(Parser)]
#[command(name = "evenkeel", version, propagate_version = true)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Bench(bench::Args),
    Load(load::Args),
    Process(process::Args),
}

fn main() -> ExitCode {
    let done = match Program::parse().verb {
        Verb::Bench(args) => bench::run(&args),
        Verb::Load(args) => load::run(&args),
        Verb::Process(args) => process::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
