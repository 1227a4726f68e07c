//! The leaf that touches the kernel, so that nothing else has to: the [`clock`], [`limits`], media [`thread`]s, precise [`wait`]ing,
//! batched [`udp`].
//!
//! It is made for Linux. Other Unix systems get the same interface with what POSIX has: one system call a datagram,
//! waits to the millisecond, normal priority.

#[cfg(not(unix))]
compile_error!(
    "evenkeel-sys needs a Unix system; Linux gives real-time priority, precise waits and batched UDP"
);

pub mod cache;
pub mod clock;
pub mod limits;
pub mod rest;
pub mod thread;
pub mod udp;
pub mod wait;
