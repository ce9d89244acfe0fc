//! `type = "command"`: one process per task.
//!
//! The payload goes to standard input byte for byte; standard output becomes the result, by the
//! handler's `output`; the exit code decides (see below); the end of standard error becomes the
//! error text. The program and the number of its arguments come from the configuration alone: an
//! element of `argv` that is exactly `{payload.FIELD}` or `{payload.FIELD.SUB}` is replaced by
//! that field as one argument. No shell is involved.
//!
//! | exit | means |
//! |---|---|
//! | 0 | completed |
//! | `final_exit_codes` (65 and 78) | failed for good |
//! | 75 | retry; after `D` if the last line of standard error is `workyard-retry-after: D` |
//! | any other, or a signal | retry |
//!
//! The environment is `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR` and `USER` of the daemon,
//! the handler's `env`, and about the task: `WORKYARD_ID`, `WORKYARD_KIND`, `WORKYARD_QUEUE`,
//! `WORKYARD_ATTEMPT` (1 for the first), `WORKYARD_TOKEN` (the fencing token) and
//! `WORKYARD_DEADLINE`: the milliseconds that were left when the process started, until the
//! earlier of the task's timeout and the handler's ends it; empty if neither is set. A task that belongs to a trace has
//! `TRACEPARENT` and, if there is one, `TRACESTATE`.
//!
//! As a function of a map-reduce job it reads and writes lines, see docs/jobs.md; an element of `argv` is
//! then filled from the function's arguments.
//!
//! Invariant: when an attempt is over, however it ended, its whole process group is gone or is
//! within `kill_after` of being gone. A program that exits leaves nothing of its group behind.

mod argv;
#[cfg(test)]
mod ending_tests;
mod stage;
#[cfg(test)]
mod stage_tests;
mod streams;
#[cfg(test)]
mod tests;
pub(super) mod verdict;

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use workyard_shared::limits::MAX_RESULT_BYTES;

use self::streams::Streams;
use super::group::Group;
use super::interrupt::Interrupt;
use super::{launch, result, tail};
use crate::config::{CommandConfig, Output};
use crate::{BoxFuture, Context, Failure, Handler, Outcome};

/// How long a program that was killed takes to be gone.
const KILLED: Duration = Duration::from_secs(1);
/// How long output is still read after the program has exited. What it wrote is in the pipe
/// already; only a process that left the group and kept the pipe open makes this wait.
const DRAIN: Duration = Duration::from_secs(1);

/// Runs one process per task; see the module's page.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    config: Arc<CommandConfig>,
    timeout: Option<Duration>,
}

impl CommandHandler {
    /// A handler by `config`; `timeout` bounds each attempt on top of the task's own.
    #[must_use]
    pub fn new(config: CommandConfig, timeout: Option<Duration>) -> Self {
        Self {
            config: Arc::new(config),
            timeout,
        }
    }
}

impl Handler for CommandHandler {
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome> {
        let Self { config, timeout } = self.clone();
        Box::pin(async move { attempt(&config, timeout, &ctx, payload).await })
    }
}

/// Why a conversation with a child was broken off.
enum Stop {
    Failed(Failure),
    Overflow,
    Io(io::Error),
}

/// What one process gets, and how much it may say.
struct Ask<'a> {
    args: Vec<String>,
    /// Variables on top of those of every task.
    env: &'a [(&'static str, &'a str)],
    input: VecDeque<Bytes>,
    limit: usize,
}

async fn attempt(config: &CommandConfig, timeout: Option<Duration>, ctx: &Context, payload: Bytes) -> Outcome {
    let ask = Ask {
        args: argv::expand(&config.args, &payload, config.allow_dash_args).map_err(Failure::fatal)?,
        env: &[],
        input: VecDeque::from([payload]),
        // A little beyond a result, for the newline at its end.
        limit: MAX_RESULT_BYTES + 2,
    };
    let out = exchange(config, timeout, ctx, ask).await?;
    result::from_output("standard output", out, config.output)
}

