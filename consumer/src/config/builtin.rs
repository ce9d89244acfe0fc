//! `type = "builtin"`: small functions inside the daemon, for trials, tests and text jobs.
//!
//! Invariant: only the text functions read files, and only below a `root` that the file names.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::Problem;

/// Which builtin a handler is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BuiltinConfig {
    /// What it does.
    pub function: Function,
    /// The folder below which payloads may name files; without one only `{"text": ..}` works.
    pub root: Option<PathBuf>,
}

/// What a builtin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Function {
    /// Returns the payload.
    Echo,
    /// Waits for `{"ms": N}`, returns `null`.
    Sleep,
    /// Returns `null` at once.
    Noop,
    /// Fails while the attempt is at most N of `{"times": N}`, then returns `null`.
    Fail,
    /// Counts words as `wc -w` does.
    WordCount,
    /// Counts newlines as `wc -l` does.
    LineCount,
    /// The SHA-256 digest as a string of hex digits.
    Sha256,
}

impl Function {
    pub(crate) fn reads_text(self) -> bool {
        matches!(self, Self::WordCount | Self::LineCount | Self::Sha256)
    }
}

/// A function inside the daemon, for trials, tests and text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// What it does.
    function: Function,
    /// The folder below which payloads may name files as `{"path": ...}`; without it only `{"text": ...}` works.
    root: Option<String>,
}

pub(crate) fn parse(table: toml::de::ValueDeserializer<'_>, base: &Path) -> Result<BuiltinConfig, Problem> {
    let raw = Raw::deserialize(table)?;
    if raw.root.is_some() && !raw.function.reads_text() {
        return Err(Problem::new("root", "this function reads no files; leave it out"));
    }
    Ok(BuiltinConfig {
        function: raw.function,
        root: raw.root.map(|root| base.join(root)),
    })
}
