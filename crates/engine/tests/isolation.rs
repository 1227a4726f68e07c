//! Streams in real time, on lanes as they are by default, beside a sink that blocks and a source that floods. Alone in
//! its process, so that nothing else loads the machine.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evenkeel_core::pcm::{Format, SampleFormat, Samples};
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_engine::{Engine, EngineConfig, Output, Pacing, StreamConfig};
use evenkeel_opus::EncoderConfig;
use evenkeel_testkit::voice;

use common::{Door, sealer};

const STREAMS: usize = 20;
const FRAMES: usize = 150;
const FRAME: Duration = Duration::from_millis(20);

/// A machine that stalls for longer than a packet may be late can be at fault once, not each time.
const TRIES: usize = 5;

fn config() -> StreamConfig {
    let input = Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::F32 };
    StreamConfig::transcode(input, EncoderConfig { complexity: 5, ..EncoderConfig::default() })
}

/// What the healthy streams lost, and what the hostile ones did.
struct Outcome {
    lost: u64,
    blocked_lost: u64,
    flood_lost: u64,
    flood_refused: u64,
}

fn run(voice: &[f32]) -> Outcome {
    let engine = Engine::start(EngineConfig { adapt: false, ..EngineConfig::default() }).unwrap();
    let output = Output::new(8 * STREAMS);
    let healthy: Vec<_> = (0..STREAMS).map(|_| engine.open(&config(), sealer(), &output).unwrap()).collect();
    let blocked_output = Output::new(4);
    let blocked = engine.open(&config(), sealer(), &blocked_output).unwrap();
    let flood_config = StreamConfig { pacing: Pacing::Immediate, ..config() };
    let flood = engine.open(&flood_config, sealer(), &Output::new(4)).unwrap();
    let (door, ended, refused) = (Door::default(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _packet = blocked_output.recv_timeout(common::LONG);
            door.pass();
        });
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                let _ = flood.push(Samples::F32(&voice[..960]));
                refused.fetch_add(u64::from(flood.push(Samples::F32(&voice[..7])).is_err()), Relaxed);
            }
        });
        let start = Instant::now();
        for (round, frame) in voice.chunks_exact(960).cycle().take(FRAMES).enumerate() {
            let due = FRAME * round as u32;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let mut batch = engine.batch();
            for stream in healthy.iter().chain([&blocked]) {
                batch.push(stream, Samples::F32(frame)).unwrap();
            }
            drop(batch);
            while let Some(packet) = output.try_recv() {
                output.recycle(packet);
            }
        }
        std::thread::sleep(5 * FRAME);
        ended.store(true, Relaxed);
        door.open();
    });
    let lost = healthy.iter().map(|stream| FRAMES as u64 - stream.report().packets).sum::<u64>();
    let counted = healthy.iter().map(|stream| stream.report()).map(|r| r.dropped + r.late).sum::<u64>();
    assert_eq!(lost, counted, "what is lost is counted");
    let flood = flood.report();
    Outcome {
        lost: lost + output.dropped(),
        blocked_lost: blocked.report().output_dropped,
        flood_lost: flood.dropped + flood.output_dropped,
        flood_refused: refused.load(Relaxed),
    }
}

#[test]
fn healthy_streams_lose_nothing_beside_a_sink_that_blocks_and_a_source_that_floods() {
    let voice = voice::synthetic(3.0);
    let mut lost = Vec::new();
    while lost.len() < TRIES && lost.last() != Some(&0) {
        let outcome = run(&voice);
        lost.push(outcome.lost);
        assert!(outcome.blocked_lost > 0 && outcome.flood_lost > 0 && outcome.flood_refused > 0);
    }
    assert_eq!(lost.last(), Some(&0), "lost in each try: {lost:?}");
}
