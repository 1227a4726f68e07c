//! The outside of an Opus packet: what can be known and rearranged without decoding (RFC 6716, section 3).
//!
//! [`Frames::parse`] checks a packet against every rule of section 3.4 and finds its frames; [`merge`] and [`split`]
//! pack the same frames anew, which is how 20 ms packets of a room become 60 ms packets of a device.

use core::ops::Range;

use crate::error::{CodecError, PacketError};

/// The most frames one packet holds: 48 of 2.5 ms are 120 ms.
pub const MAX_FRAMES: usize = 48;

/// The largest frame, in bytes (RFC 6716, section 3.4, rule 2).
pub const MAX_FRAME_BYTES: usize = 1275;

/// The longest packet, in microseconds.
pub const MAX_DURATION_US: u32 = 120_000;

/// Which of the two codecs in Opus coded a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Linear prediction, for speech up to wideband.
    Silk,
    /// SILK below 8 kHz, CELT above.
    Hybrid,
    /// MDCT, for music and low delay.
    Celt,
}

/// How much of the spectrum is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bandwidth {
    /// Up to 4 kHz.
    Narrow,
    /// Up to 6 kHz.
    Medium,
    /// Up to 8 kHz.
    Wide,
    /// Up to 12 kHz.
    SuperWide,
    /// Up to 20 kHz.
    Full,
}

/// The first byte of a packet: configuration, stereo flag and frame-count code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toc(pub u8);

impl Toc {
    /// The configuration, 0 to 31.
    #[must_use]
    pub const fn config(self) -> u8 {
        self.0 >> 3
    }

    /// Whether the packet codes two channels.
    #[must_use]
    pub const fn is_stereo(self) -> bool {
        self.0 & 0b100 != 0
    }

    /// Which codec.
    #[must_use]
    pub const fn mode(self) -> Mode {
        match self.config() {
            0..=11 => Mode::Silk,
            12..=15 => Mode::Hybrid,
            _ => Mode::Celt,
        }
    }

    /// How much of the spectrum.
    #[must_use]
    pub const fn bandwidth(self) -> Bandwidth {
        match self.config() {
            0..=3 | 16..=19 => Bandwidth::Narrow,
            4..=7 => Bandwidth::Medium,
            8..=11 | 20..=23 => Bandwidth::Wide,
            12 | 13 | 24..=27 => Bandwidth::SuperWide,
            _ => Bandwidth::Full,
        }
    }

    /// Duration of each frame, in microseconds.
    #[must_use]
    pub const fn frame_duration_us(self) -> u32 {
        let config = self.config();
        match self.mode() {
            Mode::Silk => [10_000, 20_000, 40_000, 60_000][(config & 3) as usize],
            Mode::Hybrid => [10_000, 20_000][(config & 1) as usize],
            Mode::Celt => [2_500, 5_000, 10_000, 20_000][(config & 3) as usize],
        }
    }

    /// Whether frames of both can stand in one packet: same configuration, same channels.
    #[must_use]
    pub const fn is_compatible(self, other: Self) -> bool {
        self.0 & !0b11 == other.0 & !0b11
    }
}

