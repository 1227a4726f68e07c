//! Packets that come opened, as over a WebSocket: heard as sealed ones are.

use std::time::Duration;

use evenkeel_core::jitter::{Inserted, JitterConfig};
use evenkeel_core::packet::Header;
use evenkeel_core::receiver::{Content, Receiver, Unsealed};
use evenkeel_core::seal::{Direction, Opener, PayloadKind, Suite};
use evenkeel_core::units::{FrameDuration, SampleRate, Time};
use evenkeel_opus::OpusDecoder;
use evenkeel_testkit::network::{Jitter, Loss, NetworkConfig};
use evenkeel_testkit::voice::synthetic;

use super::{
    MONO_48, WITH_FEC, carry, decoder, encoder, keys, listen, listen_by, patience, patient, send, sender,
};

const SUITE: Suite = Suite::Aes128Ctr;
const OUTPUT: SampleRate = SampleRate::HZ_44100;

/// What is in a datagram, and where it belongs.
fn open(mut datagram: Vec<u8>) -> (Header, Vec<u8>) {
    let mut opener = Opener::new(&keys(SUITE), Direction::Downlink, PayloadKind::Opus);
    let opened = opener.open(&mut datagram).unwrap();
    (opened.header, opened.payload.to_vec())
}

fn unsealed(jitter: JitterConfig) -> Receiver<OpusDecoder, Unsealed> {
    Receiver::unsealed(jitter, decoder(WITH_FEC), OUTPUT).unwrap()
}

#[test]
fn opened_packets_sound_as_sealed_ones_do_also_where_the_network_loses_and_delays() {
    let network = NetworkConfig {
        loss: Loss::Random(0.1),
        jitter: Jitter::Exponential(Duration::from_millis(15)),
        duplicate: 0.02,
        ..NetworkConfig::default()
    };
    let mut sender = sender(encoder(WITH_FEC), MONO_48, FrameDuration::MS_20, SUITE);
    let arriving = carry(send(&mut sender, &synthetic(3.0)), 7, network);
    let mut sealed = patient(decoder(WITH_FEC), OUTPUT, SUITE);
    let expected = listen(&mut sealed, arriving.clone());
    let mut receiver = unsealed(patience());
    let heard = listen_by(&mut receiver, arriving, |receiver, datagram, at| {
        let (header, opus) = open(datagram);
        let _ = receiver.receive_opus(header.sequence, header.timestamp, &opus, at);
    });
    assert_eq!(heard.stretches, expected.stretches);
    assert_eq!(heard.samples, expected.samples);
    assert!(receiver.counters().recovered > 0, "{:?}", receiver.counters());
    assert_eq!(receiver.jitter().lost, sealed.jitter().lost);
}

#[test]
fn what_is_no_opus_is_refused_and_counted_and_nothing_else_happens() {
    let mut receiver = unsealed(JitterConfig::default());
    let bad = receiver.receive_opus(1, 0, &[0x4b, 0xff], Time::ZERO);
    assert!(matches!(bad, Inserted::Rejected(_)), "{bad:?}");
    assert!(matches!(receiver.receive_opus(1, 0, &[], Time::ZERO), Inserted::Rejected(_)));
    assert_eq!(receiver.receive_opus(1, 0, &[0x58, 1, 2, 3], Time::ZERO), Inserted::Stored);
    assert_eq!(receiver.receive_opus(1, 0, &[0x58, 1, 2, 3], Time::ZERO), Inserted::Duplicate);
    assert_eq!((receiver.counters().opened, receiver.counters().refused), (2, 2));
}

#[test]
fn speech_that_is_cut_off_by_a_pause_fades_and_is_not_counted_as_concealed() {
    let mut sender = sender(encoder(WITH_FEC), MONO_48, FrameDuration::MS_20, SUITE);
    let mut receiver = unsealed(JitterConfig::default());
    let mut out = vec![0.0; receiver.max_output()];
    let (mut heard, mut contents) = (Vec::new(), Vec::new());
    for (number, (at, datagram)) in send(&mut sender, &synthetic(0.5)).into_iter().enumerate() {
        let _ = receiver.receive_opus(number as u32, 0, &open(datagram).1, at);
    }
    receiver.pause();
    for number in 0..40 {
        let pulled = receiver.pull(Time::from_millis(1000 + 20 * number), &mut out).unwrap();
        heard.extend_from_slice(&out[..pulled.samples]);
        contents.push(pulled.content);
    }
    let end = contents.iter().rposition(|content| *content == Content::Packet).unwrap() + 1;
    assert!(contents[end..].iter().all(|content| *content == Content::Silence), "{contents:?}");
    let stretch = heard.len() / 40;
    let loudest = |at: usize, of: usize| heard[at..at + of].iter().fold(0.0f32, |most, s| most.max(s.abs()));
    assert!(loudest((end - 1) * stretch, stretch) > 0.02, "there is something to fade");
    // As the resampler is behind it, it ends a little later.
    assert!(loudest((end + 1) * stretch - 20, 20) < 0.2 * loudest((end - 1) * stretch, stretch));
    assert_eq!(loudest((end + 2) * stretch, heard.len() - (end + 2) * stretch), 0.0);
    assert_eq!((receiver.counters().concealed, receiver.jitter().underruns), (0, 0));
}
