//! Our parser and repacketizer against libopus' own: on packets that libopus made, on those with bytes changed, on
//! packets put together by the rules, and on noise. What "agree" means is in the fuzz body, which is run here too.
#![allow(clippy::unwrap_used)]

use evenkeel_core::codec::{Decoder, Encoder};
use evenkeel_core::framing::{self, Bandwidth, Frames};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::bare::{self, BareRepacketizer};
use evenkeel_opus::{Application, EncoderConfig, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder, RateControl};
use evenkeel_testkit::{fuzz, voice};
use proptest::prelude::*;
use std::sync::LazyLock;

/// Streams of packets at settings that between them use every mode, bandwidth, channel count and frame count code.
static STREAMS: LazyLock<Vec<Vec<Vec<u8>>>> = LazyLock::new(|| {
    use Application::{Audio, LowDelay, Voip};
    let voice = voice::synthetic(1.0);
    let stereo: Vec<f32> = voice.iter().flat_map(|&s| [s, -0.5 * s]).collect();
    let mut streams = Vec::new();
    for duration in FrameDuration::ALL {
        for application in [Voip, Audio, LowDelay] {
            for (channels, bitrate, max_bandwidth, rate_control) in [
                (Channels::Mono, 10_000, Bandwidth::Medium, RateControl::Vbr),
                (Channels::Mono, 24_000, Bandwidth::Full, RateControl::Cbr),
                (Channels::Mono, 32_000, Bandwidth::SuperWide, RateControl::Vbr),
                (Channels::Stereo, 36_000, Bandwidth::Wide, RateControl::ConstrainedVbr),
                (Channels::Stereo, 300_000, Bandwidth::Full, RateControl::Vbr),
            ] {
                let mut encoder = OpusEncoder::new(EncoderConfig {
                    application,
                    channels,
                    bitrate,
                    max_bandwidth,
                    rate_control,
                    inband_fec: true,
                    expected_loss: 20,
                    dtx: true,
                    complexity: 1,
                    ..EncoderConfig::default()
                })
                .unwrap();
                let pcm = if channels == Channels::Mono { &voice } else { &stereo };
                let mut packet = vec![0; MAX_PACKET_BYTES];
                let frame = duration.samples_at(SampleRate::HZ_48000) * channels.count();
                let code = |pcm: &[f32]| {
                    let len = encoder.encode(pcm, &mut packet).unwrap();
                    packet[..len].to_vec()
                };
                streams.push(pcm.chunks_exact(frame).map(code).collect());
            }
        }
    }
    streams
});

fn agrees(packet: &[u8]) {
    fuzz::run("opus_inspect", packet);
}

