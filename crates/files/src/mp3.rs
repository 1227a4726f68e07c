//! Telling MP3 from any other bytes: it has no signature, only frames that follow each other.

/// How many frames in a row are proof.
const PROOF: usize = 3;

/// Whether MPEG audio layer III begins somewhere in `start`, the first bytes of a file.
///
/// One frame header is eleven set bits and some fields, which any program contains by chance; here the next two must
/// stand where the one before says (ISO/IEC 11172-3, section 2.4.1.3; 13818-3 for the lower rates).
pub(crate) fn begins_in(start: &[u8]) -> bool {
    (0..start.len()).any(|at| {
        let Some((first, mut len)) = frame_at(start, at) else { return false };
        let mut next = at + len;
        for _ in 1..PROOF {
            if next == start.len() {
                return true;
            }
            match frame_at(start, next) {
                Some((kind, l)) if kind == first => len = l,
                _ => return false,
            }
            next += len;
        }
        true
    })
}

/// What all frames of a stream share, and the length of this one in bytes.
fn frame_at(bytes: &[u8], at: usize) -> Option<([u8; 2], usize)> {
    let &[sync, version_layer, rates, ..] = bytes.get(at..)?.first_chunk::<4>()?;
    let version = version_layer >> 3 & 3;
    let (is_layer_3, is_mpeg_1) = (version_layer >> 1 & 3 == 1, version == 3);
    if sync != 0xff || version_layer >> 5 != 7 || version == 1 || !is_layer_3 {
        return None;
    }
    let kbps: u32 = match (is_mpeg_1, rates >> 4) {
        (_, 0 | 15) => return None,
        (true, i) => [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320][usize::from(i)],
        (false, i) => [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160][usize::from(i)],
    };
    let hz = *[44_100u32, 48_000, 32_000].get(usize::from(rates >> 2 & 3))?;
    let (hz, samples_in_bytes) = match version {
        3 => (hz, 144),
        2 => (hz / 2, 72),
        _ => (hz / 4, 72),
    };
    let padding = u32::from(rates >> 1 & 1);
    // What must not change from frame to frame: version, layer, sample rate.
    Some(([version_layer & 0xfe, rates & 0x0c], (samples_in_bytes * kbps * 1_000 / hz + padding) as usize))
}
