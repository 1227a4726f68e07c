//! Programs that tests compare with, and what to do where one is not installed.

use std::path::PathBuf;

/// Set in continuous integration: a test that would be skipped fails instead.
const NOTHING_SKIPPED: &str = "EVENKEEL_NOTHING_SKIPPED";

/// Where a program is installed. `None`, with the reason printed, where it is not: skip the test then.
///
/// # Panics
/// If it is not installed and `EVENKEEL_NOTHING_SKIPPED` is set.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Prints why a test, or a part of one, does not run.
///
/// # Panics
/// If `EVENKEEL_NOTHING_SKIPPED` is set.
#[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
pub fn skip(reason: &str) {
    assert!(std::env::var_os(NOTHING_SKIPPED).is_none(), "{reason}, and {NOTHING_SKIPPED} is set");
    eprintln!("skipped: {reason}");
}
