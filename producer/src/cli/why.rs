//! Why a task has not ended yet, for the one who waited in vain; and what an id names that is no task's.
//!
//! Invariant: one more look, at the end of the wait only, and bounded: it may say nothing, never hold
//! up the exit. What it says is of that moment.

use std::time::Duration;

use workyard_producer::{Error, JobId, QueueStats, State, TaskView};

use super::exit::CliError;
use super::session::Session;
use super::time::Clock;

/// Longest time for the look.
const LOOK: Duration = Duration::from_secs(1);

/// What to say of an id that names a job and no task.
pub(crate) async fn job_instead(id: &str, session: &Session) -> Option<String> {
    let id = JobId::new(id).ok()?;
    let look = session.client.job(&session.queue, &id);
    let found = tokio::time::timeout(LOOK, look.status()).await;
    matches!(found, Ok(Ok(_))).then(|| format!("there is a job of that name: `workyard job {id}`"))
}

/// The error of a look or a wait; one that ran out of time also says what the task waits for.
pub(crate) async fn explained(error: Error, session: &Session) -> CliError {
    if let Error::NotFound { id, .. } = &error {
        let hint = job_instead(id, session).await;
        return CliError::from(error).because(hint.as_slice());
    }
    let Error::Timeout { id, .. } = &error else {
        return error.into();
    };
    let look = async {
        let view = session.client.task(&session.queue, id).await.ok()?;
        let stats = session.client.stats(&session.queue).await.ok()?;
        Some(reasons(&view, &stats))
    };
    let reasons = tokio::time::timeout(LOOK, look).await.ok().flatten();
    CliError::from(error).because(&reasons.unwrap_or_default())
}

fn reasons(view: &TaskView, stats: &QueueStats) -> Vec<String> {
    let clock = Clock { now: stats.at };
    let mut reasons = Vec::new();
    match view.state {
        State::Running => {
            let who = view.consumer.as_deref().unwrap_or("a consumer");
            let since = view.started_at.map(|at| format!(" since {}", clock.full(at)));
            return vec![format!("{who} has been running it{}", since.unwrap_or_default())];
        }
        State::Scheduled | State::Retrying => {
            let due = view.due_at.map_or_else(String::new, |at| clock.full(at));
            let failed = if view.failures > 0 { "it failed and " } else { "it " };
            reasons.push(format!("{failed}is due {due}"));
        }
        State::Pending => {}
        State::Completed | State::Failed | State::Cancelled | State::Expired => return reasons,
    }
    if view.unhandled > 0 {
        let kind = &view.kind;
        let times = match view.unhandled {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        reasons.push(format!(
            "consumers that know no handler for kind {kind} handed it back {times}"
        ));
    }
    if stats.paused {
        reasons.push(format!("queue {} is paused", stats.queue));
    }
    if stats.consumers == 0 {
        reasons.push(format!("no consumer serves queue {} now", stats.queue));
    }
    reasons
}
