//! Who said what, in a message that a broker passed on.

use serde_json::Value;
use thiserror::Error;

use crate::device::credentials::{ClientId, CredentialError};
use crate::device::envelope::{Envelope, Limits};
use crate::device::message::MessageError;

/// Names under which brokers and rules put the sender's client id.
const SENDER_PROPERTIES: [&str; 3] = ["sender_client_id", "client_id", "clientid"];

/// A message that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IngestError {
    /// It does not say who sent it.
    #[error(
        "neither a user property `sender_client_id` nor an envelope says who sent this; set up the broker's rule"
    )]
    NoSender,
    /// The sender is no device.
    #[error("the sender is no device: {0}")]
    Sender(#[from] CredentialError),
    /// The sender's name would not be one level of a topic.
    #[error("the sender's client id has '/', '+' or '#' in it")]
    Wildcard,
    /// The envelope is not as it should be.
    #[error(transparent)]
    Envelope(#[from] MessageError),
}

/// Takes a message apart into its sender and what it said: either a rule's envelope
/// (`{"sender_client_id":…,"orginal_payload":{…}}`, spelt so in the wild), or the device's own words with the sender in
/// a user property.
///
/// # Errors
/// [`IngestError`].
pub fn parse(
    payload: &[u8],
    user_properties: &[(String, String)],
    limits: Limits,
) -> Result<(ClientId, Vec<u8>), IngestError> {
    let sender = user_properties.iter().find(|(name, _)| SENDER_PROPERTIES.contains(&name.as_str()));
    if let Some((_, sender)) = sender {
        return Ok((device(sender)?, payload.to_vec()));
    }
    // The envelope itself is a level, and some bytes, on top of the message.
    let limits = Limits { bytes: limits.bytes + 2048, depth: limits.depth + 1 };
    let envelope = Envelope::new(payload, limits)?;
    let value: Value = serde_json::from_str(envelope.text())
        .map_err(|e| MessageError::Json { line: e.line(), column: e.column() })?;
    let Value::Object(mut object) = value else { return Err(MessageError::NotAnObject.into()) };
    let Some(Value::String(sender)) = object.remove("sender_client_id") else {
        return Err(IngestError::NoSender);
    };
    let said = match object.remove("orginal_payload").or_else(|| object.remove("original_payload")) {
        Some(Value::String(text)) => text,
        Some(value @ Value::Object(_)) => value.to_string(),
        _ => return Err(MessageError::Missing { field: "original_payload" }.into()),
    };
    Ok((device(&sender)?, said.into_bytes()))
}

fn device(sender: &str) -> Result<ClientId, IngestError> {
    if sender.contains(['/', '+', '#']) {
        return Err(IngestError::Wildcard);
    }
    Ok(sender.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "GID@@@aa_bb_cc_dd_ee_ff@@@u";

    fn parsed(payload: &str, properties: &[(&str, &str)]) -> Result<(String, String), IngestError> {
        let properties: Vec<_> = properties.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let (id, said) = parse(payload.as_bytes(), &properties, Limits::default())?;
        Ok((id.text, String::from_utf8(said).unwrap()))
    }

    #[test]
    fn every_form_in_the_wild_is_understood() {
        let said = r#"{"type":"goodbye"}"#;
        let expected = Ok((ID.to_owned(), said.to_owned()));
        assert_eq!(parsed(said, &[("x", "y"), ("sender_client_id", ID)]), expected);
        for spelling in ["orginal_payload", "original_payload"] {
            assert_eq!(
                parsed(&format!(r#"{{"sender_client_id":"{ID}","{spelling}":{said}}}"#), &[]),
                expected
            );
        }
        let quoted = said.replace('"', "\\\"");
        assert_eq!(
            parsed(&format!(r#"{{"sender_client_id":"{ID}","orginal_payload":"{quoted}"}}"#), &[]),
            expected
        );
    }

    #[test]
    fn what_has_no_sender_or_a_strange_one_is_refused() {
        assert_eq!(parsed(r#"{"type":"hello"}"#, &[]), Err(IngestError::NoSender));
        assert_eq!(parsed("{}", &[("clientid", "a/#@@@aa_bb_cc_dd_ee_ff")]), Err(IngestError::Wildcard));
        assert_eq!(parsed("{}", &[("clientid", "nobody")]), Err(CredentialError::ClientId.into()));
        assert!(matches!(parsed("[", &[]), Err(IngestError::Envelope(MessageError::Json { .. }))));
        let deep = "[".repeat(100);
        assert!(matches!(parsed(&deep, &[]), Err(IngestError::Envelope(MessageError::TooDeep { .. }))));
        let missing = format!(r#"{{"sender_client_id":"{ID}","orginal_payload":3}}"#);
        assert!(matches!(parsed(&missing, &[]), Err(IngestError::Envelope(MessageError::Missing { .. }))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, &[], Limits::default());
        }
    }
}
