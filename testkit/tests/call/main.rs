//! The whole path, samples to datagrams to samples, over a network or none.
#![allow(clippy::unwrap_used)]

mod far_end;
mod network;
mod pauses;
mod round_trip;
mod rungs;
mod undecodable;
mod unsealed;

use std::time::Duration;

use evenkeel_core::codec::{Decoder, Encoder};
use evenkeel_core::jitter::JitterConfig;
use evenkeel_core::ladder::{Ladder, SinkCapability};
use evenkeel_core::pcm::{Format, SampleFormat};
use evenkeel_core::receiver::{Content, Receiver};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Sealer, SessionKeys, Suite};
use evenkeel_core::sender::Sender;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate, Time};
use evenkeel_opus::{Application, EncoderConfig, OpusDecoder, OpusEncoder};
use evenkeel_testkit::network::{Network, NetworkConfig};

/// What the encoder delays, at 48 kHz: 6.5 ms.
const LOOKAHEAD: usize = 312;

fn keys(suite: Suite) -> SessionKeys {
    SessionKeys::new(suite, &vec![0x42; suite.key_len()], 77, b"a call").unwrap()
}

/// Much better than a call would be, so that what the path does to the signal is not lost in what Opus does.
const GOOD: EncoderConfig = EncoderConfig {
    sample_rate: SampleRate::HZ_48000,
    channels: Channels::Mono,
    application: Application::Audio,
    bitrate: 128_000,
    complexity: 2,
    rate_control: evenkeel_opus::RateControl::Vbr,
    inband_fec: false,
    expected_loss: 0,
    dtx: false,
    max_bandwidth: evenkeel_core::framing::Bandwidth::Full,
    signal: evenkeel_opus::Signal::Auto,
};

/// As phones speak on bad networks.
const WITH_FEC: EncoderConfig = EncoderConfig {
    application: Application::Voip,
    bitrate: 32_000,
    inband_fec: true,
    expected_loss: 15,
    max_bandwidth: evenkeel_core::framing::Bandwidth::Wide,
    ..GOOD
};

const MONO_48: Format =
    Format { rate: SampleRate::HZ_48000, channels: Channels::Mono, sample: SampleFormat::F32 };

fn sender<E: Encoder>(encoder: E, input: Format, frame: FrameDuration, suite: Suite) -> Sender<E> {
    let ladder = Ladder::new(10, SinkCapability { pcm: true, clear: true }, true);
    let sealer = Sealer::new(&keys(suite), Direction::Downlink, 9);
    let mut sender = Sender::new(input, frame, ladder, encoder, sealer).unwrap();
    // Complexity 3 is enough for what is compared here.
    sender.set_position(3);
    sender
}

/// A receiver with a jitter buffer of a fifth of a second, whatever the network does; that is 80 frames of 2.5 ms.
fn patient<D: Decoder>(decoder: D, output: SampleRate, suite: Suite) -> Receiver<D> {
    let opener = Opener::new(&keys(suite), Direction::Downlink, PayloadKind::OpusOrPcm);
    Receiver::new(opener, patience(), decoder, output).unwrap()
}

fn patience() -> JitterConfig {
    let depth = Duration::from_millis(200);
    JitterConfig { min_depth: depth, initial_depth: depth, capacity: 128, ..JitterConfig::default() }
}

fn encoder(config: EncoderConfig) -> OpusEncoder {
    OpusEncoder::new(config).unwrap()
}

fn decoder(config: EncoderConfig) -> OpusDecoder {
    OpusDecoder::new(config.sample_rate, config.channels).unwrap()
}

/// What was heard, from the first packet to the last.
#[derive(Debug, Default)]
struct Heard {
    samples: Vec<f32>,
    /// What each stretch was made of, and how many samples per channel it had.
    stretches: Vec<(Content, usize)>,
}

impl Heard {
    fn count(&self, content: Content) -> usize {
        self.stretches.iter().filter(|(c, _)| *c == content).count()
    }

    fn is_all_packets(&self) -> bool {
        self.count(Content::Packet) == self.stretches.len()
    }
}

/// Packets with the times at which they left.
fn send<E: Encoder>(sender: &mut Sender<E>, samples: &[f32]) -> Vec<(Time, Vec<u8>)> {
    let mut sent = Vec::new();
    let mut take = |sealed: evenkeel_core::seal::Sealed<'_>| {
        sent.push((Time::ZERO + sealed.media_time, sealed.datagram.to_vec()));
    };
    sender.push(samples.into(), &mut take).unwrap();
    sender.flush(&mut take).unwrap();
    sent
}

/// What a network makes of them: the same with times of arrival, in order of arrival.
fn carry(sent: Vec<(Time, Vec<u8>)>, seed: u64, config: NetworkConfig) -> Vec<(Time, Vec<u8>)> {
    let mut network = Network::new(seed, config).unwrap();
    for (time, datagram) in sent {
        network.send(time, &datagram);
    }
    let mut arrived = Vec::new();
    while let Some(time) = network.next_time() {
        arrived.extend(network.poll(time));
    }
    arrived
}

/// Plays what arrives, until nothing is left.
fn listen<D: Decoder>(receiver: &mut Receiver<D>, arriving: Vec<(Time, Vec<u8>)>) -> Heard {
    listen_by(receiver, arriving, |receiver, mut datagram, at| {
        // What is refused shows in the counters.
        let _ = receiver.receive(&mut datagram, at);
    })
}

/// The same, by another way in.
fn listen_by<D: Decoder, O>(
    receiver: &mut Receiver<D, O>,
    arriving: Vec<(Time, Vec<u8>)>,
    mut take: impl FnMut(&mut Receiver<D, O>, Vec<u8>, Time),
) -> Heard {
    let channels = receiver.channels().count();
    let mut out = vec![0.0; receiver.max_output() * channels];
    let (mut heard, mut now) = (Heard::default(), Time::ZERO);
    let mut arriving = arriving.into_iter().peekable();
    while arriving.peek().is_some() || !receiver.is_empty() {
        while let Some((at, datagram)) = arriving.next_if(|(at, _)| *at <= now) {
            take(receiver, datagram, at);
        }
        let pulled = receiver.pull(now, &mut out).unwrap();
        now = now + pulled.duration;
        if pulled.content != Content::Silence || !heard.stretches.is_empty() {
            heard.samples.extend_from_slice(&out[..pulled.samples * channels]);
            heard.stretches.push((pulled.content, pulled.samples));
        }
    }
    heard
}
