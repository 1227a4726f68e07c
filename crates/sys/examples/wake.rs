//! How late this machine wakes a thread: from a timed wait, and by a wake from another thread.
#![allow(clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_core::stats::Histogram;
use evenkeel_sys::clock;
use evenkeel_sys::thread::{MediaThread, spawn};
use evenkeel_sys::wait::Waiter;

const ROUNDS: u64 = 2_000;

fn main() -> std::io::Result<()> {
    for real_time in [None, Some(1)] {
        let wanted = MediaThread { name: "wake".into(), core: None, real_time };
        let (thread, granted) = spawn(wanted, || (timed(), called()))?;
        println!("{granted:?}");
        let (timed, called) = thread.join().map_err(|_| std::io::Error::other("the thread panicked"))?;
        println!("  after a wait of 1 ms {:?}\n  after a call {:?}", timed?.summary(), called?.summary());
    }
    Ok(())
}

fn timed() -> std::io::Result<Histogram> {
    let (mut waiter, mut late) = (Waiter::new()?, Histogram::new());
    for _ in 0..ROUNDS {
        let until = clock::now() + Duration::from_millis(1);
        waiter.wait(Some(until))?;
        late.record(clock::now().since(until).as_nanos() as u64);
    }
    Ok(late)
}

fn called() -> std::io::Result<Histogram> {
    let (mut waiter, mut late) = (Waiter::new()?, Histogram::new());
    let (waker, at) = (waiter.waker(), Arc::new(AtomicU64::new(0)));
    let called_at = Arc::clone(&at);
    let caller = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(1));
            called_at.store(clock::now().as_nanos(), Ordering::Release);
            waker.wake();
        }
    });
    while !caller.is_finished() {
        waiter.wait(Some(clock::now() + Duration::from_millis(100)))?;
        let called_at = at.swap(0, Ordering::AcqRel);
        if called_at > 0 {
            late.record(clock::now().as_nanos() - called_at);
        }
    }
    caller.join().map_err(|_| std::io::Error::other("the caller panicked"))?;
    Ok(late)
}
