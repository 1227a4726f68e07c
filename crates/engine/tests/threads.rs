//! An engine that is dropped leaves no thread behind. Alone in its process, so that it may count them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use evenkeel_engine::{Output, PushError, Requester};

use common::{FRAME, engine, scripted, sealer, stream, wait_until};

fn lanes() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lane-")).count()
}

#[test]
fn no_thread_is_left_when_an_engine_is_dropped_with_streams_open() {
    for round in 0..10 {
        let engine = engine(3);
        assert_eq!(lanes(), 3);
        let output = Output::new(16);
        let slow = scripted(|| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(9)
        });
        let handles: Vec<_> = std::iter::once(engine.open_with_encoder(&stream(), slow, sealer(), &output))
            .chain((0..20).map(|_| engine.open(&stream(), sealer(), &output)))
            .collect::<Result<_, _>>()
            .unwrap();
        let requester = engine.open_requester(&stream(), sealer(), Requester::DEFAULT_LIMIT).unwrap();
        handles.iter().for_each(|handle| assert_eq!(handle.push(FRAME), Ok(1)));
        if round % 2 == 0 {
            drop(engine);
        } else {
            engine.shut_down();
        }
        // A thread that was joined may still be listed for a moment.
        wait_until("the lanes have ended", || lanes() == 0);
        for handle in &handles {
            assert_eq!(handle.push(FRAME), Err(PushError::Closed));
        }
        assert!(!handles[0].close(), "the engine did");
        assert!(requester.handle().push(FRAME).is_err());
    }
}
