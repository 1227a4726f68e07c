//! Settings do what they say, at construction and at run time; what cannot be is refused with its reason.
#![allow(clippy::unwrap_used)]

use evenkeel_core::codec::{Decoder, Encoder};
use evenkeel_core::error::{CodecError, ConfigError, PacketError};
use evenkeel_core::framing::{Bandwidth, Frames};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::bare::BareEncoder;
use evenkeel_opus::{
    Application, EncoderConfig, MAX_BITRATE, MAX_PACKET_BYTES, MIN_BITRATE, OpusDecoder, OpusEncoder,
    RateControl, Signal, libopus_version,
};
use evenkeel_testkit::voice;
use std::sync::LazyLock;

/// A second of it.
fn voice() -> &'static [f32] {
    static VOICE: LazyLock<Vec<f32>> = LazyLock::new(|| voice::synthetic(1.0));
    &VOICE
}

/// A second of voice as packets of 20 ms.
fn packets(encoder: &mut OpusEncoder) -> Vec<Vec<u8>> {
    let mut packet = [0; 1_276];
    let code = |pcm: &[f32]| {
        let len = encoder.encode(pcm, &mut packet).unwrap();
        packet[..len].to_vec()
    };
    voice().chunks_exact(960).map(code).collect()
}

fn bare_packet(bare: &mut BareEncoder, pcm: &[f32]) -> Vec<u8> {
    let mut packet = [0; MAX_PACKET_BYTES];
    let len = bare.encode(pcm, &mut packet);
    packet[..usize::try_from(len).unwrap()].to_vec()
}

fn encoder(config: EncoderConfig) -> OpusEncoder {
    OpusEncoder::new(config).unwrap()
}

/// Configurations that differ from the default in each field.
fn configs() -> Vec<EncoderConfig> {
    let default = EncoderConfig::default();
    vec![
        default,
        EncoderConfig { application: Application::Audio, ..default },
        EncoderConfig { application: Application::LowDelay, ..default },
        EncoderConfig { bitrate: 40_000, ..default },
        EncoderConfig { complexity: 10, ..default },
        EncoderConfig { complexity: 0, ..default },
        EncoderConfig { rate_control: RateControl::Vbr, ..default },
        EncoderConfig { rate_control: RateControl::Cbr, ..default },
        EncoderConfig { inband_fec: true, expected_loss: 20, ..default },
        EncoderConfig { expected_loss: 20, ..default },
        EncoderConfig { dtx: true, ..default },
        EncoderConfig { max_bandwidth: Bandwidth::Narrow, ..default },
        EncoderConfig { max_bandwidth: Bandwidth::Wide, ..default },
        EncoderConfig { signal: Signal::Music, complexity: 10, ..default },
        EncoderConfig { signal: Signal::Voice, bitrate: 60_000, ..default },
    ]
}

#[test]
fn packets_are_those_of_the_bare_c_encoder_at_the_same_settings() {
    for config in configs() {
        let mut bare = BareEncoder::new(&config, FrameDuration::MS_20).unwrap();
        let theirs: Vec<_> = voice().chunks_exact(960).map(|pcm| bare_packet(&mut bare, pcm)).collect();
        // The buffer bounds the packet and so is an input of the encoder: `packets` offers less, and it must not show.
        assert_eq!(packets(&mut encoder(config)), theirs, "{config:?}");
    }
}

#[test]
fn a_setting_changed_before_the_first_frame_is_as_one_given_at_construction() {
    let default = EncoderConfig::default();
    for config in configs() {
        let mut changed = encoder(default);
        changed.set_application(config.application);
        changed.set_bitrate(config.bitrate).unwrap();
        changed.set_complexity(config.complexity).unwrap();
        changed.set_rate_control(config.rate_control);
        changed.set_inband_fec(config.inband_fec);
        changed.set_expected_loss(config.expected_loss).unwrap();
        changed.set_dtx(config.dtx);
        changed.set_max_bandwidth(config.max_bandwidth);
        changed.set_signal(config.signal);
        assert_eq!(changed.config(), &config);
        assert_eq!(packets(&mut changed), packets(&mut encoder(config)), "{config:?}");
    }
}

