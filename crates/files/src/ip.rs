//! UDP datagrams inside captured frames: finding them, and building them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IP's number for UDP.
const UDP: u8 = 17;
/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER: usize = 40;
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Bytes of the largest header this module builds.
pub(crate) const MAX_HEADER: usize = IPV6_HEADER + UDP_HEADER;
/// The largest UDP payload: what 16-bit lengths leave behind the headers of IPv4.
pub(crate) const MAX_PAYLOAD: usize = 65_535 - IPV4_HEADER - UDP_HEADER;

/// EtherType numbers.
const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
const ETHER_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// How many VLAN tags, and how many IPv6 extension headers, are looked behind.
const MAX_NESTING: usize = 8;

/// What lies under the IP header of a captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Nothing.
    Raw,
    /// BSD loopback: an address family in the byte order of the capturing machine.
    Null,
    Ethernet,
    /// Linux "cooked", version 1 and 2.
    Sll,
    Sll2,
}

impl Link {
    /// By the numbers of the tcpdump project's registry of link types.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Null),
            1 => Some(Self::Ethernet),
            // 101 by the registry; 12 as BSDs write it; 228 and 229 are IPv4 and IPv6 only.
            12 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::Sll),
            276 => Some(Self::Sll2),
            _ => None,
        }
    }

    /// The IP packet in a frame, if it is one.
    fn strip(self, frame: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Raw => Some(frame),
            Self::Null => frame.get(4..),
            Self::Ethernet => {
                let mut rest = frame.get(12..)?;
                for _ in 0..MAX_NESTING {
                    let kind = be16(rest, 0)?;
                    if matches!(kind, ETHER_IPV4 | ETHER_IPV6) {
                        return rest.get(2..);
                    }
                    if !ETHER_VLAN.contains(&kind) {
                        return None;
                    }
                    rest = rest.get(4..)?;
                }
                None
            }
            Self::Sll => matches!(be16(frame, 14)?, ETHER_IPV4 | ETHER_IPV6).then(|| frame.get(16..))?,
            Self::Sll2 => matches!(be16(frame, 0)?, ETHER_IPV4 | ETHER_IPV6).then(|| frame.get(20..))?,
        }
    }
}

/// A UDP datagram: from, to, payload.
pub(crate) type Udp<'a> = (SocketAddr, SocketAddr, &'a [u8]);

/// The whole, unfragmented UDP datagram in a captured frame, if it is one. Checksums are not looked at: network cards
/// fill them in after the capture.
pub(crate) fn find_udp(link: Link, frame: &[u8]) -> Option<Udp<'_>> {
    let packet = link.strip(frame)?;
    match packet.first()? >> 4 {
        4 => find_in_ipv4(packet),
        6 => find_in_ipv6(packet),
        _ => None,
    }
}

fn find_in_ipv4(packet: &[u8]) -> Option<Udp<'_>> {
    let header = packet.first_chunk::<IPV4_HEADER>()?;
    let header_len = usize::from(header[0] & 15) * 4;
    let total = usize::from(be16(header, 2)?);
    // The don't-fragment bit aside, anything in this field means a fragment.
    let is_fragment = be16(header, 6)? & 0xbfff != 0;
    if header_len < IPV4_HEADER || header[9] != UDP || is_fragment {
        return None;
    }
    let [a, b, c, d] = *header[12..].first_chunk()?;
    let [e, f, g, h] = *header[16..].first_chunk()?;
    udp_ports(
        packet.get(header_len..total)?,
        Ipv4Addr::new(a, b, c, d).into(),
        Ipv4Addr::new(e, f, g, h).into(),
    )
}

fn find_in_ipv6(packet: &[u8]) -> Option<Udp<'_>> {
    let header = packet.first_chunk::<IPV6_HEADER>()?;
    let mut next = header[6];
    let mut rest = packet.get(IPV6_HEADER..IPV6_HEADER + usize::from(be16(header, 4)?))?;
    for _ in 0..MAX_NESTING {
        match next {
            UDP => {
                let from = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
                let to = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
                return udp_ports(rest, from.into(), to.into());
            }
            // Hop-by-hop, routing and destination options: next header, then length in units of 8 bytes less one.
            0 | 43 | 60 => {
                next = *rest.first()?;
                rest = rest.get((usize::from(*rest.get(1)?) + 1) * 8..)?;
            }
            // A fragment header that fragments nothing.
            44 if be16(rest, 2)? & 0xfff9 == 0 => {
                next = *rest.first()?;
                rest = rest.get(8..)?;
            }
            _ => return None,
        }
    }
    None
}

fn udp_ports(segment: &[u8], from: IpAddr, to: IpAddr) -> Option<Udp<'_>> {
    let from = SocketAddr::new(from, be16(segment, 0)?);
    let to = SocketAddr::new(to, be16(segment, 2)?);
    let payload = segment.get(UDP_HEADER..usize::from(be16(segment, 4)?))?;
    Some((from, to, payload))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// Writes the IP and UDP headers of a datagram, checksums and all. Returns their length, `None` if the payload is over
/// [`MAX_PAYLOAD`] or the addresses are not of one family.
pub(crate) fn build_headers(
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    out: &mut [u8; MAX_HEADER],
) -> Option<usize> {
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let udp_len = (UDP_HEADER + payload.len()) as u16;
    let header_len = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let ip = &mut out[..IPV4_HEADER];
            ip.fill(0);
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(IPV4_HEADER as u16 + udp_len).to_be_bytes());
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = UDP;
            ip[12..16].copy_from_slice(&from.ip().octets());
            ip[16..20].copy_from_slice(&to.ip().octets());
            let checksum = fold(sum(0, ip));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            IPV4_HEADER
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let ip = &mut out[..IPV6_HEADER];
            ip.fill(0);
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
            ip[6] = UDP;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&from.ip().octets());
            ip[24..40].copy_from_slice(&to.ip().octets());
            IPV6_HEADER
        }
        _ => return None,
    };
    let addresses = if header_len == IPV4_HEADER { 12..20 } else { 8..40 };
    let pseudo_header = sum(u32::from(UDP) + u32::from(udp_len), &out[addresses]);
    let udp = &mut out[header_len..header_len + UDP_HEADER];
    udp[0..2].copy_from_slice(&from.port().to_be_bytes());
    udp[2..4].copy_from_slice(&to.port().to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    udp[6..8].fill(0);
    let checksum = match fold(sum(sum(pseudo_header, udp), payload)) {
        // Zero would say that there is no checksum (RFC 768).
        0 => 0xffff,
        other => other,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(header_len + UDP_HEADER)
}

/// The Internet checksum's sum (RFC 1071); below 2^32 for anything that fits in a datagram.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let sum = pairs.iter().fold(start, |sum, pair| sum + u32::from(u16::from_be_bytes(*pair)));
    sum + last.first().map_or(0, |&b| u32::from(b) << 8)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
