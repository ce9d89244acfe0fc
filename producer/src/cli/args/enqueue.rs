//! Arguments of `enqueue`.
//!
//! Invariant: options of a single task and a file exclude each other. Nothing here acts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use workyard_producer::{Durability, Kind, TaskId};
use workyard_shared::duration;

use crate::cli::value;

const ENQUEUE_HELP: &str = "\
Prints the id. The payload is kept byte for byte; one line end at the end of a file or of stdin is cut. The trace context in
TRACEPARENT and TRACESTATE of the environment, if there is one, goes along as headers.

Examples:
  workyard enqueue mail:send '{\"to\":\"ada@example.com\"}'
  workyard enqueue resize @job.json --priority 1 --timeout 2m
  date +%s | workyard enqueue tick - --delay 1h --id tick-1
  workyard enqueue sum '[1,2]' --wait 30s
  workyard enqueue --from-file tasks.jsonl --skip-invalid
  workyard enqueue --from-file tasks.jsonl --ids > ids
  workyard enqueue mail:send --require-consumer --block-timeout 5s

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
    #[arg(long)]
    pub(crate) skip_invalid: bool,
    /// Print the id of each task of the file, one a line, when it is accepted; the sum goes to stderr. With --json, lines with
    /// queue, id and whether it is new, and the sum as the last
    #[arg(long)]
    pub(crate) ids: bool,
    /// How safe the task must be: memory, fsync or replica:n
    #[arg(long, default_value = "memory", value_parser = value::named::<Durability>, value_name = "LEVEL")]
    pub(crate) durability: Durability,
    /// How long to wait for room in a full queue whose policy is `block`; then exit code 3
    #[arg(long, default_value = "30s", value_parser = value::span, value_name = "DURATION")]
    pub(crate) block_timeout: Duration,
    /// Enqueue nothing if no healthy consumer serves the queue (exit code 4), instead of a warning
    #[arg(long)]
    pub(crate) require_consumer: bool,
}

const FILE_CONFLICTS: [&str; 18] = [
    "kind",
    "payload",
    "id",
    "headers",
    "wait",
    "priority",
    "delay",
    "at",
    "timeout",
    "max_attempts",
    "retention",
    "expires_in",
    "expires_at",
    "backoff_base",
    "backoff_factor",
    "backoff_cap",
    "backoff_jitter",
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

/// Joins `--wait 30s` to `--wait=30s`. The value is optional, so clap alone could not tell `--wait
/// mail:send` (no value, then the kind) from it; whatever is no duration stays where it is. A bare number is joined too, and refused
/// for its missing unit: as a payload it would be a task that nobody meant.
pub(crate) fn join_wait(args: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::with_capacity(args.len());
    let mut literal = false;
    for arg in args {
        literal |= arg == "--";
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_span = |text: &str| is_number(text) || duration::parse(text).is_ok();
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
