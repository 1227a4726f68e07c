//! AES-CTR with the packet's 16 header bytes as the counter (NIST SP 800-38A section 6.5, 128-bit big-endian).

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128Enc, Aes256Enc, Block};

use super::Suite;
use crate::error::ConfigError;
use crate::packet::HEADER_LEN;

/// The cipher of the `compat` profile alone, for callers that write their headers themselves: a key schedule, kept for
/// the session, and a counter a packet.
///
/// Who chooses counters answers for them: two packets under one key must not have counters within `len / 16` of each
/// other. [`Sealer`](super::Sealer) sees to that; this does not.
pub struct PacketCipher(Ctr);

impl PacketCipher {
    /// A cipher with this key: AES-128 with 16 bytes, AES-256 with 32.
    ///
    /// # Errors
    /// [`ConfigError::KeySize`] for any other length.
    pub fn new(key: &[u8]) -> Result<Self, ConfigError> {
        if matches!(key.len(), 16 | 32) {
            return Ok(Self(Ctr::new(key)));
        }
        let suite = Suite::Aes256Ctr;
        Err(ConfigError::KeySize { suite: suite.name(), expected: suite.key_len(), actual: key.len() })
    }

    /// Encrypts or decrypts in place; the two are the same. The counter is the first one used, as 128 bits big-endian.
    #[inline]
    pub fn apply(&self, counter: &[u8; HEADER_LEN], data: &mut [u8]) {
        self.0.apply(counter, data);
    }
}

impl core::fmt::Debug for PacketCipher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PacketCipher").finish_non_exhaustive()
    }
}

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
        let keystream = Keystream { counter: u128::from_be_bytes(*counter), data };
        match self {
            Self::Aes128(key) => key.encrypt_with_backend(keystream),
            Self::Aes256(key) => key.encrypt_with_backend(keystream),
        }
    }
}

/// The keystream that begins at a counter, laid over data.
///
/// A mode over the cipher's own batches (crate `ctr`) takes twice as long for a packet: there a batch is 64 blocks
/// where the processor has VAES, a packet has 8, and those left over are treated apart, the last one in another call.
struct Keystream<'a> {
    counter: u128,
    data: &'a mut [u8],
}

impl BlockSizeUser for Keystream<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Keystream<'_> {
    // Always, as it must be compiled with the processor features of the backend that calls it.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut counter = self.counter;
        let mut next = || {
            let mut block = Block::from(counter.to_be_bytes());
            counter = counter.wrapping_add(1);
            backend.encrypt_block((&mut block).into());
            <[u8; 16]>::from(block)
        };
        let (blocks, rest) = self.data.as_chunks_mut::<16>();
        for block in blocks {
            *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(next())).to_ne_bytes();
        }
        if !rest.is_empty() {
            rest.iter_mut().zip(next()).for_each(|(byte, key)| *byte ^= key);
        }
    }
}
