//! Joining a room to see whether calls could, for `evenkeel doctor`.

use std::time::{Duration, Instant};

use evenkeel_livekit::driver;
use evenkeel_livekit::participant::{CloseReason, Event, ParticipantConfig, Publish};
use evenkeel_livekit::signal::{SignalConfig, TokenSource};
use thiserror::Error;
use tokio::time::timeout_at;

use super::{JoinError, LiveKitRooms, join};
use crate::device::credentials::Mac;

/// How long the media path may take, ICE-TCP included.
const PATH_LIMIT: Duration = Duration::from_secs(20);

/// How a trial went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The room's name.
    pub room: String,
    /// From the start until the server had let us in.
    pub joined: Duration,
    /// From the start until audio could be sent.
    pub connected: Duration,
    /// From the start until the agent was there, where one is sent.
    pub agent: Option<Duration>,
}

/// Calls will not find their rooms.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrialError {
    /// As it would go with a call.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// There is no path for audio.
    #[error(
        "joined {room}, but audio had no way after {after:?}: are the server's UDP ports, or its ICE-TCP port, open?"
    )]
    NoPath {
        /// The room's name.
        room: String,
        /// How long was waited.
        after: Duration,
    },
    /// No agent came.
    #[error(
        "joined {room}, but the agent {agent:?} (`livekit.agent`) did not come within {after:?}: is its worker running, and \
         registered under this name?"
    )]
    NoAgent {
        /// The room's name.
        room: String,
        /// The agent's name.
        agent: String,
        /// How long was waited.
        after: Duration,
    },
}

impl LiveKitRooms {
    /// Joins a room as a device without a name would, waits for the media path and for the agent, if one is to be sent, and
    /// leaves.
    ///
    /// # Errors
    /// What went wrong, as a call would have it.
    pub async fn try_out(&self) -> Result<Trial, TrialError> {
        let mut random = [0; 8];
        let _ = aws_lc_rs::rand::fill(&mut random);
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let request = join::token_request(self, Mac::NOBODY, Some("doctor"), &session);
        let (room, api) = (request.room.clone(), self.api.clone());
        let token = TokenSource::Mint(std::sync::Arc::new(move || request.mint(&api)));
        let mut signal = SignalConfig::new(self.url.clone(), token);
        signal.connections = self.connections;
        signal.tls.clone_from(&self.tls);
        let mut participant = ParticipantConfig::default();
        participant.publish = Some(Publish { name: "device".to_owned(), stereo: false });
        participant.udp = self.address.map(|address| (address, 0).into());
        let begun = Instant::now();
        let socket_error = |error: std::io::Error| JoinError::Socket(error.to_string());
        let joined = driver::join(signal, participant, u64::from_ne_bytes(random)).await;
        let mut inside = Inside { room: joined.map_err(socket_error)?, agent: None };

        let after = PATH_LIMIT;
        let joined = inside.until(begun, after, |event| matches!(event, Event::Joined { .. })).await?;
        let joined = joined.ok_or_else(|| TrialError::NoPath { room: room.clone(), after })?;
        let connected = inside.until(begun, after, |event| matches!(event, Event::Connected)).await?;
        let connected = connected.ok_or_else(|| TrialError::NoPath { room: room.clone(), after })?;
        if let Some(agent) = self.agent.clone()
            && inside.agent.is_none()
        {
            let after = self.agent_limit;
            let came = |event: &Event| matches!(event, Event::ParticipantJoined(_));
            inside.agent = inside.until(begun, after, came).await?;
            inside.agent.ok_or(TrialError::NoAgent { room: room.clone(), agent, after })?;
        }
        inside.room.leave().await;
        Ok(Trial { room, joined, connected, agent: inside.agent })
    }
}

/// A room that was joined, or is about to be.
struct Inside {
    room: driver::Room,
    /// When somebody else was seen in it, counted from the start.
    agent: Option<Duration>,
}

impl Inside {
    /// Waits for an event, and says when it came, counted from `begun`; `None` if it did not within `limit`.
    async fn until(
        &mut self,
        begun: Instant,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<Duration>, JoinError> {
        let by = tokio::time::Instant::now() + limit;
        while let Ok(event) = timeout_at(by, self.room.recv()).await {
            match event {
                Some(Event::Closed(CloseReason::Signal(error))) => return Err(error.into()),
                Some(Event::Closed(CloseReason::Media(error))) => return Err(error.into()),
                Some(Event::Closed(_)) | None => return Err(JoinError::Stalled),
                Some(event) => {
                    if matches!(event, Event::ParticipantJoined(_)) {
                        self.agent.get_or_insert_with(|| begun.elapsed());
                    }
                    if wanted(&event) {
                        return Ok(Some(begun.elapsed()));
                    }
                }
            }
        }
        Ok(None)
    }
}
