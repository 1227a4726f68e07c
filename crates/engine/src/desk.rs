//! The books of an engine: which streams there are, where, and what they cost. Never touched by what media passes
//! through.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::units::FrameDuration;

use crate::admission::{Admission, Place, Refused};
use crate::config::EngineConfig;
use crate::link::Link;
use crate::metrics::Totals;
use crate::phase::{Phase, Phases};
use crate::port::Port;
use crate::stream::StreamId;

/// The desk at which streams are opened and closed.
pub(crate) struct Desk {
    admission: Admission,
    phases: Vec<Phases>,
    open: HashMap<StreamId, Entry>,
    /// Streams that are closed but whose lanes may still count something.
    closing: Vec<Arc<Link>>,
    closed: Totals,
    next_id: u64,
    /// How many streams lanes had moved or given up when the books were last gone through.
    rearranged: u64,
}

struct Entry {
    link: Arc<Link>,
    place: Place,
    phase: Phase,
}

/// All streams there are or were.
pub(crate) struct Books {
    pub(crate) open: Vec<Arc<Link>>,
    pub(crate) closing: Vec<Arc<Link>>,
    pub(crate) closed: Totals,
}

impl Desk {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self {
            admission: Admission::new(config.lanes, config.budget, config.max_streams_per_lane),
            phases: vec![Phases::new(); config.lanes],
            open: HashMap::new(),
            closing: Vec::new(),
            closed: Totals::default(),
            next_id: 1,
            rearranged: 0,
        }
    }

    /// Enters a stream that costs `cost` a frame, if there is room; `force` makes some.
    pub(crate) fn admit(
        &mut self,
        cost: Duration,
        frame: FrameDuration,
        queue_frames: usize,
        force: bool,
    ) -> Result<(Arc<Link>, Phase), Refused> {
        self.reap();
        let place = self.admission.admit(cost, frame.as_duration(), force)?;
        let phase = self.phases[place.lane].take(frame, cost);
        let id = StreamId(self.next_id);
        self.next_id += 1;
        let link = Link::new(id, place.lane, queue_frames);
        self.open.insert(id, Entry { link: Arc::clone(&link), place, phase });
        Ok((link, phase))
    }

    /// A stream was closed. It may be told any number of times.
    pub(crate) fn release(&mut self, id: StreamId) {
        if let Some(Entry { link, place, phase }) = self.open.remove(&id) {
            self.admission.release(place);
            self.phases[place.lane].release(phase);
            self.closing.push(link);
        }
        self.reap();
    }

    /// Brings the books up to what the lanes tell.
    pub(crate) fn refresh(&mut self, ports: &[Port]) {
        let rearranged = ports.iter().map(|port| port.figures.moved.get() + port.figures.panics.get()).sum();
        if self.rearranged != rearranged {
            self.rearranged = rearranged;
            self.go_through();
        }
        for (lane, port) in ports.iter().enumerate() {
            let (streams, load) = port.figures.carried();
            self.admission.measured(lane, streams, load);
        }
    }

    /// Notes which streams moved, and releases those that their lanes gave up.
    fn go_through(&mut self) {
        let mut given_up = Vec::new();
        for (&id, entry) in &mut self.open {
            let lane = entry.link.seat().0;
            if lane != entry.place.lane {
                self.phases[entry.place.lane].release(entry.phase);
                entry.phase = self.phases[lane].retake(entry.phase);
                entry.place = self.admission.moved(entry.place, lane);
            }
            if entry.link.is_ended() {
                given_up.push(id);
            }
        }
        given_up.into_iter().for_each(|id| self.release(id));
    }

    /// Closes the books on streams that their lanes have forgotten.
    fn reap(&mut self) {
        let closed = &mut self.closed;
        self.closing.retain(|link| {
            let is_ended = link.is_ended();
            if is_ended {
                closed.add(&link.report());
            }
            !is_ended
        });
    }

    /// All streams. What they count is to be read without the desk.
    pub(crate) fn books(&self) -> Books {
        Books {
            open: self.open.values().map(|entry| Arc::clone(&entry.link)).collect(),
            closing: self.closing.clone(),
            closed: self.closed.clone(),
        }
    }
}
