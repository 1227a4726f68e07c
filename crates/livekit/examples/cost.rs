//! What a participant costs: many of them in one thread, each against str0m as its server, both ways.
//!
//! `cargo run --release -p evenkeel-livekit --example cost -- [participants] [seconds] [udp]`
//!
//! Each hears 20 ms packets (50 a second) and sends 60 ms packets (16.7 a second). Media time is virtual, so the run
//! takes as long as the work does; the CPU time of the thread is read between the server's turn and ours, and only
//! ours is reported. With `udp` the datagrams go through sockets on loopback, else from hand to hand.
#![allow(clippy::print_stdout)]

#[path = "../tests/common/sfu.rs"]
mod sfu;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use evenkeel_livekit::participant::{AudioLevel, Event, OpusOut, Output, Participant};
use evenkeel_livekit::proto;
use evenkeel_livekit::signal::{Connections, SignalCommand, SignalEvent};
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use rustix::time::{ClockId, clock_gettime};
use sfu::{Behaviour, OURS, SERVERS, Sfu};

const TICK: Duration = Duration::from_millis(20);
/// A talkative 24 kb/s: what 20 and 60 ms of it take.
const DOWN: [u8; 60] = [0x78; 60];
const UP: [u8; 180] = [0x78; 180];

struct Pair {
    participant: Participant,
    sfu: Sfu,
    timeout: Instant,
    sockets: Option<(UdpSocket, UdpSocket)>,
    to_us: Vec<Vec<u8>>,
    to_server: Vec<Vec<u8>>,
    heard: u64,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let participants: usize = args.next().map_or(200, |a| a.parse().expect("a number of participants"));
    let seconds: u32 = args.next().map_or(20, |a| a.parse().expect("a number of seconds"));
    let udp = args.next().is_some_and(|a| a == "udp");

    let before = resident_kib();
    let mut now = Instant::now();
    let mut pairs: Vec<Pair> = (0..participants).map(|i| Pair::new(now, i as u64, udp)).collect();
    while !pairs.iter().all(|p| p.participant.is_connected()) {
        now += TICK / 4;
        pairs.iter_mut().for_each(|p| {
            p.servers_turn(now, false);
            p.our_turn(now, false);
        });
    }
    let (mut ours, mut servers) = (Duration::ZERO, Duration::ZERO);
    let ticks = seconds * 50;
    for tick in 0..ticks {
        now += TICK;
        let start = cpu();
        pairs.iter_mut().for_each(|p| p.servers_turn(now, true));
        let middle = cpu();
        // Each sends in every third tick, a third of them in each.
        let speaks = |i: usize| (tick as usize + i).is_multiple_of(3);
        pairs.iter_mut().enumerate().for_each(|(i, p)| p.our_turn(now, speaks(i)));
        servers += middle - start;
        ours += cpu() - middle;
    }
    let calls = participants as f64 * f64::from(seconds);
    let heard: u64 = pairs.iter().map(|p| p.heard).sum();
    let said: u64 = pairs.iter().map(|p| p.sfu.heard_count).sum();
    println!(
        "participants {participants}, seconds {seconds}, {}",
        if udp { "UDP sockets" } else { "in memory" }
    );
    println!("packets heard {heard} of {}, said {said}", participants as u64 * u64::from(ticks));
    println!("our CPU        {:.3} ms a second and participant", ours.as_secs_f64() * 1e3 / calls);
    println!("server's CPU   {:.3} ms a second and participant", servers.as_secs_f64() * 1e3 / calls);
    let kib = resident_kib().saturating_sub(before);
    println!("memory         {} KiB a participant and its server", kib / participants as u64);
}

impl Pair {
    fn new(now: Instant, seed: u64, udp: bool) -> Self {
        let sockets = udp.then(|| {
            let bind = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let (a, b) = (bind(), bind());
            a.connect(b.local_addr().expect("bound")).expect("connected");
            b.connect(a.local_addr().expect("bound")).expect("connected");
            a.set_nonblocking(true).expect("non-blocking");
            b.set_nonblocking(true).expect("non-blocking");
            (a, b)
        });
        let mut sfu = Sfu::new(now, Behaviour::default());
        sfu.keep_heard = false;
        let mut pair = Self {
            participant: Participant::new(now, sfu::config(), seed),
            sfu,
            timeout: now,
            sockets,
            to_us: Vec::new(),
            to_server: Vec::new(),
            heard: 0,
        };
        let join = Box::new(sfu::join_response());
        let joined = SignalEvent::Joined { connection: 1, connections: Connections::Single, join };
        pair.participant.handle_signal(now, joined);
        pair.drain(now);
        pair
    }

    fn servers_turn(&mut self, now: Instant, speak: bool) {
        let (to_us, sockets) = (&mut self.to_us, &self.sockets);
        let mut send = |bytes: Vec<u8>| match sockets {
            Some((_, server)) => drop(server.send(&bytes)),
            None => to_us.push(bytes),
        };
        if self.sfu.timeout <= now {
            self.sfu.handle(now, None, &mut send);
        }
        for bytes in self.to_server.drain(..) {
            self.sfu.handle(now, Some(&bytes), &mut send);
        }
        if let Some((_, server)) = sockets {
            receive(server, |bytes| self.sfu.handle(now, Some(bytes), &mut send));
        }
        if speak {
            self.sfu.speak(now, &DOWN, 960);
        }
        self.sfu.drain(&mut send);
    }

    fn our_turn(&mut self, now: Instant, speak: bool) {
        let (ours, servers) = (OURS.parse().expect("address"), SERVERS.parse().expect("address"));
        if self.timeout <= now {
            self.participant.handle_timeout(now);
            self.drain(now);
        }
        for bytes in std::mem::take(&mut self.to_us) {
            self.participant.handle_datagram(now, ours, servers, &bytes);
            self.drain(now);
        }
        if let Some(sockets) = self.sockets.take() {
            let participant = &mut self.participant;
            receive(&sockets.0, |bytes| participant.handle_datagram(now, ours, servers, bytes));
            self.sockets = Some(sockets);
            self.drain(now);
        }
        if speak {
            let level = AudioLevel::SPEECH;
            let packet = OpusOut { payload: &UP, advance: 2880, lost: 0, marker: false, level };
            self.participant.send_audio(now, packet).expect("connected");
            self.drain(now);
        }
    }

    fn drain(&mut self, now: Instant) {
        loop {
            match self.participant.poll_output() {
                Output::Timeout(t) => {
                    self.timeout = t;
                    return;
                }
                Output::Transmit(t) => match &self.sockets {
                    Some((ours, _)) => drop(ours.send(&t.contents)),
                    None => self.to_server.push(t.contents),
                },
                Output::Event(Event::Audio(_)) => self.heard += 1,
                Output::Signal(SignalCommand::Send { request, .. }) => {
                    if let Some(Request::Offer(offer)) = request.message {
                        let answer = Some(Response::Answer(self.sfu.answer(&offer)));
                        let message = Box::new(proto::SignalResponse { message: answer });
                        self.participant.handle_signal(now, SignalEvent::Message(message));
                    }
                }
                _ => {}
            }
        }
    }
}

fn receive(socket: &UdpSocket, mut take: impl FnMut(&[u8])) {
    let mut buffer = [0; 2000];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => take(&buffer[..len]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => panic!("{e}"),
        }
    }
}

/// The CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
