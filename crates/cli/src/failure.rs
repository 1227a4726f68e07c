//! How a verb fails: one clear line, and an exit code that says whose fault it is.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use crate::terminal;

/// Why a verb could not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was given is wrong: a file, an option. Exit code 2, as for usage errors.
    Input(String),
    /// The machine refused: a full disk, a missing directory. Exit code 1.
    Machine(String),
}

impl Failure {
    pub(crate) fn input(what: impl Display) -> Self {
        Self::Input(what.to_string())
    }

    /// The machine refused something that belongs to no file.
    pub(crate) fn machine(what: impl Display) -> Self {
        Self::Machine(what.to_string())
    }

    /// Something is wrong with the file that was to be read.
    pub(crate) fn wrong_file(path: &Path, what: impl Display) -> Self {
        Self::Input(format!("{}: {what}", path.display()))
    }

    /// The file that was to be written could not be.
    pub(crate) fn in_output(path: &Path, what: impl Display) -> Self {
        Self::Machine(format!("{}: {what}", path.display()))
    }

    pub(crate) fn report(self) -> ExitCode {
        terminal::complain(&self);
        ExitCode::from(match self {
            Self::Input(_) => 2,
            Self::Machine(_) => 1,
        })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Input(message) | Self::Machine(message)) = self;
        f.write_str(message)
    }
}
