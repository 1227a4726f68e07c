//! Opus packets to sealed packets and back without decoding. Packets change their duration by repacketizing: three
//! of 20 ms become one of 60 ms, and one of 60 ms that holds three frames becomes three.

use core::time::Duration;

use crate::error::{CodecError, OpenError, PacketError, RelayError};
use crate::framing::{self, Frames, MAX_FRAMES, Toc};
use crate::packet::{HEADER_LEN, Header};
use crate::seal::{Opener, Sealed, Sealer};
use crate::units::FrameDuration;

/// The longest Opus packet a relay takes or makes, in bytes: what an Ethernet frame carries. Speech has 60 to 400.
pub const MAX_OPUS_PACKET: usize = 1500 - 20 - 8 - HEADER_LEN - 16;

/// Regroups the frames of Opus packets into packets of a wished duration.
///
/// Frames cannot be cut: a frame longer than the wished duration passes as it is. Packets of different
/// configuration cannot be joined: when it changes, what is held leaves early, as a shorter packet.
pub struct Repacker {
    target_us: u32,
    /// The held packets, one after the other, and where each ends.
    held: Vec<u8>,
    ends: [u16; MAX_FRAMES],
    count: usize,
    held_us: u32,
    out: Vec<u8>,
}

impl Repacker {
    /// A repacker to packets of `target`. It allocates here, about 3 KB, and never again.
    #[must_use]
    pub fn new(target: FrameDuration) -> Self {
        Self {
            target_us: target.as_micros(),
            held: Vec::with_capacity(MAX_OPUS_PACKET),
            ends: [0; MAX_FRAMES],
            count: 0,
            held_us: 0,
            out: vec![0; MAX_OPUS_PACKET],
        }
    }

    /// Takes a packet and hands on what is complete: calls `sink` with each packet and its duration, in order.
    ///
    /// # Errors
    /// [`PacketError`] if it is no valid Opus packet or longer than [`MAX_OPUS_PACKET`]; nothing changes then.
    pub fn push(&mut self, packet: &[u8], mut sink: impl FnMut(&[u8], Duration)) -> Result<(), PacketError> {
        if packet.len() > MAX_OPUS_PACKET {
            return Err(PacketError::Oversized { limit: MAX_OPUS_PACKET, actual: packet.len() });
        }
        let frames = Frames::parse(packet)?;
        if !self.joins(&frames) {
            self.flush(&mut sink);
        }
        if frames.duration_us() < self.target_us {
            self.hold(packet, &frames);
            if self.held_us == self.target_us {
                self.flush(&mut sink);
            }
        } else {
            self.pass(packet, &frames, &mut sink);
        }
        Ok(())
    }

    /// Hands on what is held, though shorter than the wished duration: at the end of a talk spurt, say.
    pub fn flush(&mut self, mut sink: impl FnMut(&[u8], Duration)) {
        let duration = Duration::from_micros(self.held_us.into());
        match self.count {
            0 => return,
            1 => sink(&self.held, duration),
            _ => match Self::merge(&self.held, &self.ends[..self.count], &mut self.out) {
                Ok(len) => sink(&self.out[..len], duration),
                // Only more bytes than a packet may have can bring us here: then one by one.
                Err(_) => {
                    for packet in split_at_each(&self.held, &self.ends[..self.count]) {
                        let us = Frames::parse(packet).map_or(0, |f| f.duration_us());
                        sink(packet, Duration::from_micros(us.into()));
                    }
                }
            },
        }
        self.clear();
    }

    /// Drops what is held, as after an abort.
    pub fn clear(&mut self) {
        self.held.clear();
        self.count = 0;
        self.held_us = 0;
    }

    /// The duration of what is held back for more.
    #[must_use]
    pub const fn held(&self) -> Duration {
        Duration::from_micros(self.held_us as u64)
    }

    fn joins(&self, frames: &Frames<'_>) -> bool {
        let Some(&first) = self.held.first() else { return true };
        Toc(first).is_compatible(frames.toc())
            && self.held_us + frames.duration_us() <= self.target_us
            && self.held.len() + frames.bytes() <= self.held.capacity()
    }