#[test]
fn each_setting_changes_the_packets() {
    let plain = packets(&mut encoder(EncoderConfig::default()));
    // Dtx shows in silence only, and has its own test; constrained and free VBR may coincide for a second.
    let unseen = |c: &EncoderConfig| c.dtx || c.rate_control == RateControl::Vbr;
    for config in configs().into_iter().skip(1).filter(|c| !unseen(c)) {
        assert_ne!(packets(&mut encoder(config)), plain, "{config:?}");
    }
}

#[test]
fn bit_rate_and_rate_control_hold() {
    for rate_control in [RateControl::Vbr, RateControl::ConstrainedVbr, RateControl::Cbr] {
        for bitrate in [12_000, 24_000, 64_000] {
            let packets =
                packets(&mut encoder(EncoderConfig { bitrate, rate_control, ..EncoderConfig::default() }));
            let spent = packets.iter().map(Vec::len).sum::<usize>() as f64 * 8.0;
            let ratio = spent / f64::from(bitrate);
            assert!((0.6..1.3).contains(&ratio), "{rate_control:?} at {bitrate}: {ratio}");
            if rate_control == RateControl::Cbr {
                assert!(packets.iter().all(|p| p.len() == bitrate as usize / 400), "{bitrate}");
            }
        }
    }
}

#[test]
fn the_maximum_bandwidth_is_never_exceeded() {
    use Bandwidth::{Full, Medium, Narrow, SuperWide, Wide};
    for max_bandwidth in [Narrow, Medium, Wide, SuperWide, Full] {
        let config = EncoderConfig { max_bandwidth, bitrate: 40_000, ..EncoderConfig::default() };
        for packet in packets(&mut encoder(config)) {
            assert_eq!(Frames::parse(&packet).unwrap().toc().bandwidth(), max_bandwidth);
        }
    }
}

#[test]
fn the_lowest_bit_rate_carries_nothing_in_the_shortest_frames_below_9600() {
    for (bitrate, is_empty) in [(9_500, true), (9_700, false)] {
        let mut encoder = encoder(EncoderConfig { bitrate, ..EncoderConfig::default() });
        let mut packet = [0; 100];
        let lens = voice().chunks_exact(120).fold(0, |longest, pcm| {
            let len = encoder.encode(pcm, &mut packet).unwrap();
            longest.max(len)
        });
        assert_eq!(lens == 1, is_empty, "{bitrate}");
    }
}

#[test]
fn silence_with_dtx_is_nearly_nothing_and_the_voice_after_it_is_not() {
    for application in [Application::Voip, Application::Audio] {
        let config = EncoderConfig { dtx: true, application, complexity: 10, ..EncoderConfig::default() };
        let mut encoder = encoder(config);
        let mut decoder = OpusDecoder::new(config.sample_rate, config.channels).unwrap();
        let (mut packet, mut heard) = ([0; 1_276], [0.0; 960]);
        let mut step = |pcm: &[f32]| {
            let len = encoder.encode(pcm, &mut packet).unwrap();
            assert_eq!(decoder.decode(&packet[..len], &mut heard), Ok(960));
            (len, encoder.is_in_dtx(), Frames::parse(&packet[..len]).unwrap().is_dtx())
        };
        for pcm in voice().chunks_exact(960) {
            step(pcm);
        }
        let pause: Vec<_> = (0..100).map(|_| step(&[0.0; 960])).collect();
        let empty = pause.iter().filter(|(len, in_dtx, is_dtx)| *len <= 2 && *in_dtx && *is_dtx).count();
        assert!(empty >= 80, "{application:?}: {empty} of 100 packets are empty");
        let after: usize = voice()[12_000..24_000].chunks_exact(960).map(|pcm| step(pcm).0).sum();
        assert!(after > 200, "{application:?}: {after} bytes");
    }
}

#[test]
fn after_a_reset_packets_are_those_of_a_new_encoder() {
    for config in configs() {
        let mut used = encoder(config);
        packets(&mut used);
        used.reset();
        assert_eq!(used.config(), &config);
        assert_eq!(packets(&mut used), packets(&mut encoder(config)), "{config:?}");
    }
}

