//! Measurements.

pub mod load;
pub mod resample;
