//! How a caller holds a stream: push frames in, take packets out, ask for a report, close.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::relay::MAX_OPUS_PACKET;
use evenkeel_sys::clock;
use thiserror::Error;

use crate::frames::Frame;
use crate::link::Link;
use crate::metrics::StreamReport;
use crate::outlet::Outlet;
use crate::pool::Shared;
use crate::stream::{Packet, StreamId};

/// A push was refused. The stream is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The stream, or the engine, was closed.
    #[error("the stream is closed")]
    Closed,
    /// Wrong number of samples.
    #[error("a frame of this stream has {expected} samples (all channels together), not {actual}")]
    FrameLength {
        /// Samples a frame has, all channels together.
        expected: usize,
        /// Samples given.
        actual: usize,
    },
    /// Samples of another kind than the stream was opened for.
    #[error("this stream takes {expected:?} samples")]
    Format {
        /// The kind it takes.
        expected: SampleFormat,
    },
    /// PCM for a relay, or Opus for a stream that codes.
    #[error("this stream takes {expected}")]
    Kind {
        /// What it takes.
        expected: &'static str,
    },
    /// An Opus packet longer than a relay carries.
    #[error("an Opus packet of {actual} bytes is too long; {limit} is the most")]
    Oversized {
        /// The most it may have, in bytes.
        limit: usize,
        /// What it has, in bytes.
        actual: usize,
    },
}

/// What may be pushed into a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accepts {
    Pcm { format: Format, frame_len: usize },
    Opus,
}

/// Pushes into many streams of one engine, and wakes each lane once when it is dropped instead of once a push.
///
/// A source that has frames for many streams at once should use one: waking a lane costs more than a push, and a lane
/// of real-time priority would interrupt the source amid its pushes.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(crate) shared: &'a Shared,
    /// Which lanes were told something.
    pub(crate) lanes: Vec<bool>,
}

