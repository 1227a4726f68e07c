//! The lanes together: which one a new session gets, and the way in for commands.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_queue::ArrayQueue;
use evenkeel_sys::thread::{Granted, MediaThread, allowed_cores, spawn};
use evenkeel_sys::udp::{BufferSizes, Socket};
use evenkeel_sys::wait::{Waiter, Waker};

use super::guest::Arrival;
use super::intake::Intake;
use super::random::Random;
use super::thread::LaneThread;
use super::{Inboxes, Lane, LaneConfig};
use crate::media::{
    EventReceiver, LaneReport, MediaCommand, MediaId, MediaPlane, PlaceError, Placement, SendError, events,
};

/// A lane that works for this share of its time gets no further sessions.
pub const FULL_LOAD: f32 = 0.85;

/// Once a lane works for this share of its time, new sessions go to whichever has fewest.
const SHARED_LOAD: f32 = 0.4;

/// Packets that may be on their way to one lane from all others; 0.75 MB a lane.
const INBOX: usize = 512;

/// Guests that may be on their way to a lane.
const ARRIVALS: usize = 256;

/// How the media plane is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneConfig {
    /// Lanes, each a thread and a UDP port; at most 64. Default 0: one a core that we may run on.
    pub lanes: usize,
    /// The address they listen on. Default all, IPv4.
    pub address: IpAddr,
    /// The port of the first; each further lane takes the next. 0 lets each take a free one. Default 8884.
    pub first_port: u16,
    /// The address or name devices are told to send to.
    pub public_host: String,
    /// The real-time priority asked for, 1 to 99. Default 1, above every normal thread; `None` asks for none.
    pub real_time: Option<u8>,
    /// Whether each lane keeps to a core of its own. Default yes.
    pub pin: bool,
    /// What the kernel holds for each socket, in bytes. Default 4 MiB each way, some 5,000 datagrams.
    pub socket_buffer: usize,
    /// Commands that may wait for a lane. Default 8192, about 0.6 MB a lane.
    pub commands: usize,
    /// Events that may wait for the control plane. Default 4096, about 6 MB a lane once they did.
    pub events: usize,
    /// Sessions that share a lane before another is used: a lane that wakes for many costs hardly more than one that
    /// wakes for few. Lanes that have much to do share it sooner. Default 1000.
    pub together: usize,
    /// The rest; its `index` is not used.
    pub lane: LaneConfig,
}

impl Default for PlaneConfig {
    fn default() -> Self {
        Self {
            lanes: 0,
            address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            first_port: 8884,
            public_host: "127.0.0.1".to_owned(),
            real_time: Some(1),
            pin: true,
            socket_buffer: 4 << 20,
            commands: 8192,
            events: 4096,
            together: 1000,
            lane: LaneConfig::default(),
        }
    }
}

/// What a lane got from the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStart {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its core and its priority.
    pub granted: Granted,
    /// What the kernel holds for its socket.
    pub buffers: BufferSizes,
}

/// The running lanes. They stop when this is dropped.
pub struct Lanes {
    plane: Arc<Plane>,
    starts: Vec<LaneStart>,
    threads: Vec<JoinHandle<()>>,
}

/// What the control plane and the lanes share.
pub(super) struct Plane {
    ports: Vec<LanePort>,
    desk: Mutex<Desk>,
    config: PlaneConfig,
    random: Mutex<Random>,
    stopping: AtomicBool,
}

/// The outside of one lane.
pub(super) struct LanePort {
    pub(super) commands: Intake<(MediaId, MediaCommand)>,
    pub(super) arrivals: Intake<(MediaId, Box<Arrival>)>,
    pub(super) waker: Waker,
    /// Written by the lane now and then, if nobody reads it just then.
    pub(super) report: Mutex<LaneReport>,
    port: u16,
}

/// Which sessions are placed where. Lanes never touch it.
struct Desk {
    lanes: Vec<HashMap<u64, u32>>,
    next_serial: u64,
    draining: bool,
}

