//! The arguments, as clap reads them: types, defaults, help.
//!
//! Invariant: after parsing, every name, duration and level is valid; commands check only what
//! needs a file or Redis. Nothing here acts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use workyard_producer::{Cursor, Durability, Filter, Kind, Prefix, PurgePlace, QueueName, State, TaskId};
use workyard_shared::duration;
use workyard_shared::link::DEFAULT_URL;

use super::value;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the task failed, was cancelled or expired; or there is no such task
  2  bad use: an argument, a file or the input is wrong
  3  not in the given time
  4  Redis is unavailable or denies the call

Durations are written like 250ms, 30s, 5m, 2h, 1d or \"1h 30m\"; points in time as RFC 3339 or as milliseconds since 1970.";

/// A persistent task queue on Redis: enqueue, look, wait, operate.
#[derive(Debug, Parser)]
#[command(name = "workyard", version, after_help = EXIT_CODES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Arguments of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where Redis is: redis://[user:password@]host:port/db, rediss://..., unix:///path, or `managed`
    #[arg(long, global = true, env = "WORKYARD_REDIS_URL", default_value = DEFAULT_URL, hide_env_values = true, hide_default_value = true, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) redis_url: String,
    /// What the keys of this installation begin with [default: workyard]
    #[arg(long, global = true, env = "WORKYARD_PREFIX", value_parser = value::named::<Prefix>, value_name = "PREFIX")]
    pub(crate) prefix: Option<Prefix>,
    /// The queue [default: default]
    #[arg(long, short, global = true, env = "WORKYARD_QUEUE", value_parser = value::named::<QueueName>, value_name = "QUEUE")]
    pub(crate) queue: Option<QueueName>,
    /// Write JSON: one document, or lines of it for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long an outage of Redis is waited out
    #[arg(long, global = true, env = "WORKYARD_PATIENCE", default_value = "10s", value_parser = value::span, value_name = "DURATION")]
    pub(crate) patience: Duration,
    /// The form of log lines on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Log more; twice for everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Forms of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a task, or a file of tasks
    Enqueue(Box<EnqueueArgs>),
    /// Show everything known of a task
    #[command(after_help = "Examples:\n  workyard task 0193f3a2-...\n  workyard task order-42 --result > result.json")]
    Task(TaskArgs),
    /// Wait until a task has ended and print its result
    #[command(after_help = "Woken by Redis, not polled. Exit code 0 if it completed, 1 if it failed, was cancelled or expired, 3 on a timeout.\n\nExamples:\n  workyard wait order-42 --timeout 30s")]
    Wait(WaitArgs),
    /// Show recent ends of tasks, or follow them as they happen
    #[command(after_help = "Examples:\n  workyard results --limit 10\n  workyard results --follow --json | jq .result\n  workyard results --follow --limit 1")]
    Results(ResultsArgs),
    /// List tasks, page by page
    #[command(after_help = "Examples:\n  workyard list --state failed --error refused\n  workyard list --kind mail:send --limit 100 --json\n  workyard list --cursor failed:50")]
    List(ListArgs),
    /// Cancel tasks, wherever they are
    #[command(after_help = "Example:\n  workyard cancel order-42 order-43")]
    Cancel(IdsArgs),
    /// Make dead letters pending again
    #[command(after_help = "Examples:\n  workyard retry order-42\n  workyard retry --all --error \"connection refused\"")]
    Retry(RetryArgs),
    /// Delete finished tasks: results and dead letters
    #[command(after_help = "Example:\n  workyard delete order-42")]
    Delete(IdsArgs),
    /// Hand out no more tasks of the queue; what runs goes on
    #[command(after_help = "Example:\n  workyard pause --queue emails")]
    Pause,
    /// Hand out tasks again
    #[command(after_help = "Example:\n  workyard resume --queue emails")]
    Resume,
    /// Remove all tasks of one place, for good
    #[command(after_help = "Example:\n  workyard purge failed --queue emails --yes")]
    Purge(PurgeArgs),
    /// Load Workyard's functions into Redis (consumers and producers do it too, if their ACL lets them)
    #[command(after_help = "Example:\n  workyard install --redis-url redis://admin:...@db1/")]
    Install,
    /// List the queues and what is in them
    #[command(after_help = "Example:\n  workyard queues --json")]
    Queues,
    /// Show every counter, per queue and per kind
    #[command(after_help = "Without --queue all queues are shown.\n\nExamples:\n  workyard stats --queue emails\n  workyard stats --minutes")]
    Stats(StatsArgs),
    /// List the consumers and how they are
    #[command(after_help = "Without --queue the consumers of all queues are shown.\n\nExample:\n  workyard consumers --json")]
    Consumers,
    /// Show inbox items that were refused, with the reason
    #[command(after_help = "Example:\n  workyard rejected --queue emails")]
    Rejected(RejectedArgs),
    /// Write completions for a shell
    #[command(after_help = "Example:\n  workyard completions bash > /etc/bash_completion.d/workyard")]
    Completions(CompletionsArgs),
    /// Write the man page, or with --dir one for each command
    #[command(after_help = "Examples:\n  workyard man | man -l -\n  workyard man --dir /usr/local/share/man/man1")]
    Man(ManArgs),
}

