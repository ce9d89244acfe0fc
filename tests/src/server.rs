//! A real Redis or Valkey for one test, which the test may kill, stop and bring back.
//!
//! Invariant: what answers at [`TestServer::url`] is the process that we started: its own `INFO` has to name our
//! child's pid before a start counts, so two tests can never end up on one server. Port and directory stay the same
//! over [`TestServer::restart`], which is what makes "the server crashed and came back" testable.
//!
//! A server that was started by [`TestServer::start_recorded`] can also lose power: its files are then cut back to what
//! it had synced, which a kill alone never shows.
//!
//! It does not choose durability: a test passes `--appendonly yes --appendfsync always` when it asserts survival.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use workyard_shared::acl::Role;
use workyard_shared::functions;
use workyard_shared::managed::find_server;

use crate::entry::Entry;
use crate::port::ReservedPort;
use crate::preload::{Cut, FsyncRecorder};
use crate::process::end;
use crate::proxy::FaultProxy;
use crate::roles::{ADMIN, role_of};
use crate::topology::{Company, Topology};
use crate::wait_until;

/// Environment variable with the path of the server binary that all tests run on.
pub const SERVER_VARIABLE: &str = "WORKYARD_TEST_SERVER";

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const PORT_TRIES: usize = 10;

/// A server on its own port of 127.0.0.1 and in its own temporary directory; killed when dropped.
#[derive(Debug)]
pub struct TestServer {
    // First, so that what surrounds the server ends before it.
    company: Company,
    recipe: Recipe,
    child: Mutex<Child>,
}

/// What a start needs, the first and every later one.
#[derive(Debug)]
struct Recipe {
    binary: PathBuf,
    args: Vec<String>,
    entry: Entry,
    port: ReservedPort,
    /// Where nodes of a cluster talk to each other.
    bus: Option<ReservedPort>,
    dir: TempDir,
    recorder: Option<FsyncRecorder>,
}

/// What a process is started as.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A server, or a replica of one.
    Alone,
    /// A node of a cluster.
    Node,
    /// A sentinel with these settings.
    Sentinel(String),
}

/// Silence after which the nodes of a cluster take one for dead.
const NODE_TIMEOUT_MS: &str = "1500";

/// Why an attempt to start did not succeed; only a taken port is worth another.
enum StartError {
    PortTaken,
    Other(String),
}

/// Connects, patiently.
async fn connect(url: &str) -> redis::aio::MultiplexedConnection {
    let patient = redis::AsyncConnectionConfig::new()
        .set_response_timeout(Some(START_LIMIT))
        .set_connection_timeout(Some(START_LIMIT));
    let client = crate::tls::redis_client(url);
    let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
    connection.unwrap_or_else(|e| panic!("cannot connect to {url}: {e}"))
}

impl TestServer {
    /// Starts a server without any persistence: the fastest, for tests that do not kill it.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server that has on disk what it acknowledged: for tests that kill it.
    pub async fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts a server with more arguments, such as `["--maxmemory", "10mb"]`.
    ///
    /// # Panics
    /// When no server is installed or it does not answer within 30 s; the message has the end of its log.
    pub async fn start_with(args: &[&str]) -> Self {
        let part = Topology::from_env().part();
        let mut server = Self::start_as(part, args).await;
        server.company = Company::gather(&server, args).await;
        server
    }

    /// Starts a server on which roles are on, whether or not they are in this run.
    pub async fn start_guarded() -> Self {
        Self::start_guarded_with(&[]).await
    }

    /// As [`Self::start_guarded`], with more arguments.
    pub async fn start_guarded_with(args: &[&str]) -> Self {
        Self::start_by(Part::Alone, args, Entry::from_env().guarded(), || None).await
    }

    /// Starts a server without TLS, whether or not it is on in this run.
    pub async fn start_plain() -> Self {
        Self::start_by(Part::Alone, &[], Entry::from_env().plain(), || None).await
    }

    /// Starts a server that is part of nothing, whatever topology the environment says.
    pub async fn start_single(args: &[&str]) -> Self {
        Self::start_as(Part::Alone, args).await
    }

    /// As [`Self::start_single`], on Linux, and it can [lose power](Self::lose_power).
    ///
    /// # Panics
    /// As [`Self::start_with`]; when the recorder cannot be compiled.
    pub async fn start_recorded(args: &[&str]) -> Self {
        Self::start_by(Part::Alone, args, Entry::from_env(), || Some(FsyncRecorder::new())).await
    }

    /// As [`Self::start_recorded`], with roles on in any run.
    ///
    /// # Panics
    /// As [`Self::start_recorded`].
    pub async fn start_guarded_recorded(args: &[&str]) -> Self {
        let entry = Entry::from_env().guarded();
        Self::start_by(Part::Alone, args, entry, || Some(FsyncRecorder::new())).await
    }

