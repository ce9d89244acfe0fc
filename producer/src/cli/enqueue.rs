//! `enqueue`: one task from the arguments. A file of tasks is in `from_file.rs`.
//!
//! Invariant: stdout has the id, or with `--wait` the result, and nothing else; notes go to stderr.

use std::time::Duration;

use serde::Serialize;
use workyard_producer::{Accepted, Backoff, Durability, Ended, Error, Kept, NewTask, Receipt, TaskOptions, TaskView};

use super::args::{EnqueueArgs, OptionArgs};
use super::exit::{CliError, Exit};
use super::output::Out;
use super::session::Session;
use super::{from_file, payload, task, trace, warning, why};

/// Runs the command.
pub(crate) async fn run(args: EnqueueArgs, session: &mut Session) -> Result<Exit, CliError> {
    session.client = session.client.with_durability(args.durability);
    if let Some(path) = &args.from_file {
        return from_file::run(path, &args, session).await;
    }
    for (given, flag) in [(args.skip_invalid, "--skip-invalid"), (args.ids, "--ids")] {
        if given {
            let hint = Some("it is for the lines of a file");
            return Err(CliError::usage(format!("{flag} goes with --from-file"), hint));
        }
    }
    let task = build(&args, &session.out)?;
    let warning = warning::before(
        &session.client,
        &session.queue,
        args.kind.as_ref(),
        args.require_consumer,
    )
    .await?;
    if let Some(text) = &warning {
        session.out.note(&format!("warning: {text}"));
    }
    match args.wait {
        None => {
            let receipt = session.client.enqueue(&session.queue, task).await?;
            accepted(&receipt, args.durability, warning, session)?;
            Ok(Exit::Done)
        }
        Some(limit) => {
            session.is_there(None).await?;
            let limit = limit.unwrap_or(Duration::MAX);
            let (receipt, ended) = session.client.enqueue_and_wait(&session.queue, task, limit).await?;
            ended_or_not(&receipt, ended, args.durability, warning, session).await
        }
    }
}

fn build(args: &EnqueueArgs, out: &Out) -> Result<NewTask, CliError> {
    let Some(kind) = args.kind.clone() else {
        return Err(CliError::usage("a KIND is needed", None));
    };
    let mut task = NewTask::new(kind, payload::read(args.payload.as_deref())?)?;
    task.id.clone_from(&args.id);
    for (name, value) in &args.headers {
        if task.headers.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::usage(
                format!("header {name} stands twice: leave one out"),
                None,
            ));
        }
    }
    if let Some(trace) = trace::surrounding(out) {
        trace.inject(&mut task.headers);
    }
    task.options = options(&args.options);
    task.options.validate()?;
    task.extra()?;
    Ok(task)
}

fn options(args: &OptionArgs) -> TaskOptions {
    let default = Backoff::default();
    let backoff = Backoff {
        base: args.backoff_base.unwrap_or(default.base),
        factor: args.backoff_factor.unwrap_or(default.factor),
        cap: args.backoff_cap.unwrap_or(default.cap),
        jitter: args.backoff_jitter.unwrap_or(default.jitter),
    };
    TaskOptions {
        priority: args.priority,
        max_attempts: args.max_attempts,
        // Defaults are never sent.
        backoff: (backoff != default).then_some(backoff),
        retry_priority_step: args.retry_priority_step,
        not_before: args.at,
        delay: args.delay,
        timeout: args.timeout,
        expires_at: args.expires_at,
        expires_in: args.expires_in,
        retention: args.retention,
        ..TaskOptions::default()
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<TaskView>,
}

fn accepted(
    receipt: &Receipt,
    asked: Durability,
    warning: Option<String>,
    session: &mut Session,
) -> Result<(), CliError> {
    if session.out.json {
        return session.out.document(&Answer {
            receipt,
            queue: session.queue.as_str(),
            warning: with_shortfall(warning, receipt.durability, asked),
            ended: None,
        });
    }
    notes(receipt, asked, session);
    session.out.line(receipt.id.as_str())
}

/// What a program should know of a receipt that is not as expected, in one text.
pub(crate) fn with_shortfall(warning: Option<String>, kept: Kept, asked: Durability) -> Option<String> {
    let all: Vec<String> = warning.into_iter().chain(shortfall(kept, asked)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What a person should know of a receipt that is not as expected.
fn notes(receipt: &Receipt, asked: Durability, session: &Session) {
    if receipt.accepted == Accepted::Duplicate {
        session
            .out
            .note(&format!("note: task {} is here already; nothing was added", receipt.id));
    }
    if let Some(text) = shortfall(receipt.durability, asked) {
        session.out.note(&format!("note: {text}"));
    }
}

/// What to say when less was confirmed than was asked for.
pub(crate) fn shortfall(kept: Kept, asked: Durability) -> Option<String> {
    match (asked, kept) {
        (Durability::Fsync, Kept::Memory) => Some(
            "accepted, but nothing confirms that it is on disk (appendfsync is not `always`, or cannot be read)"
                .to_owned(),
        ),
        (Durability::Replicas(n), Kept::Unknown) => {
            Some(format!("accepted, but fewer than {n} replicas confirmed it in time"))
        }
        _ => None,
    }
}

async fn ended_or_not(
    receipt: &Receipt,
    ended: Result<Ended, Error>,
    asked: Durability,
    warning: Option<String>,
    session: &mut Session,
) -> Result<Exit, CliError> {
    let id = receipt.id.as_str();
    match ended {
        Ok(ended) if session.out.json => {
            let view = TaskView::from_ended(&session.queue, id, &ended);
            let answer = Answer {
                receipt,
                queue: session.queue.as_str(),
                warning: with_shortfall(warning, receipt.durability, asked),
                ended: Some(view),
            };
            session.out.document(&answer)?;
            session.out.flush()?;
            task::verdict(id, &ended)
        }
        Ok(ended) => {
            notes(receipt, asked, session);
            task::print_end(id, &ended, session)
        }
        Err(error) => {
            // The task is accepted all the same: its id must not be lost.
            accepted(receipt, asked, warning, session)?;
            session.out.flush()?;
            Err(why::explained(error, session).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortfall_of_durability_is_told_and_nothing_else() {
        assert!(shortfall(Kept::Memory, Durability::Fsync).is_some());
        assert!(shortfall(Kept::Unknown, Durability::Replicas(2)).is_some());
        assert!(shortfall(Kept::Memory, Durability::Memory).is_none());
        assert!(shortfall(Kept::Fsync, Durability::Fsync).is_none());
    }
}
