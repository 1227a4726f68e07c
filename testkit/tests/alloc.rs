//! The allocation counter counts what happens on its own thread, and nothing else.

use std::hint::black_box;

use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[test]
fn every_way_to_allocate_is_counted() {
    assert_eq!(count_allocations(|| black_box(Box::new(1u64))), 1);
    assert_eq!(count_allocations(|| black_box(vec![0u8; 4096])), 1, "zeroed");
    let mut grown = Vec::with_capacity(4);
    assert_eq!(count_allocations(|| grown.extend_from_slice(black_box(&[0u8; 4]))), 0);
    assert_eq!(count_allocations(|| grown.push(0u8)), 1, "reallocated");
}

#[test]
fn freeing_is_not_counted() {
    let boxed = Box::new(1u64);
    assert_eq!(count_allocations(move || drop(boxed)), 0);
}

#[test]
fn other_threads_are_not_counted() {
    let go = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            go.wait();
            drop(black_box(vec![0u8; 100]));
            go.wait();
        });
        let count = count_allocations(|| {
            go.wait();
            go.wait();
        });
        assert_eq!(count, 0);
    });
}