const ENQUEUE_HELP: &str = "\
Prints the id. The payload is kept byte for byte; one line end at the end of a file or of stdin is cut.

Examples:
  workyard enqueue mail:send '{\"to\":\"ada@example.com\"}'
  workyard enqueue resize @job.json --priority 1 --timeout 2m
  date +%s | workyard enqueue tick - --delay 1h --id tick-1
  workyard enqueue sum '[1,2]' --wait 30s
  workyard enqueue --from-file tasks.jsonl --skip-invalid

A file has one task per line, as in the inbox:
  {\"kind\":\"mail:send\",\"payload\":{\"to\":\"ada@example.com\"},\"priority\":1,\"queue\":\"emails\"}
All lines are checked first; if one is wrong, nothing is enqueued, unless --skip-invalid is given.";

/// Arguments of `enqueue`.
#[derive(Debug, Args)]
#[command(after_help = ENQUEUE_HELP)]
pub(crate) struct EnqueueArgs {
    /// What picks the handler
    #[arg(value_parser = value::named::<Kind>, required_unless_present = "from_file")]
    pub(crate) kind: Option<Kind>,
    /// JSON, @file, or - for stdin [default: null]
    #[arg(allow_negative_numbers = true)]
    pub(crate) payload: Option<String>,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
    /// The task's id; the same id is one task. A UUIDv7 is made otherwise
    #[arg(long, value_parser = value::named::<TaskId>, value_name = "ID")]
    pub(crate) id: Option<TaskId>,
    /// A header for the handler; may be repeated
    #[arg(long = "header", value_parser = value::header, value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<(String, String)>,
    /// Wait for the end (at most this long) and print the result
    #[arg(long, num_args = 0..=1, require_equals = true, value_parser = value::span, value_name = "DURATION")]
    pub(crate) wait: Option<Option<Duration>>,
    /// Enqueue a file of envelopes, one JSON object per line; - for stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = FILE_CONFLICTS)]
    pub(crate) from_file: Option<PathBuf>,
    /// Enqueue the valid lines of the file although others are not
    #[arg(long, requires = "from_file")]
    pub(crate) skip_invalid: bool,
    /// How safe the task must be: memory, fsync or replica:n
    #[arg(long, default_value = "memory", value_parser = value::named::<Durability>, value_name = "LEVEL")]
    pub(crate) durability: Durability,
}

const FILE_CONFLICTS: [&str; 18] = [
    "kind", "payload", "id", "headers", "wait", "priority", "delay", "at", "timeout", "max_attempts", "retention",
    "expires_in", "expires_at", "backoff_base", "backoff_factor", "backoff_cap", "backoff_jitter",
    "retry_priority_step",
];

/// What a task may choose.
#[derive(Debug, Args)]
#[command(next_help_heading = "Task options")]
pub(crate) struct OptionArgs {
    /// 0 (most urgent) to 255 [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u8>,
    /// Not before this long from now
    #[arg(long, value_parser = value::span, value_name = "DURATION", conflicts_with = "at")]
    pub(crate) delay: Option<Duration>,
    /// Not before this point in time
    #[arg(long, value_parser = value::instant, value_name = "TIME")]
    pub(crate) at: Option<u64>,
    /// Longest run of one attempt
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
    /// Failures after which it is a dead letter, 1 to 1000 [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,
    /// How long the result stays; 0 keeps none [default: 1h]
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) retention: Option<Duration>,
    /// Expired if not started within this long
    #[arg(long, value_parser = value::span, value_name = "DURATION", conflicts_with = "expires_at")]
    pub(crate) expires_in: Option<Duration>,
    /// Expired if not started by then
    #[arg(long, value_parser = value::instant, value_name = "TIME")]
    pub(crate) expires_at: Option<u64>,
    /// Wait before a retry: min(base * factor^failures, cap) [default: 1s]
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) backoff_base: Option<Duration>,
    /// 1 to 100 [default: 2]
    #[arg(long, value_name = "X")]
    pub(crate) backoff_factor: Option<f64>,
    /// Longest wait before a retry [default: 1h]
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) backoff_cap: Option<Duration>,
    /// 0 to 1: the share of the wait that chance may add [default: 0.1]
    #[arg(long, value_name = "X")]
    pub(crate) backoff_jitter: Option<f64>,
    /// Added to the priority at each retry, 0 to 255 [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) retry_priority_step: Option<u8>,
}

