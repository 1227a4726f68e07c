//! A LiveKit participant for audio, without libwebrtc.
//!
//! It joins a room, publishes one Opus track, subscribes to the audio tracks of others, and exchanges data packets,
//! RPC calls and text streams. Opus payloads pass untouched both ways: nothing is decoded here, and nothing is known
//! of who speaks or listens behind the participant.
//!
//! * [`signal`] keeps the WebSocket to the server, on tokio: joining, ping, refreshed tokens, resuming, joining anew.
//! * [`participant`] is the media part, without socket, clock or thread: [`participant::Participant`] takes what the
//!   signal connection and the socket brought, and gives what they shall send.
//! * [`data`] is what goes over the data channels.
//! * [`token`] mints access tokens.
//! * [`driver`] puts one signal connection, one UDP socket and one participant together, as a tokio task.
//!
//! Who has threads of his own for media leaves the driver out, spawns [`signal::spawn`] on a tokio runtime, and polls
//! the participant where its other media lives.

pub mod data;
pub mod driver;
pub mod error;
pub mod fuzz;
pub mod participant;
pub mod signal;
pub mod stream;
pub mod token;

pub use livekit_protocol as proto;
