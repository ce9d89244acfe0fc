//! One item of a chunk, or one value of a sequence.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lines;
use crate::handler::Failure;

/// An item: a line of text, which is a string, or any JSON value.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A line of a text, without its end; bytes that are no UTF-8 count as U+FFFD.
    Text(&'a [u8]),
    /// JSON.
    Json(&'a str),
}

impl<'a> Item<'a> {
    /// The item as a type.
    ///
    /// # Errors
    /// What does not fit, in serde's words.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self {
            Self::Text(text) => T::deserialize(Value::String(String::from_utf8_lossy(text).into_owned())),
            Self::Json(json) => serde_json::from_str(json),
        }
    }

    /// What a string holds; the JSON of anything else.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        self.string().unwrap_or_else(|| match *self {
            Self::Text(text) => String::from_utf8_lossy(text),
            Self::Json(json) => Cow::Borrowed(json),
        })
    }

    /// What a string holds; `None` if it is no string.
    #[must_use]
    pub fn string(&self) -> Option<Cow<'a, str>> {
        match *self {
            Self::Text(text) => Some(String::from_utf8_lossy(text)),
            Self::Json(json) if json.starts_with('"') => unquote(json),
            Self::Json(_) => None,
        }
    }

    /// Appends it as a line of JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.append(out)?;
        out.push(b'\n');
        Ok(())
    }

    /// Appends its JSON, without a line feed.
    pub(crate) fn append(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Text(text) => lines::append(out, &*String::from_utf8_lossy(text))?,
            Self::Json(json) => lines::append_json(out, json),
        }
        Ok(())
    }
}

/// The content of a JSON string.
fn unquote(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// A text without the carriage return at its end.
pub(super) fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