/// Arguments of `task`.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The task's id
    #[arg(value_parser = value::named::<TaskId>)]
    pub(crate) id: TaskId,
    /// Write only the payload, byte for byte
    #[arg(long, conflicts_with = "result")]
    pub(crate) payload: bool,
    /// Write only the result, byte for byte
    #[arg(long)]
    pub(crate) result: bool,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The task's id
    #[arg(value_parser = value::named::<TaskId>)]
    pub(crate) id: TaskId,
    /// Give up after this long; the task goes on [default: never]
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

/// Which tasks.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Only tasks in this state: scheduled, pending, running, retrying, completed, failed, cancelled, expired
    #[arg(long, value_parser = value::state, value_name = "STATE")]
    pub(crate) state: Option<State>,
    /// Only tasks of this kind
    #[arg(long, value_parser = value::named::<Kind>, value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Only tasks whose last error contains this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
}

impl FilterArgs {
    /// The library's filter.
    pub(crate) fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        filter.state = self.state;
        filter.kind.clone_from(&self.kind);
        filter.error.clone_from(&self.error);
        filter
    }
}

/// Arguments of `results`.
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// Show ends as they happen
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Most tasks to show [default: 20; with --follow: no end]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "N")]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Most tasks to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "N")]
    pub(crate) limit: u64,
    /// Where the page before ended
    #[arg(long, value_parser = value::named::<Cursor>, value_name = "CURSOR", conflicts_with = "offset")]
    pub(crate) cursor: Option<Cursor>,
    /// Pass over this many tasks first
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) offset: u64,
}

/// Some ids.
#[derive(Debug, Args)]
pub(crate) struct IdsArgs {
    /// Ids of tasks
    #[arg(required = true, value_parser = value::named::<TaskId>, value_name = "ID")]
    pub(crate) ids: Vec<TaskId>,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Ids of dead letters
    #[arg(required_unless_present = "all", conflicts_with_all = ["all", "state", "kind", "error"], value_parser = value::named::<TaskId>, value_name = "ID")]
    pub(crate) ids: Vec<TaskId>,
    /// Every dead letter of the queue that the filters admit
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// What `purge` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlaceArg {
    /// Tasks that wait for a consumer
    Pending,
    /// Delayed tasks and retries
    Scheduled,
    /// Dead letters
    Failed,
    /// Results
    Results,
}

