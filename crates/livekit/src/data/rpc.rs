//! RPC calls between participants (version 1): a request, an acknowledgement, a response, each one reliable packet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::rpc_response::Value as ResponseValue;

use crate::error::SendError;

/// The longest payload of a request or a response, in bytes.
pub const PAYLOAD_LIMIT: usize = 15 * 1024;
/// How long the called side may take to acknowledge.
const ACK_TIMEOUT: Duration = Duration::from_secs(7);
/// How many calls may be open each way.
const OPEN_LIMIT: usize = 64;
/// How much of an error's text is sent or kept, in bytes.
const ERROR_LIMIT: usize = 256;

/// One of our calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(u64);

/// One call of another participant, to be answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// A call to another participant.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The identity of who is called.
    pub destination: &'a str,
    /// The method.
    pub method: &'a str,
    /// What is said; at most [`PAYLOAD_LIMIT`] bytes.
    pub payload: &'a str,
    /// How long the response may take.
    pub timeout: Duration,
}

/// The error codes the SDKs agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u32)]
pub enum RpcErrorCode {
    ApplicationError = 1500,
    ConnectionTimeout = 1501,
    ResponseTimeout = 1502,
    RecipientDisconnected = 1503,
    ResponsePayloadTooLarge = 1504,
    SendFailed = 1505,
    UnsupportedMethod = 1400,
    RecipientNotFound = 1401,
    RequestPayloadTooLarge = 1402,
    UnsupportedServer = 1403,
    UnsupportedVersion = 1404,
}

impl RpcErrorCode {
    /// An error of this code, with its usual message.
    #[must_use]
    pub fn error(self) -> RpcError {
        let message = match self {
            Self::ApplicationError => "Application error in method handler",
            Self::ConnectionTimeout => "Connection timeout",
            Self::ResponseTimeout => "Response timeout",
            Self::RecipientDisconnected => "Recipient disconnected",
            Self::ResponsePayloadTooLarge => "Response payload too large",
            Self::SendFailed => "Failed to send",
            Self::UnsupportedMethod => "Method not supported at destination",
            Self::RecipientNotFound => "Recipient not found",
            Self::RequestPayloadTooLarge => "Request payload too large",
            Self::UnsupportedServer => "RPC not supported by server",
            Self::UnsupportedVersion => "Unsupported RPC version",
        };
        RpcError { code: self as u32, message: message.to_owned(), data: String::new() }
    }
}

/// How a call failed: told by the called side, or found here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RPC error {code}: {message}")]
pub struct RpcError {
    /// One of [`RpcErrorCode`], or the application's own.
    pub code: u32,
    /// What it means; cut at 256 bytes.
    pub message: String,
    /// The application's own; cut at [`PAYLOAD_LIMIT`].
    pub data: String,
}

/// Our calls that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    serial: u64,
    open: HashMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    id: CallId,
    destination: String,
    acknowledged: bool,
    ack_by: Instant,
    answer_by: Instant,
}

