//! One finding while a configuration is checked, and how it is tied to a line of the file.
//!
//! Invariant: a problem names its field by the path a reader would type (`handlers.send.argv`);
//! the line is looked up from that path only when an error is shown, so checks carry no spans.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use workyard_shared::near::nearest;

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
        let line = span
            .as_ref()
            .map(|span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        // Whoever met a value of another type knows its place only.
        let found = self.span.as_ref().and_then(|span| field_at(text, span));
        let path = found.filter(|path| path.len() > self.path.len()).unwrap_or(self.path);
        let told = with_guess(self.text);
        let problem = match path.join(".") {
            path if path.is_empty() => told,
            path => format!("{path}: {told}"),
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
            text: in_words(error.message()),
        }
    }
}

/// The words of the parser without names of Rust's types.
fn in_words(message: &str) -> String {
    let Some((said, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "i64" | "isize" => "a number",
        "a sequence" => "a list in brackets, like [\"a\", \"b\"]",
        "a map" => "a table",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{said}expected {expected}")
}

/// With the name that was probably meant, if a field is unknown.
fn with_guess(text: String) -> String {
    let mut names = text.split('`').skip(1).step_by(2);
    if !text.starts_with("unknown field `") {
        return text;
    }
    let meant = names.next().and_then(|unknown| nearest(unknown, names));
    match meant {
        Some(meant) => format!("{text}; did you mean `{meant}`?"),
        None => text,
    }
}

/// The field whose value stands at `span`.
fn field_at(text: &str, span: &Range<usize>) -> Option<Vec<String>> {
    let root = DeTable::parse(text).ok()?;
    field_below(root.get_ref(), span)
}

fn field_below(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let tables: Vec<&DeTable<'_>> = match value.get_ref() {
            DeValue::Table(inner) => vec![inner],
            DeValue::Array(items) => items.iter().filter_map(|item| item.get_ref().as_table()).collect(),
            _ => Vec::new(),
        };
        let inside = tables.into_iter().find_map(|inner| field_below(inner, span));
        // A table's own place is its head, and what is unknown in it is no value of it.
        let is_here = !matches!(value.get_ref(), DeValue::Table(_)) && value.span().contains(&span.start);
        let rest = inside.or_else(|| is_here.then(Vec::new))?;
        Some(std::iter::once(key.get_ref().to_string()).chain(rest).collect())
    })
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
