//! Who a device is, and whether its password says so.
//!
//! A provisioning server hands out the credentials; this only checks them. See [`Gatekeeper::check`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use thiserror::Error;

/// The longest client id, username or password that is looked at, in bytes.
pub const MAX_FIELD: usize = 1024;

const SEPARATOR: &str = "@@@";

/// A MAC address, the name of a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Of nobody: locally administered, and given to no device.
    pub(crate) const NOBODY: Self = Self([2, 0, 0, 0, 0, 0]);

    /// The six bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// `aa_bb_cc_dd_ee_ff`, the form of client ids and topics.
    #[must_use]
    pub fn underscored(self) -> String {
        self.joined("_")
    }

    /// `aabbccddeeff`, the form of room names.
    #[must_use]
    pub fn hex(self) -> String {
        self.joined("")
    }

    /// The last two bytes only, for logs above DEBUG.
    #[must_use]
    pub fn shortened(self) -> String {
        format!("…{:02x}:{:02x}", self.0[4], self.0[5])
    }

    fn joined(self, separator: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(separator)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = CredentialError;

    /// Six pairs of hex digits joined by `_` or `:`, or twelve digits in a row.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let separators = match text.len() {
            17 => 1,
            12 => 0,
            _ => return Err(CredentialError::Mac),
        };
        let mut mac = [0; 6];
        for (pair, byte) in text.as_bytes().chunks(2 + separators).zip(&mut mac) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(CredentialError::Mac);
            if pair.len() == 3 && !matches!(pair[2], b'_' | b':') {
                return Err(CredentialError::Mac);
            }
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(mac))
    }
}

/// A client id taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// Whole, as the device sent it.
    pub text: String,
    /// What the provisioning server calls the kind of device; opaque.
    pub group: String,
    /// The device.
    pub mac: Mac,
    /// The installation; the MAC again on some devices, absent in two-part ids.
    pub uuid: Option<String>,
}

impl FromStr for ClientId {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_FIELD {
            return Err(CredentialError::TooLong { what: "client id", actual: text.len() });
        }
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        let (group, mac, uuid) = match parts[..] {
            [group, mac] => (group, mac, None),
            [group, mac, uuid] if !uuid.is_empty() => (group, mac, Some(uuid.to_owned())),
            _ => return Err(CredentialError::ClientId),
        };
        // The UUID travels in a header of the chat server, and every part in JSON and logs.
        if text.chars().any(char::is_control) {
            return Err(CredentialError::ClientId);
        }
        Ok(Self { text: text.to_owned(), group: group.to_owned(), mac: mac.parse()?, uuid })
    }
}

/// A device that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its client id.
    pub client: ClientId,
    /// The address the provisioning server saw it at, if its username says so and its password proves it.
    pub provisioned_ip: Option<IpAddr>,
}

/// Why a device was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not `GROUP@@@MAC@@@UUID`.
    #[error("the client id is not GROUP@@@MAC@@@UUID")]
    ClientId,
    /// No MAC address.
    #[error("not a MAC address: six pairs of hex digits joined by '_' or ':'")]
    Mac,
    /// A field that is too long to be real.
    #[error("the {what} has {actual} bytes; {MAX_FIELD} is the most")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// How long it was, in bytes.
        actual: usize,
    },
    /// The username is no base64 of JSON.
    #[error("the username is not base64 of a JSON object")]
    Username,
    /// The password is missing or wrong.
    #[error("the password is missing or wrong")]
    Password,
    /// The token is missing, malformed or signed with another key.
    #[error("the token is missing or wrong")]
    Token,
    /// The token was good once.
    #[error("the token has expired; the device must be provisioned anew")]
    Expired,
    /// A two-part client id, which nothing can prove, while a key is set.
    #[error("a client id without UUID cannot be signed; the device must be provisioned anew")]
    Unsigned,
}

impl CredentialError {
    /// The CONNACK return code of MQTT 3.1.1, section 3.2.2.3, that tells the device.
    #[must_use]
    pub fn connack_code(self) -> u8 {
        match self {
            Self::ClientId | Self::Mac | Self::TooLong { what: "client id", .. } => 2,
            Self::TooLong { .. } | Self::Username | Self::Password | Self::Token | Self::Expired => 4,
            Self::Unsigned => 5,
        }
    }
}

/// Checks credentials against the signature key.
#[derive(Clone)]
pub struct Gatekeeper {
    key: Option<hmac::Key>,
}

impl fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gatekeeper({})", if self.key.is_some() { "signed" } else { "everyone" })
    }
}

