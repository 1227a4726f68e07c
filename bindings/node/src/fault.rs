//! What JavaScript gets thrown: the error's class by whose fault it is, a `code` to tell errors apart by, and a message
//! that names the limit.

use std::fmt::Display;

use evenkeel_core::error::{BufferError, CodecError, ConfigError, PacketError};
use evenkeel_engine::{OpenError, PushError, StartError};
use napi::{Env, Error, Status};

/// The constructor of the error.
#[derive(Clone, Copy)]
enum Class {
    Type,
    Range,
    Other,
}

/// An error before it is thrown.
pub(crate) struct Fault {
    class: Class,
    code: &'static str,
    message: String,
}

pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A value of the wrong type.
    pub(crate) fn wrong_type(message: impl Display) -> Self {
        Self::new(Class::Type, "ERR_EVENKEEL_TYPE", message)
    }

    /// A buffer whose memory was transferred away.
    pub(crate) fn detached(what: &str) -> Self {
        let message = format!("{what}: the buffer is detached; it was transferred to another thread");
        Self::new(Class::Type, "ERR_EVENKEEL_DETACHED", message)
    }

    /// A value outside its range.
    pub(crate) fn range(message: impl Display) -> Self {
        Self::new(Class::Range, "ERR_EVENKEEL_RANGE", message)
    }

    /// A buffer of the wrong length.
    pub(crate) fn length(message: impl Display) -> Self {
        Self::new(Class::Range, "ERR_EVENKEEL_LENGTH", message)
    }

    /// A sample that is no number.
    pub(crate) fn not_finite(index: usize) -> Self {
        let message = format!(
            "sample {index} is NaN or infinite; with the option nonFinite: 'silence' such samples become silence"
        );
        Self::new(Class::Range, "ERR_EVENKEEL_NOT_FINITE", message)
    }

    /// Something used after it was closed.
    pub(crate) fn closed(what: &str) -> Self {
        Self::new(Class::Other, "ERR_EVENKEEL_CLOSED", format!("the {what} is closed"))
    }

    /// A packet that a peer sent and that is none.
    pub(crate) fn packet(error: impl Display) -> Self {
        Self::new(Class::Other, "ERR_EVENKEEL_PACKET", error)
    }

    /// A request to the codec that is not offered.
    pub(crate) fn unsupported(message: impl Display) -> Self {
        Self::new(Class::Other, "ERR_EVENKEEL_UNSUPPORTED", message)
    }

    /// Something that the machine refused.
    pub(crate) fn system(error: impl Display) -> Self {
        Self::new(Class::Other, "ERR_EVENKEEL_SYSTEM", error)
    }

    fn new(class: Class, code: &'static str, message: impl Display) -> Self {
        Self { class, code, message: message.to_string() }
    }

    /// Throws it. What is returned only says that it was thrown.
    pub(crate) fn throw(self, env: &Env) -> Error {
        // A zero byte would end the text.
        let message = self.message.replace('\0', "?");
        let code = Some(self.code);
        let thrown = match self.class {
            Class::Type => env.throw_type_error(&message, code),
            Class::Range => env.throw_range_error(&message, code),
            Class::Other => env.throw_error(&message, code),
        };
        match thrown {
            Ok(()) => Error::new(Status::PendingException, message),
            // The environment is being torn down.
            Err(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::system(&error.reason)
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
        match error {
            BufferError::Format { .. } => Self::wrong_type(error),
            _ => Self::length(error),
        }
    }
}

impl From<PacketError> for Fault {
    fn from(error: PacketError) -> Self {
        Self::packet(error)
    }
}

impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::FrameLength { .. } | CodecError::BufferTooSmall { .. } => Self::length(error),
            CodecError::Packet(error) => Self::packet(error),
            CodecError::Config(error) => error.into(),
            _ => Self::new(Class::Other, "ERR_EVENKEEL_CODEC", error),
        }
    }
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            _ => Self::system(error),
        }
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(error) => error.into(),
            _ => Self::new(Class::Other, "ERR_EVENKEEL_REFUSED", error),
        }
    }
}

impl From<PushError> for Fault {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Closed => Self::closed("stream"),
            PushError::Format { .. } | PushError::Kind { .. } => Self::wrong_type(error),
            _ => Self::length(error),
        }
    }
}
