//! Arguments of the built-in functions, as types.
//!
//! Invariant: a name that the function does not know is an error, so that a slip is not taken for a default.

use std::ops::Deref;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde_json::value::RawValue;

use super::super::Role;

/// Reads the arguments of a function.
///
/// # Errors
/// Whose arguments they are, what is wrong, and the flag that gives them.
pub fn parse<T: DeserializeOwned>(kind: &str, role: Role, args: &str) -> Result<T, String> {
    serde_json::from_str(args).map_err(|error| unfit(kind, role.as_str(), &error.to_string()))
}

fn unfit(kind: &str, role: &str, error: &str) -> String {
    let reason = error.split(" at line ").next().unwrap_or(error);
    match reason
        .strip_prefix("missing field `")
        .and_then(|name| name.strip_suffix('`'))
    {
        Some(name) => format!("{kind} as {role} needs the argument {name} (--{role}-arg {name}=...)"),
        None => format!("the arguments of {kind} do not fit: {reason} (--{role}-arg)"),
    }
}

/// No arguments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Which items are meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// A regular expression.
    pub pattern: Text,
    /// Those that do not match.
    #[serde(default)]
    pub invert: bool,
}

/// Of objects, the field that is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its name.
    pub field: Option<Text>,
}

/// What is counted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Only what has this field.
    pub field: Option<Text>,
    /// Only what matches.
    pub pattern: Option<Text>,
    /// Only what does not match.
    #[serde(default)]
    pub invert: bool,
}

/// How many of the greatest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopN {
    /// So many.
    pub n: usize,
    /// Of objects, the field that is compared.
    pub field: Option<Text>,
}

/// Buckets of numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// From one bucket to the next.
    pub width: Box<RawValue>,
    /// Of objects, the field that is meant.
    pub field: Option<Text>,
}

/// What is summed, and by what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumBy {
    /// The field of the key.
    pub by: Text,
    /// The field of the number.
    pub field: Text,
}

/// A text. Who writes `pattern=5` on a command line means the text, so a number or a boolean is taken as it is spelled.
#[derive(Debug)]
pub struct Text(String);

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
