//! Devices that call over WebSocket: the firmware's own protocol, and browsers that speak it.
//!
//! One connection carries everything: JSON in text frames, Opus in binary ones. Its session lives in a lane as any
//! other does; only the packets come and go through here. A session is its connection: when one ends, so does the other.

mod connection;
mod endpoint;
pub mod frame;
mod origin;
pub mod page;
pub mod request;
mod visit;

pub use endpoint::{Web, WebConfig};
