//! Measurements.

pub mod load;
pub mod plot;
pub mod repacketize;
pub mod resample;
