//! When each of many things is due, the earliest first: at most one deadline a slot, moved in place.
//!
//! A heap of four children a node that knows where each slot stands, so a deadline that moves leaves nothing behind.

use evenkeel_core::units::Time;

const CHILDREN: usize = 4;
const ABSENT: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: Vec<(Time, u32)>,
    /// Where in the heap each slot stands.
    places: Vec<u32>,
}

impl Deadlines {
    /// Sets, moves or (with `None`) removes the deadline of a slot. Allocates only for a slot above all before.
    pub(super) fn set(&mut self, slot: u32, due: Option<Time>) {
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, ABSENT);
            self.heap.reserve(self.places.len() - self.heap.len());
        }
        match (self.places[slot as usize], due) {
            (ABSENT, None) => {}
            (ABSENT, Some(due)) => {
                self.heap.push((due, slot));
                self.rise(self.heap.len() - 1);
            }
            (at, Some(due)) if self.heap[at as usize].0 == due => {}
            (at, Some(due)) => {
                let at = at as usize;
                let before = std::mem::replace(&mut self.heap[at].0, due);
                if due < before {
                    self.rise(at);
                } else {
                    self.sink(at);
                }
            }
            (at, None) => self.remove(at as usize),
        }
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<(Time, u32)> {
        self.heap.first().copied()
    }

    /// Some of those due by `horizon`, in no order: all, if there are few.
    pub(super) fn some_due(&self, horizon: Time) -> impl Iterator<Item = u32> {
        let top = &self.heap[..self.heap.len().min(1 + CHILDREN + CHILDREN * CHILDREN)];
        top.iter().filter(move |(due, _)| *due <= horizon).map(|&(_, slot)| slot)
    }

    fn remove(&mut self, at: usize) {
        let (_, slot) = self.heap.swap_remove(at);
        self.places[slot as usize] = ABSENT;
        if at < self.heap.len() {
            self.rise(at);
            self.sink(at);
        }
    }

    fn rise(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.heap[parent].0 <= entry.0 {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, entry);
    }

    fn sink(&mut self, mut at: usize) {
        let entry = self.heap[at];
        loop {
            let first = at * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child].0) else { break };
            if self.heap[least].0 >= entry.0 {
                break;
            }
            self.put(at, self.heap[least]);
            at = least;
        }
        self.put(at, entry);
    }

    fn put(&mut self, at: usize, entry: (Time, u32)) {
        self.heap[at] = entry;
        self.places[entry.1 as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_first_is_the_earliest_of_all_set(
            sets in proptest::collection::vec((0u32..40, proptest::option::weighted(0.8, 0u64..1000)), 1..400),
        ) {
            let (mut deadlines, mut model) = (Deadlines::default(), BTreeMap::new());
            for (slot, due) in sets {
                deadlines.set(slot, due.map(Time::from_nanos));
                match due {
                    Some(due) => model.insert(slot, due),
                    None => model.remove(&slot),
                };
                let first = deadlines.first();
                prop_assert_eq!(first.map(|f| f.0.as_nanos()), model.values().min().copied());
                if let Some((due, slot)) = first {
                    prop_assert_eq!(model.get(&slot), Some(&due.as_nanos()));
                }
                prop_assert_eq!(deadlines.heap.len(), model.len());
                let horizon = first.map_or(0, |f| f.0.as_nanos() + 10);
                let all = model.iter().filter(|(_, due)| **due <= horizon).count();
                let mut some: Vec<_> = deadlines.some_due(Time::from_nanos(horizon)).collect();
                some.sort_unstable();
                some.dedup();
                prop_assert!(some.iter().all(|slot| model[slot] <= horizon));
                prop_assert!(some.len() == all || all > 3, "{} of {}", some.len(), all);
            }
        }
    }
}
