//! Text as an argument.

use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

/// A text. Who writes `pattern=5` on a command line means the text, so a number or a boolean is taken as it is spelled.
pub(super) struct Text(String);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        match json.get().as_bytes() {
            [b'"', ..] => serde_json::from_str(json.get()).map(Self).map_err(Error::custom),
            [b'{' | b'[' | b'n', ..] => Err(Error::custom(format_args!("{json} is no text"))),
            _ => Ok(Self(json.get().to_owned())),
        }
    }
}
