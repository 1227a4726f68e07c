//! A gateway on loopback without lanes, and a device that speaks MQTT byte by byte.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test file uses its part"
)]

pub mod bystander;
pub mod metrics;
pub mod mosquitto;
pub mod parrot;
pub mod sound;
pub mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_gateway::config::{Config, Sources};
use evenkeel_gateway::control::{Clock, Hub, HubConfig, RoomMaker};
use evenkeel_gateway::device::credentials::{Gatekeeper, sign};
use evenkeel_gateway::device::mqtt::{Endpoint, EndpointConfig};
use evenkeel_gateway::media::{
    EventSender, LaneReport, MediaCommand, MediaEvent, MediaId, MediaPlane, PlaceError, Placement, SendError,
    events,
};
use evenkeel_gateway::ops::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const KEY: &str = "Sig-Key-7";

/// Lanes that do nothing but remember what they were told.
#[derive(Default)]
pub struct Lanes {
    serial: AtomicU64,
    pub told: Mutex<Vec<(MediaId, MediaCommand)>>,
}

impl MediaPlane for Lanes {
    fn place(&self) -> Result<Placement, PlaceError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let media = MediaId { lane: 0, serial };
        Ok(Placement { media, host: "127.0.0.1".into(), port: 8884, connection_id: serial as u32 + 1 })
    }

    fn release(&self, _: MediaId) {}

    fn send(&self, media: MediaId, command: MediaCommand) -> Result<(), SendError> {
        self.told.lock().unwrap().push((media, command));
        Ok(())
    }

    fn lanes(&self) -> Vec<LaneReport> {
        vec![LaneReport::default()]
    }
}

impl Lanes {
    /// The names of the commands so far, in order.
    pub fn names(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let name = |text: String| text.split(['(', ' ']).next().unwrap().to_owned();
        told.iter().map(|(_, command)| name(format!("{command:?}"))).collect()
    }
}

pub struct Gateway {
    pub hub: Arc<Hub>,
    pub lanes: Arc<Lanes>,
    pub address: SocketAddr,
    lane: Mutex<EventSender>,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::with(RoomMaker::Echo, HubConfig::default(), EndpointConfig::default(), None).await
    }

    pub async fn with(
        rooms: RoomMaker,
        config: HubConfig,
        endpoint: EndpointConfig,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let lanes = Arc::new(Lanes::default());
        let gatekeeper = Gatekeeper::new(Some(KEY));
        let registry = Arc::new(Registry::default());
        let hub = Hub::new(config, gatekeeper, rooms, lanes.clone(), Clock::start(), registry);
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), tls, endpoint, hub.clone()).unwrap();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(endpoint.run());
        let (lane, receiver) = events(1024);
        tokio::spawn(hub.clone().run_events(receiver));
        Self { hub, lanes, address, lane: Mutex::new(lane) }
    }

    pub fn report(&self, serial: u64, event: MediaEvent) {
        let mut lane = self.lane.lock().unwrap();
        assert!(lane.push(MediaId { lane: 0, serial }, event));
        lane.wake();
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A device that was let in.
    pub async fn device(&self, number: u8) -> Device<TcpStream> {
        Device::connect(self.tcp().await, number).await
    }
}

pub struct Device<S> {
    pub stream: S,
    pub session: Option<String>,
}

pub fn client_id(number: u8) -> String {
    format!("GID@@@aa_bb_cc_dd_ee_{number:02x}@@@uuid-{number}")
}

pub fn connect_packet(client_id: &str, username: &str, password: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\xc2\0\xf0".to_vec();
    for field in [client_id, username, password] {
        body.extend_from_slice(&(field.len() as u16).to_be_bytes());
        body.extend_from_slice(field.as_bytes());
    }
    packet(0x10, &body)
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

/// What a device may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl<S: AsyncRead + AsyncWrite + Unpin> Device<S> {
    pub async fn connect(stream: S, number: u8) -> Self {
        let mut device = Self { stream, session: None };
        let (id, user) = (client_id(number), "eyJpcCI6IjEuMi4zLjQifQ==");
        device.send(&connect_packet(&id, user, &sign(KEY, &id, user))).await;
        assert_eq!(device.read().await, Some((0x20, vec![0, 0])));
        device
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn say(&mut self, message: Value) {
        let mut body = b"\0\x0ddevice-server".to_vec();
        body.extend_from_slice(message.to_string().as_bytes());
        self.send(&packet(0x30, &body)).await;
    }

    /// The next packet; `None` when the connection was closed.
    pub async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.stream.read_u8().await.ok()?;
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("nothing came")
    }

    /// The next message, which must be pushed on the device's own topic.
    pub async fn hear(&mut self) -> Value {
        let (first, body) = self.read().await.expect("closed");
        assert_eq!(first, 0x30);
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        assert!(body[2..2 + topic].starts_with(b"devices/p2p/aa_bb_cc_dd_ee_"));
        serde_json::from_slice(&body[2 + topic..]).unwrap()
    }

    pub async fn hello(&mut self) -> Value {
        self.say(json!({"type": "hello", "version": 3, "transport": "udp"})).await;
        let answer = self.hear().await;
        self.session = answer["session_id"].as_str().map(str::to_owned);
        answer
    }

    pub async fn is_closed(&mut self) -> bool {
        self.read().await.is_none()
    }
}

/// Waits until `what` holds.
pub async fn until(what: impl Fn() -> bool) {
    assert!(eventually(async || what()).await, "it never came true");
}

/// Whether `what` holds some time. It is looked at so many times rather than for so long, as a machine may stand still.
pub async fn eventually(what: impl AsyncFn() -> bool) -> bool {
    const TURN: Duration = Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / TURN.as_millis() {
        if what().await {
            return true;
        }
        tokio::time::sleep(TURN).await;
    }
    false
}

/// Resident memory, in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Raises the limit of open files. `false`, with the reason printed, where so many connections cannot be had.
pub fn may_open(connections: usize) -> bool {
    let wanted = connections as u64 + 1000;
    let enough = evenkeel_sys::limits::raise_open_files().is_none_or(|limit| limit >= wanted);
    if !enough {
        evenkeel_testkit::tools::skip(&format!("this user may not open {wanted} files"));
    }
    enough
}

/// A whole gateway on ports of loopback that are free, with [`KEY`] and these settings.
pub async fn whole(settings: &[(&str, &str)]) -> evenkeel_gateway::run::Gateway {
    let ours = [
        ("mqtt.listen", "127.0.0.1:0"),
        ("media.udp_address", "127.0.0.1"),
        ("media.udp_port", "0"),
        ("operations.listen", "127.0.0.1:0"),
        ("web.listen", "127.0.0.1:0"),
        ("management.listen", "127.0.0.1:0"),
        ("devices.signature_key", KEY),
    ];
    let flags = ours.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = Config::load(&Sources { flags: flags.collect(), ..Sources::default() }).unwrap();
    evenkeel_gateway::run::Gateway::start(config).await.unwrap()
}

/// A rate that no test reaches.
pub fn often() -> evenkeel_gateway::device::limits::Rate {
    evenkeel_gateway::device::limits::Rate { burst: 1_000_000, per_second: 1e6 }
}