impl Lanes {
    /// Starts the lanes. `random` gives bytes from a CSPRNG. Returns a queue of events for each lane.
    ///
    /// # Errors
    /// If a port is taken or the system refuses a thread or a descriptor.
    pub fn start(
        config: PlaneConfig,
        random: impl Fn(&mut [u8]) + Send + Clone + 'static,
    ) -> io::Result<(Self, Vec<EventReceiver>)> {
        let cores = allowed_cores();
        let count = if config.lanes == 0 { cores.len() } else { config.lanes }.clamp(1, 64);
        let buffers = BufferSizes { receive: config.socket_buffer, send: config.socket_buffer };
        let mut outsides = Vec::new();
        for index in 0..count as u16 {
            let port = if config.first_port == 0 { Some(0) } else { config.first_port.checked_add(index) };
            let port = port.ok_or_else(|| {
                let text = format!(
                    "{count} lanes from port {} go beyond port 65535: lower media.udp_port or media.lanes",
                    config.first_port
                );
                io::Error::new(io::ErrorKind::InvalidInput, text)
            })?;
            let socket = Socket::bind(SocketAddr::new(config.address, port), buffers)
                .map_err(|error| io::Error::new(error.kind(), format!("port {port}: {error}")))?;
            outsides.push((socket, Waiter::new()?));
        }
        let ports = outsides.iter().map(|(socket, waiter)| {
            Ok(LanePort {
                commands: Intake::new(config.commands),
                arrivals: Intake::new(ARRIVALS),
                waker: waiter.waker(),
                report: Mutex::default(),
                port: socket.local_addr()?.port(),
            })
        });
        let plane = Arc::new(Plane {
            ports: ports.collect::<io::Result<_>>()?,
            desk: Mutex::new(Desk { lanes: vec![HashMap::new(); count], next_serial: 1, draining: false }),
            random: Mutex::new(Random::new(pooled(random.clone()))),
            stopping: AtomicBool::new(false),
            config: config.clone(),
        });
        let inboxes: Inboxes = (0..count).map(|_| ArrayQueue::new(INBOX)).collect::<Vec<_>>().into();
        let mut lanes = Self { plane, starts: Vec::new(), threads: Vec::new() };
        let mut receivers = Vec::new();
        for (index, (socket, waiter)) in outsides.into_iter().enumerate() {
            let (sender, receiver) = events(config.events);
            receivers.push(receiver);
            let lane_config = LaneConfig { index: index as u16, ..config.lane };
            let lane = Lane::new(lane_config, pooled(random.clone()), sender, Arc::clone(&inboxes));
            let (address, granted_buffers) = (socket.local_addr()?, socket.buffer_sizes()?);
            let thread = LaneThread::new(lane, index, socket, waiter, Arc::clone(&lanes.plane))?;
            let wanted = MediaThread {
                name: format!("lane-{index}"),
                core: cores.get(index % cores.len().max(1)).copied().filter(|_| config.pin),
                real_time: config.real_time,
            };
            let (thread, granted) = spawn(wanted, move || thread.run())?;
            lanes.threads.push(thread);
            lanes.starts.push(LaneStart { address, granted, buffers: granted_buffers });
        }
        Ok((lanes, receivers))
    }

    /// What the control plane drives them through.
    #[must_use]
    pub fn plane(&self) -> Arc<dyn MediaPlane> {
        Arc::clone(&self.plane) as Arc<dyn MediaPlane>
    }

    /// What each lane got from the system, in order.
    #[must_use]
    pub fn starts(&self) -> &[LaneStart] {
        &self.starts
    }

    /// Places no further sessions; those there are go on.
    pub fn drain(&self) {
        self.plane.desk().draining = true;
    }
}

