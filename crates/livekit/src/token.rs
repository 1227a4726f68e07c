//! Access tokens: who joins which room, with which attributes, and which agent is sent there.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use livekit_protocol::{RoomAgentDispatch, RoomConfiguration};
use livekit_token::{AccessToken, VideoGrants};

use crate::error::TokenError;

/// The key pair of a LiveKit project.
#[derive(Clone)]
pub struct ApiKey {
    /// The public part.
    pub key: String,
    /// The secret part. Never shown.
    pub secret: String,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// An agent to be sent to the room when it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    /// The name under which the agent's workers are registered.
    pub agent_name: String,
    /// Handed to the agent's job.
    pub metadata: String,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The room to join.
    pub room: String,
    /// The identity, unique in the room.
    pub identity: String,
    /// The name shown to others; may be empty.
    pub name: String,
    /// The participant's metadata; may be empty.
    pub metadata: String,
    /// The participant's attributes.
    pub attributes: HashMap<String, String>,
    /// Agents to be sent to the room. The server acts on this when it makes the room.
    pub agents: Vec<Dispatch>,
    /// The most participants, agents not counted, that the room takes when this token makes it; 0 is no limit.
    pub max_participants: u32,
    /// How long the token can be used to join. The server refreshes it while the participant is in the room.
    pub ttl: Duration,
}

impl TokenRequest {
    /// To join `room` as `identity`, within ten minutes.
    pub fn new(room: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            room: room.into(),
            identity: identity.into(),
            name: String::new(),
            metadata: String::new(),
            attributes: HashMap::new(),
            agents: Vec::new(),
            max_participants: 0,
            ttl: Duration::from_secs(600),
        }
    }

    /// Makes the token: a JWT signed with the secret (HS256), valid from now on by this machine's clock.
    ///
    /// # Errors
    /// [`TokenError`] when room, identity, key or secret is empty, or the encoder refuses.
    pub fn mint(&self, api: &ApiKey) -> Result<String, TokenError> {
        for (field, value) in
            [("room", &self.room), ("identity", &self.identity), ("key", &api.key), ("secret", &api.secret)]
        {
            if value.is_empty() {
                return Err(TokenError::Empty { field });
            }
        }
        let mut token = AccessToken::with_api_key(&api.key, &api.secret)
            .with_ttl(self.ttl)
            .with_identity(&self.identity)
            .with_name(&self.name)
            .with_metadata(&self.metadata)
            .with_attributes(&self.attributes)
            .with_grants(VideoGrants {
                room_join: true,
                room: self.room.clone(),
                can_publish: Some(true),
                can_subscribe: Some(true),
                can_publish_data: Some(true),
                can_update_own_metadata: Some(true),
                ..VideoGrants::default()
            });
        if !self.agents.is_empty() || self.max_participants > 0 {
            token = token.with_room_config(RoomConfiguration {
                max_participants: self.max_participants,
                agents: self
                    .agents
                    .iter()
                    .map(|a| RoomAgentDispatch {
                        agent_name: a.agent_name.clone(),
                        metadata: a.metadata.clone(),
                        ..RoomAgentDispatch::default()
                    })
                    .collect(),
                ..RoomConfiguration::default()
            });
        }
        token.to_jwt().map_err(|e| TokenError::Encode { reason: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use livekit_token::Claims;

    fn api() -> ApiKey {
        ApiKey { key: "devkey".into(), secret: "a secret of thirty-two characters".into() }
    }

    #[test]
    fn a_token_carries_identity_attributes_and_agent() {
        let mut request = TokenRequest::new("room", "aabbccddeeff");
        request.attributes.insert("device_mac".into(), "aa:bb:cc:dd:ee:ff".into());
        request.agents.push(Dispatch { agent_name: "helper".into(), metadata: "m".into() });
        let claims = Claims::from_unverified(&request.mint(&api()).unwrap()).unwrap();
        assert_eq!(claims.sub, "aabbccddeeff");
        assert_eq!(claims.video.room, "room");
        assert!(claims.video.room_join);
        assert_eq!(claims.attributes["device_mac"], "aa:bb:cc:dd:ee:ff");
        let config = claims.room_config.unwrap();
        assert_eq!(config.agents[0].agent_name, "helper");
        assert_eq!(config.agents[0].metadata, "m");
    }

    #[test]
    fn without_agents_the_room_is_not_configured() {
        let claims = Claims::from_unverified(&TokenRequest::new("r", "i").mint(&api()).unwrap()).unwrap();
        assert!(claims.room_config.is_none());
    }

    #[test]
    fn an_empty_field_is_named() {
        assert_eq!(TokenRequest::new("", "i").mint(&api()), Err(TokenError::Empty { field: "room" }));
        let api = ApiKey { secret: String::new(), ..api() };
        assert_eq!(TokenRequest::new("r", "i").mint(&api), Err(TokenError::Empty { field: "secret" }));
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", api()).contains("thirty"));
    }
}
