//! One track of a room: its jitter buffer, whether it can be heard, and its samples where it takes part in a mix.

use std::time::Duration;

use evenkeel_core::codec::Decoder as _;
use evenkeel_core::framing::Toc;
use evenkeel_core::jitter::{JitterBuffer, JitterConfig, Playout};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_livekit::participant::TrackId;
use evenkeel_opus::OpusDecoder;

/// How many packets before an audible one belong to it: onsets are soft.
const ONSET: u32 = 3;

/// A track that was not asked for this long has nothing to catch up with.
const STALLED: Duration = Duration::from_millis(500);

/// How many packets a decoder hears before it is heard itself, so that it does not begin with a click.
const WARM_UP: usize = 4;

/// The most that one step can decode to, in samples: 120 ms at 48 kHz.
const MOST_SAMPLES: usize = 5760;

/// What does not decode is silent for this long, in samples.
const SILENCE: usize = 480;

/// See the [module](self).
pub(super) struct Voice {
    pub(super) track: TrackId,
    jitter: JitterBuffer,
    levels: Levels,
    /// When it is asked next; not at all while it has nothing.
    next: Option<Time>,
    audible: Option<Time>,
    filler: Filler,
    recent: Recent,
    /// Decodes it for a mix.
    ear: Option<Box<Ear>>,
}

/// What a track plays next.
pub(super) enum Step<'a> {
    /// This packet.
    Packet(&'a [u8]),
    /// Nothing that came: empty frames in place of it.
    Missing {
        /// Such a frame, whole: its TOC.
        filler: u8,
        /// How many.
        count: u32,
        /// What the next packet carries of it.
        fec: Option<&'a [u8]>,
        /// How long, to be concealed.
        duration: FrameDuration,
    },
    /// It has played nothing yet.
    Nothing,
}

impl Voice {
    /// Silent. `None` if there can be no jitter buffer.
    pub(super) fn new(track: TrackId) -> Option<Self> {
        let config = JitterConfig { timestamp_hz: Some(48_000), ..JitterConfig::default() };
        Some(Self {
            track,
            jitter: JitterBuffer::new(config).ok()?,
            levels: Levels::default(),
            next: None,
            audible: None,
            filler: Filler::default(),
            recent: Recent::default(),
            ear: None,
        })
    }

    /// A packet came.
    pub(super) fn hear(&mut self, now: Time, sequence: u32, time: u32, opus: &[u8], audible: bool) {
        self.levels.note(sequence, audible);
        self.filler.expect(sequence);
        self.jitter.insert(sequence, time, opus, now);
        if self.next.is_none_or(|next| now.since(next) > STALLED) {
            self.next = Some(now);
        }
    }

    /// When to call [`Voice::step`].
    pub(super) const fn next_due(&self) -> Option<Time> {
        self.next
    }

    /// Whether something audible is played next, or soon after.
    pub(super) const fn will_be_audible(&self) -> bool {
        self.levels.is_audible(self.filler.next_sequence)
    }

    /// Whether it was audible within `span` before `now`.
    pub(super) fn was_audible(&self, now: Time, span: Duration) -> bool {
        self.audible.is_some_and(|audible| now.since(audible) < span)
    }

    pub(super) const fn last_audible(&self) -> Option<Time> {
        self.audible
    }

