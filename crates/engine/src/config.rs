//! What an engine and its streams can be told.

use std::time::Duration;

use evenkeel_core::error::ConfigError;
use evenkeel_core::ladder::{ControllerConfig, SinkCapability};
use evenkeel_core::pcm::Format;
use evenkeel_core::units::FrameDuration;
use evenkeel_opus::EncoderConfig;

/// How to build an [`Engine`](crate::Engine).
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Media threads. Default: one a core. More than there are cores costs punctuality.
    pub lanes: usize,
    /// Pin each lane to a core, where the system allows it. Default on. Costs nothing on a machine of its own; where
    /// other busy processes share the cores, switch it off and let the kernel choose.
    pub pin: bool,
    /// Which of the cores this process may use the first lane is pinned to; the others follow. Default 0. For
    /// several processes on one host.
    pub first_core: usize,
    /// Ask for real-time priority, where the system allows it. Default on. Without it a busy neighbour shows as
    /// departure error.
    pub realtime: bool,
    /// The share of a lane that admission fills, 0.1 to 1.0. Default 0.92. What is left over is the room in which
    /// punctuality survives a disturbance.
    pub budget: f64,
    /// The share of a lane over which its streams step down the ladder. Default 0.93: just under what a lane may work at
    /// all (`evenkeel_sys::rest`).
    pub step_down_load: f64,
    /// The share of a lane that streams may fill when they step up again. Default 0.80. The gap to `step_down_load`
    /// is what keeps them from oscillating.
    pub step_up_load: f64,
    /// Whether streams change rungs at all. Default on. Off, a lane with too much to do drops frames.
    pub adapt: bool,
    /// When streams change rungs for reasons of their own.
    pub controller: ControllerConfig,
    /// Whether the rung `emergency` (PCM in clear) may ever be used. Default off. Each time it is entered a warning
    /// is logged.
    pub allow_emergency: bool,
    /// Whether a new stream over capacity is refused. Default on. Off, the ladder has to make room for it.
    pub admission: bool,
    /// The most streams a lane holds. Default 4096. Costs a quarter of a byte each, held from the start.
    pub max_streams_per_lane: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            lanes: std::thread::available_parallelism().map_or(1, usize::from),
            pin: true,
            first_core: 0,
            realtime: true,
            budget: 0.92,
            step_down_load: 0.93,
            step_up_load: 0.80,
            adapt: true,
            controller: ControllerConfig::default(),
            allow_emergency: false,
            admission: true,
            max_streams_per_lane: 4096,
        }
    }
}

impl EngineConfig {
    /// Whether an engine can be built so.
    ///
    /// # Errors
    /// [`ConfigError::Range`] names the field and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let percent = |share: f64| (share * 100.0).round() as i64;
        range("lanes", i64::try_from(self.lanes).unwrap_or(i64::MAX), 1, 1024)?;
        range("budget in %", percent(self.budget), 10, 100)?;
        range("step_down_load in %", percent(self.step_down_load), 10, 100)?;
        range("step_up_load in %", percent(self.step_up_load), 5, percent(self.step_down_load) - 1)?;
        let most = i64::try_from(self.max_streams_per_lane).unwrap_or(i64::MAX);
        range("max_streams_per_lane", most, 1, 1 << 20)
    }
}

fn range(what: &'static str, actual: i64, min: i64, max: i64) -> Result<(), ConfigError> {
    if (min..=max).contains(&actual) { Ok(()) } else { Err(ConfigError::Range { what, min, max, actual }) }
}

/// When packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// At absolute deadlines a frame apart, the first one `lead` after its frame was pushed.
    ///
    /// The lead is what the codec and the lane have to get ready in, and the delay the stream pays for punctuality:
    /// 1.725 ms by default ([`Pacing::DEFAULT_LEAD`]).
    Paced {
        /// From the push of a frame until its packet is due, up to 10 s.
        lead: Duration,
    },
    /// As soon as they are ready.
    Immediate,
}

impl Pacing {
    /// A slot of the lanes' phases and a little: packets are due just after the next slot's frames came, which is when
    /// the lane is awake anyway. Covers some ten encodes of 20 ms at complexity 5.
    pub const DEFAULT_LEAD: Duration = Duration::from_micros(1_725);
}

impl Default for Pacing {
    fn default() -> Self {
        Self::Paced { lead: Self::DEFAULT_LEAD }
    }
}

/// What a stream does with what is pushed into it.
#[derive(Clone, Debug)]
pub enum Work {
    /// PCM in, Opus out.
    Transcode {
        /// What is pushed.
        input: Format,
        /// How it is coded. The complexity is that of the rung `full`.
        encoder: EncoderConfig,
        /// What the far end can take, beside Opus.
        sink: SinkCapability,
    },
    /// Opus in, the same Opus out, regrouped to packets of the stream's frame duration.
    Relay,
}

/// How to open a stream.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// What it does.
    pub work: Work,
    /// How long one packet lasts. Default 20 ms.
    pub frame: FrameDuration,
    /// When packets leave. Default paced.
    pub pacing: Pacing,
    /// How many frames may wait for the codec, 1 to 1024. Default 4. One more drops the oldest, which is counted. Costs
    /// a frame's memory each.
    pub queue_frames: usize,
    /// How late a packet may leave at all, up to a minute. Default 50 ms. Later than that it is dropped and counted.
    pub late_limit: Duration,
}

impl StreamConfig {
    /// A stream that codes `input` with the default encoder.
    #[must_use]
    pub fn transcode(input: Format, encoder: EncoderConfig) -> Self {
        Self::new(Work::Transcode { input, encoder, sink: SinkCapability::default() })
    }

    /// A stream that relays.
    #[must_use]
    pub fn relay(frame: FrameDuration) -> Self {
        Self { frame, ..Self::new(Work::Relay) }
    }

    /// Whether a stream can be opened so, as far as these settings alone tell.
    ///
    /// # Errors
    /// [`ConfigError::Range`] names the field and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        range("queue_frames", i64::try_from(self.queue_frames).unwrap_or(i64::MAX), 1, 1024)?;
        range("late_limit in ms", millis(self.late_limit), 0, 60_000)?;
        match self.pacing {
            Pacing::Paced { lead } => range("lead in ms", millis(lead), 0, 10_000),
            Pacing::Immediate => Ok(()),
        }
    }

    fn new(work: Work) -> Self {
        Self {
            work,
            frame: FrameDuration::MS_20,
            pacing: Pacing::default(),
            queue_frames: 4,
            late_limit: Duration::from_millis(50),
        }
    }
}
