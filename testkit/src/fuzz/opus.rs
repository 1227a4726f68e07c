//! Opus packets, hostile or not: inspection agrees with libopus, decoding and encoding keep their word.

use evenkeel_core::codec::{Decoder, Encoder};
use evenkeel_core::error::CodecError;
use evenkeel_core::framing::{self, Bandwidth, Frames, MAX_DURATION_US};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{
    Application, EncoderConfig, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder, RateControl, Signal, bare,
};

use super::Script;

const RATES: [SampleRate; 5] = [
    SampleRate::HZ_8000,
    SampleRate::HZ_12000,
    SampleRate::HZ_16000,
    SampleRate::HZ_24000,
    SampleRate::HZ_48000,
];
const CHANNELS: [Channels; 2] = [Channels::Mono, Channels::Stereo];

/// So that no input takes long.
const MAX_STEPS: usize = 64;

/// Samples in 120 ms of 48 kHz stereo.
const MAX_SAMPLES: usize = 5_760 * 2;

/// A packet, as it is: our parser and repacketizer and libopus' say the same.
pub(super) fn inspect(packet: &[u8]) {
    if packet.len() > usize::from(u16::MAX) {
        assert!(Frames::parse(packet).is_err());
        return;
    }
    let (ours, theirs) = (Frames::parse(packet), bare::parse(packet));
    let (frames, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => return,
        (ours, theirs) => panic!("we say {:?}, libopus says {theirs:?}", ours.map(|f| f.count())),
    };
    assert_eq!((frames.count(), frames.bytes()), (theirs.len(), packet.len()));
    assert_eq!(frames.iter().count(), theirs.len());
    for (i, (ours, theirs)) in frames.iter().zip(&theirs).enumerate() {
        assert_eq!(ours.as_ptr_range(), theirs.as_ptr_range(), "frame {i}");
        assert_eq!(frames.frame(i).as_ptr_range(), theirs.as_ptr_range(), "frame {i}");
    }
    assert!(!(frames.is_dtx() && frames.iter().any(|frame| frame.len() > 1)));
    let _ = frames.has_voice();
    assert_eq!(bare::bandwidth(packet), Some(frames.toc().bandwidth()));
    assert_eq!(bare::has_lbrr(packet), Ok(frames.has_lbrr()));
    assert!(frames.duration_us() <= MAX_DURATION_US);
    for rate in RATES {
        let samples = u64::from(frames.duration_us()) * u64::from(rate.hz()) / 1_000_000;
        assert_eq!(bare::samples(packet, rate), Ok(samples as usize));
    }
    repacketize(packet, &frames);
}

/// Our `merge` and `split` write what libopus writes, once padding is gone.
fn repacketize(packet: &[u8], frames: &Frames<'_>) {
    let mut plain = packet.to_vec();
    let len = bare::unpad(&mut plain).expect("it parses");
    let plain = &plain[..len];
    let mut repacketizer = bare::BareRepacketizer::new().expect("memory");
    let mut buffers = vec![[0u8; 70_000]; 2];
    let [ours, theirs] = &mut buffers[..] else { unreachable!("there are two") };

    for copies in 1..=4 {
        let merged = framing::merge(&vec![*frames; copies], ours);
        match repacketizer.load(&vec![plain; copies]) {
            Ok(mut loaded) => {
                let len = loaded.out(0, frames.count() * copies, theirs).expect("there is room");
                assert_eq!(merged, Ok(len), "{copies} copies");
                assert_eq!(ours[..len], theirs[..len], "{copies} copies");
            }
            Err(_) => assert!(merged.is_err(), "{copies} copies"),
        }
    }
    let mut loaded = repacketizer.load(&[plain]).expect("one packet");
    for (begin, end) in [(0, frames.count()), (0, 1), (frames.count() / 2, frames.count())] {
        let len = loaded.out(begin, end, theirs).expect("there is room");
        assert_eq!(framing::split(frames, begin..end, ours), Ok(len));
        assert_eq!(ours[..len], theirs[..len]);
        let too_small = CodecError::BufferTooSmall { needed: len, actual: len - 1 };
        assert_eq!(framing::split(frames, begin..end, &mut ours[..len - 1]), Err(too_small));
    }
}

/// A decoder's life: packets, losses and resets in any order, into buffers large and small.
pub(super) fn decode(data: &[u8]) {
    let mut script = Script(data);
    let (rate, channels) = (script.pick(&RATES), script.pick(&CHANNELS));
    let mut decoder = OpusDecoder::new(rate, channels).expect("an Opus rate");
    let (mut floats, mut ints) = (vec![0f32; MAX_SAMPLES], vec![0i16; MAX_SAMPLES]);

    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        let step = script.byte();
        let packet: &[u8] = if step & 2 == 0 { script_packet(&mut script) } else { &[] };
        let duration = script.pick(&FrameDuration::ALL);
        let room = if step & 0x80 == 0 { MAX_SAMPLES } else { usize::from(script.u16()) % MAX_SAMPLES };
        let (floats, ints) = (&mut floats[..room], &mut ints[..room]);
        let (done, samples) = match step & 0b111 {
            0 => (decoder.decode(packet, floats), packet_samples(packet, rate)),
            1 => (decoder.decode_fec(packet, duration, floats), lost_samples(packet, duration, rate)),
            2 => (decoder.conceal(duration, floats), Some(duration.samples_at(rate))),
            4 => (decoder.decode_i16(packet, ints), packet_samples(packet, rate)),
            5 => (decoder.decode_fec_i16(packet, duration, ints), lost_samples(packet, duration, rate)),
            6 => (decoder.conceal_i16(duration, ints), Some(duration.samples_at(rate))),
            3 => {
                decoder.reset();
                continue;
            }
            _ => {
                decoder.set_gain_q8(i16::from_le_bytes([step, script.byte()]) / 16);
                continue;
            }
        };
        let room = room / channels.count();
        match (done, samples) {
            (Ok(given), Some(samples)) => {
                assert_eq!(given, samples);
                assert_eq!(decoder.last_packet_samples(), samples);
                assert!(floats[..given * channels.count()].iter().all(|s| s.is_finite()));
            }
            (Err(CodecError::BufferTooSmall { needed, actual }), Some(samples)) => {
                assert_eq!((needed, actual), (samples, room));
                assert!(room < samples);
            }
            (Err(CodecError::Packet(_)), None) => {}
            (done, samples) => panic!("{done:?} for {samples:?} samples of {packet:02x?}"),
        }
    }
}

