//! Devices behind an external MQTT broker: the gateway is its client, as one of several in a shared subscription.
//!
//! The broker knows which devices are there and let them in; here a device is whoever said something lately. While the
//! broker is out of reach, calls hold on as they do when a device's own connection drops.

pub mod ingest;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, Publish};
use rumqttc::{AsyncClient, Event, EventLoop, IncomingPacketSizeLimit, MqttOptions, PublishOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::control::{Content, Hub, OUTLET_CAPACITY, Outgoing, Outlet};
use crate::device::credentials::{ClientId, Identity};
use crate::ops::counters::Counter;

/// How the broker is reached, and which topics are whose.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// TLS, if the broker wants it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Our client id; empty means a random one.
    pub client_id: String,
    /// User name and password, if the broker wants them.
    pub credentials: Option<(String, String)>,
    /// The filters to subscribe to, shared groups included.
    pub filters: Vec<String>,
    /// Whether a device's topic ends in its whole client id, not its MAC.
    pub topic_by_client: bool,
    /// How long a device that says nothing, and has no call, is remembered.
    pub forget_after: Duration,
}

/// Messages of one device that wait for its call.
const MAILBOX: usize = 32;
/// Devices remembered. Beyond it, new ones are not heard until others are forgotten.
const MAX_DEVICES: usize = 200_000;
/// Waits between attempts to reach the broker.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// See the [module](self).
pub struct BrokerClient {
    config: BrokerConfig,
    hub: Arc<Hub>,
    client: AsyncClient,
    outlet: Outlet,
    connected: Arc<AtomicBool>,
    devices: HashMap<String, Device>,
}

struct Device {
    identity: Identity,
    /// Where its messages go; gone while the broker is.
    mailbox: Option<mpsc::Sender<Vec<u8>>>,
    heard: Instant,
}

impl std::fmt::Debug for BrokerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerClient").field("config", &self.config).finish_non_exhaustive()
    }
}

impl BrokerClient {
    /// Serves the devices behind the broker until cancelled.
    pub async fn run(config: BrokerConfig, hub: Arc<Hub>) {
        let (client, events) =
            AsyncClient::builder(options(&config, hub.config.limits.bytes)).capacity(256).build();
        let connected = Arc::new(AtomicBool::new(false));
        let (outlet, outbox) = mpsc::channel(16 * OUTLET_CAPACITY);
        let publisher = tokio::spawn(publish(client.clone(), outbox, Arc::clone(&connected)));
        // Ends with this future, however that ends.
        let _guard = AbortOnDrop(publisher);
        let mut broker = Self { config, hub, client, outlet, connected, devices: HashMap::new() };
        broker.poll(events).await;
    }

    async fn poll(&mut self, mut events: EventLoop) {
        let mut retry = FIRST_RETRY;
        let mut sweep = tokio::time::interval(self.config.forget_after.max(Duration::from_secs(4)) / 4);
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                _ = sweep.tick() => {
                    self.forget();
                    continue;
                }
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    retry = FIRST_RETRY;
                    self.connected();
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.heard(&publish),
                Ok(_) => {}
                Err(error) => {
                    self.lost();
                    tracing::warn!(%error, "the broker is out of reach");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    fn connected(&mut self) {
        self.connected.store(true, Ordering::Relaxed);
        tracing::info!(host = self.config.host, "connected to the broker");
        for filter in &self.config.filters {
            if let Err(error) = self.client.try_subscribe(filter.as_str(), QoS::AtMostOnce) {
                tracing::error!(%error, filter, "not subscribed");
            }
        }
        let mut devices = std::mem::take(&mut self.devices);
        for device in devices.values_mut() {
            device.mailbox = Some(self.attach(device.identity.clone()));
        }
        self.devices = devices;
    }

    /// Every device lost its connection, as far as calls are concerned.
    fn lost(&mut self) {
        self.connected.store(false, Ordering::Relaxed);
        for device in self.devices.values_mut() {
            device.mailbox = None;
        }
    }

    fn heard(&mut self, publish: &Publish) {
        let properties = publish.properties.as_ref().map_or(&[][..], |p| &p.user_properties);
        let limits = self.hub.config.limits;
        let (client, said) = match ingest::parse(&publish.payload, properties, limits) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::debug!(%error, "a message from the broker was not taken");
                return self.hub.registry.counters.add(Counter::BadMessages);
            }
        };
        let mailbox = self.mailbox(client);
        if mailbox.is_none_or(|mailbox| mailbox.try_send(said).is_err()) {
            self.hub.registry.counters.add(Counter::MessageRate);
        }
    }

