//! The shell around calls: a task each, and what ties devices, rooms, lanes and operators together.

mod clock;

pub use clock::Clock;
