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
    // Servers are there on Debian, and not in the path of users.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = dirs.map(|dir| dir.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// The Python of an environment that `tools/install` made with `tools/venv`. `None`, with the reason printed, where
/// there is none: skip the test then.
///
/// # Panics
/// If there is none and `EVENKEEL_NOTHING_SKIPPED` is set.
#[must_use]
pub fn python(environment: &str) -> Option<PathBuf> {
    let python = installed(&format!("venv/{environment}/bin/python"));
    if python.is_none() {
        skip(&format!("there is no Python environment {environment}; tools/install test makes it"));
    }
    python
}

/// The folder of npm packages that `tools/install` made with `tools/npm-packages`, for `NODE_PATH`. `None`, with the
/// reason printed, where there is none: skip the test then.
///
/// # Panics
/// If there is none and `EVENKEEL_NOTHING_SKIPPED` is set.
#[must_use]
pub fn npm_packages(name: &str) -> Option<PathBuf> {
    let packages = installed(&format!("npm/{name}/installed.json"));
    if packages.is_none() {
        skip(&format!("there are no npm packages {name}; tools/install test installs them"));
    }
    packages.map(|installed| installed.with_file_name("node_modules"))
}

/// What `tools/install` put into the user's cache.
fn installed(path: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("evenkeel").join(path)).filter(|path| path.exists())
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