    /// What is played next. The next step is due when this one was played.
    pub(super) fn step(&mut self, now: Time, play: impl FnOnce(Step<'_>)) {
        let playout = self.jitter.next(now);
        let duration = playout.duration();
        self.next = Some(self.next.unwrap_or(now) + duration);
        match playout {
            Playout::Packet { sequence, payload, .. } => {
                self.filler.handle_packet(sequence, payload);
                if self.levels.is_audible(sequence) {
                    self.audible = Some(now);
                }
                self.recent.note(payload);
                play(Step::Packet(payload));
            }
            Playout::Lost { sequence, fec, duration } => {
                self.filler.next_sequence = sequence.wrapping_add(1);
                play(self.filler.missing(duration, fec));
            }
            Playout::Conceal { duration } | Playout::Silence { duration } => {
                play(self.filler.missing(duration, None));
            }
        }
    }

    /// Asks no more until something comes, if there is nothing; unless it is heard, for then its silence counts too.
    pub(super) fn rest(&mut self, is_heard: bool) {
        if !is_heard && self.jitter.is_empty() {
            self.next = None;
        }
    }

    /// It will take part in a mix. Gives its samples of just before, oldest first.
    pub(super) fn prepare(&mut self, rate: SampleRate, before: impl FnOnce(&[f32])) {
        if self.ear.is_none() {
            self.ear = Ear::new(rate).map(Box::new);
            if let Some(ear) = &mut self.ear {
                self.recent.each(|opus| ear.warm_up(opus));
                let held = ear.held();
                ear.take(held, before);
            }
        }
    }

    /// It takes part no longer, and is asked again at `now`.
    pub(super) fn pass_again(&mut self, now: Time) {
        self.ear = None;
        self.next = (!self.jitter.is_empty() || self.was_audible(now, STALLED)).then_some(now);
    }

    /// Takes `span` of its samples for a mix, mono at `rate`, at most once. Returns whether it is audible.
    pub(super) fn take_samples(
        &mut self,
        now: Time,
        rate: SampleRate,
        span: FrameDuration,
        take: impl FnOnce(&[f32]),
    ) -> bool {
        self.prepare(rate, |_| ());
        let Some(mut ear) = self.ear.take() else { return false };
        let wanted = span.samples_at(rate);
        while ear.held() < wanted {
            self.step(now, |step| match step {
                Step::Packet(opus) => ear.hear(opus),
                Step::Missing { fec, duration, .. } => ear.conceal(fec, duration),
                Step::Nothing => ear.silence(),
            });
        }
        ear.take(wanted, take);
        self.ear = Some(ear);
        self.audible == Some(now)
    }
}

/// Which of the last packets are audible.
#[derive(Default)]
struct Levels {
    newest: u32,
    /// The newest in the lowest bit.
    audible: u64,
}

impl Levels {
    fn note(&mut self, sequence: u32, audible: bool) {
        let step = sequence.wrapping_sub(self.newest) as i32;
        if step > 0 || step <= -64 {
            self.audible = if (1..64).contains(&step) { self.audible << step } else { 0 };
            self.newest = sequence;
        }
        self.audible |= u64::from(audible) << self.newest.wrapping_sub(sequence);
    }

    /// Whether this packet is, or one of those that follow.
    const fn is_audible(&self, sequence: u32) -> bool {
        let back = self.newest.wrapping_sub(sequence) as i32;
        if back < 0 || back >= 64 {
            return false;
        }
        // Bit `back` is this packet, lower bits those after it.
        let after = (back as u32).saturating_sub(ONSET);
        self.audible >> after & ((1 << (back as u32 - after + 1)) - 1) != 0
    }
}

/// Empty frames for what is missing: a decoder conceals them (RFC 6716, section 3.2.1), so that what follows stays in
/// its place in time.
#[derive(Default)]
struct Filler {
    toc: Option<u8>,
    next_sequence: u32,
    owed: Duration,
}

impl Filler {
    /// The first packet is on its way.
    fn expect(&mut self, sequence: u32) {
        if self.toc.is_none() && self.next_sequence == 0 {
            self.next_sequence = sequence;
        }
    }

    fn handle_packet(&mut self, sequence: u32, opus: &[u8]) {
        self.toc = opus.first().map(|toc| toc & 0xfc);
        self.next_sequence = sequence.wrapping_add(1);
        self.owed = Duration::ZERO;
    }

