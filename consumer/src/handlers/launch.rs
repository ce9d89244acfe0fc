//! How a child process is set up: program, arguments, environment, folder.
//!
//! Invariant: of the daemon's own environment a child sees only [`INHERITED`]; the address of
//! Redis and its password stay with the daemon. There is no shell anywhere.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::config::ProcessConfig;

/// The variables that a child inherits: what programs need to find their files and speak the
/// user's language, and nothing that configures the daemon.
pub(crate) const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"];

/// A command in the configured surroundings.
pub(crate) fn command(program: &Path, process: &ProcessConfig) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for (name, value) in &process.env {
        command.env(name, value.expose());
    }
    if let Some(cwd) = &process.cwd {
        command.current_dir(cwd);
    }
    command
}

/// Checks that the program and its folder exist, so that a daemon with a typo in its file does
/// not start and then fail every task.
pub(crate) fn check(program: &Path, process: &ProcessConfig) -> Result<(), String> {
    if let Some(cwd) = &process.cwd
        && !cwd.is_dir()
    {
        return Err(format!(
            "cwd {} is no folder; create it or correct the path",
            cwd.display()
        ));
    }
    if program.is_absolute() {
        return if is_executable(program) {
            Ok(())
        } else {
            Err(not_found(program))
        };
    }
    // Looked up as the child will: in the PATH that it gets.
    let path = match process.env.get("PATH") {
        Some(path) => Some(path.expose().into()),
        None => std::env::var_os("PATH"),
    };
    let folders: Vec<PathBuf> = path
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    if folders.iter().any(|folder| is_executable(&folder.join(program))) {
        return Ok(());
    }
    Err(format!(
        "argv: there is no program {} in PATH; install it or give its full path",
        program.display()
    ))
}

fn is_executable(program: &Path) -> bool {
    use rustix::fs::{Access, access};
    program.is_file() && access(program, Access::EXEC_OK).is_ok()
}

fn not_found(program: &Path) -> String {
    format!(
        "argv: {} is no executable file; correct the path or its permissions",
        program.display()
    )
}
