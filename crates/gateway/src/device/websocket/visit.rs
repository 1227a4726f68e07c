//! How long a connection may go on that is no WebSocket yet.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a browser may keep a connection on which it was sent a part of the page: on a slow network it takes a while.
const READING: Duration = Duration::from_secs(60);

/// See the [module](self).
pub(super) struct Visit {
    began: Instant,
    until: Mutex<Until>,
}

#[derive(Clone, Copy)]
struct Until {
    at: Instant,
    is_reading: bool,
}

impl Visit {
    pub(super) fn new(limit: Duration) -> Self {
        let began = Instant::now();
        Self { began, until: Mutex::new(Until { at: began + limit, is_reading: false }) }
    }

    /// It was sent a part of the page.
    pub(super) fn note_file(&self) {
        let until = Until { at: self.began + READING, is_reading: true };
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn until(&self) -> Until {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `connection` go on for as long as it may. Whether it was a device that did not come to an end in time.
    pub(super) async fn is_overdue(&self, connection: impl Future) -> bool {
        let mut connection = pin!(connection);
        loop {
            let until = self.until();
            tokio::select! {
                _ = &mut connection => return false,
                () = tokio::time::sleep_until(until.at) => {
                    if self.until().at <= until.at {
                        return !until.is_reading;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_device_has_its_limit_and_a_reader_a_minute() {
        let limit = Duration::from_secs(10);
        assert!(Visit::new(limit).is_overdue(std::future::pending::<()>()).await);
        assert!(!Visit::new(limit).is_overdue(std::future::ready(())).await);
        let visit = Visit::new(limit);
        let began = Instant::now();
        let reading = async {
            loop {
                tokio::time::sleep(Duration::from_secs(7)).await;
                visit.note_file();
            }
        };
        assert!(!visit.is_overdue(reading).await);
        assert_eq!(began.elapsed(), READING);
    }
}
