//! Who is measured beside Workyard: what each promises, how it is set, and how its harness is called.
//!
//! Adding one: a program in benches/peers that speaks the modes of its README, and an entry here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How a harness is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This program.
    Us,
    Node,
    Python,
    Ruby,
    Rust,
    /// It cannot run here: the reason.
    Absent(&'static str),
}

/// One queue library.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What happens to the task of a killed process.
    pub(crate) claim: &'static str,
    pub(crate) retries: &'static str,
    pub(crate) settings: &'static str,
    /// Tasks of a drain, so that it takes a second or two; a quarter of them of the full cycle.
    pub(crate) tasks: usize,
    /// The same of an enqueue by 64 callers ...
    pub(crate) many: usize,
    /// ... and in bulk; 0: it has no such call.
    pub(crate) bulk: usize,
    pub(crate) cycle: bool,
    /// Whether it is measured behind a million tasks: filling takes longest.
    pub(crate) backlog: bool,
}

const PEER: Peer = Peer {
    name: "",
    kind: Kind::Us,
    claim: "crash-safe",
    retries: "yes",
    settings: "",
    tasks: 0,
    many: 0,
    bulk: 0,
    cycle: true,
    backlog: false,
};

pub(crate) const PEERS: [Peer; 11] = [
    Peer {
        name: "workyard",
        claim: "crash-safe, fenced; 3 s lease renewed by heartbeat",
        retries: "yes, by default",
        settings: "library worker, concurrency 100, all else default; bulk in calls of 1,000",
        tasks: 192_000,
        many: 128_000,
        bulk: 256_000,
        backlog: true,
        ..PEER
    },
    Peer {
        name: "bullmq",
        kind: Kind::Node,
        claim: "crash-safe: lock of 30 s, stalled check",
        retries: "yes, attempts 3 set",
        settings: "concurrency 100, removeOnComplete, addBulk of 1,000, waitUntilFinished; ioredis",
        tasks: 38_400,
        many: 38_400,
        bulk: 38_400,
        backlog: true,
        ..PEER
    },
    Peer {
        name: "bullmq-official",
        kind: Kind::Rust,
        claim: "crash-safe: lock of 30 s, stalled check",
        retries: "yes, attempts 3 set",
        settings: "concurrency 100, remove_on_complete, add_bulk of 1,000; no wait of its own: QueueEvents",
        tasks: 38_400,
        many: 57_600,
        bulk: 38_400,
        backlog: true,
        ..PEER
    },
    Peer {
        name: "rusty-sidekiq",
        kind: Kind::Rust,
        claim: "not crash-safe (BRPOP)",
        retries: "yes, 25 by default",
        settings: "num_workers 100, bb8 pool of 128 (a BRPOP occupies one each), one queue; all else default",
        tasks: 19_200,
        many: 38_400,
        cycle: false,
        ..PEER
    },
    Peer {
        name: "apalis-redis",
        kind: Kind::Rust,
        claim: "crash-safe: per-worker set, heartbeat of 30 s",
        retries: "yes, RetryPolicy set",
        settings: "batch_size 100, concurrency 100, RedisStorageFactory and poll_with_interval 50 ms (its pub/sub alone wakes nobody), RetryPolicy of 3, \
                   push_bulk of 1,000, persist_results only when awaited (its wait polls every 100 ms); 6,400 tasks at a time: its claim \
                   unpacks all due tasks at once, and fails above 8,000",
        tasks: 6_400,
        many: 96_000,
        bulk: 128_000,
        ..PEER
    },
    Peer {
        name: "sidekiq",
        kind: Kind::Ruby,
        claim: "not crash-safe (BRPOP); the paid version is",
        retries: "yes, 25 by default",
        settings: "Debian's version, one process of 10 threads (default), queue default, BasicFetch, client pool of 64, push_bulk of 1,000, log fatal",
        tasks: 12_800,
        many: 6_400,
        bulk: 128_000,
        backlog: true,
        cycle: false,
    },
    Peer {
        name: "dramatiq",
        kind: Kind::Python,
        claim: "crash-safe: acknowledged after the run, heartbeat",
        retries: "yes, 20 by default",
        settings: "1 process of 8 threads (default), all its default middleware, Results with RedisBackend only when awaited",
        tasks: 4_480,
        many: 4_480,
        ..PEER
    },
    Peer {
        name: "taskiq",
        kind: Kind::Python,
        claim: "crash-safe: stream group, idle claim",
        retries: "yes, SimpleRetryMiddleware set",
        settings: "taskiq-redis 1.2 RedisStreamBroker, max_async_tasks 100, max_retries 3, RedisAsyncResultBackend (60 s) only when awaited, with \
                   check_interval 2 ms",
        tasks: 4_480,
        many: 4_480,
        ..PEER
    },
    Peer {
        name: "rq",
        kind: Kind::Python,
        claim: "kept, but marked failed",
        retries: "only if asked per job",
        settings: "SimpleWorker (its fast one), result_ttl 0 (60 s when awaited), enqueue_many of 1,000",
        tasks: 640,
        many: 1_600,
        bulk: 12_800,
        ..PEER
    },
    Peer {
        name: "celery",
        kind: Kind::Python,
        claim: "crash-safe with acks_late: 1 h visibility timeout",
        retries: "only if asked per task",
        settings: "acks_late, pool solo, prefetch multiplier 128, gossip and mingle off, results ignored, kept in Redis only when awaited",
        tasks: 2_560,
        many: 1_600,
        ..PEER
    },
    Peer {
        name: "chasquimq",
        kind: Kind::Absent(
            "crate 1.3.0 is there, but every XADD of it carries IDMP, which needs Redis 8.6; its own figures: no persistence, no priorities",
        ),
        claim: "crash-safe: stream group, idle claim",
        retries: "yes, by default",
        settings: "",
        ..PEER
    },
];

