//! Counts heap allocations, so that a test can prove that a hot path makes none, and that no input costs much.
//!
//! ```
//! use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let mut samples = Vec::with_capacity(960);
//! assert_eq!(count_allocations(|| samples.extend([0.0f32; 960])), 0);
//! assert_eq!(count_allocations(|| samples.push(0.0)), 1);
//! ```
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// The system's allocator with a count per thread. Install it with `#[global_allocator]` in the test's binary.
pub struct CountingAllocator;

thread_local! {
    // Constant and without a destructor, so reaching it never allocates.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// How often `work` allocated or reallocated on this thread; freeing is not counted.
///
/// # Panics
/// If [`CountingAllocator`] is not the global allocator: every count would be zero and prove nothing.
pub fn count_allocations<R>(work: impl FnOnce() -> R) -> u64 {
    let before = COUNT.get();
    drop(black_box(Box::new(0u8)));
    assert_ne!(COUNT.get(), before, "CountingAllocator is not this program's #[global_allocator]");
    let before = COUNT.get();
    let result = work();
    let count = COUNT.get() - before;
    drop(black_box(result));
    count
}

/// How often this thread has allocated or reallocated since it began: for code that runs on a thread of its own and
/// can only look from within. Always zero if [`CountingAllocator`] is not the global allocator.
pub fn allocations_of_this_thread() -> u64 {
    COUNT.get()
}

/// The largest single allocation, in bytes, that `work` made on this thread: what a header that lies can cost.
///
/// # Panics
/// If [`CountingAllocator`] is not the global allocator.
pub fn largest_allocation<R>(work: impl FnOnce() -> R) -> usize {
    LARGEST.set(0);
    drop(black_box(Box::new(0u8)));
    assert_eq!(LARGEST.get(), 1, "CountingAllocator is not this program's #[global_allocator]");
    let result = work();
    let largest = LARGEST.get();
    drop(black_box(result));
    largest
}

fn count_one(bytes: usize) {
    COUNT.set(COUNT.get() + 1);
    LARGEST.set(LARGEST.get().max(bytes));
}

// SAFETY: every method hands its arguments to `System` unchanged and returns what `System` returned, so `System`'s
// guarantees are ours; counting touches no memory that was allocated and cannot panic.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_one(new_size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`; `place` came from `System`.
        unsafe { System.realloc(place, layout, new_size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`; `place` came from `System`.
        unsafe { System.dealloc(place, layout) }
    }
}
