//! Which sequences may still come: a sliding window against replay, and a guard against forged jumps.
//!
//! Checking and accepting are two steps, because nothing may move before the datagram proved good: [`Replay::check`]
//! is pure, [`Replay::accept`] commits.

use crate::error::OpenError;

/// How many 64-bit words the largest window has.
const WORDS: usize = 4;

/// One datagram alone may move the newest sequence at most this far where no tag vouches for it. The first datagram of
/// a session may have any sequence.
pub const MAX_JUMP: u32 = 3_000;

/// How many datagrams in a row must agree on a longer jump.
const AGREEING: u8 = 3;

/// A sequence that passed [`Replay::check`], extended to 64 bits by the rollover count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a sequence counts as seen only once it is accepted"]
pub struct Fresh {
    index: u64,
}

impl Fresh {
    /// How often the 32-bit sequence rolled over before this one.
    #[must_use]
    pub const fn rollover(self) -> u32 {
        (self.index >> 32) as u32
    }
}

/// A sliding window over 32-bit sequences, which may wrap (the wrap is counted, as in RFC 3711 section 3.3.1).
#[derive(Clone, Debug)]
pub struct Replay {
    size: u32,
    limits_jumps: bool,
    newest: Option<u64>,
    /// Bit `i` of the whole: `newest - i` was seen.
    seen: [u64; WORDS],
    far: u64,
    far_count: u8,
}

impl Replay {
    /// The window of the `compat` profile: 64 packets, jumps limited to [`MAX_JUMP`].
    #[must_use]
    pub const fn compat() -> Self {
        Self::new(64, true)
    }

    /// The window of the `sealed` profile: 256 packets; whoever passes the tag may jump.
    #[must_use]
    pub const fn sealed() -> Self {
        Self::new(256, false)
    }

    /// The same, with jumps limited to [`MAX_JUMP`].
    #[must_use]
    pub const fn limiting_jumps(self) -> Self {
        Self { limits_jumps: true, ..self }
    }

    const fn new(size: u32, limits_jumps: bool) -> Self {
        Self { size, limits_jumps, newest: None, seen: [0; WORDS], far: 0, far_count: 0 }
    }

    /// Whether `sequence` may be let in, as far as the window knows. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError::Replayed`] or [`OpenError::Stale`].
    #[inline]
    pub fn check(&self, sequence: u32) -> Result<Fresh, OpenError> {
        let Some(newest) = self.newest else { return Ok(Fresh { index: u64::from(sequence) }) };
        let step = sequence.wrapping_sub(newest as u32) as i32;
        let index = newest
            .checked_add_signed(i64::from(step))
            .ok_or(OpenError::Stale { sequence, window: self.size })?;
        if index > newest {
            return Ok(Fresh { index });
        }
        let age = newest - index;
        if age >= u64::from(self.size) {
            return Err(OpenError::Stale { sequence, window: self.size });
        }
        if self.seen[(age / 64) as usize] >> (age % 64) & 1 != 0 {
            return Err(OpenError::Replayed { sequence });
        }
        Ok(Fresh { index })
    }

    /// Marks a checked sequence as seen, once its datagram proved good.
    ///
    /// # Errors
    /// [`OpenError::TooFarAhead`] where jumps are limited and this is the first or second datagram to make one; it
    /// is remembered, so that the third in a row that agrees is let in.
    #[inline]
    pub fn accept(&mut self, fresh: Fresh) -> Result<(), OpenError> {
        let Some(newest) = self.newest else {
            self.newest = Some(fresh.index);
            self.seen[0] = 1;
            return Ok(());
        };
        if fresh.index <= newest {
            let age = newest - fresh.index;
            self.seen[(age / 64) as usize] |= 1 << (age % 64);
            self.far_count = 0;
            return Ok(());
        }
        let ahead = fresh.index - newest;
        if self.limits_jumps && ahead > u64::from(MAX_JUMP) {
            self.agree(fresh.index, ahead)?;
        }
        self.far_count = 0;
        self.slide(ahead);
        self.newest = Some(fresh.index);
        Ok(())
    }

