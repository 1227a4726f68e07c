//! What tests and simulations share: a lossy network on virtual time, an allocation counter, a voice to code,
//! recordings, programs to compare with, golden vectors, and the bodies of the fuzz targets.

pub mod alloc;
pub mod fuzz;
pub mod network;
pub mod recordings;
pub mod tools;
pub mod vectors;
pub mod voice;
