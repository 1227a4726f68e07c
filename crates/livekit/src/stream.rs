//! Packets on a TCP connection (RFC 4571): two bytes of length, big-endian, then the packet. ICE-TCP (RFC 6544) uses it.

/// The most a packet can have, in bytes. More than any path gives us, less than the 65535 the length could say.
pub const PACKET_LIMIT: usize = 2000;

/// A packet announced more bytes than any packet has: the connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {announced} bytes is announced on the TCP connection; {PACKET_LIMIT} are the most")]
pub struct Overlong {
    /// What the length field said, in bytes.
    pub announced: usize,
}

/// Puts a packet into the form it has on the connection. `packet` has at most [`PACKET_LIMIT`] bytes.
pub fn frame(packet: &[u8], out: &mut Vec<u8>) {
    debug_assert!(packet.len() <= PACKET_LIMIT);
    out.extend_from_slice(&(packet.len() as u16).to_be_bytes());
    out.extend_from_slice(packet);
}

/// Takes packets out of what a TCP connection brings. Holds one packet at most.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
}

impl Deframer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `bytes` and calls `packet` for each packet that is now whole, in order.
    ///
    /// # Errors
    /// [`Overlong`] when a length is beyond [`PACKET_LIMIT`]; close the connection then.
    pub fn handle(&mut self, mut bytes: &[u8], mut packet: impl FnMut(&[u8])) -> Result<(), Overlong> {
        while !bytes.is_empty() {
            let wanted = match self.announced() {
                Some(n) if n > PACKET_LIMIT => return Err(Overlong { announced: n }),
                Some(n) => 2 + n,
                None => 2,
            };
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.announced().is_some_and(|n| self.buffer.len() == 2 + n) {
                packet(&self.buffer[2..]);
                self.buffer.clear();
            }
        }
        match self.announced() {
            Some(n) if n > PACKET_LIMIT => Err(Overlong { announced: n }),
            _ => Ok(()),
        }
    }

    fn announced(&self) -> Option<usize> {
        let length = self.buffer.first_chunk::<2>()?;
        Some(usize::from(u16::from_be_bytes(*length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in_however_the_bytes_are_cut(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1usize..97,
        ) {
            let mut wire = Vec::new();
            for p in &packets {
                frame(p, &mut wire);
            }
            let mut deframer = Deframer::new();
            let mut got: Vec<Vec<u8>> = Vec::new();
            for piece in wire.chunks(cut) {
                deframer.handle(piece, |p| got.push(p.to_vec())).unwrap();
            }
            prop_assert_eq!(got, packets);
        }
    }

    #[test]
    fn an_overlong_packet_is_refused_before_it_is_stored() {
        let mut deframer = Deframer::new();
        assert_eq!(deframer.handle(&[0xff, 0xff], |_| ()), Err(Overlong { announced: 65535 }));
        assert_eq!(deframer.handle(&[1; 5000], |_| ()), Err(Overlong { announced: 65535 }));
        assert_eq!(deframer.buffer.len(), 2);
    }
}