    /// Starts one process, whatever topology the environment says.
    pub(crate) async fn start_as(part: Part, args: &[&str]) -> Self {
        let entry = match part {
            Part::Alone | Part::Node => Entry::from_env(),
            // Whom it tells of a master needs no password; it has one for those whom it watches.
            Part::Sentinel(_) => Entry::from_env().unguarded(),
        };
        Self::start_by(part, args, entry, || None).await
    }

    async fn start_by(part: Part, args: &[&str], entry: Entry, recorder: impl Fn() -> Option<FsyncRecorder>) -> Self {
        let binary = server_binary();
        for _ in 0..PORT_TRIES {
            let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary directory: {e}"));
            let bus = matches!(part, Part::Node).then(ReservedPort::new);
            let mut args = arguments(&part, args, &entry, bus.as_ref(), dir.path());
            args.extend(entry.server_args(dir.path()));
            let recipe = Recipe {
                binary: binary.clone(),
                args,
                entry: entry.clone(),
                port: ReservedPort::new(),
                bus,
                dir,
                recorder: recorder(),
            };
            let child = Mutex::new(recipe.launch(&[]));
            let server = Self {
                company: Company::None,
                recipe,
                child,
            };
            match server.ready().await {
                Ok(()) => return server,
                Err(StartError::PortTaken) => {}
                Err(StartError::Other(reason)) => panic!("{reason}"),
            }
        }
        panic!(
            "a foreign program took each of {PORT_TRIES} free ports before {} did",
            binary.display()
        );
    }

    /// The address for the test itself, who may do anything; database 0. Of the cluster or of the sentinels, if it is
    /// part of such.
    pub fn url(&self) -> String {
        self.url_of(ADMIN)
    }

    /// The address of this process alone.
    pub fn own_url(&self) -> String {
        self.own_url_of(ADMIN)
    }

    /// The address for whoever produces: with roles on, that of a user who may do just what the role may.
    pub fn producer_url(&self) -> String {
        self.url_of(Role::Producer.name())
    }

    /// The address for whoever consumes.
    pub fn consumer_url(&self) -> String {
        self.url_of(Role::Consumer.name())
    }

    /// The address for whoever operates.
    pub fn operator_url(&self) -> String {
        self.url_of(Role::Operator.name())
    }

    /// The address for who has this role.
    pub fn role_url(&self, role: Role) -> String {
        self.url_of(role.name())
    }

    /// The address for `workyard` with these arguments: that of the role that its command is for.
    pub fn cli_url(&self, args: &[&str]) -> String {
        self.url_of(role_of(args).name())
    }

    /// The address for who is `login`: `user:password@`, or nobody.
    pub fn url_with(&self, login: &str) -> String {
        self.recipe.entry.url_with(login, self.port())
    }

