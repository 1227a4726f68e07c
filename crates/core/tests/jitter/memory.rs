//! What the buffer allocates, and when.

use std::time::Duration;

use evenkeel_core::jitter::{JitterBuffer, JitterConfig};
use evenkeel_core::units::Time;
use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};
use evenkeel_testkit::network::{Jitter, Loss, Network, NetworkConfig};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[test]
fn an_idle_buffer_is_small_and_takes_no_heap() {
    let mut buffer = None;
    let allocations =
        count_allocations(|| buffer = Some(JitterBuffer::new(JitterConfig::default()).unwrap()));
    assert_eq!(allocations, 0);
    assert!(size_of::<JitterBuffer>() <= 1024, "{}", size_of::<JitterBuffer>());
    let allocations = count_allocations(|| {
        let _ = buffer.as_mut().map(|buffer| buffer.next(Time::from_millis(5)).duration());
    });
    assert_eq!(allocations, 0);
}

#[test]
fn after_the_first_second_nothing_allocates() {
    let config = NetworkConfig {
        loss: Loss::Random(0.05),
        jitter: Jitter::Uniform(Duration::from_millis(50)),
        reorder: 0.05,
        duplicate: 0.05,
        ..NetworkConfig::default()
    };
    let mut network = Network::new(4, config).unwrap();
    let mut buffer = JitterBuffer::new(JitterConfig::default()).unwrap();
    let (mut first_second, mut later) = (0, 0);
    for n in 0..50u32 * 60 {
        let now = Time::from_millis(u64::from(n) * 20);
        let payload = [&[0x48, 0x80][..], &vec![7; n as usize * 37 % 200]].concat();
        network.send(now, &[&n.to_be_bytes(), payload.as_slice()].concat());
        while let Some((at, datagram)) = network.poll(now) {
            let (sequence, payload) = datagram.split_first_chunk().unwrap();
            let count = count_allocations(|| buffer.insert(u32::from_be_bytes(*sequence), 0, payload, at));
            *if n < 50 { &mut first_second } else { &mut later } += count;
        }
        later += count_allocations(|| buffer.next(now).duration());
    }
    assert!(buffer.stats().played > 2500);
    assert!(first_second > 0);
    assert_eq!(later, 0);
}

#[test]
fn small_payloads_allocate_with_the_first_packet_alone() {
    let config = JitterConfig { capacity: 8, ..JitterConfig::default() };
    let mut buffer = JitterBuffer::new(config).unwrap();
    let _ = buffer.insert(0, 0, &[0x48; 256], Time::ZERO);
    let allocations = count_allocations(|| {
        for n in 1..100 {
            // More at a time than are taken out: places and payloads are all used.
            let now = Time::from_millis(20 * n);
            let _ = buffer.insert(n as u32 * 2, 0, &[0x48; 256], now);
            let _ = buffer.insert(n as u32 * 2 - 1, 0, &[0x48; 256], now);
            let _ = buffer.next(now).duration();
        }
    });
    assert!(buffer.stats().played > 20 && buffer.stats().overflow > 20, "{:?}", buffer.stats());
    assert_eq!(allocations, 0);
}
