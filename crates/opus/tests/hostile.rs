//! Whatever comes in, nothing panics and every call keeps its word. What that is, the fuzz bodies say.
#![allow(clippy::unwrap_used)]

use evenkeel_core::codec::Encoder;
use evenkeel_opus::{EncoderConfig, OpusEncoder};
use evenkeel_testkit::fuzz;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn packets(script in prop::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz::run("opus_decode", &script);
    }

    /// Most noise is no packet; here every step is one, of a single frame, so that the codecs themselves get noise.
    #[test]
    fn packets_that_parse(
        head in any::<[u8; 2]>(),
        steps in prop::collection::vec(
            (0..8u8, any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)), 1..30),
    ) {
        let mut script = head.to_vec();
        for (step, toc, duration, frame) in steps {
            script.push(step);
            if step & 2 == 0 {
                script.extend((frame.len() as u16 + 1).to_le_bytes());
                script.push(toc & !0b11);
                script.extend(frame);
            }
            script.push(duration);
        }
        fuzz::run("opus_decode", &script);
    }

    #[test]
    fn samples_and_settings(script in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::run("opus_encode", &script);
    }
}

#[test]
fn an_encoder_survives_samples_that_are_no_numbers() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE] {
        for complexity in [0, 5, 10] {
            let new = || OpusEncoder::new(EncoderConfig { complexity, ..EncoderConfig::default() }).unwrap();
            let mut encoder = new();
            let mut packet = [0; 1_276];
            let voice = evenkeel_testkit::voice::synthetic(1.0);
            for pcm in voice[..24_000].chunks_exact(960) {
                assert!(encoder.encode(pcm, &mut packet).is_ok());
            }
            assert!(encoder.encode(&[bad; 960], &mut packet).is_ok());
            let after = voice[24_000..].chunks_exact(960);
            let bytes: usize = after.map(|pcm| encoder.encode(pcm, &mut packet).unwrap()).sum();
            assert!(bytes > 500, "{bad}: deaf after it, {bytes} bytes");
        }
    }
}
