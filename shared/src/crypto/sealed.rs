//! Sealed payloads and results: `{"workyard.sealed":1,"key":"2026-11","data":"..."}`.
//!
//! `data` is base64 of nonce (24 bytes), ciphertext and tag (16 bytes) of XChaCha20-Poly1305. The nonce is random: with 192
//! bits no two are ever alike, so that no counter has to survive a crash. Associated data binds it to what it was made for:
//! `workyard.sealed 1 payload` (or another [`Part`]), key id, queue, kind and id, a line each, none at the end. Ciphertext that is
//! moved to another task, another queue, a kind with another handler, or from result to payload does not open there.
//!
//! Invariant: it begins with the bytes of [`PREFIX`], so that whoever has no keys finds out by comparing a few bytes; JSON
//! that begins so is sealed or damaged, never plain.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chacha20poly1305::{AeadInOut, Tag, XNonce};
use serde::Deserialize;

use super::key::random;
use super::{Binding, KeyRing};
use crate::error::Error;
use crate::limits::MAX_SEALED_BYTES;
use crate::name::KeyId;

/// What every sealed payload and result begins with.
pub const PREFIX: &[u8] = b"{\"workyard.sealed\":";
/// The version of the form that this release makes and reads.
const VERSION: u32 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// What was sealed: one does not pass for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the handler gets.
    Payload,
    /// What it returned.
    Result,
    /// The description of a job's chunk. Kind and id of what belongs to a job: see [`super::job`].
    Chunk,
    /// Arguments of a job's function.
    Arguments,
    /// A block of an output of a job's task.
    Data,
    /// Why a job's task failed.
    Error,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Result => "result",
            Self::Chunk => "chunk",
            Self::Arguments => "arguments",
            Self::Data => "data",
            Self::Error => "error",
        }
    }
}

/// Why something sealed cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unopened {
    /// There are no keys at all here.
    #[error("sealed with key {0}, and no key ring was given here")]
    NoKeys(KeyId),
    /// The ring has other keys.
    #[error("sealed with key {0}, which is not in the key ring here")]
    UnknownKey(KeyId),
    /// Key and ciphertext do not fit.
    #[error("sealed with key {0}, but it does not open: it was changed, or was sealed for another place")]
    Damaged(KeyId),
    /// A later release sealed it.
    #[error("sealed in version {0}, this release knows version {VERSION}")]
    Version(u32),
    /// It begins as what is sealed does, and does not go on so.
    #[error("sealed, but is not in that form: {0}")]
    Form(&'static str),
}

impl Unopened {
    /// Why something sealed is not opened where there are no keys at all.
    #[must_use]
    pub fn without_keys(sealed: &[u8]) -> Self {
        key_of(sealed).map_or_else(|why| why, Self::NoKeys)
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl<'a> Wire<'a> {
    fn parse(sealed: &'a [u8]) -> Result<(Self, KeyId), Unopened> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "workyard.sealed")]
            version: u32,
        }
        // A later version may have other fields.
        let form = |_| Unopened::Form("it needs workyard.sealed, key and data");
        let Version { version } = serde_json::from_slice(sealed).map_err(form)?;
        if version != VERSION {
            return Err(Unopened::Version(version));
        }
        let wire: Self = serde_json::from_slice(sealed).map_err(form)?;
        let key = KeyId::new(&wire.key).map_err(|_| Unopened::Form("its key must match [A-Za-z0-9._-]{1,64}"))?;
        Ok((wire, key))
    }
}

/// Whether a payload or result is sealed: a comparison of a few bytes.
#[must_use]
pub fn is_sealed(json: &[u8]) -> bool {
    json.starts_with(PREFIX)
}

/// The key that something sealed needs.
///
/// # Errors
/// [`Unopened`] if it is not in the form of this release.
pub fn key_of(sealed: &[u8]) -> Result<KeyId, Unopened> {
    Wire::parse(sealed).map(|(_, key)| key)
}

fn associated(part: Part, key: &KeyId, binding: Binding<'_>) -> String {
    let Binding { queue, kind, id } = binding;
    // Only the id could hold a line end, if somebody wrote it past the functions; it stands last.
    format!(
        "workyard.sealed {VERSION} {}\n{key}\n{queue}\n{kind}\n{id}",
        part.as_str()
    )
}

impl KeyRing {
    /// Seals JSON of a task with the current key.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it exceeds [`MAX_SEALED_BYTES`], or the ring has no `encrypt` key.
    pub fn seal(&self, part: Part, binding: Binding<'_>, plain: &[u8]) -> Result<Bytes, Error> {
        let part_name = part.as_str();
        if plain.len() > MAX_SEALED_BYTES {
            return Err(Error::Invalid(format!(
                "{part_name} has {} bytes, at most {MAX_SEALED_BYTES} can be sealed",
                plain.len()
            )));
        }
        let key = self.current_seal();
        let key =
            key.ok_or_else(|| Error::Invalid(format!("the key ring has no encrypt key to seal the {part_name}")))?;
        let nonce: [u8; NONCE_BYTES] = random()?;
        let mut data = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
        data.extend_from_slice(&nonce);
        data.extend_from_slice(plain);
        let associated = associated(part, &key.id, binding);
        let tag = key
            .cipher
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                associated.as_bytes(),
                (&mut data[NONCE_BYTES..]).into(),
            )
            .map_err(|_| Error::Invalid(format!("the {part_name} cannot be encrypted")))?;
        data.extend_from_slice(&tag);
        let head = format!("{{\"workyard.sealed\":{VERSION},\"key\":\"{}\",\"data\":\"", key.id);
        let mut sealed = String::with_capacity(head.len() + data.len().div_ceil(3) * 4 + 2);
        sealed.push_str(&head);
        STANDARD.encode_string(&data, &mut sealed);
        sealed.push_str("\"}");
        Ok(sealed.into())
    }

