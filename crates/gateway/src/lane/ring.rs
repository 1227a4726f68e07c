//! Opus packets in a queue of bytes: a hundred packets of speech take what they are long, not what packets may be.

use std::time::Duration;

use evenkeel_sys::cache::prefetch_bytes;

use crate::media::ReplyId;

/// What all rings of a lane may hold together, so that no number of calls takes all memory.
#[derive(Debug)]
pub(super) struct Budget {
    free: usize,
}

impl Budget {
    pub(super) const fn new(bytes: usize) -> Self {
        Self { free: bytes }
    }

    /// Bytes that may still be taken.
    pub(super) const fn free(&self) -> usize {
        self.free
    }

    fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.free;
        if fits {
            self.free -= bytes;
        }
        fits
    }

    fn give_back(&mut self, bytes: usize) {
        self.free += bytes;
    }
}

/// A queue of packets and marks. Grows by doubling, from nothing to [`PacketRing::MAX_BYTES`].
#[derive(Debug, Default)]
pub(super) struct PacketRing {
    /// As long as its capacity, a power of two or nothing.
    bytes: Vec<u8>,
    /// Bytes ever taken out and put in; their difference is what is held.
    out: Totals,
    put: Totals,
    /// What was put in at this place is at the start of `bytes`.
    start: u64,
}

/// A place in the stream of all that was ever put into a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    bytes: u64,
    packets: u64,
    micros: u64,
}

/// What stands at the head of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Packet(Packet),
    Mark(ReplyId),
}

/// A packet, but for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// In bytes.
    pub(super) len: usize,
    /// A multiple of 2.5 ms.
    pub(super) duration: Duration,
    /// The room's timestamp; of a participant, when it was played out, in µs of the lane's clock.
    pub(super) stamp: u32,
}

/// Before each packet: its length, its duration in units of 2.5 ms (0 for a mark), and its timestamp (or reply).
const HEAD: usize = 8;
const UNIT_MICROS: u64 = 2_500;

/// What a packet of voice has about, in bytes.
const USUAL: usize = 256;

impl PacketRing {
    /// As far as one ring grows: 30 s at 64 kb/s.
    const MAX_BYTES: usize = 256 << 10;
    const MIN_BYTES: usize = 1 << 10;
    /// What an empty ring keeps for the next packets.
    const KEPT_BYTES: usize = 2 << 10;

    /// Brings near where the next packet goes, and where the one is that is next.
    pub(super) fn foresee(&self) {
        if self.bytes.is_empty() {
            return;
        }
        let near = |at: usize| prefetch_bytes(self.bytes.as_ptr().wrapping_add(at), USUAL);
        if self.is_empty() {
            return near(0);
        }
        near(self.index(self.out.bytes));
        near(self.index(self.put.bytes));
    }

    /// Adds a packet. `false` if there is no room: neither within the ring's limit nor in the budget.
    pub(super) fn push(&mut self, opus: &[u8], duration: Duration, stamp: u32, budget: &mut Budget) -> bool {
        let micros = duration.as_micros() as u64;
        let units = u8::try_from(micros / UNIT_MICROS).unwrap_or(u8::MAX).max(1);
        let Ok(len) = u16::try_from(opus.len()) else { return false };
        if !self.reserve(HEAD + opus.len(), budget) {
            return false;
        }
        self.put_head(len, units, stamp);
        self.put_bytes(opus);
        self.put.packets += 1;
        self.put.micros += u64::from(units) * UNIT_MICROS;
        true
    }

    /// Adds a mark; `false` as above.
    pub(super) fn push_mark(&mut self, reply: ReplyId, budget: &mut Budget) -> bool {
        let fits = self.reserve(HEAD, budget);
        if fits {
            self.put_head(0, 0, reply.0);
        }
        fits
    }

    /// What is next.
    pub(super) fn peek(&self) -> Option<Head> {
        if self.out.bytes == self.put.bytes {
            return None;
        }
        let mut head = [0; HEAD];
        self.read(self.out.bytes, &mut head);
        let [l0, l1, units, _, stamp @ ..] = head;
        let stamp = u32::from_be_bytes(stamp);
        if units == 0 {
            return Some(Head::Mark(ReplyId(stamp)));
        }
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let duration = Duration::from_micros(u64::from(units) * UNIT_MICROS);
        Some(Head::Packet(Packet { len, duration, stamp }))
    }

