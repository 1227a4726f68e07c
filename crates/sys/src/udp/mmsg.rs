//! Batches as Linux does them. The headers are built on the stack for each call, about 50 ns, so that no pointer
//! outlives it.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use super::{BATCH, MAX_DATAGRAM, from_socket_family, to_socket_family};

/// An address of either family as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C)]
union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    const ZERO: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    fn from(address: SocketAddr) -> (Self, usize) {
        match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (Self { v4: raw }, size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                (Self { v6: raw }, size_of::<libc::sockaddr_in6>())
            }
        }
    }

    fn to(self, is_ipv6: bool) -> SocketAddr {
        if is_ipv6 {
            // SAFETY: all bit patterns are valid, and all bytes are initialised, by `ZERO` and the kernel.
            let raw = unsafe { self.v6 };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(raw.sin6_port), raw.sin6_flowinfo, raw.sin6_scope_id).into()
        } else {
            // SAFETY: as above; the smaller member lies within the larger.
            let raw = unsafe { self.v4 };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into()
        }
    }
}

pub(super) fn receive(
    socket: &UdpSocket,
    is_ipv6: bool,
    buffers: &mut [[u8; MAX_DATAGRAM]],
    places: &mut [(SocketAddr, usize); BATCH],
) -> io::Result<usize> {
    let mut addresses = [RawAddress::ZERO; BATCH];
    let mut slices = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let mut headers = no_headers();
    let count = buffers.len().min(BATCH);
    for (i, buffer) in buffers.iter_mut().enumerate().take(count) {
        slices[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: MAX_DATAGRAM };
    }
    let (address, slice) = (addresses.as_mut_ptr(), slices.as_mut_ptr());
    for (i, header) in headers.iter_mut().enumerate() {
        let header = &mut header.msg_hdr;
        header.msg_name = address.wrapping_add(i).cast();
        header.msg_namelen = size_of::<RawAddress>() as libc::socklen_t;
        header.msg_iov = slice.wrapping_add(i);
        header.msg_iovlen = 1;
    }
    // SAFETY: each of the `count` headers points to an address, and to a slice that points to a buffer, of the lengths
    // they say, all alive and borrowed by nobody else during the call. No timeout is given.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (i, place) in places.iter_mut().enumerate().take(received) {
        *place = (from_socket_family(addresses[i].to(is_ipv6)), headers[i].msg_len as usize);
    }
    Ok(received)
}

pub(super) fn send(
    socket: &UdpSocket,
    is_ipv6: bool,
    buffers: &[[u8; MAX_DATAGRAM]],
    places: &[(SocketAddr, usize); BATCH],
    which: Range<usize>,
) -> io::Result<usize> {
    let mut addresses = [RawAddress::ZERO; BATCH];
    let mut slices = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let mut headers = no_headers();
    let count = which.len().min(BATCH);
    for (i, (buffer, &(to, len))) in buffers[which.clone()].iter().zip(&places[which]).enumerate() {
        let (address, address_len) = RawAddress::from(to_socket_family(to, is_ipv6));
        addresses[i] = address;
        slices[i] = libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: len };
        headers[i].msg_hdr.msg_namelen = address_len as libc::socklen_t;
    }
    let (address, slice) = (addresses.as_mut_ptr(), slices.as_mut_ptr());
    for (i, header) in headers[..count].iter_mut().enumerate() {
        let header = &mut header.msg_hdr;
        header.msg_name = address.wrapping_add(i).cast();
        header.msg_iov = slice.wrapping_add(i);
        header.msg_iovlen = 1;
    }
    // SAFETY: each of the `count` headers points to an address, and to a slice that points to a buffer, of the lengths
    // they say, all alive during the call. Sending only reads the buffers, so that they are borrowed shared is enough.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn no_headers() -> [libc::mmsghdr; BATCH] {
    // SAFETY: a header is integers and pointers, for which zero is a valid value.
    unsafe { mem::zeroed() }
}
