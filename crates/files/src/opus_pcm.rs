//! Opus packets of a file, decoded.

use std::io::Read;
use std::ops::Range;

use evenkeel_core::codec::Decoder;
use evenkeel_core::units::{Channels, SampleRate};
use evenkeel_opus::OpusDecoder;

use crate::error::FileError;
use crate::opus::OpusReader;

/// Samples per channel of the longest packet: 120 ms at 48 kHz.
const MAX_PACKET_SAMPLES: usize = 5_760;

/// Decodes an Ogg Opus file to 48 kHz: drops the pre-skip, applies the header's gain, trims the end.
pub(crate) struct OpusPcm<R> {
    packets: OpusReader<R>,
    decoder: OpusDecoder,
    skip: usize,
    decoded: Vec<f32>,
    /// Where in `decoded` the samples lie that were not given out yet.
    ready: Range<usize>,
}

impl<R: Read> OpusPcm<R> {
    pub(crate) fn new(packets: OpusReader<R>) -> Result<Self, FileError> {
        let head = packets.head();
        let mut decoder = OpusDecoder::new(SampleRate::HZ_48000, head.channels)?;
        decoder.set_gain_q8(head.gain);
        Ok(Self {
            decoder,
            skip: usize::from(head.pre_skip),
            decoded: vec![0.0; MAX_PACKET_SAMPLES * head.channels.count()],
            ready: 0..0,
            packets,
        })
    }

    pub(crate) fn channels(&self) -> Channels {
        self.packets.head().channels
    }

    /// Fills `out` with interleaved samples. Returns samples per channel: fewer than fit only at the end, then 0.
    pub(crate) fn read(&mut self, out: &mut [f32]) -> Result<usize, FileError> {
        let channels = self.channels().count();
        let whole = out.len() / channels * channels;
        let mut at = 0;
        while at < whole {
            if self.ready.is_empty() && !self.decode_next()? {
                break;
            }
            let take = self.ready.len().min(whole - at);
            let from = self.ready.start;
            out[at..at + take].copy_from_slice(&self.decoded[from..from + take]);
            self.ready.start += take;
            at += take;
        }
        Ok(at / channels)
    }

    /// Decodes until there are samples to give. `false` at the end of the file.
    fn decode_next(&mut self) -> Result<bool, FileError> {
        let channels = self.channels().count();
        while self.ready.is_empty() {
            let Some(packet) = self.packets.next_packet()? else { return Ok(false) };
            let keep = packet.keep as usize;
            let samples = self.decoder.decode(packet.data, &mut self.decoded)?.min(keep);
            let skip = self.skip.min(samples);
            self.skip -= skip;
            self.ready = skip * channels..samples * channels;
        }
        Ok(true)
    }
}
