//! What is on the wire between the gateway and a chat server: WebSocket frames, in them audio and text. No socket, no
//! clock: a lane and the task that joins a server both drive a [`Connection`].

pub mod audio;
mod connection;
pub mod wire;

pub use connection::{Connection, Event};
