//! The gateway's own MCP conversation with a device, and the cache of tools it fills.
//!
//! The gateway asks (`initialize`, then `tools/list` page by page) when a session opens, so that a room that asks the
//! same is answered without a round trip over the air. Sans-IO: [`DeviceMcp::poll_request`] gives payloads for the
//! device, [`DeviceMcp::poll_room`] payloads for the room; drain both after every call.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use evenkeel_core::units::Time;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// JSON-RPC 2.0, as MCP uses it.
pub type Payload = Map<String, Value>;

/// How the conversation is held.
#[derive(Clone, Debug, PartialEq)]
pub struct McpConfig {
    /// `clientInfo` of `initialize`.
    pub client_info: Value,
    /// `capabilities` of `initialize`.
    pub capabilities: Value,
    /// Tools kept of one device.
    pub max_tools: usize,
    /// How long one answer may take.
    pub answer_limit: Duration,
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            client_info: json!({"name": "evenkeel", "version": env!("CARGO_PKG_VERSION")}),
            capabilities: json!({}),
            max_tools: 128,
            answer_limit: Duration::from_secs(10),
        }
    }
}

/// Ids of the gateway's own requests begin here; rooms count from 1.
const FIRST_ID: u64 = 10_000;
/// Pages asked for before a device is taken to repeat itself.
const MAX_PAGES: usize = 64;
/// Requests of operators under way to one device.
const MAX_PENDING: usize = 16;
/// Requests of the room that wait for the cache.
const MAX_HELD: usize = 8;

/// Ties an answer to the operator's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Why a request to a device has no result.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum McpError {
    /// No answer in time.
    #[error("the device did not answer in time")]
    Timeout,
    /// The device answered with an error.
    #[error("the device refused: {message}")]
    Refused {
        /// Its message.
        message: String,
    },
    /// Too many requests under way.
    #[error("{MAX_PENDING} requests to this device are under way already")]
    Busy,
    /// The device is gone.
    #[error("the device is not connected")]
    Gone,
}

#[derive(Debug)]
enum Stage {
    Unasked,
    Initializing { id: u64, until: Time },
    Listing { id: u64, until: Time, pages: usize },
    Ready,
    Failed,
}

/// See the [module](self).
#[derive(Debug)]
pub struct DeviceMcp {
    config: McpConfig,
    stage: Stage,
    next_id: u64,
    server: Value,
    tools: Vec<Value>,
    pending: BTreeMap<u64, (Token, Time)>,
    requests: VecDeque<Payload>,
    held: VecDeque<Payload>,
    to_room: VecDeque<Payload>,
    results: VecDeque<(Token, Result<Value, McpError>)>,
}

impl DeviceMcp {
    /// Nothing asked yet.
    #[must_use]
    pub fn new(config: McpConfig) -> Self {
        Self {
            config,
            stage: Stage::Unasked,
            next_id: FIRST_ID,
            server: Value::Null,
            tools: Vec::new(),
            pending: BTreeMap::new(),
            requests: VecDeque::new(),
            held: VecDeque::new(),
            to_room: VecDeque::new(),
            results: VecDeque::new(),
        }
    }

    /// The tools the device named, once all pages are in.
    #[must_use]
    pub fn tools(&self) -> Option<&[Value]> {
        matches!(self.stage, Stage::Ready).then_some(&self.tools)
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && !matches!(self.stage, Stage::Initializing { .. } | Stage::Listing { .. })
    }

    /// Begins the conversation if it was not begun yet.
    pub fn handle_session(&mut self, now: Time) {
        if matches!(self.stage, Stage::Unasked | Stage::Failed) {
            self.tools.clear();
            let params = json!({
                "protocolVersion": "2024-11-05",
                "capabilities": self.config.capabilities,
                "clientInfo": self.config.client_info,
            });
            let id = self.ask("initialize", Some(params));
            self.stage = Stage::Initializing { id, until: now + self.config.answer_limit };
        }
    }

    /// Forgets the device: it may come back with other firmware. Requests under way fail.
    pub fn handle_gone(&mut self) {
        for (token, _) in std::mem::take(&mut self.pending).into_values() {
            self.results.push_back((token, Err(McpError::Gone)));
        }
        self.requests.clear();
        self.held.clear();
        self.to_room.clear();
        self.stage = Stage::Unasked;
    }

    /// Takes a payload from the device. `true` if it answered the gateway; else it is for the room.
    pub fn handle_device(&mut self, payload: &Payload, now: Time) -> bool {
        if payload.contains_key("method") {
            return false;
        }
        let Some(id) = payload.get("id").and_then(Value::as_u64) else { return false };
        if let Some((token, _)) = self.pending.remove(&id) {
            self.results.push_back((token, outcome(payload)));
            return true;
        }
        match self.stage {
            Stage::Initializing { id: asked, .. } if asked == id => self.initialized(payload, now),
            Stage::Listing { id: asked, pages, .. } if asked == id => self.listed(payload, pages, now),
            // Too late an answer to one of ours; the room never asked with such an id.
            _ => return (FIRST_ID..self.next_id).contains(&id),
        }
        true
    }

