//! Who calls: the headers of the upgrade, or its query string, as browsers can set no headers.

use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::frame::Version;
use crate::config::value::Secret;
use crate::device::credentials::{ClientId, CredentialError, MAX_FIELD};

/// What a device says of itself before anything is checked but form.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// As other transports name it: `websocket@@@MAC@@@UUID`.
    pub client: ClientId,
    /// `Device-Id` as it was written, which is what its token was signed with.
    pub device_id: String,
    /// `Client-Id`.
    pub client_id: String,
    /// `Protocol-Version`.
    pub version: Version,
    /// The bearer token.
    pub token: Secret,
}

/// A request that says not who calls.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Neither a header nor in the query.
    #[error("`{0}` is missing: give it as a header or in the query string")]
    Missing(&'static str),
    /// Too long to be real.
    #[error("`{name}` has {actual} bytes; {MAX_FIELD} is the most")]
    TooLong {
        /// Which field.
        name: &'static str,
        /// Its length, in bytes.
        actual: usize,
    },
    /// `Protocol-Version` is none of ours.
    #[error("`protocol-version` must be 1, 2 or 3")]
    Version,
    /// `Device-Id` or `Client-Id` is not as it should be.
    #[error("`device-id` must be a MAC address and `client-id` a UUID: {0}")]
    Identity(CredentialError),
}

impl Caller {
    /// Reads it. `header` gives the header of a name in lower case; `query` is the query string. Headers come first.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read<'a>(
        header: impl Fn(&'static str) -> Option<&'a str>,
        query: Option<&str>,
    ) -> Result<Self, RequestError> {
        let field = |name: &'static str| {
            let value = header(name).map(str::to_owned).or_else(|| parameter(query, name));
            match value {
                Some(value) if value.len() > MAX_FIELD => {
                    Err(RequestError::TooLong { name, actual: value.len() })
                }
                value => Ok(value.filter(|value| !value.is_empty())),
            }
        };
        let needed = |name| field(name)?.ok_or(RequestError::Missing(name));
        let (device_id, client_id) = (needed("device-id")?, needed("client-id")?);
        let version = field("protocol-version")?
            .map_or(Some(Version::default()), |number| Version::from_number(&number))
            .ok_or(RequestError::Version)?;
        let token = field("authorization")?.unwrap_or_default();
        let token = token.strip_prefix("Bearer ").unwrap_or(&token).into();
        let mac: crate::device::credentials::Mac = device_id.parse().map_err(RequestError::Identity)?;
        let name = format!("websocket@@@{}@@@{client_id}", mac.underscored());
        let client = name.parse().map_err(RequestError::Identity)?;
        Ok(Self { client, device_id, client_id, version, token })
    }
}

/// Whether it shows a token, whatever else it says.
pub(super) fn shows_token<'a>(header: impl Fn(&'static str) -> Option<&'a str>, query: Option<&str>) -> bool {
    header("authorization").is_some() || parameter(query, "authorization").is_some()
}

/// The first parameter of this name.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    // Whatever is not UTF-8 was not meant for us.
    percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "AA:bb:cc:dd:ee:ff";

    fn read(headers: &[(&str, &'static str)], query: Option<&str>) -> Result<Caller, RequestError> {
        Caller::read(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value), query)
    }

    #[test]
    fn headers_and_query_say_the_same() {
        let headers = [
            ("device-id", MAC),
            ("client-id", "u-1"),
            ("protocol-version", "3"),
            ("authorization", "Bearer a.1"),
        ];
        let by_header = read(&headers, None).unwrap();
        assert_eq!(by_header.client.text, "websocket@@@aa_bb_cc_dd_ee_ff@@@u-1");
        assert_eq!((by_header.device_id.as_str(), by_header.version), (MAC, Version::Three));
        assert_eq!(by_header.token.expose(), Some("a.1"));
        let query =
            "x&device-id=AA%3Abb%3acc:dd:ee:ff&client-id=u-1&protocol-version=3&authorization=Bearer%20a.1";
        assert_eq!(read(&[], Some(query)).unwrap(), by_header);
        let both = read(&headers, Some("client-id=other&protocol-version=2")).unwrap();
        assert_eq!(both, by_header);
        assert_eq!(read(&headers[..2], None).unwrap().version, Version::One);
    }

    #[test]
    fn what_is_missing_or_strange_is_named() {
        let error = |query: &str| read(&[], Some(query)).unwrap_err();
        assert_eq!(error(""), RequestError::Missing("device-id"));
        assert_eq!(error("device-id=aa:bb:cc:dd:ee:ff"), RequestError::Missing("client-id"));
        assert_eq!(error("device-id=a&client-id=u"), RequestError::Identity(CredentialError::Mac));
        for id in ["a%00b", "a@@@b", "%0d%0a"] {
            let query = format!("device-id=aabbccddeeff&client-id={id}");
            assert_eq!(error(&query), RequestError::Identity(CredentialError::ClientId), "{id}");
        }
        let good = "device-id=aabbccddeeff&client-id=u";
        assert_eq!(error(&format!("{good}&protocol-version=4")), RequestError::Version);
        let long = "u".repeat(MAX_FIELD + 1);
        let too_long = RequestError::TooLong { name: "client-id", actual: MAX_FIELD + 1 };
        assert_eq!(error(&format!("device-id=aabbccddeeff&client-id={long}")), too_long);
    }
}