    fn hold(&mut self, packet: &[u8], frames: &Frames<'_>) {
        self.held.extend_from_slice(packet);
        self.ends[self.count] = self.held.len() as u16;
        self.count += 1;
        self.held_us += frames.duration_us();
    }

    /// Hands on a packet that needs no other to be long enough, cut where it is too long.
    fn pass(&mut self, packet: &[u8], frames: &Frames<'_>, sink: &mut impl FnMut(&[u8], Duration)) {
        let frame_us = frames.toc().frame_duration_us();
        let group = (self.target_us / frame_us).max(1) as usize;
        if frames.count() <= group {
            return sink(packet, Duration::from_micros(frames.duration_us().into()));
        }
        for start in (0..frames.count()).step_by(group) {
            let range = start..(start + group).min(frames.count());
            let duration = Duration::from_micros(range.len() as u64 * u64::from(frame_us));
            // A part is never longer than the whole, which fits.
            if let Ok(len) = framing::split(frames, range, &mut self.out) {
                sink(&self.out[..len], duration);
            }
        }
    }

    fn merge(held: &[u8], ends: &[u16], out: &mut [u8]) -> Result<usize, CodecError> {
        let mut merge = framing::Merge::new();
        for packet in split_at_each(held, ends) {
            merge.add(&Frames::parse(packet)?)?;
        }
        merge.emit(out)
    }
}

fn split_at_each<'a>(held: &'a [u8], ends: &'a [u16]) -> impl Iterator<Item = &'a [u8]> {
    let starts = core::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, &end)| &held[usize::from(start)..usize::from(end)])
}

/// Opus packets in, sealed packets of one duration out.
pub struct DownRelay {
    repacker: Repacker,
    sealer: Sealer,
    media: Duration,
    datagram: Vec<u8>,
}

impl DownRelay {
    /// A relay that makes packets of `target` and seals them with `sealer`.
    #[must_use]
    pub fn new(target: FrameDuration, sealer: Sealer) -> Self {
        let datagram = vec![0; MAX_OPUS_PACKET + sealer.overhead()];
        Self { repacker: Repacker::new(target), sealer, media: Duration::ZERO, datagram }
    }