    fn missing<'a>(&mut self, duration: FrameDuration, fec: Option<&'a [u8]>) -> Step<'a> {
        let Some(filler) = self.toc else { return Step::Nothing };
        let frame = Duration::from_micros(Toc(filler).frame_duration_us().into());
        self.owed += duration.as_duration();
        let count = (self.owed.as_nanos() / frame.as_nanos()) as u32;
        self.owed -= frame * count;
        Step::Missing { filler, count, fec, duration }
    }
}

/// The packets played last.
#[derive(Default)]
struct Recent {
    packets: [Vec<u8>; WARM_UP],
    next: usize,
}

impl Recent {
    fn note(&mut self, opus: &[u8]) {
        let packet = &mut self.packets[self.next];
        packet.clear();
        packet.extend_from_slice(opus);
        self.next = (self.next + 1) % WARM_UP;
    }

    fn each(&self, mut hear: impl FnMut(&[u8])) {
        let (newer, older) = self.packets.split_at(self.next);
        older.iter().chain(newer).filter(|packet| !packet.is_empty()).for_each(|packet| hear(packet));
    }
}

/// Decodes a track, mono, and holds what was not taken yet.
struct Ear {
    decoder: OpusDecoder,
    samples: Vec<f32>,
    held: usize,
}

impl Ear {
    fn new(rate: SampleRate) -> Option<Self> {
        let decoder = OpusDecoder::new(rate, Channels::Mono).ok()?;
        Some(Self { decoder, samples: vec![0.0; 2 * MOST_SAMPLES], held: 0 })
    }

    const fn held(&self) -> usize {
        self.held
    }

    fn warm_up(&mut self, opus: &[u8]) {
        if self.held < MOST_SAMPLES {
            self.hear(opus);
        }
    }

    fn hear(&mut self, opus: &[u8]) {
        let decoded = self.decoder.decode(opus, &mut self.samples[self.held..]);
        self.add(decoded.ok());
    }

    fn conceal(&mut self, fec: Option<&[u8]>, duration: FrameDuration) {
        let out = &mut self.samples[self.held..];
        let concealed = match fec {
            Some(next) => self.decoder.decode_fec(next, duration, out),
            None => self.decoder.conceal(duration, out),
        };
        self.add(concealed.ok());
    }

    /// Adds what was decoded; what does not decode is silent for a moment, so that time goes on.
    fn add(&mut self, samples: Option<usize>) {
        match samples {
            Some(samples) => self.held += samples.max(1),
            None => self.silence(),
        }
    }

    fn silence(&mut self) {
        self.samples[self.held..self.held + SILENCE].fill(0.0);
        self.held += SILENCE;
    }

    fn take(&mut self, count: usize, take: impl FnOnce(&[f32])) {
        take(&self.samples[..count]);
        self.samples.copy_within(count..self.held, 0);
        self.held -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_shortly_before_an_audible_one_count_as_audible() {
        let mut levels = Levels::default();
        for sequence in 100..110 {
            levels.note(sequence, sequence == 106);
        }
        let audible: Vec<u32> = (90..120).filter(|&sequence| levels.is_audible(sequence)).collect();
        assert_eq!(audible, [103, 104, 105, 106]);
        levels.note(104, true);
        assert!(levels.is_audible(101) && !levels.is_audible(100));
        levels.note(1000, false);
        assert!((90..1100).all(|sequence| !levels.is_audible(sequence)));
    }

    #[test]
    fn what_is_missing_is_filled_to_the_frame() {
        let mut filler = Filler::default();
        assert!(matches!(filler.missing(FrameDuration::MS_20, None), Step::Nothing));
        filler.handle_packet(7, &[0xff, 3, 1, 2, 3]);
        let mut count = |ms: f64| match filler.missing(FrameDuration::from_millis(ms).unwrap(), None) {
            Step::Missing { filler: 0xfc, count, .. } => count,
            _ => panic!(),
        };
        assert_eq!([count(20.0), count(10.0), count(10.0), count(60.0)], [1, 0, 1, 3]);
    }
}