    /// The address for the test itself on the way through a proxy.
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        self.recipe.entry.url(ADMIN, proxy.port())
    }

    /// As [`Self::url_through`], for who has this role.
    pub fn role_url_through(&self, role: Role, proxy: &FaultProxy) -> String {
        self.recipe.entry.url(role.name(), proxy.port())
    }

    fn url_of(&self, user: &str) -> String {
        self.company.url(self, user).unwrap_or_else(|| self.own_url_of(user))
    }

    fn own_url_of(&self, user: &str) -> String {
        self.recipe.entry.url(user, self.port())
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.recipe.entry
    }

    /// Where other nodes of a cluster talk to it; 0 if it is none.
    pub(crate) fn bus_port(&self) -> u16 {
        self.recipe.bus.as_ref().map_or(0, ReservedPort::number)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.recipe.port.number()
    }

    /// The directory of its data and its log (`server.log`).
    pub fn dir(&self) -> &Path {
        self.recipe.dir.path()
    }

    /// The process id of the present process; another after a restart.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// A client for this process alone.
    pub fn client(&self) -> redis::Client {
        crate::tls::redis_client(&self.own_url())
    }

    /// A new connection to it, patient on a machine that is busy: the crate gives a reply half a second by default.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        connect(&self.own_url()).await
    }

    /// As [`Self::connection`], as a program of this role.
    pub async fn connection_as(&self, role: Role) -> redis::aio::MultiplexedConnection {
        connect(&self.role_url(role)).await
    }

    /// Has it write its log of commands anew, and waits until it has.
    pub async fn rewrite_log(&self) {
        let mut redis = self.connection().await;
        let begun = redis::cmd("BGREWRITEAOF").exec_async(&mut redis).await;
        begun.unwrap_or_else(|e| panic!("it does not rewrite its log: {e}"));
        wait_until(START_LIMIT, || {
            let mut redis = redis.clone();
            async move {
                let mut ask = redis::cmd("INFO");
                let info: redis::RedisResult<redis::InfoDict> = ask.arg("persistence").query_async(&mut redis).await;
                let info = info.unwrap_or_else(|e| panic!("no answer to INFO: {e}"));
                ["aof_rewrite_in_progress", "aof_rewrite_scheduled"]
                    .iter()
                    .all(|name| info.get::<u64>(name) == Some(0))
            }
        })
        .await;
    }

    /// `CONFIG SET name value`.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn config_set(&self, name: &str, value: &str) {
        let mut redis = self.connection().await;
        let set = redis::cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .exec_async(&mut redis)
            .await;
        set.unwrap_or_else(|e| panic!("CONFIG SET {name}: {e}"));
    }

    /// Kills it as a power cut would (SIGKILL) and waits until the process is gone.
    pub fn kill9(&self) {
        end(&mut self.child());
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// When the last sync began whose data a power cut would leave, in ms of the monotonic clock.
    ///
    /// # Panics
    /// As [`Self::lose_power`].
    pub fn synced_ms(&self) -> u64 {
        let recorder = self.recipe.recorder.as_ref().unwrap_or_else(|| panic!("no recorder"));
        recorder.synced_ms().unwrap_or_else(|e| panic!("no notes: {e}"))
    }

    /// Kills it, and takes from its append-only files what it had not synced: what a machine without power keeps.
    ///
    /// # Panics
    /// When it was not started by [`Self::start_recorded`], or nothing was recorded.
    pub fn lose_power(&self) -> Cut {
        self.kill9();
        let recorder = self.recipe.recorder.as_ref().unwrap_or_else(|| panic!("no recorder"));
        let cut = recorder.cut(&self.dir().join("appendonlydir"));
        cut.unwrap_or_else(|e| {
            panic!(
                "the append-only files of {} cannot be cut: {e}",
                self.recipe.binary.display()
            )
        })
    }

    /// Starts it again, after killing it if it still runs: same port, directory and arguments. Returns when it
    /// answers and has loaded its data.
    pub async fn restart(&self) {
        self.restart_with(&[]).await;
    }

    /// As [`Self::restart`], with more arguments for this start alone.
    pub async fn restart_with(&self, more: &[&str]) {
        let begun = Instant::now();
        loop {
            {
                let mut child = self.child();
                end(&mut child);
                *child = self.recipe.launch(more);
            }
            match self.ready().await {
                Ok(()) => return,
                // Here another port is no way out: clients know this one. Wait for whoever has it to leave.
                Err(StartError::PortTaken) if begun.elapsed() < START_LIMIT => tokio::time::sleep(POLL).await,
                Err(StartError::PortTaken) => {
                    panic!("port {} was taken while its server was down", self.port())
                }
                Err(StartError::Other(reason)) => panic!("{reason}"),
            }
        }
    }

    /// Freezes it: connections stay open and nothing is answered, as in a machine that swaps or a cut network.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Self::sigstop`].
    pub fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    /// Lets none of its files grow beyond this, as a full disk would; `None` lifts that.
    ///
    /// # Panics
    /// When the system refuses it.
    #[cfg(target_os = "linux")]
    pub fn limit_files(&self, bytes: Option<u64>) {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit {
            current: bytes.or(maximum),
            maximum,
        };
        let set = prlimit(Some(Pid::from_child(&self.child())), Resource::Fsize, limit);
        set.unwrap_or_else(|e| panic!("cannot limit the files of the server: {e}"));
    }

    /// Runs `redis-cli` (or `valkey-cli`) against it and returns its output, for tests of what a person would type.
    /// None when neither is installed.
    pub fn cli(&self, args: &[&str]) -> Option<String> {
        self.cli_as(ADMIN, args)
    }

    /// As [`Self::cli`], as another user if roles are on.
    pub fn cli_as(&self, user: &str, args: &[&str]) -> Option<String> {
        for program in ["redis-cli", "valkey-cli"] {
            let mut command = Command::new(program);
            command.args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
            self.recipe.entry.admit(&mut command, user);
            let output = command.args(args).output();
            if let Ok(output) = output {
                let text = [output.stdout, output.stderr].concat();
                return Some(String::from_utf8_lossy(&text).trim_end().to_owned());
            }
        }
        None
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.dir().join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Waits until our own child answers PING with PONG, which it does not while it loads data.
    async fn ready(&self) -> Result<(), StartError> {
        let client = self.client();
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            let ended = self
                .child()
                .try_wait()
                .unwrap_or_else(|e| panic!("cannot wait for the server: {e}"));
            if let Some(status) = ended {
                return Err(self.early_end(status));
            }
            match answering_pid(&client).await {
                Ok(pid) if pid == self.pid() => return self.prepared().await,
                // A stranger answers, so our child is about to fail to bind: look at it again.
                Ok(_) | Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        let text = format!(
            "{} does not answer after {START_LIMIT:?}:\n{}",
            self.recipe.binary.display(),
            self.log_tail()
        );
        Err(StartError::Other(text))
    }

    /// With roles on, loads the functions as whoever runs a server for real would: no consumer or producer may.
    async fn prepared(&self) -> Result<(), StartError> {
        if !self.recipe.entry.is_guarded() {
            return Ok(());
        }
        let load = async {
            let mut cmd = redis::cmd("FUNCTION");
            cmd.arg("LOAD").arg(functions::library());
            cmd.exec_async(&mut self.connection().await).await
        };
        match load.await {
            Ok(()) => Ok(()),
            // It had them before a restart, or its master has them.
            Err(error) if error.to_string().contains("already exists") || error.code() == Some("READONLY") => Ok(()),
            Err(error) => Err(StartError::Other(format!("the functions cannot be loaded: {error}"))),
        }
    }

    fn early_end(&self, status: std::process::ExitStatus) -> StartError {
        let log = self.log_tail();
        // Redis 7: "Could not create server TCP listening socket"; Valkey 9: "Failed listening on port".
        if log.contains("Address already in use") || log.contains("Failed listening on port") {
            return StartError::PortTaken;
        }
        StartError::Other(format!(
            "{} ended at its start ({status}):\n{log}",
            self.recipe.binary.display()
        ))
    }

    fn signal(&self, signal: Signal) {
        // The child is reaped only under this lock, so the pid is still its own.
        let child = self.child();
        let sent = kill_process(Pid::from_child(&child), signal);
        sent.unwrap_or_else(|e| panic!("cannot send {signal:?} to the server: {e}"));
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- end of the log of the test's server\n{}\n---", self.log_tail());
        }
    }
}

/// Asks the server at the other end for its pid; fails while it loads or is not there.
async fn answering_pid(client: &redis::Client) -> redis::RedisResult<u32> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    let info: redis::InfoDict = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    Ok(info.get("process_id").unwrap_or(0))
}

