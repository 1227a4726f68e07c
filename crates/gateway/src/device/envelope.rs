//! JSON text checked for size and depth before it is parsed, and re-addressed without being re-serialised.
//!
//! Messages pass between device and room as they were written: only the value of `session_id` is exchanged, because
//! each side knows the session by an id of its own.

use std::ops::Range;

use super::message::MessageError;

/// What a message may cost before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes.
    pub bytes: usize,
    /// The deepest nesting of objects and arrays.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 8192, depth: 16 }
    }
}

/// Text that is within its [`Limits`], and where its top-level `session_id` stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    text: String,
    session: Option<Range<usize>>,
}

impl Envelope {
    /// Checks size, UTF-8 and depth in one pass. Whether it is JSON is for the parser to say.
    ///
    /// # Errors
    /// [`MessageError::Oversized`], [`MessageError::Utf8`], [`MessageError::TooDeep`].
    pub fn new(bytes: &[u8], limits: Limits) -> Result<Self, MessageError> {
        if bytes.len() > limits.bytes {
            return Err(MessageError::Oversized { limit: limits.bytes, actual: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| MessageError::Utf8)?;
        let session = scan(text.as_bytes(), limits.depth)?;
        Ok(Self { text: text.to_owned(), session })
    }

    /// The message as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it has a `session_id`.
    #[must_use]
    pub const fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// The message, with `id` for its `session_id`; added if it had none.
    #[must_use]
    pub fn readdressed(&self, id: &str) -> String {
        let id = serde_json::Value::from(id).to_string();
        let mut out = self.text.clone();
        match &self.session {
            Some(range) => out.replace_range(range.clone(), &id),
            None => {
                let Some(open) = out.find('{') else { return out };
                let empty = out[open + 1..].trim_start().starts_with('}');
                let field = format!("\"session_id\":{id}{}", if empty { "" } else { "," });
                out.insert_str(open + 1, &field);
            }
        }
        out
    }
}

/// Finds the value of the last `session_id` at the top level, as parsers do that let the last one win.
fn scan(bytes: &[u8], max_depth: usize) -> Result<Option<Range<usize>>, MessageError> {
    let mut depth = 0usize;
    let mut session = None;
    let mut is_key = false;
    let mut of_session = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                depth += 1;
                if depth > max_depth {
                    return Err(MessageError::TooDeep { limit: max_depth });
                }
                is_key = depth == 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => is_key = true,
            b':' if depth == 1 => is_key = false,
            b'"' => {
                let end = string_end(bytes, at);
                if depth == 1 && is_key {
                    of_session = is_session(&bytes[at..end]);
                } else if depth == 1 && of_session {
                    session = Some(at..end);
                }
                at = end;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => {}
            _ => {
                let start = at;
                while at < bytes.len()
                    && !matches!(bytes[at], b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
                {
                    at += 1;
                }
                if depth == 1 && of_session && !is_key {
                    session = Some(start..at);
                }
                continue;
            }
        }
        at += 1;
    }
    Ok(session)
}

/// Whether a key is `session_id`, in whatever way it is written: parsers do not tell `\u0073ession_id` from it.
fn is_session(key: &[u8]) -> bool {
    const NAME: &str = "session_id";
    match key.contains(&b'\\') {
        false => key.get(1..key.len() - 1) == Some(NAME.as_bytes()),
        true => serde_json::from_slice::<String>(key).is_ok_and(|key| key == NAME),
    }
}

/// One past the closing quote of the string that opens at `open`, or the end of the text.
fn string_end(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'"' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn readdressed(text: &str) -> String {
        Envelope::new(text.as_bytes(), Limits::default()).unwrap().readdressed("new")
    }

    #[test]
    fn only_the_top_level_session_id_changes() {
        assert_eq!(
            readdressed(r#"{"a":{"session_id":"x"}, "session_id" : "old","b":"session_id","n":1.0}"#),
            r#"{"a":{"session_id":"x"}, "session_id" : "new","b":"session_id","n":1.0}"#
        );
        assert_eq!(readdressed(r#"{"type":"a"}"#), r#"{"session_id":"new","type":"a"}"#);
        assert_eq!(readdressed(r#"{"session_id":null,"n":2}"#), r#"{"session_id":"new","n":2}"#);
        assert_eq!(readdressed("{ }"), r#"{"session_id":"new" }"#);
        assert_eq!(
            readdressed(r#"{"k":"q\"session_id","session_id":"o\"\\"}"#),
            r#"{"k":"q\"session_id","session_id":"new"}"#
        );
        assert_eq!(
            readdressed(r#"{"\u0073ession_id":"old","session\u005Fidx":"other"}"#),
            r#"{"\u0073ession_id":"new","session\u005Fidx":"other"}"#,
            "however it is written"
        );
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let limits = Limits { bytes: 100, depth: 3 };
        assert!(Envelope::new(b"[[[1]]]", limits).is_ok());
        assert!(Envelope::new(br#"{"a":"[[[[[["}"#, limits).is_ok());
        assert_eq!(Envelope::new(b"[[[[1]]]]", limits), Err(MessageError::TooDeep { limit: 3 }));
        let deep = "[".repeat(101);
        assert_eq!(
            Envelope::new(deep.as_bytes(), limits),
            Err(MessageError::Oversized { limit: 100, actual: 101 })
        );
        assert_eq!(Envelope::new(&[0xff, 0xfe], limits), Err(MessageError::Utf8));
    }

    proptest! {
        #[test]
        fn readdressing_keeps_json_json(
            keys in proptest::collection::vec(("[a-z_]{0,6}|session_id", ".{0,12}"), 0..6),
            id in ".{0,20}",
        ) {
            let mut object = serde_json::Map::new();
            for (key, value) in keys {
                object.insert(key, json!(value));
            }
            let text = Value::Object(object.clone()).to_string();
            let envelope = Envelope::new(text.as_bytes(), Limits::default()).unwrap();
            let out: Value = serde_json::from_str(&envelope.readdressed(&id)).unwrap();
            object.insert("session_id".into(), json!(id));
            prop_assert_eq!(out, Value::Object(object));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(envelope) = Envelope::new(&bytes, Limits::default()) {
                let _ = envelope.readdressed("id");
            }
        }
    }
}