/// A packet that was checked, and its frames.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    toc: Toc,
    count: u8,
    /// Of the packet, padding included.
    bytes: u16,
    /// The sizes of all frames but the last, as coded; empty if all have the same size.
    sizes: &'a [u8],
    /// The frames, one behind the other.
    body: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Checks a packet against RFC 6716, section 3.4, and finds its frames.
    ///
    /// # Errors
    /// [`PacketError::Opus`] with the rule that is broken, [`PacketError::Oversized`] for more bytes than a packet
    /// of 120 ms can have.
    pub fn parse(packet: &'a [u8]) -> Result<Self, PacketError> {
        let (&first, rest) = packet.split_first().ok_or(bad("it is empty"))?;
        if packet.len() > usize::from(u16::MAX) {
            return Err(PacketError::Oversized { limit: usize::from(u16::MAX), actual: packet.len() });
        }
        match first & 0b11 {
            0 => Self::equal(packet, 1, rest),
            1 if rest.len() % 2 != 0 => Err(bad("two frames of equal size need an even number of bytes")),
            1 => Self::equal(packet, 2, rest),
            2 => Self::sized(packet, 2, rest),
            _ => Self::parse_code_3(packet, rest),
        }
    }

    fn parse_code_3(packet: &[u8], rest: &'a [u8]) -> Result<Self, PacketError> {
        let (&head, mut rest) = rest.split_first().ok_or(bad("the frame count is missing"))?;
        let count = head & 0x3f;
        if count == 0 {
            return Err(bad("it says it has no frames"));
        }
        if u32::from(count) * Toc(packet[0]).frame_duration_us() > MAX_DURATION_US {
            return Err(bad("it lasts longer than 120 ms"));
        }
        if head & 0x40 != 0 {
            let padding = take_padding(&mut rest)?;
            let kept = rest.len().checked_sub(padding).ok_or(bad("the padding is longer than the packet"))?;
            rest = &rest[..kept];
        }
        if head & 0x80 != 0 {
            Self::sized(packet, count, rest)
        } else if rest.len().is_multiple_of(usize::from(count)) {
            Self::equal(packet, count, rest)
        } else {
            Err(bad("frames of equal size do not divide the packet"))
        }
    }

    fn equal(packet: &[u8], count: u8, body: &'a [u8]) -> Result<Self, PacketError> {
        if body.len() / usize::from(count) > MAX_FRAME_BYTES {
            return Err(bad("a frame is longer than 1275 bytes"));
        }
        Ok(Self { toc: Toc(packet[0]), count, bytes: packet.len() as u16, sizes: &[], body })
    }

    fn sized(packet: &[u8], count: u8, rest: &'a [u8]) -> Result<Self, PacketError> {
        let mut body = rest;
        let mut sum = 0;
        for _ in 1..count {
            sum += take_size(&mut body)?;
        }
        let last = body.len().checked_sub(sum).ok_or(bad("the frames are longer than the packet"))?;
        if last > MAX_FRAME_BYTES {
            return Err(bad("a frame is longer than 1275 bytes"));
        }
        let sizes = &rest[..rest.len() - body.len()];
        Ok(Self { toc: Toc(packet[0]), count, bytes: packet.len() as u16, sizes, body })
    }

    /// The first byte.
    #[must_use]
    pub const fn toc(&self) -> Toc {
        self.toc
    }

    /// How many frames, 1 to 48.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// Duration of the whole packet, in microseconds; 120 ms at most.
    #[must_use]
    pub const fn duration_us(&self) -> u32 {
        self.count as u32 * self.toc().frame_duration_us()
    }

    /// Bytes of the whole packet.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// The bytes of each frame; may be none (a DTX frame).
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let Self { count, mut sizes, mut body, .. } = *self;
        let equal = body.len() / usize::from(count);
        let is_equal = sizes.is_empty();
        (0..count).map(move |_| {
            let size = match take_size(&mut sizes) {
                Ok(size) => size,
                Err(_) if is_equal => equal,
                Err(_) => body.len(),
            };
            let (frame, rest) = body.split_at(size);
            body = rest;
            frame
        })
    }

    /// The bytes of frame `index`; may be none (a DTX frame).
    ///
    /// # Panics
    /// If there is no such frame.
    #[must_use]
    pub fn frame(&self, index: usize) -> &'a [u8] {
        self.iter().nth(index).expect("index is below count")
    }

    /// Whether nothing but DTX is in it: every frame is at most a byte long.
    #[must_use]
    pub fn is_dtx(&self) -> bool {
        self.iter().all(|frame| frame.len() <= 1)
    }

    /// Whether the encoder's voice activity detection marked any of it (RFC 6716, section 4.2.3). CELT carries no such
    /// mark: there everything but DTX counts as voice.
    #[must_use]
    pub fn has_voice(&self) -> bool {
        let toc = self.toc();
        self.iter().any(|frame| match frame {
            [] => false,
            frame if toc.mode() == Mode::Celt => frame.len() > 1,
            [head, ..] => {
                // A VAD flag per 20 ms, then the LBRR flag; then the same for the side channel.
                let silk_frames = (toc.frame_duration_us() / 20_000).max(1);
                let flags = !(0xff >> silk_frames);
                let side = if toc.is_stereo() { flags >> (silk_frames + 1) } else { 0 };
                head & (flags | side) != 0
            }
        })
    }

    /// Whether the packet carries in-band redundancy (LBRR) for the packet before it (RFC 6716, section 4.2.4).
    #[must_use]
    pub fn has_lbrr(&self) -> bool {
        let toc = self.toc();
        let Some(&head) = self.frame(0).first() else { return false };
        if toc.mode() == Mode::Celt {
            return false;
        }
        // The header bits of the first SILK frame: a VAD flag per 20 ms, then one LBRR flag; then the same for side.
        let silk_frames = (toc.frame_duration_us() / 20_000).max(1);
        let mid = head >> (7 - silk_frames) & 1 != 0;
        let side = toc.is_stereo() && head >> (6 - 2 * silk_frames) & 1 != 0;
        mid || side
    }
}

const fn bad(reason: &'static str) -> PacketError {
    PacketError::Opus { reason }
}