fn script_packet<'a>(script: &mut Script<'a>) -> &'a [u8] {
    let len = usize::from(script.u16()) % 1_500;
    script.bytes(len)
}

fn packet_samples(packet: &[u8], rate: SampleRate) -> Option<usize> {
    let micros = u64::from(Frames::parse(packet).ok()?.duration_us());
    Some((micros * u64::from(rate.hz()) / 1_000_000) as usize)
}

fn lost_samples(packet: &[u8], duration: FrameDuration, rate: SampleRate) -> Option<usize> {
    Frames::parse(packet).ok().map(|_| duration.samples_at(rate))
}

/// An encoder's life: any settings changed at any time, any samples, NaN and infinities too; and a decoder that hears
/// it and ends up in the same state.
pub(super) fn encode(data: &[u8]) {
    let mut script = Script(data);
    let config = EncoderConfig {
        sample_rate: script.pick(&RATES),
        channels: script.pick(&CHANNELS),
        application: script.pick(&[Application::Voip, Application::Audio, Application::LowDelay]),
        ..EncoderConfig::default()
    };
    let channels = config.channels.count();
    let mut encoder = OpusEncoder::new(config).expect("an Opus rate");
    let mut decoder = OpusDecoder::new(config.sample_rate, config.channels).expect("an Opus rate");
    let (mut pcm, mut heard) = (Vec::with_capacity(MAX_SAMPLES), vec![0f32; MAX_SAMPLES]);
    let mut packet = [0u8; MAX_PACKET_BYTES];

    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        let value = script.byte();
        match value >> 4 {
            0 => set(&mut encoder, &mut script),
            1 => encoder.reset(),
            _ => {
                let duration = FrameDuration::ALL[usize::from(value & 0xf) % FrameDuration::ALL.len()];
                let room = if value & 0x80 == 0 { packet.len() } else { 2 + usize::from(script.byte()) };
                fill(&mut pcm, duration.samples_at(config.sample_rate) * channels, &mut script);
                match encoder.encode(&pcm, &mut packet[..room]) {
                    Ok(len) => {
                        assert!(len <= room);
                        let frames = Frames::parse(&packet[..len]).expect("our own packet");
                        assert_eq!(frames.duration_us(), duration.as_micros());
                        let samples = decoder.decode(&packet[..len], &mut heard).expect("our own packet");
                        assert_eq!(samples * channels, pcm.len());
                        if !frames.is_dtx() {
                            assert_eq!(decoder.final_range(), encoder.final_range());
                        }
                    }
                    Err(CodecError::BufferTooSmall { needed, actual }) => {
                        assert_eq!(actual, room);
                        assert!(room < needed && needed < 40);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

fn set(encoder: &mut OpusEncoder, script: &mut Script<'_>) {
    let value = script.byte();
    match script.byte() % 11 {
        0 => assert_eq!(encoder.set_complexity(value).is_ok(), value <= 10),
        1 => assert_eq!(encoder.set_expected_loss(value).is_ok(), value <= 100),
        2 => assert_eq!(encoder.set_bitrate(u32::from(value) * 2_500).is_ok(), (3..=204).contains(&value)),
        3 => encoder.set_rate_control(script.pick(&[
            RateControl::Vbr,
            RateControl::ConstrainedVbr,
            RateControl::Cbr,
        ])),
        4 => encoder.set_inband_fec(value & 1 != 0),
        5 => encoder.set_dtx(value & 1 != 0),
        6 => encoder.set_max_bandwidth(script.pick(&[
            Bandwidth::Narrow,
            Bandwidth::Medium,
            Bandwidth::Wide,
            Bandwidth::SuperWide,
            Bandwidth::Full,
        ])),
        7 => encoder.set_signal(script.pick(&[Signal::Auto, Signal::Voice, Signal::Music])),
        8 => assert_eq!(encoder.set_mdct_only(value & 1 != 0), Ok(())),
        _ => encoder.set_application(script.pick(&[
            Application::Voip,
            Application::Audio,
            Application::LowDelay,
        ])),
    }
}

/// A few samples out of the script, any bit pattern, over and over.
fn fill(pcm: &mut Vec<f32>, len: usize, script: &mut Script<'_>) {
    let kind = script.byte();
    let seed = script.bytes(usize::from(kind >> 2));
    let sample = |i: usize| match (seed.len() / 4, seed.len()) {
        (0, _) => 0.0,
        (words, _) if kind & 1 == 0 => {
            let at = i % words * 4;
            f32::from_le_bytes([seed[at], seed[at + 1], seed[at + 2], seed[at + 3]])
        }
        (_, bytes) => f32::from(seed[i * 7 % bytes] as i8) / 128.0,
    };
    pcm.clear();
    pcm.extend((0..len).map(sample));
}
