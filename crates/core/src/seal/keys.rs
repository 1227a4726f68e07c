//! Suites, directions, and the keys of a session.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Cipher, aead::Aead, ctr::Ctr};
use crate::error::ConfigError;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Device to gateway.
    Uplink,
    /// Gateway to device.
    Downlink,
}

/// How packets are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `compat`, as deployed firmware speaks it. No authentication.
    Aes128Ctr,
    /// `compat` with a longer key, for callers of the library; deployed firmware does not take it.
    Aes256Ctr,
    /// `sealed`.
    Aes128Gcm,
    /// `sealed`.
    Aes256Gcm,
    /// `sealed`, for devices without AES in hardware.
    ChaCha20Poly1305,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 5] =
        [Self::Aes128Ctr, Self::Aes256Ctr, Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Its name in a `hello`, such as `aes-128-ctr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Ctr => "aes-128-ctr",
            Self::Aes256Ctr => "aes-256-ctr",
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// The suite of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Bytes of its key: 16 or 32.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Ctr | Self::Aes128Gcm => 16,
            Self::Aes256Ctr | Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes of its tag: 0 or 16.
    #[must_use]
    pub const fn tag_len(self) -> usize {
        if self.is_authenticated() { 16 } else { 0 }
    }

    /// Whether a forged packet is noticed (the `sealed` profile).
    #[must_use]
    pub const fn is_authenticated(self) -> bool {
        !matches!(self, Self::Aes128Ctr | Self::Aes256Ctr)
    }
}

/// The secret of one session and what it is for. Wiped from memory when dropped; its `Debug` shows no secret.
pub struct SessionKeys {
    suite: Suite,
    connection_id: u32,
    key: Zeroizing<Vec<u8>>,
    session_id: Vec<u8>,
}

impl SessionKeys {
    /// Keys of a session. `session_id` is the salt from which the `sealed` profile derives a key a direction; the
    /// `compat` profile uses `key` as it is.
    ///
    /// # Errors
    /// [`ConfigError::KeySize`] if `key` has not the suite's length.
    pub fn new(suite: Suite, key: &[u8], connection_id: u32, session_id: &[u8]) -> Result<Self, ConfigError> {
        if key.len() != suite.key_len() {
            return Err(ConfigError::KeySize {
                suite: suite.name(),
                expected: suite.key_len(),
                actual: key.len(),
            });
        }
        let key = Zeroizing::new(key.to_vec());
        Ok(Self { suite, connection_id, key, session_id: session_id.to_vec() })
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The connection id in every header of the session.
    #[must_use]
    pub const fn connection_id(&self) -> u32 {
        self.connection_id
    }

    pub(super) fn cipher(&self, direction: Direction) -> Cipher {
        if !self.suite.is_authenticated() {
            return Cipher::Ctr(Ctr::new(&self.key));
        }
        let info: &[u8] = match direction {
            Direction::Uplink => b"evenkeel sealed v1 up",
            Direction::Downlink => b"evenkeel sealed v1 down",
        };
        let mut okm = Zeroizing::new([0u8; 32 + Aead::NONCE_LEN]);
        let okm = &mut okm[..self.suite.key_len() + Aead::NONCE_LEN];
        derive(&self.key, &self.session_id, info, okm);
        let (key, salt) = okm.split_at(self.suite.key_len());
        let mut nonce = [0; Aead::NONCE_LEN];
        nonce.copy_from_slice(salt);
        Cipher::Aead(Aead::new(self.suite, key, nonce))
    }
}

impl core::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SessionKeys")
            .field("suite", &self.suite)
            .field("connection_id", &self.connection_id)
            .finish_non_exhaustive()
    }
}

/// HKDF-SHA256 (RFC 5869).
pub(super) fn derive(ikm: &[u8], salt: &[u8], info: &[u8], okm: &mut [u8]) {
    let fits = Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, okm);
    debug_assert!(fits.is_ok(), "HKDF-SHA256 gives up to 8160 bytes");
}
