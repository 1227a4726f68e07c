//! Lanes, streams and their sources on virtual time, driven as the threads of the pool drive them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_core::codec::Encoder;
use evenkeel_core::ladder::{Controller, ControllerConfig, Ladder, SinkCapability};
use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::relay::DownRelay;
use evenkeel_core::seal::{Direction, Sealer, SessionKeys, Suite};
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};

use super::toy::{Dice, Script, Toy};
use crate::config::{EngineConfig, Pacing};
use crate::lane::{Lane, RungChange};
use crate::link::Link;
use crate::notes::Notes;
use crate::outlet::Outlet;
use crate::plan::{Cost, Plan};
use crate::stream::{Answers, Chain, Packet, Stream, StreamId, StreamParts};

pub(super) const MS: Duration = Duration::from_millis(1);

/// When the lanes begin.
pub(super) const START: Time = Time::from_millis(1_000);

/// What a turn with a job takes beside the encoder, and a packet on its way out.
pub(super) const JOB: Duration = Duration::from_micros(3);
pub(super) const DEPARTURE: Duration = Duration::from_micros(2);

const SLOTS: usize = 1_024;

/// How a stream is opened, and what its source does.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) relay: bool,
    pub(super) frame: FrameDuration,
    pub(super) pacing: Pacing,
    pub(super) queue_frames: usize,
    pub(super) adapt: bool,
    pub(super) sink: SinkCapability,
    pub(super) answers: bool,
    /// What a frame takes on `full/10`.
    pub(super) cost: Duration,
    /// What it was thought to take.
    pub(super) estimate: Duration,
    /// How long after its first push was planned each further one is.
    pub(super) period: Duration,
    /// How late, at most, a push is.
    pub(super) jitter: Duration,
    /// Frames pushed at once.
    pub(super) burst: u64,
    /// One frame in how many is silence; 0 for none.
    pub(super) silence: u64,
    pub(super) fails_until: u64,
    pub(super) panics_at: u64,
    /// How much the cost varies, in percent.
    pub(super) noise: u64,
    /// Whether it costs the same on every rung.
    pub(super) flat: bool,
}

impl Member {
    pub(super) fn new(frame: FrameDuration, cost: Duration) -> Self {
        Self {
            relay: false,
            frame,
            pacing: Pacing::default(),
            queue_frames: 4,
            adapt: false,
            sink: SinkCapability::default(),
            answers: false,
            cost,
            estimate: cost,
            period: frame.as_duration(),
            jitter: Duration::ZERO,
            burst: 1,
            silence: 0,
            fails_until: 0,
            panics_at: 0,
            noise: 0,
            flat: false,
        }
    }
}

/// A member that plays.
pub(super) struct Player {
    pub(super) member: Member,
    pub(super) link: Arc<Link>,
    pub(super) pushed: u64,
    pub(super) stopped: bool,
    /// When its next push is planned.
    planned: Time,
}

/// A lane with what its thread has.
pub(super) struct Station {
    pub(super) lane: Lane,
    free_at: Time,
    asleep: bool,
    /// How often its thread slept, and how often it went round.
    pub(super) wakes: u64,
    pub(super) turns: u64,
    /// How long it slept although there was something to do.
    pub(super) rested: Duration,
    notes: Notes,
    noted: bool,
    arrivals: VecDeque<Box<Stream>>,
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Push(usize),
    Stop(usize),
    Close(usize),
    /// To the lane of that number, if it is not there.
    Move(usize, usize),
    /// Everything stands still for as many milliseconds.
    Jump(u64),
    /// The clock goes back by as many milliseconds, which a monotonic one never does.
    Back(u64),
}

pub(super) struct Sim {
    pub(super) stations: Vec<Station>,
    pub(super) players: Vec<Player>,
    pub(super) outlet: Arc<Outlet>,
    /// All packets that left, in order.
    pub(super) sent: Vec<Packet>,
    pub(super) changes: Vec<(Time, RungChange)>,
    pub(super) longest_job: Duration,
    pub(super) now: Time,
    keep_packets: bool,
    /// What all encoders took since it was last looked, in nanoseconds.
    spent: Arc<AtomicU64>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    dice: Dice,
}

/// As it is by default.
fn plan() -> Plan {
    let config = EngineConfig::default();
    Plan::new(config.step_down_load, config.step_up_load)
}

impl Sim {
    pub(super) fn new(lanes: usize, seed: u64) -> Self {
        let station = |index| Station {
            lane: Lane::new(index, SLOTS, plan(), START),
            free_at: START,
            asleep: true,
            wakes: 0,
            turns: 0,
            rested: Duration::ZERO,
            notes: Notes::new(SLOTS),
            noted: false,
            arrivals: VecDeque::new(),
        };
        Self {
            stations: (0..lanes).map(station).collect(),
            players: Vec::new(),
            outlet: Outlet::new(1 << 12),
            sent: Vec::new(),
            changes: Vec::new(),
            longest_job: Duration::ZERO,
            now: START,
            keep_packets: true,
            spent: Arc::default(),
            events: BinaryHeap::new(),
            order: 0,
            dice: Dice(seed),
        }
    }