/// Runs one process to its end; what it wrote.
async fn exchange(
    config: &CommandConfig,
    timeout: Option<Duration>,
    ctx: &Context,
    ask: Ask<'_>,
) -> Result<Vec<u8>, Failure> {
    let interrupt = Interrupt::start(ctx, timeout);
    let mut group = spawn(config, &ask, ctx, &interrupt)?;
    ctx.winds_down(config.process.kill_after + KILLED);
    let limit = ask.limit;
    let mut streams = Streams::of(&mut group, ask.input, limit);
    let end = tokio::select! {
        end = converse(&mut group, &mut streams) => end,
        failure = interrupt.fired() => Err(Stop::Failed(failure)),
    };
    let status = match end {
        Ok(status) => status,
        Err(stop) => return Err(break_off(stop, group, streams).await),
    };
    verdict::judge(status, &streams.tail.text(), &config.final_exit_codes)?;
    Ok(streams.out)
}

fn spawn(config: &CommandConfig, ask: &Ask<'_>, ctx: &Context, interrupt: &Interrupt) -> Result<Group, Failure> {
    let mut command = launch::command(&config.program, &config.process);
    let deadline = interrupt.remaining_ms().map(|ms| ms.to_string()).unwrap_or_default();
    command
        .args(&ask.args)
        .env("WORKYARD_ID", ctx.id())
        .env("WORKYARD_KIND", ctx.kind())
        .env("WORKYARD_QUEUE", ctx.queue())
        .env("WORKYARD_ATTEMPT", ctx.attempt().to_string())
        .env("WORKYARD_TOKEN", ctx.fencing_token())
        .env("WORKYARD_DEADLINE", deadline)
        .envs(ask.env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(if config.output == Output::None {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stderr(Stdio::piped());
    if let Some(trace) = ctx.trace_context() {
        command.env("TRACEPARENT", trace.traceparent());
        if let Some(state) = trace.tracestate() {
            command.env("TRACESTATE", state);
        }
    }
    Group::spawn(&mut command, config.process.kill_after).map_err(|error| {
        let message = format!("cannot start {}: {error}", config.program.display());
        match error.kind() {
            // A field of this payload is beyond what the system takes as one argument.
            io::ErrorKind::ArgumentListTooLong => Failure::fatal(message),
            _ => Failure::retry(message),
        }
    })
}

/// Serves the child until it exits by itself.
async fn converse(group: &mut Group, streams: &mut Streams) -> Result<ExitStatus, Stop> {
    let exited = tokio::select! {
        exited = group.exited() => exited,
        pumped = streams.pump() => match pumped {
            // All pipes are closed, but the child goes on.
            Ok(()) => group.exited().await,
            Err(streams::Overflow) => return Err(Stop::Overflow),
        },
    };
    let status = exited.map_err(Stop::Io)?;
    // The group is dead, so its pipes end now; what is still in them belongs to the result.
    match timeout(DRAIN, streams.pump()).await {
        Ok(Err(streams::Overflow)) => Err(Stop::Overflow),
        Ok(Ok(())) | Err(_) => Ok(status),
    }
}

/// Ends the child, and says why with what it said last.
async fn break_off(stop: Stop, group: Group, mut streams: Streams) -> Failure {
    tokio::select! {
        _ = group.end() => {}
        () = async { streams.drain().await; std::future::pending().await } => {}
    }
    match stop {
        Stop::Overflow if streams.limit > MAX_RESULT_BYTES + 2 => Failure::fatal(format!(
            "standard output is longer than the {} bytes that an output may have",
            streams.limit
        )),
        Stop::Overflow => result::too_long("standard output"),
        Stop::Io(error) => Failure::retry(format!("cannot wait for the program: {error}")),
        Stop::Failed(failure) => {
            let message = tail::message(&failure.message, &streams.tail.text());
            Failure { message, ..failure }
        }
    }
}
