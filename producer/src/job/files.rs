//! A job's files as chunks, made by a thread that is a few chunks ahead.
//!
//! Invariant: at most [`AHEAD`] chunks wait; the thread ends when nobody takes any more.

use std::sync::mpsc;

use tokio::runtime::Handle;

use super::pack::{Chunks, file_chunks};
use super::source::Source;
use crate::error::Error;

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

    /// What the names of all files say: `.jsonl` and `.ndjson`, `.csv`, `.tsv`; lines of text otherwise. Names that say
    /// different things are an error: to read all as lines would give a result, but hardly the one that was meant.
    pub(crate) fn guess(sources: &[Source]) -> Result<Self, Error> {
        let of_one = |source: &Source| match source.extension().as_str() {
            "jsonl" | "ndjson" => Self::JsonLines,
            "csv" => Self::csv(),
            "tsv" => Self::Csv { delimiter: '\t' },
            _ => Self::Lines,
        };
        let Some(first) = sources.first() else {
            return Ok(Self::Lines);
        };
        let format = of_one(first);
        match sources.iter().find(|source| of_one(source) != format) {
            None => Ok(format),
            Some(other) => Err(Error::invalid(format!(
                "the input is of two formats, {} ({}) and {} ({}); give the format (--format), or make two jobs",
                format.words(),
                first.url,
                of_one(other).words(),
                other.url
            ))),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Lines => "lines of text",
            Self::JsonLines => "JSON lines",
            Self::Csv { delimiter: '\t' } => "CSV with tabs",
            Self::Csv { .. } => "CSV",
            Self::Files => "whole files",
        }
    }
}

/// The chunks of these files. Must be called inside a runtime, whose blocking threads do the work.
pub(crate) fn chunks(sources: Vec<Source>, format: FileFormat, size: u64, runtime: &Handle) -> Chunks {
    let (made, taken) = mpsc::sync_channel(AHEAD);
    runtime.spawn_blocking(move || {
        let mut take = |chunk| {
            let gone = |_| Error::invalid("nobody takes the chunks any more");
            made.send(Ok(chunk)).map_err(gone)
        };
        if let Err(error) = file_chunks(&sources, format, size, &mut take) {
            // Who has gone away does not want to know.
            made.send(Err(error)).ok();
        }
    });
    Box::new(taken.into_iter())
}
