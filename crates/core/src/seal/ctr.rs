//! AES-CTR with the packet's 16 header bytes as the counter (NIST SP 800-38A section 6.5, 128-bit big-endian).

use aes::cipher::common::InnerIvInit;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, KeyInit, StreamCipherCore};
use aes::{Aes128Enc, Aes256Enc};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;

use crate::packet::HEADER_LEN;

/// A key schedule, kept for the session.
pub(super) enum Ctr {
    Aes128(Aes128Enc),
    Aes256(Box<Aes256Enc>),
}

impl Ctr {
    /// `key` has 16 or 32 bytes; [`super::SessionKeys`] saw to it.
    pub(super) fn new(key: &[u8]) -> Self {
        if let Ok(key) = <&[u8; 32]>::try_from(key) {
            return Self::Aes256(Box::new(Aes256Enc::new(key.into())));
        }
        let mut narrow = [0; 16];
        narrow.copy_from_slice(key);
        Self::Aes128(Aes128Enc::new(&narrow.into()))
    }

    /// Encrypts or decrypts in place; the two are the same.
    #[inline]
    pub(super) fn apply(&self, counter: &[u8; HEADER_LEN], data: &mut [u8]) {
        match self {
            Self::Aes128(key) => apply(key, counter, data),
            Self::Aes256(key) => apply(&**key, counter, data),
        }
    }
}

#[inline]
fn apply<K: BlockCipherEncrypt<BlockSize = U16>>(key: &K, counter: &[u8; HEADER_LEN], data: &mut [u8]) {
    CtrCore::<&K, Ctr128BE>::inner_iv_init(key, counter.into()).apply_keystream_partial(data.into());
}
