//! `StreamCipher`.

use evenkeel_core::seal::PacketCipher;
use napi::bindgen_prelude::{BufferSlice, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::fault::{Fault, Outcome};
use crate::js;

/// AES-CTR with a key schedule that is kept, where `createCipheriv` makes one a packet.
#[napi]
pub struct StreamCipher {
    cipher: Option<PacketCipher>,
}

#[napi]
impl StreamCipher {
    /// A cipher with a key of 16 bytes (AES-128) or 32 (AES-256).
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, key: Unknown<'_>) -> Result<Self> {
        let cipher = packet_cipher(&env, &key).map_err(|fault| fault.throw(&env))?;
        Ok(Self { cipher: Some(cipher) })
    }

    /// Encrypts or decrypts a packet of any length with the counter `iv` of 16 bytes, into a new Buffer.
    #[napi(catch_unwind)]
    pub fn process<'env>(
        &self,
        env: &'env Env,
        iv: Unknown<'_>,
        data: Unknown<'_>,
    ) -> Result<BufferSlice<'env>> {
        let processed = || -> Outcome<Vec<u8>> {
            let (cipher, iv) = (self.cipher()?, counter(env, &iv)?);
            let mut data = js::bytes(env, &data, "data")?.into_owned();
            cipher.apply(&iv, &mut data);
            Ok(data)
        };
        BufferSlice::copy_from(env, processed().map_err(|fault| fault.throw(env))?)
    }

    /// The same in place.
    #[napi(catch_unwind)]
    pub fn process_in_place(&self, env: Env, iv: Unknown<'_>, data: Unknown<'_>) -> Result<()> {
        let processed = || -> Outcome<()> {
            let (cipher, iv) = (self.cipher()?, counter(&env, &iv)?);
            js::change_bytes(&env, &data, "data", |data| cipher.apply(&iv, data))
        };
        processed().map_err(|fault| fault.throw(&env))
    }

    /// Forgets the key. Whether it had one still.
    #[napi(catch_unwind)]
    pub fn close(&mut self) -> bool {
        self.cipher.take().is_some()
    }

    fn cipher(&self) -> Outcome<&PacketCipher> {
        self.cipher.as_ref().ok_or_else(|| Fault::closed("cipher"))
    }
}

/// A cipher with the key that was handed over.
pub(crate) fn packet_cipher(env: &Env, key: &Unknown<'_>) -> Outcome<PacketCipher> {
    let key = js::bytes(env, key, "key")?;
    PacketCipher::new(&key).map_err(|_| {
        Fault::length(format!("a key has 16 bytes (AES-128) or 32 (AES-256), not {}", key.len()))
    })
}

/// The first counter of a packet: a header, or an IV.
pub(crate) fn counter(env: &Env, value: &Unknown<'_>) -> Outcome<[u8; 16]> {
    let bytes = js::bytes(env, value, "header or IV")?;
    bytes
        .as_ref()
        .try_into()
        .map_err(|_| Fault::length(format!("a header or IV has 16 bytes, not {}", bytes.len())))
}
