//! Which streams of a lane have something new: a bit each, set by any thread, taken by the lane.
//!
//! Neither side ever waits for the other, whatever it is interrupted in. A queue would not do: its consumer has to
//! wait for a producer that was interrupted half-way, and a lane of real-time priority may be what interrupted it.

use std::sync::atomic::{AtomicU64, Ordering};

const BITS: usize = u64::BITS as usize;

/// A set of slots, which knows quickly that it is empty.
pub(crate) struct Notes {
    slots: Box<[AtomicU64]>,
    /// A bit for each word of `slots` that may not be zero.
    words: Box<[AtomicU64]>,
}

impl Notes {
    /// An empty set of slots below `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        let zeros = |count: usize| (0..count.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>();
        let slots = zeros(capacity);
        Self { words: zeros(slots.len()), slots }
    }

    /// Adds a slot. What was written before is seen by whoever takes it.
    pub(crate) fn add(&self, slot: usize) {
        let word = slot / BITS;
        self.slots[word].fetch_or(1 << (slot % BITS), Ordering::AcqRel);
        self.words[word / BITS].fetch_or(1 << (word % BITS), Ordering::AcqRel);
    }

    /// Takes all slots out and hands them on, lowest first. What is added meanwhile may be left for the next time.
    pub(crate) fn take(&self, mut each: impl FnMut(usize)) {
        for (i, words) in self.words.iter().enumerate() {
            if words.load(Ordering::Relaxed) == 0 {
                continue;
            }
            for word in bits(words.swap(0, Ordering::AcqRel)).map(|bit| i * BITS + bit) {
                let slots = self.slots[word].swap(0, Ordering::AcqRel);
                bits(slots).for_each(|bit| each(word * BITS + bit));
            }
        }
    }
}

fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        lowest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn what_is_added_is_taken_once_and_in_order(
            rounds in proptest::collection::vec(proptest::collection::btree_set(0usize..9_000, 0..50), 0..5),
        ) {
            let notes = Notes::new(9_000);
            for slots in rounds {
                slots.iter().chain(&slots).for_each(|&slot| notes.add(slot));
                let mut taken = Vec::new();
                notes.take(|slot| taken.push(slot));
                prop_assert_eq!(taken, slots.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const EACH: usize = 20_000;
        let notes = Notes::new(4 * EACH);
        let mut seen = BTreeSet::new();
        std::thread::scope(|scope| {
            for part in 0..4 {
                let notes = &notes;
                scope.spawn(move || (0..EACH).for_each(|i| notes.add(4 * i + part)));
            }
            while seen.len() < 4 * EACH {
                notes.take(|slot| assert!(seen.insert(slot), "taken twice"));
                std::thread::yield_now();
            }
        });
        notes.take(|slot| panic!("{slot} was left"));
    }
}
