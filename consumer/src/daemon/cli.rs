//! The command line of the daemon, as clap reads it.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand, ValueEnum};
use workyard_shared::http::Address;
use workyard_shared::link::Access;

use crate::config::LogFilter;
use crate::ops::Healthcheck;

/// Claims tasks from Redis queues and runs them with the handlers of a configuration file.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "workyard-consumer",
    version,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
        workyard-consumer --config workyard.toml\n  \
        workyard-consumer --config workyard.toml --redis-url managed --until-empty\n  \
        workyard-consumer --config workyard.toml --check\n  \
        workyard-consumer --jobs-read /data --redis-url managed\n\n\
        Exit codes: 0 drained, 2 bad use or configuration (a Redis that may evict tasks, too), 4 Redis refuses this user.\n\
        SIGTERM and SIGINT drain; a second one exits at once. SIGHUP reloads concurrency, queues, log level,\n\
        handlers and keys; a file that changes anything else is refused whole."
)]
pub struct Cli {
    /// What to do instead of working.
    #[command(subcommand)]
    pub(super) action: Option<Action>,
    /// The configuration file. With --jobs-read it can be left out: the daemon then serves the queue `default` (or --queue)
    /// with the built-in functions of map-reduce jobs.
    #[arg(
        long,
        short,
        env = "WORKYARD_CONFIG",
        value_name = "FILE",
        required_unless_present = "jobs_read"
    )]
    pub(super) config: Option<PathBuf>,
    /// Where Redis is: redis://user:password@host:port/db, unix:///path, or `managed` for a server that is
    /// started or joined. Goes before the file's `redis_url`.
    #[arg(
        long,
        visible_alias = "redis",
        env = "WORKYARD_REDIS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(super) redis_url: Option<String>,
    #[command(flatten)]
    pub(super) access: Access,
    /// A key ring, which opens payloads, seals results and verifies signatures (`workyard keys`). Goes before the file's
    /// `[keys]`.
    #[arg(long, env = "WORKYARD_KEYS_FILE", value_name = "FILE")]
    pub(super) keys: Option<PathBuf>,
    /// What all keys begin with.
    #[arg(long, env = "WORKYARD_PREFIX")]
    pub(super) prefix: Option<String>,
    /// Serve these queues instead of the file's, in this order.
    #[arg(long = "queue", short, value_name = "QUEUE")]
    pub(super) queues: Vec<String>,
    /// Tasks at once.
    #[arg(long)]
    pub(super) concurrency: Option<usize>,
    /// Let map-reduce jobs read below this folder or s3://bucket/prefix, on top of what the file lists.
    #[arg(long, value_name = "PATH")]
    pub(super) jobs_read: Vec<String>,
    /// Let map-reduce jobs leave intermediate data below this folder or s3://bucket/prefix, on top of what the file lists.
    #[arg(long, value_name = "PATH")]
    pub(super) jobs_spill: Vec<String>,
    /// End when all queues are empty and nothing runs or waits for its time or a retry; a paused queue with tasks is not
    /// empty. The log says what it waits for, once and then every ten minutes.
    #[arg(long)]
    pub(super) until_empty: bool,
    /// Start also on a Redis that may evict tasks when its memory is short.
    #[arg(long)]
    pub(super) allow_eviction: bool,
    /// Check the configuration and end.
    #[arg(long)]
    pub(super) check: bool,
    /// How the log is written to standard error.
    #[arg(long, env = "WORKYARD_LOG_FORMAT", default_value = "human")]
    pub(super) log_format: LogFormat,
    /// What is logged: error, warn, info (the default), debug, trace, or a filter such as `workyard_consumer=debug`.
    #[arg(long, env = "WORKYARD_LOG", value_name = "FILTER")]
    pub(super) log: Option<LogFilter>,
    /// Send spans of tasks to this collector, by OTLP over HTTP: an address such as http://127.0.0.1:4318. Goes before
    /// OTEL_EXPORTER_OTLP_ENDPOINT and the file's `[telemetry]`; none are made without any of them.
    #[arg(long, value_name = "URL")]
    pub(super) otlp_endpoint: Option<String>,
    /// Serve /healthz, /readyz and /metrics here: a port of this machine, or address and port. Nowhere without it.
    #[arg(long, env = "WORKYARD_HTTP", value_name = "ADDR")]
    pub(super) http: Option<Address>,
}

impl Cli {
    /// Reads the arguments of this process; one that is wrong ends it with code 2.
    #[must_use]
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_tip(error).exit())
    }
}

/// A file without its flag looks like a command to clap.
fn with_tip(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && word.ends_with(".toml")
    {
        let tip = format!("the file goes behind its flag: --config {word}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What to do instead of working.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Action {
    /// Ask a running daemon how it is; for a container's HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// Write the man page to standard output.
    Man,
    /// Write a JSON Schema of the configuration file to standard output, for editors.
    Schema,
    /// Write completions for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_its_flag_is_told_the_flag() {
        let said = |word: &str| with_tip(Cli::try_parse_from(["workyard-consumer", word]).unwrap_err()).to_string();
        assert!(said("app.toml").contains("--config app.toml"), "{}", said("app.toml"));
        assert!(!said("app").contains("--config app"), "{}", said("app"));
    }
}
