//! The engine with real threads, by what it is put through.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod allocations;
mod harm;
mod misuse;
mod moves;

#[global_allocator]
static ALLOCATOR: evenkeel_testkit::alloc::CountingAllocator =
    evenkeel_testkit::alloc::CountingAllocator::new();
