//! The buffer itself: packets held in order, and the decision what is played next.

use core::time::Duration;
use std::collections::VecDeque;

use super::delay::DelayEstimator;
use super::sequence::{Sequence, Standing};
use super::timeline::Timeline;
use super::{Inserted, JitterConfig, JitterStats, Playout, nanos};
use crate::error::{ConfigError, PacketError};
use crate::framing::Frames;
use crate::units::{FrameDuration, Time};

/// What is bridged while nothing is there lasts no longer than this, so that a packet is not kept waiting.
const BRIDGE: FrameDuration = FrameDuration::MS_20;

/// Payloads of no more bytes than this never allocate, once the first packet came.
const SMALL_PAYLOAD: usize = 256;

/// After how many packets with too much delay one may be left out: without voice in it, and with.
const SHRINK_AFTER_UNVOICED: u32 = 2;
const SHRINK_AFTER_VOICED: u32 = 10;

/// Puts packets in order and in time; see the [module](super) for how.
///
/// [`JitterBuffer::insert`] packets as they arrive, [`JitterBuffer::next`] when audio is needed. Time may stand still
/// between calls but must not go backwards; if it does, it is taken to have stood still. Memory is taken with the first
/// packet and then reused.
#[derive(Debug)]
pub struct JitterBuffer {
    config: JitterConfig,
    now: Time,
    /// None until the first packet.
    sequence: Option<Sequence>,
    timeline: Timeline,
    delays: DelayEstimator,
    state: State,
    /// Sorted by sequence, none twice.
    queue: VecDeque<Packet>,
    /// The payload that was given out last.
    current: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// The duration of the newest packet played, in nanoseconds.
    duration: i64,
    /// The media time of the packet whose turn it is.
    head_media: i64,
    /// How long was concealed waiting for the packet whose turn it is. Counts towards it if it proves lost.
    owed: i64,
    /// For how long was concealed since the last packet.
    concealed: i64,
    /// How many packets in a row had more delay than needed.
    excess: u32,
    last_arrival: Time,
    last_was_dtx: bool,
    played_dtx: bool,
    /// The sender said that it pauses.
    is_pausing: bool,
    sum_of_delays: i128,
    stats: JitterStats,
}

/// Whether media time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No packet was played since the stream began or restarted: an earlier one may still come first.
    New,
    /// Nothing plays until the first packet of the queue has waited for the target delay.
    Waiting,
    /// Packets are played in turn.
    Playing,
}

#[derive(Debug)]
struct Packet {
    sequence: u32,
    media: i64,
    arrival: Time,
    traits: Traits,
    payload: Vec<u8>,
}

/// What the buffer needs to know of a payload.
#[derive(Clone, Copy, Debug)]
struct Traits {
    duration: Duration,
    has_voice: bool,
    has_lbrr: bool,
    is_dtx: bool,
    is_pcm: bool,
}

/// A [`Playout`] that borrows nothing yet.
enum Decision {
    Play,
    Lose { has_fec: bool, duration: FrameDuration },
    Conceal(FrameDuration),
    Silence(FrameDuration),
}

impl JitterBuffer {
    /// An empty buffer; takes no memory of its own before the first packet.
    ///
    /// # Errors
    /// [`ConfigError::Range`] for a setting outside its range.
    pub fn new(config: JitterConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let mut buffer = Self {
            config,
            now: Time::ZERO,
            sequence: None,
            timeline: Timeline::new(config.timestamp_hz),
            delays: DelayEstimator::new(config.max_depth),
            state: State::New,
            queue: VecDeque::new(),
            current: Vec::new(),
            spare: Vec::new(),
            duration: nanos(config.packet_duration.as_duration()),
            head_media: 0,
            owed: 0,
            concealed: nanos(config.max_concealment),
            excess: 0,
            last_arrival: Time::ZERO,
            last_was_dtx: false,
            played_dtx: false,
            is_pausing: false,
            sum_of_delays: 0,
            stats: JitterStats::default(),
        };
        buffer.stats.target = duration(buffer.target());
        Ok(buffer)
    }