/// A frame size in one or two bytes (RFC 6716, section 3.2.1).
fn take_size(rest: &mut &[u8]) -> Result<usize, PacketError> {
    let truncated = bad("a frame size is missing");
    let (&first, after) = rest.split_first().ok_or(truncated)?;
    if first < 252 {
        *rest = after;
        return Ok(usize::from(first));
    }
    let (&second, after) = after.split_first().ok_or(truncated)?;
    *rest = after;
    Ok(usize::from(second) * 4 + usize::from(first))
}

/// The padding length of a code 3 packet: 255 means 254 and another byte follows.
fn take_padding(rest: &mut &[u8]) -> Result<usize, PacketError> {
    let mut sum = 0;
    loop {
        let (&byte, after) = rest.split_first().ok_or(bad("the padding length is missing"))?;
        *rest = after;
        if byte < 255 {
            return Ok(sum + usize::from(byte));
        }
        sum += 254;
    }
}

/// Gathers the frames of several packets to pack them into one, without decoding.
pub struct Merge<'a> {
    toc: Option<Toc>,
    frames: [&'a [u8]; MAX_FRAMES],
    count: usize,
}

impl Default for Merge<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Merge<'a> {
    /// Nothing gathered yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { toc: None, frames: [&[]; MAX_FRAMES], count: 0 }
    }

    /// Adds the frames of one packet behind those gathered.
    ///
    /// # Errors
    /// [`PacketError::Opus`] if it differs in configuration from those before or all together would last longer
    /// than 120 ms; nothing is added then.
    pub fn add(&mut self, packet: &Frames<'a>) -> Result<(), PacketError> {
        let toc = *self.toc.get_or_insert(packet.toc());
        if !packet.toc().is_compatible(toc) {
            return Err(bad("the packets differ in configuration"));
        }
        let count = self.count + packet.count();
        if count as u32 * toc.frame_duration_us() > MAX_DURATION_US {
            return Err(bad("together they last longer than 120 ms"));
        }
        for (slot, frame) in self.frames[self.count..].iter_mut().zip(packet.iter()) {
            *slot = frame;
        }
        self.count = count;
        Ok(())
    }

    /// Writes the frames gathered as one packet. Returns bytes written.
    ///
    /// # Errors
    /// [`PacketError::Opus`] if nothing was gathered, [`CodecError::BufferTooSmall`] if `out` cannot hold the result.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, CodecError> {
        let toc = self.toc.ok_or(bad("there is nothing to merge"))?;
        emit(toc, &self.frames[..self.count], out)
    }
}

