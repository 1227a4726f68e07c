//! Connections that have not said CONNECT yet: bounded by closing the oldest.
//!
//! A device says CONNECT within milliseconds, so whoever has waited longest is the least likely to be one. An attacker
//! who opens connections without end closes his own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct HalfOpen {
    limit: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tasks: BTreeMap<u64, AbortHandle>,
}

/// A place among the waiting; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place {
    half_open: Arc<HalfOpen>,
    number: u64,
}

impl HalfOpen {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, waiting: Mutex::default() })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Waiting) -> T) -> T {
        f(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number for a connection that is about to wait.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        let number = self.with(|waiting| {
            waiting.next += 1;
            waiting.next
        });
        Place { half_open: Arc::clone(self), number }
    }

    /// The task of that connection. `true` if an older one was closed for it.
    pub(super) fn admit(&self, number: u64, task: AbortHandle) -> bool {
        self.with(|waiting| {
            if task.is_finished() {
                return false;
            }
            waiting.tasks.insert(number, task);
            let evicted = if waiting.tasks.len() > self.limit { waiting.tasks.pop_first() } else { None };
            if let Some((_, task)) = &evicted {
                task.abort();
            }
            evicted.is_some()
        })
    }
}

impl Place {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.half_open.with(|waiting| waiting.tasks.remove(&self.number));
    }
}
