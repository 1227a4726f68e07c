//! What is about to be needed, brought near.
#![allow(unsafe_code)]

/// Whether [`prefetch`] does anything here.
pub const CAN_PREFETCH: bool = cfg!(target_arch = "x86_64");

/// Bytes that caches move at once.
const LINE: usize = 64;

/// Asks the processor to bring all of `value` into its caches, and does not wait for it. Thousands of calls do not fit
/// there, and a lane that fetches what a batch of packets needs all at once waits for memory once, not for each.
#[inline]
pub fn prefetch<T>(value: &T) {
    prefetch_bytes(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// The same of so many bytes, which need not be there.
#[inline]
pub fn prefetch_bytes(start: *const u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..count.div_ceil(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and never faults, whatever the address.
        unsafe { _mm_prefetch(start.cast::<i8>().wrapping_add(line * LINE), _MM_HINT_T0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, count, LINE);
}