    /// Takes an Opus packet that arrived. `timestamp` is ignored unless [`JitterConfig::timestamp_hz`] is set.
    pub fn insert(&mut self, sequence: u32, timestamp: u32, payload: &[u8], arrival: Time) -> Inserted {
        match Frames::parse(payload) {
            Ok(frames) => {
                let traits = Traits {
                    duration: Duration::from_micros(u64::from(frames.duration_us())),
                    has_voice: frames.has_voice(),
                    has_lbrr: frames.has_lbrr(),
                    is_dtx: frames.is_dtx(),
                    is_pcm: false,
                };
                self.insert_any(sequence, timestamp, traits, payload, arrival)
            }
            Err(error) => self.reject(error),
        }
    }

    /// Takes a packet of PCM, which `duration` must be known of, as the payload does not say.
    pub fn insert_pcm(
        &mut self,
        sequence: u32,
        timestamp: u32,
        duration: FrameDuration,
        payload: &[u8],
        arrival: Time,
    ) -> Inserted {
        let duration = duration.as_duration();
        let traits = Traits { duration, has_voice: true, has_lbrr: false, is_dtx: false, is_pcm: true };
        self.insert_any(sequence, timestamp, traits, payload, arrival)
    }

    /// The sender said that it pauses behind what came so far. Once that has played there is silence, which is neither
    /// an underrun nor concealed, until the next packet comes.
    pub fn pause(&mut self) {
        self.is_pausing = true;
    }

    /// What is to be played at `now`. Call again after [`Playout::duration`].
    pub fn next(&mut self, now: Time) -> Playout<'_> {
        self.now = self.now.max(now);
        let decision = self.decide();
        self.stats.target = duration(self.target());
        self.count(&decision);
        match decision {
            Decision::Play => self.play(),
            Decision::Lose { has_fec, duration } => {
                let sequence = self.order().head.wrapping_sub(1);
                let fec = self.queue.front().filter(|_| has_fec).map(|next| next.payload.as_slice());
                Playout::Lost { sequence, fec, duration }
            }
            Decision::Conceal(duration) => Playout::Conceal { duration },
            Decision::Silence(duration) => Playout::Silence { duration },
        }
    }

    /// What was measured and done so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        let mean = self.sum_of_delays / i128::from(self.stats.played.max(1));
        JitterStats {
            mean_delay: duration(i64::try_from(mean).unwrap_or(i64::MAX)),
            jitter: duration(self.delays.jitter()),
            ..self.stats
        }
    }

    /// How many packets are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no packet is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Inserting.
impl JitterBuffer {
    fn insert_any(
        &mut self,
        sequence: u32,
        timestamp: u32,
        traits: Traits,
        payload: &[u8],
        arrival: Time,
    ) -> Inserted {
        let limit = self.config.max_payload;
        if payload.len() > limit {
            return self.reject(PacketError::Oversized { limit, actual: payload.len() });
        }
        self.now = self.now.max(arrival);
        self.stats.received += 1;
        let order = self.sequence.get_or_insert_with(|| Sequence::starting_at(sequence));
        match order.standing(sequence, self.config.max_jump) {
            Standing::Ahead => self.store(sequence, timestamp, traits, payload),
            Standing::Late if self.state == State::New && order.begin_earlier(sequence) => {
                self.store(sequence, timestamp, traits, payload)
            }
            standing => {
                if order.suspect(sequence, standing, self.now, traits.duration) {
                    self.restart(sequence);
                    self.store(sequence, timestamp, traits, payload);
                    return Inserted::Restarted;
                }
                self.refuse(standing, sequence, timestamp, traits.duration)
            }
        }
    }

    fn reject(&mut self, error: PacketError) -> Inserted {
        self.stats.rejected += 1;
        Inserted::Rejected(error)
    }

