//! A key ring: a file with one key a line, which only its owner may change and only its owner and group may read.
//!
//! ```text
//! # use    id       key (base64 of 32 bytes)                     mark
//! encrypt  2026-05  QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=
//! encrypt  2026-11  QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI= current
//! sign     shop-1   Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M=
//! verify   mail-1   8J1wfAtzNSUvJ8ZgFxGGk1wOXzVjcOyPPLnaPZwkOnE=
//! ```
//!
//! Invariant: of `encrypt` and of `sign` keys, one is current: the marked one, else the first. The current one makes, all
//! of them open and verify, so a key is exchanged in three steps: add it everywhere, move the mark, remove the old one when
//! nothing that it sealed is left.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::key::{self, SealKey, SignKey, VerifyKey};
use crate::error::Error;
use crate::name::KeyId;

/// Largest file that is taken for a ring.
const MAX_BYTES: u64 = 1 << 20;
/// What the mode of the file must not have: anything for others, a write for the group. The group may read, since that is
/// how systemd and Kubernetes hand a secret to a service that is not its owner.
const FORBIDDEN_MODE: u32 = 0o027;

/// Keys, read from a file.
pub struct KeyRing {
    pub(super) seal: Vec<SealKey>,
    pub(super) sign: Vec<SignKey>,
    pub(super) verify: Vec<VerifyKey>,
    current_seal: usize,
    current_sign: usize,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seal: Vec<&str> = self.seal.iter().map(|key| key.id.as_str()).collect();
        let sign: Vec<&str> = self.sign.iter().map(|key| key.id.as_str()).collect();
        let verify: Vec<&str> = self.verify.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("KeyRing")
            .field("encrypt", &seal)
            .field("sign", &sign)
            .field("verify", &verify)
            .finish_non_exhaustive()
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Seals and opens payloads and results.
    Encrypt,
    /// Signs tasks, and verifies.
    Sign,
    /// Verifies only: the public half of a sign key.
    Verify,
}

impl Use {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
        }
    }

    /// The use of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Encrypt, Self::Sign, Self::Verify]
            .into_iter()
            .find(|known| known.as_str() == word)
    }
}

/// One line that holds a key.
pub(super) struct Line<'a> {
    pub(super) usage: Use,
    pub(super) id: KeyId,
    pub(super) key: &'a str,
    pub(super) current: bool,
}

impl<'a> Line<'a> {
    /// Reads a line; `None`: it holds no key. No error repeats what it read: it may be a key in the wrong place.
    pub(super) fn parse(text: &'a str) -> Result<Option<Self>, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (usage, id, key, mark) = match words[..] {
            [] => return Ok(None),
            [first, ..] if first.starts_with('#') => return Ok(None),
            [usage, id, key] => (usage, id, key, None),
            [usage, id, key, mark] => (usage, id, key, Some(mark)),
            _ => return Err("a line is `encrypt|sign|verify ID KEY`, and `current` behind one of them".to_owned()),
        };
        let usage = Use::parse(usage).ok_or("a line begins with encrypt, sign or verify")?;
        let id = KeyId::new(id).map_err(|_| "the id of a key must match [A-Za-z0-9._-]{1,64}")?;
        let current = match mark {
            None => false,
            Some("current") if usage != Use::Verify => true,
            Some("current") => return Err("a verify key cannot be current: it makes nothing".to_owned()),
            Some(_) => return Err("behind the key only `current` may stand".to_owned()),
        };
        Ok(Some(Self {
            usage,
            id,
            key,
            current,
        }))
    }
}

impl KeyRing {
    /// Reads a ring from its file.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be read, others than its owner and group may read it or others than its owner write
    /// it, or a line is wrong. No text shows a key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let invalid = |text: String| Error::Invalid(text);
        let text = read_text(path)?;
        Self::parse(&text).map_err(|why| invalid(format!("key ring {shown}: {why}")))
    }

    /// Reads a ring from its text.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ring = Self {
            seal: Vec::new(),
            sign: Vec::new(),
            verify: Vec::new(),
            current_seal: 0,
            current_sign: 0,
        };
        let mut marked = [false; 2];
        for (number, line) in text.lines().enumerate() {
            let read = Line::parse(line).and_then(|line| line.map_or(Ok(()), |line| ring.add(&line, &mut marked)));
            read.map_err(|why| format!("line {}: {why}", number + 1))?;
        }
        if ring.seal.is_empty() && ring.verify.is_empty() {
            return Err("it holds no key; `workyard keys new FILE` adds one".to_owned());
        }
        Ok(ring)
    }

    fn add(&mut self, line: &Line<'_>, marked: &mut [bool; 2]) -> Result<(), String> {
        let id = line.id.clone();
        let taken = match line.usage {
            Use::Encrypt => self.seal.iter().any(|key| key.id == id),
            Use::Sign | Use::Verify => self.verify.iter().any(|key| key.id == id),
        };
        if taken {
            return Err(format!("key {id} stands there twice"));
        }
        let key = key::decode(line.key)?;
        let mark = match line.usage {
            Use::Encrypt => {
                self.seal.push(SealKey::new(id, &key));
                Some((0, &mut self.current_seal, self.seal.len() - 1))
            }
            Use::Sign => {
                let sign = SignKey::new(id, &key).map_err(|error| error.to_string())?;
                self.verify.push(sign.verify_key().map_err(|error| error.to_string())?);
                self.sign.push(sign);
                Some((1, &mut self.current_sign, self.sign.len() - 1))
            }
            Use::Verify => {
                self.verify.push(VerifyKey { id, public: key });
                None
            }
        };
        if let Some((which, current, place)) = mark.filter(|_| line.current) {
            if std::mem::replace(&mut marked[which], true) {
                let word = line.usage.as_str();
                return Err(format!("two {word} keys are marked as current; leave one mark"));
            }
            *current = place;
        }
        Ok(())
    }

    /// Whether it can seal, and open what it sealed.
    #[must_use]
    pub fn seals(&self) -> bool {
        !self.seal.is_empty()
    }

    /// Whether it can sign.
    #[must_use]
    pub fn signs(&self) -> bool {
        !self.sign.is_empty()
    }

    /// Whether it can verify signatures.
    #[must_use]
    pub fn verifies(&self) -> bool {
        !self.verify.is_empty()
    }

    /// The key that seals now.
    pub(super) fn current_seal(&self) -> Option<&SealKey> {
        self.seal.get(self.current_seal)
    }

    /// The key that signs now.
    pub(super) fn current_sign(&self) -> Option<&SignKey> {
        self.sign.get(self.current_sign)
    }

    /// Use, id, and whether it is current, of every key in the order of the file's uses.
    #[must_use]
    pub fn list(&self) -> Vec<(Use, KeyId, bool)> {
        let seal = self.seal.iter().enumerate();
        let seal = seal.map(|(place, key)| (Use::Encrypt, key.id.clone(), place == self.current_seal));
        let sign = self.sign.iter().enumerate();
        let sign = sign.map(|(place, key)| (Use::Sign, key.id.clone(), place == self.current_sign));
        let is_public = |key: &&VerifyKey| self.sign.iter().all(|sign| sign.id != key.id);
        let verify = self.verify.iter().filter(is_public);
        let verify = verify.map(|key| (Use::Verify, key.id.clone(), false));
        seal.chain(sign).chain(verify).collect()
    }

    /// The lines that let another ring verify what this one signs.
    #[must_use]
    pub fn public_lines(&self) -> Vec<String> {
        let line = |key: &VerifyKey| format!("verify {} {}", key.id, key::encode(&key.public));
        self.verify.iter().map(line).collect()
    }
}