/// Packs the frames of several packets into one, without decoding. Returns bytes written.
///
/// Padding, and extensions that hide in it, are left out. `out` is written only on success.
///
/// # Errors
/// As [`Merge::add`] and [`Merge::emit`].
pub fn merge(packets: &[Frames<'_>], out: &mut [u8]) -> Result<usize, CodecError> {
    let mut merge = Merge::new();
    for packet in packets {
        merge.add(packet)?;
    }
    merge.emit(out)
}

/// Packs some of the frames of a packet into a packet of their own. Returns bytes written.
///
/// Padding, and extensions that hide in it, are left out. `out` is written only on success.
///
/// # Errors
/// [`PacketError::Opus`] if `range` is empty or beyond the packet, [`CodecError::BufferTooSmall`] if `out` cannot
/// hold the result.
pub fn split(packet: &Frames<'_>, range: Range<usize>, out: &mut [u8]) -> Result<usize, CodecError> {
    if range.is_empty() || range.end > packet.count() {
        return Err(bad("there are no such frames").into());
    }
    let mut frames: [&[u8]; MAX_FRAMES] = [&[]; MAX_FRAMES];
    let count = range.len();
    for (slot, frame) in frames.iter_mut().zip(packet.iter().skip(range.start).take(count)) {
        *slot = frame;
    }
    emit(packet.toc(), &frames[..count], out)
}

/// Writes frames as one packet in the shortest form: code 0, 1, 2, or 3 with or without sizes.
fn emit(toc: Toc, frames: &[&[u8]], out: &mut [u8]) -> Result<usize, CodecError> {
    let is_cbr = frames.iter().all(|f| f.len() == frames[0].len());
    let code: u8 = match (frames.len(), is_cbr) {
        (1, _) => 0,
        (2, true) => 1,
        (2, false) => 2,
        _ => 3,
    };
    let sizes = if is_cbr { &[] } else { &frames[..frames.len() - 1] };
    let needed = 1
        + usize::from(code == 3)
        + sizes.iter().map(|f| if f.len() < 252 { 1 } else { 2 }).sum::<usize>()
        + frames.iter().map(|f| f.len()).sum::<usize>();
    if out.len() < needed {
        return Err(CodecError::BufferTooSmall { needed, actual: out.len() });
    }
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[toc.0 & !0b11 | code]);
    if code == 3 {
        put(&[frames.len() as u8 | if is_cbr { 0 } else { 0x80 }]);
    }
    for size in sizes.iter().map(|f| f.len()) {
        if size < 252 {
            put(&[size as u8]);
        } else {
            let low = 252 + (size & 3);
            put(&[low as u8, ((size - low) / 4) as u8]);
        }
    }
    frames.iter().for_each(|frame| put(frame));
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        frames.iter().map(|f| [&[0x48u8][..], f].concat()).collect()
    }

    #[test]
    fn the_toc_names_mode_bandwidth_and_duration() {
        assert_eq!((Toc(0x58).mode(), Toc(0x58).frame_duration_us()), (Mode::Silk, 60_000));
        assert_eq!((Toc(0x68).mode(), Toc(0x68).bandwidth()), (Mode::Hybrid, Bandwidth::SuperWide));
        assert_eq!((Toc(0xfc).mode(), Toc(0xfc).is_stereo()), (Mode::Celt, true));
        assert_eq!(Toc(0xfc).frame_duration_us(), 20_000);
    }

    #[test]
    fn each_broken_rule_is_named() {
        for (packet, reason) in [
            (&[][..], "it is empty"),
            (&[0x01, 1], "two frames of equal size need an even number of bytes"),
            (&[0x02], "a frame size is missing"),
            (&[0x02, 9, 1], "the frames are longer than the packet"),
            (&[0x03], "the frame count is missing"),
            (&[0x03, 0], "it says it has no frames"),
            (&[0x1b, 3], "it lasts longer than 120 ms"),
            (&[0x03, 0x41, 200], "the padding is longer than the packet"),
            (&[0x03, 0x02, 1], "frames of equal size do not divide the packet"),
            (&[0x03, 0x82, 9, 1], "the frames are longer than the packet"),
        ] {
            assert_eq!(Frames::parse(packet).err(), Some(PacketError::Opus { reason }), "{packet:02x?}");
        }
        let long = [0u8; 1277];
        assert!(matches!(Frames::parse(&long), Err(PacketError::Opus { .. })));
    }

    #[test]
    fn the_voice_flags_of_silk_are_found() {
        let has_voice = |packet: &[u8]| Frames::parse(packet).unwrap().has_voice();
        assert!(has_voice(&[0x48, 0x80, 0]) && !has_voice(&[0x48, 0x7f, 0]), "20 ms");
        assert!(has_voice(&[0x58, 0x20, 0]) && !has_voice(&[0x58, 0x1f, 0]), "60 ms");
        assert!(has_voice(&[0x4c, 0x20, 0]) && !has_voice(&[0x4c, 0x5f, 0]), "stereo, the side channel");
        assert!(has_voice(&[0x49, 0, 0, 0x80, 0]), "the second of two");
        assert!(has_voice(&[0xf8, 0, 0]) && !has_voice(&[0xf8]), "CELT");
    }

    #[test]
    fn packets_of_another_configuration_do_not_merge() {
        let (a, b) = ([0x48, 1, 2], [0x4c, 1, 2]);
        let frames = [Frames::parse(&a).unwrap(), Frames::parse(&b).unwrap()];
        assert!(merge(&frames, &mut [0; 100]).is_err());
        assert!(merge(&[], &mut [0; 100]).is_err());
        assert_eq!(
            merge(&frames[..1], &mut [0; 2]),
            Err(CodecError::BufferTooSmall { needed: 3, actual: 2 })
        );
    }

    proptest! {
        #[test]
        fn anything_is_parsed_without_panic(packet in proptest::collection::vec(any::<u8>(), 0..1500)) {
            if let Ok(frames) = Frames::parse(&packet) {
                prop_assert!(frames.duration_us() <= MAX_DURATION_US);
                let _ = (frames.has_lbrr(), frames.has_voice(), frames.is_dtx());
                for i in 0..frames.count() {
                    prop_assert!(frames.frame(i).len() <= MAX_FRAME_BYTES);
                }
            }
        }

        #[test]
        fn merged_packets_split_into_what_they_were(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..6),
        ) {
            let singles = packets(&frames);
            let parsed: Vec<_> = singles.iter().map(|p| Frames::parse(p).unwrap()).collect();
            let mut merged = vec![0; 5000];
            let len = merge(&parsed, &mut merged).unwrap();
            let whole = Frames::parse(&merged[..len]).unwrap();
            prop_assert_eq!(whole.count(), frames.len());
            for (i, single) in singles.iter().enumerate() {
                let mut one = vec![0; 1000];
                let len = split(&whole, i..i + 1, &mut one).unwrap();
                prop_assert_eq!(&one[..len], single.as_slice());
            }
        }
    }
}
