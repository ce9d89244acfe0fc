//! JSON that stays as it was written: payloads and results.
//!
//! Invariant: the bytes are those that Redis sent. Writing it into a JSON document changes nothing
//! between the first and the last token; what is no JSON (a function enqueued it unchecked) is
//! written as a string. It does not turn numbers into values.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A payload or result, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

impl RawJson {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Reads it as a value.
    ///
    /// # Errors
    /// Of `serde_json`: it is not JSON, or not of this type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = std::str::from_utf8(&self.0)
            .ok()
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match raw {
            Some(raw) => raw.serialize(serializer),
            None => serializer.collect_str(&String::from_utf8_lossy(&self.0)),
        }
    }
}

impl<'de> Deserialize<'de> for RawJson {
    /// From JSON only, byte for byte.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().to_owned().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_byte_for_byte_and_other_bytes_as_text() {
        for text in [
            "{ \"a\" :\t1e400 }",
            "123456789012345678901234567890",
            "[1.0,-0]",
            "\"\\u0000\"",
        ] {
            let written = serde_json::to_string(&RawJson::new(Bytes::from(text))).unwrap();
            assert_eq!(written, text);
            let read: Vec<RawJson> = serde_json::from_str(&format!("[{text}]")).unwrap();
            assert_eq!(read, [RawJson::new(Bytes::from(text))]);
        }
        assert_eq!(
            serde_json::to_string(&RawJson::new(Bytes::from_static(b"not json"))).unwrap(),
            "\"not json\""
        );
    }
}