    /// Counts datagrams in a row that claim the same distant place.
    fn agree(&mut self, index: u64, ahead: u64) -> Result<(), OpenError> {
        let agrees = self.far_count > 0 && index > self.far && index - self.far <= u64::from(MAX_JUMP);
        self.far_count = if agrees { self.far_count + 1 } else { 1 };
        self.far = index;
        if self.far_count >= AGREEING {
            return Ok(());
        }
        Err(OpenError::TooFarAhead { sequence: index as u32, ahead: ahead as u32, limit: MAX_JUMP })
    }

    fn slide(&mut self, by: u64) {
        if by >= 64 * WORDS as u64 {
            self.seen = [1, 0, 0, 0];
            return;
        }
        let (words, bits) = ((by / 64) as usize, (by % 64) as u32);
        for i in (0..WORDS).rev() {
            let mut word = if i >= words { self.seen[i - words] << bits } else { 0 };
            if bits > 0 && i > words {
                word |= self.seen[i - words - 1] >> (64 - bits);
            }
            self.seen[i] = word;
        }
        self.seen[0] |= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn offer(window: &mut Replay, sequence: u32) -> Result<(), OpenError> {
        window.check(sequence).and_then(|fresh| window.accept(fresh))
    }

    #[test]
    fn a_sequence_is_let_in_once_and_only_within_the_window() {
        let mut window = Replay::compat();
        for s in [100, 99, 37, 101] {
            assert_eq!(offer(&mut window, s), Ok(()), "{s}");
        }
        assert_eq!(offer(&mut window, 99), Err(OpenError::Replayed { sequence: 99 }));
        assert_eq!(offer(&mut window, 37), Err(OpenError::Stale { sequence: 37, window: 64 }));
        assert_eq!(offer(&mut window, 38), Ok(()));
    }

    #[test]
    fn a_long_jump_needs_three_in_a_row_that_agree() {
        let mut window = Replay::compat();
        offer(&mut window, 2).unwrap();
        for s in [50_000, 50_001] {
            assert!(matches!(offer(&mut window, s), Err(OpenError::TooFarAhead { .. })));
        }
        assert_eq!(offer(&mut window, 3), Ok(()), "the call goes on meanwhile");
        for s in [50_002, 50_003] {
            assert!(offer(&mut window, s).is_err(), "the good datagram broke the row");
        }
        assert_eq!(offer(&mut window, 1), Ok(()), "and so does one that was overtaken");
        for s in [50_004, 50_005] {
            assert!(offer(&mut window, s).is_err(), "it broke the row, too");
        }
        assert_eq!(offer(&mut window, 50_006), Ok(()));
        assert!(offer(&mut window, 4).is_err());
    }

    #[test]
    fn the_same_far_datagram_does_not_agree_with_itself() {
        let mut window = Replay::compat();
        offer(&mut window, 1).unwrap();
        for _ in 0..10 {
            assert!(offer(&mut window, 70_000).is_err());
        }
    }

    #[test]
    fn the_rollover_is_counted() {
        let mut window = Replay::sealed();
        offer(&mut window, u32::MAX - 1).unwrap();
        assert_eq!(window.check(3).unwrap().rollover(), 1);
        offer(&mut window, 3).unwrap();
        assert_eq!(window.check(u32::MAX).unwrap().rollover(), 0);
        assert!(Replay::sealed().check(7).is_ok());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(start in 100_000u32..=u32::MAX, steps in proptest::collection::vec(-300i32..300, 1..300)) {
            let mut window = Replay::sealed();
            let (mut set, mut newest) = (HashSet::new(), 1u64 << 40 | u64::from(start));
            let mut at = newest;
            for (i, step) in steps.into_iter().enumerate() {
                at = at.saturating_add_signed(i64::from(step));
                let expected = i == 0 || at > newest || (newest - at < 256 && !set.contains(&at));
                // A window that has not rolled over yet knows nothing before its first sequence's zero.
                prop_assume!(at >> 32 >= 1 << 8);
                prop_assert_eq!(offer(&mut window, at as u32).is_ok(), expected);
                if expected {
                    set.insert(at);
                    newest = if i == 0 { at } else { newest.max(at) };
                }
            }
        }
    }
}
