//! Measurements of the audio path: what it costs beside the codec it contains, part by part, and how it is drawn.
//!
//! [`run`] makes every measurement that `evenkeel bench` prints. Machines differ and are busy with other things, so
//! what is compared takes turns within one run ([`race`]), and what is reported is a ratio, a median, or says what it
//! is. The times of single frames are reported as they were, interruptions and all.

pub mod allocations;
pub mod ladder;
pub mod load;
pub mod path;
pub mod plot;
pub mod race;
pub mod receive;
pub mod relay;
pub mod repacketize;
mod report;
pub mod resample;
pub mod seal;
mod setup;
pub mod speech;
mod table;

pub use report::{Limit, Machine, Options, Outcome, Report, run};