    /// Takes an Opus packet; calls `sink` with each sealed packet that is complete.
    ///
    /// # Errors
    /// [`RelayError`]; a packet that is refused changes nothing.
    pub fn push(&mut self, opus: &[u8], mut sink: impl FnMut(Sealed<'_>)) -> Result<(), RelayError> {
        let Self { repacker, sealer, media, datagram } = self;
        let mut result = Ok(());
        repacker.push(opus, |packet, duration| {
            let sealed = seal_one(sealer, media, datagram, packet, duration, &mut sink);
            result = result.and(sealed);
        })?;
        result
    }

    /// Seals what is held, though shorter than the wished duration.
    ///
    /// # Errors
    /// [`RelayError::Seal`].
    pub fn flush(&mut self, mut sink: impl FnMut(Sealed<'_>)) -> Result<(), RelayError> {
        let Self { repacker, sealer, media, datagram } = self;
        let mut result = Ok(());
        repacker.flush(|packet, duration| {
            let sealed = seal_one(sealer, media, datagram, packet, duration, &mut sink);
            result = result.and(sealed);
        });
        result
    }

    /// Lets media time pass in which there is nothing to send (DTX, loss). [`DownRelay::flush`] before it: what is held
    /// belongs to the time before the gap, and would leave with the time after it.
    pub fn skip(&mut self, gap: Duration) {
        self.media += gap;
    }

    /// Media time of the next packet.
    #[must_use]
    pub const fn media(&self) -> Duration {
        self.media
    }

    /// The sealer, to map echoed timestamps back.
    #[must_use]
    pub const fn sealer(&self) -> &Sealer {
        &self.sealer
    }
}

fn seal_one(
    sealer: &mut Sealer,
    media: &mut Duration,
    datagram: &mut [u8],
    packet: &[u8],
    duration: Duration,
    sink: &mut impl FnMut(Sealed<'_>),
) -> Result<(), RelayError> {
    datagram[HEADER_LEN..HEADER_LEN + packet.len()].copy_from_slice(packet);
    let media_time = *media;
    *media += duration;
    let (header, len) = sealer.seal(datagram, packet.len(), media_time.as_millis() as u64)?;
    sink(Sealed { datagram: &datagram[..len], header, media_time, duration });
    Ok(())
}

/// Sealed packets in, Opus packets of one duration out, in the order they arrive.
pub struct UpRelay {
    opener: Opener,
    repacker: Repacker,
}

impl UpRelay {
    /// A relay that opens with `opener`, which must take Opus alone, and makes packets of `target` where their frames
    /// allow.
    #[must_use]
    pub fn new(opener: Opener, target: FrameDuration) -> Self {
        Self { opener, repacker: Repacker::new(target) }
    }

    /// Takes a datagram; calls `sink` with each Opus packet that is complete, and its duration. Returns the header.
    ///
    /// # Errors
    /// As [`Opener::open`], and [`PacketError::Oversized`] for a packet longer than [`MAX_OPUS_PACKET`]; nothing changes
    /// then that [`Opener::open`] does not name.
    pub fn push(
        &mut self,
        datagram: &mut [u8],
        sink: impl FnMut(&[u8], Duration),
    ) -> Result<Header, OpenError> {
        // Before it is opened, which would use its sequence up.
        let header = Header::parse(datagram)?;
        let actual = usize::from(header.payload_len).saturating_sub(self.opener.suite().tag_len());
        if actual > MAX_OPUS_PACKET {
            return Err(PacketError::Oversized { limit: MAX_OPUS_PACKET, actual }.into());
        }
        let opened = self.opener.open(datagram)?;
        self.repacker.push(opened.payload, sink)?;
        Ok(opened.header)
    }

    /// Hands on what is held, though shorter than the wished duration.
    pub fn flush(&mut self, sink: impl FnMut(&[u8], Duration)) {
        self.repacker.flush(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Direction, PayloadKind, SessionKeys, Suite};
    use proptest::prelude::*;

    /// A CELT packet of one frame of 20 ms.
    fn packet(fill: u8, len: usize) -> Vec<u8> {
        [vec![0xf8], vec![fill; len]].concat()
    }

    fn collect(repacker: &mut Repacker, packets: &[Vec<u8>]) -> Vec<(Vec<u8>, u64)> {
        let mut out = Vec::new();
        for packet in packets {
            repacker.push(packet, |p, d| out.push((p.to_vec(), d.as_millis() as u64))).unwrap();
        }
        out
    }

    #[test]
    fn three_of_20_ms_become_one_of_60_and_come_apart_again() {
        let packets: Vec<_> = (0..6).map(|i| packet(i, 50 + usize::from(i))).collect();
        let merged = collect(&mut Repacker::new(FrameDuration::MS_60), &packets);
        assert_eq!(merged.iter().map(|m| m.1).collect::<Vec<_>>(), [60, 60]);
        let merged: Vec<_> = merged.into_iter().map(|m| m.0).collect();
        let split = collect(&mut Repacker::new(FrameDuration::MS_20), &merged);
        assert_eq!(split.into_iter().map(|s| s.0).collect::<Vec<_>>(), packets);
    }

    #[test]
    fn a_change_of_configuration_flushes_early() {
        let mut repacker = Repacker::new(FrameDuration::MS_60);
        let other = vec![0x08, 1, 2];
        let out = collect(&mut repacker, &[packet(1, 9), other.clone(), other.clone(), other]);
        assert_eq!(out.iter().map(|o| o.1).collect::<Vec<_>>(), [20, 60]);
        assert_eq!(repacker.held(), Duration::ZERO);
    }

    #[test]
    fn one_frame_of_60_ms_passes_untouched() {
        let silk60 = vec![0x58, 1, 2, 3];
        assert_eq!(
            collect(&mut Repacker::new(FrameDuration::MS_20), core::slice::from_ref(&silk60)),
            [(silk60, 60)]
        );
    }

    #[test]
    fn packets_too_big_to_join_leave_apart() {
        let packets: Vec<_> = (0..3).map(|i| packet(i, 900)).collect();
        let out = collect(&mut Repacker::new(FrameDuration::MS_60), &packets);
        assert_eq!(out.iter().map(|o| o.1).collect::<Vec<_>>(), [20, 20]);
        let mut repacker = Repacker::new(FrameDuration::MS_60);
        assert!(repacker.push(&packet(0, 1470), |_, _| ()).is_err());
        assert!(repacker.push(&[], |_, _| ()).is_err());
    }

    #[test]
    fn a_relay_there_and_back_gives_the_same_packets() {
        for suite in Suite::ALL {
            let keys = SessionKeys::new(suite, &vec![7; suite.key_len()], 3, b"id").unwrap();
            let mut down = DownRelay::new(FrameDuration::MS_60, Sealer::new(&keys, Direction::Downlink, 5));
            let opener = Opener::new(&keys, Direction::Downlink, PayloadKind::Opus);
            let mut up = UpRelay::new(opener, FrameDuration::MS_20);
            let packets: Vec<_> = (0..30).map(|i| packet(i, 30 + usize::from(i))).collect();
            let (mut back, mut dues) = (Vec::new(), Vec::new());
            for packet in &packets {
                down.push(packet, |sealed| {
                    dues.push(sealed.media_time.as_millis());
                    assert_eq!(down_timestamp(&sealed), 5 + sealed.media_time.as_millis() as u32);
                    up.push(&mut sealed.datagram.to_vec(), |p, _| back.push(p.to_vec())).unwrap();
                })
                .unwrap();
            }
            assert_eq!(back, packets);
            assert_eq!(dues, (0..10).map(|i| i * 60).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_packet_that_is_too_long_does_not_use_up_its_sequence() {
        let keys = SessionKeys::new(Suite::Aes128Gcm, &[7; 16], 3, b"id").unwrap();
        let opener = Opener::new(&keys, Direction::Downlink, PayloadKind::Opus);
        let mut up = UpRelay::new(opener, FrameDuration::MS_20);
        let seal = |payload: Vec<u8>| {
            let mut datagram = [vec![0; HEADER_LEN], payload.clone(), vec![0; 16]].concat();
            Sealer::new(&keys, Direction::Downlink, 5).seal(&mut datagram, payload.len(), 0).unwrap();
            datagram
        };
        // Two frames of 800 bytes.
        let mut long = seal([vec![0xf9], vec![1; 1600]].concat());
        let refused = up.push(&mut long, |_, _| ());
        assert_eq!(refused, Err(PacketError::Oversized { limit: MAX_OPUS_PACKET, actual: 1601 }.into()));
        assert!(up.push(&mut seal(packet(1, 50)), |_, _| ()).is_ok());
    }

    fn down_timestamp(sealed: &Sealed<'_>) -> u32 {
        sealed.header.timestamp
    }

    proptest! {
        #[test]
        fn no_frame_is_lost_or_reordered(
            sizes in proptest::collection::vec((0usize..500, 0u8..3), 1..60),
            target in 0usize..9,
        ) {
            let mut repacker = Repacker::new(FrameDuration::ALL[target]);
            let tocs = [0xf8, 0xf0, 0x48];
            let (mut given, mut got) = (Vec::new(), Vec::new());
            let mut take = |packet: &[u8]| {
                let frames = Frames::parse(packet).unwrap();
                got.extend((0..frames.count()).map(|i| frames.frame(i).to_vec()));
            };
            for (i, (len, toc)) in sizes.into_iter().enumerate() {
                let body = vec![i as u8; len];
                let packet = [&[tocs[usize::from(toc)]][..], &body].concat();
                given.push(body);
                repacker.push(&packet, |p, _| take(p)).unwrap();
            }
            repacker.flush(|p, _| take(p));
            prop_assert_eq!(given, got);
        }
    }
}
