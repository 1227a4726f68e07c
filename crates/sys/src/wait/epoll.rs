//! Waiting as Linux does it: epoll, an eventfd, timeouts in nanoseconds.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};

use super::{READY_BATCH, Ready, Token, Trigger};

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// Kernels before 5.11, and some sandboxes, have no `epoll_pwait2`.
    has_pwait2: bool,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, has_pwait2: true })
    }

    pub(super) fn add(&mut self, source: BorrowedFd<'_>, token: Token, trigger: Trigger) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let edge = match trigger {
            Trigger::Level => EventFlags::empty(),
            Trigger::Edge => EventFlags::ET,
        };
        let flags = EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP | edge;
        Ok(epoll::add(&self.epoll, source, data, flags)?)
    }

    pub(super) fn remove(&mut self, source: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Fills `ready` and returns how many. An interruption by a signal is an early return.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut [Ready; READY_BATCH],
    ) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
        });
        let result = if self.has_pwait2 { self.pwait2(timeout, ready) } else { self.ppoll(timeout, ready) };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error)
                if self.has_pwait2 && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
            {
                self.has_pwait2 = false;
                Ok(0)
            }
            result => result,
        }
    }

    fn pwait2(&self, timeout: Option<libc::timespec>, ready: &mut [Ready; READY_BATCH]) -> io::Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_BATCH];
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `events` has room for the number given and `timeout` is null or points to a timespec; both outlive
        // the call. No signal mask is given, so its size does not matter.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                READY_BATCH as libc::c_int,
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (ready, event) in ready.iter_mut().zip(&events[..count]) {
            *ready =
                Ready { token: event.u64, until_dry: until_dry(EventFlags::from_bits_retain(event.events)) };
        }
        Ok(count)
    }

    /// The same in two calls: an epoll descriptor can itself be polled, and `ppoll` counts nanoseconds too.
    fn ppoll(&self, timeout: Option<libc::timespec>, ready: &mut [Ready; READY_BATCH]) -> io::Result<usize> {
        let timeout = timeout.map(|t| Timespec { tv_sec: t.tv_sec, tv_nsec: t.tv_nsec });
        if poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], timeout.as_ref())? == 0 {
            return Ok(0);
        }
        let nothing = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [nothing; READY_BATCH];
        let count = epoll::wait(&self.epoll, &mut events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        for (ready, event) in ready.iter_mut().zip(&events[..count]) {
            let flags = event.flags;
            *ready = Ready { token: event.data.u64(), until_dry: until_dry(flags) };
        }
        Ok(count)
    }
}

fn until_dry(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::PRI | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
}

/// What a waker rings.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    pub(super) fn ring(&self) {
        // It fails only at 2^64 - 2 unheard rings, and then it is ringing.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(super) fn hush(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_stands_behind_urgent_bytes_is_not_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut near, _) = listener.accept().unwrap();
        let send = |bytes: &[u8], flags| {
            // SAFETY: the bytes are there as long as the call takes.
            let sent = unsafe { libc::send(far.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
            assert_eq!(sent, bytes.len() as isize);
        };
        send(b"before", 0);
        send(b"!", libc::MSG_OOB);
        send(b"behind", 0);
        let mut poller = Poller::new().unwrap();
        poller.add(near.as_fd(), 1, Trigger::Edge).unwrap();
        let mut ready = [Ready { token: 0, until_dry: false }; READY_BATCH];
        assert_eq!(poller.wait(None, &mut ready).unwrap(), 1);
        assert!(ready[0].until_dry);
        let mut room = [0; 100];
        assert_eq!(near.read(&mut room).unwrap(), 6, "a read stops there");
        assert_eq!(near.read(&mut room).unwrap(), 6, "and the next goes on");
    }

    #[test]
    fn without_pwait2_the_same_comes_out() {
        let mut poller = Poller { has_pwait2: false, ..Poller::new().unwrap() };
        let bell = Bell::new().unwrap();
        let mut ready = [Ready { token: 0, until_dry: false }; READY_BATCH];
        poller.add(bell.as_fd(), 5, Trigger::Level).unwrap();
        assert_eq!(poller.wait(Some(Duration::from_micros(10)), &mut ready).unwrap(), 0);
        bell.ring();
        assert_eq!((poller.wait(None, &mut ready).unwrap(), ready[0].token), (1, 5));
        bell.hush();
        assert_eq!(poller.wait(Some(Duration::ZERO), &mut ready).unwrap(), 0);
    }
}