impl Calls {
    /// Makes the request of a call. It counts as open at once; [withdraw](Self::withdraw) it if it cannot be sent.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        caller_sid: &str,
        call: Call<'_>,
    ) -> Result<(CallId, proto::RpcRequest), SendError> {
        if call.payload.len() > PAYLOAD_LIMIT {
            let actual = call.payload.len();
            return Err(SendError::Oversized { what: "an RPC payload", limit: PAYLOAD_LIMIT, actual });
        }
        if self.open.len() >= OPEN_LIMIT {
            return Err(SendError::TooMany { what: "RPC calls", limit: OPEN_LIMIT });
        }
        self.serial += 1;
        let id = CallId(self.serial);
        let request = proto::RpcRequest {
            id: format!("{caller_sid}-{}", self.serial),
            method: call.method.to_owned(),
            payload: call.payload.to_owned(),
            response_timeout_ms: u32::try_from(call.timeout.as_millis()).unwrap_or(u32::MAX),
            version: 1,
            ..proto::RpcRequest::default()
        };
        let open = Open {
            id,
            destination: call.destination.to_owned(),
            acknowledged: false,
            ack_by: now + ACK_TIMEOUT.min(call.timeout),
            answer_by: now + call.timeout,
        };
        self.open.insert(request.id.clone(), open);
        Ok((id, request))
    }

    pub(crate) fn withdraw(&mut self, id: CallId) {
        self.open.retain(|_, open| open.id != id);
    }

    pub(crate) fn ack(&mut self, ack: &proto::RpcAck) {
        if let Some(open) = self.open.get_mut(&ack.request_id) {
            open.acknowledged = true;
        }
    }

    /// The call that this answers, if it is one of ours and still open.
    pub(crate) fn response(
        &mut self,
        response: proto::RpcResponse,
    ) -> Option<(CallId, Result<String, RpcError>)> {
        let open = self.open.remove(&response.request_id)?;
        let result = match response.value {
            Some(ResponseValue::Payload(payload)) => Ok(payload),
            Some(ResponseValue::Error(e)) => {
                Err(RpcError { code: e.code, message: cut(e.message, ERROR_LIMIT), data: e.data })
            }
            _ => Err(RpcErrorCode::UnsupportedVersion.error()),
        };
        Some((open.id, result))
    }

    /// One call whose time is up.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(CallId, RpcError)> {
        let key = self.open.iter().find(|(_, open)| open.deadline() <= now)?.0.clone();
        let open = self.open.remove(&key)?;
        let code =
            if open.acknowledged { RpcErrorCode::ResponseTimeout } else { RpcErrorCode::ConnectionTimeout };
        Some((open.id, code.error()))
    }

    /// One call to a participant that is no longer there; any, when `identity` is none.
    pub(crate) fn abandoned(&mut self, identity: Option<&str>) -> Option<(CallId, RpcError)> {
        let gone = |open: &Open| identity.is_none_or(|i| i == open.destination);
        let key = self.open.iter().find(|(_, open)| gone(open))?.0.clone();
        let open = self.open.remove(&key)?;
        Some((open.id, RpcErrorCode::RecipientDisconnected.error()))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.values().map(Open::deadline).min()
    }
}

impl Open {
    fn deadline(&self) -> Instant {
        if self.acknowledged { self.answer_by } else { self.ack_by }
    }
}

/// Calls of others that wait for our answer.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    serial: u64,
    open: HashMap<RequestId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    caller: String,
    request: String,
    answer_by: Instant,
}

impl Requests {
    /// Takes a request, or says with which error it is to be answered at once.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        caller: &str,
        request: &proto::RpcRequest,
    ) -> Result<RequestId, RpcError> {
        if request.version != 1 {
            return Err(RpcErrorCode::UnsupportedVersion.error());
        }
        if request.payload.len() > PAYLOAD_LIMIT {
            return Err(RpcErrorCode::RequestPayloadTooLarge.error());
        }
        self.open.retain(|_, waiting| waiting.answer_by > now);
        if self.open.len() >= OPEN_LIMIT {
            return Err(RpcErrorCode::ApplicationError.error());
        }
        self.serial += 1;
        let id = RequestId(self.serial);
        let patience =
            Duration::from_millis(u64::from(request.response_timeout_ms)).min(Duration::from_secs(600));
        let waiting =
            Waiting { caller: caller.to_owned(), request: request.id.clone(), answer_by: now + patience };
        self.open.insert(id, waiting);
        Ok(id)
    }

    /// The answer to a request, and to whom it goes.
    pub(crate) fn answer(
        &mut self,
        id: RequestId,
        result: Result<&str, RpcError>,
    ) -> Result<(String, proto::RpcResponse), SendError> {
        let waiting = self.open.remove(&id).ok_or(SendError::Unknown { what: "RPC request" })?;
        let result = match result {
            Ok(payload) if payload.len() > PAYLOAD_LIMIT => {
                Err(RpcErrorCode::ResponsePayloadTooLarge.error())
            }
            other => other,
        };
        Ok((waiting.caller, response(waiting.request, result)))
    }

    pub(crate) fn forget(&mut self, identity: &str) {
        self.open.retain(|_, waiting| waiting.caller != identity);
    }
}