impl Gatekeeper {
    /// Lets in whoever was signed with `key`; everyone with a well-formed client id if there is none.
    #[must_use]
    pub fn new(key: Option<&str>) -> Self {
        Self { key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())) }
    }

    /// Whether a key is set.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.key.is_some()
    }

    /// Whether the device may in. Passwords are compared in constant time.
    ///
    /// # Errors
    /// [`CredentialError`] says why not, and which CONNACK code tells the device.
    pub fn check(
        &self,
        client_id: &str,
        username: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Identity, CredentialError> {
        let client = ClientId::from_str(client_id)?;
        let Some(key) = &self.key else {
            return Ok(Identity { client, provisioned_ip: None });
        };
        if client.uuid.is_none() {
            return Err(CredentialError::Unsigned);
        }
        let (username, password) =
            (username.ok_or(CredentialError::Username)?, password.ok_or(CredentialError::Password)?);
        for (what, actual) in [("username", username.len()), ("password", password.len())] {
            if actual > MAX_FIELD {
                return Err(CredentialError::TooLong { what, actual });
            }
        }
        let signature = STANDARD.decode(password).map_err(|_| CredentialError::Password)?;
        hmac::verify(key, signed_text(client_id, username).as_bytes(), &signature)
            .map_err(|_| CredentialError::Password)?;
        Ok(Identity { client, provisioned_ip: provisioned_ip(username)? })
    }

    /// Whether a device on WebSocket may in: by a token as [`sign_token`] makes it for `subject`, which at `now` (since
    /// 1970) is no older than `lifetime`. Compared in constant time.
    ///
    /// # Errors
    /// [`CredentialError`] says why not.
    pub fn check_token(
        &self,
        client: ClientId,
        subject: &str,
        token: Option<&str>,
        now: Duration,
        lifetime: Duration,
    ) -> Result<Identity, CredentialError> {
        let Some(key) = &self.key else {
            return Ok(Identity { client, provisioned_ip: None });
        };
        let (signature, unix) = token.and_then(|t| t.split_once('.')).ok_or(CredentialError::Token)?;
        let signed = unix.parse().map(Duration::from_secs).map_err(|_| CredentialError::Token)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| CredentialError::Token)?;
        hmac::verify(key, format!("{subject}|{unix}").as_bytes(), &signature)
            .map_err(|_| CredentialError::Token)?;
        if now.saturating_sub(signed) > lifetime {
            return Err(CredentialError::Expired);
        }
        Ok(Identity { client, provisioned_ip: None })
    }
}

/// The bearer token of a device on WebSocket, as a provisioning server makes it at `unix` (seconds since 1970):
/// `<HMAC-SHA256 of "subject|unix", base64url without padding>.<unix>`. The subject is `CLIENT_ID|DEVICE_ID`.
#[must_use]
pub fn sign_token(key: &str, subject: &str, unix: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = hmac::sign(&key, format!("{subject}|{unix}").as_bytes());
    format!("{}.{unix}", URL_SAFE_NO_PAD.encode(signature))
}

/// The password of a device, as a provisioning server makes it.
#[must_use]
pub fn sign(key: &str, client_id: &str, username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    STANDARD.encode(hmac::sign(&key, signed_text(client_id, username).as_bytes()))
}

fn signed_text(client_id: &str, username: &str) -> String {
    format!("{client_id}|{username}")
}

