//! The arguments, as clap reads them: types, defaults, help.
//!
//! Invariant: after parsing, every name, duration and level is valid; commands check only what
//! needs a file or Redis. Nothing here acts.

mod enqueue;
mod jobs;
mod keys;
mod service;
mod tasks;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use workyard_producer::{Prefix, QueueName};
use workyard_shared::link::{Access, DEFAULT_URL};

use super::value;

pub(crate) use enqueue::{EnqueueArgs, OptionArgs, join_wait};
pub(crate) use jobs::{FanIn, FormatArg, JobAction, JobArgs, MapReduceArgs, ShowArgs};
pub(crate) use keys::{KeyArgs, KeysAction, NewKeyArgs};
pub(crate) use service::{
    AclArgs, AuditArgs, CompletionsArgs, ConsumersArgs, DoctorArgs, InstallArgs, ManArgs, MetricsArgs, QueueAction,
    QueueArg, RedisAction, RejectedArgs, StatsArgs, TopArgs,
};
pub(crate) use tasks::{ExplainArgs, ListArgs, PurgeArgs, ResultsArgs, RetryArgs, SomeArgs, TaskArgs, WaitArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the task or job failed, was cancelled or expired; or there is no such task or job
  2  bad use: an argument, a file or the input is wrong
  3  not in the given time: no end, or no room in a full queue that makes producers wait
  4  Redis is unavailable or denies the call, or the object store of a job does; or nobody takes
     the task: the queue is full, or has no healthy consumer (--require-consumer)

Durations are written like 250ms, 30s, 5m, 2h, 1d or \"1h 30m\"; points in time as RFC 3339 or as milliseconds since 1970.";

const QUEUE_HELP: &str = "\
Settings:
  paused=0|1                            hand out nothing (as `workyard pause`)
  balance=pull|round-robin|adaptive     which idle consumer gets the next task [default: pull]
  max_pending=N                         most tasks that may wait; 0 is no limit [default: 0]
  max_bytes=SIZE                        most memory of all its tasks in Redis, like 64MiB; 0 is no limit [default: 0]
  overload=reject|block|shed            what a full queue does with a new task [default: reject]

reject refuses it; block makes the producer wait (enqueue --block-timeout); shed moves the least urgent pending tasks to
the dead letters (reason shed) if the new one is more urgent, else refuses it. Delayed tasks, retries and the steps of
jobs are never refused for max_pending. For max_bytes, which is an estimate and counts dead letters too, nothing is shed.
What is pushed raw to the inbox waits there, or with shed is rejected.

Examples:
  workyard queue set emails max_pending=10000 overload=block
  workyard queue set emails balance=round-robin
  workyard queue show emails --json";

const ACL_HELP: &str = "\
It prints one ACL SETUSER command and connects to nothing; send it to Redis as an administrator. A user that is there keeps
its passwords, a new one has none: nobody can log in as it until you give it one. The rules are for the database of
--redis-url and the keys of --prefix; run it again after an upgrade of Workyard. What each role may do: SECURITY.md.

Consumers and producers cannot load the functions: run `workyard install` as the operator, also after each upgrade.

Examples:
  workyard acl --role consumer | REDISCLI_AUTH=$(cat admin.password) redis-cli --user admin
  workyard acl --role producer --user shop --queue emails --queue invoices
  workyard acl --role operator --json | jq -r '.rules[]'";

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
    /// Where Redis is: redis://user:password@host:port/db, unix:///path, or `managed`
    #[arg(long, visible_alias = "redis", global = true, env = "WORKYARD_REDIS_URL", default_value = DEFAULT_URL, hide_env_values = true, hide_default_value = true, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) redis_url: String,
    #[command(flatten)]
    pub(crate) access: Access,
    /// A key ring (`workyard keys`): seals payloads, signs tasks, opens results, by the keys that are in it
    #[arg(long, global = true, env = "WORKYARD_KEYS_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) keys: Option<PathBuf>,
    /// What the keys of this installation begin with [default: workyard]
    #[arg(long, global = true, env = "WORKYARD_PREFIX", value_parser = value::named::<Prefix>, value_name = "PREFIX")]
    pub(crate) prefix: Option<Prefix>,
    /// The queue [default: default]
    #[arg(long, short, global = true, env = "WORKYARD_QUEUE", value_parser = value::named::<QueueName>, value_name = "QUEUE")]
    pub(crate) queue: Option<QueueName>,
    /// The flag said it, not the environment.
    #[arg(skip)]
    pub(crate) queue_typed: bool,
    /// Who acts, for the audit; user@host by default
    #[arg(long, global = true, env = "WORKYARD_OPERATOR", value_name = "NAME")]
    pub(crate) operator: Option<String>,
    /// Write JSON: one document, or lines of it for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long an outage of Redis is waited out; a command that waits for an end waits out any, unless this is given
    #[arg(long, global = true, env = "WORKYARD_PATIENCE", default_value = "10s", value_parser = value::span, value_name = "DURATION")]
    pub(crate) patience: Duration,
    /// The flag or the variable said it, not the default.
    #[arg(skip)]
    pub(crate) patience_given: bool,
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
    #[command(
        after_help = "Woken by Redis, not polled. Exit code 0 if it completed, 1 if it failed, was cancelled or expired, 3 on a timeout.\n\nExamples:\n  workyard wait order-42 --timeout 30s"
    )]
    Wait(WaitArgs),
    /// Show recent ends of tasks, or follow them as they happen
    #[command(
        after_help = "Examples:\n  workyard results --limit 10\n  workyard results --follow --json | jq .result\n  workyard results --follow --limit 1"
    )]
    Results(ResultsArgs),
    /// Say why a task is not running, and about when it starts
    #[command(
        after_help = "Its place, what it waits for (a pause, a consumer, its time, a retry), who runs it, or how it ended. The estimate is how fast this backlog went in whole minutes, or what the consumers' slots and run times allow.\n\nExamples:\n  workyard explain order-42\n  workyard explain order-42 --json | jq -r '.reasons[].why'"
    )]
    Explain(ExplainArgs),
    /// List tasks, page by page
    #[command(
        after_help = "Examples:\n  workyard list --state failed --error refused\n  workyard list --kind mail:send --limit 100 --json\n  workyard list --cursor failed:50"
    )]
    List(ListArgs),
    /// Cancel tasks, wherever they are
    #[command(
        after_help = "Examples:\n  workyard cancel order-42 order-43\n  workyard cancel --all --kind newsletter --yes"
    )]
    Cancel(SomeArgs),
    /// Make dead letters pending again
    #[command(
        after_help = "Examples:\n  workyard retry order-42\n  workyard retry --all --error \"connection refused\""
    )]
    Retry(RetryArgs),
    /// Delete finished tasks: results and dead letters
    #[command(
        after_help = "Examples:\n  workyard delete order-42\n  workyard delete --all --state failed --kind send --yes"
    )]
    Delete(SomeArgs),
    /// Hand out no more tasks of the queue; what runs goes on
    #[command(after_help = "Example:\n  workyard pause emails")]
    Pause(QueueArg),
    /// Hand out tasks again
    #[command(after_help = "Example:\n  workyard resume emails")]
    Resume(QueueArg),
    /// Remove all tasks of one place, for good
    #[command(after_help = "Example:\n  workyard purge failed --queue emails --yes")]
    Purge(PurgeArgs),
    /// Run a map-reduce job over files or values and print its result
    MapReduce(Box<MapReduceArgs>),
    /// Show a map-reduce job; wait for it, list, cancel, retry, delete jobs, read results
    #[command(
        after_help = "Examples:\n  workyard job 0193f3a2-...\n  workyard job wait nightly --timeout 10m\n  workyard job result nightly --top 20\n  workyard job list --json"
    )]
    Job(JobArgs),
    /// Load Workyard's functions into Redis (consumers and producers do it too, if their ACL lets them)
    #[command(after_help = "Examples:\n  workyard install --redis-url redis://admin:...@db1/\n  \
                      workyard install --print | redis-cli -x FUNCTION LOAD REPLACE")]
    Install(InstallArgs),
    /// Change or show the settings of a queue; they hold at once
    #[command(after_help = QUEUE_HELP)]
    Queue {
        /// What to do
        #[command(subcommand)]
        action: QueueAction,
    },
    /// List the queues and what is in them
    #[command(
        after_help = "With --json also what an autoscaler wants: backlog, oldest_pending_ms, arrival_per_second, drain_per_second, time_to_drain_ms, wanted_consumers.\n\nExamples:\n  workyard queues\n  workyard queues --json | jq '.[] | {queue, wanted_consumers}'"
    )]
    Queues,
    /// Show every counter, per queue and per kind, and the pace of each queue
    #[command(
        after_help = "Without --queue all queues are shown. Rates are those of the last five minutes; wanted is how many consumers like those of now would keep up and be done with the backlog in a minute.\n\nExamples:\n  workyard stats --queue emails\n  workyard stats --minutes"
    )]
    Stats(StatsArgs),
    /// List the consumers and how they are
    #[command(
        after_help = "Per consumer: what it holds and runs, errors, health (0 to 1), load score (lower is better) and circuit, those of the queue in which it does worst. Per kind: its slots, and what ran in the last ten seconds, with the last twenty run times. Per machine: what presses it. --watch draws anew until Ctrl-C; piped it writes block after block, with --json a line each time.\n\nWithout --queue the consumers of all queues are shown.\n\nExamples:\n  workyard consumers --json\n  workyard consumers --queue emails --watch\n  workyard consumers --watch 5s --json | jq -c '.[] | [.id, .health.running]'"
    )]
    Consumers(ConsumersArgs),
    /// Watch queues, tasks, consumers and jobs on one live screen, and operate them
    #[command(
        after_help = "Keys: left and right select a queue, tab or 1 to 6 what is shown of it, up and down a row; p pauses or resumes the queue, c cancels a task or job, r retries a dead letter or job, R all dead letters; ? shows them, q quits. Rates are those since the look before. At most 200 queues and 100 rows are shown.\n\nExamples:\n  workyard top\n  workyard top --queue emails --every 5s"
    )]
    Top(TopArgs),
    /// Print the figures of all queues for Prometheus, or serve them
    #[command(
        after_help = "Names and meanings: docs/metrics.md. A bare port is one of 127.0.0.1.\n\nExamples:\n  workyard metrics\n  workyard metrics --listen 9465\n  workyard metrics --listen 0.0.0.0:9465"
    )]
    Metrics(MetricsArgs),
    /// Show inbox items that were refused, with the reason
    #[command(after_help = "Example:\n  workyard rejected --queue emails")]
    Rejected(RejectedArgs),
    /// Look for what is wrong in Redis, while everything runs; explain it, and with --repair mend it
    #[command(
        after_help = "Exit code 0: nothing is wrong; 1: something is, or stays so; 2: bad use; 4: Redis is away. Each finding was seen twice, two seconds apart. It reads in small steps; what it mends, a function in Redis mends, if it is still wrong in that moment. Findings: docs/operations.md.\n\nWithout --queue all queues are looked at, and keys of no queue too.\n\nExamples:\n  workyard doctor\n  workyard doctor --queue emails --repair\n  workyard doctor --json | jq -r '.findings[].finding' | sort | uniq -c"
    )]
    Doctor(DoctorArgs),
    /// Show what operators did: settings, pauses, cancels, retries, deletes, purges
    #[command(
        after_help = "Each queue keeps its last 10,000 acts, noted by the functions that did them, with the time of Redis. Who it was is what the client said: its user of Redis, and --operator. Without --queue all queues are shown.\n\nExamples:\n  workyard audit --queue emails\n  workyard audit --limit 500 --json | jq '.[] | select(.action == \"purge\")'\n  workyard audit --queue emails --follow"
    )]
    Audit(AuditArgs),
    /// Print the least ACL rules for a user of Redis who produces, consumes or operates
    #[command(after_help = ACL_HELP)]
    Acl(AclArgs),
    /// Make and change key rings, for payloads that Redis cannot read and tasks that nobody can make up
    #[command(after_help = keys::KEYS_HELP)]
    Keys {
        /// What to do
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Start, stop or look at the managed Redis: a server of your own, for when there is none
    #[command(
        after_help = "It keeps its data in WORKYARD_REDIS_DIR (else ~/.local/share/workyard). Use it with --redis-url managed.\n\nExamples:\n  workyard redis start\n  workyard --redis-url managed queues\n  workyard redis stop"
    )]
    Redis {
        /// What to do
        #[command(subcommand)]
        action: RedisAction,
    },
    /// Write completions for a shell
    #[command(after_help = "Example:\n  workyard completions bash > /etc/bash_completion.d/workyard")]
    Completions(CompletionsArgs),
    /// Write the man page, or with --dir one for each command
    #[command(after_help = "Examples:\n  workyard man | man -l -\n  workyard man --dir /usr/local/share/man/man1")]
    Man(ManArgs),
}

