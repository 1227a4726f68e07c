//! The jitter buffer behind a simulated network, on virtual time.

#![allow(clippy::unwrap_used, reason = "the simulation is a test, too")]

mod adaptation;
mod hostile;
mod loss;
mod memory;
mod pauses;
mod simulation;
