//! Packets that are let in and look right, but cannot be decoded.

use evenkeel_core::codec::Decoder;
use evenkeel_core::error::CodecError;
use evenkeel_core::receiver::Content;
use evenkeel_core::seal::Suite;
use evenkeel_core::units::{Channels, FrameDuration, SampleRate};
use evenkeel_opus::OpusDecoder;
use evenkeel_testkit::voice::synthetic;

use super::{GOOD, MONO_48, decoder, encoder, listen, patient, send, sender};

/// Fails at every tenth packet; and, if it is to, at concealing too.
struct Failing {
    inner: OpusDecoder,
    calls: u32,
    conceals: bool,
}

const FAILURE: CodecError = CodecError::Internal { code: -3, reason: "injected" };

impl Decoder for Failing {
    fn sample_rate(&self) -> SampleRate {
        self.inner.sample_rate()
    }
    fn channels(&self) -> Channels {
        self.inner.channels()
    }
    fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        self.calls += 1;
        if self.calls.is_multiple_of(10) { Err(FAILURE) } else { self.inner.decode(packet, out) }
    }
    fn decode_fec(
        &mut self,
        packet: &[u8],
        duration: FrameDuration,
        out: &mut [f32],
    ) -> Result<usize, CodecError> {
        self.inner.decode_fec(packet, duration, out)
    }
    fn conceal(&mut self, duration: FrameDuration, out: &mut [f32]) -> Result<usize, CodecError> {
        if self.conceals { self.inner.conceal(duration, out) } else { Err(FAILURE) }
    }
    fn reset(&mut self) {
        self.inner.reset();
    }
}

#[test]
fn they_are_concealed_or_muted_and_counted_and_the_stream_goes_on() {
    let voice = synthetic(2.0);
    let sent = send(&mut sender(encoder(GOOD), MONO_48, FrameDuration::MS_20, Suite::Aes128Ctr), &voice);
    for conceals in [true, false] {
        let failing = Failing { inner: decoder(GOOD), calls: 0, conceals };
        let mut receiver = patient(failing, SampleRate::HZ_32000, Suite::Aes128Ctr);
        let heard = listen(&mut receiver, sent.clone());
        let failed = sent.len() / 10;
        assert_eq!(receiver.counters().undecodable, failed as u64);
        assert_eq!(heard.count(Content::Concealed), failed);
        assert_eq!(heard.count(Content::Packet), sent.len() - failed);
        assert_eq!(heard.samples.len(), sent.len() * 640, "time goes on");
        let is_muted = heard.samples[9 * 640 + 100..10 * 640].iter().all(|sample| *sample == 0.0);
        assert_eq!(is_muted, !conceals);
    }
}
