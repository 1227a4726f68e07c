//! The same encodes alone: as many bare encoders as streams, on as many threads as lanes, round and round in the
//! order in which the streams would be coded. So their states pass through the caches as they do under load.

use std::time::Duration;

use evenkeel_opus::bare::BareEncoder;
use evenkeel_sys::clock;

use super::material::{Material, encoder_config};
use super::{Kind, LoadConfig};

/// CPU time each thread spends on it.
const SPENT: Duration = Duration::from_millis(1_500);

/// The cores that coding all streams in real time takes; none for a relay.
pub(super) fn cores(config: &LoadConfig, material: &Material) -> Option<f64> {
    let per_frame = seconds_per_frame(config, material)?;
    Some(per_frame * config.streams as f64 / config.frame.as_duration().as_secs_f64())
}

/// CPU seconds that one frame takes.
pub(super) fn seconds_per_frame(config: &LoadConfig, material: &Material) -> Option<f64> {
    let Kind::Transcode { rate, complexity } = config.kind else { return None };
    // What is resampled first has no bare counterpart on the same samples.
    if !rate.is_opus() {
        return None;
    }
    let threads = config.engine.lanes;
    let (spent, frames) = std::thread::scope(|scope| {
        let share = |i: usize| config.streams / threads + usize::from(i < config.streams % threads);
        let work = |i| scope.spawn(move || encode(config, material, rate, complexity, share(i).max(1)));
        let running: Vec<_> = (0..threads).map(work).collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .fold((Duration::ZERO, 0), |(spent, frames), (s, f)| (spent + s, frames + f))
    });
    Some(spent.as_secs_f64() / frames.max(1) as f64)
}

fn encode(
    config: &LoadConfig,
    material: &Material,
    rate: evenkeel_core::units::SampleRate,
    complexity: u8,
    encoders: usize,
) -> (Duration, u64) {
    let settings = encoder_config(rate, complexity);
    let new = |_| BareEncoder::new(&settings, config.frame).ok();
    let mut encoders: Vec<_> = (0..encoders).filter_map(new).collect();
    let mut packet = [0; 1_500];
    let (start, mut frames) = (clock::thread_cpu(), 0);
    for round in 0.. {
        for (i, encoder) in encoders.iter_mut().enumerate() {
            encoder.encode(material.pcm((i * 37 + round) % material.frames()), &mut packet);
            frames += 1;
        }
        if clock::thread_cpu() - start >= SPENT {
            break;
        }
    }
    (clock::thread_cpu() - start, frames)
}
