//! What operators see and do.

pub mod counters;
pub mod registry;
