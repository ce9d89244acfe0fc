//! The managed Redis of one data directory: start or join it, ask for it, stop it.
//!
//! Invariant: the lock decides who starts a server, the server's own answer decides whether it works, and files on
//! disk decide nothing. A stale pid or record therefore needs no cleaning up.
//!
//! It does not keep state between calls: each may come from another process, or after a crash.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::binary::{SERVER_VARIABLE, find_again};
use super::dir::{DataDir, default_dir};
use super::endpoint::Endpoint;
use super::error::Error;
use super::launch::{launch, log_length, log_since};
use super::probe::{self, Answer, ServerInfo};
use super::process::{is_server_of, terminate, verified_pid};
use super::record::Record;

/// Long enough to load some gigabytes; a start on an empty directory takes 20 to 50 ms.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
/// Well below what a person notices, well above the cost of one question.
const PAUSE: Duration = Duration::from_millis(15);
/// How often another loopback port is tried when somebody took the chosen one.
const PORT_TRIES: usize = 5;

/// The managed Redis of one data directory. Cheap to make and to clone; making one starts nothing.
#[derive(Debug, Clone)]
pub struct ManagedRedis {
    dir: PathBuf,
    server: Option<PathBuf>,
    limit: Duration,
}

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// What it says of itself; `server.url` is the address for clients.
    pub server: ServerInfo,
    /// Whether this call started it.
    pub started: bool,
}

/// How a managed Redis is, from [`ManagedRedis::status`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It answers.
    Running(ServerInfo),
    /// It loads its data and will answer.
    Loading,
    /// It lives but does not answer, for the reason given; or it is just being started.
    Unresponsive(String),
    /// There is none.
    NotRunning,
}

/// What [`ManagedRedis::stop`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// It ran and is gone now, with everything on disk.
    Stopped,
    /// There was none.
    NotRunning,
}

