//! `[keys]`: the key ring of this daemon, and whether tasks must use it.
//!
//! Invariant: it says where keys are, never what they are.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

/// The key ring, and whether payloads must be sealed with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysConfig {
    /// `file`: the ring, by its full path. `None`: only `--keys` or `WORKYARD_KEYS_FILE` says it, or there is none.
    pub file: Option<PathBuf>,
    /// `require_sealed`: whether payloads that are not sealed are refused (default no).
    pub require_sealed: bool,
}

/// Keys that open payloads, seal results and verify signatures (SECURITY.md). SIGHUP reads them anew.
#[derive(Deserialize, JsonSchema, Default)]
#[schemars(rename = "Keys")]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The key ring, a file with mode 0600; `--keys` and `WORKYARD_KEYS_FILE` come first.
    file: Option<PathBuf>,
    /// Whether tasks whose payload is not sealed are refused, and steps of map-reduce jobs that read what is not.
    #[serde(default)]
    require_sealed: bool,
}

impl Raw {
    pub(super) fn check(self, base: &Path) -> KeysConfig {
        KeysConfig {
            file: self.file.map(|file| base.join(file)),
            require_sealed: self.require_sealed,
        }
    }
}