impl Batch<'_> {
    /// As [`StreamHandle::push`].
    ///
    /// # Errors
    /// As [`StreamHandle::push`].
    pub fn push(&mut self, stream: &StreamHandle, samples: Samples<'_>) -> Result<u64, PushError> {
        let ticket = stream.push_quietly(samples)?;
        self.tell(stream);
        Ok(ticket)
    }

    /// As [`StreamHandle::push_opus`].
    ///
    /// # Errors
    /// As [`StreamHandle::push_opus`].
    pub fn push_opus(&mut self, stream: &StreamHandle, packet: &[u8]) -> Result<u64, PushError> {
        let ticket = stream.push_opus_quietly(packet)?;
        self.tell(stream);
        Ok(ticket)
    }

    /// Wakes the lanes that were told something since the last time.
    pub fn flush(&mut self) {
        for (lane, told) in self.lanes.iter_mut().enumerate() {
            if std::mem::take(told) {
                self.shared.wake(lane);
            }
        }
    }

    fn tell(&mut self, stream: &StreamHandle) {
        let lane = stream.shared.tell(&stream.link);
        if std::ptr::eq(self.shared, &*stream.shared) {
            self.lanes[lane] = true;
        } else {
            // A stream of another engine.
            stream.shared.wake(lane);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A stream that runs on an engine. Closed when dropped.
///
/// Pushing is cheap, waits for nobody but others who push into the same stream, and allocates nothing once the first
/// frames went through; any thread may do it.
pub struct StreamHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: Arc<Link>,
    pub(crate) accepts: Accepts,
    pub(crate) phase: Duration,
}

impl std::fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl StreamHandle {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.link.id()
    }

    /// The moment within each frame period, on the monotonic clock, at which the engine would like frames to be
    /// pushed, so that the streams of a lane do not all come at once. A source that can choose its moment should
    /// take this one; others just push.
    #[must_use]
    pub const fn phase(&self) -> Duration {
        self.phase
    }

    /// Pushes one frame of PCM, interleaved, exactly as long as the stream's frames. Returns its ticket, which its
    /// packets carry. Where the queue is full, the oldest frame in it is dropped and counted.
    ///
    /// # Errors
    /// [`PushError`]; nothing is queued then.
    pub fn push(&self, samples: Samples<'_>) -> Result<u64, PushError> {
        let ticket = self.push_quietly(samples)?;
        self.tell_and_wake();
        Ok(ticket)
    }

    /// Pushes one Opus packet into a relay. Returns its ticket.
    ///
    /// # Errors
    /// [`PushError`]; nothing is queued then. A packet that is not valid Opus is dropped later, and counted.
    pub fn push_opus(&self, packet: &[u8]) -> Result<u64, PushError> {
        let ticket = self.push_opus_quietly(packet)?;
        self.tell_and_wake();
        Ok(ticket)
    }

    fn push_quietly(&self, samples: Samples<'_>) -> Result<u64, PushError> {
        let Accepts::Pcm { format, frame_len } = self.accepts else {
            return Err(PushError::Kind { expected: "Opus packets" });
        };
        if samples.format() != format.sample {
            return Err(PushError::Format { expected: format.sample });
        }
        if samples.len() != frame_len {
            return Err(PushError::FrameLength { expected: frame_len, actual: samples.len() });
        }
        self.queue(|frame| frame.data.fill(samples))
    }

    fn push_opus_quietly(&self, packet: &[u8]) -> Result<u64, PushError> {
        let Accepts::Opus = self.accepts else { return Err(PushError::Kind { expected: "PCM" }) };
        if packet.len() > MAX_OPUS_PACKET {
            return Err(PushError::Oversized { limit: MAX_OPUS_PACKET, actual: packet.len() });
        }
        self.queue(|frame| frame.data.fill_opus(packet))
    }

    fn queue(&self, fill: impl FnOnce(&mut Frame)) -> Result<u64, PushError> {
        if self.link.is_closed() || self.shared.is_shut_down() {
            return Err(PushError::Closed);
        }
        Ok(self.link.input.push(|frame| {
            fill(frame);
            frame.pushed_at = clock::now();
        }))
    }

    fn tell_and_wake(&self) {
        let lane = self.shared.tell(&self.link);
        self.shared.wake(lane);
    }

    /// What the stream did so far.
    #[must_use]
    pub fn report(&self) -> StreamReport {
        self.link.report()
    }

    /// Closes the stream: what is queued in it is dropped. Returns whether it was still open.
    pub fn close(&self) -> bool {
        let was_open = self.link.close();
        self.shared.close(&self.link);
        was_open
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where the packets of one or many streams come out, in the order they left.
///
/// A consumer that stalls loses the oldest packets, which is counted, and harms nobody else. Several consumers may
/// share an output; each packet goes to one of them.
#[derive(Clone)]
pub struct Output {
    pub(crate) queue: Arc<Outlet>,
}

impl Output {
    /// An output that holds `capacity` packets for its consumer, 1 to 1,048,576; what is beyond that is taken for the
    /// nearest of them. Where many lanes push at once it may hold a few more.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { queue: Outlet::new(capacity) }
    }

    /// Takes the next packet, if there is one.
    #[must_use]
    pub fn try_recv(&self) -> Option<Packet> {
        self.queue.pop()
    }

    /// Takes the next packet, waiting for at most `timeout`; `None` if none came, or none ever will.
    #[must_use]
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Packet> {
        self.queue.pop_timeout(timeout)
    }

    /// Takes the next packet, or has the task woken when one comes; `None` if none ever will.
    pub fn poll_recv(&self, context: &Context<'_>) -> Poll<Option<Packet>> {
        self.queue.poll_pop(context)
    }

    /// Gives a packet back so that its buffer is reused. A consumer that does so for every packet keeps the lanes from
    /// allocating.
    pub fn recycle(&self, packet: Packet) {
        self.queue.recycle(packet);
    }

    /// Packets dropped because the consumer did not take them in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Ends the waiting of whoever waits; nothing will come.
    pub fn close(&self) {
        self.queue.close();
    }
}

/// A frame was not answered with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The frame could not be pushed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// No answer in time. The frame may still be coded; what it becomes is dropped then.
    #[error("no packet within {limit:?}: the engine is overloaded")]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

/// A stream in request form: one frame in, what it becomes out.
#[derive(Debug)]
pub struct Requester {
    pub(crate) handle: StreamHandle,
    pub(crate) output: Output,
    pub(crate) limit: Duration,
}

impl Requester {
    /// How long an answer may take, unless told otherwise.
    pub const DEFAULT_LIMIT: Duration = Duration::from_millis(50);

    /// Codes one frame and calls `sink` with each packet that it completed: one as a rule, none where there is nothing
    /// to send (DTX), several of PCM. Returns how many. Blocks the calling thread, for the limit at most.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn request(
        &mut self,
        samples: Samples<'_>,
        sink: impl FnMut(&Packet),
    ) -> Result<usize, RequestError> {
        let ticket = self.handle.push(samples)?;
        self.answer(ticket, sink)
    }

    /// As [`Requester::request`] for an Opus packet of a relay; none while it gathers, several where it was split.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn request_opus(&mut self, packet: &[u8], sink: impl FnMut(&Packet)) -> Result<usize, RequestError> {
        let ticket = self.handle.push_opus(packet)?;
        self.answer(ticket, sink)
    }

    fn answer(&self, ticket: u64, mut sink: impl FnMut(&Packet)) -> Result<usize, RequestError> {
        let until = clock::now() + self.limit;
        let mut packets = 0;
        loop {
            let left = until.since(clock::now());
            match self.output.recv_timeout(left) {
                Some(packet) => {
                    // Others answer a request that was given up.
                    let (is_mine, is_last) = (packet.ticket == ticket, packet.ends_push);
                    if is_mine && packet.header.is_some() {
                        sink(&packet);
                        packets += 1;
                    }
                    self.output.recycle(packet);
                    if is_mine && is_last {
                        return Ok(packets);
                    }
                }
                None if self.output.queue.is_closed() => return Err(PushError::Closed.into()),
                None => return Err(RequestError::Timeout { limit: self.limit }),
            }
        }
    }

    /// The stream.
    #[must_use]
    pub const fn handle(&self) -> &StreamHandle {
        &self.handle
    }
}
