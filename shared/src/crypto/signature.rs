//! Signed tasks: the envelope field `signature`, `{"v":1,"key":"shop-1","value":"..."}`.
//!
//! `value` is base64 of an Ed25519 signature (RFC 8032) of what decides about the run: key id, queue, kind, id, headers and
//! the payload as it is stored (sealed, if it is). Ed25519 and not a common secret, because the consumers of a signed queue
//! run programs: who takes one over can read its keys, and must not be able to sign with them.
//!
//! Not signed are the options (priority, times, attempts): Redis changes some of them, and whoever can write to it can delay
//! or drop a task anyway. A task that is put into Redis again under its id has a good signature: it is the same task once
//! more, as an unlucky redelivery would be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Binding, KeyRing};
use crate::error::Error;
use crate::name::KeyId;

/// The envelope's field.
pub const FIELD: &str = "signature";
/// The version of the form that this release makes and reads.
const VERSION: u32 = 1;

/// Why a task does not count as signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unverified {
    /// It has no signature.
    #[error("it has no signature")]
    Missing,
    /// The ring has other keys.
    #[error("it is signed with key {0}, which is not in the key ring here")]
    UnknownKey(KeyId),
    /// Key, task and signature do not fit.
    #[error("its signature with key {0} is wrong: it was changed, or signed for another task")]
    Wrong(KeyId),
    /// A later release signed it.
    #[error("it is signed in version {0}, this release knows version {VERSION}")]
    Version(u32),
    /// There is something, but no signature.
    #[error("its signature is not in the form of one")]
    Form,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// What is signed. Each part ends in a line end or has its length in front, so that no two tasks have the same bytes.
fn message(key: &KeyId, task: Binding<'_>, headers: &BTreeMap<String, String>, payload: &[u8]) -> Vec<u8> {
    let Binding { queue, kind, id } = task;
    let mut message = format!(
        "workyard.signature {VERSION}\n{key}\n{queue}\n{kind}\n{id}\n{}\n",
        headers.len()
    );
    for (name, value) in headers {
        message.push_str(&format!("{} {}\n{name}{value}\n", name.len(), value.len()));
    }
    let mut message = message.into_bytes();
    message.extend_from_slice(payload);
    message
}

impl KeyRing {
    /// The signature of a task, as the JSON of its field.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the ring has no `sign` key.
    pub fn sign(
        &self,
        task: Binding<'_>,
        headers: &BTreeMap<String, String>,
        payload: &[u8],
    ) -> Result<Box<str>, Error> {
        let invalid = |text: &str| Error::Invalid(text.to_owned());
        let key = self.current_sign();
        let key = key.ok_or_else(|| invalid("the key ring has no sign key to sign the task"))?;
        let signature = key.pair.try_sign(&message(&key.id, task, headers, payload));
        let signature = signature.map_err(|_| invalid("the task cannot be signed"))?;
        let value = STANDARD.encode(signature);
        Ok(format!("{{\"v\":{VERSION},\"key\":\"{}\",\"value\":\"{value}\"}}", key.id).into())
    }

