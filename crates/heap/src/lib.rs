//! The heap of the program, for programs with thousands of calls: on Linux and x86-64 jemalloc, told to keep everything together;
//! the system's elsewhere.
//!
//! A lane that comes to a call after a thousand others finds nothing of it in the processor's caches, nor where it is in the tables
//! for that. So it counts how many pages a call is spread over, and how many pages calls take together. ARCHITECTURE.md says
//! what was tried.
//!
//! Only a program chooses an allocator, so libraries do not depend on this:
//!
//! ```
//! #[global_allocator]
//! static HEAP: evenkeel_heap::Heap = evenkeel_heap::HEAP;
//!
//! let call = vec![0u8; 1024];
//! assert_eq!(call.len(), 1024);
//! ```

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod jemalloc;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use std::alloc::System as Heap;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use tikv_jemallocator::Jemalloc as Heap;

/// The heap.
pub const HEAP: Heap = Heap;
