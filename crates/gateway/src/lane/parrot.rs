//! The echo room: listens, and when the speaker pauses says it back. Nothing is decoded: whether somebody speaks is
//! read off the packets ([`Frames::has_voice`]).

use std::time::Duration;

use evenkeel_core::framing::{Frames, Mode};
use evenkeel_core::units::Time;

use super::ring::{Budget, PacketRing, Totals};

/// How long the speaker must be silent.
pub(super) const PAUSE: Duration = Duration::from_millis(700);

/// How much voice makes an utterance; less is a noise.
const LEAST_VOICE: Duration = Duration::from_millis(120);

/// What is kept from before the voice began.
const PRE_ROLL: Duration = Duration::from_millis(180);

/// What is kept from after it ended.
const POST_ROLL: Duration = Duration::from_millis(120);

/// The longest utterance; then the parrot interrupts.
const LONGEST: Duration = Duration::from_secs(20);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Parrot {
    heard: PacketRing,
    /// Voice in what is recorded.
    voiced: Duration,
    /// When voice was last heard, and where the recording would end if it was not heard again.
    last_voice: Option<Time>,
    since_voice: Duration,
    end: Totals,
    sizes: Sizes,
    /// It speaks, and does not listen.
    is_speaking: bool,
}

impl Parrot {
    /// Listens to a packet.
    pub(super) fn hear(&mut self, now: Time, opus: &[u8], frames: &Frames<'_>, budget: &mut Budget) {
        if self.is_speaking {
            return;
        }
        let duration = Duration::from_micros(frames.duration_us().into());
        let is_voice = self.sizes.is_voice(frames);
        while !self.heard.push(opus, duration, 0, budget) {
            if self.heard.drop_head().is_none() {
                return;
            }
        }
        if is_voice {
            self.voiced += duration;
            self.last_voice = Some(now);
            self.since_voice = Duration::ZERO;
        } else {
            self.since_voice += duration;
        }
        if self.since_voice <= POST_ROLL {
            self.end = self.heard.end();
        }
        if self.last_voice.is_none() {
            self.keep_pre_roll();
        }
    }

    /// When to call [`Parrot::speak`].
    pub(super) fn next_due(&self) -> Option<Time> {
        let last_voice = self.last_voice.filter(|_| !self.is_speaking)?;
        let is_long = self.heard.duration() >= LONGEST;
        Some(if is_long { Time::ZERO } else { last_voice + PAUSE })
    }

    /// What was said, if the speaker has paused by `now`: to be taken out of the ring.
    pub(super) fn speak(&mut self, now: Time) -> Option<&mut PacketRing> {
        if self.next_due()? > now {
            return None;
        }
        let is_utterance = self.voiced >= LEAST_VOICE;
        self.voiced = Duration::ZERO;
        self.last_voice = None;
        if !is_utterance {
            self.keep_pre_roll();
            return None;
        }
        self.heard.truncate(self.end);
        self.is_speaking = true;
        Some(&mut self.heard)
    }

    pub(super) const fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// What it said was played, or dropped: it listens again.
    pub(super) fn listen(&mut self, budget: &mut Budget) {
        self.heard.clear(budget);
        self.is_speaking = false;
        self.voiced = Duration::ZERO;
        self.last_voice = None;
    }

    pub(super) fn close(&mut self, budget: &mut Budget) {
        self.heard.close(budget);
    }

    fn keep_pre_roll(&mut self) {
        while self.heard.duration() > PRE_ROLL {
            self.heard.drop_head();
        }
    }
}

/// Tells voice by the size of packets where the codec does not mark it (CELT): with a variable rate, silence is small.
/// With a constant rate all counts as voice, and the parrot answers after [`LONGEST`].
#[derive(Default)]
struct Sizes {
    /// The least and most bytes a second seen; they creep towards each other, so that they can follow.
    least: f32,
    most: f32,
}

impl Sizes {
    fn is_voice(&mut self, frames: &Frames<'_>) -> bool {
        if !frames.has_voice() || frames.toc().mode() != Mode::Celt {
            return frames.has_voice();
        }
        let rate = frames.bytes() as f32 * 1e6 / frames.duration_us().max(1) as f32;
        if self.most == 0.0 {
            (self.least, self.most) = (rate, rate);
        }
        let creep = (self.most - self.least) * 0.002;
        self.least = (self.least + creep).min(rate);
        self.most = (self.most - creep).max(rate);
        let is_constant = self.most < 1.5 * self.least;
        is_constant || rate > self.least + (self.most - self.least) * 0.3
    }
}
