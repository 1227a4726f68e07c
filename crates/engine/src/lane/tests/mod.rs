//! Lanes on virtual time: what they promise, over many seeded schedules.

mod adaptation;
mod bounds;
mod deadlines;
mod memory;
mod schedules;
mod sim;
mod toy;
