//! One device with real audio and, if wished, a bad network between it and the gateway: what `evenkeel call` runs.
//!
//! The codec is the caller's: packets go in as Opus and what was heard comes out as Opus.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use evenkeel_core::framing::Frames;
use evenkeel_core::packet::HEADER_LEN;
use evenkeel_core::seal::{Opener, Sealer};
use evenkeel_core::units::Time;
use evenkeel_sys::clock;
use evenkeel_sys::thread::{MediaThread, spawn};
use evenkeel_sys::udp::{BufferSizes, Receiver, Sender, Socket};
use evenkeel_sys::wait::{Trigger, Waiter};
use evenkeel_testkit::network::{InvalidNetwork, Network, NetworkConfig, NetworkStats};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::DeviceError;
use crate::control::Control;
use crate::ear::{Ear, Heard, Listening};
use crate::identity::Identity;
use crate::session::{Hello, Session};

/// What a device sends lasts this long.
pub const FRAME: Duration = Duration::from_millis(60);

/// How long packets under way are waited for at the end.
const LINGER: Duration = Duration::from_millis(300);

/// How long a reply may be silent at least before it counts as over.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// A reply that lasts longer is one that never ends.
const LONGEST_REPLY: Duration = Duration::from_secs(300);

/// How often a device says that it is still there.
const PING: Duration = Duration::from_secs(60);

/// One call.
#[derive(Clone, Debug)]
pub struct CallConfig {
    /// The gateway's MQTT endpoint, `host:port`, without TLS.
    pub server: String,
    /// Who calls.
    pub identity: Identity,
    /// How the device listens: `auto` (it stops talking while it is spoken to), `manual` or `realtime` (it does not).
    pub mode: String,
    /// `features` of its hello.
    pub features: Option<Value>,
    /// What the network does to what it says.
    pub up: NetworkConfig,
    /// What the network does to what it hears.
    pub down: NetworkConfig,
    /// The same seed loses the same packets.
    pub seed: u64,
    /// How long after its last word a reply is waited for.
    pub reply_limit: Duration,
}

/// What a device says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speech {
    /// Opus packets of 60 ms at 16 kHz, mono.
    pub packets: Vec<Vec<u8>>,
    /// A packet of silence, sent again and again once all are said, as a device does that still listens.
    pub silence: Option<Vec<u8>>,
}

/// What came of a call.
#[derive(Debug)]
pub struct Held {
    /// The figures.
    pub report: CallReport,
    /// What was granted; with its keys the datagrams can be opened.
    pub session: Session,
    /// The datagrams that came, still sealed, in order of arrival.
    pub datagrams: Vec<HeardDatagram>,
}

/// The figures of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallReport {
    /// From `hello` to its answer.
    pub hello_ms: f64,
    /// From the first packet said to the first heard; `None` if none was.
    pub first_audio_ms: Option<f64>,
    /// From the last packet with voice before the first heard, to that.
    pub answer_ms: Option<f64>,
    /// Packets said.
    pub said: u64,
    /// How late this process itself was in saying one at most: where this is large, the other figures say little.
    pub own_lateness_ms: f64,
    /// When packets came, and which did not.
    pub heard: Heard,
    /// Packets that the simulated network lost on the way up.
    pub lost_up: u64,
    /// Packets that the simulated network lost on the way down.
    pub lost_down: u64,
    /// Packets that could not be opened; copies that the network made are among them.
    pub not_opened: u64,
    /// What the gateway said, in order.
    pub messages: Vec<Message>,
}

/// A message of the gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Since the first packet was said.
    pub at_ms: f64,
    /// The message.
    pub message: Value,
}

/// A datagram that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardDatagram {
    /// Since the first packet was said.
    pub at: Duration,
    /// As it came.
    pub sealed: Vec<u8>,
}

/// Holds a call until all is said and the reply has ended.
///
/// # Errors
/// What kept the call from being held.
pub fn run(config: &CallConfig, speech: Speech) -> Result<Held, DeviceError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(DeviceError::io("a runtime"))?.block_on(hold(config, speech))
}