/// The response to a request.
pub(crate) fn response(request_id: String, result: Result<&str, RpcError>) -> proto::RpcResponse {
    let value = match result {
        Ok(payload) => ResponseValue::Payload(payload.to_owned()),
        Err(e) => ResponseValue::Error(proto::RpcError {
            code: e.code,
            message: cut(e.message, ERROR_LIMIT),
            data: cut(e.data, PAYLOAD_LIMIT),
        }),
    };
    proto::RpcResponse { request_id, value: Some(value) }
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let mut end = limit;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call<'static> {
        Call { destination: "agent", method: "m", payload: "p", timeout: Duration::from_secs(10) }
    }

    #[test]
    fn an_answer_ends_the_call_once() {
        let mut calls = Calls::default();
        let (id, request) = calls.request(Instant::now(), "PA_1", call()).unwrap();
        assert_eq!((request.version, request.response_timeout_ms), (1, 10_000));
        let answer = response(request.id, Ok("yes"));
        assert_eq!(calls.response(answer.clone()), Some((id, Ok("yes".into()))));
        assert_eq!(calls.response(answer), None);
        assert_eq!(calls.deadline(), None);
    }

    #[test]
    fn without_acknowledgement_it_ends_earlier_than_with() {
        let mut calls = Calls::default();
        let now = Instant::now();
        let (id, request) = calls.request(now, "PA_1", call()).unwrap();
        assert_eq!(calls.deadline(), Some(now + ACK_TIMEOUT));
        calls.ack(&proto::RpcAck { request_id: request.id });
        assert_eq!(calls.deadline(), Some(now + Duration::from_secs(10)));
        assert_eq!(calls.expired(now + Duration::from_secs(9)), None);
        let (ended, error) = calls.expired(now + Duration::from_secs(10)).unwrap();
        assert_eq!((ended, error.code), (id, 1502));
        calls.request(now, "PA_1", call()).unwrap();
        assert_eq!(calls.expired(now + ACK_TIMEOUT).unwrap().1.code, 1501);
    }

    #[test]
    fn open_calls_and_requests_are_bounded() {
        let mut calls = Calls::default();
        let mut requests = Requests::default();
        let now = Instant::now();
        let request =
            proto::RpcRequest { id: "r".into(), version: 1, response_timeout_ms: 1000, ..Default::default() };
        for _ in 0..OPEN_LIMIT {
            calls.request(now, "PA", call()).unwrap();
            requests.take(now, "x", &request).unwrap();
        }
        assert!(matches!(calls.request(now, "PA", call()), Err(SendError::TooMany { .. })));
        assert_eq!(requests.take(now, "x", &request).unwrap_err().code, 1500);
        // Requests nobody answered make room when their time is up.
        assert!(requests.take(now + Duration::from_secs(2), "x", &request).is_ok());
    }

    #[test]
    fn a_request_is_answered_once_and_to_its_caller() {
        let mut requests = Requests::default();
        let request =
            proto::RpcRequest { id: "r".into(), version: 1, response_timeout_ms: 1000, ..Default::default() };
        let id = requests.take(Instant::now(), "caller", &request).unwrap();
        let large = "x".repeat(PAYLOAD_LIMIT + 1);
        let (to, answer) = requests.answer(id, Ok(&large)).unwrap();
        assert_eq!(to, "caller");
        assert!(matches!(answer.value, Some(ResponseValue::Error(e)) if e.code == 1504));
        assert_eq!(requests.answer(id, Ok("")), Err(SendError::Unknown { what: "RPC request" }));
    }

    #[test]
    fn when_the_called_side_leaves_its_calls_end() {
        let mut calls = Calls::default();
        let (id, _) = calls.request(Instant::now(), "PA", call()).unwrap();
        assert_eq!(calls.abandoned(Some("other")), None);
        assert_eq!(
            calls.abandoned(Some("agent")).unwrap(),
            (id, RpcErrorCode::RecipientDisconnected.error())
        );
    }
}
