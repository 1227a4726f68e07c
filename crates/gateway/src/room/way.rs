//! From a room on the control plane to its end in the lane.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use crate::media::{MediaCommand, MediaId, MediaPlane};

/// Takes requests to a guest of a lane, and tells the lane that there are some.
pub(super) struct Way<R> {
    requests: Sender<R>,
    plane: Arc<dyn MediaPlane>,
    media: MediaId,
}

impl<R> Way<R> {
    /// To the guest that holds the other end of `requests`, beside the session `media`.
    pub(super) fn new(requests: Sender<R>, plane: Arc<dyn MediaPlane>, media: MediaId) -> Self {
        Self { requests, plane, media }
    }

    /// Asks something. `false` if too much waits already.
    pub(super) fn ask(&self, request: R) -> bool {
        let taken = self.requests.try_send(request).is_ok();
        self.nudge();
        taken
    }

    /// There will be no more requests from this end, which tells the guest that it was all once there is no other.
    pub(super) fn close(self) {
        let Self { requests, plane, media } = self;
        drop(requests);
        let _ = plane.send(media, MediaCommand::Nudge);
    }

    fn nudge(&self) {
        // A lane whose queue is full looks by itself before long.
        let _ = self.plane.send(self.media, MediaCommand::Nudge);
    }
}

impl<R> Clone for Way<R> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), plane: Arc::clone(&self.plane), media: self.media }
    }
}
