//! What streams and lanes count as they go, for anyone to read at any time without the lane hearing of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_core::ladder::Rung;
use evenkeel_core::stats::SharedHistogram;

use crate::link::Link;
use crate::metrics::{LaneReport, StreamReport};

/// A figure that one thread writes while others look.
#[derive(Debug, Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    pub(crate) fn add(&self, more: u64) {
        if more > 0 {
            self.set(self.get() + more);
        }
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The rung of a stream, that one thread writes while others look.
#[derive(Debug, Default)]
pub(crate) struct RungFigure(Figure);

impl RungFigure {
    const RELAY: u64 = 20;

    pub(crate) fn set(&self, rung: Option<Rung>) {
        self.0.set(match rung {
            Some(Rung::Full { complexity }) => complexity.into(),
            Some(Rung::Medium) => 16,
            Some(Rung::Minimal) => 17,
            Some(Rung::Emergency) => 18,
            Some(Rung::Muted) => 19,
            None => Self::RELAY,
        });
    }

    fn get(&self) -> Option<Rung> {
        match self.0.get() {
            16 => Some(Rung::Medium),
            17 => Some(Rung::Minimal),
            18 => Some(Rung::Emergency),
            19 => Some(Rung::Muted),
            Self::RELAY => None,
            complexity => Some(Rung::Full { complexity: complexity as u8 }),
        }
    }
}

/// What a stream counts as it goes. Written by its lane.
#[derive(Default)]
pub(crate) struct StreamFigures {
    pub(crate) frames: Figure,
    pub(crate) packets: Figure,
    pub(crate) bytes: Figure,
    pub(crate) late: Figure,
    pub(crate) output_dropped: Figure,
    pub(crate) refused: Figure,
    pub(crate) underruns: Figure,
    pub(crate) silent: Figure,
    pub(crate) muted: Figure,
    pub(crate) fallbacks: Figure,
    pub(crate) panics: Figure,
    pub(crate) rung_changes: Figure,
    pub(crate) key_exhausted: Figure,
    pub(crate) rung: RungFigure,
    pub(crate) position: Figure,
    pub(crate) cost_nanos: Figure,
    pub(crate) recent_mean: Figure,
    pub(crate) recent_max: Figure,
    pub(crate) processing: SharedHistogram,
    pub(crate) latency: SharedHistogram,
    pub(crate) departure: SharedHistogram,
}

impl std::fmt::Debug for StreamFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamFigures").field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl Link {
    /// What the stream tells.
    pub(crate) fn report(&self) -> StreamReport {
        let figures = &self.figures;
        let nanos = |figure: &Figure| Duration::from_nanos(figure.get());
        StreamReport {
            id: self.id(),
            lane: self.seat().0,
            frames: figures.frames.get(),
            packets: figures.packets.get(),
            bytes: figures.bytes.get(),
            dropped: self.input.dropped(),
            late: figures.late.get(),
            output_dropped: figures.output_dropped.get(),
            refused: figures.refused.get(),
            underruns: figures.underruns.get(),
            silent: figures.silent.get(),
            muted: figures.muted.get(),
            fallbacks: figures.fallbacks.get(),
            panics: figures.panics.get(),
            rung_changes: figures.rung_changes.get(),
            key_exhausted: figures.key_exhausted.get() > 0,
            rung: figures.rung.get().map_or_else(|| "relay".to_owned(), |rung| rung.to_string()),
            position: figures.position.get() as usize,
            queued: self.input.len(),
            cost: nanos(&figures.cost_nanos),
            recent_mean: nanos(&figures.recent_mean),
            recent_max: nanos(&figures.recent_max),
            processing: figures.processing.snapshot(),
            latency: figures.latency.snapshot(),
            departure: figures.departure.snapshot(),
        }
    }
}

/// What a lane counts as it goes. Written by its thread.
#[derive(Debug, Default)]
pub(crate) struct LaneFigures {
    /// Bits of the `f64`.
    pub(crate) load: Figure,
    /// Streams in the upper half; in the lower the bits of the `f32` load they would be on their best rung.
    carried: Figure,
    pub(crate) position: Figure,
    pub(crate) jobs: Figure,
    pub(crate) moved: Figure,
    pub(crate) panics: Figure,
    pub(crate) cpu_nanos: Figure,
}

impl LaneFigures {
    pub(crate) fn set_carried(&self, streams: usize, load: f64) {
        self.carried.set((streams as u64) << 32 | u64::from((load as f32).to_bits()));
    }

    /// How many streams it has, and the load they would be on their best rung.
    pub(crate) fn carried(&self) -> (usize, f64) {
        let carried = self.carried.get();
        ((carried >> 32) as usize, f32::from_bits(carried as u32).into())
    }

    pub(crate) fn report(&self, lane: usize) -> LaneReport {
        LaneReport {
            lane,
            streams: self.carried().0,
            load: f64::from_bits(self.load.get()),
            position: self.position.get() as usize,
            jobs: self.jobs.get(),
            moved: self.moved.get(),
            cpu_seconds: Duration::from_nanos(self.cpu_nanos.get()).as_secs_f64(),
        }
    }
}
