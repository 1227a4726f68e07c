//! What harms one stream harms no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use evenkeel_core::error::CodecError;
use evenkeel_engine::{Engine, Output, PushError, RequestError, Requester, StreamHandle};

use crate::common::{FRAME, LONG, engine, scripted, sealer, stream, wait_until};

const FRAMES: u64 = 200;

/// Streams that shall not notice anything.
struct Healthy {
    streams: Vec<StreamHandle>,
    output: Output,
}

impl Healthy {
    fn open(engine: &Engine) -> Self {
        let output = Output::new(64);
        let streams = (0..6).map(|_| engine.open(&stream(), sealer(), &output).unwrap()).collect();
        Self { streams, output }
    }

    fn push(&self) {
        for stream in &self.streams {
            stream.push(FRAME).unwrap();
        }
        for _ in &self.streams {
            self.output.recycle(self.output.recv_timeout(LONG).expect("each frame is a packet"));
        }
    }

    fn check(&self) {
        for stream in &self.streams {
            let report = stream.report();
            assert_eq!((report.frames, report.packets), (FRAMES, FRAMES));
            assert_eq!((report.dropped, report.late, report.output_dropped), (0, 0, 0));
        }
    }
}

#[test]
fn a_sink_that_takes_nothing_loses_its_own_packets() {
    let engine = engine(2);
    let healthy = Healthy::open(&engine);
    let blocked = Output::new(4);
    let stream = engine.open(&stream(), sealer(), &blocked).unwrap();
    for sent in 1..=FRAMES {
        stream.push(FRAME).unwrap();
        healthy.push();
        wait_until("it left, too", || stream.report().packets == sent);
    }
    healthy.check();
    let lost = FRAMES - 4;
    assert_eq!((stream.report().output_dropped, blocked.dropped()), (lost, lost));
    let left: Vec<_> = std::iter::from_fn(|| blocked.try_recv()).map(|packet| packet.ticket).collect();
    assert_eq!(left, [FRAMES - 3, FRAMES - 2, FRAMES - 1, FRAMES], "the oldest went");
}

#[test]
fn a_sink_that_panics_harms_itself() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("injected");
        }
    }
    let engine = engine(1);
    let healthy = Healthy::open(&engine);
    let output = Output::new(4);
    let stream = engine.open(&stream(), sealer(), &output).unwrap();
    for round in 0..FRAMES {
        if round % 2 == 0 {
            // In the lane, when it is woken.
            let waker = Waker::from(Arc::new(Panics));
            let _ = output.poll_recv(&Context::from_waker(&waker));
        } else {
            // In its own thread, with a packet in its hands.
            let output = output.clone();
            let sink = std::thread::spawn(move || {
                let _packet = output.recv_timeout(LONG).unwrap();
                panic!("injected");
            });
            stream.push(FRAME).unwrap();
            assert!(sink.join().is_err());
        }
        healthy.push();
    }
    healthy.check();
    assert_eq!(stream.report().packets, FRAMES / 2);
    assert_eq!(engine.report().totals.panics, 0, "a sink is no encoder");
}

#[test]
fn an_encoder_that_panics_costs_its_stream() {
    let engine = engine(1);
    let healthy = Healthy::open(&engine);
    let output = Output::new(64);
    let mut calls = 0;
    let panics = scripted(move || {
        calls += 1;
        assert!(calls < 50, "injected");
        Ok(9)
    });
    let stream = engine.open_with_encoder(&stream(), panics, sealer(), &output).unwrap();
    let mut refused = 0;
    for _ in 0..FRAMES {
        refused += u64::from(stream.push(FRAME) == Err(PushError::Closed));
        healthy.push();
    }
    healthy.check();
    assert!(refused > 0);
    let report = stream.report();
    assert_eq!((report.packets, report.panics), (49, 1));
    wait_until("the books know", || {
        // The desk goes through its books when one is opened.
        drop(engine.open(&crate::common::stream(), sealer(), &output));
        engine.report().streams.len() == healthy.streams.len()
    });
    assert_eq!(engine.report().totals.panics, 1);
    assert!(!stream.close(), "it was closed for it");
}

#[test]
fn an_encoder_that_panics_when_it_is_dropped_harms_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("injected");
        }
    }
    let engine = engine(1);
    let healthy = Healthy::open(&engine);
    let output = Output::new(64);
    for _ in 0..FRAMES {
        let bomb = Bomb;
        let encoder = scripted(move || {
            let _held = &bomb;
            Ok(9)
        });
        let stream = engine.open_with_encoder(&stream(), encoder, sealer(), &output).unwrap();
        healthy.push();
        drop(stream);
    }
    healthy.check();
}

#[test]
fn an_encoder_that_fails_is_stood_in_for_and_its_stream_goes_on() {
    let engine = engine(1);
    let healthy = Healthy::open(&engine);
    let output = Output::new(64);
    let calls = Arc::new(AtomicU64::new(0));
    let script = {
        let calls = Arc::clone(&calls);
        move || match calls.fetch_add(1, Relaxed) % 5 {
            0 => Err(CodecError::Internal { code: -3, reason: "injected" }),
            _ => Ok(9),
        }
    };
    let stream = engine.open_with_encoder(&stream(), scripted(script), sealer(), &output).unwrap();
    for ticket in 1..=FRAMES {
        stream.push(FRAME).unwrap();
        assert_eq!(output.recv_timeout(LONG).map(|packet| packet.ticket), Some(ticket), "none is lost");
        healthy.push();
    }
    healthy.check();
    let report = stream.report();
    // Each failure is answered by another call, which is one of the five.
    assert_eq!((report.fallbacks, calls.load(Relaxed)), (FRAMES / 4, FRAMES + FRAMES / 4));
    assert_eq!((report.packets, report.muted), (FRAMES, 0));
}

#[test]
fn whoever_waits_for_an_answer_is_told_when_the_encoder_is_gone() {
    let engine = engine(1);
    let mut requester = engine.open_requester(&stream(), sealer(), Requester::DEFAULT_LIMIT).unwrap();
    std::thread::scope(|scope| {
        let closer = scope.spawn(|| drop(engine));
        let end = loop {
            match requester.request(FRAME, |_| ()) {
                Ok(_) | Err(RequestError::Timeout { .. }) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(end, RequestError::Push(PushError::Closed));
        closer.join().unwrap();
    });
}

#[test]
fn every_push_is_answered_in_an_output_that_outlives_its_streams() {
    let engine = engine(1);
    let output = Output::new(64);
    let open = || engine.open_answering(&stream(), sealer(), &output).unwrap();
    let (first, second) = (open(), open());
    for _ in 0..5 {
        for stream in [&first, &second] {
            let ticket = stream.push(FRAME).unwrap();
            let answer = output.recv_timeout(LONG).unwrap();
            assert_eq!((answer.stream, answer.ticket, answer.ends_push), (stream.id(), ticket, true));
        }
    }
    assert!(first.close());
    let ticket = second.push(FRAME).unwrap();
    assert_eq!(output.recv_timeout(LONG).map(|answer| answer.ticket), Some(ticket));
}
