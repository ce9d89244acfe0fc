//! Names that become part of keys: checked once, trusted afterwards.
//!
//! Invariant: no value of these types holds a character that could leave its place in a key, a
//! channel or a header line (`{ } : space LF NUL ...`). It does not know any key.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::limits::{MAX_ID_BYTES, MAX_KIND_BYTES, MAX_QUEUE_BYTES};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and makes it a trusted name.
            ///
            /// # Errors
            /// [`Error::Invalid`] says which rule `text` breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
                let text = text.as_ref();
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.bytes().all(allowed) {
                    let shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
                    return Err(Error::Invalid(format!("{} \"{shown}\" must match {}", $what, $rule)));
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// The name of a queue: `[A-Za-z0-9._-]{1,64}`.
    QueueName, "queue", MAX_QUEUE_BYTES,
    |b| b.is_ascii_alphanumeric() || b"._-".contains(&b), "[A-Za-z0-9._-]{1,64}"
);
name!(
    /// The kind of a task, which picks its handler: `[A-Za-z0-9._:-]{1,128}`.
    Kind, "kind", MAX_KIND_BYTES,
    |b| b.is_ascii_alphanumeric() || b"._:-".contains(&b), "[A-Za-z0-9._:-]{1,128}"
);
name!(
    /// The id of a task: a UUIDv7, or the caller's own 1 to 128 visible ASCII characters.
    TaskId, "id", MAX_ID_BYTES,
    |b| b.is_ascii_graphic(), "1 to 128 visible ASCII characters (no space)"
);
name!(
    /// The id of a map-reduce job: `[A-Za-z0-9_-]{1,64}`.
    JobId, "job", 64,
    |b| b.is_ascii_alphanumeric() || b"_-".contains(&b), "[A-Za-z0-9_-]{1,64}"
);
name!(
    /// The name of a Redis user in a printed rule: `[A-Za-z0-9._-]{1,128}`.
    UserName, "user", 128,
    |b| b.is_ascii_alphanumeric() || b"._-".contains(&b), "[A-Za-z0-9._-]{1,128}"
);
name!(
    /// The id of a consumer or of a producer session: `[A-Za-z0-9._-]{1,128}`, new at every start.
    SessionId, "session", 128,
    |b| b.is_ascii_alphanumeric() || b"._-".contains(&b), "[A-Za-z0-9._-]{1,128}"
);
name!(
    /// What the keys of one installation begin with: `[A-Za-z0-9._-]{1,64}`, `workyard` by default.
    Prefix, "prefix", 64,
    |b| b.is_ascii_alphanumeric() || b"._-".contains(&b), "[A-Za-z0-9._-]{1,64}"
);

name!(
    /// The id of a key in a key ring: `[A-Za-z0-9._-]{1,64}`.
    KeyId, "key id", 64,
    |b| b.is_ascii_alphanumeric() || b"._-".contains(&b), "[A-Za-z0-9._-]{1,64}"
);

impl TaskId {
    /// A new UUIDv7: it sorts by time, and no other call makes the same.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }
}

impl JobId {
    /// A new UUIDv7: it sorts by time.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }
}

impl SessionId {
    /// A new random session id.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    /// The id of the process: of a consumer's session `<id>.<n>`, the `<id>`, under which its health key stands.
    #[must_use]
    pub fn process(&self) -> &str {
        match self.as_str().rsplit_once('.') {
            Some((id, round)) if !id.is_empty() && !round.is_empty() && round.bytes().all(|b| b.is_ascii_digit()) => id,
            _ => self.as_str(),
        }
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("workyard".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_session_is_not_part_of_its_consumers_id() {
        for (session, id) in [
            ("host-1-ab", "host-1-ab"),
            ("host-1-ab.2", "host-1-ab"),
            ("a.b", "a.b"),
            (".1", ".1"),
        ] {
            assert_eq!(SessionId::new(session).unwrap().process(), id);
        }
    }

    #[test]
    fn names_that_could_leave_their_key_are_refused() {
        for bad in [
            "",
            "a}{b",
            "../x",
            "*",
            "a b",
            "a:b",
            "\r\nFLUSHALL",
            "é",
            &"q".repeat(65),
        ] {
            if bad != "../x" {
                assert!(QueueName::new(bad).is_err(), "{bad:?}");
            }
        }
        assert!(QueueName::new("../x").is_err());
        assert!(QueueName::new("emails.high_1-a").is_ok());
        assert!(Kind::new("mail:send").is_ok());
        assert!(TaskId::new("order{42}*").is_ok());
        assert!(TaskId::new("a b").is_err());
    }
}
