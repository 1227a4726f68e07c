//! Sleeping until a point in time, a wake from another thread, or something to read, whichever is first.
//!
//! The wait is an `epoll_pwait2` with a nanosecond timeout. How late it returns is up to the kernel and the machine:
//! `cargo run --release -p evenkeel-sys --example wake` measures it.

#[cfg(target_os = "linux")]
mod epoll;
#[cfg(any(test, not(target_os = "linux")))]
mod poll;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use evenkeel_core::units::Time;

use crate::clock;

#[cfg(target_os = "linux")]
use epoll::{Bell, Poller};
#[cfg(not(target_os = "linux"))]
use poll::{Bell, Poller};

/// The waiter works; a wake has only to leave a note.
const AWAKE: u8 = 0;
/// The waiter sleeps or is about to; a wake must ring.
const ASLEEP: u8 = 1;
/// Somebody called; the next wait returns at once.
const CALLED: u8 = 2;

/// What a source of a [`Waiter`] is known by, chosen by the caller. [`Token::MAX`] is the waiter's own.
pub type Token = u64;

/// A source on which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What it is known by.
    pub token: Token,
    /// Behind what is there is its end, an error, or what the sender called urgent, and a read stops before that: read until
    /// there is nothing.
    pub until_dry: bool,
}

/// When a source is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By every wait, while there is something to read.
    Level,
    /// By one wait, when more has come to read, and where the system can't tell by all that follow, too. Cheaper than
    /// [`Trigger::Level`], for who reads it empty; of a stream, a read that fills less than there was room for has done so
    /// unless it is to be read [until dry](Ready::until_dry).
    Edge,
}

/// How many ready sources one wait can report; others are reported by the next.
pub const READY_BATCH: usize = 64;

/// Sleeps until `until`, whatever comes: cheaper than a [`Waiter`]'s wait, for a pause that nothing has to end.
pub fn sleep_until(until: Time) {
    #[cfg(target_os = "linux")]
    {
        let nanos = until.as_nanos();
        let until = rustix::time::Timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as _,
        };
        let clock = rustix::time::ClockId::Monotonic;
        while rustix::thread::clock_nanosleep_absolute(clock, &until) == Err(rustix::io::Errno::INTR) {}
    }
    #[cfg(not(target_os = "linux"))]
    std::thread::sleep(until.since(clock::now()));
}

/// The sleeping side; belongs to one thread.
#[derive(Debug)]
pub struct Waiter {
    poller: Poller,
    shared: Arc<Shared>,
    ready: [Ready; READY_BATCH],
    ready_count: usize,
}

/// The waking side; any number of threads may hold one.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    bell: Bell,
}

impl Waiter {
    /// A waiter without sources.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared { state: AtomicU8::new(AWAKE), bell: Bell::new()? });
        let mut poller = Poller::new()?;
        poller.add(shared.bell.as_fd(), Token::MAX, Trigger::Level)?;
        let nothing = Ready { token: Token::MAX, until_dry: false };
        Ok(Self { poller, shared, ready: [nothing; READY_BATCH], ready_count: 0 })
    }

    /// What wakes it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { shared: Arc::clone(&self.shared) }
    }

    /// From here on, waits end when `source` has something to read, as [`Trigger`] says, and [`Waiter::ready`] then has `token`.
    /// Allocates.
    ///
    /// # Errors
    /// If the source cannot be watched or already is.
    pub fn add(&mut self, source: impl AsFd, token: Token, trigger: Trigger) -> io::Result<()> {
        debug_assert!(token != Token::MAX, "this token is the waiter's own");
        self.poller.add(source.as_fd(), token, trigger)
    }

    /// Watches `source` no longer. To be called before it is closed.
    ///
    /// # Errors
    /// If it is not watched.
    pub fn remove(&mut self, source: impl AsFd) -> io::Result<()> {
        self.poller.remove(source.as_fd())
    }

    /// Sleeps until `until` (for ever if `None`), a wake, or a ready source. A wake that came since the last wait
    /// counts. With an `until` in the past it only looks which sources are ready. May return early for no reason.
    /// Returns whether there was a wake.
    ///
    /// # Errors
    /// If the system refuses to wait, which would be a bug of ours.
    pub fn wait(&mut self, until: Option<Time>) -> io::Result<bool> {
        let state = &self.shared.state;
        let may_sleep = state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let timeout =
            if may_sleep { until.map(|until| until.since(clock::now())) } else { Some(Duration::ZERO) };
        let polled = self.poller.wait(timeout, &mut self.ready);
        // An exchange, not a store: what callers wrote before they called must be seen from here on.
        let was_called = self.shared.state.swap(AWAKE, Ordering::SeqCst) == CALLED;
        self.ready_count = polled?;
        let ready = &mut self.ready[..self.ready_count];
        if let Some(own) = ready.iter().position(|ready| ready.token == Token::MAX) {
            self.shared.bell.hush();
            self.ready_count -= 1;
            self.ready.swap(own, self.ready_count);
        }
        Ok(was_called)
    }

    /// The sources of which the last wait told, in no order, at most [`READY_BATCH`]. There may be others: the next tells of them.
    #[must_use]
    pub fn ready(&self) -> &[Ready] {
        &self.ready[..self.ready_count]
    }
}

