//! A device: what it says, what it hears and when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::Sealer;
use evenkeel_core::units::Time;
use evenkeel_device::control::Control;
use evenkeel_device::ear::{Ear, Listening};
use evenkeel_device::identity::Identity;
use evenkeel_device::session::{Hello, Session};
use evenkeel_sys::clock;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::common::PATIENCE;

/// The duration of the packets it says and hears.
pub(crate) const PACKET: Duration = Duration::from_millis(60);

/// Who the device of this number is.
pub(crate) fn identity(number: u32) -> Identity {
    Identity::numbered(number, 11, None)
}

/// The room of the device of this number, where rooms are called `{uuid}_{mac}`.
pub(crate) fn room(number: u32) -> String {
    let identity = identity(number);
    let mut parts = identity.client_id.split("@@@").skip(1);
    let mac = parts.next().unwrap().replace('_', "");
    format!("{}_{mac}", parts.next().unwrap())
}

/// A device with a session, and its ears open.
pub(crate) struct Device {
    socket: Arc<UdpSocket>,
    sealer: Sealer,
    ears: Arc<Mutex<Ears>>,
    listener: AbortHandle,
    _control: Option<Control>,
}

struct Ears {
    listening: Listening,
    ear: Ear,
    first: Option<Time>,
    /// What came, where it is kept.
    packets: Option<Vec<Vec<u8>>>,
}

impl Device {
    /// Says hello to a gateway, and listens. `keeps` what it hears.
    pub(crate) async fn call(mqtt: &str, number: u32, keeps: bool) -> Self {
        let mut control = Control::connect(mqtt, &identity(number)).await.unwrap();
        let session = control.hello(&Hello::default()).await.unwrap();
        let mut device = Self::begin(&session, keeps).await;
        control.listen(&session, "auto").await.unwrap();
        device._control = Some(control);
        device
    }

    /// With a session that was come by in another way.
    pub(crate) async fn begin(session: &Session, keeps: bool) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        socket.connect(session.server).await.unwrap();
        let packets = keeps.then(Vec::new);
        let ears = Ears { listening: Listening::default(), ear: Ear::new(PACKET), first: None, packets };
        let ears = Arc::new(Mutex::new(ears));
        let mut opener = session.opener();
        let (heard, noted) = (Arc::clone(&socket), Arc::clone(&ears));
        let listener = tokio::spawn(async move {
            let mut datagram = [0; 2000];
            while let Ok(len) = heard.recv(&mut datagram).await {
                let at = clock::now();
                let Ok(opened) = opener.open(&mut datagram[..len]) else { continue };
                let Ears { listening, ear, first, packets } = &mut *noted.lock().unwrap();
                ear.hear(listening, at, opened.header.sequence);
                first.get_or_insert(at);
                packets.iter_mut().for_each(|packets| packets.push(opened.payload.to_vec()));
            }
        });
        let (sealer, listener) = (session.sealer(), listener.abort_handle());
        let mut device = Self { socket, sealer, ears, listener, _control: None };
        // The gateway sends where the first packet came from.
        device.say(&[0x58]).await;
        device
    }

    async fn say(&mut self, opus: &[u8]) {
        let mut datagram = vec![0; opus.len() + self.sealer.overhead()];
        datagram[HEADER_LEN..HEADER_LEN + opus.len()].copy_from_slice(opus);
        self.sealer.seal_echo(&mut datagram, opus.len(), 0).unwrap();
        self.socket.send(&datagram).await.unwrap();
    }

    /// When the first packet came.
    pub(crate) async fn first_audio(&self) -> Time {
        let wait = async {
            loop {
                if let Some(first) = self.ears.lock().unwrap().first {
                    return first;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("audio in time")
    }

    /// Says packets of 60 ms, on time.
    pub(crate) async fn talk(&mut self, packets: impl IntoIterator<Item = &Vec<u8>>) {
        let mut ticks = interval(PACKET);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for packet in packets {
            ticks.tick().await;
            self.say(packet).await;
        }
    }

    /// What it kept, oldest first.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        self.ears.lock().unwrap().packets.clone().unwrap_or_default()
    }

    /// A way to look at it while it talks.
    pub(crate) fn watch(&self) -> Watch {
        Watch { ears: Arc::clone(&self.ears) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// See [`Device::watch`].
pub(crate) struct Watch {
    ears: Arc<Mutex<Ears>>,
}

impl Watch {
    /// What it noticed since this was asked last.
    pub(crate) fn take(&self) -> Ear {
        std::mem::replace(&mut self.ears.lock().unwrap().ear, Ear::new(PACKET))
    }
}
