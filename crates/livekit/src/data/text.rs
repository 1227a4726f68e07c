//! Text streams (a header, numbered chunks, a trailer) and transcriptions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::data_stream::{Chunk, CompressionType, Header, Trailer, header::ContentHeader};

use super::DataError;

/// The longest text taken from or sent in one stream, in bytes of UTF-8.
pub const TEXT_LIMIT: usize = 64 * 1024;
/// The most content a chunk carries, in bytes: what the SDKs use.
const CHUNK_LIMIT: usize = 15_000;
/// How many streams may be open at once, over all senders.
const OPEN_LIMIT: usize = 32;
/// How many attributes, and how many bytes of them, a stream keeps.
const ATTRIBUTE_LIMIT: usize = 32;
const ATTRIBUTE_BYTES: usize = 8 * 1024;
/// A stream on which nothing comes for this long is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A whole text that another participant sent.
///
/// Agents send transcriptions this way, on the topic `lk.transcription`; the attributes `lk.segment_id`,
/// `lk.transcribed_track_id` and `lk.transcription_final` say of what. [`Text::transcript`] reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The sender's identity.
    pub sender: String,
    /// The topic.
    pub topic: String,
    /// What the sender attached; the trailer's overwrite the header's.
    pub attributes: HashMap<String, String>,
    /// What it says.
    pub text: String,
}

impl Text {
    /// What was transcribed, when this is a transcription.
    #[must_use]
    pub fn transcript(&self) -> Option<Transcript> {
        if self.topic != "lk.transcription" {
            return None;
        }
        let attribute = |name: &str| self.attributes.get(name).cloned().unwrap_or_default();
        Some(Transcript {
            sender: self.sender.clone(),
            speaker: self.sender.clone(),
            track: attribute("lk.transcribed_track_id"),
            segment: attribute("lk.segment_id"),
            text: self.text.clone(),
            is_final: attribute("lk.transcription_final") != "false",
        })
    }
}

/// What someone said, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The identity of who sent it.
    pub sender: String,
    /// The identity of who spoke, where it is told; else the sender's.
    pub speaker: String,
    /// The sid of the track on which it was said; may be empty.
    pub track: String,
    /// A later transcript of the same segment replaces an earlier one; may be empty.
    pub segment: String,
    /// What was said.
    pub text: String,
    /// Whether nothing will replace it.
    pub is_final: bool,
}

impl Transcript {
    /// From the packet older agents send. Its segments become one text, final when all of them are.
    pub(crate) fn from_packet(sender: String, packet: proto::Transcription) -> Self {
        Self {
            speaker: match packet.transcribed_participant_identity {
                speaker if speaker.is_empty() => sender.clone(),
                speaker => speaker,
            },
            sender,
            track: packet.track_id,
            segment: packet.segments.first().map(|s| s.id.clone()).unwrap_or_default(),
            is_final: packet.segments.iter().all(|s| s.r#final),
            text: packet.segments.into_iter().map(|s| s.text).collect::<Vec<_>>().join(" "),
        }
    }
}

/// Puts text streams together. What breaks a limit is dropped as a whole.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: HashMap<(String, String), Open>,
}

#[derive(Debug)]
struct Open {
    topic: String,
    attributes: HashMap<String, String>,
    content: Vec<u8>,
    next_chunk: u64,
    heard: Instant,
}

impl Assembler {
    /// Opens a stream; gives the text when it is all in the header.
    pub(crate) fn header(
        &mut self,
        now: Instant,
        sender: String,
        header: Header,
    ) -> Result<Option<Text>, DataError> {
        if !matches!(header.content_header, Some(ContentHeader::TextHeader(_))) {
            return Err(stream("byte streams are not taken"));
        }
        if header.compression() != CompressionType::None {
            return Err(stream("compressed though we never said we understand that"));
        }
        if header.total_length.is_some_and(|n| n > TEXT_LIMIT as u64) {
            return Err(stream("announced longer than the limit"));
        }
        within_limits(&header.attributes)?;
        self.open.retain(|_, open| now.saturating_duration_since(open.heard) < IDLE_LIMIT);
        if let Some(content) = header.inline_content {
            return whole(sender, header.topic, header.attributes, content).map(Some);
        }
        if self.open.len() >= OPEN_LIMIT {
            return Err(stream("too many at once"));
        }
        let open = Open {
            topic: header.topic,
            attributes: header.attributes,
            content: Vec::new(),
            next_chunk: 0,
            heard: now,
        };
        self.open.insert((sender, header.stream_id), open);
        Ok(None)
    }

    /// Takes the next piece.
    pub(crate) fn chunk(&mut self, now: Instant, sender: &str, chunk: Chunk) -> Result<(), DataError> {
        let key = (sender.to_owned(), chunk.stream_id);
        let open = self.open.get_mut(&key).ok_or(stream("chunk of no open stream"))?;
        let fault = if chunk.chunk_index < open.next_chunk {
            // A chunk sent again, or rewritten: the first one counts.
            return Ok(());
        } else if chunk.chunk_index > open.next_chunk {
            "a chunk is missing"
        } else if open.content.len() + chunk.content.len() > TEXT_LIMIT {
            "longer than the limit"
        } else {
            open.next_chunk += 1;
            open.heard = now;
            open.content.extend_from_slice(&chunk.content);
            return Ok(());
        };
        self.open.remove(&key);
        Err(stream(fault))
    }

