//! `type = "worker"`: a pool of long-lived processes that speak JSON lines.
//!
//! Invariant: a pool has at least one process, and nothing in its arguments comes from a payload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::checks::{self, HumanDuration};
use super::problem::Problem;
use super::process::{self, ProcessConfig};
use super::secret::SecretSource;

const MAX_PROCESSES: usize = 1024;

/// How a `worker` handler keeps its processes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// A bare name, looked up in `PATH`, or an absolute path.
    pub program: PathBuf,
    /// Its arguments, as they stand.
    pub args: Vec<String>,
    /// Environment, folder and patience.
    pub process: ProcessConfig,
    /// How many processes the pool may have (default 1); each runs one task at a time.
    pub processes: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, SecretSource>,
    cwd: Option<String>,
    kill_after: Option<HumanDuration>,
    processes: Option<u64>,
}

pub(crate) fn parse(table: toml::de::ValueDeserializer<'_>, base: &Path) -> Result<WorkerConfig, Problem> {
    let raw = Raw::deserialize(table)?;
    if raw.argv.iter().any(|arg| arg.contains("{payload")) {
        return Err(Problem::new(
            "argv",
            "a worker outlives its tasks and gets each payload by line; {payload...} is for type = \"command\"",
        ));
    }
    let (program, args) = process::program_and_args(raw.argv, base)?;
    Ok(WorkerConfig {
        program,
        args,
        process: ProcessConfig::checked(raw.env, raw.cwd, raw.kill_after, base)?,
        processes: checks::number("processes", raw.processes.unwrap_or(1), 1..=MAX_PROCESSES)?,
    })
}