    /// Opens what was sealed for this task.
    ///
    /// # Errors
    /// [`Unopened`] says why not; no text holds what was sealed.
    pub fn open(&self, part: Part, binding: Binding<'_>, sealed: &[u8]) -> Result<Bytes, Unopened> {
        let (wire, id) = Wire::parse(sealed)?;
        let key = self.seal.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| match self.seals() {
            true => Unopened::UnknownKey(id.clone()),
            false => Unopened::NoKeys(id.clone()),
        })?;
        let damaged = || Unopened::Damaged(id.clone());
        let mut data = STANDARD.decode(wire.data.as_bytes()).map_err(|_| damaged())?;
        let text_bytes = data.len().checked_sub(NONCE_BYTES + TAG_BYTES).ok_or_else(damaged)?;
        let nonce: [u8; NONCE_BYTES] = data[..NONCE_BYTES].try_into().map_err(|_| damaged())?;
        let tag: [u8; TAG_BYTES] = data[NONCE_BYTES + text_bytes..].try_into().map_err(|_| damaged())?;
        data.truncate(NONCE_BYTES + text_bytes);
        let associated = associated(part, &id, binding);
        key.cipher
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                associated.as_bytes(),
                (&mut data[NONCE_BYTES..]).into(),
                &Tag::from(tag),
            )
            .map_err(|_| damaged())?;
        Ok(Bytes::from(data).slice(NONCE_BYTES..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::TASK;
    use crate::limits::MAX_PAYLOAD_BYTES;

    fn ring(letters: &[(&str, u8)]) -> KeyRing {
        let line = |(id, letter): &(&str, u8)| format!("encrypt {id} {}\n", super::super::key::encode(&[*letter; 32]));
        KeyRing::parse(&letters.iter().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_byte_for_byte_and_shows_nothing_of_itself() {
        let ring = ring(&[("k1", 1)]);
        for plain in ["null", "{\"secret\": [1.0, 1e400,\n\"\u{e9}\"]}", ""] {
            let sealed = ring.seal(Part::Payload, TASK, plain.as_bytes()).unwrap();
            assert!(is_sealed(&sealed) && serde_json::from_slice::<serde_json::Value>(&sealed).is_ok());
            assert!(plain.is_empty() || !sealed.windows(plain.len()).any(|found| found == plain.as_bytes()));
            assert_eq!(key_of(&sealed).unwrap().as_str(), "k1");
            assert_eq!(ring.open(Part::Payload, TASK, &sealed).unwrap(), plain.as_bytes());
            let again = ring.seal(Part::Payload, TASK, plain.as_bytes()).unwrap();
            assert_ne!(sealed, again, "a nonce of its own each time");
        }
    }

    /// Made by libsodium from the words of docs/protocol.md: key of 32 bytes 01, nonce 00 to 17.
    #[test]
    fn what_another_language_sealed_opens() {
        let sealed = r#"{"workyard.sealed": 1, "key": "k1", "data": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXA/Kv6r+r9emHJ0g10vXVCMtEtNwwcHyL1XdmqQ=="}"#;
        let opened = ring(&[("k1", 1)]).open(Part::Payload, TASK, sealed.as_bytes());
        assert_eq!(opened.unwrap(), "{\"to\":\"ada\"}");
    }

    #[test]
    fn ciphertext_opens_for_its_own_task_only() {
        let ring = ring(&[("k1", 1)]);
        let sealed = ring.seal(Part::Payload, TASK, b"[1]").unwrap();
        let damaged = Err(Unopened::Damaged(KeyId::new("k1").unwrap()));
        assert_eq!(ring.open(Part::Result, TASK, &sealed), damaged);
        for other in [
            Binding { queue: "q2", ..TASK },
            Binding { kind: "sen", ..TASK },
            Binding { id: "a-2", ..TASK },
        ] {
            assert_eq!(ring.open(Part::Payload, other, &sealed), damaged, "{other:?}");
        }
    }

    #[test]
    fn each_changed_byte_is_noticed() {
        let ring = ring(&[("k1", 1), ("k2", 2)]);
        let sealed = ring.seal(Part::Payload, TASK, b"{\"amount\":1}").unwrap();
        for place in 0..sealed.len() {
            for change in [1, 0x20] {
                let mut changed = sealed.to_vec();
                changed[place] ^= change;
                assert!(
                    ring.open(Part::Payload, TASK, &changed).is_err(),
                    "byte {place} ^ {change}"
                );
            }
        }
        let short = String::from_utf8(sealed.to_vec()).unwrap();
        let data = short.split('"').nth(9).unwrap();
        for cut in ["", &data[..4], &data[..52], &data[4..]] {
            assert!(
                ring.open(Part::Payload, TASK, short.replace(data, cut).as_bytes())
                    .is_err()
            );
        }
    }

    #[test]
    fn a_key_is_exchanged_in_three_steps() {
        let (old, new) = (("old", 1), ("new", 2));
        let before = ring(&[old]).seal(Part::Payload, TASK, b"1").unwrap();
        let after = ring(&[new, old]).seal(Part::Payload, TASK, b"2").unwrap();
        assert_eq!(key_of(&after).unwrap().as_str(), "new");
        let both = ring(&[new, old]);
        assert_eq!(both.open(Part::Payload, TASK, &before).unwrap(), "1");
        assert_eq!(ring(&[old, new]).open(Part::Payload, TASK, &after).unwrap(), "2");
        let error = ring(&[new]).open(Part::Payload, TASK, &before).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sealed with key old, which is not in the key ring here"
        );
        assert!(matches!(
            ring(&[("old", 9)]).open(Part::Payload, TASK, &before),
            Err(Unopened::Damaged(_))
        ));
    }

    #[test]
    fn forms_of_others_are_told_apart() {
        let ring = ring(&[("k1", 1)]);
        let open = |text: &str| ring.open(Part::Payload, TASK, text.as_bytes()).unwrap_err();
        assert_eq!(open("{\"workyard.sealed\":2,\"box\":1}"), Unopened::Version(2));
        assert!(matches!(open("{\"workyard.sealed\":1}"), Unopened::Form(_)));
        assert!(matches!(
            open("{\"workyard.sealed\":1,\"key\":\"a b\",\"data\":\"\"}"),
            Unopened::Form(_)
        ));
        // As other languages write it: white space, and slashes escaped.
        let sealed = ring.seal(Part::Payload, TASK, &[b'1'; 999]).unwrap();
        let text = String::from_utf8(sealed.to_vec()).unwrap();
        assert!(text.contains('/'), "a thousand random bytes have one");
        let text = text
            .replace('/', "\\/")
            .replace("1,\"", "1, \"")
            .replace("\":\"", "\": \"");
        assert_eq!(
            ring.open(Part::Payload, TASK, text.as_bytes()).unwrap(),
            vec![b'1'; 999]
        );
        assert!(!is_sealed(b"{\"workyard\":1}") && !is_sealed(b"") && !is_sealed(b"[1]"));
    }

    #[test]
    fn the_largest_that_can_be_sealed_fits_into_a_payload() {
        let ring = ring(&[(&"k".repeat(64), 1)]);
        let sealed = ring.seal(Part::Payload, TASK, &vec![b' '; MAX_SEALED_BYTES]).unwrap();
        assert!(sealed.len() <= MAX_PAYLOAD_BYTES, "{}", sealed.len());
        let error = ring.seal(Part::Result, TASK, &vec![b' '; MAX_SEALED_BYTES + 1]);
        assert!(error.unwrap_err().to_string().contains("at most 786000"));
    }
}
