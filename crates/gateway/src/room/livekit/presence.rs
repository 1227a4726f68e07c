//! A call in its room: what goes to the participant in the lane, and what comes from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_livekit::data::{RequestId, RpcError, RpcErrorCode};
use evenkeel_livekit::participant::{TcpId, Transmit};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;

use super::events::Events;
use super::requests::{self, Wish};
use super::tcp::Carrier;
use crate::device::message::Message;
use crate::lane::guest::livekit::{Request, Told};
use crate::lane::voices::Cue;
use crate::media::{MediaId, MediaPlane};

/// How long an agent may take to answer a call.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The way to the participant.
pub(super) type Way = crate::room::way::Way<Request>;

/// See the [module](self). Dropping it leaves the room.
pub(super) struct Presence {
    way: Option<Way>,
    told: Receiver<Told>,
    carrier: Carrier,
    pub(super) events: Events,
    /// The call knows that the room was joined.
    pub(super) is_ready: bool,
    /// Methods the agent said it does not have.
    missing: Vec<&'static str>,
    /// Since when no agent is there.
    alone: Option<Instant>,
}

/// What [`Presence::next`] gives.
pub(super) enum Heard {
    Told(Told),
    /// No agent was there for too long.
    AgentMissing,
    /// Nothing will come any more.
    Nothing,
}

impl Presence {
    pub(super) fn new(
        identity: String,
        plane: Arc<dyn MediaPlane>,
        media: MediaId,
        requests: Sender<Request>,
        told: Receiver<Told>,
    ) -> Self {
        let way = Way::new(requests, plane, media);
        Self {
            carrier: Carrier::new(way.clone()),
            way: Some(way),
            told,
            events: Events::new(identity),
            is_ready: false,
            missing: Vec::new(),
            alone: Some(Instant::now()),
        }
    }

    /// What happens next. `agent_limit` is how long the room may be without an agent; zero is for ever. Cancel safe.
    pub(super) async fn next(&mut self, agent_limit: Duration) -> Heard {
        let is_alone = self.events.agent().is_none();
        self.alone = is_alone.then(|| self.alone.unwrap_or_else(Instant::now));
        let due = self.alone.filter(|_| !agent_limit.is_zero()).map(|alone| alone + agent_limit);
        let missed = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = self.told.recv() => told.map_or(Heard::Nothing, Heard::Told),
            () = missed => Heard::AgentMissing,
        }
    }

    /// A call of ours was answered.
    pub(super) fn handle_answer(&mut self, method: &'static str, result: &Result<String, RpcError>) {
        if let Err(error) = result {
            tracing::debug!(method, %error, "an agent did not do as asked");
            if error.code == RpcErrorCode::UnsupportedMethod.error().code && !self.missing.contains(&method) {
                self.missing.push(method);
            }
        }
    }

    /// The device said this. `false` if not all of it could be passed on.
    pub(super) fn handle_device(&self, message: &Message, text: String) -> bool {
        requests::wishes(message, text).into_iter().fold(true, |taken, wish| {
            taken
                & match wish {
                    Wish::Data(text) => self.send_data(text),
                    Wish::Call { method, payload } => self.call(method, payload),
                }
        })
    }

    /// Sends a data packet to everyone in the room.
    pub(super) fn send_data(&self, text: String) -> bool {
        self.ask(Request::Data { topic: "", text })
    }

    pub(super) fn cue(&self, cue: Cue) -> bool {
        self.ask(Request::Cue(cue))
    }

    pub(super) fn refuse(&self, request: RequestId) -> bool {
        self.ask(Request::Refuse(request))
    }

    pub(super) fn connect(&mut self, id: TcpId, remote: SocketAddr) {
        self.carrier.connect(id, remote);
    }

    pub(super) fn transmit(&mut self, transmit: Transmit) {
        self.carrier.transmit(transmit);
    }

    fn ask(&self, request: Request) -> bool {
        self.way.as_ref().is_some_and(|way| way.ask(request))
    }

    fn call(&self, method: &'static str, payload: String) -> bool {
        let Some(agent) = self.events.agent().filter(|_| !self.missing.contains(&method)) else {
            return true;
        };
        let to = agent.to_owned();
        self.ask(Request::Call { to, method, payload, limit: ANSWER_LIMIT })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.carrier.close();
        if let Some(way) = self.way.take() {
            way.close();
        }
    }
}
