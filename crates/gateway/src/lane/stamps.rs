//! Timestamps of the room and ours, side by side: a device that cancels echo says with each uplink packet which of
//! our timestamps it was playing, and the room wants its own back.

/// How far back the mapping reaches: 64 packets of 60 ms are 3.8 s, more than any device buffers.
const LEN: usize = 64;

/// The last pairs of timestamps.
#[derive(Default)]
pub(super) struct Stamps {
    /// Ours, then the room's.
    pairs: Option<Box<[(u32, u32); LEN]>>,
    /// How many were noted ever. The oldest that is still there is where the next will be.
    noted: usize,
}

impl Stamps {
    /// Remembers a pair, whose `ours` comes after all before. Allocates at the first.
    pub(super) fn note(&mut self, ours: u32, room: u32) {
        let pairs = self.pairs.get_or_insert_with(|| Box::new([(0, 0); LEN]));
        let newest = self.noted.checked_sub(1).map(|newest| pairs[newest % LEN].0);
        debug_assert!(newest.is_none_or(|newest| ours.wrapping_sub(newest) as i32 > 0), "{newest:?} {ours}");
        pairs[self.noted % LEN] = (ours, room);
        self.noted += 1;
    }

    /// The room's timestamp of the packet that we sent with `ours`.
    pub(super) fn room_of(&self, ours: u32) -> Option<u32> {
        // That is what a device says which echoes nothing.
        if ours == 0 {
            return None;
        }
        let pairs = self.pairs.as_deref()?;
        // Looked for by halves, as most devices echo nothing that is there, and the whole does not stay in caches.
        let (mut from, mut to) = (self.noted.saturating_sub(LEN), self.noted);
        while from < to {
            let middle = usize::midpoint(from, to);
            let (stamp, room) = pairs[middle % LEN];
            match stamp.wrapping_sub(ours) as i32 {
                0 => return Some(room),
                1.. => to = middle,
                _ => from = middle + 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_mapped_back() {
        let mut stamps = Stamps::default();
        assert_eq!(stamps.room_of(0), None);
        // They wrap in between.
        let ours = |i: u32| (i * 60).wrapping_sub(60 * 90 + 1);
        for last in 1..=100 {
            stamps.note(ours(last), last + 7);
            for i in 0..=last + 1 {
                let is_there = i >= 1 && i <= last && i + 64 > last;
                assert_eq!(stamps.room_of(ours(i)), is_there.then_some(i + 7), "{i} of {last}");
                assert_eq!(stamps.room_of(ours(i).wrapping_add(1)), None);
            }
        }
    }
}
