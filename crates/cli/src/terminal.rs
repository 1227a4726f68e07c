//! What is said to the user: results on standard output, all else on standard error.

use std::fmt::Display;
use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A result. Whoever reads it may have gone (`| head`), which is no reason to fail.
pub(crate) fn say(what: impl Display) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// One line about what went wrong.
pub(crate) fn complain(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "evenkeel: {what}");
}

/// A bar that counts to `seconds`, on standard error, and only if that is a terminal. Dropped, it vanishes.
pub(crate) fn progress(seconds: Option<u64>, hidden: bool) -> ProgressBar {
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(8) };
    let bar = ProgressBar::with_draw_target(seconds, target);
    let style = match seconds {
        Some(_) => ProgressStyle::with_template("{wide_bar} {pos}/{len} s, {eta} to go"),
        None => ProgressStyle::with_template("{spinner} {elapsed}"),
    };
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_finish(ProgressFinish::AndClear)
}