impl From<PlaceArg> for PurgePlace {
    fn from(place: PlaceArg) -> Self {
        match place {
            PlaceArg::Pending => Self::Pending,
            PlaceArg::Scheduled => Self::Scheduled,
            PlaceArg::Failed => Self::Failed,
            PlaceArg::Results => Self::Results,
        }
    }
}

/// Arguments of `purge`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// What to remove
    #[arg(value_enum)]
    pub(crate) place: PlaceArg,
    /// Do it; without this, only say how many would go
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Show what happened in each minute of the last 24 hours
    #[arg(long)]
    pub(crate) minutes: bool,
}

/// Arguments of `rejected`.
#[derive(Debug, Args)]
pub(crate) struct RejectedArgs {
    /// Most items to show, newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "N")]
    pub(crate) limit: u64,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write workyard.1 and one page per command into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// Joins `--wait 30s` to `--wait=30s`. The value is optional, so clap alone could not tell `--wait
/// mail:send` (no value, then the kind) from it; whatever is no duration stays where it is.
pub(crate) fn join_wait(args: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::with_capacity(args.len());
    let mut literal = false;
    for arg in args {
        literal |= arg == "--";
        let is_span = |text: &str| text.ends_with(|c: char| c.is_ascii_alphabetic()) && duration::parse(text).is_ok();
        match (joined.last(), arg.to_str()) {
            (Some(last), Some(text)) if !literal && last == "--wait" && is_span(text) => {
                joined.pop();
                joined.push(format!("--wait={text}").into());
            }
            _ => joined.push(arg),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        let args = std::iter::once("workyard").chain(line.iter().copied()).map(OsString::from).collect();
        Cli::try_parse_from(join_wait(args))
    }

    fn enqueue(line: &[&str]) -> Box<EnqueueArgs> {
        match parse(line).unwrap().command {
            Command::Enqueue(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_duration_of_a_wait_may_stand_apart_or_be_left_out() {
        assert_eq!(enqueue(&["enqueue", "k", "--wait", "30s"]).wait, Some(Some(Duration::from_secs(30))));
        assert_eq!(enqueue(&["enqueue", "k", "--wait=1m"]).wait, Some(Some(Duration::from_secs(60))));
        let args = enqueue(&["enqueue", "--wait", "mail:send", "0"]);
        assert_eq!((args.wait, args.payload.as_deref()), (Some(None), Some("0")));
        assert_eq!(args.kind, Some(Kind::new("mail:send").unwrap()));
        assert_eq!(enqueue(&["enqueue", "k", "-5"]).payload.as_deref(), Some("-5"));
        assert_eq!(enqueue(&["enqueue", "k", "-"]).payload.as_deref(), Some("-"));
    }

    #[test]
    fn bad_arguments_are_refused_before_anything_happens() {
        for line in [
            &["enqueue"][..],
            &["enqueue", "a b"],
            &["enqueue", "k", "--priority", "256"],
            &["enqueue", "k", "--delay", "soon"],
            &["enqueue", "k", "--delay", "1s", "--at", "2030-01-01T00:00:00Z"],
            &["enqueue", "k", "--header", "x"],
            &["enqueue", "k", "--durability", "disk"],
            &["enqueue", "k", "--skip-invalid"],
            &["enqueue", "k", "--from-file", "x"],
            &["enqueue", "--from-file", "x", "--priority", "1"],
            &["task"],
            &["task", "a b"],
            &["list", "--state", "lost"],
            &["list", "--limit", "0"],
            &["list", "--cursor", "x"],
            &["retry"],
            &["retry", "a", "--all"],
            &["purge", "everything"],
            &["queues", "--queue", "a/b"],
            &["queues", "--prefix", "{x}"],
            &["nonsense"],
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