    fn store(&mut self, sequence: u32, timestamp: u32, traits: Traits, payload: &[u8]) -> Inserted {
        let at = self.queue.iter().rposition(|held| is_before(held.sequence, sequence)).map_or(0, |i| i + 1);
        if self.queue.get(at).is_some_and(|held| held.sequence == sequence) {
            self.stats.duplicates += 1;
            return Inserted::Duplicate;
        }
        self.order().accept(sequence);
        let media = self.observe(sequence, timestamp, traits.duration);
        self.last_arrival = self.now;
        self.last_was_dtx = traits.is_dtx;
        self.is_pausing = false;

        if self.queue.capacity() == 0 {
            self.queue.reserve_exact(self.config.capacity);
            // One for each place of the queue and one for what is being played, so that no burst allocates later.
            self.spare.reserve_exact(self.config.capacity);
            self.spare.resize_with(self.config.capacity, || Vec::with_capacity(SMALL_PAYLOAD));
            self.current.reserve_exact(SMALL_PAYLOAD);
        }
        let is_full = self.queue.len() == self.config.capacity;
        if is_full {
            self.stats.overflow += 1;
            if at == 0 {
                self.pass_to(sequence);
                return Inserted::Overflow;
            }
            self.discard_first();
        }
        let mut own = self.spare.pop().unwrap_or_default();
        own.clear();
        own.reserve_exact(payload.len().next_power_of_two().max(SMALL_PAYLOAD));
        own.extend_from_slice(payload);
        let packet = Packet { sequence, media, arrival: self.now, traits, payload: own };
        self.queue.insert(at - usize::from(is_full), packet);
        if is_full { Inserted::Overflow } else { Inserted::Stored }
    }

    /// Measures when a packet arrived; gives its media time.
    fn observe(&mut self, sequence: u32, timestamp: u32, duration: Duration) -> i64 {
        let is_after_pause = self.state != State::Playing && self.queue.is_empty();
        let is_after_dtx = self.last_was_dtx && self.now.since(self.last_arrival) > duration * 3;
        if is_after_pause || is_after_dtx {
            self.delays.pause();
        }
        let media = self.timeline.place(sequence, timestamp, duration);
        self.delays.observe(since_epoch(self.now).saturating_sub(media), self.now);
        media
    }

    fn refuse(&mut self, standing: Standing, sequence: u32, timestamp: u32, duration: Duration) -> Inserted {
        match standing {
            Standing::Seen => {
                self.stats.duplicates += 1;
                Inserted::Duplicate
            }
            Standing::Late => {
                if self.order().suspects() == 1 {
                    self.observe(sequence, timestamp, duration);
                }
                self.stats.late += 1;
                if self.order().accept_late(sequence) {
                    self.stats.lost = self.stats.lost.saturating_sub(1);
                }
                Inserted::Late
            }
            Standing::Far | Standing::Ahead => {
                self.stats.suspects += 1;
                Inserted::Suspect
            }
        }
    }

    fn restart(&mut self, sequence: u32) {
        while let Some(packet) = self.queue.pop_front() {
            self.spare.push(packet.payload);
            self.stats.dropped += 1;
        }
        self.sequence = Some(Sequence::starting_at(sequence));
        self.timeline.reset();
        self.delays.pause();
        self.state = State::New;
        self.owed = 0;
        self.stats.restarts += 1;
    }
}

/// Playing.
impl JitterBuffer {
    fn decide(&mut self) -> Decision {
        if self.state != State::Playing && !self.begin() {
            return self.bridge();
        }
        self.enforce_max_depth();
        self.track_excess();
        loop {
            let Some(first) = self.queue.front() else { return self.run_dry() };
            let missing = first.sequence.wrapping_sub(self.head());
            if missing == 0 {
                return self.decide_on_first();
            }
            if self.delay() < self.target() && self.concealed < nanos(self.config.max_concealment) {
                return self.bridge_owing();
            }
            let has_fec = missing == 1 && first.traits.has_lbrr && self.owed == 0;
            let owed = self.owed.min(self.duration);
            self.owed -= owed;
            self.pass_over(1);
            match floor_to_frame(self.duration - owed) {
                Some(duration) if has_fec => return Decision::Lose { has_fec, duration },
                // Leaving out what is lost anyway is the cheapest way to shrink.
                Some(_) if self.excess >= SHRINK_AFTER_UNVOICED => self.excess = 0,
                Some(duration) => return self.lose(duration),
                None => {}
            }
        }
    }

