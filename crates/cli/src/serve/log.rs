//! What the gateway says of itself, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::failure::Failure;

/// The log, whose level can change.
pub(super) struct Log(reload::Handle<Targets, Registry>);

impl Log {
    pub(super) fn start(level: &str) -> Result<Self, Failure> {
        let (filter, handle) = reload::Layer::new(targets(level)?);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        let all = tracing_subscriber::registry().with(lines.with_filter(filter));
        all.try_init().map_err(Failure::machine)?;
        Ok(Self(handle))
    }

    pub(super) fn set(&self, level: &str) -> Result<(), Failure> {
        self.0.reload(targets(level)?).map_err(Failure::machine)
    }
}

fn targets(level: &str) -> Result<Targets, Failure> {
    level.parse().map_err(|error| {
        Failure::input(format!(
            "`log.level` must be error, warn, info, debug or trace, or such by module \
             (info,evenkeel_gateway::call=debug), not {level:?}: {error}"
        ))
    })
}