    /// From here on it counts only, and allocates nothing itself.
    pub(super) fn forget_packets(&mut self) {
        self.keep_packets = false;
        self.sent = Vec::new();
    }

    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    /// Opens a stream on a lane, whose source begins at `first`.
    pub(super) fn open(&mut self, lane: usize, member: Member, first: Time) -> usize {
        let index = self.players.len();
        let link = Link::new(StreamId(index as u64 + 1), lane, member.queue_frames);
        let script = Arc::new(Script::default());
        script.cost.store(member.cost.as_nanos() as u64, Relaxed);
        script.fails_until.store(member.fails_until, Relaxed);
        script.panics_at.store(member.panics_at, Relaxed);
        let stream = self.stream(&member, &link, &script);
        self.stations[lane].arrivals.push_back(Box::new(stream));
        self.players.push(Player { member, link, pushed: 0, stopped: false, planned: first });
        self.at(first, Event::Push(index));
        index
    }

    fn stream(&self, member: &Member, link: &Arc<Link>, script: &Arc<Script>) -> Stream {
        let keys = SessionKeys::new(Suite::Aes128Ctr, &[7; 16], link.id().0 as u32, b"lane").unwrap();
        let sealer = Sealer::new(&keys, Direction::Downlink, 1);
        let input = Format { rate: SampleRate::HZ_8000, channels: Channels::Mono, sample: SampleFormat::I16 };
        let ladder = Ladder::new(10, member.sink, true);
        let (chain, controller) = if member.relay {
            (Chain::Relay(Box::new(DownRelay::new(member.frame, sealer))), None)
        } else {
            let spent = Arc::clone(&self.spent);
            let (noise, flat) = (member.noise, member.flat);
            let toy =
                Toy { script: Arc::clone(script), spent, noise, flat, complexity: 10, mdct_only: false };
            let toy: Box<dyn Encoder + Send> = Box::new(toy);
            let sender = Sender::new(input, member.frame, ladder, toy, sealer).unwrap();
            let controller = member.adapt.then(|| Controller::new(ControllerConfig::default(), ladder));
            (Chain::Transcode(Box::new(sender)), controller)
        };
        Stream::new(StreamParts {
            link: Arc::clone(link),
            output: Arc::clone(&self.outlet),
            cost: Cost::estimate(member.estimate, controller.as_ref().map(Controller::ladder)),
            chain,
            controller,
            frame: member.frame,
            pacing: member.pacing,
            late_limit: 50 * MS,
            answers: if member.answers { Answers::EveryPushAndTheEnd } else { Answers::Packets },
        })
    }

    /// Runs all that happens up to `until`.
    pub(super) fn run(&mut self, until: Time) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Stops all sources and runs until nothing is left to do.
    pub(super) fn drain(&mut self) {
        self.players.iter_mut().for_each(|player| player.stopped = true);
        self.run(Time::from_nanos(u64::MAX));
    }

    fn step(&mut self, until: Time) -> bool {
        let event_at = self.events.peek().map(|Reverse((at, ..))| *at);
        let station =
            (0..self.stations.len()).filter_map(|i| Some((self.stations[i].wants(self.now)?, i))).min();
        match (event_at, station) {
            (Some(at), station) if at <= until && station.is_none_or(|(turn, _)| at <= turn) => {
                self.now = self.now.max(at);
                if let Some(Reverse((.., event))) = self.events.pop() {
                    self.happen(event);
                }
                true
            }
            (_, Some((turn, index))) if turn <= until => {
                self.now = self.now.max(turn);
                self.turn(index);
                true
            }
            _ => false,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Push(index) => self.push(index),
            Event::Stop(index) => self.players[index].stopped = true,
            Event::Close(index) => {
                self.players[index].link.close();
                self.tell(index);
            }
            Event::Move(index, to) => self.give(index, to),
            Event::Jump(ms) => self.now = self.now + MS * ms as u32,
            Event::Back(ms) => self.turn_back(MS * ms as u32),
        }
    }

    /// The sources go by the same clock.
    fn turn_back(&mut self, by: Duration) {
        self.now = self.now - by;
        for station in &mut self.stations {
            station.free_at = station.free_at - by;
        }
        for player in &mut self.players {
            player.planned = player.planned - by;
        }
        let events = std::mem::take(&mut self.events).into_iter();
        self.events = events.map(|Reverse((at, order, event))| Reverse((at - by, order, event))).collect();
    }

