//! The `evenkeel` program: one file a verb.

mod bench;
mod call;
mod config;
mod doctor;
mod endpoint;
mod failure;
mod far_end;
mod load;
mod load_cluster;
mod load_gateway;
mod new_file;
mod process;
mod serve;
mod settings;
mod terminal;
mod weather;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use evenkeel_heap::{HEAP, Heap};
use evenkeel_testkit::alloc::CountingAllocator;

/// Counting, so that `bench` can say how often the hot paths allocate: never, which is why the count costs them nothing.
#[global_allocator]
static ALLOCATOR: CountingAllocator<Heap> = CountingAllocator::of(HEAP);

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
    Call(call::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Load(load::Args),
    Process(process::Args),
    Serve(serve::Args),
}

fn main() -> ExitCode {
    let done = match Program::parse().verb {
        Verb::Bench(args) => bench::run(&args),
        Verb::Call(args) => call::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Load(args) => load::run(&args),
        Verb::Process(args) => process::run(&args),
        Verb::Serve(args) => serve::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
