//! What operators see and do.

pub mod counters;
pub mod management;
mod metrics;
pub mod registry;
pub mod server;
