//! What jemalloc is told before it is first asked.
#![allow(unsafe_code)]

/// Settings, ended by a zero; those of `_RJEM_MALLOC_CONF` in the environment overrule them.
///
/// - One arena, so that what belongs to a call stands together, whichever thread asked for it. Threads share its locks; media
///   threads seldom come to them, as each keeps some of every size at hand.
/// - What is free for long is given back by a thread of its own, not by whichever asks next.
///
/// Not huge pages (`thp:always`), though they take more of a lane's waiting away: who first touches one waits until all of it was
/// found and cleared, and that shows in how evenly calls leave while others begin.
#[repr(transparent)]
struct Settings(#[allow(dead_code, reason = "it is jemalloc that reads it")] *const u8);

// SAFETY: it points to a constant.
unsafe impl Sync for Settings {}

// SAFETY: this is what jemalloc declares under this name, weakly: a pointer to a string that ends with a zero and is there
// for good. The name has its prefix, so no other library looks for it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: Settings =
    Settings(c"narenas:1,background_thread:true,max_background_threads:1".as_ptr().cast());
