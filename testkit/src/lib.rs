//! What tests and simulations share: a lossy network on virtual time, and an allocation counter.

pub mod alloc;
pub mod network;
