//! `[jobs]`: what map-reduce jobs may read and where they may leave intermediate data.
//!
//! Invariant: a place is a folder by its full path or a prefix of an object store; without any,
//! jobs read no files.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::Problem;

/// Places of jobs on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobsConfig {
    /// `read`: where chunks may be read from (default nowhere).
    pub read: Vec<Place>,
    /// `spill`: where outputs that are too large for Redis may go (default nowhere).
    pub spill: Vec<Place>,
}

/// A folder or a part of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder, by its full path.
    Folder(PathBuf),
    /// `s3://bucket/prefix`.
    Store(String),
}

impl Place {
    /// Reads `/folder`, `file:///folder` or `s3://bucket/prefix`; a relative path is below `base`.
    ///
    /// # Errors
    /// The text says what is wrong and what would be right.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if let Some(bucket) = text.strip_prefix("s3://") {
            if bucket.is_empty() || bucket.starts_with('/') {
                return Err(format!("{text:?} names no bucket; write it like s3://bucket/prefix"));
            }
            return Ok(Self::Store(text.to_owned()));
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(format!("{text:?} is no place; give a folder or s3://bucket/prefix"));
        }
        Ok(Self::Folder(base.join(path)))
    }
}

/// Places of map-reduce jobs on this machine: folders, `s3://bucket/prefix`. Its presence lets the built-in functions run.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, expecting = "a table: [jobs]")]
pub(crate) struct Raw {
    /// Where chunks may be read from; default nowhere.
    #[serde(default)]
    read: Vec<String>,
    /// Where outputs too large for Redis may go; all consumers of a job must share it. Default nowhere.
    #[serde(default)]
    spill: Vec<String>,
}

pub(crate) fn check(raw: &Raw, base: &Path) -> Result<JobsConfig, Problem> {
    let places = |field: &str, texts: &[String]| -> Result<Vec<Place>, Problem> {
        texts
            .iter()
            .map(|text| Place::parse(text, base).map_err(|reason| Problem::new(field, reason).under("jobs")))
            .collect()
    };
    Ok(JobsConfig {
        read: places("read", &raw.read)?,
        spill: places("spill", &raw.spill)?,
    })
}
