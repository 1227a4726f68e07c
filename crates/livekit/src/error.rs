//! Errors, sorted by whose fault they are.
//!
//! * [`TokenError`]: the caller's settings do not make a token.
//! * [`SignalError`]: the server, or the way to it.
//! * [`MediaError`]: the peer connection.
//! * [`SendError`]: the caller asked to send what cannot be sent now.

use std::time::Duration;

use thiserror::Error;

/// How much of what a server says about a failure is kept, in bytes.
pub(crate) const DETAIL_LIMIT: usize = 200;

/// A token could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A field that must be set is empty.
    #[error("{field} must not be empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// The token could not be encoded.
    #[error("the token could not be encoded: {reason}")]
    Encode {
        /// What the encoder said.
        reason: String,
    },
}

/// The signal connection could not be made, or broke.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The URL is not one of a LiveKit server.
    #[error("{url:?} is not the URL of a LiveKit server: {reason}; use wss://host or ws://host:port")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The caller's token source failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No connection to the server.
    #[error("the server cannot be reached: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The server did not do its part in time.
    #[error("the server did not answer within {after:?} while {during}")]
    Timeout {
        /// How long was waited.
        after: Duration,
        /// What was waited for.
        during: &'static str,
    },
    /// The token is not valid here (HTTP 401).
    #[error("the server refused the token: {detail}")]
    TokenRefused {
        /// What the server said, shortened.
        detail: String,
    },
    /// The token is past its time (HTTP 401).
    #[error("the token has expired; mint a new one, and compare this machine's clock with the server's")]
    TokenExpired,
    /// The token is valid but does not allow this (HTTP 403 and other 4xx).
    #[error("the server refused to let us in (HTTP {status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said, shortened.
        detail: String,
    },
    /// The room does not exist and the server does not create it (HTTP 404).
    #[error("the room does not exist, and the server does not create rooms on joining")]
    RoomNotFound,
    /// There is no LiveKit server behind the URL (HTTP 404).
    #[error("no LiveKit server answers at this URL (HTTP 404); look for a missing or wrong path")]
    ServiceNotFound,
    /// The server failed (HTTP 5xx).
    #[error("the server failed (HTTP {status}): {detail}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// What the server said, shortened.
        detail: String,
    },
    /// The server sent what is no signal message.
    #[error("the server sent what is no LiveKit signal message: {reason}")]
    Garbage {
        /// What is wrong with it.
        reason: String,
    },
    /// The server sent more than allowed.
    #[error("the server sent a message of more than {limit} bytes")]
    Oversized {
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The server closed the connection.
    #[error("the server closed the connection{}", code.map(|c| format!(" (code {c})")).unwrap_or_default())]
    Closed {
        /// The WebSocket close code, if it gave one.
        code: Option<u16>,
    },
    /// The server no longer answers pings.
    #[error("no pong within {after:?}")]
    PingTimeout {
        /// How long was waited.
        after: Duration,
    },
    /// The server asked us to leave.
    #[error("the server asked us to leave: {reason:?}, then {action:?}")]
    Leave {
        /// Why.
        reason: livekit_protocol::DisconnectReason,
        /// What it wants us to do next.
        action: livekit_protocol::leave_request::Action,
    },
    /// The session could not be brought back in the time allowed.
    #[error("the room could not be reached again within {after:?}; last: {last}")]
    GaveUp {
        /// How long was tried.
        after: Duration,
        /// The last failure.
        last: Box<SignalError>,
    },
}

impl SignalError {
    /// Whether trying the same again later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Server { .. }
            | Self::Closed { .. }
            | Self::PingTimeout { .. } => true,
            Self::Leave { action, .. } => *action != livekit_protocol::leave_request::Action::Disconnect,
            _ => false,
        }
    }
}

/// The peer connection failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MediaError {
    /// No pair of candidates worked in time.
    #[error(
        "no media path to the server within {after:?}; are its UDP ports, or its ICE-TCP port, reachable?"
    )]
    IceTimeout {
        /// How long was tried.
        after: Duration,
    },
    /// The path is there but DTLS did not finish in time.
    #[error("a media path was found, but DTLS did not finish within {after:?}")]
    DtlsTimeout {
        /// How long was waited.
        after: Duration,
    },
    /// The server's session description cannot be used.
    #[error("the server's session description cannot be used: {reason}")]
    Description {
        /// What is wrong with it.
        reason: String,
    },
    /// The connection broke in itself, as when the DTLS fingerprint does not match.
    #[error("the peer connection failed: {reason}")]
    Connection {
        /// What happened.
        reason: String,
    },
}

/// Something cannot be sent now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection at the moment. Audio of this time is lost; data may be sent later.
    #[error("not connected to the room at the moment")]
    NotConnected,
    /// The participant publishes no track.
    #[error("this participant publishes no audio track; set `publish` in its configuration")]
    NotPublishing,
    /// The payload does not fit.
    #[error("{actual} bytes are too many for {what}; {limit} are allowed")]
    Oversized {
        /// What was to be sent.
        what: &'static str,
        /// The most that is allowed, in bytes.
        limit: usize,
        /// What there was, in bytes.
        actual: usize,
    },
    /// The receiver takes data slower than it is given.
    #[error("{queued} bytes wait on the data channel already; send less, or later")]
    Congested {
        /// What waits, in bytes.
        queued: usize,
    },
    /// More than can be kept track of.
    #[error("{limit} {what} are open already")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The id is not, or no longer, one that waits for an answer.
    #[error("no {what} of this id waits for an answer")]
    Unknown {
        /// What was meant.
        what: &'static str,
    },
}

/// What remains of a message from outside: short enough for a log line, and without the token, which LiveKit's server
/// repeats when it refuses it.
pub(crate) fn shorten(text: &str) -> String {
    let is_token = |word: &str| word.len() > 40 && word.split('.').filter(|part| part.len() > 8).count() >= 3;
    let words = text.split(' ').map(|word| if is_token(word) { "<token>" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    let mut end = text.len().min(DETAIL_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_the_token() {
        let token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3OTU0NjExMTIsImlzcyI6ImRldmtleSJ9.7W-52BjMn-grMk4";
        let told = shorten(&format!("invalid token: {token}, error: token signature is invalid\r\n"));
        assert_eq!(told, "invalid token: <token> error: token signature is invalid");
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        assert_eq!(shorten(&"ü".repeat(500)).len(), DETAIL_LIMIT);
        assert!(shorten(&format!("a{}", "ü".repeat(500))).len() < DETAIL_LIMIT);
    }
}