    /// Starts playing if the first packet has waited for long enough.
    fn begin(&mut self) -> bool {
        let Some(first) = self.queue.front() else { return false };
        let (sequence, media) = (first.sequence, first.media);
        if self.delay_of(first) < self.target() {
            return false;
        }
        self.pass_over(sequence.wrapping_sub(self.head()));
        self.head_media = media;
        self.owed = 0;
        self.state = State::Playing;
        true
    }

    /// Leaves out what exceeds the maximum, but for the last packet.
    fn enforce_max_depth(&mut self) {
        while let Some(first) = self.queue.front() {
            let most = nanos(self.config.max_depth) + self.duration + self.hysteresis();
            let beyond = self.delay().saturating_sub(most);
            if beyond <= 0 {
                return;
            }
            let missing = first.sequence.wrapping_sub(self.head());
            if missing > 0 {
                let packets = u32::try_from(beyond / self.duration + 1).unwrap_or(u32::MAX);
                self.pass_over(packets.min(missing));
            } else if self.queue.len() > 1 {
                self.stats.dropped += 1;
                self.discard_first();
            } else {
                return;
            }
        }
    }

    /// Counts for how long there has been a packet too many.
    fn track_excess(&mut self) {
        let is_excessive = self.delay().saturating_sub(self.duration) > self.target() + self.hysteresis();
        self.excess = if is_excessive { self.excess.saturating_add(1) } else { 0 };
    }

    /// The first packet's turn has come: play it, unless there is too much or too little delay.
    fn decide_on_first(&mut self) -> Decision {
        let (delay, target) = (self.delay(), self.target());
        let Some(first) = self.queue.front() else { return self.run_dry() };
        let is_after_pause = first.media.saturating_sub(self.head_media) >= self.duration / 2;
        if is_after_pause && delay < target {
            self.state = State::Waiting;
            return self.bridge();
        }
        if !first.traits.has_voice && self.concealed == 0 && delay < target - self.hysteresis() {
            return self.bridge();
        }
        let patience = if first.traits.has_voice { SHRINK_AFTER_VOICED } else { SHRINK_AFTER_UNVOICED };
        let next = first.sequence.wrapping_add(1);
        if self.excess >= patience && self.queue.get(1).is_some_and(|second| second.sequence == next) {
            self.excess = 0;
            self.stats.dropped += 1;
            self.discard_first();
        }
        Decision::Play
    }

    fn play(&mut self) -> Playout<'_> {
        let Some(packet) = self.take_first() else { return Playout::Silence { duration: BRIDGE } };
        let delay = self.delay_of(&packet);
        self.stats.delay = duration(delay);
        self.stats.played += 1;
        self.sum_of_delays += i128::from(delay);
        self.concealed = 0;
        self.owed = 0;
        let old = core::mem::replace(&mut self.current, packet.payload);
        self.spare.push(old);
        Playout::Packet {
            sequence: packet.sequence,
            payload: &self.current,
            duration: packet.traits.duration,
            is_pcm: packet.traits.is_pcm,
        }
    }

    /// What is known to be lost has audio behind it: the codec bridges all of it, and fades by itself. Silence in the
    /// middle would cost it the state from which it goes on.
    fn lose(&mut self, duration: FrameDuration) -> Decision {
        self.concealed += nanos(duration.as_duration());
        Decision::Lose { has_fec: false, duration }
    }

    /// Nothing is there: bridge it, or, after long enough, take it for a pause.
    fn run_dry(&mut self) -> Decision {
        if self.is_pausing {
            self.concealed = nanos(self.config.max_concealment);
        } else if self.concealed == 0 && !self.played_dtx {
            self.stats.underruns += 1;
        }
        let decision = self.bridge_owing();
        if matches!(decision, Decision::Silence(_)) {
            self.state = State::Waiting;
            self.stats.pauses += 1;
        }
        decision
    }

    /// Bridges the time of a packet that may still come.
    fn bridge_owing(&mut self) -> Decision {
        let decision = self.bridge();
        if let Decision::Conceal(duration) = decision {
            self.owed += nanos(duration.as_duration());
        }
        decision
    }

    fn bridge(&mut self) -> Decision {
        let duration = floor_to_frame(self.duration).unwrap_or(BRIDGE).min(BRIDGE);
        if self.conceal(duration) { Decision::Conceal(duration) } else { Decision::Silence(duration) }
    }

    /// Whether missing audio is still to be concealed.
    fn conceal(&mut self, duration: FrameDuration) -> bool {
        let is_concealed = self.concealed < nanos(self.config.max_concealment);
        if is_concealed {
            self.concealed += nanos(duration.as_duration());
        }
        is_concealed
    }
}

