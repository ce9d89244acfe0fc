//! What is wrong with a configuration, where, and what would be right.
//!
//! Invariant: the text of an error never holds the value of a secret, only its name.

use std::path::PathBuf;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says something that makes no sense; the text says what would.
    #[error("{file}{}: {problem}", line_suffix(*line))]
    Invalid {
        /// The file's name, as given.
        file: String,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// The field, what is wrong with it and what would be right.
        problem: String,
    },
    /// A handler cannot be built from a well-formed configuration, say since its program is
    /// missing on this machine.
    #[error("handlers.{kind}: {problem}")]
    Handler {
        /// The kind whose handler it is.
        kind: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

fn line_suffix(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}
