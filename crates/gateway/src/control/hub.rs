//! Who is connected, which task holds whose call, and the way from one to the other.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use evenkeel_core::units::Time;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::Clock;
use super::actor::{self, Command, Inbox};
use super::pairing::{Accepted, Pairing, Requested};
use super::rooms::RoomMaker;
use super::settings::{HubConfig, SourceRule};
use crate::call::Receipt;
use crate::device::answer;
use crate::device::credentials::{Gatekeeper, Identity, Mac};
use crate::device::limits::{Bucket, Buckets, network_of};
use crate::device::mcp::McpError;
use crate::device::message::{Incoming, Message};
use crate::media::{EventReceiver, MediaCommand, MediaEvent, MediaId, MediaPlane, SourcePolicy, Transport};
use crate::ops::counters::Counter;
use crate::ops::registry::Registry;
use crate::room::Room;

/// What is on its way to a device's connection.
#[derive(Debug)]
pub struct Outgoing {
    /// The topic of the device.
    pub topic: Arc<str>,
    /// What.
    pub content: Content,
    /// Whom to tell once it is written.
    pub receipt: Option<(Receipt, mpsc::WeakSender<Inbox>)>,
}

/// What goes over a device's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON text.
    Text(String),
    /// An Opus packet ([`Transport::WebSocket`] only).
    Audio {
        /// The packet.
        opus: Bytes,
        /// Media time in ms.
        timestamp: u32,
    },
}

impl Outgoing {
    /// The message was written.
    pub fn written(self) {
        if let Some((receipt, inbox)) = self.receipt
            && let Some(inbox) = inbox.upgrade()
        {
            // A full inbox belongs to a call that is being flooded; its reply stays held and is dropped.
            let _ = inbox.try_send(Inbox::Written(receipt));
        }
    }
}

/// The way to a device's connection. When all of them are dropped, the connection closes.
///
/// What goes in is boxed: the queue has room for 32 from the start, and there are thousands of queues.
pub type Outlet = mpsc::Sender<Box<Outgoing>>;

/// Devices and networks whose hellos are counted: as many as may say hello while a bucket fills, and more.
const MAX_BUCKETS: usize = 65_536;

/// Messages that may wait for a device that does not read.
pub const OUTLET_CAPACITY: usize = 64;

/// See the module.
pub struct Hub {
    /// The time.
    pub clock: Clock,
    /// How calls are held, for sessions to come.
    pub config: HubConfig,
    /// What operators see.
    pub registry: Arc<Registry>,
    /// The lanes.
    pub plane: Arc<dyn MediaPlane>,
    gatekeeper: Mutex<Gatekeeper>,
    rooms: RoomMaker,
    devices: Mutex<Devices>,
    sessions: Mutex<HashMap<MediaId, mpsc::Sender<Inbox>>>,
    /// Hellos of each device, whether it is connected or not, and of each network.
    hellos: Mutex<Buckets<Arc<str>>>,
    networks: Mutex<Buckets<IpAddr>>,
    pairing: Mutex<Pairing>,
    draining: watch::Sender<Option<Time>>,
}

#[derive(Default)]
struct Devices {
    by_client: HashMap<Arc<str>, Device>,
    by_mac: HashMap<Mac, Arc<str>>,
    next_generation: u64,
}

struct Device {
    profile: Arc<Profile>,
    generation: u64,
    outlet: Option<Outlet>,
    actor: Option<ActorHandle>,
}

struct ActorHandle {
    inbox: mpsc::Sender<Inbox>,
    link: watch::Sender<Link>,
    media: Option<MediaId>,
}

/// The connection of a device as its call sees it.
pub(super) type Link = Option<Outlet>;

