//! What a typed function emits, as JSON lines that know their limit.
//!
//! Invariant: no more than the limit is ever held, so that a function that emits without end fails its task and not the consumer.

use serde::Serialize;

use super::{MAX_BYTES, lines};
use crate::handler::Failure;

/// Lines so far.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    lines: Vec<u8>,
}

impl Emitted {
    /// Adds a value as a line.
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        lines::push(&mut self.lines, value)?;
        self.check()
    }

    /// Adds the pair of the JSON of a key and a value.
    pub(crate) fn push_pair<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Failure> {
        let mut json = Vec::new();
        lines::append(&mut json, value)?;
        lines::push_pair(&mut self.lines, key, std::str::from_utf8(&json)?);
        self.check()
    }

    fn check(&mut self) -> Result<(), Failure> {
        let checked = check(&self.lines);
        if checked.is_err() {
            self.lines = Vec::new();
        }
        checked
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// All lines.
    pub(crate) fn into_lines(self) -> Vec<u8> {
        self.lines
    }
}

/// Fails for good if an output is longer than one may be.
pub(crate) fn check(lines: &[u8]) -> Result<(), Failure> {
    match lines.len() as u64 {
        ..=MAX_BYTES => Ok(()),
        _ => Err(Failure::fatal(format!(
            "it emits more than the {} MiB that one task may; use smaller chunks, more partitions or a combiner, or emit less",
            MAX_BYTES >> 20
        ))),
    }
}
