//! The embedded MQTT endpoint.

pub mod codec;
