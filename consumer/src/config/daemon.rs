//! The whole file: what the daemon connects to, which queues it serves, how much at once.
//!
//! Invariant: a [`DaemonConfig`] is complete and in range; nothing later checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::de::{DeTable, DeValue};
use workyard_shared::http::Address;
use workyard_shared::link::{Access, LinkConfig};
use workyard_shared::name::{Prefix, QueueName};

use crate::slots::QueueOrder;
use crate::worker_config::DEFAULT_PREFETCH;

use super::checks::{self, HumanDuration};
use super::handler::{self, HandlerConfig};
use super::jobs::{self, JobsConfig};
use super::keys::{self, KeysConfig};
use super::log::LogFilter;
use super::problem::Problem;
use super::secret::{Secret, SecretSource};
use super::telemetry::{self, TelemetryConfig};

const MIN_DEFAULT_CONCURRENCY: usize = 4;
const MAX_CONCURRENCY: usize = 10_000;
const MAX_PREFETCH: usize = 10_000;
const DEFAULT_LEASE: Duration = Duration::from_secs(3);
const LEASES: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(600);
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
const MAX_DRAIN: Duration = Duration::from_secs(24 * 3600);
const MAX_WEIGHT: usize = 1000;

/// What a daemon does, checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DaemonConfig {
    /// `redis_url`: where Redis is. `None` when only a flag or `WORKYARD_REDIS_URL` says it.
    /// Hidden, since it may hold a password.
    pub redis_url: Option<Secret>,
    /// `redis_user`, `redis_password`, `redis_ca`, `redis_cert`, `redis_key`: how to get in, if the URL does not say.
    pub access: Access,
    /// `prefix`: what every key begins with (default `workyard`).
    pub prefix: Prefix,
    /// `concurrency`: tasks at once in this daemon (default 2 for each core, at least 4).
    pub concurrency: usize,
    /// `prefetch`: most tasks claimed ahead of free slots (default 1,900).
    pub prefetch: usize,
    /// `lease`: how long the daemon may be silent before its tasks go to others (default 3 s).
    pub lease: Duration,
    /// `drain_timeout`: how long running tasks may take to finish at shutdown (default 30 s).
    pub drain_timeout: Duration,
    /// `http`: where health and metrics are served; a bare port is one of loopback (default nowhere).
    pub http: Option<Address>,
    /// `log`: what is logged: a level, or a filter such as `info,workyard_consumer=debug` (default info).
    pub log: Option<LogFilter>,
    /// `watch_host`: whether CPU and memory of the host count (default true).
    pub watch_host: bool,
    /// `queue_order`: how queues share the daemon (default strict).
    pub queue_order: QueueOrder,
    /// `[[queues]]`: what it serves, in the file's order; at least one, no name twice.
    pub queues: Vec<QueueConfig>,
    /// `[jobs]`: what map-reduce jobs may read, and where they may spill (default nowhere).
    pub jobs: JobsConfig,
    /// `[keys]`: the key ring, and whether payloads must be sealed (default none).
    pub keys: KeysConfig,
    /// `[telemetry]`: where spans go (default nowhere).
    pub telemetry: TelemetryConfig,
    /// `[handlers.KIND]`: what runs each kind; at least one, unless `[jobs]` is there: its functions may all be built in.
    pub handlers: BTreeMap<String, HandlerConfig>,
}

/// One queue that a daemon serves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Its name.
    pub name: QueueName,
    /// Its share under [`QueueOrder::Weighted`] (default 1).
    pub weight: usize,
    /// `signed`: whether it takes signed tasks only (default no).
    pub signed: bool,
}

