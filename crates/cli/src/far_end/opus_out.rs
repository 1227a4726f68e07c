//! What a listener gets, as a file of Opus packets.

use std::time::Duration;

use evenkeel_core::error::ConfigError;
use evenkeel_core::framing::Toc;
use evenkeel_core::jitter::{JitterBuffer, JitterConfig, Playout};
use evenkeel_core::seal::Opener;
use evenkeel_core::units::Time;
use evenkeel_files::{FileError, OpusWriter};

use super::{Far, Pace, Refused};
use crate::new_file::NewFile;

/// Writes packets in their turn. Where one is missing, a packet of empty frames stands for it, which makes players
/// conceal the gap and keeps time (RFC 7845, section 4.1).
pub(crate) struct OpusOut {
    opener: Opener,
    buffer: JitterBuffer,
    writer: OpusWriter<NewFile>,
    pace: Pace,
    /// Of the last packet written; none before the first.
    toc: Option<Toc>,
    refused: Refused,
}

impl OpusOut {
    pub(super) fn new(
        opener: Opener,
        jitter: JitterConfig,
        writer: OpusWriter<NewFile>,
    ) -> Result<Self, ConfigError> {
        let buffer = JitterBuffer::new(jitter)?;
        Ok(Self { opener, buffer, writer, pace: Pace::default(), toc: None, refused: Refused::default() })
    }

    pub(super) fn arrive(&mut self, at: Time, datagram: &mut [u8]) -> Result<(), FileError> {
        while let Some(now) = self.pace.before(at) {
            self.play(now)?;
        }
        match self.opener.open(datagram) {
            Ok(opened) => {
                self.pace.begin(at);
                let header = opened.header;
                let _ = self.buffer.insert(header.sequence, header.timestamp, opened.payload, at);
            }
            Err(error) => self.refused.add(error),
        }
        Ok(())
    }

    /// Plays what is held, and writes the end. With `length`, players drop what is beyond, in samples at 48 kHz.
    pub(super) fn finish(mut self, length: Option<u64>) -> Result<(NewFile, Far), FileError> {
        let end = self.pace.hang_up();
        while let Some(now) = self.pace.before(end).filter(|_| !self.buffer.is_empty()) {
            self.play(now)?;
        }
        // Silence at the end that the sender left out (DTX).
        let whole = length.map_or(0, |length| length + u64::from(self.writer.head().pre_skip));
        while let Some(toc) = self.toc.filter(|_| self.writer.samples() < whole) {
            self.writer.write(&gap(toc, Duration::from_millis(20)))?;
        }
        let played = self.writer.samples().saturating_sub(self.writer.head().pre_skip.into());
        let far = Far {
            played_samples: played.min(length.unwrap_or(u64::MAX)),
            jitter: self.buffer.stats(),
            refused: self.refused,
        };
        Ok((self.writer.finish(length)?, far))
    }

    fn play(&mut self, now: Time) -> Result<(), FileError> {
        let playout = self.buffer.next(now);
        let duration = playout.duration();
        self.pace.pass(duration);
        if let Playout::Packet { payload, .. } = playout {
            self.writer.write(payload)?;
            self.toc = payload.first().map(|&first| Toc(first));
        } else if let Some(toc) = self.toc {
            // What comes before the first packet is no part of the recording.
            self.writer.write(&gap(toc, duration))?;
        }
        Ok(())
    }
}

/// A packet of empty frames as long as `duration`: of the configuration of `toc` where that fits, else of the MDCT.
fn gap(toc: Toc, duration: Duration) -> [u8; 2] {
    let micros = duration.as_micros() as u32;
    let mdct = (28..=31).rev().map(|config| Toc(config << 3 | toc.0 & 0b100));
    let fits = |toc: &Toc| micros.is_multiple_of(toc.frame_duration_us());
    let toc = [toc].into_iter().chain(mdct).find(fits).unwrap_or(toc);
    [toc.0 | 0b11, (micros / toc.frame_duration_us()) as u8]
}
