//! Events on their way from a lane to the control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

use super::{MediaEvent, MediaId, OpusPacket};

/// Packets that may wait for the control plane, which only devices on WebSocket have there; 0.75 MB once they did.
const PACKETS: usize = 512;

/// The queue from one lane to the control plane, which holds `capacity` events.
///
/// Both ends are cheap; the sender belongs to the lane's thread.
#[must_use]
pub fn events(capacity: usize) -> (EventSender, EventReceiver) {
    let shared = Arc::new(EventQueue {
        capacity,
        queue: ArrayQueue::new(capacity + 1),
        packets: ArrayQueue::new(PACKETS + 1),
        wake: Notify::new(),
        lost: AtomicU64::new(0),
    });
    (EventSender { shared: Arc::clone(&shared), pending: false }, EventReceiver { shared })
}

#[derive(Debug)]
struct EventQueue {
    capacity: usize,
    /// With a place more, so that the lane never comes to one from which a receiver that was interrupted is still
    /// taking: it would wait there, perhaps for the very thread it interrupted.
    queue: ArrayQueue<(MediaId, MediaEvent)>,
    /// Apart, as they are long, and in place, as a lane does not allocate.
    packets: ArrayQueue<Departed>,
    wake: Notify,
    lost: AtomicU64,
}

/// A packet for a device whose connection the control plane holds. It is due now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Its session.
    pub media: MediaId,
    /// The packet.
    pub packet: OpusPacket,
    /// Media time in ms, which a device that cancels echo by timestamps sends back.
    pub timestamp: u32,
}

/// The lane's end: push as often as needed, then [`EventSender::wake`] once a turn.
#[derive(Debug)]
pub struct EventSender {
    shared: Arc<EventQueue>,
    pending: bool,
}

impl EventSender {
    /// Queues an event. `false` if the queue is full: the event is dropped and counted. Does not allocate, lock or
    /// call the kernel.
    ///
    /// A lane that has something to say that may not be lost ([`MediaEvent::PlayedOut`], [`MediaEvent::Closed`],
    /// [`MediaEvent::Failed`]) keeps it and tries again at its next turn.
    pub fn push(&mut self, media: MediaId, event: MediaEvent) -> bool {
        let fits = self.offer(media, event);
        if !fits {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Queues a packet; otherwise as [`EventSender::push`].
    pub fn push_packet(&mut self, departed: Departed) -> bool {
        self.pending = true;
        let packets = &self.shared.packets;
        let fits = packets.len() < PACKETS && packets.push(departed).is_ok();
        if !fits {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// The same as [`EventSender::push`] without counting: for an event that is kept and offered again.
    pub fn offer(&mut self, media: MediaId, event: MediaEvent) -> bool {
        self.pending = true;
        let EventQueue { queue, capacity, .. } = &*self.shared;
        queue.len() < *capacity && queue.push((media, event)).is_ok()
    }

    /// Wakes the control plane if anything was pushed since the last wake.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.shared.wake.notify_one();
        }
    }

    /// Events dropped because the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

/// The control plane's end.
#[derive(Debug)]
pub struct EventReceiver {
    shared: Arc<EventQueue>,
}

impl EventReceiver {
    /// The next event, if there is one.
    #[must_use]
    pub fn try_next(&mut self) -> Option<(MediaId, MediaEvent)> {
        self.shared.queue.pop()
    }

    /// The next packet, if there is one. All that were queued before an event are there when the event is.
    #[must_use]
    pub fn try_next_packet(&mut self) -> Option<Departed> {
        self.shared.packets.pop()
    }

    /// Waits until there is something. Cancel safe.
    pub async fn ready(&mut self) {
        while self.shared.queue.is_empty() && self.shared.packets.is_empty() {
            self.shared.wake.notified().await;
        }
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> (MediaId, MediaEvent) {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.shared.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIA: MediaId = MediaId { lane: 0, serial: 1 };

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_goes_on() {
        let (mut sender, mut receiver) = events(2);
        assert!(sender.push(MEDIA, MediaEvent::NeverSeen));
        assert!(sender.push(MEDIA, MediaEvent::AudioActive));
        assert!(!sender.push(MEDIA, MediaEvent::AudioActive));
        assert_eq!(sender.lost(), 1);
        sender.wake();
        assert_eq!(receiver.next().await.1, MediaEvent::NeverSeen);
        assert_eq!(receiver.next().await.1, MediaEvent::AudioActive);
        assert!(receiver.try_next().is_none());
    }

    #[tokio::test]
    async fn packets_wait_apart_and_are_bounded() {
        let (mut sender, mut receiver) = events(2);
        let packet = OpusPacket::new(&[8, 9]).unwrap();
        let departed = |timestamp| Departed { media: MEDIA, packet, timestamp };
        assert_eq!((0..600).filter(|&at| sender.push_packet(departed(at))).count(), PACKETS);
        assert_eq!(sender.lost(), 600 - PACKETS as u64);
        assert!(sender.push(MEDIA, MediaEvent::NeverSeen), "they take no event's place");
        sender.wake();
        receiver.ready().await;
        assert_eq!(receiver.try_next_packet(), Some(departed(0)));
        assert_eq!(receiver.next().await.1, MediaEvent::NeverSeen);
        receiver.ready().await;
        assert_eq!(std::iter::from_fn(|| receiver.try_next_packet()).count(), PACKETS - 1);
    }

    #[tokio::test]
    async fn a_waiting_receiver_is_woken_from_another_thread() {
        let (mut sender, mut receiver) = events(8);
        let lane = std::thread::spawn(move || {
            for _ in 0..1000 {
                while !sender.push(MEDIA, MediaEvent::AudioActive) {
                    std::thread::yield_now();
                }
                sender.wake();
            }
        });
        for _ in 0..1000 {
            assert_eq!(receiver.next().await, (MEDIA, MediaEvent::AudioActive));
        }
        lane.join().unwrap();
    }
}
