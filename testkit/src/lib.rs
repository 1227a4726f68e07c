//! What tests and simulations share: a lossy network on virtual time.

pub mod network;
