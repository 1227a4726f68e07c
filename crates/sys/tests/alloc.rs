//! Sending, receiving and waiting allocate nothing.

use evenkeel_sys::clock;
use evenkeel_sys::udp::{BufferSizes, Receiver, Sender, Socket};
use evenkeel_sys::wait::{Trigger, Waiter};
use evenkeel_testkit::alloc::{CountingAllocator, count_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[test]
fn a_turn_of_the_loop_allocates_nothing() {
    let buffers = BufferSizes { receive: 1 << 18, send: 1 << 18 };
    let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), buffers).unwrap();
    let to = socket.local_addr().unwrap();
    let (mut sender, mut receiver, mut waiter) = (Sender::new(), Receiver::new(), Waiter::new().unwrap());
    waiter.add(&socket, 0, Trigger::Level).unwrap();
    let waker = waiter.waker();
    let mut received = 0;
    let count = count_allocations(|| {
        for _ in 0..100 {
            while sender.push(|buffer| (buffer[0] < 200).then_some((to, 100))) {}
            assert_eq!(sender.send(&socket).refused, 0);
            waker.wake();
            waiter.wait(Some(clock::now())).unwrap();
            received += receiver.receive(&socket).unwrap();
            assert!(receiver.datagrams().all(|(from, bytes)| from == to && bytes.len() == 100));
        }
    });
    assert_eq!((count, received), (0, 3200));
}
