//! What is about to be needed, brought near.
#![allow(unsafe_code)]

/// Bytes that caches move at once.
const LINE: usize = 64;

/// Asks the processor to bring all of `value` into its caches, and does not wait for it. Thousands of calls do not fit
/// there, and a lane that fetches what a batch of packets needs all at once waits for memory once, not for each.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of::<T>().div_ceil(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and never faults, whatever the address; this one is within `value`.
        unsafe {
            _mm_prefetch(std::ptr::from_ref(value).cast::<i8>().wrapping_add(line * LINE), _MM_HINT_T0)
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE);
}
