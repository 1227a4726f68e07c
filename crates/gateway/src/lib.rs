//! Devices on one side, rooms on the other.
//!
//! Two planes. The media plane (lanes, UDP, codecs) moves packets on threads of its own; the control plane (MQTT,
//! WebSocket, HTTP) is tokio and tells it what to do through [`media`], the only border between the two. A call is a
//! state machine without socket and clock in [`call`].

pub mod call;
pub mod chat;
pub mod config;
pub mod control;
pub mod device;
mod entropy;
pub mod fuzz;
pub mod lane;
pub mod media;
pub mod ops;
pub mod room;
pub mod run;
