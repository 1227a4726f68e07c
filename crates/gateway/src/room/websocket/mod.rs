//! A chat server over WebSocket: reached here, then handed to the call's lane ([`crate::lane::guest::chat`]).

mod connect;
mod driver;
pub mod servers;
pub mod text;

pub use connect::{Bearer, Headers};
pub use driver::{WebSocketRoom, WebSocketRooms};