    /// Takes what is next; a packet's bytes go to the start of `out`, as far as it is long.
    pub(super) fn pop(&mut self, out: &mut [u8]) -> Option<Head> {
        let head = self.peek()?;
        if let Head::Packet(packet) = head {
            let len = packet.len.min(out.len());
            self.read(self.out.bytes + HEAD as u64, &mut out[..len]);
        }
        self.drop_head();
        Some(head)
    }

    /// Drops what is next.
    pub(super) fn drop_head(&mut self) -> Option<Head> {
        let head = self.peek()?;
        self.out.bytes += HEAD as u64;
        if let Head::Packet(packet) = head {
            self.out.bytes += packet.len as u64;
            self.out.packets += 1;
            self.out.micros += packet.duration.as_micros() as u64;
        }
        Some(head)
    }

    /// Drops everything, and gives memory back if it is more than a few packets'.
    pub(super) fn clear(&mut self, budget: &mut Budget) {
        self.out = self.put;
        if self.bytes.len() > Self::KEPT_BYTES {
            budget.give_back(self.bytes.len());
            self.bytes = Vec::new();
        }
    }

    /// Gives all memory back.
    pub(super) fn close(&mut self, budget: &mut Budget) {
        budget.give_back(self.bytes.len());
        *self = Self::default();
    }

    /// Neither packets nor marks.
    pub(super) const fn is_empty(&self) -> bool {
        self.out.bytes == self.put.bytes
    }

    pub(super) const fn packets(&self) -> u64 {
        self.put.packets - self.out.packets
    }

    /// How long all packets last together.
    pub(super) const fn duration(&self) -> Duration {
        Duration::from_micros(self.put.micros - self.out.micros)
    }

    /// The place behind the newest packet.
    pub(super) const fn end(&self) -> Totals {
        self.put
    }

    /// Drops what was put in after `end`, unless that was taken out already.
    pub(super) fn truncate(&mut self, end: Totals) {
        if end.bytes >= self.out.bytes && end.bytes <= self.put.bytes {
            self.put = end;
        }
    }

    fn reserve(&mut self, more: usize, budget: &mut Budget) -> bool {
        let held = (self.put.bytes - self.out.bytes) as usize;
        if held == 0 {
            // So that one packet at a time goes through the same few cache lines, not through all there are.
            self.start = self.put.bytes;
        }
        let capacity = self.bytes.len();
        if held + more <= capacity {
            return true;
        }
        let wanted = (held + more).next_power_of_two().max(Self::MIN_BYTES);
        if wanted > Self::MAX_BYTES || !budget.take(wanted - capacity) {
            return false;
        }
        let mut grown = vec![0; wanted];
        if held > 0 {
            // Positions stay what they are, so what was noted of them stays true.
            let at = (self.out.bytes - self.start) as usize & (wanted - 1);
            let first = held.min(wanted - at);
            self.read(self.out.bytes, &mut grown[at..at + first]);
            self.read(self.out.bytes + first as u64, &mut grown[..held - first]);
        }
        self.bytes = grown;
        true
    }

    fn put_head(&mut self, len: u16, units: u8, stamp: u32) {
        let [l0, l1] = len.to_be_bytes();
        let [s0, s1, s2, s3] = stamp.to_be_bytes();
        self.put_bytes(&[l0, l1, units, 0, s0, s1, s2, s3]);
    }

    fn put_bytes(&mut self, data: &[u8]) {
        let at = self.index(self.put.bytes);
        let first = data.len().min(self.bytes.len() - at);
        self.bytes[at..at + first].copy_from_slice(&data[..first]);
        self.bytes[..data.len() - first].copy_from_slice(&data[first..]);
        self.put.bytes += data.len() as u64;
    }

    fn read(&self, from: u64, data: &mut [u8]) {
        if data.is_empty() {
            return;
        }
        let at = self.index(from);
        let first = data.len().min(self.bytes.len() - at);
        let (start, rest) = data.split_at_mut(first);
        start.copy_from_slice(&self.bytes[at..at + first]);
        rest.copy_from_slice(&self.bytes[..rest.len()]);
    }

