//! Simulated devices that talk to a gateway as firmware does: MQTT for control, sealed Opus over UDP.
//!
//! [`call`] is one device with real audio and, if wished, a bad network; [`load`] is thousands of devices on
//! a few threads. Both measure what a device would notice: when packets come, which never come, how long a `hello` takes.
//! [`chat_server`] is what such calls may end at.
//! Nothing here knows the gateway's code; it is written to the protocol.

pub mod call;
pub mod chat_server;
pub mod control;
pub mod ear;
mod fleet;
pub mod identity;
pub mod load;
pub mod mqtt;
pub mod session;

use std::io;

use thiserror::Error;

/// A simulated device could not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The network or the machine refused.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The gateway did not let the device in.
    #[error("the gateway refused the connection: MQTT return code {code}{}", mqtt::meaning(*code))]
    Refused {
        /// The return code of CONNACK.
        code: u8,
    },
    /// The gateway closed the connection.
    #[error("the gateway closed the connection")]
    Closed,
    /// The gateway did not answer.
    #[error("no {what} within {seconds} s")]
    Timeout {
        /// What was awaited.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// The gateway sent something that is not as the protocol says.
    #[error("the gateway's {what} is not understood: {reason}")]
    Protocol {
        /// Which message.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl DeviceError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what, error }
    }
}
