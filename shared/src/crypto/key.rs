//! The three sorts of keys, each 32 bytes, as base64 in a line of the ring.
//!
//! Invariant: a key cannot be printed, only used.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

use crate::error::Error;
use crate::name::KeyId;

/// Bytes of any key.
pub(super) const KEY_BYTES: usize = 32;

/// Encrypts and decrypts.
pub(super) struct SealKey {
    pub(super) id: KeyId,
    pub(super) cipher: XChaCha20Poly1305,
    /// Another secret, made from the key: it says nothing of it.
    pub(super) mark: [u8; KEY_BYTES],
}

/// Makes signatures.
pub(super) struct SignKey {
    pub(super) id: KeyId,
    pub(super) pair: Ed25519KeyPair,
}

/// Verifies signatures; no secret.
pub(super) struct VerifyKey {
    pub(super) id: KeyId,
    pub(super) public: [u8; KEY_BYTES],
}

impl SealKey {
    pub(super) fn new(id: KeyId, key: &[u8; KEY_BYTES]) -> Self {
        let cipher = XChaCha20Poly1305::new(key.into());
        let mut mark = [0; KEY_BYTES];
        let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"workyard mark 1");
        mark.copy_from_slice(made.as_ref());
        Self { id, cipher, mark }
    }
}

impl SignKey {
    pub(super) fn new(id: KeyId, seed: &[u8; KEY_BYTES]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| Error::Invalid(format!("sign key {id} is none for Ed25519")))?;
        Ok(Self { id, pair })
    }

    /// The half that verifies.
    pub(super) fn verify_key(&self) -> Result<VerifyKey, Error> {
        let public = self.pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| Error::Invalid(format!("sign key {} has no public half", self.id)))?;
        Ok(VerifyKey {
            id: self.id.clone(),
            public,
        })
    }
}

/// The bytes of a key's text.
pub(super) fn decode(text: &str) -> Result<[u8; KEY_BYTES], String> {
    let bytes = STANDARD.decode(text).map_err(|_| "its key is not base64".to_owned())?;
    let found = bytes.len();
    bytes
        .try_into()
        .map_err(|_| format!("its key has {found} bytes, it must have {KEY_BYTES}"))
}

pub(super) fn encode(key: &[u8]) -> String {
    STANDARD.encode(key)
}

/// Bytes that nobody can guess.
///
/// # Errors
/// [`Error::Invalid`] if the system has none to give.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::Invalid("the system gives no random bytes".to_owned()))?;
    Ok(bytes)
}
