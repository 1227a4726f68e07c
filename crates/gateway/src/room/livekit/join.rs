//! Joining: the token, the signal connection, the sockets, and the way into the lane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_livekit::driver::route_to;
use evenkeel_livekit::error::SignalError;
use evenkeel_livekit::participant::{Participant, ParticipantConfig, Publish};
use evenkeel_livekit::signal::{self, Connections, SignalConfig, SignalEvent, TokenSource};
use evenkeel_livekit::token::{Dispatch, TokenRequest};
use evenkeel_sys::clock;
use evenkeel_sys::udp::{BufferSizes, Socket};
use serde_json::json;
use tokio::sync::mpsc;

use super::presence::Presence;
use super::{JoinError, LiveKitRooms};
use crate::device::credentials::Mac;
use crate::entropy;
use crate::lane::guest::livekit::LiveKitGuest;
use crate::lane::guest::{Arrival, Guest, Link};
use crate::media::{MediaCommand, MediaId, MediaPlane};

/// Requests that may wait for the lane, and what the room says that may wait for us.
const QUEUE: usize = 256;

/// What the kernel holds for a participant's socket, in bytes.
const BUFFERS: BufferSizes = BufferSizes { receive: 256 << 10, send: 128 << 10 };

/// Who joins which room, as what (PROTOCOL: room `<uuid>_<mac hex>_<suffix>`, identity the MAC).
pub(super) fn token_request(
    rooms: &LiveKitRooms,
    mac: Mac,
    uuid: Option<&str>,
    session_id: &str,
) -> TokenRequest {
    let hex = mac.to_string().replace(':', "");
    let uuid = uuid.unwrap_or(&hex);
    // A suffix of its own for each session: the agent is sent when the server makes the room.
    let session: String = session_id.chars().filter(|c| *c != '-').take(8).collect();
    let room = rooms.template.replace("{uuid}", uuid).replace("{mac}", &hex).replace("{session}", &session);
    let mut request = TokenRequest::new(room, mac.to_string());
    let attributes = [
        ("device_mac", mac.to_string()),
        ("device_uuid", uuid.to_owned()),
        ("room_type", "device_session".to_owned()),
    ];
    request.attributes.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    request.agents.extend(rooms.agent.iter().map(|agent| Dispatch {
        agent_name: agent.clone(),
        metadata: json!({"device_mac": mac.to_string(), "device_uuid": uuid}).to_string(),
    }));
    request
}

/// Joins, and hands the participant to the lane. Dropping this leaves the room.
pub(super) async fn join(
    rooms: Arc<LiveKitRooms>,
    plane: Arc<dyn MediaPlane>,
    media: MediaId,
    request: TokenRequest,
) -> Result<Presence, JoinError> {
    let socket_error = |error: std::io::Error| JoinError::Socket(error.to_string());
    let (identity, api) = (request.identity.clone(), rooms.api.clone());
    let mut config =
        SignalConfig::new(rooms.url.clone(), TokenSource::Mint(Arc::new(move || request.mint(&api))));
    config.connections = rooms.connections;
    config.tls.clone_from(&rooms.tls);
    let nudged = Arc::clone(&plane);
    let mut signal = signal::spawn(config, move || {
        // A lane whose queue is full looks by itself before long.
        let _ = nudged.send(media, MediaCommand::Nudge);
    });
    let (connections, joined) = loop {
        match signal.recv().await {
            Some(event @ SignalEvent::Joined { connections, .. }) => break (connections, event),
            Some(SignalEvent::Closed(Some(error))) => return Err(error.into()),
            Some(SignalEvent::Closed(None)) | None => {
                return Err(SignalError::Closed { code: None }.into());
            }
            Some(_) => {}
        }
    };
    let ip = match rooms.address {
        Some(address) => address,
        None => route_to(&rooms.url).await.map_err(socket_error)?,
    };
    // A server tells two peer connections apart by our address, so the second gets a socket of its own.
    let count = if connections == Connections::Dual { 2 } else { 1 };
    let bind = |_| Socket::bind(SocketAddr::new(ip, 0), BUFFERS);
    let sockets = (0..count).map(bind).collect::<Result<Vec<_>, _>>().map_err(socket_error)?;
    let locals: Vec<_> =
        sockets.iter().map(Socket::local_addr).collect::<Result<_, _>>().map_err(socket_error)?;
    let mut config = ParticipantConfig::default();
    config.publish = Some(Publish { name: "device".to_owned(), stereo: false });
    config.udp = locals.first().copied();
    config.second_udp = locals.get(1).copied();
    let mut seed = [0; 8];
    entropy::fill(&mut seed);
    let anchor = (clock::now(), Instant::now());
    let mut participant = Participant::new(anchor.1, config, u64::from_ne_bytes(seed));
    participant.handle_signal(anchor.1, joined);
    let (requests, request_queue) = mpsc::channel(QUEUE);
    let (told, told_queue) = mpsc::channel(QUEUE);
    let guest = LiveKitGuest::new(participant, signal, request_queue, told, locals, anchor);
    let links = sockets.into_iter().map(Link::Udp).collect();
    if !plane.attach(media, Box::new(Arrival { guest: Guest::LiveKit(Box::new(guest)), links })) {
        return Err(JoinError::Lane);
    }
    Ok(Presence::new(identity, plane, media, requests, told_queue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_livekit::token::ApiKey;
    use std::time::Duration;

    #[test]
    fn names_are_as_the_protocol_says() {
        let rooms = LiveKitRooms {
            url: String::new(),
            api: ApiKey { key: "k".into(), secret: "s".into() },
            agent: Some("helper".into()),
            template: "{uuid}_{mac}_{session}".into(),
            address: None,
            agent_limit: Duration::ZERO,
            connections: Connections::Single,
            tls: None,
        };
        let mac: Mac = "aa_bb_cc_dd_ee_ff".parse().unwrap();
        let request = token_request(&rooms, mac, Some("u-1"), "01234567-89ab");
        assert_eq!(request.room, "u-1_aabbccddeeff_01234567");
        assert_eq!(request.identity, "aa:bb:cc:dd:ee:ff");
        assert_eq!(request.attributes["device_mac"], "aa:bb:cc:dd:ee:ff");
        assert_eq!(request.attributes["device_uuid"], "u-1");
        assert_eq!(request.attributes["room_type"], "device_session");
        assert_eq!(request.agents[0].agent_name, "helper");
        assert_eq!(token_request(&rooms, mac, None, "x").room, "aabbccddeeff_aabbccddeeff_x");
    }
}
