//! A connection to a chat server after the upgrade.

use std::ops::Range;

use evenkeel_sys::cache::prefetch_bytes;

use super::audio;
use super::wire::{self, MAX_CONTROL, MAX_HEAD, MAX_MESSAGE, Opcode, WireError};

/// Bytes that may wait for a server that does not read: 20 s of voice.
const MAX_OUTPUT: usize = 64 * 1024;

/// Memory that an idle connection keeps for the next frame, in bytes each way.
const KEPT: usize = 512;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An Opus packet.
    Audio {
        /// The server's timestamp.
        timestamp: u32,
        /// The packet.
        opus: &'a [u8],
    },
    /// A text message; whether it is UTF-8 was not looked at.
    Text(&'a [u8]),
    /// A binary message that is no audio.
    Bad,
    /// It closes, with this code if it gave one.
    Close(Option<u16>),
}

/// See the [module](super).
///
/// What was read goes in by [`Connection::push_input`] while [`Connection::wants_input`], and comes out of
/// [`Connection::poll_event`], to be called until it gives none. What is sent gathers in [`Connection::output`], and
/// is taken from there by [`Connection::consume_output`]. Each frame that is sent takes a mask from a CSPRNG.
#[derive(Debug, Default)]
pub struct Connection {
    input: Vec<u8>,
    /// Bytes of `input` that were dealt with.
    taken: usize,
    fragments: Option<Fragments>,
    output: Vec<u8>,
    /// Bytes of `output` that were sent.
    sent: usize,
    /// The server was told that it was all.
    has_closed: bool,
}

/// A message that comes in several frames, as far as it has come.
#[derive(Debug)]
struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
    is_whole: bool,
}

/// Where what a server says lies.
enum Found {
    Message { is_text: bool, range: Range<usize> },
    Fragments,
    Close(Option<u16>),
}

impl Connection {
    /// After the upgrade, of whose answer these bytes came behind.
    #[must_use]
    pub fn new(behind: &[u8]) -> Self {
        Self { input: behind.to_vec(), ..Self::default() }
    }

    /// Brings near what is on its way, which is mostly nothing, and where the next of it goes.
    pub fn foresee(&self) {
        for bytes in [&self.input, &self.output] {
            prefetch_bytes(bytes.as_ptr(), bytes.capacity().min(KEPT / 2));
        }
    }

