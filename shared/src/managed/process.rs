//! The last resort to end a server that does not listen: a signal, once it is sure whose process it is.
//!
//! Invariant: a signal goes only to a process that has our directory as its working directory *and* our lock file
//! open. A pid in a file may long belong to somebody else's process.
//!
//! It never sends SIGKILL: a server in trouble may be writing down what it has.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::dir::DataDir;
use super::endpoint::Endpoint;

/// The pid of the server of `dir` from its pid file, if that process is really it.
pub(super) fn verified_pid(dir: &DataDir, endpoint: &Endpoint) -> Option<u32> {
    let pid: u32 = fs::read_to_string(dir.pid_file()).ok()?.trim().parse().ok()?;
    is_server_of(pid, dir, endpoint).then_some(pid)
}

/// Asks a process to end in an orderly way. Between the check and the signal it may have ended and its pid may be
/// new; the kernel hands out pids in a circle, so that takes thousands of new processes within microseconds.
pub(super) fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Whether `pid` is the server of `dir`. A zombie is not: it has neither files nor a directory any more.
pub(super) fn is_server_of(pid: u32, dir: &DataDir, endpoint: &Endpoint) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    if Path::new("/proc/self/cwd").exists() {
        return is_in(&process, dir) && has_lock(&process, dir);
    }
    // Without /proc (macOS): the title that Redis gives itself names the socket or the port.
    let list = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .stderr(Stdio::null())
        .output();
    list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains(&endpoint.title(dir)))
}

fn is_in(process: &Path, dir: &DataDir) -> bool {
    fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == dir.path())
}

fn has_lock(process: &Path, dir: &DataDir) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target == dir.lock_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_belongs_to_somebody_else_is_not_taken_for_the_server() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("data")).unwrap();
        let mut stranger = Command::new("sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
        fs::write(dir.pid_file(), stranger.id().to_string()).unwrap();
        assert_eq!(verified_pid(&dir, &Endpoint::Socket), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
