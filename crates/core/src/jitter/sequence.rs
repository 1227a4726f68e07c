//! Where a sequence number stands relative to what is played, over the wrap of its 32 bits.

use core::time::Duration;

use crate::units::Time;

/// How far back it is remembered which packets came.
const HISTORY: u32 = 64;

/// How many packets in a row must agree that the sender restarted, if they cannot belong to the sequence so far.
const AGREEING_FAR: u32 = 3;

/// The same if they may as well be late or repeated.
const AGREEING_NEAR: u32 = 16;

/// Packets agree if no more than this many are missing between them.
const LARGEST_HOLE: u32 = 3;

/// A sequence number's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its turn is still to come.
    Ahead,
    /// Its turn is over, and it had come.
    Seen,
    /// Its turn is over, and it had not come, as far as is remembered.
    Late,
    /// It cannot belong to the sequence so far.
    Far,
}

/// The sequence as far as it was played.
#[derive(Debug)]
pub(super) struct Sequence {
    /// The one whose turn is next.
    pub(super) head: u32,
    newest: u32,
    /// Bit `i` is set if `head - 1 - i` came.
    seen: u64,
    run: Run,
}

/// Packets in a row that do not fit the sequence but each other.
#[derive(Debug, Default)]
struct Run {
    next: u32,
    length: u32,
    since: Time,
}

impl Sequence {
    pub(super) fn starting_at(sequence: u32) -> Self {
        Self { head: sequence, newest: sequence, seen: 0, run: Run::default() }
    }

    pub(super) fn standing(&self, sequence: u32, max_jump: u32) -> Standing {
        let ahead_of_newest = sequence.wrapping_sub(self.newest) as i32;
        if ahead_of_newest > max_jump as i32 {
            return Standing::Far;
        }
        let ahead = sequence.wrapping_sub(self.head) as i32;
        if ahead >= 0 {
            return Standing::Ahead;
        }
        match ahead.unsigned_abs() {
            age @ 1..=HISTORY if self.seen >> (age - 1) & 1 != 0 => Standing::Seen,
            age if age <= max_jump => Standing::Late,
            _ => Standing::Far,
        }
    }

    /// Takes note of a packet that is [`Standing::Ahead`].
    pub(super) fn accept(&mut self, sequence: u32) {
        if sequence.wrapping_sub(self.newest) as i32 > 0 {
            self.newest = sequence;
        }
        self.run.length = 0;
    }

    /// Moves the head back, as nothing was played yet. False if that is too far.
    pub(super) fn begin_earlier(&mut self, sequence: u32) -> bool {
        let is_near = self.head.wrapping_sub(sequence) <= HISTORY;
        if is_near {
            self.head = sequence;
        }
        is_near
    }

    /// Takes note of a late packet. True if it is the first sign of it, so that it had been taken for lost.
    pub(super) fn accept_late(&mut self, sequence: u32) -> bool {
        let age = self.head.wrapping_sub(sequence);
        if !(1..=HISTORY).contains(&age) {
            return false;
        }
        let bit = 1 << (age - 1);
        let is_first = self.seen & bit == 0;
        self.seen |= bit;
        is_first
    }

    /// Takes note of a packet that is not ahead. True if by now so many agree that the sender has restarted, and came
    /// as packets do that last for `duration`: a burst of late packets is no restart.
    pub(super) fn suspect(
        &mut self,
        sequence: u32,
        standing: Standing,
        arrival: Time,
        duration: Duration,
    ) -> bool {
        if self.run.length == 0 || sequence.wrapping_sub(self.run.next) > LARGEST_HOLE {
            self.run = Run { next: sequence, length: 0, since: arrival };
        }
        self.run.next = sequence.wrapping_add(1);
        self.run.length = self.run.length.saturating_add(1);
        let needed = if standing == Standing::Far { AGREEING_FAR } else { AGREEING_NEAR };
        let paced = duration * (needed - 1) * 3 / 4;
        self.run.length >= needed && arrival.since(self.run.since) >= paced
    }

    /// How many packets in a row are under suspicion.
    pub(super) fn suspects(&self) -> u32 {
        self.run.length
    }

    /// The turn of `count` packets is over, and they have not come.
    pub(super) fn pass_over(&mut self, count: u32) {
        self.head = self.head.wrapping_add(count);
        self.seen = self.seen.checked_shl(count).unwrap_or(0);
    }

    /// The turn of the head is over, and it had come.
    pub(super) fn pass(&mut self) {
        self.pass_over(1);
        self.seen |= 1;
    }
}