    fn push(&mut self, index: usize) {
        let now = self.now;
        let player = &mut self.players[index];
        if player.stopped || player.link.is_closed() {
            return;
        }
        let mut samples = [0i16; 960];
        for _ in 0..player.member.burst {
            player.pushed += 1;
            let is_silent = player.member.silence > 0 && player.pushed.is_multiple_of(player.member.silence);
            let first = if is_silent { 0 } else { 1 + (player.pushed % 30_000) as i16 };
            samples[0] = first;
            let len = player.member.frame.samples_at(SampleRate::HZ_8000);
            let relay = player.member.relay;
            let ticket = player.link.input.push(|frame| {
                if relay {
                    // One CELT frame of 20 ms.
                    frame.data.fill_opus(&[0xf8, first as u8, 7, 7, 7]);
                } else {
                    frame.data.fill(Samples::I16(&samples[..len]));
                }
                frame.pushed_at = now;
            });
            assert_eq!(ticket, player.pushed);
            assert!(player.link.input.len() <= player.member.queue_frames, "the queue is bounded");
        }
        let period = player.member.period * player.member.burst as u32;
        // Sources do not make up for the time in which everything stood still.
        let base = if player.planned + period < now { now } else { player.planned };
        player.planned = base + period;
        let jitter = self.dice.below(player.member.jitter.as_nanos() as u64 + 1);
        let next = player.planned + Duration::from_nanos(jitter);
        self.at(next, Event::Push(index));
        self.tell(index);
    }

    fn tell(&mut self, index: usize) {
        if let (lane, Some(slot)) = self.players[index].link.seat() {
            let station = &mut self.stations[lane];
            station.notes.add(slot);
            station.noted = true;
        }
    }

    fn give(&mut self, index: usize, to: usize) {
        let (lane, Some(slot)) = self.players[index].link.seat() else { return };
        let station = &mut self.stations[lane];
        if station.free_at > self.now {
            // In the midst of a turn a lane gives nothing away: what left in that turn would leave after it.
            let after = station.free_at;
            self.at(after, Event::Move(index, to));
        } else if lane != to
            && let Some(stream) = station.lane.take(slot, to)
        {
            self.stations[to].arrivals.push_back(stream);
        }
    }

    /// One turn of a lane's thread.
    fn turn(&mut self, index: usize) {
        let station = &mut self.stations[index];
        let mut now = self.now;
        station.turns += 1;
        if std::mem::take(&mut station.asleep) {
            station.wakes += 1;
            station.lane.handle_wake(now);
        }
        for stream in station.arrivals.drain(..) {
            station.lane.open(stream, now);
        }
        station.noted = false;
        let lane = &mut station.lane;
        station.notes.take(|slot| lane.handle_note(slot));
        while station.lane.poll_departure(now).is_some() {
            now = now + DEPARTURE;
        }
        if let Some(until) = station.lane.poll_rest(now) {
            station.lane.handle_sleep(now);
            station.rested += until.since(now);
            now = until;
            station.lane.handle_wake(now);
        } else if let Some(job) = station.lane.begin_job(now) {
            let cost = JOB + Duration::from_nanos(self.spent.swap(0, Relaxed));
            self.longest_job = self.longest_job.max(cost);
            now = now + cost;
            station.lane.end_job(job, now);
        } else {
            station.lane.handle_sleep(now);
            station.asleep = true;
        }
        station.free_at = now;
        while let Some(change) = station.lane.poll_change() {
            self.changes.push((now, change));
        }
        while let Some(packet) = self.outlet.pop() {
            if self.keep_packets {
                self.sent.push(packet.clone());
            }
            self.outlet.recycle(packet);
        }
    }

    /// Packets of one stream, in the order they left.
    pub(super) fn sent_by(&self, index: usize) -> impl Iterator<Item = &Packet> {
        let id = self.players[index].link.id();
        self.sent.iter().filter(move |packet| packet.stream == id)
    }

    /// Packets of a stream that wait for their deadlines.
    pub(super) fn ready(&self, index: usize) -> u64 {
        let (lane, slot) = self.players[index].link.seat();
        let seat = slot.and_then(|slot| self.stations[lane].lane.seats.get(slot)?.as_ref());
        let seat = seat.filter(|seat| seat.stream.link().id() == self.players[index].link.id());
        seat.map_or(0, |seat| seat.stream.ready() as u64)
    }
}

impl Station {
    /// When its thread has something to do: when it is woken, or when what it waits for is due.
    fn wants(&self, now: Time) -> Option<Time> {
        let called = !self.asleep || self.noted || !self.arrivals.is_empty();
        let at = if called { Some(self.free_at) } else { self.lane.next_timeout(self.free_at.max(now)) };
        at.map(|at| at.max(self.free_at))
    }
}
