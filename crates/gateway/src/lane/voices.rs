//! What the speakers of a LiveKit room say, put in order and in time, and when a reply begins and ends.
//!
//! Each track has a jitter buffer. While one track is audible its packets pass as they are; what is missing of it
//! becomes empty frames, which a decoder conceals, so that media time goes on. While several are audible they are
//! mixed ([`super::mix`]).
//!
//! Rooms send without end, silence too, so a reply is what lies between silences: it begins with the first audible
//! packet, or when the agent says that it speaks, and ends when nothing was audible for a while. How long a while
//! depends on what the agent says of itself: one that says that it speaks may pause for thought.

use std::time::Duration;

use evenkeel_core::framing::Frames;
use evenkeel_core::units::{SampleRate, Time};
use evenkeel_livekit::participant::{OpusIn, TrackId};

use super::mix::{Mixer, TICK};
use super::voice::{Step, Voice};

/// Quieter than this is silence, in dBov: the noise of a quiet room.
const AUDIBLE: i8 = -60;

/// How long nothing must be audible for a reply to end, if the agent says nothing of itself.
const PAUSE: Duration = Duration::from_millis(1000);

/// The same when the agent said that it is done: what it said may still be on its way.
const DONE: Duration = Duration::from_millis(250);

/// The same when the agent said that it speaks.
const THOUGHT: Duration = Duration::from_secs(8);

/// A track not audible for this long has left the floor to others.
const LAPSE: Duration = Duration::from_millis(400);

/// How long one track alone is mixed on, waiting for a pause in which to pass it on as it is: amid speech, the change
/// from one encoder to another can be heard.
const UNPAUSED: Duration = Duration::from_secs(5);

/// What the agent says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// Nothing: it is gone, or does not say.
    Unknown,
    /// It speaks.
    Speaking,
    /// It does not speak.
    Quiet,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// A reply begins.
    Began,
    /// An Opus packet of it.
    Opus(&'a [u8]),
    /// It ended.
    Ended,
}

/// See the [module](self).
pub(super) struct Voices {
    rate: SampleRate,
    voices: Vec<Voice>,
    /// The track that passes as it is.
    floor: Option<TrackId>,
    mixer: Option<Box<Mixer>>,
    cue: Cue,
    turn: Turn,
    /// The agent said of this reply that it is done.
    is_done: bool,
    /// To be told.
    began: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Silent,
    /// Since when nothing was audible.
    Speaking(Time),
    /// The same, and the device does not want to hear the rest.
    Stopped(Time),
}

impl Voices {
    /// Nobody speaks. Mixes are coded at `rate`.
    pub(super) const fn new(rate: SampleRate) -> Self {
        Self {
            rate,
            voices: Vec::new(),
            floor: None,
            mixer: None,
            cue: Cue::Unknown,
            turn: Turn::Silent,
            is_done: false,
            began: false,
            ended: false,
        }
    }

    /// A track is there from here on.
    pub(super) fn add(&mut self, track: TrackId) {
        if !self.voices.iter().any(|voice| voice.track == track) {
            self.voices.extend(Voice::new(track));
        }
    }

    /// A track is gone.
    pub(super) fn remove(&mut self, track: TrackId) {
        self.voices.retain(|voice| voice.track != track);
        if self.floor == Some(track) {
            self.floor = None;
        }
    }

    /// All tracks are gone, and what the agent said of itself is void.
    pub(super) fn clear(&mut self) {
        self.voices.clear();
        self.floor = None;
        self.cue = Cue::Unknown;
    }

    /// A packet came.
    pub(super) fn hear(&mut self, now: Time, packet: &OpusIn) {
        let audible = match packet.level {
            Some(level) => level.dbov > AUDIBLE,
            None => Frames::parse(&packet.payload).is_ok_and(|frames| frames.has_voice()),
        };
        if let Some(voice) = self.voices.iter_mut().find(|voice| voice.track == packet.track) {
            voice.hear(now, packet.sequence as u32, packet.time as u32, &packet.payload, audible);
        }
    }

    /// The agent says something of itself.
    pub(super) fn handle_cue(&mut self, now: Time, cue: Cue) {
        if std::mem::replace(&mut self.cue, cue) == cue {
            return;
        }
        match (cue, self.turn) {
            // Whatever was to be left out is over: this is something new.
            (Cue::Speaking, _) => self.begin(now),
            (_, Turn::Silent) => self.ended = true,
            (Cue::Quiet, _) => self.is_done = true,
            (Cue::Unknown, _) => {}
        }
    }

    /// The device does not want to hear the rest of the reply. Whether there is a rest, whose end will be told.
    pub(super) fn stop(&mut self) -> bool {
        if let Turn::Speaking(audible) = self.turn {
            self.turn = Turn::Stopped(audible);
        }
        self.turn != Turn::Silent
    }

    /// The device wants to hear what comes.
    pub(super) fn resume(&mut self) {
        if let Turn::Stopped(audible) = self.turn {
            self.turn = Turn::Speaking(audible);
        }
    }

    /// Whether a reply has begun and not ended.
    pub(super) fn is_speaking(&self) -> bool {
        self.turn != Turn::Silent
    }

    /// When to call [`Voices::poll`].
    pub(super) fn next_due(&self) -> Option<Time> {
        if self.began || self.ended {
            return Some(Time::ZERO);
        }
        [self.end_due(), self.next_playout()].into_iter().flatten().min()
    }

