//! What a device says: JSON, checked field by field.
//!
//! Types that are not known are kept and passed on; a known type with a wrong field is an error that names the field.

use evenkeel_core::units::{FrameDuration, SampleRate};
use serde_json::{Map, Value};
use thiserror::Error;

use super::envelope::{Envelope, Limits};
use crate::media::{Encryption, Transport};

/// A message from a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// As it was written, to pass on.
    pub envelope: Envelope,
    /// Which session it speaks of; `None` if it said none or an empty one.
    pub session_id: Option<String>,
    /// What it says.
    pub message: Message,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants a session.
    Hello(Box<Hello>),
    /// Began, ended or detected listening.
    Listen(Listen),
    /// Wants the reply to stop.
    Abort {
        /// Why, for example `wake_word_detected`.
        reason: Option<String>,
    },
    /// JSON-RPC 2.0 of the Model Context Protocol.
    Mcp {
        /// The request, notification or response.
        payload: Map<String, Value>,
    },
    /// Ends the session.
    Goodbye,
    /// Never got audio through and wants the media session rebuilt.
    UdpTimeout,
    /// Anything else; passed on untouched.
    Other {
        /// Its type.
        kind: String,
    },
}

/// The first message of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// How it wants to send and be sent audio.
    pub transport: Transport,
    /// Whether the device speaks MCP.
    pub mcp: bool,
    /// Whether the device cancels echo with the server's help, by timestamps.
    pub aec: bool,
    /// The suites of profile `sealed` it knows, in its order; unknown names are left out.
    pub sealed: Vec<Encryption>,
    /// `features` as they were sent, for the room.
    pub features: Option<Value>,
    /// `text_font` as it was sent, for the room.
    pub text_font: Option<Value>,
    /// What the device will send.
    pub audio: AudioParams,
}

/// The format of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioParams {
    /// Of the Opus decoder.
    pub sample_rate: SampleRate,
    /// Of one packet.
    pub frame_duration: FrameDuration,
}

impl AudioParams {
    /// What firmware sends: 16 kHz, 60 ms.
    pub const UPLINK: Self = Self { sample_rate: SampleRate::HZ_16000, frame_duration: FrameDuration::MS_60 };
    /// What we send unless configured otherwise: 24 kHz, 60 ms.
    pub const DOWNLINK: Self =
        Self { sample_rate: SampleRate::HZ_24000, frame_duration: FrameDuration::MS_60 };

    /// The `audio_params` of a hello.
    #[must_use]
    pub fn to_json(self) -> Value {
        let ms = self.frame_duration.as_millis_f64();
        let ms = if ms.fract() == 0.0 { Value::from(ms as u64) } else { Value::from(ms) };
        serde_json::json!({
            "format": "opus", "sample_rate": self.sample_rate.hz(), "channels": 1, "frame_duration": ms,
        })
    }
}

/// `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What happened.
    pub state: ListenState,
    /// Who decides when a turn ends; `None` if not said or not known.
    pub mode: Option<ListenMode>,
    /// The wake word, with [`ListenState::Detect`].
    pub text: Option<String>,
}

/// `listen.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenState {
    /// The device sends audio from here on.
    Start,
    /// The device stopped sending.
    Stop,
    /// The wake word was heard.
    Detect,
}

/// `listen.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    /// The server decides when the speaker is done.
    Auto,
    /// The user does, by a button.
    Manual,
    /// Nobody: both may speak at once.
    Realtime,
}

