//! Lost packets: recovered from redundancy where there is some, concealed where not.
#![allow(clippy::unwrap_used)]

use evenkeel_core::codec::{Decoder, Encoder};
use evenkeel_core::framing::{Bandwidth, Frames, Mode};
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::{EncoderConfig, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder};
use evenkeel_testkit::voice;

/// One in this many packets is lost.
const LOST: usize = 5;

/// SNR of the last `kept` of each lost packet, against the same packets without loss: with FEC, with PLC.
fn recovered_and_concealed(
    voice: &[f32],
    duration: FrameDuration,
    max_bandwidth: Bandwidth,
    kept: FrameDuration,
) -> (f64, f64) {
    let rate = SampleRate::HZ_48000;
    let config = EncoderConfig {
        inband_fec: true,
        expected_loss: 20,
        bitrate: 32_000,
        max_bandwidth,
        ..EncoderConfig::default()
    };
    let mut encoder = OpusEncoder::new(config).unwrap();
    let samples = duration.samples_at(rate);
    let mut packet = [0; MAX_PACKET_BYTES];
    let packets: Vec<Vec<u8>> = voice
        .chunks_exact(samples)
        .map(|pcm| {
            let len = encoder.encode(pcm, &mut packet).unwrap();
            packet[..len].to_vec()
        })
        .collect();
    let frames: Vec<_> = packets.iter().map(|packet| Frames::parse(packet).unwrap()).collect();
    let mode = if max_bandwidth <= Bandwidth::Wide { Mode::Silk } else { Mode::Hybrid };
    let with_lbrr = frames.iter().filter(|f| f.has_lbrr() && f.toc().mode() == mode).count();
    assert!(with_lbrr * 3 > packets.len(), "{with_lbrr} of {} packets carry LBRR", packets.len());

    let is_lost = |i: usize| i % LOST == LOST - 1 && i + 1 < packets.len();
    let listen = |on_loss: &dyn Fn(&mut OpusDecoder, usize, &mut [f32])| {
        let mut decoder = OpusDecoder::new(rate, Channels::Mono).unwrap();
        let mut heard = Vec::new();
        let mut frame = vec![0.0; samples];
        for (i, packet) in packets.iter().enumerate() {
            if is_lost(i) {
                on_loss(&mut decoder, i, &mut frame);
                heard.extend_from_slice(&frame[samples - kept.samples_at(rate)..]);
            } else {
                assert_eq!(decoder.decode(packet, &mut frame), Ok(samples));
            }
        }
        heard
    };
    let meant = listen(&|decoder, i, out| assert_eq!(decoder.decode(&packets[i], out), Ok(samples)));
    let fec = listen(&|decoder, i, out| {
        assert_eq!(decoder.decode_fec(&packets[i + 1], duration, out), Ok(samples));
    });
    let plc = listen(&|decoder, _, out| assert_eq!(decoder.conceal(duration, out), Ok(samples)));
    (voice::snr_db(&meant, &fec), voice::snr_db(&meant, &plc))
}

#[test]
fn redundancy_recovers_what_concealment_can_only_guess() {
    let synthetic = voice::synthetic(8.0);
    let (ms_20, ms_60) = (FrameDuration::MS_20, FrameDuration::MS_60);
    for (name, voice) in [("synthetic", Some(&synthetic[..])), ("recorded", voice::recorded())] {
        for (duration, bandwidth, kept, margin) in [
            (ms_20, Bandwidth::Full, ms_20, 8.0),
            (ms_20, Bandwidth::Wide, ms_20, 8.0),
            (ms_60, Bandwidth::Wide, ms_60, 8.0),
            // Three hybrid frames: the last alone comes back, off a state that two concealed ones have led astray.
            (ms_60, Bandwidth::Full, ms_20, 1.0),
        ] {
            let Some(voice) = voice else { continue };
            let (fec, plc) = recovered_and_concealed(voice, duration, bandwidth, kept);
            let case =
                format!("{name}, last {kept} of {duration}, {bandwidth:?}: FEC {fec:.1} dB, PLC {plc:.1} dB");
            println!("{case}");
            assert!(fec > plc + margin, "{case}");
        }
    }
}

#[test]
fn a_packet_without_redundancy_conceals_as_if_there_were_none() {
    let mut encoder = OpusEncoder::new(EncoderConfig::default()).unwrap();
    let new = || OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono).unwrap();
    let (mut by_fec, mut by_plc) = (new(), new());
    let (mut packet, mut a, mut b) = ([0; 1_276], [0.0; 960], [0.0; 960]);
    for (i, pcm) in voice::synthetic(1.0).chunks_exact(960).enumerate() {
        let len = encoder.encode(pcm, &mut packet).unwrap();
        if i % LOST == 0 {
            by_fec.decode_fec(&packet[..len], FrameDuration::MS_20, &mut a).unwrap();
            by_plc.conceal(FrameDuration::MS_20, &mut b).unwrap();
        } else {
            by_fec.decode(&packet[..len], &mut a).unwrap();
            by_plc.decode(&packet[..len], &mut b).unwrap();
        }
        assert!(a == b, "frame {i}");
    }
}

#[test]
fn a_long_loss_fades_to_silence() {
    let mut encoder = OpusEncoder::new(EncoderConfig::default()).unwrap();
    let mut decoder = OpusDecoder::new(SampleRate::HZ_48000, Channels::Mono).unwrap();
    let (mut packet, mut out) = ([0; 1_276], [0.0; 960]);
    for pcm in voice::synthetic(0.5).chunks_exact(960) {
        let len = encoder.encode(pcm, &mut packet).unwrap();
        decoder.decode(&packet[..len], &mut out).unwrap();
    }
    for _ in 0..100 {
        decoder.conceal(FrameDuration::MS_20, &mut out).unwrap();
    }
    assert!(out.iter().all(|s| s.abs() < 0.01), "{:?}", out.iter().fold(0.0f32, |a, s| a.max(s.abs())));
}

#[test]
fn any_duration_can_be_concealed_at_any_rate() {
    for rate in SampleRate::ALL.into_iter().filter(|rate| rate.is_opus()) {
        let mut decoder = OpusDecoder::new(rate, Channels::Stereo).unwrap();
        let mut encoder =
            OpusEncoder::new(EncoderConfig { sample_rate: rate, ..EncoderConfig::default() }).unwrap();
        let (mut packet, mut out) = ([0; 1_276], vec![0.0; 11_520]);
        for duration in FrameDuration::ALL {
            let samples = FrameDuration::MS_20.samples_at(rate);
            let len = encoder.encode(&vec![0.1; samples], &mut packet).unwrap();
            assert_eq!(decoder.decode(&packet[..len], &mut out), Ok(samples));
            let samples = duration.samples_at(rate);
            assert_eq!(decoder.conceal(duration, &mut out), Ok(samples));
            assert_eq!(decoder.decode_fec(&packet[..len], duration, &mut out), Ok(samples));
            assert_eq!(decoder.last_packet_samples(), samples);
        }
    }
}
