//! Which room a device gets.

use std::collections::HashMap;
use std::sync::Arc;

use super::Profile;
use crate::device::credentials::Mac;
use crate::media::MediaPlane;
use crate::ops::registry::Registry;
use crate::room::Room;
use crate::room::echo::EchoRoom;
use crate::room::livekit::{LiveKitRoom, LiveKitRooms};
use crate::room::websocket::{Headers, WebSocketRoom, WebSocketRooms};

/// Makes the room of a device.
#[derive(Clone, Debug)]
pub enum RoomMaker {
    /// The parrot.
    Echo,
    /// A chat server; others for some devices.
    WebSocket {
        /// For all devices.
        rooms: Arc<WebSocketRooms>,
        /// For devices under development.
        development: HashMap<Mac, Arc<WebSocketRooms>>,
    },
    /// A LiveKit server.
    LiveKit(Arc<LiveKitRooms>),
}

impl RoomMaker {
    /// The room of one device.
    pub(super) fn make(
        &self,
        profile: &Profile,
        plane: &Arc<dyn MediaPlane>,
        registry: &Arc<Registry>,
    ) -> Room {
        let client = &profile.identity.client;
        match self {
            Self::Echo => Room::Echo(EchoRoom::default()),
            Self::WebSocket { rooms, development } => {
                let rooms = development.get(&client.mac).unwrap_or(rooms);
                let headers = Headers {
                    mac: client.mac,
                    uuid: client.uuid.clone(),
                    ip: profile.identity.provisioned_ip.or(profile.ip),
                };
                let (rooms, plane, registry) = (Arc::clone(rooms), Arc::clone(plane), Arc::clone(registry));
                Room::WebSocket(Box::new(WebSocketRoom::new(rooms, plane, registry, headers)))
            }
            Self::LiveKit(rooms) => {
                let (mac, uuid) = (client.mac, client.uuid.clone());
                let (rooms, plane, registry) = (Arc::clone(rooms), Arc::clone(plane), Arc::clone(registry));
                Room::LiveKit(Box::new(LiveKitRoom::new(rooms, plane, registry, mac, uuid)))
            }
        }
    }
}