    /// Whether there is room for more input. There is unless events were left in it.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        self.waiting() < MAX_HEAD + MAX_MESSAGE
    }

    /// How much input has come of which no event was given, in bytes.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Takes what was read.
    pub fn push_input(&mut self, bytes: &[u8]) {
        // As often as it costs less to move what waits than it did to deal with what was before it.
        if self.taken > self.waiting() {
            self.compact();
        }
        self.input.extend_from_slice(bytes);
    }

    /// What the server says next; `None` until there is more input. Pings are answered.
    ///
    /// # Errors
    /// [`WireError`]: nothing that comes after it can be read.
    pub fn poll_event(&mut self, random: impl FnMut() -> u32) -> Result<Option<Event<'_>>, WireError> {
        let (is_text, message) = match self.advance(random)? {
            None => return Ok(None),
            Some(Found::Close(code)) => return Ok(Some(Event::Close(code))),
            Some(Found::Message { is_text, range }) => (is_text, &self.input[range]),
            Some(Found::Fragments) => match &self.fragments {
                Some(Fragments { is_text, bytes, .. }) => (*is_text, &bytes[..]),
                None => return Ok(None),
            },
        };
        if is_text {
            return Ok(Some(Event::Text(message)));
        }
        Ok(Some(match audio::parse(message) {
            Ok((timestamp, opus)) => Event::Audio { timestamp, opus },
            Err(_) => Event::Bad,
        }))
    }

    fn advance(&mut self, mut random: impl FnMut() -> u32) -> Result<Option<Found>, WireError> {
        // A message in fragments was given by the call before.
        self.fragments.take_if(|fragments| fragments.is_whole);
        loop {
            let rest = &self.input[self.taken..];
            let Some(head) = wire::head(rest)?.filter(|head| rest.len() >= head.len + head.payload) else {
                self.compact();
                return Ok(None);
            };
            let start = self.taken + head.len;
            let range = start..start + head.payload;
            self.taken = range.end;
            match (head.opcode, &mut self.fragments) {
                (Opcode::Text | Opcode::Binary, Some(_)) | (Opcode::Continuation, None) => {
                    return Err(WireError::Order);
                }
                (Opcode::Text | Opcode::Binary, None) => {
                    let is_text = head.opcode == Opcode::Text;
                    if head.is_last {
                        return Ok(Some(Found::Message { is_text, range }));
                    }
                    let bytes = self.input[range].to_vec();
                    self.fragments = Some(Fragments { is_text, bytes, is_whole: false });
                }
                (Opcode::Continuation, Some(fragments)) => {
                    let actual = fragments.bytes.len() + head.payload;
                    if actual > MAX_MESSAGE {
                        return Err(WireError::Oversized { actual: actual as u64 });
                    }
                    fragments.bytes.extend_from_slice(&self.input[range]);
                    fragments.is_whole = head.is_last;
                    if head.is_last {
                        return Ok(Some(Found::Fragments));
                    }
                }
                (Opcode::Ping, _) => {
                    let mut payload = [0; MAX_CONTROL];
                    let payload = &mut payload[..head.payload];
                    payload.copy_from_slice(&self.input[range]);
                    self.send(Opcode::Pong, &[payload], random());
                }
                (Opcode::Pong, _) => {}
                (Opcode::Close, _) => {
                    let code = self.input[range].first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                    return Ok(Some(Found::Close(code)));
                }
            }
        }
    }

    /// Forgets input that was dealt with. Mostly that is all of it.
    fn compact(&mut self) {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = Vec::new();
        }
    }

    /// Says this. `false` if too much waits already: it is not said.
    pub fn send_text(&mut self, text: &str, mask: u32) -> bool {
        self.send(Opcode::Text, &[text.as_bytes()], mask)
    }

    /// Sends an Opus packet; returns as [`Connection::send_text`].
    pub fn send_audio(&mut self, timestamp: u32, opus: &[u8], mask: u32) -> bool {
        self.send(Opcode::Binary, &[&audio::header(timestamp, opus.len()), opus], mask)
    }

    /// Asks whether the server is there.
    pub fn send_ping(&mut self, mask: u32) -> bool {
        self.send(Opcode::Ping, &[], mask)
    }

    /// Says that it was all, unless that was said before; nothing can be sent from then on.
    pub fn send_close(&mut self, code: u16, mask: u32) {
        self.send(Opcode::Close, &[&code.to_be_bytes()], mask);
        self.has_closed = true;
    }

    fn send(&mut self, opcode: Opcode, parts: &[&[u8]], mask: u32) -> bool {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        // Room is kept for one word more: that it was all.
        let limit = if opcode == Opcode::Close { MAX_OUTPUT } else { MAX_OUTPUT - 16 };
        let fits = self.output().len() + wire::overhead(payload) + payload <= limit;
        let is_sent = fits && !self.has_closed;
        if is_sent {
            wire::emit(opcode, parts, mask, &mut self.output);
        }
        is_sent
    }

    /// What has to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// So many bytes of it were sent.
    pub fn consume_output(&mut self, count: usize) {
        self.sent = self.output.len().min(self.sent + count);
        if self.sent == self.output.len() {
            self.output.clear();
            if self.output.capacity() > KEPT {
                self.output = Vec::new();
            }
            self.sent = 0;
        } else if self.sent >= MAX_OUTPUT / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as servers write them.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(len as u8),
            len => {
                frame.push(126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        [frame, payload.to_vec()].concat()
    }

    fn audio(fill: u8) -> Vec<u8> {
        frame(0x82, &[&audio::header(u32::from(fill), 3)[..], &[fill; 3]].concat())
    }

    /// Everything that is said, one word each.
    fn said(connection: &mut Connection) -> Vec<String> {
        let mut words = Vec::new();
        loop {
            match connection.poll_event(|| 0) {
                Ok(None) => return words,
                Ok(Some(Event::Audio { timestamp, opus })) => {
                    words.push(format!("audio {timestamp} {opus:?}"))
                }
                Ok(Some(Event::Text(text))) => words.push(format!("text {}", String::from_utf8_lossy(text))),
                Ok(Some(other)) => words.push(format!("{other:?}")),
                Err(error) => {
                    words.push(error.to_string());
                    return words;
                }
            }
        }
    }

    #[test]
    fn whatever_way_it_is_cut_the_same_is_heard() {
        let long = "x".repeat(300);
        let stream = [
            audio(1),
            frame(0x81, long.as_bytes()),
            frame(0x01, b"in "),
            frame(0x89, b"there?"),
            frame(0x00, b"three "),
            frame(0x80, b"parts"),
            audio(2),
            frame(0x02, &audio::header(9, 2)),
            frame(0x80, &[7, 8]),
            frame(0x82, b"short"),
            frame(0x8a, b""),
            frame(0x88, &[3, 0xe8]),
        ]
        .concat();
        let long = format!("text {long}");
        let expected = [
            "audio 1 [1, 1, 1]",
            &long,
            "text in three parts",
            "audio 2 [2, 2, 2]",
            "audio 9 [7, 8]",
            "Bad",
            "Close(Some(1000))",
        ];
        for step in [1, 2, 3, 7, 100, stream.len()] {
            let mut connection = Connection::new(&stream[..step.min(5)]);
            let mut words = said(&mut connection);
            for chunk in stream[step.min(5)..].chunks(step) {
                assert!(connection.wants_input());
                connection.push_input(chunk);
                words.extend(said(&mut connection));
            }
            assert_eq!(words, expected, "in steps of {step}");
            assert_eq!(connection.output(), [&[0x8a, 0x86, 0, 0, 0, 0][..], b"there?"].concat());
            assert!(connection.input.capacity() <= KEPT && connection.fragments.is_none());
        }
    }

    #[test]
    fn a_server_that_is_always_a_message_ahead_costs_no_more_for_that() {
        let message = frame(0x81, &[b'x'; 1000]);
        let mut connection = Connection::new(&message);
        for _ in 0..1000 {
            connection.push_input(&message);
            let event = connection.poll_event(|| 0).unwrap();
            assert!(matches!(event, Some(Event::Text(text)) if text.len() == 1000));
            assert_eq!(connection.waiting(), message.len());
            assert!(connection.input.len() <= 4 * message.len(), "{}", connection.input.len());
        }
    }

    #[test]
    fn fragments_out_of_order_or_without_end_are_refused() {
        let ended = |frames: &[Vec<u8>]| said(&mut Connection::new(&frames.concat())).pop().unwrap();
        assert_eq!(ended(&[frame(0x80, b"x")]), WireError::Order.to_string());
        assert_eq!(ended(&[frame(0x01, b"x"), frame(0x81, b"y")]), WireError::Order.to_string());
        let mut connection = Connection::new(&frame(0x02, &[0; 60_000]));
        for _ in 0..3 {
            connection.push_input(&frame(0x00, &[0; 60_000]));
            assert!(said(&mut connection).is_empty());
        }
        connection.push_input(&frame(0x00, &[0; 60_000]));
        assert_eq!(said(&mut connection), [WireError::Oversized { actual: 300_000 }.to_string()]);
    }

    #[test]
    fn a_server_that_does_not_read_costs_no_more_than_the_limit() {
        let mut connection = Connection::default();
        let sent = (0..1000).filter(|_| connection.send_audio(0, &[8; 200], 0)).count();
        assert!((250..300).contains(&sent), "{sent}");
        connection.push_input(&frame(0x89, b"?"));
        assert!(said(&mut connection).is_empty());
        connection.send_close(1000, 0);
        let waiting = connection.output().len();
        assert!(waiting <= MAX_OUTPUT);
        connection.consume_output(waiting - 8);
        assert_eq!(connection.output(), [0x88, 0x82, 0, 0, 0, 0, 3, 0xe8], "there is room for a last word");
        connection.send_close(1000, 0);
        assert!(!connection.send_text("again", 0), "nothing comes behind it");
        connection.consume_output(8);
        assert!(connection.output().is_empty() && connection.output.capacity() <= KEPT);
    }
}