/// What is known of a device.
#[derive(Debug)]
pub struct Profile {
    /// The client id, the key of everything.
    pub client: Arc<str>,
    /// Who it is.
    pub identity: Identity,
    /// Where its messages go.
    pub topic: Arc<str>,
    /// The address its messages come from; not known of devices behind a broker.
    pub ip: Option<IpAddr>,
    /// How its audio travels.
    pub transport: Transport,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Nobody connected.
    #[must_use]
    pub fn new(
        config: HubConfig,
        gatekeeper: Gatekeeper,
        rooms: RoomMaker,
        plane: Arc<dyn MediaPlane>,
        clock: Clock,
        registry: Arc<Registry>,
    ) -> Arc<Self> {
        let hellos = Mutex::new(Buckets::new(config.hellos_per_device, MAX_BUCKETS));
        let networks = Mutex::new(Buckets::new(config.hellos_per_network, MAX_BUCKETS));
        Arc::new(Self {
            clock,
            registry,
            plane,
            gatekeeper: Mutex::new(gatekeeper),
            rooms,
            devices: Mutex::default(),
            sessions: Mutex::default(),
            hellos,
            networks,
            pairing: Mutex::default(),
            draining: watch::Sender::new(None),
            config,
        })
    }

    /// Checks credentials from here on against another key.
    pub fn set_gatekeeper(&self, gatekeeper: Gatekeeper) {
        *lock(&self.gatekeeper) = gatekeeper;
    }

    /// The check that is in force.
    #[must_use]
    pub fn gatekeeper(&self) -> Gatekeeper {
        lock(&self.gatekeeper).clone()
    }

    /// A device that was let in is connected, from `ip` if that is known, and reads what goes into `outlet`. The connection before, if
    /// there was one, is closed; a call that was left without one goes on.
    #[must_use]
    pub fn attach(
        self: &Arc<Self>,
        identity: Identity,
        topic: String,
        ip: Option<IpAddr>,
        outlet: Outlet,
    ) -> Attachment {
        self.attach_by(Transport::Udp, identity, topic, ip, outlet)
    }

    /// As [`Hub::attach`], for a device whose audio travels like this.
    #[must_use]
    pub fn attach_by(
        self: &Arc<Self>,
        transport: Transport,
        identity: Identity,
        topic: String,
        ip: Option<IpAddr>,
        outlet: Outlet,
    ) -> Attachment {
        let now = self.clock.now();
        let client: Arc<str> = identity.client.text.as_str().into();
        let mac = identity.client.mac;
        let profile =
            Arc::new(Profile { client: Arc::clone(&client), identity, topic: topic.into(), ip, transport });
        let mut devices = lock(&self.devices);
        devices.next_generation += 1;
        let generation = devices.next_generation;
        devices.by_mac.insert(mac, Arc::clone(&client));
        let device = devices.by_client.entry(Arc::clone(&client)).or_insert_with(|| Device {
            profile: Arc::clone(&profile),
            generation,
            outlet: None,
            actor: None,
        });
        device.generation = generation;
        device.profile = Arc::clone(&profile);
        if device.outlet.replace(outlet.clone()).is_some() {
            self.registry.counters.add(Counter::Replaced);
        }
        if let Some(actor) = &device.actor {
            actor.link.send_replace(Some(outlet.clone()));
        }
        drop(devices);
        self.registry.counters.add(Counter::Connected);
        Attachment {
            hub: Arc::clone(self),
            profile,
            generation,
            messages: Bucket::new(self.config.messages_per_device, now),
            outlet: outlet.downgrade(),
        }
    }

    fn detach(&self, client: &str, generation: u64) {
        let mut devices = lock(&self.devices);
        let Some(device) = devices.by_client.get_mut(client).filter(|d| d.generation == generation) else {
            return;
        };
        device.outlet = None;
        match &device.actor {
            Some(actor) => {
                actor.link.send_replace(None);
            }
            None => devices.forget(client),
        }
    }

    /// Closes the connection of a device that does not read.
    pub(super) fn drop_link(&self, client: &str) {
        if let Some(device) = lock(&self.devices).by_client.get_mut(client) {
            device.outlet = None;
            if let Some(actor) = &device.actor {
                actor.link.send_replace(None);
            }
        }
    }

    /// Closes this connection of a device, once what was said before is written; a newer one stays.
    pub(super) fn let_go(&self, client: &str, outlet: &Outlet) {
        let mut devices = lock(&self.devices);
        let Some(device) = devices.by_client.get_mut(client) else { return };
        if device.outlet.as_ref().is_some_and(|current| current.same_channel(outlet)) {
            device.outlet = None;
            if let Some(actor) = &device.actor {
                actor.link.send_replace(None);
            }
        }
    }

