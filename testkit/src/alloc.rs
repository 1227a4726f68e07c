//! Counts heap allocations, so that a test can prove that a hot path makes none, and that no input costs much.
//!
//! ```
//! use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator::new();
//!
//! let mut samples = Vec::with_capacity(960);
//! assert_eq!(count_allocations(|| samples.extend([0.0f32; 960])), 0);
//! assert_eq!(count_allocations(|| samples.push(0.0)), 1);
//! ```
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// An allocator, the system's unless it is given another, with a count per thread. Install it with `#[global_allocator]` in the
/// test's binary.
pub struct CountingAllocator<A = System>(A);

impl CountingAllocator {
    /// Counts what the system's allocator is asked.
    #[must_use]
    pub const fn new() -> Self {
        Self(System)
    }
}

impl Default for CountingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> CountingAllocator<A> {
    /// Counts what this one is asked.
    #[must_use]
    pub const fn of(allocator: A) -> Self {
        Self(allocator)
    }
}

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

// SAFETY: every method hands its arguments to the allocator unchanged and returns what that returned, so its guarantees are
// ours; counting touches no memory that was allocated and cannot panic.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_one(new_size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`; `place` came from that allocator.
        unsafe { self.0.realloc(place, layout, new_size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`; `place` came from that allocator.
        unsafe { self.0.dealloc(place, layout) }
    }
}