/// What a daemon does.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// Where Redis is; `--redis-url` and `WORKYARD_REDIS_URL` come first.
    redis_url: Option<SecretSource>,
    /// The user of Redis, if the URL names none.
    redis_user: Option<String>,
    /// Its password, if the URL has none; a file is read at each connection.
    redis_password: Option<SecretSource>,
    /// For `rediss://`: the certificate of the authority to trust; default those of the system.
    redis_ca: Option<PathBuf>,
    /// Our own certificate, if Redis asks for one.
    redis_cert: Option<PathBuf>,
    /// The key of that certificate.
    redis_key: Option<PathBuf>,
    /// What every key begins with; default `workyard`.
    prefix: Option<String>,
    /// Tasks at once, 1 to 10,000; default 2 for each core, at least 4.
    concurrency: Option<u64>,
    /// Most tasks claimed ahead of free slots, never more than about 20 ms of work, at most 10,000; default 1,900.
    prefetch: Option<u64>,
    /// Silence after which its tasks go to other consumers, 500 ms to 10 m; default 3 s.
    lease: Option<HumanDuration>,
    /// How long running tasks may take to finish at shutdown, at most 24 h; default 30 s.
    drain_timeout: Option<HumanDuration>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; a bare port is one of loopback. Default nowhere.
    http: Option<Listen>,
    /// What is logged: a level, or a filter such as `info,workyard_consumer=debug`; `--log` and `WORKYARD_LOG` come first.
    /// Default `info`.
    log: Option<String>,
    /// Whether CPU and memory of the machine count for health and adaptive slots; default true.
    watch_host: Option<bool>,
    /// How queues share the daemon.
    #[serde(default)]
    queue_order: QueueOrder,
    /// What it serves; at least one.
    #[serde(default)]
    queues: Vec<RawQueue>,
    /// What map-reduce jobs may read, and where they may spill.
    #[serde(default)]
    jobs: jobs::Raw,
    /// Keys that open payloads, seal results and verify signatures.
    #[serde(default)]
    keys: keys::Raw,
    /// Where spans of tasks go, for OpenTelemetry.
    #[serde(default)]
    telemetry: telemetry::Raw,
    /// What runs each kind; at least one, unless `[jobs]` is there.
    #[schemars(with = "Option<super::reference::Handlers>")]
    #[expect(
        dead_code,
        reason = "taken out before; stands here to be among the names that an error lists"
    )]
    handlers: Option<IgnoredAny>,
}

/// A port as a number, or an address as text.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Listen {
    /// A port of loopback.
    Port(u16),
    /// `ADDRESS:PORT`.
    Text(String),
}

impl Listen {
    fn address(self) -> Result<Address, Problem> {
        let text = match self {
            Self::Port(port) => port.to_string(),
            Self::Text(text) => text,
        };
        text.parse()
            .map_err(|error| Problem::new("http", checks::reason(&error)))
    }
}

/// A queue.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table: [[queues]], and below it name = \"emails\""
)]
struct RawQueue {
    /// Its name.
    name: String,
    /// Its share with `queue_order = "weighted"`, 1 to 1000; default 1.
    weight: Option<u64>,
    /// Whether it takes signed tasks only; others are dead letters before anything runs. No step of a map-reduce job is signed.
    #[serde(default)]
    signed: bool,
}

/// Checks the text of a configuration; relative paths in it are below `base`.
pub(crate) fn parse(text: &str, base: &Path) -> Result<DaemonConfig, Problem> {
    let mut root = DeTable::parse(text)?;
    if matches!(
        root.get_ref().get("queues").map(|value| value.get_ref()),
        Some(DeValue::Table(_))
    ) {
        let text =
            "stand in two pairs of brackets, one such table for each: [[queues]], and below it name = \"emails\"";
        return Err(Problem::new("queues", text));
    }
    let handlers = handlers(root.get_mut(), base)?;
    let mut raw = Raw::deserialize(toml::Deserializer::from(root))?;
    let access = access(&mut raw, base).map_err(|text| Problem::new("redis_password", text))?;
    let prefix = match raw.prefix {
        Some(text) => Prefix::new(text).map_err(|error| Problem::new("prefix", checks::reason(&error)))?,
        None => Prefix::default(),
    };
    let redis_url = raw.redis_url.map(|source| redis_url(source, base)).transpose();
    let lease = raw.lease.unwrap_or(HumanDuration(DEFAULT_LEASE));
    let drain = raw.drain_timeout.unwrap_or(HumanDuration(DEFAULT_DRAIN));
    Ok(DaemonConfig {
        redis_url: redis_url.map_err(|text| Problem::new("redis_url", text))?,
        access,
        prefix,
        concurrency: match raw.concurrency {
            Some(n) => checks::number("concurrency", n, 1..=MAX_CONCURRENCY)?,
            None => default_concurrency(),
        },
        prefetch: match raw.prefetch {
            Some(n) => checks::number("prefetch", n, 0..=MAX_PREFETCH)?,
            None => DEFAULT_PREFETCH,
        },
        lease: checks::duration("lease", lease, LEASES)?,
        drain_timeout: checks::duration("drain_timeout", drain, Duration::ZERO..=MAX_DRAIN)?,
        http: raw.http.map(Listen::address).transpose()?,
        log: match raw.log {
            Some(text) => Some(LogFilter::new(text).map_err(|reason| Problem::new("log", reason))?),
            None => None,
        },
        watch_host: raw.watch_host.unwrap_or(true),
        queue_order: raw.queue_order,
        queues: queues(raw.queues)?,
        jobs: jobs::check(&raw.jobs, base)?,
        keys: raw.keys.check(base),
        telemetry: raw.telemetry.check(base)?,
        handlers,
    })
}

