//! After warm-up neither the lane nor whoever pushes and receives allocates: threads, sleepers and all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use evenkeel_engine::{Output, Requester};
use evenkeel_testkit::alloc::{allocations_of_this_thread, count_allocations};

use crate::common::{FRAME, LONG, engine, scripted, sealer, stream};

const WARM_UP: u64 = 200;
const FRAMES: u64 = 500;

#[test]
fn a_lane_its_source_and_its_sink_allocate_nothing_per_frame() {
    let engine = engine(1);
    let output = Output::new(16);
    // What the lane has allocated so far, seen from within it.
    let seen = Arc::new(AtomicU64::new(0));
    let encoder = scripted({
        let seen = Arc::clone(&seen);
        move || {
            seen.store(allocations_of_this_thread(), SeqCst);
            Ok(60)
        }
    });
    let scripted = engine.open_with_encoder(&stream(), encoder, sealer(), &output).unwrap();
    let opus = engine.open(&stream(), sealer(), &output).unwrap();
    let mut batch = engine.batch();
    let mut frame = |batched: bool| {
        for stream in [&opus, &scripted] {
            let ticket = if batched { batch.push(stream, FRAME) } else { stream.push(FRAME) };
            ticket.unwrap();
        }
        batch.flush();
        for _ in 0..2 {
            output.recycle(output.recv_timeout(LONG).unwrap());
        }
    };
    (0..WARM_UP).for_each(|i| frame(i % 2 == 0));
    let before = seen.load(SeqCst);
    assert!(before > 0, "the lane is on the counting allocator");
    assert_eq!(count_allocations(|| (0..FRAMES).for_each(|i| frame(i % 2 == 0))), 0, "source and sink");
    assert_eq!(seen.load(SeqCst), before, "lane");
}

#[test]
fn a_request_allocates_nothing() {
    let engine = engine(1);
    let mut requester = engine.open_requester(&stream(), sealer(), LONG).unwrap();
    let request = |requester: &mut Requester| {
        let mut bytes = 0;
        requester.request(FRAME, |packet| bytes += packet.datagram.len()).unwrap();
        bytes
    };
    (0..WARM_UP).for_each(|_| assert!(request(&mut requester) > 0));
    assert_eq!(count_allocations(|| (0..FRAMES).map(|_| request(&mut requester)).sum::<usize>()), 0);
}
