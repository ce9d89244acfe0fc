//! `type = "worker"`: a pool of long-lived processes that speak JSON lines.
//!
//! Invariant: a pool has at least one process, and nothing in its arguments comes from a payload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
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

/// Long-lived processes in any language that speak JSON lines (docs/workers.md).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// The program and its arguments; no shell sees them.
    argv: Vec<String>,
    /// Variables beside `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR` and `USER`.
    #[serde(default)]
    env: BTreeMap<String, SecretSource>,
    /// The folder it runs in; default: the daemon's own.
    cwd: Option<String>,
    /// Time between SIGTERM and SIGKILL, at most 10 m; default 2 s.
    kill_after: Option<HumanDuration>,
    /// Processes, each with one task at a time, at most 1024; default 1.
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