fn provisioned_ip(username: &str) -> Result<Option<IpAddr>, CredentialError> {
    #[derive(Deserialize)]
    struct UserData {
        #[serde(default)]
        ip: serde_json::Value,
    }
    let json = STANDARD.decode(username).map_err(|_| CredentialError::Username)?;
    let data: UserData = serde_json::from_slice(&json).map_err(|_| CredentialError::Username)?;
    Ok(data.ip.as_str().and_then(|ip| ip.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "Sig-Key-7";
    const ID: &str = "GID_a@@@aa_bb_cc_dd_ee_ff@@@7b94d69a-9808-4c59-9c9b-704333b38aff";
    // {"ip":"203.0.113.7"}
    const USER: &str = "eyJpcCI6IjIwMy4wLjExMy43In0=";

    fn check(id: &str, user: &str, password: &str) -> Result<Identity, CredentialError> {
        Gatekeeper::new(Some(KEY)).check(id, Some(user), Some(password.as_bytes()))
    }

    #[test]
    fn a_signed_device_is_let_in() {
        let identity = check(ID, USER, &sign(KEY, ID, USER)).unwrap();
        assert_eq!(identity.client.mac.to_string(), "aa:bb:cc:dd:ee:ff");
        assert_eq!(identity.client.mac.underscored(), "aa_bb_cc_dd_ee_ff");
        assert_eq!(identity.client.uuid.as_deref(), Some("7b94d69a-9808-4c59-9c9b-704333b38aff"));
        assert_eq!(identity.provisioned_ip, Some(IpAddr::from([203, 0, 113, 7])));
    }

    /// Computed with `openssl dgst -sha256 -hmac Sig-Key-7 -binary | base64`.
    #[test]
    fn the_password_is_what_others_compute() {
        assert_eq!(sign("Sig-Key-7", "a@@@b@@@c", "e30="), "nzVZNvppOk0RxB9Xs3ZxMW5n61f0/Rfm/bW9+0bCoJs=");
    }

    #[test]
    fn wrong_or_missing_credentials_are_refused_with_the_right_code() {
        let good = sign(KEY, ID, USER);
        let two_part = "GID_a@@@aa_bb_cc_dd_ee_ff";
        let cases = [
            (ID, USER, "", CredentialError::Password, 4),
            (ID, USER, "!!!!", CredentialError::Password, 4),
            (ID, USER, &sign("other", ID, USER), CredentialError::Password, 4),
            (ID, "e30=", &good, CredentialError::Password, 4),
            (ID, "{}", &sign(KEY, ID, "{}"), CredentialError::Username, 4),
            (ID, "bm8=", &sign(KEY, ID, "bm8="), CredentialError::Username, 4),
            (two_part, USER, &sign(KEY, two_part, USER), CredentialError::Unsigned, 5),
            ("x", USER, &good, CredentialError::ClientId, 2),
            ("a@@@aa_bb_cc_dd_ee_ff@@@", USER, &good, CredentialError::ClientId, 2),
            ("a@@@aa_bb_cc_dd_ee_ff@@@u\r\nx: y", USER, &good, CredentialError::ClientId, 2),
            ("a@@@aa-bb-cc-dd-ee-ff@@@u", USER, &good, CredentialError::Mac, 2),
            ("a@@@aa_bb_cc_dd_ee_f€@@@u", USER, &good, CredentialError::Mac, 2),
        ];
        for (id, user, password, error, code) in cases {
            assert_eq!(check(id, user, password), Err(error), "{id} {user} {password}");
            assert_eq!(error.connack_code(), code);
        }
        let gate = Gatekeeper::new(Some(KEY));
        assert_eq!(gate.check(ID, None, None), Err(CredentialError::Username));
        assert_eq!(gate.check(ID, Some(USER), None), Err(CredentialError::Password));
    }

    #[test]
    fn without_a_key_everyone_with_a_name_is_let_in() {
        let gate = Gatekeeper::new(None);
        assert!(!gate.is_signed());
        assert!(gate.check("a@@@AA:BB:CC:DD:EE:FF", None, None).is_ok());
        assert_eq!(gate.check("a", None, None), Err(CredentialError::ClientId));
    }

    /// Computed with `openssl dgst -sha256 -hmac topsecret -binary | basenc --base64url`, as servers do.
    #[test]
    fn tokens_are_checked_for_who_and_when() {
        let client = || ClientId::from_str("websocket@@@aa_bb_cc_dd_ee_ff@@@u").unwrap();
        let token = "2i6bZKiHs0w97VrFXRpyqXERjNqgcCqok6qM0lE7whw.1700000000";
        let subject = "u|aa:bb:cc:dd:ee:ff";
        assert_eq!(sign_token("topsecret", subject, 1_700_000_000), token);
        let gate = Gatekeeper::new(Some("topsecret"));
        let check = |subject: &str, token: Option<&str>, now| {
            gate.check_token(client(), subject, token, Duration::from_secs(now), Duration::from_secs(100))
        };
        assert!(check(subject, Some(token), 1_700_000_100).is_ok());
        assert_eq!(check(subject, Some(token), 1_700_000_101), Err(CredentialError::Expired));
        for wrong in [None, Some(""), Some("."), Some("2i6b.1700000000"), Some(&token[..token.len() - 1])] {
            assert_eq!(check(subject, wrong, 1_700_000_000), Err(CredentialError::Token), "{wrong:?}");
        }
        assert_eq!(check("v|aa:bb:cc:dd:ee:ff", Some(token), 1_700_000_000), Err(CredentialError::Token));
        let open = Gatekeeper::new(None);
        assert!(open.check_token(client(), subject, None, Duration::ZERO, Duration::ZERO).is_ok());
    }

    proptest! {
        #[test]
        fn no_input_panics(id in ".{0,80}", user in ".{0,40}", password in ".{0,40}") {
            let _ = check(&id, &user, &password);
        }

        #[test]
        fn macs_survive_all_three_forms(bytes: [u8; 6]) {
            let mac = Mac(bytes);
            for text in [mac.to_string(), mac.underscored(), mac.hex(), mac.hex().to_uppercase()] {
                prop_assert_eq!(text.parse::<Mac>(), Ok(mac));
            }
        }
    }
}