    /// The inbox of a device's call; the task is started if there is none. `None` if the device is not known.
    fn inbox(self: &Arc<Self>, client: &str) -> Option<mpsc::Sender<Inbox>> {
        let mut devices = lock(&self.devices);
        let device = devices.by_client.get_mut(client)?;
        if device.actor.as_ref().is_none_or(|actor| actor.inbox.is_closed()) {
            let (inbox, messages) = mpsc::channel(actor::INBOX_CAPACITY);
            let link = watch::Sender::new(device.outlet.clone());
            actor::spawn(
                Arc::clone(self),
                Arc::clone(&device.profile),
                inbox.downgrade(),
                messages,
                link.subscribe(),
                self.draining.subscribe(),
            );
            device.actor = Some(ActorHandle { inbox, link, media: None });
        }
        device.actor.as_ref().map(|actor| actor.inbox.clone())
    }

    /// A call's task wants to end. `true` if it may: nobody is connected and nothing is waiting for it.
    pub(super) fn retire(&self, client: &str, inbox: &mut mpsc::Receiver<Inbox>) -> bool {
        let mut devices = lock(&self.devices);
        let connected = devices.by_client.get(client).is_some_and(|device| device.outlet.is_some());
        if connected || !inbox.is_empty() {
            return false;
        }
        inbox.close();
        devices.forget(client);
        true
    }

    /// A session of `client` was opened or closed.
    pub(super) fn session(&self, client: &str, media: MediaId, inbox: Option<mpsc::Sender<Inbox>>) {
        let open = inbox.is_some();
        match inbox {
            Some(inbox) => lock(&self.sessions).insert(media, inbox),
            None => lock(&self.sessions).remove(&media),
        };
        let mut devices = lock(&self.devices);
        let Some(device) = devices.by_client.get_mut(client) else { return };
        let mac = device.profile.identity.client.mac;
        if let Some(actor) = &mut device.actor {
            actor.media = open.then_some(media);
        }
        drop(devices);
        if !open && let Some(peer) = lock(&self.pairing).clear(mac) {
            self.tell(peer, Inbox::PeerGone);
        }
    }

    fn tell(&self, mac: Mac, message: Inbox) -> bool {
        let devices = lock(&self.devices);
        let actor = devices.by_mac.get(&mac).and_then(|client| devices.by_client.get(client)?.actor.as_ref());
        actor.is_some_and(|actor| actor.inbox.try_send(message).is_ok())
    }

    /// Makes the room of a device.
    pub(super) fn make_room(&self, profile: &Profile) -> Room {
        self.rooms.make(profile, &self.plane, &self.registry)
    }

    pub(super) fn source_of(&self, profile: &Profile) -> SourcePolicy {
        match self.config.source {
            SourceRule::MqttIp => profile.ip.map_or(SourcePolicy::First, SourcePolicy::Ip),
            SourceRule::Any => SourcePolicy::Any,
            SourceRule::First => SourcePolicy::First,
        }
    }

    /// Hands what one lane reports to whom it concerns; runs until cancelled.
    pub async fn run_events(self: Arc<Self>, mut events: EventReceiver) {
        loop {
            events.ready().await;
            while let Some(departed) = events.try_next_packet() {
                self.tell_session(departed.media, Inbox::Downlink(Box::new(departed)));
            }
            if let Some((media, event)) = events.try_next() {
                self.handle_event(media, event);
            }
        }
    }

    fn handle_event(&self, media: MediaId, event: MediaEvent) {
        match event {
            MediaEvent::Stats(stats) => return self.registry.stats(media, stats, self.clock.now()),
            MediaEvent::Closed(stats) => self.registry.stats(media, stats, self.clock.now()),
            MediaEvent::FirstDatagram { from } => self.registry.seen(media, from),
            _ => {}
        }
        self.tell_session(media, Inbox::Media(Box::new((media, event))));
    }

    /// Tells the call of a session; of one that is over, nobody.
    fn tell_session(&self, media: MediaId, message: Inbox) {
        let inbox = lock(&self.sessions).get(&media).cloned();
        if inbox.is_some_and(|inbox| inbox.try_send(message).is_err()) {
            self.registry.counters.add(Counter::AudioDropped);
        }
    }