/// A device sent a message that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Too long.
    #[error("the message has {actual} bytes; {limit} is the most")]
    Oversized {
        /// The most allowed, in bytes.
        limit: usize,
        /// How long it was, in bytes.
        actual: usize,
    },
    /// Nested too deep.
    #[error("the message nests deeper than {limit}")]
    TooDeep {
        /// The deepest allowed.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("the message is not UTF-8")]
    Utf8,
    /// Not JSON.
    #[error("the message is not JSON (line {line}, column {column})")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("the message is not a JSON object")]
    NotAnObject,
    /// A field that must be there is not.
    #[error("`{field}` is missing")]
    Missing {
        /// Which, with its path.
        field: &'static str,
    },
    /// A field of the wrong type.
    #[error("`{field}` must be {expected}, not {found}")]
    Field {
        /// Which, with its path.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// The JSON type it was.
        found: &'static str,
    },
    /// A field whose value is not supported.
    #[error("`{field}` must be {expected}")]
    Value {
        /// Which, with its path.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

impl Incoming {
    /// Reads a message. Costs at most one pass over it before its size and depth are known to be in bounds.
    ///
    /// # Errors
    /// [`MessageError`]; the message then has no effect.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, MessageError> {
        let envelope = Envelope::new(bytes, limits)?;
        let value: Value = serde_json::from_str(envelope.text())
            .map_err(|e| MessageError::Json { line: e.line(), column: e.column() })?;
        let Value::Object(mut object) = value else { return Err(MessageError::NotAnObject) };
        let kind = string(&object, "type", "type")?.ok_or(MessageError::Missing { field: "type" })?;
        let session_id =
            string(&object, "session_id", "session_id")?.filter(|id| !id.is_empty()).map(str::to_owned);
        let message = match kind {
            "hello" => Message::Hello(Box::new(Hello::read(&object)?)),
            "listen" => read_listen(&object)?,
            "abort" => Message::Abort { reason: string(&object, "reason", "reason")?.map(str::to_owned) },
            "mcp" => match object.remove("payload") {
                Some(Value::Object(payload)) => Message::Mcp { payload },
                Some(other) => return Err(wrong_type("payload", "an object", &other)),
                None => return Err(MessageError::Missing { field: "payload" }),
            },
            "goodbye" => Message::Goodbye,
            "udp_timeout" => Message::UdpTimeout,
            other => Message::Other { kind: other.to_owned() },
        };
        Ok(Self { envelope, session_id, message })
    }
}

impl Hello {
    fn read(object: &Map<String, Value>) -> Result<Self, MessageError> {
        let version =
            number(object, "version", "version")?.ok_or(MessageError::Missing { field: "version" })?;
        let transport = match string(object, "transport", "transport")? {
            None => Transport::Udp,
            Some(name) => [Transport::Udp, Transport::WebSocket]
                .into_iter()
                .find(|t| t.name() == name)
                .ok_or(MessageError::Value { field: "transport", expected: "\"udp\" or \"websocket\"" })?,
        };
        match transport {
            Transport::Udp if version != 3.0 => {
                return Err(MessageError::Value { field: "version", expected: "3" });
            }
            // The version of its binary frames.
            Transport::WebSocket if ![1.0, 2.0, 3.0].contains(&version) => {
                return Err(MessageError::Value { field: "version", expected: "1, 2 or 3" });
            }
            _ => {}
        }
        let features = nested(object, "features")?;
        let flag = |name, path| features.map_or(Ok(None), |f| boolean(f, name, path));
        flag("glyph_push", "features.glyph_push")?;
        Ok(Self {
            transport,
            mcp: flag("mcp", "features.mcp")?.unwrap_or(false),
            aec: flag("aec", "features.aec")?.unwrap_or(false),
            sealed: features.map_or(Ok(Vec::new()), read_sealed)?,
            features: features.cloned().map(Value::Object),
            text_font: read_text_font(object)?,
            audio: nested(object, "audio_params")?.map_or(Ok(AudioParams::UPLINK), read_audio)?,
        })
    }
}

fn read_sealed(features: &Map<String, Value>) -> Result<Vec<Encryption>, MessageError> {
    const FIELD: &str = "features.sealed";
    const EXPECTED: &str = "a list of names";
    let Some(value) = present(features, "sealed") else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| wrong_type(FIELD, EXPECTED, value))?;
    let mut suites = Vec::new();
    for entry in list {
        let name = entry.as_str().ok_or_else(|| wrong_type(FIELD, EXPECTED, entry))?;
        if let Some(suite) = Encryption::sealed_from_name(name)
            && !suites.contains(&suite)
        {
            suites.push(suite);
        }
    }
    Ok(suites)
}

