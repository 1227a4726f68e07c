//! That the settings arrive, which nothing else would show but what calls cost.
#![cfg(target_os = "linux")]

use std::hint::black_box;

#[global_allocator]
static HEAP: evenkeel_heap::Heap = evenkeel_heap::HEAP;

/// What the kernel was asked for, for the memory that holds `address`: flags of `/proc/<pid>/smaps`, see proc(5).
fn flags_of(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let mut is_it = false;
    for line in maps.lines() {
        let range = line.split(' ').next()?.split_once('-');
        let range = range.and_then(|(from, to)| {
            Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
        });
        if let Some(range) = range {
            is_it = range.contains(&address);
        }
        if let (true, Some(flags)) = (is_it, line.strip_prefix("VmFlags:")) {
            return Some(flags.to_owned());
        }
    }
    None
}

#[test]
fn calls_stand_side_by_side_in_huge_pages() {
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").is_dir() {
        return;
    }
    let here = black_box(vec![1u8; 1280]);
    let there = std::thread::spawn(|| black_box(vec![1u8; 1280])).join().unwrap_or_default();
    for call in [&here, &there] {
        let flags = flags_of(call.as_ptr() as usize).unwrap_or_default();
        assert!(flags.split(' ').any(|flag| flag == "hg"), "flags:{flags}");
    }
    // One arena: whichever thread asks, the same slab gives, unless it is full.
    let apart = (here.as_ptr() as usize).abs_diff(there.as_ptr() as usize);
    assert!(apart < 2 << 20, "{apart} bytes");
}
