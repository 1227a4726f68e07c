//! A call that must feel nothing of what is done to the gateway and to others: a device that talks and listens all the
//! while, and looks at each packet that comes back.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{Opener, Sealer};
use evenkeel_device::control::Control;
use evenkeel_device::identity::Identity;
use evenkeel_device::session::{Hello, Session};
use evenkeel_gateway::run::Gateway;
use serde_json::{Value, json};

use super::parrot::missed;
use super::{KEY, PATIENCE, eventually, until, whole};

const FRAME: Duration = Duration::from_millis(60);

/// Of SILK, 60 ms, with its flags of voice activity; its number follows.
const VOICE: [u8; 2] = [0x58, 0xe0];
const LEN: usize = 90;

/// Packets that one thread may lose and another not, where a machine stands still: a third of a second.
const STUMBLE: u64 = 5;

/// See the [module](self).
pub struct Bystander {
    /// A call like this one with a gateway that nobody attacks: what that one loses at the same time is the machine's fault.
    witness: Option<Box<(Gateway, Bystander)>>,
    /// Where it sends its audio, and under which id.
    pub server: SocketAddr,
    pub connection_id: u32,
    /// The sequence it sent last, and the datagram.
    pub sequence: Arc<AtomicU32>,
    pub last: Arc<Mutex<Vec<u8>>>,
    heard: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    missed_before: u64,
    talking: JoinHandle<Talk>,
    told: Arc<Mutex<Vec<Value>>>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Talk {
    said: u32,
    /// Sequence and number of each packet that came.
    heard: Vec<(u32, u32)>,
    /// What came and was not for it.
    broken: u64,
}

impl Bystander {
    /// Calls a gateway that has `room.loopback`, and waits until audio goes both ways.
    pub async fn call(gateway: &Gateway, features: Value) -> Self {
        let calm = whole(&[("room.loopback", "true"), ("media.lanes", "1")]).await;
        let witness = Self::dial(&calm, json!({})).await;
        Self { witness: Some(Box::new((calm, witness))), ..Self::dial(gateway, features).await }
    }

    async fn dial(gateway: &Gateway, features: Value) -> Self {
        let mut features = features;
        features["loopback"] = true.into();
        let server = gateway.started().mqtt[0].to_string();
        let mut control = Control::connect(&server, &Identity::numbered(7, 77, Some(KEY))).await.unwrap();
        let session = control.hello(&Hello { features: Some(features) }).await.unwrap();
        control.listen(&session, "realtime").await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let messages = Arc::clone(&told);
        let listening = tokio::spawn(async move {
            while let Ok(message) = control.next().await {
                messages.lock().unwrap().push(message);
            }
            messages.lock().unwrap().push(json!({"type": "closed"}));
        });
        let (sequence, last) = (Arc::default(), Arc::default());
        let (heard, stop) = (Arc::default(), Arc::default());
        let device = Device {
            socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
            sealer: session.sealer(),
            opener: session.opener(),
            sequence: Arc::clone(&sequence),
            last: Arc::clone(&last),
            heard: Arc::clone(&heard),
            stop: Arc::clone(&stop),
        };
        let (server, connection_id) = (session.server, session.connection_id());
        let missed_before = missed(gateway);
        let talking = std::thread::spawn(move || device.talk(&session));
        let bystander = Self {
            witness: None,
            server,
            connection_id,
            sequence,
            last,
            heard,
            stop,
            missed_before,
            talking,
            told,
            listening,
        };
        bystander.hears(3).await;
        bystander
    }

    /// Waits until it has heard so many packets more.
    pub async fn hears(&self, more: u64) {
        let before = self.heard.load(Ordering::Relaxed);
        until(|| self.heard.load(Ordering::Relaxed) >= before + more).await;
    }

