//! Three packets of 20 ms into one of 60 ms: ours against libopus' repacketizer, interleaved.

use std::hint::black_box;
use std::time::Instant;

use evenkeel_core::codec::Encoder;
use evenkeel_core::framing::{self, Frames};
use evenkeel_opus::bare::BareRepacketizer;
use evenkeel_opus::{EncoderConfig, OpusEncoder};
use evenkeel_testkit::voice;
use serde::Serialize;

/// What one merge costs, in nanoseconds: the fastest of many short series each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MergeCost {
    /// Parse and merge of [`evenkeel_core::framing`].
    pub ours_ns: f64,
    /// `opus_repacketizer_init`, three times `_cat`, `_out_range`.
    pub libopus_ns: f64,
}

/// Merges in a series; long enough for the clock, short enough to run undisturbed.
const SERIES: u32 = 1_000;

/// Measures `rounds` series of each, in turn.
///
/// # Panics
/// If the codec fails, or the two write different bytes.
#[must_use]
pub fn merge_three(rounds: usize) -> MergeCost {
    let packets = three_packets();
    let packets: [&[u8]; 3] = [&packets[0], &packets[1], &packets[2]];
    let mut repacketizer = BareRepacketizer::new().expect("memory");
    let (mut ours, mut theirs) = ([0; 4_000], [0; 4_000]);
    let mut cost = MergeCost { ours_ns: f64::INFINITY, libopus_ns: f64::INFINITY };
    for _ in 0..rounds {
        cost.ours_ns = cost.ours_ns.min(series(|| {
            let frames = black_box(packets).map(|packet| Frames::parse(packet).expect("a packet"));
            framing::merge(&frames, &mut ours).expect("there is room")
        }));
        cost.libopus_ns = cost.libopus_ns.min(series(|| {
            let mut loaded = repacketizer.load(&black_box(packets)).expect("packets");
            loaded.out(0, 3, &mut theirs).expect("there is room")
        }));
    }
    assert_eq!(ours, theirs);
    cost
}

/// Nanoseconds of one call, over a series.
fn series(mut merge: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    for _ in 0..SERIES {
        black_box(merge());
    }
    start.elapsed().as_nanos() as f64 / f64::from(SERIES)
}

fn three_packets() -> Vec<Vec<u8>> {
    let mut encoder = OpusEncoder::new(EncoderConfig::default()).expect("the default is valid");
    let mut packet = [0; 1_276];
    let code = |pcm: &[f32]| {
        let len = encoder.encode(pcm, &mut packet).expect("a frame of 20 ms");
        packet[..len].to_vec()
    };
    let mut packets: Vec<_> = voice::synthetic(0.3).chunks_exact(960).map(code).collect();
    packets.split_off(packets.len() - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_merge_to_the_same_packet() {
        let cost = merge_three(3);
        assert!(cost.ours_ns > 0.0 && cost.libopus_ns > 0.0);
    }
}
