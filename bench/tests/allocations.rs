//! After the first second the hot paths allocate nothing: the sender on any rung, with and without a resampler; the
//! receiver under loss, jitter, reordering, duplicates and pauses; the relay both ways. With every suite.
#![allow(clippy::unwrap_used)]

use evenkeel_bench::allocations::{Allocations, measure};
use evenkeel_bench::speech::Speech;
use evenkeel_core::seal::Suite;
use evenkeel_testkit::alloc::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[test]
fn the_hot_paths_allocate_nothing() {
    for suite in Suite::ALL {
        let none = Allocations { sender: 0.0, receiver: 0.0, relay: 0.0 };
        assert_eq!(measure(&Speech::clip(), suite).unwrap(), none, "{suite:?}");
    }
}