async fn hold(config: &CallConfig, speech: Speech) -> Result<Held, DeviceError> {
    let mut control = Control::connect(&config.server, &config.identity).await?;
    let began = Instant::now();
    let session = control.hello(&Hello { features: config.features.clone() }).await?;
    let hello_ms = began.elapsed().as_secs_f64() * 1e3;
    control.listen(&session, &config.mode).await?;

    let (tell, said_all) = mpsc::channel(1);
    let media = Media::new(config, &session, speech, tell)?;
    let (orders, waker, start) = (Arc::clone(&media.orders), media.waiter.waker(), media.start);
    let heard = Arc::clone(&media.heard);
    let wanted = MediaThread { name: "call".to_owned(), core: None, real_time: Some(1) };
    let (thread, _) = spawn(wanted, move || media.run()).map_err(DeviceError::io("a thread"))?;
    let order = |order| {
        orders.push(order);
        waker.wake();
    };

    let mut messages = Vec::new();
    let pauses = config.mode != "realtime";
    let talked = converse(&mut control, said_all, config.reply_limit, &heard, |message| {
        match speaking(&message) {
            Some(true) => order(Order::Spoken { pauses }),
            Some(false) => order(Order::Silence),
            None => {}
        }
        let at_ms = clock::now().since(start).as_secs_f64() * 1e3;
        messages.push(Message { at_ms, message });
    })
    .await;
    if talked.is_ok() {
        sleep(LINGER).await;
    }
    order(Order::Stop);
    let seen = match thread.join() {
        Ok(seen) => seen.map_err(DeviceError::io("audio"))?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    talked?;
    control.goodbye(Some(&session.id)).await;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let report = CallReport {
        hello_ms,
        first_audio_ms: seen.datagrams.first().map(|first| ms(first.at)),
        answer_ms: seen.answer.map(ms),
        said: seen.said,
        own_lateness_ms: ms(seen.own_lateness),
        heard: seen.ear.heard(),
        lost_up: seen.up.lost,
        lost_down: seen.down.lost,
        not_opened: seen.not_opened,
        messages,
    };
    Ok(Held { report, session, datagrams: seen.datagrams })
}

/// Listens to the gateway until all was said and the reply to it has ended, or none came, or no more of it.
async fn converse(
    control: &mut Control,
    mut said_all: mpsc::Receiver<()>,
    reply_limit: Duration,
    heard: &AtomicU64,
    mut hear: impl FnMut(Value),
) -> Result<(), DeviceError> {
    let (mut is_spoken_to, mut until) = (false, None);
    // A room may forget to say that its reply has ended.
    let patience = reply_limit.max(LEAST_PATIENCE);
    let (mut heard_before, mut hushed) = (0, Instant::now() + patience);
    let mut pings = interval(PING);
    loop {
        let is_over = async {
            match if is_spoken_to { Some(hushed) } else { until } {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = control.next() => {
                let message = message?;
                let speaking = speaking(&message);
                let is_goodbye = message["type"] == "goodbye";
                is_spoken_to = speaking.unwrap_or(is_spoken_to);
                hushed = Instant::now() + patience;
                hear(message);
                if is_goodbye || (speaking == Some(false) && until.is_some()) {
                    return Ok(());
                }
            }
            _ = said_all.recv(), if until.is_none() => until = Some(Instant::now() + reply_limit),
            _ = pings.tick() => control.ping().await?,
            () = is_over => {
                let so_far = heard.load(Ordering::Relaxed);
                let is_endless = until.is_some_and(|until| until + LONGEST_REPLY < Instant::now());
                if !is_spoken_to || so_far == heard_before || is_endless {
                    return Ok(());
                }
                (heard_before, hushed) = (so_far, Instant::now() + patience);
            }
        }
    }
}

/// Whether the device is spoken to from here on, if the message says so.
fn speaking(message: &Value) -> Option<bool> {
    match (message["type"].as_str(), message["state"].as_str()) {
        (Some("tts"), Some("start")) => Some(true),
        (Some("tts"), Some("stop")) => Some(false),
        _ => None,
    }
}

/// What the control side tells the audio side.
enum Order {
    /// The device is spoken to, and stops talking meanwhile if so.
    Spoken {
        pauses: bool,
    },
    /// It no longer is.
    Silence,
    Stop,
}

/// The audio side: a thread with a socket, and the bad network around it.
struct Media {
    socket: Socket,
    server: SocketAddr,
    sealer: Sealer,
    opener: Opener,
    up: Network,
    down: Network,
    speech: Speech,
    /// The next packet to say, and when.
    next: usize,
    due: Time,
    pauses: bool,
    start: Time,
    waiter: Waiter,
    orders: Arc<SegQueue<Order>>,
    said_all: Option<mpsc::Sender<()>>,
    /// Datagrams heard so far.
    heard: Arc<AtomicU64>,
    listening: Listening,
    seen: Seen,
}

struct Seen {
    ear: Ear,
    datagrams: Vec<HeardDatagram>,
    said: u64,
    own_lateness: Duration,
    last_voice: Option<Time>,
    answer: Option<Duration>,
    not_opened: u64,
    up: NetworkStats,
    down: NetworkStats,
}

impl Media {
    fn new(
        config: &CallConfig,
        session: &Session,
        speech: Speech,
        said_all: mpsc::Sender<()>,
    ) -> Result<Self, DeviceError> {
        let invalid = |error: InvalidNetwork| DeviceError::Io {
            what: "the simulated network",
            error: io::Error::new(io::ErrorKind::InvalidInput, error),
        };
        let local = match session.server {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        let buffers = BufferSizes { receive: 1 << 20, send: 1 << 20 };
        let socket = Socket::bind(local, buffers).map_err(DeviceError::io("a UDP socket"))?;
        let mut waiter = Waiter::new().map_err(DeviceError::io("a waiter"))?;
        waiter.add(&socket, 0, Trigger::Level).map_err(DeviceError::io("a waiter"))?;
        let start = clock::now();
        Ok(Self {
            socket,
            server: session.server,
            sealer: session.sealer(),
            opener: session.opener(),
            up: Network::new(config.seed, config.up).map_err(invalid)?,
            down: Network::new(!config.seed, config.down).map_err(invalid)?,
            speech,
            next: 0,
            due: start,
            pauses: false,
            start,
            waiter,
            orders: Arc::new(SegQueue::new()),
            said_all: Some(said_all),
            heard: Arc::new(AtomicU64::new(0)),
            listening: Listening::default(),
            seen: Seen {
                ear: Ear::new(Duration::from_secs_f64(session.frame_duration_ms / 1e3)),
                datagrams: Vec::new(),
                said: 0,
                own_lateness: Duration::ZERO,
                last_voice: None,
                answer: None,
                not_opened: 0,
                up: NetworkStats::default(),
                down: NetworkStats::default(),
            },
        })
    }

    fn run(mut self) -> io::Result<Seen> {
        let (mut sender, mut receiver) = (Sender::new(), Receiver::new());
        loop {
            while let Some(order) = self.orders.pop() {
                match order {
                    Order::Spoken { pauses } => self.pauses = pauses,
                    Order::Silence => {
                        self.pauses = false;
                        self.listening.pause();
                    }
                    Order::Stop => {
                        (self.seen.up, self.seen.down) = (self.up.stats(), self.down.stats());
                        return Ok(self.seen);
                    }
                }
            }
            let now = clock::now();
            self.say(now);
            while let Some((_, datagram)) = self.up.poll(now) {
                if sender.is_full() {
                    sender.send(&self.socket);
                }
                sender.push(|buffer| {
                    buffer.get_mut(..datagram.len())?.copy_from_slice(&datagram);
                    Some((self.server, datagram.len()))
                });
            }
            sender.send(&self.socket);
            while receiver.receive(&self.socket)? > 0 {
                let now = clock::now();
                for (_, datagram) in receiver.datagrams() {
                    self.down.send(now, datagram);
                }
            }
            while let Some((at, mut datagram)) = self.down.poll(clock::now()) {
                self.hear(at, &mut datagram);
            }
            let next =
                [Some(self.due), self.up.next_time(), self.down.next_time()].into_iter().flatten().min();
            self.waiter.wait(next)?;
        }
    }

    fn say(&mut self, now: Time) {
        while self.due <= now {
            self.seen.own_lateness = self.seen.own_lateness.max(now.since(self.due));
            self.due = self.due + FRAME;
            if self.pauses {
                continue;
            }
            let packet = self.speech.packets.get(self.next);
            if packet.is_none()
                && let Some(tell) = self.said_all.take()
            {
                // The control side may already have given up.
                let _ = tell.try_send(());
            }
            let Some(opus) = packet.or(self.speech.silence.as_ref()) else { continue };
            self.next += 1;
            let mut datagram = vec![0; opus.len() + self.sealer.overhead()];
            datagram[HEADER_LEN..HEADER_LEN + opus.len()].copy_from_slice(opus);
            if let Ok((_, len)) = self.sealer.seal_echo(&mut datagram, opus.len(), 0) {
                self.up.send(now, &datagram[..len]);
                self.seen.said += 1;
                if Frames::parse(opus).is_ok_and(|frames| frames.has_voice()) {
                    self.seen.last_voice = Some(now);
                }
            }
        }
    }

    fn hear(&mut self, at: Time, datagram: &mut [u8]) {
        let sealed = datagram.to_vec();
        let Ok(opened) = self.opener.open(datagram) else {
            self.seen.not_opened += 1;
            return;
        };
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.seen.ear.hear(&mut self.listening, at, opened.header.sequence);
        if self.seen.datagrams.is_empty() {
            self.seen.answer = self.seen.last_voice.map(|last| at.since(last));
        }
        self.seen.datagrams.push(HeardDatagram { at: at.since(self.start), sealed });
    }
}
