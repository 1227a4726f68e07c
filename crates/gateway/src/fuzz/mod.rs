//! Fuzz bodies: each takes arbitrary bytes and panics if a promise is broken. Fuzz targets call them, and tests replay
//! them on every change.

mod call;
mod source;

pub use call::call;

use crate::device::envelope::Limits;
use crate::device::message::Incoming;

/// Any bytes as a message of a device: parsed or refused, and what is passed on stays what it was.
pub fn message(bytes: &[u8]) {
    let Ok(incoming) = Incoming::parse(bytes, Limits::default()) else { return };
    assert_eq!(incoming.envelope.text().as_bytes(), bytes, "the text is kept as it was");
    let text = incoming.envelope.readdressed("another");
    let again = Incoming::parse(text.as_bytes(), Limits { bytes: usize::MAX, ..Limits::default() });
    let again = again.expect("a message stays one when it is readdressed");
    assert_eq!(again.session_id.as_deref(), Some("another"));
    assert_eq!(again.message, incoming.message);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn calls(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::call(&bytes);
        }

        #[test]
        fn messages(text in r#"\{("(type|session_id|state|payload|version|features|audio_params|mode)":("(hello|listen|mcp|start|abort|\\"|\\\\|é)"|3|null|\{\}|\[1\]|\{"session_id":"x"\}),?){0,5}"type":"(hello|listen|abort|mcp|goodbye|x)"\}"#) {
            super::message(text.as_bytes());
        }
    }
}
