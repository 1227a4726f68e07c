//! The outside of a lane: what other threads leave for it and read of it. The lane never waits for any of them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_sys::wait::Waker;

use crate::figures::LaneFigures;
use crate::lock::{lock, try_lock};
use crate::notes::Notes;
use crate::stream::Stream;

/// The outside of one lane.
pub(crate) struct Port {
    pub(crate) arrivals: Arrivals,
    pub(crate) notes: Notes,
    pub(crate) waker: Waker,
    pub(crate) figures: LaneFigures,
}

impl Port {
    /// Of a lane with `slots` slots.
    pub(crate) fn new(slots: usize, waker: Waker) -> Self {
        Self {
            arrivals: Arrivals::new(slots),
            notes: Notes::new(slots),
            waker,
            figures: LaneFigures::default(),
        }
    }
}

/// Streams on their way to a lane.
pub(crate) struct Arrivals {
    queue: Mutex<VecDeque<Box<Stream>>>,
    len: AtomicUsize,
    limit: usize,
}

impl Arrivals {
    fn new(limit: usize) -> Self {
        Self { queue: Mutex::new(VecDeque::with_capacity(64.min(limit))), len: AtomicUsize::new(0), limit }
    }

    /// Leaves a stream; wake the lane afterwards. Gives it back if too many wait.
    pub(crate) fn push(&self, stream: Box<Stream>) -> Result<(), Box<Stream>> {
        self.push_to(&mut lock(&self.queue), stream)
    }

    /// As [`Arrivals::push`], for lanes: gives the stream back rather than wait.
    pub(crate) fn try_push(&self, stream: Box<Stream>) -> Result<(), Box<Stream>> {
        match try_lock(&self.queue) {
            Some(mut queue) => self.push_to(&mut queue, stream),
            None => Err(stream),
        }
    }

    fn push_to(&self, queue: &mut VecDeque<Box<Stream>>, stream: Box<Stream>) -> Result<(), Box<Stream>> {
        if queue.len() >= self.limit {
            return Err(stream);
        }
        queue.push_back(stream);
        self.len.store(queue.len(), Ordering::Release);
        Ok(())
    }

    /// Takes the next stream, unless there is none or another thread is just at it, which then wakes the lane.
    pub(crate) fn try_pop(&self) -> Option<Box<Stream>> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut queue = try_lock(&self.queue)?;
        let stream = queue.pop_front();
        self.len.store(queue.len(), Ordering::Release);
        stream
    }
}