    /// Whether a device is connected, and whether it is in a session.
    #[must_use]
    pub fn status(&self, client: &str) -> (bool, bool) {
        let devices = lock(&self.devices);
        let device = devices.by_client.get(client);
        let exists = device.is_some_and(|device| device.outlet.is_some());
        let alive =
            device.and_then(|device| device.actor.as_ref()).is_some_and(|actor| actor.media.is_some());
        (exists, exists && alive)
    }

    /// How many devices are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        lock(&self.devices).by_client.values().filter(|device| device.outlet.is_some()).count()
    }

    /// An MCP request to a device, answered within `limit`.
    ///
    /// # Errors
    /// [`McpError`].
    pub async fn command(
        self: &Arc<Self>,
        client: &str,
        method: String,
        params: Option<Value>,
        limit: std::time::Duration,
    ) -> Result<Value, McpError> {
        let (exists, _) = self.status(client);
        let inbox = self.inbox(client).filter(|_| exists).ok_or(McpError::Gone)?;
        let (reply, answer) = oneshot::channel();
        let command = Inbox::Command(Box::new(Command { method, params, limit, reply }));
        inbox.try_send(command).map_err(|_| McpError::Busy)?;
        // The call answers by itself; the margin is for one whose task ended meanwhile.
        let margin = std::time::Duration::from_secs(1);
        tokio::time::timeout(limit + margin, answer)
            .await
            .map_or(Err(McpError::Timeout), |answer| answer.unwrap_or(Err(McpError::Gone)))
    }

    /// One device asks for another. `None` if the other is not connected.
    pub fn request_call(self: &Arc<Self>, caller: Mac, target: Mac, nickname: &str) -> Option<Requested> {
        let target_client = lock(&self.devices).by_mac.get(&target).cloned()?;
        if !self.status(&target_client).0 {
            return None;
        }
        let requested = lock(&self.pairing).request(caller, target, self.clock.now());
        match requested {
            Requested::Pending => {
                self.tell(caller, Inbox::Bridge(None));
                self.wake(&target_client, nickname);
            }
            Requested::Bridged => self.bridge(caller, target),
            Requested::Busy => {}
        }
        Some(requested)
    }

    /// A device answers whoever called it.
    pub fn accept_call(&self, target: Mac) -> Accepted {
        let accepted = lock(&self.pairing).accept(target, self.clock.now());
        if let Accepted::Bridged(caller) = accepted {
            if self.media_of(caller).is_none() {
                lock(&self.pairing).clear(caller);
                return Accepted::CallerGone;
            }
            self.bridge(caller, target);
            let text = json!({"type": "call_accepted", "from": target.to_string()}).to_string();
            self.tell(caller, Inbox::Say(text));
        }
        accepted
    }

    fn media_of(&self, mac: Mac) -> Option<MediaId> {
        let devices = lock(&self.devices);
        devices.by_client.get(devices.by_mac.get(&mac)?)?.actor.as_ref()?.media
    }

    fn bridge(&self, one: Mac, other: Mac) {
        for (mac, peer) in [(one, other), (other, one)] {
            if let Some(media) = self.media_of(peer) {
                self.tell(mac, Inbox::Bridge(Some(media)));
            }
        }
    }

    /// Asks the device to wake up and listen to its user, by a tool that firmware has for that.
    fn wake(self: &Arc<Self>, client: &str, nickname: &str) {
        let reason = format!("[device_call] {nickname} is calling. Answer?");
        let arguments = json!({"reason": reason, "action": "listen"});
        let params = json!({"name": "self.remote_wakeup", "arguments": arguments});
        if let Some(inbox) = self.inbox(client) {
            let (reply, _) = oneshot::channel();
            let limit = std::time::Duration::from_secs(5);
            let method = "tools/call".to_owned();
            let command = Command { method, params: Some(params), limit, reply };
            let _ = inbox.try_send(Inbox::Command(Box::new(command)));
        }
    }

    /// Ends the session that `/api/calls` shows under `media`.
    pub fn hang_up(&self, media: MediaId) -> bool {
        lock(&self.sessions).get(&media).is_some_and(|inbox| inbox.try_send(Inbox::HangUp).is_ok())
    }

    /// No new sessions; those there are may finish their reply until `deadline`. Returns when all are over.
    pub async fn drain(&self, deadline: Time) {
        self.draining.send_replace(Some(deadline));
        let last = self.clock.instant(deadline + std::time::Duration::from_secs(1));
        while self.registry.live() > 0 && tokio::time::Instant::now() < last {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Whether [`Hub::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("connected", &self.connected()).finish_non_exhaustive()
    }
}

impl Devices {
    fn forget(&mut self, client: &str) {
        if let Some((client, device)) = self.by_client.remove_entry(client) {
            let mac = device.profile.identity.client.mac;
            if self.by_mac.get(&mac) == Some(&client) {
                self.by_mac.remove(&mac);
            }
        }
    }
}

/// A device's connection, as the hub knows it. Dropping it says that the connection is gone.
#[derive(Debug)]
pub struct Attachment {
    hub: Arc<Hub>,
    profile: Arc<Profile>,
    generation: u64,
    messages: Bucket,
    outlet: mpsc::WeakSender<Box<Outgoing>>,
}

impl Attachment {
    /// Who is connected.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Hands a message of the device to its call. Waits while the call has too much to do, which slows down this
    /// device and no other.
    pub async fn deliver(&mut self, bytes: &[u8]) {
        let (hub, now) = (&self.hub, self.hub.clock.now());
        let counters = &hub.registry.counters;
        counters.add(Counter::Messages);
        if !self.messages.take(hub.config.messages_per_device, now) {
            return counters.add(Counter::MessageRate);
        }
        let incoming = match Incoming::parse(bytes, hub.config.limits) {
            Ok(incoming) => Box::new(incoming),
            Err(error) => {
                counters.add(Counter::BadMessages);
                tracing::debug!(client = &*self.profile.client, %error, "bad message");
                return self.answer(answer::error(&error.to_string()));
            }
        };
        if let Message::Hello(hello) = &incoming.message
            && hello.transport != self.profile.transport
        {
            counters.add(Counter::BadMessages);
            let name = self.profile.transport.name();
            return self.answer(answer::error(&format!("`transport` must be \"{name}\" on this connection")));
        }
        if matches!(incoming.message, Message::Hello(_)) && !self.may_hello(now) {
            counters.add(Counter::HelloRate);
            return self.answer(answer::error("too many hellos; try again in a few seconds"));
        }
        let mut message = Inbox::Message { incoming, arrived: now };
        while let Some(inbox) = self.hub.inbox(&self.profile.client) {
            match inbox.send(message).await {
                Ok(()) => return,
                // The call's task ended in between: another is started.
                Err(mpsc::error::SendError(returned)) => message = returned,
            }
        }
    }

    /// Hands an Opus packet of the device to its lane. What the lane has no place for, or no session, is dropped.
    pub fn hear(&self, opus: Bytes, timestamp: u32) {
        let devices = lock(&self.hub.devices);
        let actor = devices.by_client.get(&*self.profile.client).and_then(|device| device.actor.as_ref());
        let media = actor.and_then(|actor| actor.media);
        drop(devices);
        let sent = media.map(|media| self.hub.plane.send(media, MediaCommand::Uplink { opus, timestamp }));
        if !matches!(sent, Some(Ok(()))) {
            self.hub.registry.counters.add(Counter::AudioDropped);
        }
    }

    fn may_hello(&self, now: Time) -> bool {
        let device_may = lock(&self.hub.hellos).take(Arc::clone(&self.profile.client), now);
        let network_may = |ip| lock(&self.hub.networks).take(network_of(ip), now);
        device_may && self.profile.ip.is_none_or(network_may)
    }

    fn answer(&self, text: String) {
        if let Some(outlet) = self.outlet.upgrade() {
            let topic = Arc::clone(&self.profile.topic);
            let outgoing = Outgoing { topic, content: Content::Text(text), receipt: None };
            let _ = outlet.try_send(Box::new(outgoing));
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.hub.detach(&self.profile.client, self.generation);
    }
}
