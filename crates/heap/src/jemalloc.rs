//! What jemalloc is told before it is first asked.
#![allow(unsafe_code)]

/// Settings, ended by a zero; `_RJEM_MALLOC_CONF` of the environment goes before them.
///
/// - One arena, so that what belongs to a call stands together, whichever thread asked for it. Media threads ask for nothing
///   while calls last, so nobody waits for another.
/// - Huge pages (2 MiB) wherever the kernel has them, also where it gives them to nobody who did not ask.
#[repr(transparent)]
struct Settings(#[allow(dead_code, reason = "it is jemalloc that reads it")] *const u8);

// SAFETY: it points to a constant.
unsafe impl Sync for Settings {}

// SAFETY: this is what jemalloc declares under this name, weakly: a pointer to a string that ends with a zero and is there
// for good. The name has its prefix, so no other library looks for it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: Settings = Settings(c"narenas:1,thp:always,metadata_thp:auto".as_ptr().cast());