    /// Hangs up. It must have heard every packet that it said, as it was, in order and without a gap, and nothing else; and have
    /// been told of nothing but that it is spoken to.
    ///
    /// On a machine that stands still, some are too late to be sent. Then the gateway must know, and the witness must have lost
    /// some too, though not the same ones: it has a thread of its own.
    pub async fn felt_nothing(mut self, gateway: &Gateway) {
        let excused = match self.witness.take().map(|witness| *witness) {
            Some((calm, witness)) => witness.end(&calm).await + STUMBLE,
            None => u64::MAX,
        };
        let missing = self.end(gateway).await;
        assert!(
            missing <= excused,
            "{missing} are missing, and no more than {excused} would be without the attack"
        );
    }

    /// Returns how many packets were too late to be sent.
    async fn end(self, gateway: &Gateway) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let talk = tokio::task::spawn_blocking(move || self.talking.join().unwrap()).await.unwrap();
        self.listening.abort();
        let told = self.told.lock().unwrap().clone();
        let is_tts = |message: &Value| message["type"] == "tts";
        assert!(told.iter().all(is_tts), "{told:?}");
        let starts = told.iter().filter(|message| message["state"] == "start").count();
        assert_eq!((talk.broken, starts), (0, 1), "{told:?}");
        let pairs = || talk.heard.windows(2);
        assert!(pairs().all(|pair| pair[1].0 == pair[0].0 + 1), "no gap by us: {:?}", talk.heard);
        assert!(pairs().all(|pair| pair[1].1 > pair[0].1), "in order, none twice: {:?}", talk.heard);
        let missing = u64::from(talk.said) - talk.heard.len() as u64;
        let all = format!("{missing} of {} are missing: {:?}", talk.said, talk.heard);
        let is_known = eventually(async || missing <= missed(gateway) - self.missed_before);
        assert!(is_known.await, "{all}");
        missing
    }
}

struct Device {
    socket: UdpSocket,
    sealer: Sealer,
    opener: Opener,
    sequence: Arc<AtomicU32>,
    last: Arc<Mutex<Vec<u8>>>,
    heard: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Device {
    fn talk(mut self, session: &Session) -> Talk {
        self.socket.connect(session.server).unwrap();
        self.socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let (mut talk, mut due) = (Talk::default(), Instant::now());
        let mut stopped = None;
        loop {
            let now = Instant::now();
            if self.stop.load(Ordering::Relaxed) {
                let since = now - *stopped.get_or_insert(now);
                let has_all = talk.heard.len() == talk.said as usize;
                if since > PATIENCE / 10 || (has_all && since > FRAME) {
                    return talk;
                }
            } else if due <= now {
                self.say(talk.said);
                talk.said += 1;
                // Who stood still goes on from there: what is said at once would be too much at once.
                due = if now - due > FRAME { now + FRAME } else { due + FRAME };
            }
            self.hear(&mut talk);
        }
    }

    fn say(&mut self, number: u32) {
        let mut datagram = vec![0; LEN + self.sealer.overhead()];
        let opus = &mut datagram[HEADER_LEN..HEADER_LEN + LEN];
        opus[..2].copy_from_slice(&VOICE);
        opus[2..6].copy_from_slice(&number.to_be_bytes());
        let (header, len) = self.sealer.seal_echo(&mut datagram, LEN, 0).unwrap();
        self.socket.send(&datagram[..len]).unwrap();
        datagram.truncate(len);
        *self.last.lock().unwrap() = datagram;
        self.sequence.store(header.sequence, Ordering::Relaxed);
    }

    fn hear(&mut self, talk: &mut Talk) {
        let mut datagram = [0; 1500];
        let Ok(len) = self.socket.recv(&mut datagram) else { return };
        let opened = self.opener.open(&mut datagram[..len]).ok();
        let opened = opened.filter(|opened| opened.payload.len() == LEN && opened.payload[..2] == VOICE);
        let Some(opened) = opened.filter(|opened| opened.payload[6..] == [0; LEN - 6]) else {
            talk.broken += 1;
            return;
        };
        let number = opened.payload[2..6].iter().fold(0, |all, &byte| all << 8 | u32::from(byte));
        talk.heard.push((opened.header.sequence, number));
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
}
