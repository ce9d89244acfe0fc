//! The daemon: command line and file become a [`Worker`], signals become a drain.
//!
//! Invariant: everything is checked before anything is claimed. The first SIGTERM or SIGINT
//! drains; a second one exits now, and the leases give the work to others.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use workyard_shared::Error;
use workyard_shared::link::{DEFAULT_URL, LinkConfig};
use workyard_shared::managed::ManagedRedis;
use workyard_shared::name::{Prefix, QueueName};

use crate::config::{self, ConfigError, DaemonConfig, JobsConfig, Place};
use crate::{Registry, Worker, WorkerConfig, handlers};

/// Exit code for bad use: flags, configuration, names.
const EXIT_BAD_USE: u8 = 2;
/// Exit code when Redis refuses this user or cannot be used.
const EXIT_REDIS: u8 = 4;
/// What a daemon does that has no file.
const ONLY_JOBS: &str = "[[queues]]\nname = \"default\"\n[jobs]\n";
/// How often a managed server is looked after.
const MANAGED_CHECK: Duration = Duration::from_secs(2);

/// Claims tasks from Redis queues and runs them with the handlers of a configuration file.
#[derive(Debug, Parser)]
#[command(
    name = "workyard-consumer",
    version,
    after_help = "Examples:\n  \
        workyard-consumer --config workyard.toml\n  \
        workyard-consumer --config workyard.toml --redis-url managed --until-empty\n  \
        workyard-consumer --config workyard.toml --check\n  \
        workyard-consumer --jobs-read /data --redis-url managed\n\n\
        Exit codes: 0 drained, 2 bad use or configuration, 4 Redis refuses this user or is unsafe.\n\
        SIGTERM and SIGINT drain; a second one exits at once."
)]
pub struct Cli {
    /// The configuration file. With --jobs-read it can be left out: the daemon then serves the queue `default` (or --queue)
    /// with the built-in functions of map-reduce jobs.
    #[arg(
        long,
        short,
        env = "WORKYARD_CONFIG",
        value_name = "FILE",
        required_unless_present = "jobs_read"
    )]
    config: Option<PathBuf>,
    /// Where Redis is: redis://user:password@host:port/db, unix:///path, or `managed` for a server that is
    /// started or joined. Goes before the file's `redis_url`.
    #[arg(
        long,
        visible_alias = "redis",
        env = "WORKYARD_REDIS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    redis_url: Option<String>,
    /// What all keys begin with.
    #[arg(long, env = "WORKYARD_PREFIX")]
    prefix: Option<String>,
    /// Serve these queues instead of the file's, in this order.
    #[arg(long = "queue", short, value_name = "QUEUE")]
    queues: Vec<String>,
    /// Tasks at once.
    #[arg(long)]
    concurrency: Option<usize>,
    /// Let map-reduce jobs read below this folder or s3://bucket/prefix, on top of what the file lists.
    #[arg(long, value_name = "PATH")]
    jobs_read: Vec<String>,
    /// Let map-reduce jobs leave intermediate data below this folder or s3://bucket/prefix, on top of what the file lists.
    #[arg(long, value_name = "PATH")]
    jobs_spill: Vec<String>,
    /// End when all queues are empty and nothing runs or waits for a retry.
    #[arg(long)]
    until_empty: bool,
    /// Start also on a Redis that may evict tasks when its memory is short.
    #[arg(long)]
    allow_eviction: bool,
    /// Check the configuration and end.
    #[arg(long)]
    check: bool,
    /// How the log is written to standard error.
    #[arg(long, env = "WORKYARD_LOG_FORMAT", default_value = "human")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `workyard_consumer=debug`.
    #[arg(long, env = "WORKYARD_LOG", default_value = "info")]
    log: String,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why the daemon did not start or ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Workyard(#[from] Error),
    #[error("{0}")]
    Managed(#[from] workyard_shared::managed::Error),
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    fn code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Workyard(Error::Invalid(_)) | Self::Io(_) => ExitCode::from(EXIT_BAD_USE),
            Self::Workyard(_) | Self::Managed(_) => ExitCode::from(EXIT_REDIS),
        }
    }
}

/// Runs the daemon to its end.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    if let Err(text) = start_log(cli) {
        eprintln!("error: {text}");
        return ExitCode::from(EXIT_BAD_USE);
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            failure.code()
        }
    }
}