/// Why [`OpusEncoder::reset`] does not use libopus' own: that one remembers whether redundancy was on, which decides
/// whether it is at a bit rate in between.
#[test]
fn a_reset_forgets_what_that_of_libopus_remembers() {
    let config = |bitrate| EncoderConfig {
        bitrate,
        inband_fec: true,
        expected_loss: 5,
        max_bandwidth: Bandwidth::Wide,
        ..EncoderConfig::default()
    };
    let (high, between) = (40_000, 23_000);
    let fresh = packets(&mut encoder(config(between)));

    let mut used = encoder(config(high));
    packets(&mut used);
    used.set_bitrate(between).unwrap();
    used.reset();
    assert_eq!(packets(&mut used), fresh);

    let mut bare = BareEncoder::new(&config(high), FrameDuration::MS_20).unwrap();
    let all = |bare: &mut BareEncoder| -> Vec<_> {
        voice().chunks_exact(960).map(|pcm| bare_packet(bare, pcm)).collect()
    };
    all(&mut bare);
    bare.set_bitrate(between).unwrap();
    bare.reset();
    assert_ne!(all(&mut bare), fresh, "libopus' own reset is complete now: use it");
}

#[test]
fn after_a_reset_a_decoder_gives_what_a_new_one_gives() {
    let packets =
        packets(&mut encoder(EncoderConfig { inband_fec: true, expected_loss: 20, ..configs()[0] }));
    let new = || OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono).unwrap();
    let listen = |decoder: &mut OpusDecoder| -> Vec<f32> {
        let mut heard = vec![0.0; 960 * packets.len()];
        for (i, (packet, out)) in packets.iter().zip(heard.chunks_exact_mut(960)).enumerate() {
            let done = match i % 5 {
                3 => decoder.conceal(FrameDuration::MS_20, out),
                4 => decoder.decode_fec(packet, FrameDuration::MS_20, out),
                _ => decoder.decode(packet, out),
            };
            assert_eq!(done, Ok(960));
        }
        heard
    };
    let mut used = new();
    listen(&mut used);
    used.reset();
    assert_eq!((used.last_packet_samples(), used.bandwidth()), (0, None));
    assert_eq!(listen(&mut used), listen(&mut new()));
}

#[test]
fn what_cannot_be_built_is_refused() {
    let default = EncoderConfig::default();
    for (config, error) in [
        (
            EncoderConfig { sample_rate: SampleRate::HZ_44100, ..default },
            ConfigError::CodecRate { hz: 44_100 },
        ),
        (
            EncoderConfig { bitrate: MIN_BITRATE - 1, ..default },
            ConfigError::Range { what: "bit rate (b/s)", min: 6_000, max: 510_000, actual: 5_999 },
        ),
        (
            EncoderConfig { bitrate: MAX_BITRATE + 1, ..default },
            ConfigError::Range { what: "bit rate (b/s)", min: 6_000, max: 510_000, actual: 510_001 },
        ),
        (
            EncoderConfig { complexity: 11, ..default },
            ConfigError::Range { what: "complexity", min: 0, max: 10, actual: 11 },
        ),
        (
            EncoderConfig { expected_loss: 101, ..default },
            ConfigError::Range { what: "expected loss (%)", min: 0, max: 100, actual: 101 },
        ),
    ] {
        assert_eq!(OpusEncoder::new(config).err(), Some(error));
    }
    let decoder = OpusDecoder::new(SampleRate::HZ_22050, Channels::Mono);
    assert_eq!(decoder.err(), Some(ConfigError::CodecRate { hz: 22_050 }));
}

#[test]
fn a_setting_out_of_range_is_refused_and_changes_nothing() {
    let mut encoder = encoder(EncoderConfig::default());
    assert!(matches!(encoder.set_bitrate(0), Err(CodecError::Config(ConfigError::Range { .. }))));
    assert!(matches!(encoder.set_complexity(11), Err(CodecError::Config(ConfigError::Range { .. }))));
    assert!(matches!(encoder.set_expected_loss(101), Err(CodecError::Config(ConfigError::Range { .. }))));
    assert_eq!(encoder.config(), &EncoderConfig::default());
}