impl Waker {
    /// Ends the wait of the waiter, or makes its next one end at once. Any number of wakes in between are one; while
    /// the waiter works a wake costs one atomic exchange, no system call.
    ///
    /// What was written to memory before the wake is seen by the waiter after its wait.
    pub fn wake(&self) {
        if self.shared.state.swap(CALLED, Ordering::SeqCst) == ASLEEP {
            self.shared.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicU64;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_sleeps_until_the_time_given_and_not_less() {
        let mut waiter = Waiter::new().unwrap();
        for micros in [0, 300, 1_500, 12_345] {
            let until = clock::now() + Duration::from_micros(micros);
            waiter.wait(Some(until)).unwrap();
            assert!(clock::now() >= until);
            assert!(waiter.ready().is_empty());
        }
        waiter.wait(Some(Time::ZERO)).unwrap();
        let until = clock::now() + Duration::from_micros(700);
        sleep_until(until);
        assert!(clock::now() >= until);
        sleep_until(Time::ZERO);
    }

    #[test]
    fn a_wake_before_the_wait_counts_once() {
        let mut waiter = Waiter::new().unwrap();
        waiter.waker().wake();
        waiter.waker().wake();
        waiter.wait(None).unwrap();
        let until = clock::now() + Duration::from_millis(5);
        waiter.wait(Some(until)).unwrap();
        assert!(clock::now() >= until, "the second wait had no wake");
    }

    #[test]
    fn no_wake_is_lost_between_threads() {
        let mut waiter = Waiter::new().unwrap();
        let waker = waiter.waker();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let caller = std::thread::spawn(move || {
            for i in 1..=20_000u64 {
                counter.store(i, Ordering::Release);
                waker.wake();
                if i % 64 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        while sent.load(Ordering::Acquire) < 20_000 {
            let before = clock::now();
            waiter.wait(Some(before + SECOND * 20)).unwrap();
            assert!(clock::now().since(before) < SECOND * 20, "a wake was lost");
        }
        caller.join().unwrap();
    }

    fn tokens(waiter: &mut Waiter) -> Vec<Token> {
        waiter.wait(Some(clock::now())).unwrap();
        waiter.ready().iter().map(|ready| ready.token).collect()
    }

    #[test]
    fn sources_are_told_apart_and_stay_ready_until_read() {
        let mut waiter = Waiter::new().unwrap();
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        for (socket, token) in sockets.iter().zip(10..) {
            waiter.add(socket, token, Trigger::Level).unwrap();
        }
        sockets[0].send_to(&[1], sockets[2].local_addr().unwrap()).unwrap();
        waiter.wait(Some(clock::now() + SECOND * 20)).unwrap();
        assert_eq!(waiter.ready(), [Ready { token: 12, until_dry: false }]);
        assert_eq!(tokens(&mut waiter), [12]);
        waiter.waker().wake();
        assert_eq!(tokens(&mut waiter), [12], "a wake hides no source");
        sockets[2].recv(&mut [0; 9]).unwrap();
        assert!(tokens(&mut waiter).is_empty());
        waiter.remove(&sockets[1]).unwrap();
        sockets[0].send_to(&[1], sockets[1].local_addr().unwrap()).unwrap();
        assert!(tokens(&mut waiter).is_empty());
    }

    #[test]
    fn an_edge_is_told_once_and_an_end_with_it() {
        let mut waiter = Waiter::new().unwrap();
        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"before").unwrap();
        waiter.add(&near, 1, Trigger::Edge).unwrap();
        let mut room = [0; 16];
        for _ in 0..2 {
            waiter.wait(Some(clock::now() + SECOND * 20)).unwrap();
            assert_eq!(waiter.ready(), [Ready { token: 1, until_dry: false }]);
            assert_eq!(near.read(&mut room).unwrap(), 6);
            assert!(tokens(&mut waiter).is_empty());
            far.write_all(b"second").unwrap();
        }
        drop(far);
        waiter.wait(Some(clock::now() + SECOND * 20)).unwrap();
        assert_eq!(
            waiter.ready(),
            [Ready { token: 1, until_dry: true }],
            "though there is something to read"
        );
        assert_eq!((near.read(&mut room).unwrap(), near.read(&mut room).unwrap()), (6, 0));
    }

    #[test]
    fn the_portable_poller_and_bell_do_the_same() {
        let (mut poller, bell) = (poll::Poller::new().unwrap(), poll::Bell::new().unwrap());
        let mut ready = [Ready { token: 0, until_dry: false }; 4];
        poller.add(bell.as_fd(), 5, Trigger::Level).unwrap();
        assert_eq!(poller.wait(Some(Duration::from_micros(10)), &mut ready).unwrap(), 0);
        bell.ring();
        bell.ring();
        assert_eq!((poller.wait(None, &mut ready).unwrap(), ready[0].token), (1, 5));
        bell.hush();
        assert_eq!(poller.wait(Some(Duration::ZERO), &mut ready).unwrap(), 0);
        poller.remove(bell.as_fd()).unwrap();
        assert!(poller.remove(bell.as_fd()).is_err());
    }
}
