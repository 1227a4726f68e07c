//! A bounded queue of reused buffers between a caller and a lane, which drops the oldest when it is full.
//!
//! Nothing in it locks or, once every buffer has grown to its size, allocates. It is how frames get into a lane and
//! packets out of it; either side may stall, panic or go away without the other noticing more than a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

/// A queue of at most `capacity` items.
pub(crate) struct Conduit<T> {
    full: ArrayQueue<T>,
    free: ArrayQueue<T>,
    displaced: AtomicU64,
    closed: AtomicBool,
    consumer: AtomicWaker,
}

impl<T: Default> Conduit<T> {
    /// An empty queue of `capacity` items, at least 1.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let capacity = capacity.max(1);
        // Each side may hold one buffer while the queue is full.
        let free = ArrayQueue::new(capacity + 2);
        Arc::new(Self {
            full: ArrayQueue::new(capacity),
            free,
            displaced: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            consumer: AtomicWaker::new(),
        })
    }

    /// Fills a reused item with `fill` and queues it. Where the queue is full, the oldest item is dropped and
    /// counted; returns whether that was so.
    pub(crate) fn push(&self, fill: impl FnOnce(&mut T)) -> bool {
        let mut item = self.free.pop().unwrap_or_default();
        fill(&mut item);
        let Some(oldest) = self.full.force_push(item) else { return false };
        self.displaced.fetch_add(1, Ordering::Relaxed);
        self.recycle(oldest);
        true
    }

    /// Takes the oldest item, if there is one. Give it back with [`Conduit::recycle`] so that its buffer is reused.
    pub(crate) fn pop(&self) -> Option<T> {
        self.full.pop()
    }

    /// Gives an item's buffer back.
    pub(crate) fn recycle(&self, item: T) {
        // More buffers than the queue ever needs are simply freed.
        drop(self.free.push(item));
    }

    /// How many items wait.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.full.len()
    }

    /// Whether none wait.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// How many items were dropped because the queue was full.
    #[must_use]
    pub(crate) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Says that nothing more will come, and wakes whoever waits.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether nothing more will come. What waits can still be taken.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Wakes whoever waits for an item. Pushing does not, so that one wake can do for many items.
    pub(crate) fn wake(&self) {
        self.consumer.wake();
    }

    /// Takes the oldest item, or asks for `context` to be woken when one comes. One consumer at a time. `None` at once
    /// and for good after the end.
    pub(crate) fn poll_pop(&self, context: &Context<'_>) -> std::task::Poll<Option<T>> {
        if let Some(item) = self.pop() {
            return std::task::Poll::Ready(Some(item));
        }
        self.consumer.register(context.waker());
        // An item, or the end, may have come before the registration.
        let closed = self.is_closed();
        match self.pop() {
            Some(item) => std::task::Poll::Ready(Some(item)),
            None if closed => std::task::Poll::Ready(None),
            None => std::task::Poll::Pending,
        }
    }

    /// Takes the oldest item, waiting for one for at most `timeout`. Blocks the calling thread only.
    pub(crate) fn pop_timeout(&self, timeout: Duration) -> Option<T> {
        if let Some(item) = self.pop() {
            return Some(item);
        }
        let until = Instant::now() + timeout;
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let context = Context::from_waker(&waker);
        loop {
            if let std::task::Poll::Ready(item) = self.poll_pop(&context) {
                return item;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::park_timeout(left);
        }
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_it_is_full_and_order_stays() {
        let queue = Conduit::<u32>::new(3);
        let displaced: Vec<_> = (0..5).map(|i| queue.push(|slot| *slot = i)).collect();
        assert_eq!(displaced, [false, false, false, true, true]);
        let got: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!((got, queue.displaced()), (vec![2, 3, 4], 2));
    }

    #[test]
    fn a_waiting_consumer_is_woken_by_an_item_and_by_the_end() {
        let queue = Conduit::<u32>::new(3);
        let other = Arc::clone(&queue);
        let consumer = std::thread::spawn(move || {
            let wait = Duration::from_secs(20);
            (other.pop_timeout(wait), other.pop_timeout(wait))
        });
        queue.push(|slot| *slot = 7);
        queue.wake();
        while !queue.is_empty() {
            std::thread::yield_now();
        }
        queue.close();
        assert_eq!(consumer.join().unwrap(), (Some(7), None));
        assert_eq!(queue.pop_timeout(Duration::ZERO), None);
    }
}