/// Reads the arguments, the program's name first.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut matches = Cli::command().try_get_matches_from(join_wait(args))?;
    let typed = matches.value_source("queue") == Some(ValueSource::CommandLine);
    let patience_given = matches!(
        matches.value_source("patience"),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    );
    let mut cli = Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Cli::command()))?;
    cli.global.queue_typed = typed;
    cli.global.patience_given = patience_given;
    Ok(cli)
}

impl Command {
    /// How long this command may wait for room in a full queue, if it says so.
    pub(crate) fn block_timeout(&self) -> Option<Duration> {
        match self {
            Self::Enqueue(args) => Some(args.block_timeout),
            _ => None,
        }
    }

    /// Whether it goes on until it is told to end.
    pub(crate) fn watches(&self) -> bool {
        matches!(self, Self::Consumers(ConsumersArgs { watch: Some(_) }) | Self::Top(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use workyard_producer::Kind;

    use super::*;

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        let args = std::iter::once("workyard")
            .chain(line.iter().copied())
            .map(OsString::from)
            .collect();
        super::parse(args)
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
        assert_eq!(
            enqueue(&["enqueue", "k", "--wait", "30s"]).wait,
            Some(Some(Duration::from_secs(30)))
        );
        assert_eq!(
            enqueue(&["enqueue", "k", "--wait=1m"]).wait,
            Some(Some(Duration::from_secs(60)))
        );
        let args = enqueue(&["enqueue", "--wait", "mail:send", "0"]);
        assert_eq!((args.wait, args.payload.as_deref()), (Some(None), Some("0")));
        assert_eq!(args.kind, Some(Kind::new("mail:send").unwrap()));
        assert_eq!(enqueue(&["enqueue", "k", "-5"]).payload.as_deref(), Some("-5"));
        assert_eq!(enqueue(&["enqueue", "k", "-"]).payload.as_deref(), Some("-"));
    }

    #[test]
    fn whether_the_flag_named_the_queue_is_known_wherever_it_stands() {
        for (line, typed) in [
            (&["pause", "emails"][..], false),
            (&["pause", "-q", "emails"], true),
            (&["-q", "emails", "queue", "show"], true),
            (&["queue", "show", "--queue=emails"], true),
        ] {
            assert_eq!(parse(line).unwrap().global.queue_typed, typed, "{line:?}");
        }
    }

    #[test]
    fn whether_patience_was_given_or_is_the_default_is_known() {
        for (line, given) in [
            (&["job", "wait", "a"][..], false),
            (&["job", "wait", "a", "--patience", "10s"], true),
            (&["--patience=1s", "wait", "a"], true),
        ] {
            assert_eq!(parse(line).unwrap().global.patience_given, given, "{line:?}");
        }
    }

    /// Each command without commands below it, by its words.
    fn leaves(command: &clap::Command, words: &[&str], found: &mut Vec<(Vec<String>, clap::Command)>) {
        let mut below = command.get_subcommands().peekable();
        if below.peek().is_none() {
            found.push((words.iter().map(|word| (*word).to_owned()).collect(), command.clone()));
        }
        for child in below {
            leaves(child, &[words, &[child.get_name()]].concat(), found);
        }
    }

    /// What takes any text when it is read: files that may not be there, payloads, words to look for, addresses of other programs.
    const FREE: [&str; 20] = [
        "combine_args",
        "dir",
        "error",
        "file",
        "from_file",
        "headers",
        "input",
        "items",
        "keys",
        "map_args",
        "operator",
        "payload",
        "redis_ca",
        "redis_cert",
        "redis_key",
        "redis_password_file",
        "redis_url",
        "redis_user",
        "reduce_args",
        "spill",
    ];

    /// Numbers, durations, names, times and lists of words, of which none can be right in more than a few places.
    const MALFORMED: [&str; 9] = [
        "",
        "-1",
        "a b",
        "{x}",
        "99999999999999999999999",
        "1e999",
        "-",
        "line\nline",
        "\u{1b}[0m",
    ];

    #[test]
    fn every_option_of_every_command_refuses_what_is_malformed_with_code_2_and_its_name() {
        let mut root = Cli::command();
        root.build();
        let mut commands = Vec::new();
        leaves(&root, &[], &mut commands);
        assert!(commands.len() > 30, "{}", commands.len());
        let mut tried = 0;
        for (words, command) in commands {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let (id, long) = (arg.get_id().as_str(), arg.get_long());
                if FREE.contains(&id) || arg.get_index().is_some_and(|index| index > 1) {
                    continue;
                }
                let refused = MALFORMED.iter().filter(|value| {
                    let mut line: Vec<String> = std::iter::once("workyard".to_owned()).chain(words.clone()).collect();
                    match long {
                        Some(long) => line.push(format!("--{long}={value}")),
                        None => line.extend(["--".to_owned(), (**value).to_owned()]),
                    }
                    let Err(error) = super::parse(line.iter().map(OsString::from).collect()) else {
                        return false;
                    };
                    let text = error.to_string();
                    let named = arg
                        .get_value_names()
                        .and_then(|names| names.first())
                        .map(ToString::to_string);
                    let is_told =
                        text.contains(&long.map_or_else(|| named.unwrap_or_default(), |long| format!("--{long}")));
                    let of_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
                    assert!(
                        !of_value || error.exit_code() == 2 && error.use_stderr() && is_told,
                        "{line:?}: {text}"
                    );
                    of_value
                });
                assert!(refused.count() >= 3, "{words:?}: {id} takes nearly anything");
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
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
            &["queue", "set", "q"],
            &["queue", "set", "q", "colour=red"],
            &["queue", "set", "q", "max_pending=-1"],
            &["explain"],
            &["enqueue", "k", "--block-timeout", "soon"],
            &["consumers", "--watch", "0s"],
            &["consumers", "--watch", "often"],
            &["top", "--every", "0s"],
            &["queues", "--queue", "a/b"],
            &["queues", "--prefix", "{x}"],
            &["keys"],
            &["keys", "new"],
            &["keys", "new", "ring", "--use", "verify"],
            &["keys", "use", "ring", "a b"],
            &["nonsense"],
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