    const fn index(&self, position: u64) -> usize {
        (position - self.start) as usize & (self.bytes.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const MS_60: Duration = Duration::from_millis(60);

    #[test]
    fn it_takes_as_much_memory_as_its_packets_and_gives_it_back() {
        let mut budget = Budget::new(10_000);
        let mut ring = PacketRing::default();
        assert_eq!(ring.bytes.len(), 0);
        let count = (0..).take_while(|&i| ring.push(&[7; 92], MS_60, i, &mut budget)).count();
        assert_eq!((count, ring.bytes.len(), budget.free), (81, 8192, 10_000 - 8192));
        assert_eq!((ring.packets(), ring.duration()), (81, MS_60 * 81));
        ring.clear(&mut budget);
        assert_eq!((ring.is_empty(), ring.bytes.len(), budget.free), (true, 0, 10_000));
        assert!(ring.push(&[7; 92], MS_60, 0, &mut budget));
        ring.close(&mut budget);
        assert_eq!(budget.free, 10_000);
        let mut ring = PacketRing::default();
        let mut plenty = Budget::new(usize::MAX);
        while ring.push(&[0; 1000], MS_60, 0, &mut plenty) {}
        assert_eq!(ring.bytes.len(), PacketRing::MAX_BYTES);
    }

    #[test]
    fn what_was_put_in_last_can_be_dropped_again() {
        let (mut ring, mut budget) = (PacketRing::default(), Budget::new(1 << 20));
        ring.push(&[1], MS_60, 1, &mut budget);
        let end = ring.end();
        for stamp in 2..200 {
            ring.push(&[2; 100], MS_60, stamp, &mut budget);
        }
        ring.truncate(end);
        assert_eq!((ring.packets(), ring.duration()), (1, MS_60));
        ring.drop_head();
        ring.push(&[3], MS_60, 3, &mut budget);
        let stale = ring.end();
        ring.drop_head();
        ring.push(&[4], MS_60, 4, &mut budget);
        ring.drop_head();
        ring.truncate(stale);
        assert!(ring.is_empty(), "a place that was passed is no longer there");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>, u8),
        Mark(u32),
        Pop,
        Drop,
        Clear,
        /// Remember the end.
        Note,
        Truncate,
    }

    proptest! {
        #[test]
        fn it_is_a_queue(ops in proptest::collection::vec(prop_oneof![
            4 => (proptest::collection::vec(any::<u8>(), 1..400), 1u8..=48).prop_map(|(b, d)| Op::Push(b, d)),
            1 => any::<u32>().prop_map(Op::Mark),
            3 => Just(Op::Pop),
            1 => Just(Op::Drop),
            1 => Just(Op::Clear),
            1 => Just(Op::Note),
            1 => Just(Op::Truncate),
        ], 1..200)) {
            let (mut ring, mut budget, mut model) = (PacketRing::default(), Budget::new(6000), VecDeque::new());
            // How much ever went out of the model, and what was noted: a place, and how much had ever been put in.
            let (mut out, mut noted) = (0, (ring.end(), 0));
            for (op, stamp) in ops.into_iter().zip(0..) {
                let (before, is_truncate) = (model.len(), matches!(op, Op::Truncate));
                match op {
                    Op::Push(bytes, units) => {
                        let duration = Duration::from_micros(u64::from(units) * UNIT_MICROS);
                        if ring.push(&bytes, duration, stamp, &mut budget) {
                            let packet = Packet { len: bytes.len(), duration, stamp };
                            model.push_back((Head::Packet(packet), bytes));
                        }
                    }
                    Op::Mark(id) => {
                        if ring.push_mark(ReplyId(id), &mut budget) {
                            model.push_back((Head::Mark(ReplyId(id)), Vec::new()));
                        }
                    }
                    Op::Pop => {
                        let mut out = [0; 500];
                        let popped = ring.pop(&mut out);
                        let expected = model.pop_front();
                        prop_assert_eq!(popped, expected.as_ref().map(|e| e.0));
                        if let Some((_, bytes)) = expected {
                            prop_assert_eq!(&out[..bytes.len()], bytes.as_slice());
                        }
                    }
                    Op::Drop => prop_assert_eq!(ring.drop_head(), model.pop_front().map(|e| e.0)),
                    Op::Note => noted = (ring.end(), out + model.len()),
                    Op::Truncate => {
                        ring.truncate(noted.0);
                        if noted.1 >= out {
                            model.truncate(noted.1 - out);
                        }
                    }
                    Op::Clear => {
                        ring.clear(&mut budget);
                        model.clear();
                    }
                }
                // What was truncated never went out.
                out += if is_truncate { 0 } else { before.saturating_sub(model.len()) };
                let packets = model.iter().filter(|e| matches!(e.0, Head::Packet(_))).count();
                prop_assert_eq!((ring.packets() as usize, ring.is_empty()), (packets, model.is_empty()));
                prop_assert!(budget.free <= 6000 && ring.bytes.len() <= 6000);
            }
        }
    }
}
