//! The heap of the program, for programs with thousands of calls: on Linux jemalloc, told to keep everything together and to ask
//! for huge pages; the system's elsewhere.
//!
//! A lane that comes to a call after a thousand others finds what it needs in none of the processor's tables: each piece of
//! it, on a page of its own, costs a walk through page tables before it costs the memory itself, in a virtual machine
//! twice. `make sizing` shows what that takes; ARCHITECTURE.md says what else was tried.
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

#[cfg(target_os = "linux")]
mod jemalloc;

#[cfg(not(target_os = "linux"))]
pub use std::alloc::System as Heap;

#[cfg(target_os = "linux")]
pub use tikv_jemallocator::Jemalloc as Heap;

/// The heap.
pub const HEAP: Heap = Heap;
