//! Batches as every Unix can do them: a system call a datagram.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;

use super::{BATCH, MAX_DATAGRAM, from_socket_family, to_socket_family};

pub(super) fn receive(
    socket: &UdpSocket,
    _is_ipv6: bool,
    buffers: &mut [[u8; MAX_DATAGRAM]],
    places: &mut [(SocketAddr, usize); BATCH],
) -> io::Result<usize> {
    let mut count = 0;
    for (buffer, place) in buffers.iter_mut().zip(places) {
        match socket.recv_from(buffer) {
            Ok((len, from)) => *place = (from_socket_family(from), len),
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
        count += 1;
    }
    Ok(count)
}

pub(super) fn send(
    socket: &UdpSocket,
    is_ipv6: bool,
    buffers: &[[u8; MAX_DATAGRAM]],
    places: &[(SocketAddr, usize); BATCH],
    which: Range<usize>,
) -> io::Result<usize> {
    let mut count = 0;
    for (buffer, &(to, len)) in buffers[which.clone()].iter().zip(&places[which]) {
        match socket.send_to(&buffer[..len], to_socket_family(to, is_ipv6)) {
            Ok(_) => count += 1,
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
