//! What the two handlers that start programs share: program, environment, folder, patience.
//!
//! Invariant: a program is a bare name (looked up in `PATH`) or an absolute path; what the file
//! writes relative was made absolute against the file's own folder, so that it does not matter
//! where the daemon was started.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::checks::{self, HumanDuration};
use super::problem::Problem;
use super::secret::{Secret, SecretSource};

const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(2);
const MAX_KILL_AFTER: Duration = Duration::from_secs(600);

/// How a child process is surrounded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProcessConfig {
    /// Variables on top of the few that are inherited (see `handlers`).
    pub env: BTreeMap<String, Secret>,
    /// The folder it runs in; the daemon's own without one.
    pub cwd: Option<PathBuf>,
    /// How long a process may take to end after SIGTERM before SIGKILL (default 2 s).
    pub kill_after: Duration,
}

impl ProcessConfig {
    pub(crate) fn checked(
        env: BTreeMap<String, SecretSource>,
        cwd: Option<String>,
        kill_after: Option<HumanDuration>,
        base: &Path,
    ) -> Result<Self, Problem> {
        let mut resolved = BTreeMap::new();
        for (name, source) in env {
            let value = variable(&name, source, base).map_err(|text| Problem::new(&name, text).under("env"))?;
            resolved.insert(name, value);
        }
        let kill_after = kill_after.unwrap_or(HumanDuration(DEFAULT_KILL_AFTER));
        Ok(Self {
            env: resolved,
            cwd: cwd.map(|cwd| base.join(cwd)),
            kill_after: checks::duration("kill_after", kill_after, Duration::ZERO..=MAX_KILL_AFTER)?,
        })
    }
}

fn variable(name: &str, source: SecretSource, base: &Path) -> Result<Secret, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} cannot name a variable"));
    }
    if name.starts_with("WORKYARD_") {
        return Err("names that begin with WORKYARD_ are set by the daemon; choose another".to_owned());
    }
    let value = source.resolve(base)?;
    if value.expose().contains('\0') {
        return Err("the value holds a NUL byte, which no variable can".to_owned());
    }
    Ok(value)
}

/// The program and its arguments out of `argv`, the program made absolute if it is a path.
pub(crate) fn program_and_args(argv: Vec<String>, base: &Path) -> Result<(PathBuf, Vec<String>), Problem> {
    if argv.iter().any(|arg| arg.contains('\0')) {
        return Err(Problem::new("argv", "holds a NUL byte, which no argument can"));
    }
    let mut argv = argv.into_iter();
    let program = argv.next().filter(|program| !program.is_empty()).ok_or_else(|| {
        Problem::new(
            "argv",
            r#"names no program; give at least one, such as ["/usr/bin/wc", "-w"]"#,
        )
    })?;
    let program = if program.contains('/') {
        base.join(program)
    } else {
        PathBuf::from(program)
    };
    Ok((program, argv.collect()))
}
