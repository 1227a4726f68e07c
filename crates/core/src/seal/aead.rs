//! AEAD with the header as associated data. AWS-LC where it builds; the RustCrypto implementations in WebAssembly.

use zeroize::Zeroize;

use super::Suite;
use crate::error::{OpenError, SealError};

/// A key and the salt of its nonces.
pub(super) struct Aead {
    key: backend::Key,
    salt: [u8; Self::NONCE_LEN],
}

impl Aead {
    pub(super) const NONCE_LEN: usize = 12;
    const TAG_LEN: usize = 16;

    /// `key` has the suite's length; [`super::SessionKeys`] saw to it.
    pub(super) fn new(suite: Suite, key: &[u8], salt: [u8; Self::NONCE_LEN]) -> Self {
        Self { key: backend::Key::new(suite, key), salt }
    }

    /// Encrypts all but the last 16 bytes of `data` and writes the tag there.
    #[inline]
    pub(super) fn seal(&self, index: u64, header: &[u8], data: &mut [u8]) -> Result<(), SealError> {
        let (payload, tag) = data.split_at_mut(data.len() - Self::TAG_LEN);
        self.key.seal(self.nonce(index), header, payload, tag)
    }

    /// Checks the tag in the last 16 bytes of `data` and decrypts what is before it.
    #[inline]
    pub(super) fn open(&self, index: u64, header: &[u8], data: &mut [u8]) -> Result<(), OpenError> {
        self.key.open(self.nonce(index), header, data)
    }

    /// The salt XOR four zero bytes, the rollover count and the sequence.
    #[inline]
    fn nonce(&self, index: u64) -> [u8; Self::NONCE_LEN] {
        let mut nonce = self.salt;
        for (byte, mask) in nonce[4..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= mask;
        }
        nonce
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod backend {
    use aws_lc_rs::aead::{self, LessSafeKey, Nonce, UnboundKey};

    use super::{OpenError, SealError, Suite};

    pub(super) struct Key(LessSafeKey);

    impl Key {
        #[allow(clippy::expect_used)]
        pub(super) fn new(suite: Suite, key: &[u8]) -> Self {
            let algorithm = match key.len() {
                16 => &aead::AES_128_GCM,
                _ if suite == Suite::Aes256Gcm => &aead::AES_256_GCM,
                _ => &aead::CHACHA20_POLY1305,
            };
            Self(LessSafeKey::new(UnboundKey::new(algorithm, key).expect("the suite checked the length")))
        }

        #[inline]
        pub(super) fn seal(
            &self,
            nonce: [u8; 12],
            header: &[u8],
            payload: &mut [u8],
            tag: &mut [u8],
        ) -> Result<(), SealError> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let sealed = self
                .0
                .seal_in_place_separate_tag(nonce, aead::Aad::from(header), payload)
                .map_err(|_| SealError::KeyExhausted)?;
            tag.copy_from_slice(sealed.as_ref());
            Ok(())
        }

        #[inline]
        pub(super) fn open(&self, nonce: [u8; 12], header: &[u8], data: &mut [u8]) -> Result<(), OpenError> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            self.0
                .open_in_place(nonce, aead::Aad::from(header), data)
                .map(|_| ())
                .map_err(|_| OpenError::Forged)
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod backend {
    use aes_gcm::aead::{AeadInOut, KeyInit};
    use aes_gcm::{Aes128Gcm, Aes256Gcm};
    use chacha20poly1305::ChaCha20Poly1305;

    use super::{OpenError, SealError, Suite};

    pub(super) enum Key {
        Aes128(Box<Aes128Gcm>),
        Aes256(Box<Aes256Gcm>),
        ChaCha(Box<ChaCha20Poly1305>),
    }

    impl Key {
        #[allow(clippy::expect_used)]
        pub(super) fn new(suite: Suite, key: &[u8]) -> Self {
            let checked = "the suite checked the length";
            match key.len() {
                16 => Self::Aes128(Box::new(Aes128Gcm::new_from_slice(key).expect(checked))),
                _ if suite == Suite::Aes256Gcm => {
                    Self::Aes256(Box::new(Aes256Gcm::new_from_slice(key).expect(checked)))
                }
                _ => Self::ChaCha(Box::new(ChaCha20Poly1305::new_from_slice(key).expect(checked))),
            }
        }

        pub(super) fn seal(
            &self,
            nonce: [u8; 12],
            header: &[u8],
            payload: &mut [u8],
            tag: &mut [u8],
        ) -> Result<(), SealError> {
            let nonce = &nonce.into();
            let payload = payload.into();
            let sealed = match self {
                Self::Aes128(key) => key.encrypt_inout_detached(nonce, header, payload),
                Self::Aes256(key) => key.encrypt_inout_detached(nonce, header, payload),
                Self::ChaCha(key) => key.encrypt_inout_detached(nonce, header, payload),
            };
            tag.copy_from_slice(&sealed.map_err(|_| SealError::KeyExhausted)?);
            Ok(())
        }

        pub(super) fn open(&self, nonce: [u8; 12], header: &[u8], data: &mut [u8]) -> Result<(), OpenError> {
            let nonce = &nonce.into();
            let (payload, tag) = data.split_at_mut(data.len() - super::Aead::TAG_LEN);
            let mut expected = [0; super::Aead::TAG_LEN];
            expected.copy_from_slice(tag);
            let (payload, tag) = (payload.into(), &expected.into());
            match self {
                Self::Aes128(key) => key.decrypt_inout_detached(nonce, header, payload, tag),
                Self::Aes256(key) => key.decrypt_inout_detached(nonce, header, payload, tag),
                Self::ChaCha(key) => key.decrypt_inout_detached(nonce, header, payload, tag),
            }
            .map_err(|_| OpenError::Forged)
        }
    }
}