fn read_text_font(object: &Map<String, Value>) -> Result<Option<Value>, MessageError> {
    let Some(font) = nested(object, "text_font")? else { return Ok(None) };
    string(font, "bundle", "text_font.bundle")?;
    string(font, "charset", "text_font.charset")?;
    number(font, "size", "text_font.size")?;
    number(font, "bpp", "text_font.bpp")?;
    Ok(Some(Value::Object(font.clone())))
}

fn read_audio(params: &Map<String, Value>) -> Result<AudioParams, MessageError> {
    if string(params, "format", "audio_params.format")?.is_some_and(|format| format != "opus") {
        return Err(MessageError::Value { field: "audio_params.format", expected: "\"opus\"" });
    }
    if number(params, "channels", "audio_params.channels")?.is_some_and(|channels| channels != 1.0) {
        return Err(MessageError::Value { field: "audio_params.channels", expected: "1" });
    }
    let sample_rate = match number(params, "sample_rate", "audio_params.sample_rate")? {
        None => AudioParams::UPLINK.sample_rate,
        Some(hz) => SampleRate::from_hz(hz as u32)
            .ok()
            .filter(|rate| rate.is_opus() && f64::from(rate.hz()) == hz)
            .ok_or(MessageError::Value {
                field: "audio_params.sample_rate",
                expected: "8000, 12000, 16000, 24000 or 48000",
            })?,
    };
    let frame_duration = match number(params, "frame_duration", "audio_params.frame_duration")? {
        None => AudioParams::UPLINK.frame_duration,
        Some(ms) => FrameDuration::from_millis(ms).map_err(|_| MessageError::Value {
            field: "audio_params.frame_duration",
            expected: "2.5, 5, 10, 20, 40, 60, 80, 100 or 120",
        })?,
    };
    Ok(AudioParams { sample_rate, frame_duration })
}

fn read_listen(object: &Map<String, Value>) -> Result<Message, MessageError> {
    let state = match string(object, "state", "state")?.ok_or(MessageError::Missing { field: "state" })? {
        "start" => ListenState::Start,
        "stop" => ListenState::Stop,
        "detect" => ListenState::Detect,
        _ => return Err(MessageError::Value { field: "state", expected: "start, stop or detect" }),
    };
    let mode = match string(object, "mode", "mode")? {
        Some("auto") => Some(ListenMode::Auto),
        Some("manual") => Some(ListenMode::Manual),
        Some("realtime") => Some(ListenMode::Realtime),
        _ => None,
    };
    let text = string(object, "text", "text")?.map(str::to_owned);
    Ok(Message::Listen(Listen { state, mode, text }))
}

/// A field that is there and not null.
fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn string<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    field: &'static str,
) -> Result<Option<&'a str>, MessageError> {
    let Some(value) = present(object, name) else { return Ok(None) };
    value.as_str().map(Some).ok_or_else(|| wrong_type(field, "a string", value))
}

fn number(object: &Map<String, Value>, name: &str, field: &'static str) -> Result<Option<f64>, MessageError> {
    let Some(value) = present(object, name) else { return Ok(None) };
    value.as_f64().map(Some).ok_or_else(|| wrong_type(field, "a number", value))
}

fn boolean(
    object: &Map<String, Value>,
    name: &str,
    field: &'static str,
) -> Result<Option<bool>, MessageError> {
    let Some(value) = present(object, name) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| wrong_type(field, "true or false", value))
}

fn nested<'a>(
    object: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a Map<String, Value>>, MessageError> {
    let Some(value) = present(object, field) else { return Ok(None) };
    value.as_object().map(Some).ok_or_else(|| wrong_type(field, "an object", value))
}

fn wrong_type(field: &'static str, expected: &'static str, value: &Value) -> MessageError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    MessageError::Field { field, expected, found }
}

#[cfg(test)]
mod tests;
