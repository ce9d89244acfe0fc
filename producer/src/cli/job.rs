//! `job`: one map-reduce job by its id, or the list of them.
//!
//! Invariant: how the job ended is the exit code of `wait`; the reason of a bad end is on stderr.

use std::time::Duration;

use serde_json::json;
use workyard_producer::{JobHandle, JobId, JobRecord, JobState};

use super::args::{JobAction, JobArgs, ShowArgs};
use super::exit::{CliError, Exit};
use super::job_view::{self, JobView};
use super::output::clean;
use super::session::Session;
use super::{job_progress, job_result};

/// Runs the command.
pub(crate) async fn run(args: JobArgs, session: &mut Session) -> Result<Exit, CliError> {
    let handle = |id: &JobId, session: &Session| session.client.job(&session.queue, id);
    match (args.action, args.id) {
        (Some(JobAction::List { limit, offset }), None) => list(limit, offset, session).await,
        (Some(JobAction::Wait { id, timeout, show }), None) => {
            // A Redis that is away now is told; one that goes away later is waited out.
            session.client.now().await?;
            finish(&handle(&id.id, session), timeout, &show, session).await
        }
        (Some(JobAction::Result { id, show }), None) => {
            let job = handle(&id.id, session);
            let record = job.status().await?;
            job_result::print(&job, &record, &show, session).await?;
            Ok(Exit::Done)
        }
        (Some(JobAction::Cancel(id)), None) => {
            let cancelled = handle(&id.id, session).cancel().await?;
            said(&id.id, if cancelled { "cancelled" } else { "finished" }, session)?;
            match cancelled {
                true => Ok(Exit::Done),
                false => Err(CliError::task(format!("job {} had ended before", id.id))),
            }
        }
        (Some(JobAction::Retry(id)), None) => {
            handle(&id.id, session).retry().await?;
            said(&id.id, "retrying", session)
        }
        (Some(JobAction::Delete(id)), None) => {
            handle(&id.id, session).delete().await?;
            said(&id.id, "deleted", session)
        }
        (None, Some(id)) => show(&handle(&id, session), session).await,
        (Some(_), Some(id)) => Err(CliError::usage(
            format!("\"{id}\" stands before the command"),
            Some("say `workyard job wait ID`"),
        )),
        (None, None) => Err(CliError::usage("an id is missing", None)),
    }
}

fn said(id: &JobId, what: &str, session: &mut Session) -> Result<Exit, CliError> {
    match session.out.json {
        true => session.out.document(&json!({ "job": id.as_str(), "answer": what }))?,
        false => session.out.line(&format!("{id} {what}"))?,
    }
    Ok(Exit::Done)
}

async fn show(job: &JobHandle, session: &mut Session) -> Result<Exit, CliError> {
    let view = JobView::of(job, &session.queue).await?;
    if session.out.json {
        session.out.document(&view.document())?;
        return Ok(Exit::Done);
    }
    let clock = session.clock().await?;
    for (name, value) in view.rows(clock) {
        session.out.line(&format!("{name:<12}{value}"))?;
    }
    Ok(Exit::Done)
}

async fn list(limit: u64, offset: u64, session: &mut Session) -> Result<Exit, CliError> {
    session.known_queue().await?;
    let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX / 2);
    let jobs = session.client.jobs(&session.queue, place(offset), place(limit)).await?;
    if session.out.json {
        let jobs: Vec<_> = jobs
            .iter()
            .map(|job| job_view::document(job.id.as_str(), session.queue.as_str(), &job.record))
            .collect();
        session.out.document(&jobs)?;
        return Ok(Exit::Done);
    }
    let clock = session.clock().await?;
    session.out.line(&job_view::table(&jobs, clock, session.out.terminal))?;
    Ok(Exit::Done)
}

/// Waits for the end and writes the result, or says why there is none.
pub(crate) async fn finish(
    job: &JobHandle,
    timeout: Option<Duration>,
    show: &ShowArgs,
    session: &mut Session,
) -> Result<Exit, CliError> {
    let limit = timeout.unwrap_or(Duration::MAX);
    let record = Box::pin(job_progress::wait(job, limit, session.out.json)).await?;
    if record.state != JobState::Completed {
        if session.out.json {
            let view = JobView::of(job, &session.queue).await?;
            session.out.document(&view.document())?;
            session.out.flush()?;
        }
        return Err(bad_end(job.id(), &record));
    }
    job_result::print(job, &record, show, session).await?;
    Ok(Exit::Done)
}

fn bad_end(id: &JobId, record: &JobRecord) -> CliError {
    let reason = match (record.state, record.error.as_str()) {
        (JobState::Cancelled, _) => format!("job {id} was cancelled"),
        (state, "") => format!("job {id} {state}"),
        (state, error) => format!("job {id} {state}: {}", clean(error, 2000)),
    };
    CliError::Told {
        exit: Exit::TaskFailed,
        message: reason,
        hint: Some(format!(
            "`workyard job {id}` shows more, `workyard job retry {id}` runs what is missing"
        )),
    }
}
