//! Errors on their way to JavaScript: a class as a number below zero, and words.

use core::fmt::Display;

use evenkeel_core::error::{BufferError, CodecError, ConfigError, OpenError, PacketError, SenderError};

/// An error before it is thrown; `index.js` knows the classes by their numbers.
pub(crate) struct Fault {
    pub(crate) class: i32,
    pub(crate) message: String,
}

impl Fault {
    /// A value outside its range.
    pub(crate) fn range(message: impl Display) -> Self {
        Self::new(-1, message)
    }

    /// A buffer of the wrong length.
    pub(crate) fn length(message: impl Display) -> Self {
        Self::new(-2, message)
    }

    /// A sample that is no number.
    pub(crate) fn not_finite(index: usize) -> Self {
        Self::new(
            -3,
            format_args!(
                "sample {index} is NaN or infinite; with the option nonFinite: 'silence' such samples become silence"
            ),
        )
    }

    /// A packet that a peer sent and that is none.
    pub(crate) fn packet(message: impl Display) -> Self {
        Self::new(-4, message)
    }

    /// Something used after it was closed.
    pub(crate) fn closed() -> Self {
        Self::new(-5, "it is closed")
    }

    /// The codec failed.
    pub(crate) fn codec(message: impl Display) -> Self {
        Self::new(-6, message)
    }

    /// A session whose key has sealed all it may, or memory that is not to be had.
    pub(crate) fn system(message: impl Display) -> Self {
        Self::new(-7, message)
    }

    /// A call that this kind of object has not.
    pub(crate) fn kind() -> Self {
        Self::new(-8, "this object has no such method")
    }

    fn new(class: i32, message: impl Display) -> Self {
        Self { class, message: message.to_string() }
    }
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::OutOfMemory { .. } => Self::system(error),
            _ => Self::range(error),
        }
    }
}

impl From<BufferError> for Fault {
    fn from(error: BufferError) -> Self {
        Self::length(error)
    }
}

impl From<PacketError> for Fault {
    fn from(error: PacketError) -> Self {
        Self::packet(error)
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        Self::packet(error)
    }
}

impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::FrameLength { .. } | CodecError::BufferTooSmall { .. } => Self::length(error),
            CodecError::Packet(error) => Self::packet(error),
            CodecError::Config(error) => error.into(),
            _ => Self::codec(error),
        }
    }
}

impl From<SenderError> for Fault {
    fn from(error: SenderError) -> Self {
        match error {
            SenderError::Buffer(error) => error.into(),
            _ => Self::system(error),
        }
    }
}
