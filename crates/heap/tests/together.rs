//! That the settings arrive, which nothing else would show but what calls cost.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::hint::black_box;

#[global_allocator]
static HEAP: evenkeel_heap::Heap = evenkeel_heap::HEAP;

#[test]
fn calls_stand_together_whichever_thread_asked() {
    let here = black_box(vec![1u8; 1280]);
    let there = std::thread::spawn(|| black_box(vec![1u8; 1280])).join().unwrap_or_default();
    // One slab gives both, or the one behind it; arenas lie megabytes apart.
    let apart = (here.as_ptr() as usize).abs_diff(there.as_ptr() as usize);
    assert!(apart < 1 << 20, "{apart} bytes");
}
