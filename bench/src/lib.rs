//! Measurements.

pub mod load;
pub mod plot;
pub mod resample;