    /// When something is played next.
    pub(super) fn next_playout(&self) -> Option<Time> {
        let mix = self.mixer.as_ref().map(|mixer| mixer.next_due());
        mix.or_else(|| self.voices.iter().filter_map(Voice::next_due).min())
    }

    /// Gives what is due by `now`.
    pub(super) fn poll(&mut self, now: Time, mut out: impl FnMut(Said<'_>)) {
        while self.mixer.as_ref().is_some_and(|mixer| mixer.next_due() <= now) {
            self.mix(&mut out);
        }
        for at in 0..self.voices.len() {
            while self.mixer.is_none() && self.voices[at].next_due().is_some_and(|due| due <= now) {
                self.relay(at, now, &mut out);
            }
        }
        if self.end_due().is_some_and(|due| due <= now) {
            self.turn = Turn::Silent;
            self.floor = None;
            self.ended = true;
            self.end_mix(now, &mut out);
        }
        self.tell_beginning(&mut out);
        if self.turn == Turn::Silent && std::mem::take(&mut self.ended) {
            out(Said::Ended);
        }
    }

    fn begin(&mut self, now: Time) {
        self.began |= !matches!(self.turn, Turn::Speaking(_));
        self.turn = Turn::Speaking(now);
        self.is_done = false;
        self.ended = false;
    }

    fn tell_beginning(&mut self, out: &mut impl FnMut(Said<'_>)) {
        if std::mem::take(&mut self.began) {
            out(Said::Began);
        }
    }

    /// Something was audible.
    fn note_audible(&mut self, now: Time) {
        match &mut self.turn {
            Turn::Silent => self.begin(now),
            Turn::Speaking(audible) | Turn::Stopped(audible) => *audible = now,
        }
    }

    /// When the reply ends unless something is audible.
    fn end_due(&self) -> Option<Time> {
        let (Turn::Speaking(audible) | Turn::Stopped(audible)) = self.turn else { return None };
        let patience = match self.cue {
            _ if self.voices.is_empty() && self.cue != Cue::Speaking => Duration::ZERO,
            _ if self.is_done => DONE,
            Cue::Speaking => THOUGHT,
            _ => PAUSE,
        };
        Some(audible + patience)
    }

    /// Passes on what one track has to play now.
    fn relay(&mut self, at: usize, now: Time, out: &mut impl FnMut(Said<'_>)) {
        let others_speak = self.floor_is_held_against(at, now);
        let is_audible = self.voices[at].will_be_audible();
        if is_audible {
            if others_speak
                && matches!(self.turn, Turn::Speaking(_))
                && let Some(mut mixer) = Mixer::new(self.rate, now)
            {
                for voice in &mut self.voices {
                    voice.prepare(self.rate, |samples| mixer.add_before(samples));
                }
                mixer.begin();
                return self.mixer = Some(mixer);
            }
            self.note_audible(now);
            self.tell_beginning(out);
        }
        let voice = &mut self.voices[at];
        if is_audible && !others_speak {
            self.floor = Some(voice.track);
        }
        let passes = matches!(self.turn, Turn::Speaking(_)) && self.floor == Some(voice.track);
        voice.step(now, |step| match step {
            Step::Packet(opus) if passes => out(Said::Opus(opus)),
            Step::Missing { filler, count, .. } if passes => {
                (0..count).for_each(|_| out(Said::Opus(&[filler])));
            }
            _ => {}
        });
        voice.rest(passes);
    }

    /// Whether another track than this one has the floor and spoke lately.
    fn floor_is_held_against(&self, at: usize, now: Time) -> bool {
        let is_other =
            |voice: &&Voice| Some(voice.track) == self.floor && voice.track != self.voices[at].track;
        self.voices.iter().find(is_other).is_some_and(|voice| voice.was_audible(now, LAPSE))
    }

    /// Mixes [`TICK`] of what all tracks play.
    fn mix(&mut self, out: &mut impl FnMut(Said<'_>)) {
        let Some(mut mixer) = self.mixer.take() else { return };
        let now = mixer.next_due();
        let mut audible = 0;
        for voice in &mut self.voices {
            let is_now = voice.take_samples(now, self.rate, TICK, |samples| mixer.add(samples));
            audible += usize::from(voice.was_audible(now, LAPSE));
            if is_now && let Turn::Speaking(last) | Turn::Stopped(last) = &mut self.turn {
                *last = now;
            }
        }
        let is_heard = matches!(self.turn, Turn::Speaking(_));
        let at_edge = mixer.finish_tick(|opus| {
            if is_heard {
                out(Said::Opus(opus));
            }
        });
        let alone = mixer.note_speakers(audible);
        let is_pausing = !self.voices.iter().any(|voice| voice.was_audible(now, TICK.as_duration()));
        self.mixer = Some(mixer);
        if at_edge && alone >= LAPSE && (is_pausing || alone >= UNPAUSED) {
            self.end_mix(now + TICK.as_duration(), out);
        }
    }

    /// Passes tracks on as they are again.
    fn end_mix(&mut self, now: Time, out: &mut impl FnMut(Said<'_>)) {
        let Some(mut mixer) = self.mixer.take() else { return };
        let is_heard = matches!(self.turn, Turn::Speaking(_));
        mixer.finish(|opus| {
            if is_heard {
                out(Said::Opus(opus));
            }
        });
        self.voices.iter_mut().for_each(|voice| voice.pass_again(now));
        let latest = self.voices.iter().max_by_key(|voice| voice.last_audible());
        self.floor = latest.filter(|voice| voice.was_audible(now, UNPAUSED)).map(|voice| voice.track);
    }
}

#[cfg(test)]
mod tests;