/// What such a process is started with: what the caller wants comes last, and so decides.
fn arguments(part: &Part, args: &[&str], entry: &Entry, bus: Option<&ReservedPort>, dir: &Path) -> Vec<String> {
    let mut all = match part {
        Part::Alone => Vec::new(),
        Part::Node => {
            let bus = bus.map_or(0, ReservedPort::number).to_string();
            // One that is killed must not take the others along.
            let words = format!(
                "--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout {NODE_TIMEOUT_MS} \
                 --cluster-require-full-coverage no"
            );
            let tls = if entry.is_tls() { " --tls-cluster yes" } else { "" };
            format!("{words}{tls}").split(' ').map(str::to_owned).collect()
        }
        Part::Sentinel(settings) => {
            let path = dir.join("sentinel.conf");
            std::fs::write(&path, settings).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
            // The file has to be the first argument.
            vec![path.display().to_string(), "--sentinel".to_owned()]
        }
    };
    all.extend(args.iter().map(ToString::to_string));
    all
}

impl Recipe {
    fn launch(&self, more: &[&str]) -> Child {
        let dir = self.dir.path();
        let (file, args) = match self.args.split_first() {
            Some((first, rest)) if !first.starts_with("--") => (Some(first), rest),
            _ => (None, &self.args[..]),
        };
        // A file at its limit (`limit_files`) is then an error of the write, as on a full disk, and not a deadly signal.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
            .arg(&self.binary)
            .args(file)
            .args(["--bind", "127.0.0.1"])
            .args(self.entry.port_args(self.port.number()))
            .args(["--save", "", "--logfile", "server.log"])
            .arg("--dir")
            .arg(dir)
            .args(args)
            .args(more)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(recorder) = &self.recorder {
            recorder.watch(&mut command);
        }
        command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.binary.display()))
    }
}

/// `WORKYARD_TEST_SERVER`, else what a managed Redis would use on this machine.
fn server_binary() -> PathBuf {
    let explicit = std::env::var_os(SERVER_VARIABLE).filter(|path| !path.is_empty());
    match find_server(explicit.as_deref().map(Path::new)) {
        Ok(server) => server.path,
        Err(error) => panic!("no server to test against ({SERVER_VARIABLE} chooses one): {error}"),
    }
}