#[test]
fn on_what_libopus_encodes() {
    let packets: Vec<_> = STREAMS.iter().flatten().collect();
    let count =
        |is: fn(&Frames<'_>) -> bool| packets.iter().filter(|p| is(&Frames::parse(p).unwrap())).count();
    assert!(count(|f| f.has_lbrr()) > 100 && count(|f| f.toc().is_stereo()) > 100);
    for code in 0..4 {
        assert!(packets.iter().any(|p| p[0] & 0b11 == code), "no packet of code {code}");
    }
    packets.iter().for_each(|packet| agrees(packet));
}

/// Merging is not only the same bytes: the merged packet decodes to the same samples, and splits into what it was.
#[test]
fn on_consecutive_packets_merged_and_split_again() {
    let mut merges = 0;
    for stream in STREAMS.iter() {
        let new = || OpusDecoder::new(SampleRate::HZ_24000, Channels::Stereo).unwrap();
        let (mut one_by_one, mut at_once) = (new(), new());
        let mut repacketizer = BareRepacketizer::new().unwrap();
        for packets in stream.chunks_exact(3) {
            let frames: Vec<_> = packets.iter().map(|p| Frames::parse(p).unwrap()).collect();
            let (mut ours, mut theirs) = (vec![0; 30_000], vec![0; 30_000]);
            let slices: Vec<_> = packets.iter().map(Vec::as_slice).collect();
            let merged = framing::merge(&frames, &mut ours);
            let Ok(mut loaded) = repacketizer.load(&slices) else {
                assert!(merged.is_err());
                packets.iter().for_each(|p| {
                    one_by_one.decode(p, &mut [0.0; 5_760]).unwrap();
                    at_once.decode(p, &mut [0.0; 5_760]).unwrap();
                });
                continue;
            };
            merges += 1;
            let count = loaded.count();
            assert_eq!(merged, loaded.out(0, count, &mut theirs));
            assert_eq!(ours, theirs);

            let merged = &ours[..merged.unwrap()];
            let (mut a, mut b) = (vec![0.0; 5_760], vec![0.0; 5_760]);
            let mut at = 0;
            for packet in packets {
                at += 2 * one_by_one.decode(packet, &mut a[at..]).unwrap();
            }
            assert_eq!(at_once.decode(merged, &mut b), Ok(at / 2));
            assert!(a == b);

            let whole = Frames::parse(merged).unwrap();
            let mut begin = 0;
            for (packet, frames) in packets.iter().zip(&frames) {
                let end = begin + frames.count();
                let mut part = vec![0; 10_000];
                let len = framing::split(&whole, begin..end, &mut part).unwrap();
                let mut plain = packet.clone();
                let plain_len = bare::unpad(&mut plain).unwrap();
                assert_eq!(part[..len], plain[..plain_len]);
                begin = end;
            }
        }
    }
    assert!(merges > 500, "{merges}");
}

/// A packet by the rules, or nearly: frame count code, sizes and padding chosen, frames of the sizes announced.
fn constructed() -> impl Strategy<Value = Vec<u8>> {
    let sizes =
        prop::collection::vec(prop_oneof![0..4usize, 0..300usize, 250..256usize, 1_270..1_280usize], 1..50);
    (any::<u8>(), sizes, any::<bool>(), prop::option::of(prop_oneof![0..4usize, 250..520usize]), -2..3isize)
        .prop_map(|(toc, mut sizes, is_vbr, padding, error)| {
            let mut packet = vec![toc];
            match toc & 0b11 {
                0 => sizes.truncate(1),
                1 => sizes = vec![sizes[0]; 2],
                2 => {
                    sizes.resize(2, 7);
                    put_size(&mut packet, sizes[0]);
                }
                _ => {
                    let padded = u8::from(padding.is_some()) << 6;
                    packet.push(sizes.len() as u8 | u8::from(is_vbr) << 7 | padded);
                    if let Some(padding) = padding {
                        packet.extend(std::iter::repeat_n(255, padding / 254));
                        packet.push((padding % 254) as u8);
                    }
                    if is_vbr {
                        sizes[..sizes.len() - 1].iter().for_each(|&size| put_size(&mut packet, size));
                    } else {
                        let size = sizes[0];
                        sizes.fill(size);
                    }
                }
            }
            let frames: usize = sizes.iter().sum();
            let rest = frames + padding.filter(|_| toc & 0b11 == 3).unwrap_or(0);
            let rest = rest.saturating_add_signed(if error.abs() < 2 { 0 } else { error });
            packet.extend((0..rest).map(|i| (i * 37) as u8));
            packet
        })
}

fn put_size(packet: &mut Vec<u8>, size: usize) {
    if size < 252 {
        packet.push(size as u8);
    } else {
        let low = 252 + (size & 3);
        packet.extend([low as u8, (size - low).div_euclid(4).min(255) as u8]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn on_noise(packet in prop::collection::vec(any::<u8>(), 0..400)) {
        agrees(&packet);
    }

    #[test]
    fn on_packets_by_the_rules_or_nearly(packet in constructed()) {
        agrees(&packet);
    }

    #[test]
    fn on_real_packets_with_bytes_changed(
        stream in any::<prop::sample::Index>(),
        index in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..5),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let stream = stream.get(&STREAMS);
        let mut packet = index.get(stream).clone();
        for (at, byte, at_head) in changes {
            let at = at.index(packet.len());
            let at = if at_head { at.min(at % 4) } else { at };
            packet[at] = byte;
        }
        if is_cut {
            packet.truncate(cut.index(packet.len() + 1));
        }
        agrees(&packet);
    }
}

#[test]
fn on_the_longest_packets_a_datagram_can_hold() {
    for len in [1_275, 1_276, 1_277, 2_551, 2_552, 61_202, 61_203, 65_534, 65_535, 65_536, 70_000] {
        for head in [&[0x00u8][..], &[0x01], &[0x02, 255, 255], &[0x83, 48], &[0x83, 0xc1, 255, 255, 255, 0]]
        {
            let mut packet = vec![0; len];
            packet[..head.len()].copy_from_slice(head);
            agrees(&packet);
        }
    }
    let mut longest = vec![0x83, 48 | 0x80];
    (0..47).for_each(|_| put_size(&mut longest, 1_275));
    longest.resize(2 + 2 * 47 + 48 * 1_275, 9);
    assert_eq!(Frames::parse(&longest).map(|frames| frames.count()), Ok(48));
    agrees(&longest);
}
