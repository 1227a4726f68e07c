//! Waiting as every Unix does it: `poll` and a pair of sockets. It looks at each source in turn and may round the
//! timeout up to a millisecond.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Ready, Token, Trigger};

#[derive(Debug)]
pub(super) struct Poller {
    /// A duplicate of each source, the number of the original, and its token.
    sources: Vec<(OwnedFd, i32, Token)>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { sources: Vec::new() })
    }

    /// `poll` knows levels only, which show every edge.
    pub(super) fn add(&mut self, source: BorrowedFd<'_>, token: Token, _: Trigger) -> io::Result<()> {
        self.sources.push((source.try_clone_to_owned()?, source.as_raw_fd(), token));
        Ok(())
    }

    pub(super) fn remove(&mut self, source: BorrowedFd<'_>) -> io::Result<()> {
        let number = source.as_raw_fd();
        let at = self.sources.iter().position(|s| s.1 == number).ok_or(io::ErrorKind::NotFound)?;
        self.sources.swap_remove(at);
        Ok(())
    }

    /// Fills `ready` and returns how many. An interruption by a signal is an early return.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, ready: &mut [Ready]) -> io::Result<usize> {
        let timeout = timeout
            .map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) as _ });
        let mut fds: Vec<_> = self.sources.iter().map(|s| PollFd::new(&s.0, PollFlags::IN)).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let hits =
            fds.iter().zip(&self.sources).filter(|(fd, _)| !fd.revents().is_empty()).map(|(fd, source)| {
                let until_dry = fd.revents().intersects(PollFlags::HUP | PollFlags::ERR);
                Ready { token: source.2, until_dry }
            });
        Ok(ready.iter_mut().zip(hits).map(|(ready, hit)| *ready = hit).count())
    }
}

/// What a waker rings.
#[derive(Debug)]
pub(super) struct Bell {
    rope: UnixStream,
    clapper: UnixStream,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let (rope, clapper) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        Ok(Self { rope, clapper })
    }

    pub(super) fn ring(&self) {
        // It fails only when full of unheard rings, and then it is ringing.
        let _ = (&self.rope).write(&[1]);
    }

    pub(super) fn hush(&self) {
        while (&self.clapper).read(&mut [0; 64]).is_ok_and(|n| n == 64) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clapper.as_fd()
    }
}
