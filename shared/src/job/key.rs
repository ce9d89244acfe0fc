//! Keys of the keyed form: how they are told apart, partitioned and ordered.
//!
//! Invariant: these rules are part of the protocol, so that mappers in any language agree: equal
//! compact JSON text is the same key, `xxh3_64` (seed 0) picks the partition, and
//! the order is numbers before strings before the rest.

use std::cmp::Ordering;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::Number;
use crate::error::Error;

/// A key of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PairKey {
    /// Compact JSON.
    json: Box<str>,
}

impl PairKey {
    /// The key that this JSON value is. White space and escapes make no difference, the spelling of a
    /// number does.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `json` is not JSON, or an object (whose order would have to be decided).
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let bytes = json.trim().as_bytes();
        // A plain string or number is compact already: the usual case costs no parse.
        let plain_string = bytes.len() >= 2
            && bytes[0] == b'"'
            && bytes[bytes.len() - 1] == b'"'
            && bytes[1..bytes.len() - 1]
                .iter()
                .all(|b| *b >= 0x20 && *b != b'"' && *b != b'\\');
        if plain_string {
            return Ok(Self {
                json: json.trim().into(),
            });
        }
        let value: Value =
            serde_json::from_str(json).map_err(|e| Error::Invalid(format!("a key that is not JSON: {e}")))?;
        if value.is_object() {
            return Err(Error::Invalid("a key must not be an object".to_owned()));
        }
        if value.is_number() {
            return Ok(Self {
                json: json.trim().into(),
            });
        }
        Ok(Self {
            json: value.to_string().into(),
        })
    }

    /// A string as a key.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            json: Value::from(text).to_string().into(),
        }
    }

    /// Its compact JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// Which of `partitions` it belongs to.
    #[must_use]
    pub fn partition(&self, partitions: u32) -> u32 {
        partition_of(&self.hashed(), partitions)
    }

    /// What is hashed and compared: the text of a string, the JSON of anything else.
    fn hashed(&self) -> std::borrow::Cow<'_, str> {
        if self.json.starts_with('"') {
            if !self.json.contains('\\') {
                return self.json[1..self.json.len() - 1].into();
            }
            if let Ok(text) = serde_json::from_str::<String>(&self.json) {
                return text.into();
            }
        }
        (&*self.json).into()
    }

    fn rank(&self) -> u8 {
        match self.json.as_bytes().first() {
            Some(b'0'..=b'9' | b'-') => 0,
            Some(b'"') => 1,
            _ => 2,
        }
    }
}

/// The partition of a key by the bytes that are hashed.
#[must_use]
pub fn partition_of(hashed: &str, partitions: u32) -> u32 {
    let partition = xxh3_64(hashed.as_bytes()) % u64::from(partitions.max(1));
    u32::try_from(partition).unwrap_or(0)
}

impl Ord for PairKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = self.rank();
        rank.cmp(&other.rank()).then_with(|| {
            let size = |key: &Self| (rank == 0).then(|| Number::parse(&key.json));
            // Equal sizes, different spellings (1 and 1.0): two keys, in a fixed order.
            size(self)
                .cmp(&size(other))
                .then_with(|| self.hashed().cmp(&other.hashed()))
        })
    }
}

impl PartialOrd for PairKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_of_white_space_and_escapes_makes_no_other_key() {
        let key = |json: &str| PairKey::from_json(json).unwrap();
        assert_eq!(key(r#" "a" "#), key(r#""a""#));
        assert_eq!(key(r#""\u0061""#), key(r#""a""#));
        assert_eq!(key("[1, 2]"), key("[1,2]"));
        assert_eq!(PairKey::text("say \"hi\""), key(r#""say \"hi\"""#));
        assert_ne!(key("1"), key("\"1\""));
        for bad in ["{}", "", "a", "\"a"] {
            assert!(PairKey::from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn order_is_numbers_by_size_then_strings_by_bytes_then_the_rest() {
        let mut keys: Vec<PairKey> = [r#""b""#, "10", "null", r#""a""#, "9", "-3", "[1]", r#""Z""#, r#""é""#]
            .iter()
            .map(|json| PairKey::from_json(json).unwrap())
            .collect();
        keys.sort();
        let texts: Vec<&str> = keys.iter().map(PairKey::as_json).collect();
        assert_eq!(
            texts,
            ["-3", "9", "10", r#""Z""#, r#""a""#, r#""b""#, r#""é""#, "[1]", "null"]
        );
    }

    #[test]
    fn numbers_as_keys_are_in_the_order_of_their_exact_size() {
        let sorted = [
            "-1e300",
            "9007199254740992",
            "9007199254740992.0",
            "9007199254740993",
            "9007199254740994.0",
            // As doubles these two are one, and by their texts they stand the other way round.
            "9999999999999999",
            "10000000000000000.0",
            "1e300",
        ];
        let mut keys: Vec<PairKey> = sorted
            .iter()
            .rev()
            .map(|json| PairKey::from_json(json).unwrap())
            .collect();
        keys.sort();
        let texts: Vec<&str> = keys.iter().map(PairKey::as_json).collect();
        assert_eq!(texts, sorted);
    }

    #[test]
    fn the_partitioner_gives_these_partitions_for_ever() {
        // Golden: docs/jobs.md, xxh3_64 with seed 0.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let of = |text: &str| PairKey::text(text).partition(8);
        assert_eq!(
            [of("the"), of("fn"), of("")],
            [
                partition_of("the", 8),
                partition_of("fn", 8),
                (0x2d06_8005_38d3_94c2_u64 % 8) as u32
            ]
        );
        assert_eq!(PairKey::from_json("12").unwrap().partition(8), partition_of("12", 8));
    }
}