impl Peer {
    /// The package's folder of `root`, where its group was installed.
    pub(crate) fn folder(&self, root: &Path) -> Option<(&'static str, PathBuf)> {
        let group = match self.kind {
            Kind::Node => "node",
            Kind::Python => "python",
            Kind::Ruby => "ruby",
            Kind::Rust => "rust",
            Kind::Us | Kind::Absent(_) => return None,
        };
        Some((group, root.join(group)))
    }

    /// Its harness, without a mode. `sources` is benches/peers.
    pub(crate) fn harness(&self, root: &Path, sources: &Path) -> anyhow::Result<Command> {
        let script = |program: PathBuf, file: PathBuf| {
            let mut command = Command::new(program);
            command.arg(file);
            command
        };
        let name = self.name;
        Ok(match self.kind {
            Kind::Node => script("node".into(), root.join(format!("node/{name}.js"))),
            Kind::Python => script(
                root.join("python/bin/python"),
                sources.join(format!("python/peer_{name}.py")),
            ),
            Kind::Ruby => script("ruby".into(), sources.join(format!("ruby/{name}.rb"))),
            Kind::Rust => Command::new(root.join("rust/release").join(name)),
            Kind::Us => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("--as-peer");
                command
            }
            Kind::Absent(reason) => anyhow::bail!("{reason}"),
        })
    }

    /// The version that was installed, and what it runs on.
    pub(crate) fn version(&self, root: &Path, sources: &Path) -> String {
        let asked = match self.kind {
            Kind::Us => return env!("CARGO_PKG_VERSION").to_owned(),
            Kind::Absent(_) => return "-".to_owned(),
            Kind::Rust => return locked(&sources.join("rust/Cargo.lock"), self.name).unwrap_or_default(),
            Kind::Node => {
                let ask = format!(
                    "require('{}/package.json').version + ', Node ' + process.versions.node",
                    self.name
                );
                output(Command::new("node").current_dir(root.join("node")).args(["-p", &ask]))
            }
            Kind::Python => {
                let ask = "import importlib.metadata as m, platform as p, sys; print(f'{m.version(sys.argv[1])}, Python {p.python_version()}')";
                output(Command::new(root.join("python/bin/python")).args(["-c", ask, self.name]))
            }
            Kind::Ruby => {
                let ask = "puts \"#{Sidekiq::VERSION}, Ruby #{RUBY_VERSION}\"";
                output(Command::new("ruby").args(["-r", "sidekiq/version", "-e", ask]))
            }
        };
        asked.unwrap_or_else(|| "unknown".to_owned())
    }
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a package in a Cargo.lock.
fn locked(file: &Path, package: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let entry = text
        .split("[[package]]")
        .find(|entry| entry.contains(&format!("name = \"{package}\"\n")))?;
    let line = entry.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(line.trim_matches('"').to_owned())
}
