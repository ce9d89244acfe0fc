//! What one map task maps: values of the caller, or byte ranges of files.
//!
//! Invariant: a range begins and ends at a record; who made the chunk has seen to it, so that who
//! reads it needs nothing outside of the range.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The description of one chunk, as JSON the payload of its map task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Chunk {
    /// Values of the caller, byte for byte.
    Items(Vec<Box<RawValue>>),
    /// Text, one item per line.
    Lines(Vec<Slice>),
    /// JSON, one item per line.
    JsonLines(Vec<Slice>),
    /// CSV, one item per record.
    Csv(Csv),
    /// One item per file.
    Files(Vec<Slice>),
}

/// Records of CSV files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csv {
    /// The line that names the fields, as it stands in the file, without its end.
    pub header: String,
    /// Between fields; a comma unless set.
    #[serde(default = "comma", skip_serializing_if = "is_comma")]
    pub delimiter: char,
    /// Ranges of whole records, the header not among them.
    pub slices: Vec<Slice>,
}

fn comma() -> char {
    ','
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_comma(c: &char) -> bool {
    *c == ','
}

/// A byte range of a file that must not change until it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// `file:///absolute/path` or `s3://bucket/key`.
    pub url: String,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Size of the whole file when the chunk was made.
    pub size: u64,
    /// Modification time in ns, or the ETag, when the chunk was made.
    pub version: String,
}

impl Slice {
    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_kept_byte_for_byte() {
        let text = r#"{"items":[1e400, "a" ,{"b":  1}]}"#;
        let Chunk::Items(items) = serde_json::from_str(text).unwrap() else {
            panic!()
        };
        let raw: Vec<&str> = items.iter().map(|item| item.get()).collect();
        assert_eq!(raw, ["1e400", "\"a\"", "{\"b\":  1}"]);
        assert_eq!(
            serde_json::to_string(&Chunk::Items(items)).unwrap(),
            r#"{"items":[1e400,"a",{"b":  1}]}"#
        );
    }

    #[test]
    fn slices_have_the_documented_form() {
        let slice = Slice {
            url: "file:///a".into(),
            start: 0,
            end: 9,
            size: 20,
            version: "7".into(),
        };
        let json = serde_json::to_string(&Chunk::JsonLines(vec![slice.clone()])).unwrap();
        assert_eq!(
            json,
            r#"{"json-lines":[{"url":"file:///a","start":0,"end":9,"size":20,"version":"7"}]}"#
        );
        let csv = Chunk::Csv(Csv {
            header: "a,b".into(),
            delimiter: ',',
            slices: vec![slice],
        });
        assert!(
            serde_json::to_string(&csv)
                .unwrap()
                .starts_with(r#"{"csv":{"header":"a,b","slices":["#)
        );
    }
}