impl ManagedRedis {
    /// The one on `dir`, with whatever server this machine has, waiting at most 60 s for it.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            server: None,
            limit: DEFAULT_LIMIT,
        }
    }

    /// The one that the environment names: `WORKYARD_REDIS_DIR` (else `$XDG_DATA_HOME/workyard`, else
    /// `~/.local/share/workyard`) and `WORKYARD_REDIS_SERVER`. Empty variables count as unset.
    ///
    /// # Errors
    /// [`Error::NoHome`] when none of the variables for a directory is set.
    pub fn from_env() -> Result<Self, Error> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Ok(Self {
            server: variable(SERVER_VARIABLE),
            ..Self::new(default_dir(variable)?)
        })
    }

    /// Uses this server binary and no other.
    #[must_use]
    pub fn with_server(self, binary: impl Into<PathBuf>) -> Self {
        Self {
            server: Some(binary.into()),
            ..self
        }
    }

    /// Waits at most this long in each call.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The data directory, as it was given.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the server of the directory, starting it if there is none. Of any number of processes that call this
    /// at the same time exactly one starts a server, and all get the same.
    ///
    /// # Errors
    /// All but [`Error::NotStopped`]. After [`Error::StillLoading`] the server goes on loading: call again.
    pub fn start_or_join(&self) -> Result<Joined, Error> {
        let begun = Instant::now();
        let dir = DataDir::create(&self.dir)?;
        let mut tries = 0;
        loop {
            let mark = log_length(&dir);
            let launched = self.start_if_free(&dir)?;
            if let Some(server) = self.await_answer(&dir, begun)? {
                return note(&dir, server, launched.is_some());
            }
            // None launched: whoever was starting it failed, or it was just stopped. It is our turn.
            if let Some(record) = launched {
                let log = log_since(&dir, mark);
                if tries >= PORT_TRIES || !lost_port(&record, &log) {
                    let (binary, dir) = (record.binary, self.dir.clone());
                    return Err(Error::NotStarted { binary, dir, log });
                }
                tries += 1;
            }
        }
    }

    /// As [`Self::start_or_join`], but one question and no lock when all is well (a fraction of a millisecond): for
    /// the moment when a connection was refused.
    ///
    /// # Errors
    /// As [`Self::start_or_join`].
    pub fn ensure(&self) -> Result<Joined, Error> {
        match self.status()? {
            Status::Running(server) => Ok(Joined { server, started: false }),
            Status::Loading | Status::Unresponsive(_) | Status::NotRunning => self.start_or_join(),
        }
    }

    /// Looks without starting or creating anything.
    ///
    /// # Errors
    /// [`Error::Directory`] and [`Error::Exposed`] when the directory cannot be judged.
    pub fn status(&self) -> Result<Status, Error> {
        let Some(dir) = DataDir::existing(&self.dir)? else {
            return Ok(Status::NotRunning);
        };
        // The answer comes first: the lock alone would not tell a working server from one that is being started.
        match probe::ask(&dir, &endpoint(&dir)) {
            Answer::Ready(server) => Ok(Status::Running(server)),
            Answer::Loading => Ok(Status::Loading),
            Answer::Silent(reason) if dir.is_claimed()? => Ok(Status::Unresponsive(reason)),
            Answer::Silent(_) => Ok(Status::NotRunning),
        }
    }

    /// Stops the server in an orderly way and returns when it is gone. One that does not listen gets SIGTERM, after
    /// it is sure that the process is the server; it is never killed.
    ///
    /// # Errors
    /// [`Error::NotStopped`] when it lives on after the limit; [`Error::Directory`], [`Error::Exposed`].
    pub fn stop(&self) -> Result<Stopped, Error> {
        let begun = Instant::now();
        let Some(dir) = DataDir::existing(&self.dir)? else {
            return Ok(Stopped::NotRunning);
        };
        let endpoint = endpoint(&dir);
        let pid = verified_pid(&dir, &endpoint);
        let (mut found, mut asked) = (false, false);
        let mut reason = "it does not listen".to_owned();
        // The lock is free an instant before the process is gone; a caller may rely on the latter.
        while self.status()? != Status::NotRunning || pid.is_some_and(|pid| is_server_of(pid, &dir, &endpoint)) {
            found = true;
            if begun.elapsed() >= self.limit {
                let (dir, waited) = (self.dir.clone(), self.limit);
                return Err(Error::NotStopped { dir, waited, reason });
            }
            if !asked {
                // One that is just being started cannot be asked yet and is in the next round.
                match ask_to_stop(&dir, &endpoint) {
                    Ok(()) => asked = true,
                    Err(refusal) => reason = refusal,
                }
            }
            pause();
        }
        Ok(if found { Stopped::Stopped } else { Stopped::NotRunning })
    }

    /// Starts a server unless one lives. Returns the record of the server that was started.
    fn start_if_free(&self, dir: &DataDir) -> Result<Option<Record>, Error> {
        let Some(claim) = dir.claim()? else {
            return Ok(None);
        };
        // From here on nobody else can start one; the claim is freed on each error and when we die.
        if !matches!(probe::ask(dir, &endpoint(dir)), Answer::Silent(_)) {
            // Somebody started one by hand with our configuration: it holds no lock, but it is there.
            return Ok(None);
        }
        let last = Record::read(dir).map(|record| record.binary);
        let binary = find_again(self.server.as_deref(), last.as_deref())?;
        let record = Record {
            endpoint: Endpoint::choose(dir)?,
            binary: binary.path,
            server: None,
        };
        // Before the launch: if we die after it, this is how the others find the server.
        record.write(dir)?;
        tracing::info!(redis.dir = %dir.path().display(), redis.version = binary.version, "starting a Redis");
        launch(dir, &record.binary, &record.endpoint, claim)?;
        Ok(Some(record))
    }

    /// Waits until the server answers. None: there is none (any more).
    fn await_answer(&self, dir: &DataDir, begun: Instant) -> Result<Option<ServerInfo>, Error> {
        loop {
            // Read each time: a server that another process starts right now may get another port.
            let endpoint = endpoint(dir);
            let answer = match probe::ask(dir, &endpoint) {
                Answer::Ready(server) => return Ok(Some(server)),
                other => other,
            };
            if matches!(answer, Answer::Silent(_)) && !dir.is_claimed()? {
                return Ok(None);
            }
            if begun.elapsed() >= self.limit {
                let (dir_name, waited) = (self.dir.clone(), self.limit);
                return Err(match answer {
                    Answer::Silent(reason) => Error::Unresponsive {
                        dir: dir_name,
                        pid: verified_pid(dir, &endpoint),
                        waited,
                        reason,
                    },
                    Answer::Ready(_) | Answer::Loading => Error::StillLoading { dir: dir_name, waited },
                });
            }
            pause();
        }
    }
}

/// How the server of `dir` is reached; without a record it can only be the socket.
fn endpoint(dir: &DataDir) -> Endpoint {
    Record::read(dir).map_or(Endpoint::Socket, |record| record.endpoint)
}

/// Puts what the server said into the record, unless it is there already: the starter may have died before it could.
fn note(dir: &DataDir, server: ServerInfo, started: bool) -> Result<Joined, Error> {
    let same = |noted: &ServerInfo| noted.pid == server.pid;
    if let Some(mut record) = Record::read(dir).filter(|r| !r.server.as_ref().is_some_and(same)) {
        record.server = Some(server.clone());
        record.write(dir)?;
    }
    Ok(Joined { server, started })
}

/// Whether our server ended because somebody else had its port.
fn lost_port(record: &Record, log: &str) -> bool {
    matches!(record.endpoint, Endpoint::Loopback { .. })
        && (log.contains("Address already in use") || log.contains("Failed listening on port"))
}

/// Asks over the connection, or else with a signal.
fn ask_to_stop(dir: &DataDir, endpoint: &Endpoint) -> Result<(), String> {
    let Err(refusal) = probe::shutdown(dir, endpoint) else {
        return Ok(());
    };
    let pid = verified_pid(dir, endpoint).ok_or_else(|| refusal.to_string())?;
    tracing::warn!(
        redis.pid = pid,
        "the Redis refuses SHUTDOWN ({refusal}); sending SIGTERM"
    );
    terminate(pid).map_err(|error| error.to_string())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module blocks by contract; callers use spawn_blocking"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}
