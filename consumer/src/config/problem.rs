//! One finding while a configuration is checked, and how it is tied to a line of the file.
//!
//! Invariant: a problem names its field by the path a reader would type (`handlers.send.argv`);
//! the line is looked up from that path only when an error is shown, so checks carry no spans.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// What is wrong with one field.
#[derive(Debug)]
pub(crate) struct Problem {
    path: Vec<String>,
    span: Option<Range<usize>>,
    text: String,
}

impl Problem {
    /// A problem with the field `name`; `text` says what is wrong and what would be right.
    pub(crate) fn new(name: &str, text: impl Into<String>) -> Self {
        Self {
            path: vec![name.to_owned()],
            span: None,
            text: text.into(),
        }
    }

    /// A problem with the table itself; the caller names it by [`Problem::under`].
    pub(crate) fn whole(text: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            span: None,
            text: text.into(),
        }
    }

    /// The same problem; if it is an unknown field, these are listed before the others that would be right.
    pub(crate) fn with_fields(mut self, names: &str) -> Self {
        if self.text.contains("unknown field") {
            for of in [", expected one of `", ", expected `"] {
                self.text = self.text.replacen(of, &format!(", expected one of {names}, `"), 1);
            }
        }
        self
    }

    /// The same problem, seen from the table `name` that holds the field.
    pub(crate) fn under(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_owned());
        self
    }

    /// The error to show for a problem found in `text`, the content of `file`.
    pub(crate) fn in_file(self, file: &str, text: &str) -> ConfigError {
        let span = self.span.clone().or_else(|| locate(text, &self.path));
        let line = span.map(|span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        let problem = match self.path.join(".") {
            path if path.is_empty() => self.text,
            path => format!("{path}: {}", self.text),
        };
        ConfigError::Invalid {
            file: file.to_owned(),
            line,
            problem,
        }
    }
}

impl From<toml::de::Error> for Problem {
    fn from(error: toml::de::Error) -> Self {
        // The message alone: toml's own rendering repeats the line, which may hold a secret.
        Self {
            path: Vec::new(),
            span: error.span(),
            text: error.message().to_owned(),
        }
    }
}

/// Where `path` stands in `text`: the deepest part of it that exists.
fn locate(text: &str, path: &[String]) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    for name in path {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name.as_str()) else {
            break;
        };
        found = Some(key.span());
        let DeValue::Table(inner) = value.get_ref() else {
            break;
        };
        table = inner;
    }
    found
}