/// Numbers out of a stock of bytes: each frame for a chat server takes one, and to ask the source costs a microsecond.
fn pooled(source: impl Fn(&mut [u8]) + Send + 'static) -> impl FnMut() -> u32 + Send + 'static {
    let (mut stock, mut used) = ([0; 512], 512);
    move || {
        if used == stock.len() {
            source(&mut stock);
            used = 0;
        }
        let number = stock[used..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        // A number is used once: it shall not be found in memory later.
        stock[used..used + 4].fill(0);
        used += 4;
        number
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.plane.stopping.store(true, Ordering::Release);
        self.plane.ports.iter().for_each(|port| port.waker.wake());
        for thread in self.threads.drain(..) {
            // A lane that panicked has said so on the standard error.
            let _ = thread.join();
        }
    }
}

impl Plane {
    pub(super) fn port(&self, index: usize) -> &LanePort {
        &self.ports[index]
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Wakes the lanes whose bit is set.
    pub(super) fn wake(&self, mut lanes: u64) {
        while lanes != 0 {
            if let Some(port) = self.ports.get(lanes.trailing_zeros() as usize) {
                port.waker.wake();
            }
            lanes &= lanes - 1;
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, index: usize) -> LaneReport {
        self.ports[index].report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl MediaPlane for Plane {
    fn place(&self) -> Result<Placement, PlaceError> {
        let mut desk = self.desk();
        if desk.draining {
            return Err(PlaceError::Draining);
        }
        let max = self.config.lane.max_sessions;
        let loads: Vec<f32> = (0..desk.lanes.len()).map(|index| self.report(index).load).collect();
        let open = |&index: &usize| desk.lanes[index].len() < max && loads[index] < FULL_LOAD;
        let least = |lanes: usize| (0..lanes).filter(open).min_by_key(|&index| desk.lanes[index].len());
        let sessions: usize = desk.lanes.iter().map(HashMap::len).sum();
        let is_shared = loads.iter().any(|&load| load >= SHARED_LOAD);
        let used = if is_shared { usize::MAX } else { sessions / self.config.together.max(1) + 1 };
        let index = least(used.min(loads.len())).or_else(|| least(loads.len())).ok_or(PlaceError::Full)?;
        let serial = desk.next_serial;
        desk.next_serial += 1;
        let taken = &mut desk.lanes[index];
        let connection_id = loop {
            let id = self.random.lock().unwrap_or_else(PoisonError::into_inner).next();
            if id != 0 && !taken.values().any(|&other| other == id) {
                break id;
            }
        };
        taken.insert(serial, connection_id);
        let media = MediaId { lane: index as u16, serial };
        let port = self.ports[index].port;
        Ok(Placement { media, host: self.config.public_host.clone(), port, connection_id })
    }

    fn release(&self, media: MediaId) {
        if let Some(lane) = self.desk().lanes.get_mut(usize::from(media.lane))
            && let Entry::Occupied(entry) = lane.entry(media.serial)
        {
            entry.remove();
        }
    }

    fn send(&self, media: MediaId, command: MediaCommand) -> Result<(), SendError> {
        let Some(port) = self.ports.get(usize::from(media.lane)).filter(|_| !self.is_stopping()) else {
            return Err(SendError::Gone);
        };
        let queue = &port.commands;
        // Audio is refused while there is still room for what matters more.
        let is_audio = matches!(command, MediaCommand::Uplink { .. });
        if is_audio && queue.len() >= queue.limit() / 4 * 3 {
            return Err(SendError::Full(command));
        }
        let closes = matches!(command, MediaCommand::Close);
        let queued = queue.push((media, command));
        port.waker.wake();
        queued.map_err(|(_, command)| SendError::Full(command))?;
        if closes {
            self.release(media);
        }
        Ok(())
    }

    fn attach(&self, media: MediaId, arrival: Box<Arrival>) -> bool {
        let Some(port) = self.ports.get(usize::from(media.lane)).filter(|_| !self.is_stopping()) else {
            return false;
        };
        let taken = port.arrivals.push((media, arrival)).is_ok();
        port.waker.wake();
        taken
    }

    fn lanes(&self) -> Vec<LaneReport> {
        (0..self.ports.len()).map(|index| self.report(index)).collect()
    }
}
