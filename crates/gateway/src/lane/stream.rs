//! A connection of a room that lives in a lane, with TLS or without. Nothing here waits.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{RecvFlags, SendFlags};
use rustls::ClientConnection;

/// See the [module](self).
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Bytes from the network since somebody asked.
    received: usize,
}

/// A connection that broke is an error and no signal. Where sends cannot say so, the standard library has told the socket.
#[cfg(not(target_vendor = "apple"))]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const QUIETLY: SendFlags = SendFlags::empty();

/// Reads of TLS that give nothing, in a row, before somebody else has a turn: what a server may say to TLS itself.
const EMPTY_READS: usize = 8;

/// What became of bytes that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many were taken.
    pub count: usize,
    /// Whether all are with the kernel, so that nothing need be done until there is more.
    pub is_flushed: bool,
}

impl Stream {
    /// A connection that is open, with TLS past its handshake if there is any.
    ///
    /// # Errors
    /// If the system does not let it be used without waiting.
    pub fn new(tcp: TcpStream, tls: Option<ClientConnection>) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        Ok(Self { tcp, tls: tls.map(Box::new), received: 0 })
    }

    /// Reads what is there. 0 is the end. What was decrypted and not read shows by no event of the socket, so read until
    /// there is nothing.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if nothing is there, [`ErrorKind::Interrupted`] if there may be, once others had a turn, or
    /// what the network or TLS says.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            // By the bare call, here and in `write`: the C library's is a point where threads can be cancelled, and that shows.
            let (count, _) = rustix::net::recv(&self.tcp, into, RecvFlags::empty())?;
            self.received += count;
            return Ok(count);
        };
        for _ in 0..EMPTY_READS {
            match tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let count = tls.read_tls(&mut self.tcp)?;
            if count == 0 {
                return Ok(0);
            }
            self.received += count;
            tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            // TLS may have to answer. What is not taken now goes out with what is written next.
            flush(tls, &mut self.tcp)?;
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// How many bytes came from the network since this was asked: what reading cost, whatever there was to read in them.
    pub(super) const fn take_received(&mut self) -> usize {
        std::mem::replace(&mut self.received, 0)
    }

    /// Whether there may be more to read, though the socket has nothing.
    pub(super) const fn may_hide_more(&self) -> bool {
        self.tls.is_some()
    }

    /// Writes as much as is taken at once.
    ///
    /// # Errors
    /// What the network says; never that it would block.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        let Some(tls) = &mut self.tls else {
            let count = or_nothing(rustix::net::send(&self.tcp, bytes, QUIETLY))?;
            return Ok(Written { count, is_flushed: count == bytes.len() });
        };
        // What is encrypted waits here, so no more is until that is gone.
        let is_free = flush(tls, &mut self.tcp)?;
        let count = if is_free { tls.writer().write(bytes)? } else { 0 };
        let is_flushed = flush(tls, &mut self.tcp)? && count == bytes.len();
        Ok(Written { count, is_flushed })
    }

    /// Writes the last there is to say, as far as it is taken at once, and gives the bare connection, to be closed.
    #[must_use]
    pub fn end(mut self, last: &[u8]) -> TcpStream {
        let _ = self.write(last);
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = flush(tls, &mut self.tcp);
        }
        self.tcp
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

/// Whether all of it was taken.
fn flush(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        if or_nothing(tls.write_tls(tcp))? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn or_nothing(result: Result<usize, impl Into<io::Error>>) -> io::Result<usize> {
    match result.map_err(Into::into) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        result => result,
    }
}
