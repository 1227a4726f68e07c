//! What a stream shares between its handle, the lane it is on, and the desk that keeps the books.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crate::figures::StreamFigures;
use crate::frames::FrameQueue;
use crate::stream::StreamId;

/// One stream, seen from outside its lane.
#[derive(Debug)]
pub(crate) struct Link {
    id: StreamId,
    /// Lane in the upper half, slot in the lower.
    seat: AtomicU64,
    closed: AtomicBool,
    ended: AtomicBool,
    pub(crate) input: FrameQueue,
    pub(crate) figures: StreamFigures,
}

/// The slot of a stream that is on its way to a lane.
const NO_SLOT: u32 = u32::MAX;

impl Link {
    /// Of a stream on its way to `lane`.
    pub(crate) fn new(id: StreamId, lane: usize, queue_frames: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            seat: AtomicU64::new(seat(lane, NO_SLOT)),
            closed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            input: FrameQueue::new(queue_frames),
            figures: StreamFigures::default(),
        })
    }

    pub(crate) const fn id(&self) -> StreamId {
        self.id
    }

    /// The lane it is on or on its way to, and its slot there if it has arrived.
    ///
    /// To be asked after what the lane shall see was written. If a seat that the stream has left is what comes out,
    /// the lane it arrives at sees what was written when it looks, after [`Link::sit`].
    pub(crate) fn seat(&self) -> (usize, Option<usize>) {
        fence(Ordering::SeqCst);
        let seat = self.seat.load(Ordering::SeqCst);
        let slot = seat as u32;
        ((seat >> 32) as usize, (slot != NO_SLOT).then_some(slot as usize))
    }

    /// It arrived. Whoever says so must look at the input, and whether it was closed, afterwards.
    pub(crate) fn sit(&self, lane: usize, slot: usize) {
        self.seat.store(seat(lane, slot as u32), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// It is on its way to `lane`.
    pub(crate) fn leave_for(&self, lane: usize) {
        self.seat.store(seat(lane, NO_SLOT), Ordering::SeqCst);
    }

    /// Marks it as closed. Returns whether it was open.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Its lane has forgotten it: the figures are final.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

const fn seat(lane: usize, slot: u32) -> u64 {
    (lane as u64) << 32 | slot as u64
}
