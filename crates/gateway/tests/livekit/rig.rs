//! A gateway with lanes and a LiveKit server behind it, and a device in a call.

#![allow(unreachable_pub)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::Sealer;
use evenkeel_device::control::Control;
use evenkeel_device::ear::{Ear, Heard, Listening};
use evenkeel_device::identity::Identity;
use evenkeel_device::session::{Hello, Session};
use evenkeel_gateway::config::{Config, RoomKind};
use evenkeel_gateway::ops::counters::Counter;
use evenkeel_gateway::run;
use evenkeel_sys::clock;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::common::{PATIENCE, Server, api, audio};

pub struct Gateway {
    running: run::Gateway,
}

impl Gateway {
    pub async fn start(server: &Server, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.room.kind = RoomKind::Livekit;
        config.livekit.url = server.url();
        config.livekit.api_key = api().key;
        config.livekit.api_secret = api().secret.as_str().into();
        config.mqtt.listen = vec![([127, 0, 0, 1], 0).into()];
        config.media.udp_address = "127.0.0.1".into();
        config.media.udp_port = 0;
        config.media.lanes = 2;
        config.operations.listen.clear();
        config.web.listen.clear();
        config.mcp.enabled = false;
        change(&mut config);
        Self { running: run::Gateway::start(config).await.unwrap() }
    }

    /// What was counted.
    pub fn count(&self, counter: Counter) -> u64 {
        self.running.hub().registry.counters.get(counter)
    }

    /// How many cores the lanes use.
    pub fn load(&self) -> f64 {
        self.running.hub().plane.lanes().iter().map(|lane| f64::from(lane.load)).sum()
    }

    /// How many calls there are.
    pub fn live(&self) -> usize {
        self.running.hub().registry.live()
    }

    fn address(&self) -> String {
        self.running.started().mqtt[0].to_string()
    }
}

/// A device with a session.
pub struct Call {
    control: Control,
    session: Session,
    identity: Identity,
    socket: Arc<UdpSocket>,
    sealer: Sealer,
    ears: Arc<Mutex<Ears>>,
    listener: tokio::task::JoinHandle<()>,
}

struct Ears {
    packets: Vec<Vec<u8>>,
    listening: Listening,
    ear: Ear,
}

impl Call {
    pub async fn begin(gateway: &Gateway, number: u32) -> Self {
        let identity = Identity::numbered(number, 9, None);
        let mut control = Control::connect(&gateway.address(), &identity).await.unwrap();
        let session = control.hello(&Hello::default()).await.unwrap();
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        socket.connect(session.server).await.unwrap();
        let ear = Ear::new(Duration::from_millis(60));
        let ears = Ears { packets: Vec::new(), listening: Listening::default(), ear };
        let ears = Arc::new(Mutex::new(ears));
        let mut opener = session.opener();
        let (listener, shared) = (Arc::clone(&socket), Arc::clone(&ears));
        let listener = tokio::spawn(async move {
            let mut datagram = [0; 2000];
            while let Ok(len) = listener.recv(&mut datagram).await {
                let at = clock::now();
                let Ok(opened) = opener.open(&mut datagram[..len]) else { continue };
                let mut ears = shared.lock().unwrap();
                let Ears { packets, listening, ear } = &mut *ears;
                ear.hear(listening, at, opened.header.sequence);
                packets.push(opened.payload.to_vec());
            }
        });
        let sealer = session.sealer();
        let mut call = Self { control, session, identity, socket, sealer, ears, listener };
        // The gateway sends where the first packet came from.
        call.send(&[0x58]).await;
        let listen = json!({"type": "listen", "state": "start", "mode": "auto"});
        call.say(listen).await;
        call
    }

    /// The name of its room.
    pub fn room(&self) -> String {
        let mut parts = self.identity.client_id.split("@@@").skip(1);
        let mac = parts.next().unwrap().replace('_', "");
        let session: String = self.session.id.chars().filter(|c| *c != '-').take(8).collect();
        format!("{}_{mac}_{session}", parts.next().unwrap())
    }

    pub async fn say(&mut self, mut message: Value) {
        message["session_id"] = self.session.id.as_str().into();
        self.control.say(&message).await.unwrap();
    }

    async fn send(&mut self, opus: &[u8]) {
        let mut datagram = vec![0; opus.len() + self.sealer.overhead()];
        datagram[HEADER_LEN..HEADER_LEN + opus.len()].copy_from_slice(opus);
        self.sealer.seal_echo(&mut datagram, opus.len(), 0).unwrap();
        self.socket.send(&datagram).await.unwrap();
    }

    pub async fn hang_up(self) {
        self.control.goodbye(Some(&self.session.id)).await;
        self.listener.abort();
    }

    /// Sends packets of 60 ms, on time.
    pub async fn talk(&mut self, packets: &[Vec<u8>]) {
        let mut ticks = interval(Duration::from_millis(60));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for packet in packets {
            ticks.tick().await;
            self.send(packet).await;
        }
    }

    /// The next message of this type; others are passed over.
    pub async fn hear(&mut self, kind: &str) -> Value {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let message = self.control.next().await.unwrap();
                if message["type"] == kind {
                    return message;
                }
                seen.push(message.to_string());
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(message) => message,
            Err(_) => panic!("no {kind} came; seen: {seen:#?}"),
        }
    }

    pub fn packets(&self) -> usize {
        self.ears.lock().unwrap().packets.len()
    }

    pub async fn until_packets(&self, count: usize) {
        let wait = async {
            while self.packets() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{} packets, {count} awaited", self.packets()));
    }

    /// All that was heard, as samples.
    pub fn heard(&self) -> Vec<f32> {
        let mut at = 0;
        let place = |packet: &Vec<u8>| {
            let frames = evenkeel_core::framing::Frames::parse(packet).unwrap();
            let placed = (at, packet.clone());
            at += u64::from(frames.duration_us()) * 48 / 1000;
            placed
        };
        let packets: Vec<_> = self.ears.lock().unwrap().packets.iter().map(place).collect();
        audio::decode(&packets)
    }

    /// How evenly it came.
    pub fn gaps(&self) -> Heard {
        self.ears.lock().unwrap().ear.heard()
    }
}

/// Waits until `what` holds.
pub async fn until(mut what: impl FnMut() -> bool) {
    let waited = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waited).await.expect("it never came true");
}
