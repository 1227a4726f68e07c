//! The embedded MQTT endpoint: devices connect to it as to a broker, but it only ever speaks with them itself.

pub mod codec;
mod connection;
mod endpoint;
mod half_open;

pub use endpoint::{Endpoint, EndpointConfig};
