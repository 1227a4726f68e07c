//! The far end of a chat server's connection in a lane, for fuzzing and tests.

use std::io;

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::chat::audio;
use crate::chat::{Connection, wire};
use crate::lane::guest::Guest;
use crate::lane::guest::chat::{ChatGuest, Request, Told};
use crate::lane::stream::Written;
use crate::media::GuestId;
use crate::media::MediaCommand;

/// See the [module](self).
#[derive(Debug)]
pub struct FarEnd {
    requests: Option<Sender<Request>>,
    told: Receiver<Told>,
    written: Vec<u8>,
}

impl FarEnd {
    /// What has the guest go on once the last text was dealt with.
    pub const GO_ON: MediaCommand = MediaCommand::GoOn(GuestId(0));

    /// The far end, and the guest of which it is.
    #[must_use]
    pub fn new() -> (Self, Guest) {
        let (requests, asked) = mpsc::channel(64);
        let (tell, told) = mpsc::channel(4);
        let guest = Guest::Chat(Box::new(ChatGuest::new(GuestId(0), Connection::default(), asked, tell)));
        (Self { requests: Some(requests), told, written: Vec::new() }, guest)
    }

    /// Has the guest say this, which has to be nudged then.
    pub fn ask(&self, text: &str) {
        if let Some(requests) = &self.requests {
            let _ = requests.try_send(Request(text.to_owned()));
        }
    }

    /// The room leaves; the guest has to be nudged then.
    pub fn leave(&mut self) {
        self.requests = None;
    }

    /// What the room was told.
    pub fn told(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    /// Takes what a lane writes, up to so many bytes.
    ///
    /// # Errors
    /// Never.
    pub fn take(&mut self, bytes: &[u8], at_most: usize) -> io::Result<Written> {
        let count = bytes.len().min(at_most);
        self.written.extend_from_slice(&bytes[..count]);
        Ok(Written { count, is_flushed: count == bytes.len() })
    }

    /// The next frame that was written, unmasked: its first byte and its payload.
    ///
    /// # Panics
    /// If what was written is no frame of a client.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let &[first, second, ..] = &self.written[..] else { return None };
        assert!(second & 0x80 != 0, "a frame of a client is masked");
        assert!(first & 0x80 != 0, "it is never fragmented");
        let mut head = self.written.clone();
        head[1] &= 0x7f;
        let head = wire::head(&head).expect("a frame that a server may write but for its mask")?;
        let (start, end) = (head.len + 4, head.len + 4 + head.payload);
        if self.written.len() < end {
            return None;
        }
        let frame: Vec<u8> = self.written.drain(..end).collect();
        let mask = &frame[head.len..start];
        let payload = frame[start..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        Some((first, payload.collect()))
    }

    /// The packets among the frames that were written, with their timestamps; other frames are dropped.
    ///
    /// # Panics
    /// If what was written is no frame of a client.
    pub fn heard(&mut self) -> Vec<(u32, Vec<u8>)> {
        let frames = std::iter::from_fn(|| self.frame());
        let audio = frames.filter(|frame| frame.0 == 0x82);
        audio
            .map(|(_, message)| {
                let (timestamp, opus) = audio::parse(&message).expect("audio");
                (timestamp, opus.to_vec())
            })
            .collect()
    }

    /// A frame of a server, whose payload is no longer than 65,535 bytes.
    #[must_use]
    pub fn say(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(len as u8),
            len => {
                frame.push(126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// An Opus packet of a server.
    #[must_use]
    pub fn say_audio(timestamp: u32, opus: &[u8]) -> Vec<u8> {
        Self::say(0x82, &[&audio::header(timestamp, opus.len())[..], opus].concat())
    }
}
