//! A job's files as chunks, made by a thread that is a few chunks ahead.
//!
//! Invariant: at most [`AHEAD`] chunks wait; the thread ends when nobody takes any more.

use std::sync::mpsc;

use tokio::runtime::Handle;

use super::pack::{Chunks, file_chunks};
use super::source::Source;

/// Chunks that wait to be sent.
const AHEAD: usize = 64;

/// What the records of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// Lines of text, each a string.
    Lines,
    /// JSON, one value per line.
    JsonLines,
    /// CSV with a header line, each record an object of strings.
    Csv {
        /// Between fields, ASCII.
        delimiter: char,
    },
    /// Whole files: `{"path": ..., "text": ...}`.
    Files,
}

impl FileFormat {
    /// CSV with commas.
    #[must_use]
    pub fn csv() -> Self {
        Self::Csv { delimiter: ',' }
    }

    /// What the names of all files say: `.jsonl` and `.ndjson`, `.csv`, `.tsv`; lines of text otherwise.
    pub(crate) fn guess(sources: &[Source]) -> Self {
        let of_one = |source: &Source| match source.extension().as_str() {
            "jsonl" | "ndjson" => Self::JsonLines,
            "csv" => Self::csv(),
            "tsv" => Self::Csv { delimiter: '\t' },
            _ => Self::Lines,
        };
        let mut formats = sources.iter().map(of_one);
        let first = formats.next().unwrap_or(Self::Lines);
        if formats.all(|format| format == first) {
            first
        } else {
            Self::Lines
        }
    }
}

/// The chunks of these files. Must be called inside a runtime, whose blocking threads do the work.
pub(crate) fn chunks(sources: Vec<Source>, format: FileFormat, size: u64, runtime: &Handle) -> Chunks {
    let (made, taken) = mpsc::sync_channel(AHEAD);
    runtime.spawn_blocking(move || {
        let mut take = |chunk| {
            let gone = |_| crate::Error::invalid("nobody takes the chunks any more");
            made.send(Ok(chunk)).map_err(gone)
        };
        if let Err(error) = file_chunks(&sources, format, size, &mut take) {
            // Who has gone away does not want to know.
            made.send(Err(error)).ok();
        }
    });
    Box::new(taken.into_iter())
}