/// The text of a ring's file, if nobody else could have read or changed it.
///
/// # Errors
/// [`Error::Invalid`].
pub fn read_text(path: &Path) -> Result<String, Error> {
    let shown = path.display();
    let cannot = |error: std::io::Error| Error::Invalid(format!("cannot read the keys from {shown}: {error}"));
    let file = File::open(path).map_err(cannot)?;
    // Of what was opened, not of what has the name a moment later.
    let mode = file.metadata().map_err(cannot)?.mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(Error::Invalid(format!(
            "key ring {shown} has mode {mode:04o}: others may read or change it; `chmod 600 {shown}` is right"
        )));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The key of 32 equal letters.
    fn key(letter: u8) -> String {
        key::encode(&[letter; 32])
    }

    fn current(text: &str) -> Vec<String> {
        let ring = KeyRing::parse(text).unwrap();
        let current = ring.list().into_iter().filter(|(_, _, current)| *current);
        current
            .map(|(usage, id, _)| format!("{} {id}", usage.as_str()))
            .collect()
    }

    #[test]
    fn the_marked_key_is_current_and_without_a_mark_the_first() {
        let (a, b, c) = (key(b'a'), key(b'b'), key(b'c'));
        let text = format!("# rings\n\nencrypt one {a}\n encrypt two {b}  current\r\nsign s {c}\n");
        assert_eq!(current(&text), ["encrypt two", "sign s"]);
        assert_eq!(current(&text.replace("  current", "")), ["encrypt one", "sign s"]);
    }

    #[test]
    fn mistakes_are_told_by_their_line_and_never_show_a_key() {
        let a = key(b'a');
        for (text, reason) in [
            (String::new(), "holds no key"),
            (
                format!("encrypt one {a} current\nencrypt two {a} current"),
                "line 2: two encrypt keys",
            ),
            (
                format!("encrypt one {a}\n\nencrypt one {a}"),
                "line 3: key one stands there twice",
            ),
            (
                format!("sign one {a}\nverify one {a}"),
                "line 2: key one stands there twice",
            ),
            (format!("verify one {a} current"), "cannot be current"),
            (format!("encrypt one {a} now"), "only `current`"),
            (format!("encrypt {a} one"), "line 1: the id of a key"),
            (format!("{a} encrypt one"), "line 1: a line begins with"),
            (format!("encrypt one {a} current twice"), "line 1: a line is"),
            (format!("encrypt one {}", &a[..40]), "it must have 32"),
            ("encrypt one Zz_!".to_owned(), "is not base64"),
        ] {
            let error = KeyRing::parse(&text).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
            assert!(!error.contains(&a[..20]), "{error}");
        }
        let shown = format!(
            "{:?}",
            KeyRing::parse(&format!("encrypt one {a}\nsign two {a}")).unwrap()
        );
        assert!(shown.contains("one") && shown.contains("two"), "{shown}");
        assert!(!shown.contains(&a[..20]) && !shown.contains("97, 97"), "{shown}");
    }

    #[test]
    fn a_file_that_others_may_read_or_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        std::fs::write(&path, format!("encrypt one {}\n", key(b'a'))).unwrap();
        for (mode, fine) in [
            (0o600, true),
            (0o400, true),
            (0o440, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
            (0o604, false),
            (0o602, false),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = KeyRing::read(&path);
            assert_eq!(read.is_ok(), fine, "{mode:o}");
            if let Err(error) = read {
                let error = error.to_string();
                assert!(
                    error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"),
                    "{error}"
                );
            }
        }
        let none = KeyRing::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(none.contains("cannot read the keys from"), "{none}");
    }
}
