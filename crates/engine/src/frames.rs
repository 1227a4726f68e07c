//! Frames on their way to a lane: a bounded queue of reused buffers, which drops the oldest when it is full.
//!
//! The lane never waits for whoever pushes: while a push is under way the queue is as good as empty to it, and who
//! pushed calls the lane afterwards.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use evenkeel_core::pcm::Samples;
use evenkeel_core::relay::MAX_OPUS_PACKET;
use evenkeel_core::units::Time;

use crate::lock::{lock, try_lock};

/// Room in a buffer for a packet of speech, so that buffers do not grow for ever; a longer one takes the most there is.
const OPUS_ROOM: usize = 512;

/// A frame on its way to a lane.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) data: FrameData,
    pub(crate) pushed_at: Time,
    pub(crate) ticket: u64,
}

/// What was pushed. The buffers are reused.
#[derive(Debug, Default)]
pub(crate) enum FrameData {
    #[default]
    Empty,
    F32(Vec<f32>),
    I16(Vec<i16>),
    Opus(Vec<u8>),
}

impl FrameData {
    /// Copies samples in, into the buffer that is there if it is of their kind.
    pub(crate) fn fill(&mut self, samples: Samples<'_>) {
        match (&mut *self, samples) {
            (Self::F32(buffer), Samples::F32(samples)) => refill(buffer, samples),
            (Self::I16(buffer), Samples::I16(samples)) => refill(buffer, samples),
            (_, Samples::F32(samples)) => *self = Self::F32(samples.to_vec()),
            (_, Samples::I16(samples)) => *self = Self::I16(samples.to_vec()),
        }
    }

    /// Copies an Opus packet in.
    pub(crate) fn fill_opus(&mut self, packet: &[u8]) {
        if !matches!(self, Self::Opus(_)) {
            *self = Self::Opus(Vec::with_capacity(OPUS_ROOM));
        }
        if let Self::Opus(buffer) = self {
            if packet.len() > buffer.capacity() {
                *buffer = Vec::with_capacity(MAX_OPUS_PACKET.max(packet.len()));
            }
            refill(buffer, packet);
        }
    }
}

fn refill<T: Copy>(buffer: &mut Vec<T>, data: &[T]) {
    buffer.clear();
    buffer.extend_from_slice(data);
}

/// A queue of at most `capacity` frames from any threads to one lane.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    capacity: usize,
    inner: Mutex<Inner>,
    /// When the oldest frame was pushed, in nanoseconds; [`EMPTY`] if there is none.
    oldest: AtomicU64,
    len: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    frames: VecDeque<Frame>,
    spare: Vec<Frame>,
    next_ticket: u64,
}

const EMPTY: u64 = u64::MAX;

impl FrameQueue {
    /// An empty queue of `capacity` frames, at least 1.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let inner = Inner {
            frames: VecDeque::with_capacity(capacity),
            // All that can be: those of a full queue, and one that the lane gives back.
            spare: Vec::with_capacity(capacity + 1),
            next_ticket: 1,
        };
        Self {
            capacity,
            inner: Mutex::new(inner),
            oldest: AtomicU64::new(EMPTY),
            len: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Fills a reused frame with `fill` and queues it. Where the queue is full, the oldest frame is dropped and
    /// counted. Returns the frame's ticket; tickets are in the order of the queue, from 1. Waits only for others who
    /// push at this moment, and for no longer than a frame takes to copy.
    pub(crate) fn push(&self, fill: impl FnOnce(&mut Frame)) -> u64 {
        let mut inner = lock(&self.inner);
        if inner.frames.len() == self.capacity
            && let Some(oldest) = inner.frames.pop_front()
        {
            inner.spare.push(oldest);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let mut frame = inner.spare.pop().unwrap_or_default();
        fill(&mut frame);
        frame.ticket = inner.next_ticket;
        inner.next_ticket += 1;
        let ticket = frame.ticket;
        inner.frames.push_back(frame);
        self.publish(&inner);
        ticket
    }

    /// Takes the oldest frame in exchange for the one `held`, whose buffer is reused. `false`, and nothing is
    /// exchanged, if there is none or somebody is just pushing.
    pub(crate) fn take(&self, held: &mut Frame) -> bool {
        let Some(mut inner) = try_lock(&self.inner) else { return false };
        let Some(oldest) = inner.frames.pop_front() else { return false };
        inner.spare.push(std::mem::replace(held, oldest));
        self.publish(&inner);
        true
    }

    fn publish(&self, inner: &Inner) {
        let oldest = inner.frames.front().map_or(EMPTY, |frame| frame.pushed_at.as_nanos());
        self.oldest.store(oldest, Ordering::Release);
        self.len.store(inner.frames.len(), Ordering::Relaxed);
    }

    /// When the oldest frame was pushed, if there is one.
    pub(crate) fn oldest(&self) -> Option<Time> {
        let nanos = self.oldest.load(Ordering::Acquire);
        (nanos != EMPTY).then(|| Time::from_nanos(nanos))
    }

    /// How many frames wait.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many frames were dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(queue: &FrameQueue) -> Vec<u64> {
        let mut frame = Frame::default();
        std::iter::from_fn(|| queue.take(&mut frame).then_some(frame.ticket)).collect()
    }

    #[test]
    fn the_oldest_goes_when_it_is_full_and_order_stays() {
        let queue = FrameQueue::new(3);
        for i in 0..5 {
            queue.push(|frame| frame.pushed_at = Time::from_millis(i));
        }
        assert_eq!((queue.len(), queue.dropped(), queue.oldest()), (3, 2, Some(Time::from_millis(2))));
        assert_eq!(tickets(&queue), [3, 4, 5]);
        assert_eq!((queue.len(), queue.oldest()), (0, None));
    }

    #[test]
    fn a_lane_does_not_wait_for_one_who_is_pushing() {
        let queue = FrameQueue::new(3);
        queue.push(|_| ());
        queue.push(|_| assert!(!queue.take(&mut Frame::default())));
        assert_eq!(tickets(&queue), [1, 2]);
    }

    #[test]
    fn tickets_are_in_the_order_of_the_queue_whoever_pushes() {
        let queue = FrameQueue::new(4_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| assert!(queue.push(|_| ()) > 0)));
            }
        });
        assert_eq!(tickets(&queue), (1..=4_000).collect::<Vec<_>>());
    }
}
