//! UDP in batches: one system call receives or sends up to [`BATCH`] datagrams (`recvmmsg`, `sendmmsg`), from and to
//! many addresses, and nothing is allocated but when a batch is made.

#[cfg(target_os = "linux")]
mod mmsg;
#[cfg(any(test, not(target_os = "linux")))]
mod single;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(target_os = "linux")]
use mmsg as calls;
#[cfg(not(target_os = "linux"))]
use single as calls;

/// The most datagrams one system call receives or sends.
pub const BATCH: usize = 32;

/// The longest datagram received or sent whole, in bytes: more than an Ethernet frame carries. What comes longer is
/// cut to this.
pub const MAX_DATAGRAM: usize = 2048;

/// A UDP socket that never blocks.
#[derive(Debug)]
pub struct Socket {
    inner: UdpSocket,
    is_ipv6: bool,
}

/// How much the kernel holds for a socket, in bytes, its own bookkeeping (a datagram of 100 bytes counts for about 768)
/// included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// Datagrams that arrived and were not yet received.
    pub receive: usize,
    /// Datagrams that were sent and did not yet leave.
    pub send: usize,
}

impl Socket {
    /// Binds to `address` and asks for buffers of the size `wanted`. An unspecified IPv6 address (`[::]`) takes IPv4
    /// too; port 0 takes any free port.
    ///
    /// The kernel may grant less ([`Socket::buffer_sizes`] says; `net.core.rmem_max` and `wmem_max` limit it).
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub fn bind(address: SocketAddr, wanted: BufferSizes) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        // Linux grants what it can instead of failing; where others fail, the default stays.
        let _ = socket.set_recv_buffer_size(wanted.receive);
        let _ = socket.set_send_buffer_size(wanted.send);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(Self { inner: socket.into(), is_ipv6: address.is_ipv6() })
    }

    /// Where it is bound, with the port it got.
    ///
    /// # Errors
    /// None that are known.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Sends one datagram. For a socket bound to one address that sends seldom; a [`Sender`] is cheaper for many.
    ///
    /// # Errors
    /// If the kernel refuses it, or has no room for it now.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.inner.send_to(datagram, to)
    }

    /// The buffers the kernel granted, in the unit in which they were asked for.
    ///
    /// # Errors
    /// None that are known.
    pub fn buffer_sizes(&self) -> io::Result<BufferSizes> {
        let socket = socket2::SockRef::from(&self.inner);
        // Linux doubles what is asked for, for its bookkeeping.
        let unit = if cfg!(target_os = "linux") { 2 } else { 1 };
        Ok(BufferSizes {
            receive: socket.recv_buffer_size()? / unit,
            send: socket.send_buffer_size()? / unit,
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Receives datagrams, up to [`BATCH`] at a time.
pub struct Receiver {
    buffers: Vec<[u8; MAX_DATAGRAM]>,
    places: [(SocketAddr, usize); BATCH],
    count: usize,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// Empty. Allocates 64 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { buffers: vec![[0; MAX_DATAGRAM]; BATCH], places: [(NOWHERE, 0); BATCH], count: 0 }
    }

    /// Takes what has arrived, forgetting what was taken before. Returns how many datagrams: 0 if there are none, and
    /// fewer than [`BATCH`] if there were no more.
    ///
    /// # Errors
    /// Those of the machine, such as lack of memory; the socket stays usable.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.count = 0;
        self.count = loop {
            match calls::receive(&socket.inner, socket.is_ipv6, &mut self.buffers, &mut self.places) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                result => break result?,
            }
        };
        Ok(self.count)
    }

    /// What the last [`Receiver::receive`] took: sources and datagrams, in the order of arrival.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let places = self.places[..self.count].iter();
        places.zip(&mut self.buffers).map(|(&(from, len), buffer)| (from, &mut buffer[..len]))
    }
}

/// Collects up to [`BATCH`] datagrams and sends them.
pub struct Sender {
    buffers: Vec<[u8; MAX_DATAGRAM]>,
    places: [(SocketAddr, usize); BATCH],
    /// Those that wait to be sent.
    waiting: Range<usize>,
}

/// What became of the datagrams of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Given to the kernel.
    pub sent: usize,
    /// Refused by the kernel, one by one, as for an address without a route; they are dropped.
    pub refused: usize,
    /// Why the last of those was.
    pub error: Option<io::ErrorKind>,
    /// Still waiting, because the socket's buffer is full. The next [`Sender::send`] tries them again.
    pub waiting: usize,
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// Empty. Allocates 64 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self { buffers: vec![[0; MAX_DATAGRAM]; BATCH], places: [(NOWHERE, 0); BATCH], waiting: 0..0 }
    }

    /// Whether [`Sender::push`] takes no more before the next [`Sender::send`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.end == BATCH
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds one datagram: `write` puts it into the buffer and returns where it goes and how long it is, or `None` if
    /// there is nothing to send after all. Returns whether one was added; never when full.
    pub fn push(
        &mut self,
        write: impl FnOnce(&mut [u8; MAX_DATAGRAM]) -> Option<(SocketAddr, usize)>,
    ) -> bool {
        let at = self.waiting.end;
        let Some(buffer) = self.buffers.get_mut(at) else { return false };
        let Some((to, len)) = write(buffer) else { return false };
        self.places[at] = (to, len.min(MAX_DATAGRAM));
        self.waiting.end += 1;
        true
    }

    /// Sends what was added, in order. A datagram that the kernel refuses is dropped and does not hold up the others.
    pub fn send(&mut self, socket: &Socket) -> Sent {
        let mut result = Sent::default();
        while !self.waiting.is_empty() {
            match calls::send(
                &socket.inner,
                socket.is_ipv6,
                &self.buffers,
                &self.places,
                self.waiting.clone(),
            ) {
                Ok(count) => {
                    result.sent += count;
                    self.waiting.start += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    result.refused += 1;
                    result.error = Some(error.kind());
                    self.waiting.start += 1;
                }
            }
        }
        if self.waiting.is_empty() {
            self.waiting = 0..0;
        }
        result.waiting = self.waiting.len();
        result
    }
}

/// Fills the places of a batch that hold nothing.
const NOWHERE: SocketAddr = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));

/// An IPv6 socket writes IPv4 addresses as `::ffff:a.b.c.d`.
fn to_socket_family(address: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if is_ipv6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        same => same,
    }
}

/// The other way round, so that a device has one address whatever socket it is seen through.
fn from_socket_family(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => v6.into(),
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
