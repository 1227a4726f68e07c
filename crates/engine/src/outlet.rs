//! Packets on their way out: a bounded queue from any lanes to one consumer or several, which drops the oldest when
//! it is full.
//!
//! A lane never waits for a consumer, even one that was interrupted half-way, stalls, panics or goes away.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::lock::{lock, try_lock};
use crate::stream::Packet;

/// How far lanes stay away from the places of the ring at which a consumer may have been interrupted.
const SLACK: usize = 64;

/// The most that wait for packets at once; one more and the first is woken for nothing.
const MAX_SLEEPERS: usize = 64;

/// A queue of at most about `capacity` packets.
pub(crate) struct Outlet {
    capacity: usize,
    packets: ArrayQueue<Packet>,
    /// Packets that were taken and given back, for their buffers.
    free: Mutex<Vec<Packet>>,
    dropped: AtomicU64,
    closed: AtomicBool,
    sleepers: Sleepers,
}

impl Outlet {
    /// The most packets one may hold.
    pub(crate) const MAX: usize = 1 << 20;

    /// An empty queue of `capacity` packets, at least 1 and at most [`Outlet::MAX`].
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let capacity = capacity.clamp(1, Self::MAX);
        Arc::new(Self {
            capacity,
            packets: ArrayQueue::new(capacity + SLACK),
            free: Mutex::new(Vec::with_capacity(capacity)),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            sleepers: Sleepers::default(),
        })
    }

    /// Queues a packet. Where the queue is full, the oldest packet is dropped and counted, and returned for its
    /// buffer.
    pub(crate) fn push(&self, packet: Packet) -> Option<Packet> {
        let full = self.packets.len() >= self.capacity;
        let oldest = if full { self.packets.pop() } else { None };
        // Only dozens of lanes that push at the same moment can bring it to the end of the ring.
        let oldest = self.packets.force_push(packet).or(oldest);
        if oldest.is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        oldest
    }

    /// Moves up to `count` packets that were given back to the end of `into`, for their buffers.
    pub(crate) fn reclaim(&self, into: &mut Vec<Packet>, count: usize) {
        if let Some(mut free) = try_lock(&self.free) {
            let kept = free.len().saturating_sub(count);
            into.extend(free.drain(kept..));
        }
    }

    /// Takes the oldest packet, if there is one.
    pub(crate) fn pop(&self) -> Option<Packet> {
        self.packets.pop()
    }

    /// Gives a packet's buffer back.
    pub(crate) fn recycle(&self, packet: Packet) {
        let mut free = lock(&self.free);
        if free.len() < self.capacity {
            free.push(packet);
        }
    }

    /// How many packets wait.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// How many packets were dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Says that nothing more will come, and wakes whoever waits.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether nothing more will come. What waits can still be taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Wakes whoever waits for a packet. Pushing does not, so that one wake can do for many packets.
    pub(crate) fn wake(&self) {
        self.sleepers.wake();
    }

    /// Takes the oldest packet, or has the task of `context` woken when one comes. `None` at once and for good after
    /// the end.
    pub(crate) fn poll_pop(&self, context: &Context<'_>) -> Poll<Option<Packet>> {
        if let Some(packet) = self.pop() {
            return Poll::Ready(Some(packet));
        }
        self.sleepers.add(context.waker());
        // A packet, or the end, may have come before that.
        let closed = self.is_closed();
        match self.pop() {
            Some(packet) => Poll::Ready(Some(packet)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Takes the oldest packet, waiting for one for at most `timeout`. Blocks the calling thread only.
    pub(crate) fn pop_timeout(&self, timeout: Duration) -> Option<Packet> {
        if let Some(packet) = self.pop() {
            return Some(packet);
        }
        // A thread that is ending has none of its own any more.
        let waker = UNPARK.try_with(Waker::clone).unwrap_or_else(|_| unpark());
        self.wait(timeout, &Context::from_waker(&waker))
    }

    fn wait(&self, timeout: Duration, context: &Context<'_>) -> Option<Packet> {
        let start = Instant::now();
        loop {
            if let Poll::Ready(packet) = self.poll_pop(context) {
                return packet;
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            std::thread::park_timeout(left);
        }
    }
}

/// Who waits for packets.
#[derive(Default)]
struct Sleepers {
    /// Whether there are any.
    any: AtomicBool,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    wakers: Vec<Waker>,
    /// Empty: takes the place of the other while that is worked through, so that neither is allocated anew.
    spare: Vec<Waker>,
}

impl Sleepers {
    /// Adds one, who must look once more afterwards.
    fn add(&self, waker: &Waker) {
        let waker = waker.clone();
        let mut lists = lock(&self.lists);
        let wakers = &mut lists.wakers;
        let mut surplus = None;
        if !wakers.iter().any(|known| known.will_wake(&waker)) {
            surplus = (wakers.len() >= MAX_SLEEPERS).then(|| wakers.remove(0));
            wakers.push(waker);
        }
        self.any.store(true, Ordering::Relaxed);
        drop(lists);
        if let Some(surplus) = surplus {
            surplus.wake();
        }
        fence(Ordering::SeqCst);
    }

    /// Wakes all. Does not wait: whoever holds the lists is either about to look for itself or about to wake all.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut lists) = try_lock(&self.lists) else { return };
        self.any.store(false, Ordering::Relaxed);
        let spare = std::mem::take(&mut lists.spare);
        let mut woken = std::mem::replace(&mut lists.wakers, spare);
        drop(lists);
        for waker in woken.drain(..) {
            // Wakers are the caller's code; a panic in one must not reach the lane.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        if let Some(mut lists) = try_lock(&self.lists) {
            lists.spare = woken;
        }
    }
}

thread_local! {
    static UNPARK: Waker = unpark();
}

/// What wakes the calling thread.
fn unpark() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn packet(ticket: u64) -> Packet {
        Packet { ticket, ..Packet::default() }
    }

    #[test]
    fn the_oldest_goes_when_it_is_full_and_order_stays() {
        let outlet = Outlet::new(3);
        let displaced: Vec<_> = (0..5).map(|i| outlet.push(packet(i)).map(|p| p.ticket)).collect();
        assert_eq!(displaced, [None, None, None, Some(0), Some(1)]);
        let got: Vec<_> = std::iter::from_fn(|| outlet.pop()).map(|p| p.ticket).collect();
        assert_eq!((got, outlet.dropped()), (vec![2, 3, 4], 2));
    }

    #[test]
    fn absurd_capacities_and_timeouts_are_survived() {
        let outlet = Outlet::new(0);
        outlet.push(packet(1));
        assert_eq!(outlet.push(packet(2)).map(|p| p.ticket), Some(1));
        assert_eq!(outlet.pop_timeout(Duration::MAX).map(|p| p.ticket), Some(2));
        outlet.close();
        assert!(outlet.pop_timeout(Duration::MAX).is_none());
        assert_eq!(Outlet::new(usize::MAX).capacity, Outlet::MAX);
    }

    #[test]
    fn buffers_come_back_and_are_never_more_than_fit() {
        let outlet = Outlet::new(2);
        (0..5).for_each(|i| outlet.recycle(packet(i)));
        let mut back = Vec::new();
        outlet.reclaim(&mut back, 1);
        assert_eq!(back.len(), 1);
        outlet.reclaim(&mut back, 9);
        assert_eq!(back.len(), 2);
    }

    #[test]
    fn several_consumers_get_every_packet_once_and_all_see_the_end() {
        const PACKETS: u64 = 20_000;
        let outlet = Outlet::new(PACKETS as usize);
        let consume =
            || std::iter::from_fn(|| outlet.pop_timeout(WAIT)).map(|p| p.ticket).collect::<Vec<_>>();
        let mut all: Vec<_> = std::thread::scope(|scope| {
            let consumers: Vec<_> = (0..3).map(|_| scope.spawn(consume)).collect();
            for ticket in 0..PACKETS {
                outlet.push(packet(ticket));
                outlet.wake();
            }
            outlet.close();
            consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq(0..PACKETS));
    }

    #[test]
    fn a_waker_that_panics_harms_nobody() {
        struct Bad;
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {
                panic!("injected");
            }
        }
        let outlet = Outlet::new(2);
        let waker = Waker::from(Arc::new(Bad));
        assert!(outlet.poll_pop(&Context::from_waker(&waker)).is_pending());
        outlet.push(packet(1));
        outlet.wake();
        assert_eq!(outlet.pop().map(|p| p.ticket), Some(1));
    }
}
