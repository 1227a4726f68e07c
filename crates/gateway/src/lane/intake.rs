//! What other threads leave for a lane.
//!
//! The lane never waits for whoever leaves something: it may have interrupted just that thread, on the core they share,
//! and would wait until the kernel stops it. While another thread is at the queue it is as good as empty to the lane.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A bounded queue from any threads to one lane.
pub(super) struct Intake<T> {
    queue: Mutex<VecDeque<T>>,
    len: AtomicUsize,
    limit: usize,
}

impl<T> Intake<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { queue: Mutex::new(VecDeque::with_capacity(limit)), len: AtomicUsize::new(0), limit }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Queues an item, or gives it back if there is no room. The lane is to be woken in both cases.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= self.limit {
            return Err(item);
        }
        queue.push_back(item);
        self.publish(&queue);
        Ok(())
    }

    /// The next item, unless there is none or another thread is just at the queue, which then wakes the lane.
    pub(super) fn try_pop(&self) -> Option<T> {
        if self.len() == 0 {
            return None;
        }
        let mut queue = match self.queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let item = queue.pop_front();
        self.publish(&queue);
        item
    }

    fn publish(&self, queue: &MutexGuard<'_, VecDeque<T>>) {
        self.len.store(queue.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_the_order() {
        let intake = Intake::new(2);
        let pushed: Vec<_> = (0..4).map(|item| intake.push(item)).collect();
        assert_eq!((pushed, intake.len()), (vec![Ok(()), Ok(()), Err(2), Err(3)], 2));
        assert_eq!(std::iter::from_fn(|| intake.try_pop()).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(intake.len(), 0);
    }

    #[test]
    fn the_lane_does_not_wait_for_one_who_was_interrupted_while_pushing() {
        let intake = Intake::new(2);
        intake.push(1).unwrap();
        let interrupted = intake.queue.lock().unwrap();
        assert!(intake.try_pop().is_none());
        drop(interrupted);
        assert_eq!(intake.try_pop(), Some(1));
    }
}
