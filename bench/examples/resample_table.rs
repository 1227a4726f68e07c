//! Prints what resampling costs and does, ours beside rubato's, for every pair of rates, as a Markdown table.
#![allow(clippy::print_stdout)]

use evenkeel_bench::resample::{Engine, compare};
use evenkeel_core::units::SampleRate;

fn main() {
    println!("| from | to | engine | µs per 20 ms | delay ms | 0.9 dB | 1.1 dB |");
    println!("|---:|---:|---|---:|---:|---:|---:|");
    for from in SampleRate::ALL {
        for to in SampleRate::ALL.into_iter().filter(|to| *to != from) {
            for f in compare(from, to, Engine::ALL) {
                let alias = f.alias_db.map_or("n/a".into(), |db| format!("{db:.1}"));
                println!(
                    "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {alias} |",
                    f.from, f.to, f.engine, f.us_per_20ms, f.delay_ms, f.passband_db
                );
            }
        }
    }
}
