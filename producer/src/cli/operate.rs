//! `cancel`, `retry`, `delete`, `pause`, `resume`, `purge`.
//!
//! Invariant: with several ids, each gets its answer, and the exit code is 1 if any of them could
//! not be served. What cannot be undone wants `--yes`.

use serde_json::json;
use workyard_producer::{CancelAnswer, Deleted, PurgePlace, State};

use super::args::{PurgeArgs, QueueArg, RetryArgs, SomeArgs};
use super::exit::{CliError, Exit};
use super::output::counted;
use super::session::Session;
use super::why;

/// Writes each id with its answer; `well` says which answers are as asked for.
async fn answers(session: &mut Session, answers: &[(String, &'static str)], well: &[&str]) -> Result<Exit, CliError> {
    if session.out.json {
        let items: Vec<_> = answers
            .iter()
            .map(|(id, answer)| json!({ "id": id, "answer": answer }))
            .collect();
        session.out.document(&items)?;
    } else {
        for (id, answer) in answers {
            session.out.line(&format!("{id}  {answer}"))?;
        }
        if answers
            .iter()
            .any(|(_, answer)| matches!(*answer, NOT_FOUND | NO_DEAD_LETTER))
        {
            session.out.note(&format!("note: {}", why::looked_in(session).await));
        }
        let unborn = |(_, answer): &&(String, &str)| matches!(*answer, NOT_CANCELLED | NOT_DELETED);
        if let Some((id, _)) = answers.iter().find(unborn) {
            let then = why::until_taken_in(id, session);
            session.out.note(&format!("note: {then}; then it can be cancelled"));
        }
    }
    let all = answers.iter().all(|(_, answer)| well.contains(answer));
    Ok(if all { Exit::Done } else { Exit::TaskFailed })
}

/// Answer for an id that the queue does not have.
const NOT_FOUND: &str = "not found";
/// Answers for an id that no consumer has taken in yet.
const NOT_CANCELLED: &str = "still in the inbox: not cancelled";
const NOT_DELETED: &str = "still in the inbox: not deleted";
/// Answer for an id that cannot be retried.
const NO_DEAD_LETTER: &str = "not a dead letter of this queue";

/// Runs `cancel`.
pub(crate) async fn cancel(args: &SomeArgs, session: &mut Session) -> Result<Exit, CliError> {
    if args.all {
        sure(args, "cancel", false, session).await?;
        let cancelled = session.client.cancel_all(&session.queue, &args.filter.filter()).await?;
        return count(session, "cancelled", cancelled);
    }
    let mut answered = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        let answer = match session.client.cancel(&session.queue, id.as_str()).await? {
            CancelAnswer::Cancelled => "cancelled",
            CancelAnswer::Finished => "has ended already",
            CancelAnswer::Unknown if why::is_in_inbox(id.as_str(), session).await => NOT_CANCELLED,
            CancelAnswer::Unknown => NOT_FOUND,
        };
        if answer == NOT_FOUND
            && let Some(hint) = why::job_instead(id.as_str(), session).await
        {
            session.out.note(&format!("note: {hint}"));
        }
        answered.push((id.to_string(), answer));
    }
    answers(session, &answered, &["cancelled"]).await
}

/// Runs `retry`.
pub(crate) async fn retry(args: &RetryArgs, session: &mut Session) -> Result<Exit, CliError> {
    if args.all {
        return retry_all(args, session).await;
    }
    let ids: Vec<String> = args.ids.iter().map(ToString::to_string).collect();
    let again = session.client.retry(&session.queue, &ids).await?;
    let answered: Vec<_> = ids
        .into_iter()
        .zip(
            again
                .iter()
                .map(|again| if *again { "pending" } else { NO_DEAD_LETTER }),
        )
        .collect();
    answers(session, &answered, &["pending"]).await
}

async fn retry_all(args: &RetryArgs, session: &mut Session) -> Result<Exit, CliError> {
    let filter = args.filter.filter();
    if filter.state.is_some_and(|state| state != State::Failed) {
        return Err(CliError::usage(
            "only failed tasks can be retried",
            Some("leave --state out, or say --state failed"),
        ));
    }
    session.known_queue().await?;
    let retried = session.client.retry_all(&session.queue, &filter).await?;
    count(session, "retried", retried)
}

/// What is done to many at once and cannot be undone is said twice.
async fn sure(args: &SomeArgs, act: &str, ended: bool, session: &mut Session) -> Result<(), CliError> {
    session.known_queue().await?;
    if args.yes {
        return Ok(());
    }
    let there = session
        .client
        .count_all(&session.queue, &args.filter.filter(), ended)
        .await?;
    let tasks = counted(there, "task");
    Err(CliError::usage(
        format!("{act} --all would {act} {tasks} of queue {}", session.queue),
        Some("say --yes to do it"),
    ))
}

fn count(session: &mut Session, what: &str, n: u64) -> Result<Exit, CliError> {
    count_of(session, "task", what, n)
}

fn count_of(session: &mut Session, noun: &str, what: &str, n: u64) -> Result<Exit, CliError> {
    if session.out.json {
        session
            .out
            .document(&json!({ "queue": session.queue.as_str(), what: n }))?;
    } else {
        session.out.line(&format!("{} {what}", counted(n, noun)))?;
    }
    Ok(Exit::Done)
}

/// Runs `delete`.
pub(crate) async fn delete(args: &SomeArgs, session: &mut Session) -> Result<Exit, CliError> {
    if args.all {
        sure(args, "delete", true, session).await?;
        let deleted = session.client.delete_all(&session.queue, &args.filter.filter()).await?;
        return count(session, "deleted", deleted);
    }
    let ids: Vec<String> = args.ids.iter().map(ToString::to_string).collect();
    let gone = session.client.delete(&session.queue, &ids).await?;
    let word = |deleted: &Deleted| match deleted {
        Deleted::Deleted => "deleted",
        Deleted::Alive => "has not ended: cancel it first",
        Deleted::Unknown => NOT_FOUND,
    };
    let mut answered = Vec::with_capacity(ids.len());
    for (id, deleted) in ids.into_iter().zip(&gone) {
        let answer = match word(deleted) {
            NOT_FOUND if why::is_in_inbox(&id, session).await => NOT_DELETED,
            answer => answer,
        };
        answered.push((id, answer));
    }
    answers(session, &answered, &["deleted"]).await
}

/// Runs `pause` and `resume`.
pub(crate) async fn pause(args: QueueArg, session: &mut Session, paused: bool) -> Result<Exit, CliError> {
    session.take(args.name)?;
    // One may pause a queue before its first task; a slip of the pen looks the same.
    let used = session.is_used(&session.client.queues().await?).await?;
    if !used {
        session
            .out
            .note(&format!("note: queue {} has never been seen", session.queue));
    }
    if paused {
        session.client.pause(&session.queue).await?;
    } else if used {
        // Else there is nothing to resume, and to write it down would make a queue of a slip of the pen.
        session.client.resume(&session.queue).await?;
    }
    if session.out.json {
        session
            .out
            .document(&json!({ "queue": session.queue.as_str(), "paused": paused }))?;
    } else {
        let text = if paused {
            "paused: nothing more is handed out, what runs goes on"
        } else {
            "resumed"
        };
        session.out.line(&format!("queue {} is {text}", session.queue))?;
    }
    Ok(Exit::Done)
}

/// Runs `purge`.
pub(crate) async fn purge(args: &PurgeArgs, session: &mut Session) -> Result<Exit, CliError> {
    session.known_queue().await?;
    let place = args.place.into();
    // What is in the inbox is no task yet.
    let noun = match place {
        PurgePlace::Inbox => "item",
        _ => "task",
    };
    if !args.yes {
        let there = session.client.count_in(&session.queue, place).await?;
        let message = format!(
            "purge would remove {} of {}queue {} for good",
            counted(there, noun),
            if place == PurgePlace::Inbox {
                "the inbox of "
            } else {
                ""
            },
            session.queue
        );
        return Err(CliError::usage(message, Some("say --yes to do it")));
    }
    let gone = session.client.purge(&session.queue, place).await?;
    count_of(session, noun, "removed", gone)
}