/// The parts of it.
impl JitterBuffer {
    fn order(&mut self) -> &mut Sequence {
        self.sequence.get_or_insert_with(|| Sequence::starting_at(0))
    }

    fn head(&self) -> u32 {
        self.sequence.as_ref().map_or(0, |sequence| sequence.head)
    }

    fn target(&self) -> i64 {
        let (min, max) = (nanos(self.config.min_depth), nanos(self.config.max_depth));
        self.delays.target(nanos(self.config.initial_depth)).clamp(min, max)
    }

    /// How far the delay may be off before it is worth a correction.
    fn hysteresis(&self) -> i64 {
        self.duration / 4
    }

    /// The delay of the packet whose turn it is, whether it is here or missing.
    fn delay(&self) -> i64 {
        match self.queue.front() {
            Some(first) if first.sequence == self.head() => self.delay_of(first),
            _ => self.delay_at(self.head_media),
        }
    }

    /// How much later than the fastest a packet of this media time would be played now.
    fn delay_at(&self, media: i64) -> i64 {
        let offset = since_epoch(self.now).saturating_sub(media);
        self.delays.fastest().map_or(0, |fastest| offset.saturating_sub(fastest))
    }

    /// The same for a packet that is here, which is at least the time that it has waited.
    fn delay_of(&self, packet: &Packet) -> i64 {
        self.delay_at(packet.media).max(nanos(self.now.since(packet.arrival)))
    }

    fn pass_over(&mut self, missing: u32) {
        self.stats.lost += u64::from(missing);
        self.head_media = self.head_media.saturating_add(i64::from(missing) * self.duration);
        self.order().pass_over(missing);
    }

    /// The turn of a packet that came is over, and so is that of all before it.
    fn pass_to(&mut self, sequence: u32) {
        self.pass_over(sequence.wrapping_sub(self.head()));
        self.order().pass();
        if self.state == State::New {
            self.state = State::Waiting;
        }
    }

    fn take_first(&mut self) -> Option<Packet> {
        let first = self.queue.pop_front()?;
        self.pass_to(first.sequence);
        self.duration = nanos(first.traits.duration);
        self.head_media = first.media.saturating_add(self.duration);
        self.played_dtx = first.traits.is_dtx;
        Some(first)
    }

    fn discard_first(&mut self) {
        if let Some(first) = self.take_first() {
            self.spare.push(first.payload);
        }
    }

    fn count(&mut self, decision: &Decision) {
        match *decision {
            Decision::Lose { has_fec: true, .. } => self.stats.recovered += 1,
            Decision::Conceal(duration) | Decision::Lose { duration, .. } => {
                self.stats.concealed += 1;
                self.stats.concealed_time += duration.as_duration();
            }
            Decision::Play | Decision::Silence(_) => {}
        }
    }
}

/// Whether `a` comes before `b`, over the wrap.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn since_epoch(time: Time) -> i64 {
    nanos(time.since(Time::ZERO))
}

fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.max(0).unsigned_abs())
}

/// The longest duration that a codec can conceal in one go and that is no longer than `nanos`.
fn floor_to_frame(nanos: i64) -> Option<FrameDuration> {
    let micros = nanos / 1000;
    FrameDuration::ALL.into_iter().rev().find(|duration| i64::from(duration.as_micros()) <= micros)
}
