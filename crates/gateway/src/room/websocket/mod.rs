//! A chat server over WebSocket.

mod connect;
mod driver;
pub mod frame;
pub mod servers;

pub use connect::{Bearer, Headers};
pub use driver::{WebSocketRoom, WebSocketRooms};
