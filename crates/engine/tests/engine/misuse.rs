//! What callers get wrong is told to them by type, and changes nothing.

use std::time::Duration;

use evenkeel_core::pcm::{SampleFormat, Samples};
use evenkeel_core::relay::MAX_OPUS_PACKET;
use evenkeel_core::units::FrameDuration;
use evenkeel_engine::{
    EngineConfig, OpenError, Output, PushError, RequestError, Requester, StreamConfig, StreamHandle,
};

use crate::common::{Door, FRAME, LONG, engine, engine_config, scripted, sealer, stream, wait_until};

#[test]
fn closing_twice_and_pushing_afterwards() {
    let engine = engine(1);
    let output = Output::new(8);
    let handle = engine.open(&stream(), sealer(), &output).unwrap();
    assert_eq!(handle.push(FRAME), Ok(1));
    assert!(output.recv_timeout(LONG).is_some());
    assert_eq!([handle.close(), handle.close()], [true, false]);
    assert_eq!(handle.push(FRAME), Err(PushError::Closed));
    drop(handle);
    let report = engine.report();
    assert!(report.streams.is_empty());
    assert_eq!((report.totals.streams, report.totals.frames, report.totals.packets), (1, 1, 1));
}

#[test]
fn frames_of_another_length_format_or_kind_are_refused_and_nothing_is_queued() {
    let engine = engine(1);
    let output = Output::new(8);
    let pcm = engine.open(&stream(), sealer(), &output).unwrap();
    let length = |actual| Err(PushError::FrameLength { expected: 160, actual });
    assert_eq!(pcm.push(Samples::I16(&[0; 159])), length(159));
    assert_eq!(pcm.push(Samples::I16(&[0; 320])), length(320));
    assert_eq!(pcm.push(Samples::I16(&[])), length(0));
    assert_eq!(pcm.push(Samples::F32(&[0.0; 160])), Err(PushError::Format { expected: SampleFormat::I16 }));
    assert!(matches!(pcm.push_opus(&[0xf8]), Err(PushError::Kind { .. })));
    assert_eq!(pcm.push(FRAME), Ok(1), "the first that counts");
    assert!(output.recv_timeout(LONG).is_some());
    assert_eq!((pcm.report().frames, pcm.report().queued), (1, 0));

    let relay = engine.open(&StreamConfig::relay(FrameDuration::MS_20), sealer(), &output).unwrap();
    assert!(matches!(relay.push(FRAME), Err(PushError::Kind { .. })));
    let (limit, actual) = (MAX_OPUS_PACKET, MAX_OPUS_PACKET + 1);
    assert_eq!(relay.push_opus(&vec![0xf8; actual]), Err(PushError::Oversized { limit, actual }));
    // What is no Opus is found out later, and counted.
    assert_eq!(relay.push_opus(&[]), Ok(1));
    assert_eq!(relay.push_opus(&[0xfb]), Ok(2));
    wait_until("both are refused", || relay.report().refused == 2);
}

#[test]
fn a_batch_refuses_the_same_and_wakes_the_streams_of_other_engines() {
    let (ours, others) = (engine(2), engine(1));
    let output = Output::new(8);
    let open = |engine: &evenkeel_engine::Engine| engine.open(&stream(), sealer(), &output).unwrap();
    let handles: Vec<StreamHandle> = vec![open(&ours), open(&ours), open(&others)];
    let mut batch = ours.batch();
    for handle in &handles {
        assert!(matches!(batch.push(handle, Samples::I16(&[0; 1])), Err(PushError::FrameLength { .. })));
        assert_eq!(batch.push(handle, FRAME), Ok(1));
    }
    drop(batch);
    assert!((0..3).all(|_| output.recv_timeout(LONG).is_some()));
}

#[test]
fn over_capacity_the_error_says_how_many_run_and_how_many_fit() {
    let config = EngineConfig { budget: 0.1, ..engine_config(1) };
    let engine = evenkeel_engine::Engine::start(config).unwrap();
    let output = Output::new(8);
    let mut handles = Vec::new();
    let refused = loop {
        match engine.open(&stream(), sealer(), &output) {
            Ok(handle) => handles.push(handle),
            Err(OpenError::Refused(refused)) => break refused,
            Err(error) => panic!("{error}"),
        }
        assert!(handles.len() < 10_000, "a tenth of a core is not for so many");
    };
    assert_eq!((refused.running, refused.lanes), (handles.len(), 1));
    assert!(refused.fit <= refused.running);
    let said = refused.to_string();
    assert!(said.contains(&format!("{} run", handles.len())) && said.contains("fit"), "{said}");
    assert_eq!(engine.report().refused, 1);
    // Those that run were not harmed, and whoever leaves makes room.
    assert_eq!(handles[0].push(FRAME), Ok(1));
    assert!(output.recv_timeout(LONG).is_some());
    handles.truncate(handles.len() / 2);
    assert!(engine.open(&stream(), sealer(), &output).is_ok());
}

#[test]
fn a_lane_in_which_an_encoder_blocks_answers_no_request_and_takes_no_stream() {
    let config = EngineConfig { max_streams_per_lane: 4, ..engine_config(1) };
    let engine = evenkeel_engine::Engine::start(config).unwrap();
    let output = Output::new(8);
    let limit = Requester::DEFAULT_LIMIT;
    assert_eq!(limit, Duration::from_millis(50));
    let mut requester = engine.open_requester(&stream(), sealer(), limit).unwrap();
    let door = Door::default();
    let blocking = scripted({
        let door = door.clone();
        move || {
            door.pass();
            Ok(9)
        }
    });
    let blocked = engine.open_with_encoder(&stream(), blocking, sealer(), &output).unwrap();
    blocked.push(FRAME).unwrap();
    wait_until("the lane is blocked", || blocked.report().frames == 1);
    assert_eq!(requester.request(FRAME, |_| ()), Err(RequestError::Timeout { limit }));
    // Streams that come and go without the lane noticing do not pile up for ever.
    let unresponsive = (0..1_000).find_map(|_| engine.open(&stream(), sealer(), &output).err());
    assert!(matches!(unresponsive, Some(OpenError::Unresponsive { lane: 0, waiting: 72 })));
    door.open();
    assert!(output.recv_timeout(LONG).is_some());
    wait_until("a request is answered", || {
        let mut packets = 0;
        let answer = requester.request(FRAME, |packet| packets += usize::from(!packet.datagram.is_empty()));
        answer == Ok(1) && packets == 1
    });
    assert!(engine.open(&stream(), sealer(), &output).is_ok());
}
