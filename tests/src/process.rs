//! Programs under test, run as the separate processes that they are in life.
//!
//! Invariant: a [`Daemon`] never outlives its test: dropping it kills and reaps the process. Its output goes to files,
//! so a program that writes a lot never blocks on a full pipe, and is shown when the test fails.
//!
//! It does not build anything: see [`workspace_binary`].

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::wait_for;

/// A command for a binary of this workspace: `workyard` or `workyard-consumer`.
///
/// # Panics
/// When the binary is not there. Cargo builds the binaries of *other* packages for a test run only if asked to.
pub fn workspace_binary(name: &str) -> Command {
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("cannot tell where this test is: {e}"));
    // The test is target/<profile>/deps/<test>-<hash>; binaries are two levels up from its file name.
    let path = test
        .parent()
        .and_then(|deps| deps.parent())
        .map(|profile| profile.join(name))
        .unwrap_or_default();
    assert!(
        path.is_file(),
        "{} is not there. `cargo test` does not build the binaries of other packages: run \
         `cargo build --workspace --bins` first (scripts/test does)",
        path.display()
    );
    Command::new(path)
}

/// A running program with its output in files; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    dir: TempDir,
}

impl Daemon {
    /// Starts `command` with no standard input and its output captured.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary directory: {e}"));
        let file = |n: &str| File::create(dir.path().join(n)).unwrap_or_else(|e| panic!("cannot create {n}: {e}"));
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self {
            name,
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            dir,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// As [`children_of`] it.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Sends a signal; harmless when the process has ended.
    pub fn signal(&self, signal: Signal) {
        // While unreaped the pid cannot belong to another process, so the check and the signal are under one lock.
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None)) {
            kill_process(self.pid, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.name));
        }
    }

    /// Ends it the hard way, as the kernel or a power cut would, and waits until it is gone.
    pub fn kill9(&self) {
        end(&mut self.child());
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    #[track_caller]
    pub fn wait_exit(&self, limit: Duration) -> impl Future<Output = ExitStatus> + use<'_> {
        wait_for(limit, || async {
            self.child()
                .try_wait()
                .unwrap_or_else(|e| panic!("cannot wait for {}: {e}", self.name))
        })
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Both outputs, for messages.
    pub fn log(&self) -> String {
        format!(
            "--- {} stdout\n{}--- stderr\n{}---",
            self.name,
            self.stdout(),
            self.stderr()
        )
    }

    fn read(&self, file: &str) -> String {
        let path: PathBuf = self.dir.path().join(file);
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Kills and reaps a child; the one place that ends processes, shared with the server.
pub(crate) fn end(child: &mut Child) {
    // Both fail only when the child was reaped before, which is what we are after.
    let killed = child.kill();
    let reaped = child.wait();
    if let (Err(kill), Err(wait)) = (killed, reaped) {
        eprintln!("cannot end process {}: {kill}; {wait}", child.id());
    }
}

/// The processes that this one has started and not reaped; none where there is no `/proc`.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let text: String = children.collect();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process runs: one that nobody has reaped yet does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