    /// Closes a stream and gives its text; nothing when the sender broke it off.
    pub(crate) fn trailer(&mut self, sender: &str, trailer: Trailer) -> Result<Option<Text>, DataError> {
        let key = (sender.to_owned(), trailer.stream_id);
        let mut open = self.open.remove(&key).ok_or(stream("end of no open stream"))?;
        if trailer.reason == "error" {
            return Ok(None);
        }
        open.attributes.extend(trailer.attributes);
        within_limits(&open.attributes)?;
        whole(key.0, open.topic, open.attributes, open.content).map(Some)
    }

    pub(crate) fn forget(&mut self, identity: &str) {
        self.open.retain(|(sender, _), _| sender != identity);
    }
}

fn whole(
    sender: String,
    topic: String,
    attributes: HashMap<String, String>,
    content: Vec<u8>,
) -> Result<Text, DataError> {
    if content.len() > TEXT_LIMIT {
        return Err(stream("longer than the limit"));
    }
    let text = String::from_utf8(content).map_err(|_| stream("not UTF-8"))?;
    Ok(Text { sender, topic, attributes, text })
}

fn within_limits(attributes: &HashMap<String, String>) -> Result<(), DataError> {
    let bytes: usize = attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
    if attributes.len() > ATTRIBUTE_LIMIT || bytes > ATTRIBUTE_BYTES {
        return Err(stream("too many attributes"));
    }
    Ok(())
}

fn stream(reason: &'static str) -> DataError {
    DataError::Stream { reason }
}

/// The pieces in which a text is sent, cut between characters.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(CHUNK_LIMIT);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, later) = rest.split_at(end);
        rest = later;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::data_stream::TextHeader;

    fn header(id: &str) -> Header {
        Header {
            stream_id: id.into(),
            topic: "lk.transcription".into(),
            attributes: HashMap::from([("lk.segment_id".into(), "s1".into())]),
            content_header: Some(ContentHeader::TextHeader(TextHeader::default())),
            ..Header::default()
        }
    }

    fn chunk(id: &str, index: u64, content: &[u8]) -> Chunk {
        Chunk { stream_id: id.into(), chunk_index: index, content: content.to_vec(), ..Chunk::default() }
    }

    fn trailer(id: &str) -> Trailer {
        Trailer {
            stream_id: id.into(),
            attributes: HashMap::from([("lk.transcription_final".into(), "true".into())]),
            ..Trailer::default()
        }
    }

    #[test]
    fn pieces_become_a_text_even_when_cut_within_a_character() {
        let (mut a, now) = (Assembler::default(), Instant::now());
        a.header(now, "agent".into(), header("x")).unwrap();
        let bytes = "grüße".as_bytes();
        a.chunk(now, "agent", chunk("x", 0, &bytes[..3])).unwrap();
        a.chunk(now, "agent", chunk("x", 0, b"again")).unwrap();
        a.chunk(now, "agent", chunk("x", 1, &bytes[3..])).unwrap();
        let text = a.trailer("agent", trailer("x")).unwrap().unwrap();
        assert_eq!(text.text, "grüße");
        let transcript = text.transcript().unwrap();
        assert_eq!((transcript.segment.as_str(), transcript.is_final), ("s1", true));
        assert!(a.open.is_empty());
    }

    #[test]
    fn a_stream_that_breaks_a_rule_is_dropped_whole() {
        let (mut a, now) = (Assembler::default(), Instant::now());
        a.header(now, "agent".into(), header("gap")).unwrap();
        assert_eq!(a.chunk(now, "agent", chunk("gap", 1, b"x")), Err(stream("a chunk is missing")));
        a.header(now, "agent".into(), header("long")).unwrap();
        a.chunk(now, "agent", chunk("long", 0, &vec![b'x'; TEXT_LIMIT])).unwrap();
        assert_eq!(a.chunk(now, "agent", chunk("long", 1, b"x")), Err(stream("longer than the limit")));
        a.header(now, "agent".into(), header("bytes")).unwrap();
        a.chunk(now, "agent", chunk("bytes", 0, b"\xff")).unwrap();
        assert_eq!(a.trailer("agent", trailer("bytes")), Err(stream("not UTF-8")));
        assert_eq!(a.chunk(now, "agent", chunk("none", 0, b"")), Err(stream("chunk of no open stream")));
        assert!(a.open.is_empty());
    }

    #[test]
    fn another_participant_cannot_write_into_a_stream() {
        let (mut a, now) = (Assembler::default(), Instant::now());
        a.header(now, "agent".into(), header("x")).unwrap();
        assert!(a.chunk(now, "mallory", chunk("x", 0, b"evil")).is_err());
        a.chunk(now, "agent", chunk("x", 0, b"good")).unwrap();
        assert_eq!(a.trailer("agent", trailer("x")).unwrap().unwrap().text, "good");
    }

    #[test]
    fn open_streams_are_bounded_and_idle_ones_make_room() {
        let (mut a, now) = (Assembler::default(), Instant::now());
        for i in 0..OPEN_LIMIT {
            a.header(now, "agent".into(), header(&i.to_string())).unwrap();
        }
        assert_eq!(a.header(now, "agent".into(), header("one more")), Err(stream("too many at once")));
        assert_eq!(a.header(now + IDLE_LIMIT, "agent".into(), header("later")), Ok(None));
        assert_eq!(a.open.len(), 1);
    }

    #[test]
    fn splitting_loses_nothing_and_keeps_characters_whole() {
        let text = "aé".repeat(20_000);
        let pieces: Vec<&str> = split(&text).collect();
        assert!(pieces.len() > 1 && pieces.iter().all(|p| p.len() <= CHUNK_LIMIT));
        assert_eq!(pieces.concat(), text);
        assert_eq!(split("").count(), 0);
    }
}