#[test]
fn a_frame_of_the_wrong_length_or_a_buffer_too_small_is_refused() {
    let mut packet = [0; 1_276];
    let mut mono = encoder(EncoderConfig::default());
    for (len, expected) in [(0, 120), (119, 120), (121, 120), (961, 960), (1_440, 960), (48_000, 5_760)] {
        let error = CodecError::FrameLength { expected, actual: len };
        assert_eq!(mono.encode(&vec![0.0; len], &mut packet), Err(error));
        assert_eq!(mono.encode_i16(&vec![0; len], &mut packet), Err(error));
    }
    let mut stereo = encoder(EncoderConfig { channels: Channels::Stereo, ..EncoderConfig::default() });
    let error = CodecError::FrameLength { expected: 960, actual: 961 };
    assert_eq!(stereo.encode(&[0.0; 1_921], &mut packet), Err(error));
    for (samples, needed) in [(120, 3), (960, 3), (1_920, 12), (2_880, 19), (4_800, 30), (5_760, 38)] {
        let pcm: Vec<f32> = voice()[12_000..][..samples].to_vec();
        let error = CodecError::BufferTooSmall { needed, actual: needed - 1 };
        assert_eq!(mono.encode(&pcm, &mut packet[..needed - 1]), Err(error));
        let len = mono.encode(&pcm, &mut packet[..needed]).unwrap();
        assert!(!Frames::parse(&packet[..len]).unwrap().is_dtx(), "{samples}: it must code some sound");
    }
}

#[test]
fn a_decoder_refuses_bad_packets_and_small_buffers_and_goes_on_as_before() {
    let packets = packets(&mut encoder(EncoderConfig::default()));
    let new = || OpusDecoder::new(SampleRate::HZ_48000, Channels::Stereo).unwrap();
    let (mut bothered, mut calm) = (new(), new());
    let (mut a, mut b) = ([0.0; 1_920], [0.0; 1_920]);
    let ms_20 = FrameDuration::MS_20;
    for packet in &packets {
        let bad: &[u8] = &[0x0b, 0];
        let error = Err(CodecError::Packet(PacketError::Opus { reason: "it says it has no frames" }));
        assert_eq!(bothered.decode(bad, &mut a), error);
        assert_eq!(bothered.decode_i16(bad, &mut [0; 1_920]), error);
        assert_eq!(bothered.decode_fec(bad, ms_20, &mut a), error);
        assert!(matches!(bothered.decode(&[], &mut a), Err(CodecError::Packet(_))));
        let error = Err(CodecError::BufferTooSmall { needed: 960, actual: 959 });
        assert_eq!(bothered.decode(packet, &mut a[..1_919]), error);
        assert_eq!(bothered.decode_fec(packet, ms_20, &mut a[..1_919]), error);
        assert_eq!(bothered.conceal(ms_20, &mut a[..1_919]), error);
        assert_eq!(bothered.conceal_i16(ms_20, &mut [0; 1_919]), error);

        assert_eq!(bothered.decode(packet, &mut a), Ok(960));
        assert_eq!(calm.decode(packet, &mut b), Ok(960));
        assert_eq!(a, b);
    }
}

#[test]
fn codecs_move_between_threads_and_the_library_is_the_one_we_measured() {
    fn assert_send<T: Send + Sync>() {}
    assert_send::<OpusEncoder>();
    assert_send::<OpusDecoder>();
    assert!(libopus_version().starts_with("libopus 1.6"), "{}", libopus_version());
}

#[test]
fn mdct_only_codes_no_silk_until_it_is_switched_off_again() {
    use evenkeel_core::framing::Mode;
    let mut encoder = encoder(EncoderConfig::default());
    let modes = |packets: Vec<Vec<u8>>| {
        packets.iter().skip(2).map(|p| Frames::parse(p).unwrap().toc().mode()).collect::<Vec<_>>()
    };
    assert!(modes(packets(&mut encoder)).iter().all(|&mode| mode != Mode::Celt));
    encoder.set_mdct_only(true).unwrap();
    assert!(modes(packets(&mut encoder)).iter().all(|&mode| mode == Mode::Celt));
    encoder.reset();
    assert!(modes(packets(&mut encoder)).iter().all(|&mode| mode == Mode::Celt), "settings stay");
    encoder.set_mdct_only(false).unwrap();
    assert!(modes(packets(&mut encoder)).iter().all(|&mode| mode != Mode::Celt));
}
