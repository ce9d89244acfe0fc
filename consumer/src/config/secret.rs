//! Values that must not be seen in logs: passwords, tokens, header values.
//!
//! Invariant: no error text shows a secret's value.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

pub use workyard_shared::secret::Secret;

/// Where the file says a secret comes from: `"text"`, `{ env = "NAME" }` or `{ file = "path" }`.
pub(crate) enum SecretSource {
    Literal(Secret),
    Env(String),
    File(String),
}

impl SecretSource {
    /// Reads the secret; a relative file is looked up below `base`, the configuration's folder.
    pub(crate) fn resolve(self, base: &Path) -> Result<Secret, String> {
        match self {
            Self::Literal(secret) => Ok(secret),
            Self::Env(name) => std::env::var(&name).map(Secret::new).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("the environment variable {name} is not set; set it for the daemon")
                }
                std::env::VarError::NotUnicode(_) => {
                    format!("the environment variable {name} is not UTF-8")
                }
            }),
            Self::File(path) => {
                let path = base.join(path);
                Secret::read(&path).map_err(|error| format!("cannot read the secret from {}: {error}", path.display()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string, { env = "NAME" } or { file = "path" }"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretSource, E> {
        Ok(SecretSource::Literal(Secret::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let form = || de::Error::custom(r#"a secret's table is { env = "NAME" } or { file = "path" }"#);
        let key: String = map.next_key()?.ok_or_else(form)?;
        let value: String = map.next_value()?;
        if map.next_key::<String>()?.is_some() {
            return Err(form());
        }
        match key.as_str() {
            "env" => Ok(SecretSource::Env(value)),
            "file" => Ok(SecretSource::File(value)),
            _ => Err(form()),
        }
    }
}
