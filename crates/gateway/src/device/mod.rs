//! The device side: who may connect, what is said, and over what.

pub mod answer;
pub mod broker;
pub mod credentials;
pub mod envelope;
pub mod limits;
pub mod mcp;
pub mod message;
pub mod mqtt;
pub mod tls;
pub mod websocket;
