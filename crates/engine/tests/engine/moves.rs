//! Streams go from lane to lane whole, and come and go from many threads at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_engine::{Engine, EngineConfig, Output, StreamConfig};

use crate::common::{FRAME, LONG, engine, engine_config, scripted, sealer, stream, wait_until};

#[test]
fn streams_of_a_lane_over_budget_move_whole() {
    let config = EngineConfig { budget: 0.3, admission: false, ..engine_config(2) };
    let engine = Engine::start(config).unwrap();
    let output = Output::new(1_024);
    // Streams take turns among the lanes: those of the one are slow, those of the other are not.
    let slow = || {
        std::thread::sleep(Duration::from_millis(4));
        Ok(9)
    };
    let streams: Vec<_> = (0..12)
        .map(|i| {
            let encoder = if i % 2 == 0 { scripted(slow) } else { scripted(|| Ok(9)) };
            engine.open_with_encoder(&stream(), encoder, sealer(), &output).unwrap()
        })
        .collect();
    let lanes: Vec<_> = streams.iter().map(|stream| stream.report().lane).collect();
    assert_eq!(lanes.iter().filter(|&&lane| lane == 0).count(), 6);
    let (mut pushed, mut last) = (0u64, vec![0; streams.len()]);
    let mut receive = |pushed: u64| {
        for _ in 0..streams.len() {
            let packet = output.recv_timeout(LONG).expect("each frame is a packet");
            let index = streams.iter().position(|stream| stream.id() == packet.stream).unwrap();
            last[index] += 1;
            assert_eq!((packet.ticket, packet.header.unwrap().sequence), (last[index], last[index] as u32));
            assert!(packet.ticket <= pushed);
        }
    };
    wait_until("some have moved", || {
        pushed += 1;
        streams.iter().for_each(|stream| assert_eq!(stream.push(FRAME), Ok(pushed)));
        receive(pushed);
        engine.lane_reports().iter().map(|lane| lane.moved).sum::<u64>() >= 2
    });
    assert!(streams.iter().zip(&lanes).any(|(stream, &lane)| stream.report().lane != lane));
    for stream in &streams {
        let report = stream.report();
        assert_eq!((report.packets, report.dropped, report.late), (pushed, 0, 0));
    }
    drop(streams);
    wait_until("all are gone", || {
        let lanes = engine.lane_reports();
        lanes.iter().all(|lane| lane.streams == 0) && engine.report().streams.is_empty()
    });
}

#[test]
fn many_threads_may_open_push_and_close_at_once() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 40;
    const FRAMES: u64 = 5;
    let engine = engine(3);
    let output = Output::new(64);
    let (refused, pushed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, output, refused, pushed) = (&engine, &output, &refused, &pushed);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let config = StreamConfig { queue_frames: 2, ..stream() };
                    let handle = engine.open(&config, sealer(), output).unwrap();
                    for _ in 0..FRAMES {
                        match handle.push(FRAME) {
                            Ok(_) => pushed.fetch_add(1, Relaxed),
                            Err(_) => refused.fetch_add(1, Relaxed),
                        };
                    }
                    if round % 4 == 0 {
                        wait_until("it ran", || handle.report().packets > 0);
                    }
                    if (thread + round) % 2 == 0 {
                        assert!(handle.close());
                        assert!(handle.push(FRAME).is_err());
                    }
                    while let Some(packet) = output.try_recv() {
                        output.recycle(packet);
                    }
                }
            });
        }
    });
    wait_until("all are forgotten", || {
        let report = engine.report();
        report.streams.is_empty() && engine.lane_reports().iter().all(|lane| lane.streams == 0)
    });
    let totals = engine.report().totals;
    assert_eq!(totals.streams, THREADS * ROUNDS);
    assert_eq!((refused.load(Relaxed), pushed.load(Relaxed)), (0, THREADS * ROUNDS * FRAMES));
    // What was queued or ready when a stream was closed went with it.
    assert!(totals.frames + totals.dropped <= pushed.load(Relaxed));
    assert!(totals.packets <= totals.frames && totals.packets >= THREADS * ROUNDS / 4);
    assert_eq!((totals.late, totals.panics), (0, 0));
}