/// Looked at here, so that a check of the file finds what the start would.
fn redis_url(source: SecretSource, base: &Path) -> Result<Secret, String> {
    let url = source.resolve(base)?;
    if url.expose() != "managed" {
        LinkConfig::from_url(url.expose()).map_err(|error| checks::reason(&error))?;
    }
    Ok(url)
}

/// A password's file is kept as such: it is read at each connection.
fn access(raw: &mut Raw, base: &Path) -> Result<Access, String> {
    let mut access = Access {
        redis_user: raw.redis_user.take(),
        redis_ca: raw.redis_ca.take().map(|file| base.join(file)),
        redis_cert: raw.redis_cert.take().map(|file| base.join(file)),
        redis_key: raw.redis_key.take().map(|file| base.join(file)),
        ..Access::default()
    };
    match raw.redis_password.take() {
        Some(SecretSource::File(file)) => access.redis_password_file = Some(base.join(file)),
        Some(source) => access.password = Some(source.resolve(base)?),
        None => {}
    }
    Ok(access)
}

fn default_concurrency() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    MIN_DEFAULT_CONCURRENCY.max(2 * cores)
}

fn queues(raw: Vec<RawQueue>) -> Result<Vec<QueueConfig>, Problem> {
    let mut seen = BTreeSet::new();
    let mut queues = Vec::with_capacity(raw.len());
    for RawQueue { name, weight, signed } in raw {
        let refuse = |text| Problem::new("queues", text);
        let name = QueueName::new(name).map_err(|error| refuse(checks::reason(&error)))?;
        if !seen.insert(name.clone()) {
            return Err(refuse(format!("\"{name}\" stands there twice; name each queue once")));
        }
        let weight = checks::number("weight", weight.unwrap_or(1), 1..=MAX_WEIGHT).map_err(|p| p.under("queues"))?;
        queues.push(QueueConfig { name, weight, signed });
    }
    if queues.is_empty() {
        return Err(Problem::new("queues", "there is none; add [[queues]] with a name"));
    }
    Ok(queues)
}

fn handlers(root: &mut DeTable<'_>, base: &Path) -> Result<BTreeMap<String, HandlerConfig>, Problem> {
    let none = || {
        Problem::new(
            "handlers",
            "there is none; add [handlers.KIND] with a type, or [jobs] for the built-in functions of map-reduce jobs",
        )
    };
    let only_jobs = root.contains_key("jobs");
    let Some(value) = root.remove("handlers") else {
        return if only_jobs { Ok(BTreeMap::new()) } else { Err(none()) };
    };
    let DeValue::Table(table) = value.into_inner() else {
        return Err(Problem::new(
            "handlers",
            "must be tables, one [handlers.KIND] for each kind",
        ));
    };
    let mut handlers = BTreeMap::new();
    for (kind, value) in table {
        let kind = kind.into_inner();
        let handler = handler::parse(&kind, value, base).map_err(|problem| problem.under("handlers"))?;
        handlers.insert(kind.into_owned(), handler);
    }
    if handlers.is_empty() && !only_jobs {
        return Err(none());
    }
    Ok(handlers)
}
