//! Timestamps of the room and ours, side by side: a device that cancels echo says with each uplink packet which of
//! our timestamps it was playing, and the room wants its own back.

/// How far back the mapping reaches: 64 packets of 60 ms are 3.8 s, more than any device buffers.
const LEN: usize = 64;

/// The last pairs of timestamps.
#[derive(Default)]
pub(super) struct Stamps {
    /// Ours, then the room's. Ours is never zero.
    pairs: Option<Box<[(u32, u32); LEN]>>,
    next: usize,
}

impl Stamps {
    /// Remembers a pair. Allocates at the first.
    pub(super) fn note(&mut self, ours: u32, room: u32) {
        let pairs = self.pairs.get_or_insert_with(|| Box::new([(0, 0); LEN]));
        pairs[self.next] = (ours, room);
        self.next = (self.next + 1) % LEN;
    }

    /// The room's timestamp of the packet that we sent with `ours`.
    pub(super) fn room_of(&self, ours: u32) -> Option<u32> {
        if ours == 0 {
            return None;
        }
        // Newest first: that is what a device plays.
        let pairs = self.pairs.as_deref()?;
        let (newer, older) = (pairs[..self.next].iter().rev(), pairs[self.next..].iter().rev());
        newer.chain(older).find(|pair| pair.0 == ours).map(|pair| pair.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_mapped_back() {
        let mut stamps = Stamps::default();
        assert_eq!(stamps.room_of(0), None);
        for i in 1..=100 {
            stamps.note(i * 60, i + 7);
        }
        for i in 1..=100 {
            assert_eq!(stamps.room_of(i * 60), (i > 36).then_some(i + 7), "{i}");
        }
        assert_eq!(stamps.room_of(0), None);
        assert_eq!(stamps.room_of(61), None);
    }
}
