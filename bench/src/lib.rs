//! Measurements.

pub mod resample;