fn start_log(cli: &Cli) -> Result<(), String> {
    // A bare word that is no level would be a target that nothing has: silence.
    let is_level =
        |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_lowercase().as_str());
    if let Some(word) = cli
        .log
        .split(',')
        .map(str::trim)
        .find(|word| !word.contains('=') && !is_level(word))
    {
        return Err(format!(
            "--log: \"{word}\" must be error, warn, info, debug, trace, or target=level"
        ));
    }
    let filter = EnvFilter::try_new(&cli.log)
        .map_err(|e| format!("--log \"{}\": {e}; try error, warn, info, debug or trace", cli.log))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    match cli.log_format {
        LogFormat::Human => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let file = match &cli.config {
        Some(path) => config::load(path)?,
        None => config::parse(ONLY_JOBS, "the defaults".as_ref())?,
    };
    let registry = registry(&file)?;
    let (worker, managed) = worker_config(cli, &file)?;
    if cli.check {
        let kinds = registry.kinds().join(", ");
        info!(
            "the configuration is sound: {} queues, kinds {kinds}",
            worker.queues.len()
        );
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let keeper = managed.map(|redis| tokio::spawn(keep_up(redis)));
        let ended = Worker::new(worker, registry)?.serve().await;
        if let Some(keeper) = keeper {
            keeper.abort();
        }
        Ok(ended?)
    });
    // A blocking handler that ignores its cancel must not hold the exit.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

fn registry(file: &DaemonConfig) -> Result<Registry, Failure> {
    let mut registry = Registry::new();
    for (kind, handler) in &file.handlers {
        let built = handlers::build(handler)?;
        registry.add(kind, built.handler, handler.concurrency)?;
        if let Some(stage) = built.stage {
            registry.stage(kind, stage)?;
        }
    }
    Ok(registry)
}

/// Flags go before the environment, the environment before the file, the file before defaults.
fn worker_config(cli: &Cli, file: &DaemonConfig) -> Result<(WorkerConfig, Option<ManagedRedis>), Failure> {
    let in_file = file.redis_url.as_ref().map(|url| url.expose().to_owned());
    let url = cli
        .redis_url
        .clone()
        .or(in_file)
        .unwrap_or_else(|| DEFAULT_URL.to_owned());
    let (url, managed) = if url == "managed" {
        let redis = ManagedRedis::from_env()?;
        let joined = redis.start_or_join()?;
        info!("using the managed Redis in {}", redis.dir().display());
        (joined.server.url, Some(redis))
    } else {
        (url, None)
    };
    let mut queues = Vec::new();
    for queue in &file.queues {
        queues.push((queue.name.clone(), queue.weight));
    }
    if !cli.queues.is_empty() {
        queues = cli
            .queues
            .iter()
            .map(|name| Ok((QueueName::new(name)?, 1)))
            .collect::<Result<_, Error>>()?;
    }
    let prefix = match &cli.prefix {
        Some(prefix) => Prefix::new(prefix)?,
        None => file.prefix.clone(),
    };
    let first = queues
        .first()
        .map_or_else(|| QueueName::new("default"), |(name, _)| Ok(name.clone()))?;
    let config = WorkerConfig {
        prefix,
        queues,
        order: file.queue_order,
        concurrency: cli.concurrency.unwrap_or(file.concurrency),
        lease: file.lease,
        drain_timeout: file.drain_timeout,
        watch_host: file.watch_host,
        jobs: jobs(cli, file)?,
        until_empty: cli.until_empty,
        allow_eviction: cli.allow_eviction,
        ..WorkerConfig::new(LinkConfig::from_url(&url)?, first)
    };
    Ok((config, managed))
}

/// The file's places and those of the flags; relative ones are below the folder of whoever wrote them.
fn jobs(cli: &Cli, file: &DaemonConfig) -> Result<JobsConfig, Error> {
    let here = std::path::absolute(".").map_err(|e| Error::Invalid(format!("there is no current folder: {e}")))?;
    let mut jobs = file.jobs.clone();
    for (flag, texts, places) in [
        ("--jobs-read", &cli.jobs_read, &mut jobs.read),
        ("--jobs-spill", &cli.jobs_spill, &mut jobs.spill),
    ] {
        for text in texts {
            places.push(Place::parse(text, &here).map_err(|reason| Error::Invalid(format!("{flag}: {reason}")))?);
        }
    }
    Ok(jobs)
}

/// Starts the managed server again when it has died.
async fn keep_up(redis: ManagedRedis) {
    loop {
        tokio::time::sleep(MANAGED_CHECK).await;
        let redis = redis.clone();
        match tokio::task::spawn_blocking(move || redis.ensure().map(|_| ())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the managed Redis is down and cannot be started"),
            Err(error) => warn!(%error, "the managed Redis could not be looked after"),
        }
    }
}
