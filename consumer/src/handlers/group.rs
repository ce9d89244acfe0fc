//! A child process and everything it started, ended as one.
//!
//! Invariant: a [`Group`] that goes away leaves nothing running and no zombie. However its owner
//! ends (returns, panics, is dropped as a cancelled future), the whole process group gets SIGTERM
//! at once, SIGKILL after its grace, and its leader is reaped.
//!
//! It cannot hold on to a process that leaves its group (`setsid`), nor act after the daemon
//! itself was killed with SIGKILL: then the child runs to its end, its output goes nowhere, and
//! what it did is covered by the fencing token. (A parent-death signal would need unsafe code.)

use std::collections::HashSet;
use std::io;
use std::process::ExitStatus;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout_at};

/// How often an ending group is asked whether it is empty. There is no signal for that.
const POLL: Duration = Duration::from_millis(10);

/// The groups that live now.
static LIVE: LazyLock<Mutex<HashSet<Pid>>> = LazyLock::new(Mutex::default);

/// Kills all groups: for a process that exits at once, without its destructors.
pub(crate) fn kill_all() {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    for id in live.iter() {
        signal(*id, Signal::KILL);
    }
}

/// A group stands among the living, until this is dropped.
#[derive(Debug)]
struct Listed(Pid);

impl Listed {
    fn new(id: Pid) -> Self {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Self(id)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A child that leads its own process group.
#[derive(Debug)]
pub(crate) struct Group {
    /// `None` once it has exited and was reaped.
    child: Option<(Child, Listed)>,
    id: Pid,
    grace: Duration,
}

impl Group {
    /// Starts `command` as the leader of a new group; `grace` lies between SIGTERM and SIGKILL.
    pub(crate) fn spawn(command: &mut Command, grace: Duration) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the new process has no id"))?;
        Ok(Self {
            child: Some((child, Listed::new(id))),
            id,
            grace,
        })
    }

    /// Takes the pipe to its standard input.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.as_mut()?.0.stdin.take()
    }

    /// Takes the pipe from its standard output.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut()?.0.stdout.take()
    }

    /// Takes the pipe from its standard error.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.as_mut()?.0.stderr.take()
    }

    /// Waits until the leader has exited by itself, then kills what it left behind: work that
    /// goes on after its task has ended would escape cancellation and every limit. May be
    /// dropped and called again.
    pub(crate) async fn exited(&mut self) -> io::Result<ExitStatus> {
        let (child, _) = self
            .child
            .as_mut()
            .ok_or_else(|| io::Error::other("the process was reaped before"))?;
        let status = child.wait().await?;
        self.child = None;
        // The leader's id is free from here, but ids are handed out in a circle: for this to hit
        // a stranger, the whole range would have to be used up in the next few microseconds.
        signal(self.id, Signal::KILL);
        Ok(status)
    }

    /// Ends the group: SIGTERM, the grace, SIGKILL. Returns once the leader is reaped.
    pub(crate) async fn end(mut self) -> Option<ExitStatus> {
        let child = self.child.take()?;
        Ending::begin(child, self.id, self.grace).finish().await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else {
            return;
        };
        // SIGTERM goes out here and now, whatever becomes of the task below.
        let ending = Ending::begin(child, self.id, self.grace);
        // Nobody can wait in a drop, so a task of its own sees the end. If the runtime is going
        // down the task is dropped unrun, and without a runtime `ending` is dropped right here:
        // both end in `Ending::drop`, the SIGKILL.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(ending.finish()));
        }
    }
}

/// A group that has had its SIGTERM.
struct Ending {
    child: Child,
    _listed: Listed,
    id: Pid,
    deadline: Instant,
    over: bool,
}

impl Ending {
    fn begin((child, listed): (Child, Listed), id: Pid, grace: Duration) -> Self {
        signal(id, Signal::TERM);
        Self {
            child,
            _listed: listed,
            id,
            deadline: Instant::now() + grace,
            over: false,
        }
    }

    async fn finish(mut self) -> Option<ExitStatus> {
        if timeout_at(self.deadline, self.child.wait()).await.is_ok() {
            // A shell dies of SIGTERM at once while its child still cleans up: the grace is for
            // all of them. The id stays taken while the group has members, so no poll that finds
            // somebody finds a stranger.
            while self.populated() && Instant::now() < self.deadline {
                sleep(POLL).await;
            }
        }
        if self.populated() {
            signal(self.id, Signal::KILL);
        }
        let status = self.child.wait().await.ok();
        self.over = true;
        status
    }

    fn populated(&self) -> bool {
        // Any error but "no such process" (say, a member under another user) means somebody.
        !matches!(test_kill_process_group(self.id), Err(rustix::io::Errno::SRCH))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.over {
            signal(self.id, Signal::KILL);
        }
    }
}

fn signal(group: Pid, signal: Signal) {
    match kill_process_group(group, signal) {
        // "No such process" is the wanted state.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => tracing::warn!(
            process.group = group.as_raw_nonzero().get(),
            "process group {group:?} refused a signal: {error}"
        ),
    }
}