    /// Whether a task is as it was signed, by a key of this ring; `signature` is the JSON of its field.
    ///
    /// # Errors
    /// [`Unverified`] says why not.
    pub fn verify(
        &self,
        task: Binding<'_>,
        headers: &BTreeMap<String, String>,
        payload: &[u8],
        signature: Option<&str>,
    ) -> Result<(), Unverified> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let form = |_| Unverified::Form;
        let signature = signature.ok_or(Unverified::Missing)?;
        // A later version may have other fields.
        let Version { v } = serde_json::from_str(signature).map_err(form)?;
        if v != VERSION {
            return Err(Unverified::Version(v));
        }
        let wire: Wire<'_> = serde_json::from_str(signature).map_err(form)?;
        let id = KeyId::new(&wire.key).map_err(|_| Unverified::Form)?;
        let value = STANDARD.decode(wire.value.as_bytes()).map_err(|_| Unverified::Form)?;
        let key = self.verify.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| Unverified::UnknownKey(id.clone()))?;
        UnparsedPublicKey::new(&ED25519, key.public)
            .verify(&message(&id, task, headers, payload), &value)
            .map_err(|_| Unverified::Wrong(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::TASK;

    fn signer() -> KeyRing {
        KeyRing::parse(&format!("sign s1 {}", super::super::key::encode(&[7; 32]))).unwrap()
    }

    /// As a consumer has it: the public half only.
    fn verifier() -> KeyRing {
        KeyRing::parse(&signer().public_lines().join("\n")).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Made by libsodium from the words of docs/protocol.md: seed of 32 bytes 07.
    #[test]
    fn what_another_language_signed_is_verified() {
        assert_eq!(
            verifier().public_lines(),
            ["verify s1 6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
        );
        let signature = r#"{"v": 1, "key": "s1", "value": "2PeWQ1aI2aXxqnhcQ8zYdiQnqjxF2QMFdld6Qf/Ztjs4UsuampBQdyBlzCuJA1IYxKbEXgP6e5p9HOd0adlICg=="}"#;
        let of = headers(&[("trace", "\u{e9}"), ("tenant", "7")]);
        let payload = b"{\"to\":\"ada\"}";
        assert_eq!(verifier().verify(TASK, &of, payload, Some(signature)), Ok(()));
    }

    #[test]
    fn the_public_half_verifies_and_cannot_sign() {
        let of = headers(&[("tenant", "7")]);
        let signature = signer().sign(TASK, &of, b"[1]").unwrap();
        assert_eq!(verifier().verify(TASK, &of, b"[1]", Some(&signature)), Ok(()));
        assert!(!verifier().signs() && verifier().verifies());
        assert!(verifier().sign(TASK, &of, b"[1]").is_err());
    }

    #[test]
    fn whatever_decides_about_the_run_is_signed() {
        let of = headers(&[("a", "bc")]);
        let signature = signer().sign(TASK, &of, b"[1]").unwrap();
        let wrong = Err(Unverified::Wrong(KeyId::new("s1").unwrap()));
        let verify = |task, of: &[(&str, &str)], payload: &[u8]| {
            verifier().verify(task, &headers(of), payload, Some(&signature))
        };
        assert_eq!(verify(TASK, &[("a", "bc")], b"[1]"), Ok(()));
        for task in [
            Binding { queue: "r", ..TASK },
            Binding { kind: "sen", ..TASK },
            Binding { id: "a-2", ..TASK },
        ] {
            assert_eq!(verify(task, &[("a", "bc")], b"[1]"), wrong, "{task:?}");
        }
        for of in [&[][..], &[("ab", "c")], &[("a", "bc"), ("b", "")], &[("a", "bd")]] {
            assert_eq!(verify(TASK, of, b"[1]"), wrong, "{of:?}");
        }
        assert_eq!(verify(TASK, &[("a", "bc")], b"[1] "), wrong);
    }

    #[test]
    fn what_is_no_good_signature_is_told_by_its_reason() {
        let none = BTreeMap::new();
        let verify = |text: Option<&str>| verifier().verify(TASK, &none, b"1", text).unwrap_err();
        let good = signer().sign(TASK, &none, b"1").unwrap();
        assert_eq!(verify(None), Unverified::Missing);
        assert_eq!(verify(Some("{\"v\":2}")), Unverified::Version(2));
        for text in ["7", "{}", "{\"v\":1}", "{\"v\":1,\"key\":\"s1\",\"value\":\"?\"}"] {
            assert_eq!(verify(Some(text)), Unverified::Form, "{text}");
        }
        assert!(matches!(
            verify(Some(&good.replace("s1", "s2"))),
            Unverified::UnknownKey(_)
        ));
        for value in ["", "AAAA"] {
            let text = format!("{{\"v\":1,\"key\":\"s1\",\"value\":\"{value}\"}}");
            assert!(matches!(verify(Some(&text)), Unverified::Wrong(_)), "{text}");
        }
    }
}
