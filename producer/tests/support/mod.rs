//! What the tests of this crate need: a Redis of their own, the binary, and hands that play a
//! consumer. The larger harness is in the crate `workyard-tests`, which this one cannot use.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod jobs;
// The same as the larger harness has.
#[path = "../../../tests/src/entry.rs"]
mod entry;
#[path = "../../../tests/src/roles.rs"]
#[allow(unreachable_pub, reason = "public in the other crate")]
mod roles;
#[path = "../../../tests/src/tls.rs"]
#[allow(unreachable_pub, reason = "public in the other crate")]
mod tls;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use workyard_producer::{Client, ClientConfig, LinkConfig, Prefix, QueueName};
use workyard_shared::broker::{
    Beat, Broker, ClaimRequest, Claimed, Completion, FailVerdict, FailureReport, Grant, Handback, JobOutcome, JobTurn,
    JobVerdict, Queue, Turn,
};
use workyard_shared::job::{Member, Part};
use workyard_shared::link::Link;
use workyard_shared::name::SessionId;

use entry::Entry;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A Redis on a port of its own, killed when dropped.
pub(crate) struct Server {
    child: Child,
    args: Vec<String>,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) async fn start(args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let dir = tempfile::tempdir().unwrap();
            let args = [Entry::from_env().server_args(dir.path()), args.clone()].concat();
            let child = launch(port, dir.path(), &args);
            let mut server = Self { child, args, dir, port };
            if server.ready().await {
                return server;
            }
        }
        panic!("no redis-server would start");
    }

    /// Kills it as a power cut would and starts it again on its data.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.crash();
        self.come_back().await;
    }

    /// Kills it as a power cut would.
    pub(crate) fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its data.
    pub(crate) async fn come_back(&mut self) {
        self.child = launch(self.port, self.dir.path(), &self.args);
        assert!(self.ready().await, "redis-server does not come back");
    }

    /// Waits until it is our own process that answers.
    async fn ready(&mut self) -> bool {
        let client = tls::redis_client(&self.url());
        let begun = Instant::now();
        while begun.elapsed() < SOON && self.child.try_wait().unwrap().is_none() {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                let info: redis::RedisResult<redis::InfoDict> =
                    redis::cmd("INFO").arg("server").query_async(&mut connection).await;
                let ours = info.is_ok_and(|info| info.get::<u32>("process_id") == Some(self.child.id()));
                if ours && self.prepare(&mut connection).await {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// With roles on, no producer may load the functions. False while Redis still loads its data.
    async fn prepare(&self, redis: &mut redis::aio::MultiplexedConnection) -> bool {
        if !roles::roles_are_on() || self.args.iter().any(|arg| arg == "--replicaof") {
            return true;
        }
        let mut cmd = redis::cmd("FUNCTION");
        cmd.arg("LOAD")
            .arg("REPLACE")
            .arg(workyard_shared::functions::library());
        match cmd.exec_async(redis).await {
            Err(error) if error.code() == Some("LOADING") => false,
            loaded => {
                loaded.unwrap();
                true
            }
        }
    }

    /// The address for the test itself.
    pub(crate) fn url(&self) -> String {
        self.url_of(roles::ADMIN)
    }

    fn url_of(&self, user: &str) -> String {
        Entry::from_env().url(user, self.port)
    }

    /// The address for who is `user:password@`, or nobody.
    pub(crate) fn url_with(&self, login: &str) -> String {
        Entry::from_env().url_with(login, self.port)
    }

    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig::from_url(&self.url()).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }

    pub(crate) async fn redis(&self) -> redis::aio::MultiplexedConnection {
        // The crate gives a reply half a second by default: too little on a busy machine.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
        tls::redis_client(&self.url())
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap()
    }

    pub(crate) fn queue(&self, name: &str) -> Queue {
        let link = Link::new(LinkConfig::from_url(&self.url()).unwrap(), None).unwrap();
        Broker::new(link, Prefix::default()).queue(&QueueName::new(name).unwrap())
    }

    /// The binary, about to talk to this server.
    pub(crate) fn workyard(&self, args: &[&str]) -> Command {
        let mut command = workyard(args);
        // The doctor looks through all keys, which no role may.
        let user = match args.first() {
            Some(&"doctor") => roles::ADMIN,
            _ => roles::role_of(args).name(),
        };
        command.env("WORKYARD_REDIS_URL", self.url_of(user));
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.workyard(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs the binary with this on its stdin.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.workyard(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(port: u16, dir: &std::path::Path, args: &[String]) -> Child {
    let binary = std::env::var("WORKYARD_TEST_SERVER")
        .ok()
        .filter(|path| !path.is_empty());
    Command::new(binary.as_deref().unwrap_or("redis-server"))
        .args(["--bind", "127.0.0.1", "--save", "", "--logfile", "server.log"])
        .args(Entry::from_env().port_args(port))
        .arg("--dir")
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need redis-server on PATH, or its path in WORKYARD_TEST_SERVER")
}

/// The binary without any setting of ours around it.
pub(crate) fn workyard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_workyard"));
    for name in [
        "WORKYARD_REDIS_URL",
        "WORKYARD_QUEUE",
        "WORKYARD_PREFIX",
        "WORKYARD_PATIENCE",
    ] {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, with: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(with), "{self:?}");
        self
    }
}

/// Plays a consumer by the calls of the protocol.
pub(crate) struct Hands {
    pub(crate) queue: Queue,
    pub(crate) id: SessionId,
    above: u64,
    number: u64,
}

impl Hands {
    pub(crate) async fn register(queue: Queue) -> Self {
        let id = SessionId::fresh();
        let beat = queue.heartbeat(&id, Duration::from_secs(600), true).await.unwrap();
        assert!(matches!(beat, Beat::Ok { .. }));
        Self {
            queue,
            id,
            above: 0,
            number: 0,
        }
    }

    /// What is there now, up to `most`.
    pub(crate) async fn claim(&mut self, most: usize) -> Vec<Grant> {
        let request = ClaimRequest::new(&self.id, most, self.above);
        match self.queue.claim(request).await.unwrap() {
            Claimed::Tasks(grants) | Claimed::More(grants) => {
                self.above = grants.iter().map(|grant| grant.token).max().unwrap_or(self.above);
                grants
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next task, waited for.
    pub(crate) async fn next(&mut self) -> Grant {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if let Some(grant) = self.claim(1).await.pop() {
                return grant;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no task came");
    }

    pub(crate) async fn complete(&mut self, grant: &Grant, result: &'static str) {
        let record = grant.record.as_ref().unwrap();
        self.number += 1;
        let completion = Completion {
            id: grant.id.clone(),
            token: grant.token,
            kind: record.kind().to_owned(),
            created_ms: record.created_ms,
            run: Duration::from_millis(1),
            retention: record.options().retention.unwrap_or(Duration::from_secs(3600)),
            result: result.into(),
        };
        let turn = Turn {
            number: self.number,
            completions: vec![completion],
            ..Turn::default()
        };
        turn.send(&self.queue, &self.id, None).await.unwrap();
    }

    /// Hands a task back as a consumer does that knows no handler for it.
    pub(crate) async fn hand_back(&mut self, grant: &Grant) {
        self.release(grant, Some(grant.kind().to_owned()), Duration::from_secs(5))
            .await;
    }

    /// Hands a task back, to come again after a delay.
    pub(crate) async fn release(&mut self, grant: &Grant, unhandled: Option<String>, delay: Duration) {
        self.number += 1;
        let handback = Handback {
            id: grant.id.clone(),
            token: grant.token,
            unhandled,
            delay,
        };
        let turn = Turn {
            number: self.number,
            handbacks: vec![handback],
            ..Turn::default()
        };
        turn.send(&self.queue, &self.id, None).await.unwrap();
    }

    /// Ends a task of a job with this verdict and these parts.
    pub(crate) async fn settle(&mut self, grant: &Grant, verdict: JobVerdict, parts: Vec<(u32, Part)>) {
        self.number += 1;
        let (job, _, _) = Member::of_task(grant.id.as_str()).unwrap();
        let outcome = JobOutcome {
            id: grant.id.to_string(),
            token: grant.token,
            verdict,
            delay: None,
            random: 0.0,
            run: Duration::from_millis(1),
            error: "boom".to_owned(),
            parts,
        };
        let turn = Turn {
            number: self.number,
            job: Some(JobTurn {
                job,
                outcomes: vec![outcome],
            }),
            ..Turn::default()
        };
        turn.send(&self.queue, &self.id, None).await.unwrap();
    }

    pub(crate) async fn fail(&mut self, grant: &Grant, verdict: FailVerdict, error: &str) {
        self.number += 1;
        let failure = FailureReport {
            id: grant.id.clone(),
            token: grant.token,
            verdict,
            delay: None,
            run: Duration::ZERO,
            random: 0.0,
            error: error.to_owned(),
        };
        let turn = Turn {
            number: self.number,
            failures: vec![failure],
            ..Turn::default()
        };
        turn.send(&self.queue, &self.id, None).await.unwrap();
    }
}

/// Waits until it is so, at most [`SOON`].
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