    /// Where messages of this device go; it is attached if it was not known.
    fn mailbox(&mut self, client: ClientId) -> Option<mpsc::Sender<Vec<u8>>> {
        let known = self
            .devices
            .get(&client.text)
            .is_some_and(|device| device.mailbox.as_ref().is_some_and(|mailbox| !mailbox.is_closed()));
        if !known {
            if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&client.text) {
                return None;
            }
            let identity = Identity { client: client.clone(), provisioned_ip: None };
            let mailbox = Some(self.attach(identity.clone()));
            self.devices.insert(client.text.clone(), Device { identity, mailbox, heard: Instant::now() });
        }
        match self.devices.entry(client.text) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().heard = Instant::now();
                entry.get().mailbox.clone()
            }
            Entry::Vacant(_) => None,
        }
    }

    fn attach(&self, identity: Identity) -> mpsc::Sender<Vec<u8>> {
        let client = &identity.client;
        let name = if self.config.topic_by_client { client.text.clone() } else { client.mac.underscored() };
        let topic = format!("devices/p2p/{name}");
        let (mailbox, mut messages) = mpsc::channel::<Vec<u8>>(MAILBOX);
        let (outlet, outbox) = mpsc::channel(OUTLET_CAPACITY);
        let mut attachment = self.hub.attach(identity, topic, None, outlet);
        let shared = self.outlet.clone();
        tokio::spawn(async move {
            let forward = tokio::spawn(forward(outbox, shared));
            let _guard = AbortOnDrop(forward);
            while let Some(said) = messages.recv().await {
                attachment.deliver(&said).await;
            }
        });
        mailbox
    }

    fn forget(&mut self) {
        let (hub, limit) = (&self.hub, self.config.forget_after);
        self.devices.retain(|client, device| device.heard.elapsed() < limit || hub.status(client).1);
    }
}

/// Moves what one device is told to the one connection.
async fn forward(mut outbox: mpsc::Receiver<Box<Outgoing>>, shared: Outlet) {
    while let Some(outgoing) = outbox.recv().await {
        if shared.send(outgoing).await.is_err() {
            return;
        }
    }
}

/// Publishes in order, and says so once the broker's socket took it.
async fn publish(client: AsyncClient, mut outbox: mpsc::Receiver<Box<Outgoing>>, connected: Arc<AtomicBool>) {
    while let Some(mut outgoing) = outbox.recv().await {
        // What is said while the broker is away would come too late: calls say again what matters.
        if !connected.load(Ordering::Relaxed) {
            continue;
        }
        let Content::Text(text) = std::mem::replace(&mut outgoing.content, Content::Text(String::new()))
        else {
            continue;
        };
        let options = PublishOptions::new(QoS::AtMostOnce);
        let topic = outgoing.topic.to_string();
        if outgoing.receipt.is_none() {
            if let Err(error) = client.publish(topic, text, options).await {
                tracing::debug!(%error, "not published");
            }
            continue;
        }
        match client.publish_tracked(topic, text, options).await {
            Ok(notice) => {
                tokio::spawn(async move {
                    if notice.wait_async().await.is_ok() {
                        outgoing.written();
                    }
                });
            }
            Err(error) => tracing::debug!(%error, "not published"),
        }
    }
}

fn options(config: &BrokerConfig, max_message: usize) -> MqttOptions {
    let client_id = if config.client_id.is_empty() { random_id() } else { config.client_id.clone() };
    let mut options = MqttOptions::new(client_id, (config.host.clone(), config.port));
    options.set_keep_alive(30);
    // Room for an envelope, its topic and its properties.
    let limit = u32::try_from(max_message + 8192).unwrap_or(u32::MAX);
    options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(limit));
    if let Some((user, password)) = &config.credentials {
        options.set_credentials(user.clone(), password.clone());
    }
    if let Some(tls) = &config.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    options
}

fn random_id() -> String {
    let mut bytes = [0; 8];
    // All zeros would only mean that a second gateway takes the first one's place, which the broker's log tells.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    format!("evenkeel-{:016x}", u64::from_be_bytes(bytes))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
