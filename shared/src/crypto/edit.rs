//! Changes of a ring's text: add a key, move the mark, remove a key. Comments and order stay.
//!
//! Invariant: what comes out is a ring that [`KeyRing::parse`] takes, or nothing comes out.

use super::KeyRing;
use super::key::{self, KEY_BYTES};
use super::ring::{Line, Use};
use crate::error::Error;
use crate::name::KeyId;

/// How a new ring begins.
const HEAD: &str = "\
# Keys of Workyard: use, id, key, and `current` at the one that encrypts or signs now. Keep this file to yourself (mode 0600).
";

/// The ring `text` (empty: a new one) with a new key that is not current, unless it is the only one of its use.
///
/// # Errors
/// [`Error::Invalid`] if the id is taken, or the text is no ring.
pub fn with_new_key(text: &str, usage: Use, id: &KeyId) -> Result<String, Error> {
    let mut text = if text.trim().is_empty() { HEAD } else { text }.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let made: [u8; KEY_BYTES] = key::random()?;
    // Without a mark the first is current; written down, a key in front of it would not change that.
    let is_first = !lines(&text)?.iter().any(|line| line.usage == usage);
    let mark = if is_first && usage != Use::Verify {
        " current"
    } else {
        ""
    };
    text.push_str(&format!("{} {id} {}{mark}\n", usage.as_str(), key::encode(&made)));
    checked(text)
}

/// The ring with the mark at another key.
///
/// # Errors
/// [`Error::Invalid`] if there is no such key, or one that only verifies.
pub fn with_current(text: &str, usage: Use, id: &KeyId) -> Result<String, Error> {
    find(text, usage, id)?;
    changed(text, |line| {
        if line.usage != usage {
            return None;
        }
        let mark = if line.id == *id { " current" } else { "" };
        Some(format!("{} {} {}{mark}\n", usage.as_str(), line.id, line.key))
    })
}

/// The ring without a key. The current one cannot be removed: what would it be then that seals?
///
/// # Errors
/// [`Error::Invalid`] if there is no such key, or it is current.
pub fn without(text: &str, usage: Use, id: &KeyId) -> Result<String, Error> {
    find(text, usage, id)?;
    let ring = KeyRing::parse(text).map_err(Error::Invalid)?;
    if ring.list().contains(&(usage, id.clone(), true)) {
        return Err(Error::Invalid(format!(
            "{} key {id} is current; make another one current first",
            usage.as_str()
        )));
    }
    changed(text, |line| (line.usage == usage && line.id == *id).then(String::new))
}

fn lines(text: &str) -> Result<Vec<Line<'_>>, Error> {
    let lines = text.lines().map(Line::parse);
    let lines: Result<Vec<Option<Line<'_>>>, String> = lines.collect();
    Ok(lines.map_err(Error::Invalid)?.into_iter().flatten().collect())
}

fn find(text: &str, usage: Use, id: &KeyId) -> Result<(), Error> {
    let lines = lines(text)?;
    if lines.iter().any(|line| line.usage == usage && line.id == *id) {
        return Ok(());
    }
    let there = lines.iter().map(|line| format!("{} {}", line.usage.as_str(), line.id));
    let there: Vec<String> = there.collect();
    let usage = usage.as_str();
    Err(Error::Invalid(format!(
        "the ring has no {usage} key {id}; it has {}",
        there.join(", ")
    )))
}

/// The text with the lines for which `change` gives something else.
fn changed(text: &str, change: impl Fn(&Line<'_>) -> Option<String>) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len() + 16);
    for whole in text.split_inclusive('\n') {
        let line = Line::parse(whole).map_err(Error::Invalid)?;
        match line.and_then(|line| change(&line)) {
            Some(other) => out.push_str(&other),
            None => out.push_str(whole),
        }
    }
    checked(out)
}

fn checked(text: String) -> Result<String, Error> {
    KeyRing::parse(&text).map_err(Error::Invalid)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> KeyId {
        KeyId::new(text).unwrap()
    }

    fn list(text: &str) -> Vec<String> {
        let ring = KeyRing::parse(text).unwrap();
        let shown = |(usage, id, current): (Use, KeyId, bool)| {
            format!("{} {id}{}", usage.as_str(), if current { " current" } else { "" })
        };
        ring.list().into_iter().map(shown).collect()
    }

    #[test]
    fn a_ring_grows_moves_its_mark_and_shrinks_and_keeps_its_comments() {
        let one = with_new_key("", Use::Encrypt, &id("one")).unwrap();
        let two = with_new_key(&format!("{one}# mine"), Use::Encrypt, &id("two")).unwrap();
        let signs = with_new_key(&two, Use::Sign, &id("s")).unwrap();
        assert_eq!(list(&signs), ["encrypt one current", "encrypt two", "sign s current"]);
        let moved = with_current(&signs, Use::Encrypt, &id("two")).unwrap();
        assert_eq!(list(&moved), ["encrypt one", "encrypt two current", "sign s current"]);
        let less = without(&moved, Use::Encrypt, &id("one")).unwrap();
        assert_eq!(list(&less), ["encrypt two current", "sign s current"]);
        assert!(less.starts_with(HEAD) && less.contains("# mine\n"), "{less}");
    }

    #[test]
    fn what_would_make_no_ring_is_refused() {
        let one = with_new_key("", Use::Encrypt, &id("one")).unwrap();
        for (changed, reason) in [
            (with_new_key(&one, Use::Encrypt, &id("one")), "stands there twice"),
            (
                with_current(&one, Use::Encrypt, &id("two")),
                "no encrypt key two; it has encrypt one",
            ),
            (with_current(&one, Use::Sign, &id("one")), "no sign key one"),
            (without(&one, Use::Encrypt, &id("one")), "is current"),
            (with_new_key("nonsense", Use::Sign, &id("s")), "a line"),
        ] {
            let error = changed.unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
