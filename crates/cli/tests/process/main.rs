//! `evenkeel process`, as a user runs it.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod captures;
mod network;
mod opus_files;
mod program;
mod round_trip;