    /// Takes a payload from the room. `true` if the gateway answers it, now or when the cache is filled; else it is
    /// for the device.
    pub fn handle_room(&mut self, payload: &Payload) -> bool {
        let cached = payload.get("method").and_then(Value::as_str).is_some_and(|method| {
            matches!(method, "initialize" | "notifications/initialized" | "tools/list")
        });
        match self.stage {
            _ if !cached => false,
            Stage::Ready => {
                self.answer_room(payload);
                true
            }
            Stage::Initializing { .. } | Stage::Listing { .. } if self.held.len() < MAX_HELD => {
                self.held.push_back(payload.clone());
                true
            }
            _ => false,
        }
    }

    /// An operator's request; its result comes from [`DeviceMcp::poll_result`] under `token`.
    pub fn handle_command(
        &mut self,
        token: Token,
        method: &str,
        params: Option<Value>,
        limit: Duration,
        now: Time,
    ) {
        if self.pending.len() >= MAX_PENDING {
            return self.results.push_back((token, Err(McpError::Busy)));
        }
        let id = self.ask(method, params);
        self.pending.insert(id, (token, now + limit));
    }

    /// What has waited too long is given up.
    pub fn handle_timeout(&mut self, now: Time) {
        let due: Vec<u64> =
            self.pending.iter().filter(|(_, (_, until))| *until <= now).map(|(id, _)| *id).collect();
        for id in due {
            if let Some((token, _)) = self.pending.remove(&id) {
                self.results.push_back((token, Err(McpError::Timeout)));
            }
        }
        if let Stage::Initializing { until, .. } | Stage::Listing { until, .. } = self.stage
            && until <= now
        {
            self.fail();
        }
    }

    /// When to call [`DeviceMcp::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let stage = match self.stage {
            Stage::Initializing { until, .. } | Stage::Listing { until, .. } => Some(until),
            _ => None,
        };
        self.pending.values().map(|(_, until)| *until).chain(stage).min()
    }

    /// The next payload for the device.
    #[must_use]
    pub fn poll_request(&mut self) -> Option<Payload> {
        self.requests.pop_front()
    }

    /// The next answer for the room.
    #[must_use]
    pub fn poll_room(&mut self) -> Option<Payload> {
        self.to_room.pop_front()
    }

    /// The next outcome of an operator's request.
    #[must_use]
    pub fn poll_result(&mut self) -> Option<(Token, Result<Value, McpError>)> {
        self.results.pop_front()
    }

    fn ask(&mut self, method: &str, params: Option<Value>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = object(json!({"jsonrpc": "2.0", "method": method, "id": id}));
        if let Some(params) = params {
            request.insert("params".into(), params);
        }
        self.requests.push_back(request);
        id
    }

    fn initialized(&mut self, payload: &Payload, now: Time) {
        let Ok(server) = outcome(payload) else { return self.fail() };
        self.server = server;
        self.requests.push_back(object(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})));
        self.list(None, 0, now);
    }

    fn list(&mut self, cursor: Option<&str>, pages: usize, now: Time) {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        let id = self.ask("tools/list", Some(params));
        self.stage = Stage::Listing { id, until: now + self.config.answer_limit, pages };
    }

    fn listed(&mut self, payload: &Payload, pages: usize, now: Time) {
        let Ok(Value::Object(mut page)) = outcome(payload) else { return self.fail() };
        let Some(Value::Array(tools)) = page.remove("tools") else { return self.fail() };
        let room_left = self.config.max_tools.saturating_sub(self.tools.len());
        let complete = tools.is_empty() || tools.len() > room_left || pages + 1 >= MAX_PAGES;
        self.tools.extend(tools.into_iter().take(room_left));
        match page.get("nextCursor").and_then(Value::as_str).filter(|cursor| !cursor.is_empty()) {
            Some(cursor) if !complete => self.list(Some(cursor), pages + 1, now),
            _ => {
                self.stage = Stage::Ready;
                for held in std::mem::take(&mut self.held) {
                    self.answer_room(&held);
                }
            }
        }
    }

    /// The device cannot or will not: what the room asked meanwhile goes to the device after all.
    fn fail(&mut self) {
        self.stage = Stage::Failed;
        self.requests.extend(std::mem::take(&mut self.held));
    }

    fn answer_room(&mut self, payload: &Payload) {
        let result = match payload.get("method").and_then(Value::as_str) {
            Some("initialize") => self.server.clone(),
            Some("tools/list") => json!({"tools": self.tools}),
            _ => return,
        };
        let id = payload.get("id").cloned().unwrap_or(Value::Null);
        self.to_room.push_back(object(json!({"jsonrpc": "2.0", "id": id, "result": result})));
    }
}

fn outcome(payload: &Payload) -> Result<Value, McpError> {
    if let Some(error) = payload.get("error").filter(|error| !error.is_null()) {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
        return Err(McpError::Refused { message });
    }
    Ok(payload.get("result").cloned().unwrap_or(Value::Null))
}

fn object(value: Value) -> Payload {
    match value {
        Value::Object(object) => object,
        _ => Payload::new(),
    }
}

#[cfg(test)]
mod tests;
