//! What a provisioning server would have given the device.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Who a device is, and its proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// `GROUP@@@aa_bb_cc_dd_ee_ff@@@UUID`.
    pub client_id: String,
    /// base64 of JSON.
    pub username: String,
    /// Empty if nothing was signed.
    pub password: String,
}

impl Identity {
    /// A device of this MAC address. With the gateway's signature key it can prove who it is.
    #[must_use]
    pub fn new(group: &str, mac: [u8; 6], uuid: &str, signature_key: Option<&str>) -> Self {
        let mac = mac.map(|byte| format!("{byte:02x}")).join("_");
        let client_id = format!("{group}@@@{mac}@@@{uuid}");
        let username = STANDARD.encode(r#"{"ip":"127.0.0.1"}"#);
        let password = signature_key.map_or_else(String::new, |key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            STANDARD.encode(hmac::sign(&key, format!("{client_id}|{username}").as_bytes()))
        });
        Self { client_id, username, password }
    }

    /// The device of this number: addresses are locally administered and start with `tag`.
    #[must_use]
    pub fn numbered(number: u32, tag: u8, signature_key: Option<&str>) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        let uuid = format!("00000000-0000-4000-8000-{tag:02x}00{number:08x}");
        Self::new("GID_evenkeel", [2, tag, a, b, c, d], &uuid, signature_key)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_signature_of_id_and_username() {
        let identity = Identity::new("G", [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff], "u", Some("key"));
        assert_eq!(identity.client_id, "G@@@aa_bb_cc_dd_ee_ff@@@u");
        // printf '%s' 'G@@@aa_bb_cc_dd_ee_ff@@@u|eyJpcCI6IjEyNy4wLjAuMSJ9' | openssl dgst -sha256 -hmac key -binary | base64
        assert_eq!(identity.username, "eyJpcCI6IjEyNy4wLjAuMSJ9");
        assert_eq!(identity.password, "2WjvkRdZ4UbsumGaFXrvtrY41941TwGVXeheQ34h/vQ=");
        assert_eq!(Identity::numbered(258, 7, None).client_id.split("@@@").nth(1), Some("02_07_00_00_01_02"));
    }
}
