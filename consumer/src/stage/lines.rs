//! JSON lines: one value on each line.
//!
//! Invariant: what these functions append is exactly one line. Inside of a JSON string line breaks
//! are escaped, so a raw one stands between values, where a space says the same.

use serde::Serialize;

use crate::handler::Failure;

/// The lines of a text without their line feeds; the last one needs none.
pub(crate) fn of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let none = text.is_empty();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n').skip(usize::from(none))
}

/// Appends a value that is written by serde.
pub(crate) fn push<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Failure> {
    append(out, value)?;
    out.push(b'\n');
    Ok(())
}

/// Appends `["key",value]` from the JSON of both.
pub(crate) fn push_pair(out: &mut Vec<u8>, key: &str, value: &str) {
    out.push(b'[');
    append_json(out, key);
    out.push(b',');
    append_json(out, value);
    out.extend_from_slice(b"]\n");
}

/// Appends a line that is JSON already.
pub(crate) fn push_json(out: &mut Vec<u8>, json: &str) {
    append_json(out, json);
    out.push(b'\n');
}

/// Appends a value without a line feed behind it.
pub(crate) fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Failure> {
    let start = out.len();
    serde_json::to_writer(&mut *out, value)
        .map_err(|error| Failure::fatal(format!("a value cannot be written as JSON: {error}")))?;
    flatten(&mut out[start..]);
    Ok(())
}

/// Appends JSON without a line feed in it or behind it.
pub(crate) fn append_json(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    flatten(&mut out[start..]);
}

fn flatten(json: &mut [u8]) {
    for byte in json {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}
