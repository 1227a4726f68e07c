//! From a room on the control plane to its end in the lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::media::{GuestId, MediaCommand, MediaId, MediaPlane, SendError};

/// How long a lane that had no place for a command is left alone.
pub(super) const RETRY: Duration = Duration::from_millis(5);

/// Takes requests to a guest of a lane, and tells the lane that there are some.
pub(super) struct Way<R> {
    requests: Sender<R>,
    plane: Arc<dyn MediaPlane>,
    media: MediaId,
    /// A nudge that the lane had no place for is being repeated.
    is_repeating: Arc<AtomicBool>,
}

impl<R> Way<R> {
    /// To the guest that holds the other end of `requests`, beside the session `media`.
    pub(super) fn new(requests: Sender<R>, plane: Arc<dyn MediaPlane>, media: MediaId) -> Self {
        Self { requests, plane, media, is_repeating: Arc::default() }
    }

    /// Asks something. `false` if too much waits already.
    pub(super) fn ask(&self, request: R) -> bool {
        let taken = self.requests.try_send(request).is_ok();
        self.nudge();
        taken
    }

    /// This guest may go on. `false` if the lane has no place for a command.
    pub(super) fn go_on(&self, guest: GuestId) -> bool {
        !matches!(self.plane.send(self.media, MediaCommand::GoOn(guest)), Err(SendError::Full(_)))
    }

    /// There will be no more requests from this end, which tells the guest that it was all once there is no other.
    pub(super) fn close(self) {
        let Self { requests, plane, media, is_repeating } = self;
        drop(requests);
        nudge(&plane, media, &is_repeating);
    }

    fn nudge(&self) {
        nudge(&self.plane, self.media, &self.is_repeating);
    }
}

impl<R> Clone for Way<R> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            plane: Arc::clone(&self.plane),
            media: self.media,
            is_repeating: Arc::clone(&self.is_repeating),
        }
    }
}

/// Tells the lane, now or, if its queue is full, as soon as it is not.
fn nudge(plane: &Arc<dyn MediaPlane>, media: MediaId, is_repeating: &Arc<AtomicBool>) {
    let is_full = move |plane: &dyn MediaPlane| {
        matches!(plane.send(media, MediaCommand::Nudge), Err(SendError::Full(_)))
    };
    if !is_full(plane.as_ref()) || is_repeating.swap(true, Ordering::AcqRel) {
        return;
    }
    let (plane, is_repeating) = (Arc::clone(plane), Arc::clone(is_repeating));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RETRY).await;
            // Before it is sent: who asks from here on and finds no place has a repetition of its own.
            is_repeating.store(false, Ordering::Release);
            if !is_full(plane.as_ref()) || is_repeating.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    });
}
