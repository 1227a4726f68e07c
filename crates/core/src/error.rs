//! Errors, sorted by whose fault they are.
//!
//! * [`ConfigError`]: the caller asked for something that cannot be built. Raised at construction.
//! * [`BufferError`]: the caller's buffers do not fit. Nothing was written.
//! * [`PacketError`], [`OpenError`]: a peer sent something bad. State is unchanged.
//! * [`SealError`]: a limit of the session was reached.
//! * [`CodecError`]: the codec refused.

use thiserror::Error;

/// The caller asked for something that cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A sample rate that is not supported.
    #[error(
        "sample rate {hz} Hz is not supported; use 8000, 12000, 16000, 22050, 24000, 32000, 44100 or 48000"
    )]
    SampleRate {
        /// What was asked for, in hertz.
        hz: u32,
    },
    /// A sample rate at which Opus cannot code.
    #[error("Opus does not code at {hz} Hz; use 8000, 12000, 16000, 24000 or 48000")]
    CodecRate {
        /// What was asked for, in hertz.
        hz: u32,
    },
    /// A channel count that is not supported.
    #[error("{count} channels are not supported; use 1 or 2")]
    Channels {
        /// What was asked for.
        count: usize,
    },
    /// A frame duration that an Opus packet cannot have.
    #[error("a frame of {ms} ms is not possible; use 2.5, 5, 10, 20, 40, 60, 80, 100 or 120")]
    FrameDuration {
        /// What was asked for, in milliseconds.
        ms: f64,
    },
    /// A key of the wrong size.
    #[error("{suite} takes a key of {expected} bytes, not {actual}")]
    KeySize {
        /// The suite the key was meant for.
        suite: &'static str,
        /// How long the key must be, in bytes.
        expected: usize,
        /// How long it was, in bytes.
        actual: usize,
    },
    /// A value outside its range.
    #[error("{what} must be from {min} to {max}, not {actual}")]
    Range {
        /// The setting.
        what: &'static str,
        /// The lowest value allowed.
        min: i64,
        /// The highest value allowed.
        max: i64,
        /// What was asked for.
        actual: i64,
    },
    /// Memory for a codec could not be had.
    #[error("out of memory for the {what}")]
    OutOfMemory {
        /// What was being built.
        what: &'static str,
    },
}

/// The caller's buffers do not fit. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BufferError {
    /// The output buffer is too small.
    #[error("the output buffer holds {actual} samples, {needed} are needed")]
    TooSmall {
        /// What is needed, in samples, all channels together.
        needed: usize,
        /// What there was, in samples.
        actual: usize,
    },
    /// Samples of another kind than was announced.
    #[error("{expected:?} samples were announced, others came")]
    Format {
        /// What was announced.
        expected: crate::pcm::SampleFormat,
    },
    /// Stereo samples that are not whole pairs.
    #[error("{samples} samples are not whole pairs of left and right")]
    PartialFrame {
        /// How many there were, all channels together.
        samples: usize,
    },
}

/// A peer sent bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Fewer bytes than the smallest valid message.
    #[error("{actual} bytes are too few; at least {needed} are needed")]
    Truncated {
        /// The least that would do, in bytes.
        needed: usize,
        /// What there was, in bytes.
        actual: usize,
    },
    /// More bytes than allowed.
    #[error("{actual} bytes are too many; at most {limit} are allowed")]
    Oversized {
        /// The most that is allowed, in bytes.
        limit: usize,
        /// What there was, in bytes.
        actual: usize,
    },
    /// The first byte is not a known type.
    #[error("datagram type 0x{actual:02x} is unknown; 0x01 is audio")]
    Type {
        /// The byte found.
        actual: u8,
    },
    /// The payload length in the header does not fit the datagram.
    #[error("the header announces {announced} payload bytes, {present} are there")]
    Length {
        /// What the header says, in bytes.
        announced: usize,
        /// What follows the header, in bytes.
        present: usize,
    },
    /// The connection id is not this session's.
    #[error("connection id 0x{actual:08x} is not this session's")]
    ConnectionId {
        /// The id found.
        actual: u32,
    },
    /// A packet of the other direction came back.
    #[error("a downlink packet came back as uplink")]
    Reflected,
    /// PCM where only Opus is taken, PCM of half samples, or anything in clear where that is not allowed.
    #[error("payload not accepted: {reason}")]
    Payload {
        /// Why not.
        reason: &'static str,
    },
    /// The payload is no valid Opus packet.
    #[error("not a valid Opus packet: {reason}")]
    Opus {
        /// Which rule of RFC 6716 section 3.4 it breaks.
        reason: &'static str,
    },
}

/// A datagram was not let in. No state of the session changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Malformed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The sequence was seen before.
    #[error("sequence {sequence} was seen before")]
    Replayed {
        /// The sequence of the datagram.
        sequence: u32,
    },
    /// The sequence is older than the replay window reaches.
    #[error("sequence {sequence} is older than the window of {window} packets")]
    Stale {
        /// The sequence of the datagram.
        sequence: u32,
        /// How far the window reaches back, in packets.
        window: u32,
    },
    /// The sequence is further ahead than one datagram alone may move it.
    #[error("sequence {sequence} is {ahead} ahead; more than {limit} needs three datagrams that agree")]
    TooFarAhead {
        /// The sequence of the datagram.
        sequence: u32,
        /// How far it is ahead of the newest, in packets.
        ahead: u32,
        /// How far one datagram alone may move, in packets.
        limit: u32,
    },
    /// The authentication tag does not match.
    #[error("the authentication tag does not match")]
    Forged,
}

/// A packet could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The payload does not fit.
    #[error("a payload of {actual} bytes does not fit; {limit} is the most")]
    Oversized {
        /// The most that fits, in bytes.
        limit: usize,
        /// What was asked for, in bytes.
        actual: usize,
    },
    /// An empty payload.
    #[error("an empty payload cannot be sealed")]
    Empty,
    /// The key has sealed all it may; a new `hello` gives a new one.
    #[error("the session key is used up; re-key with a new hello")]
    KeyExhausted,
    /// Media time went backwards or stood still, which would use a timestamp twice.
    #[error("media time must advance by at least 1 ms a packet")]
    TimestampReused,
}

/// The codec refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Wrong number of samples for a frame.
    #[error("a frame has {expected} samples per channel, not {actual}")]
    FrameLength {
        /// Samples per channel the codec takes.
        expected: usize,
        /// Samples per channel given.
        actual: usize,
    },
    /// The output buffer is too small.
    #[error("the output buffer holds {actual}, {needed} are needed")]
    BufferTooSmall {
        /// What is needed (bytes for an encoder, samples per channel for a decoder).
        needed: usize,
        /// What there was.
        actual: usize,
    },
    /// The packet is malformed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A setting the codec does not take.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The codec failed within.
    #[error("codec failed: {reason} ({code})")]
    Internal {
        /// The codec's own error code.
        code: i32,
        /// What that code means.
        reason: &'static str,
    },
}

/// A relay could not hand a packet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RelayError {
    /// What came in is no packet: the peer's fault.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// What should go out could not be sealed: a limit of the session.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A sender could not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SenderError {
    /// The samples are not of the input format: the caller's fault.
    #[error(transparent)]
    Buffer(BufferError),
    /// A packet could not be sealed: a limit of the session.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The encoder failed. Senders fall to a lower rung on it, so that callers do not see it.
    #[error(transparent)]
    Codec(#[from] CodecError),
}
