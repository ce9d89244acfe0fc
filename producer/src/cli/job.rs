//! `job`: one map-reduce job by its id, or the list of them.
//!
//! Invariant: how the job ended is the exit code of `wait`; the reason of a bad end is on stderr.

use std::time::Duration;

use serde_json::json;
use workyard_producer::{Error, JobGlance, JobHandle, JobId, JobRecord, JobState};

use workyard_shared::job::{DATA_GONE, SPILLED_DATA_GONE};
use workyard_shared::store::SPILLED_DATA_DAMAGED;

use super::args::{JobAction, JobArgs, ShowArgs};
use super::exit::{CliError, Exit};
use super::job_view::{self, JobView};
use super::session::Session;
use super::why;
use super::{job_document, job_notes, job_progress, job_result};

/// Jobs of one look for those in a state.
const PAGE: usize = 200;
/// Beginnings and parts of reasons that the same job would meet again: another retry cannot help.
const STAYS: [&str; 10] = [
    DATA_GONE,
    "abandoned:",
    "budget:",
    "has changed under the job",
    "needs the argument",
    "the arguments of",
    "is no number",
    "has no number",
    "has no field",
    "is not JSON",
];

/// Runs the command.
pub(crate) async fn run(args: JobArgs, session: &mut Session) -> Result<Exit, CliError> {
    let handle = |id: &JobId, session: &Session| session.client.job(&session.queue, id);
    match (args.action, args.id) {
        (Some(JobAction::List { limit, offset, state }), None) => list(limit, offset, state, session).await,
        (Some(JobAction::Wait { id, timeout, show }), None) => {
            job_result::check(&show, session)?;
            session.is_there(timeout).await?;
            finish(&handle(&id.id, session), timeout, &show, session).await
        }
        (Some(JobAction::Result { id, show }), None) => {
            job_result::check(&show, session)?;
            let job = handle(&id.id, session);
            let record = job.status().await?;
            job_result::print(&job, &record, &show, session).await?;
            Ok(Exit::Done)
        }
        (Some(JobAction::Cancel(id)), None) => match handle(&id.id, session).cancel().await? {
            true => said(&id.id, "cancelled", session),
            false if session.out.json => said(&id.id, "finished", session).map(|_| Exit::TaskFailed),
            false => Err(CliError::task(format!("job {} had ended before", id.id))),
        },
        (Some(JobAction::Retry(id)), None) => {
            handle(&id.id, session).retry().await?;
            said(&id.id, "retrying", session)
        }
        (Some(JobAction::Delete { id, leave_files }), None) => {
            delete(&handle(&id.id, session), leave_files).await?;
            said(&id.id, "deleted", session)
        }
        (None, Some(id)) => show(&handle(&id, session), session).await,
        (Some(_), Some(id)) => Err(CliError::usage(
            format!("\"{id}\" stands before the command"),
            Some("say `workyard job COMMAND ID`"),
        )),
        (None, None) => Err(CliError::usage("an id is missing", None)),
    }
}

async fn delete(job: &JobHandle, leave_files: bool) -> Result<(), CliError> {
    if leave_files {
        return Ok(job.delete_leaving_files().await?);
    }
    job.delete().await.map_err(|error| {
        let (of_store, error) = (matches!(error, Error::Store(_)), CliError::from(error));
        let (id, queue) = (job.id(), why::on(job.queue()));
        let hint = format!("delete it where its spilled files can be reached; `workyard job delete {id}{queue} --leave-files` leaves them there");
        error.because(of_store.then_some(hint).as_slice())
    })
}

fn said(id: &JobId, what: &str, session: &mut Session) -> Result<Exit, CliError> {
    match session.out.json {
        true => session.out.document(&json!({ "job": id.as_str(), "answer": what }))?,
        false => session.out.line(&format!("{id} {what}"))?,
    }
    Ok(Exit::Done)
}

async fn show(job: &JobHandle, session: &mut Session) -> Result<Exit, CliError> {
    let view = JobView::of(job, &session.queue, session.out.json).await?;
    if session.out.json {
        session.out.document(&view.document())?;
        return Ok(Exit::Done);
    }
    let clock = session.clock().await?;
    for (name, value) in view.rows(clock) {
        session.out.line(&format!("{name:<12}{value}"))?;
    }
    if let Some(reason) = job_notes::idle(view.record(), session).await {
        session.out.line(&format!("{:<12}{reason}", "note"))?;
    }
    Ok(Exit::Done)
}

async fn list(limit: u64, offset: u64, state: Option<JobState>, session: &mut Session) -> Result<Exit, CliError> {
    session.known_queue().await?;
    let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX / 2);
    let jobs = match state {
        None => session.client.jobs(&session.queue, place(offset), place(limit)).await?,
        Some(state) => in_state(state, place(offset), place(limit), session).await?,
    };
    if session.out.json {
        let jobs: Vec<_> = jobs
            .iter()
            .map(|job| job_document::document(job.id.as_str(), session.queue.as_str(), &job.record))
            .collect();
        session.out.document(&jobs)?;
        return Ok(Exit::Done);
    }
    let clock = session.clock().await?;
    session.out.line(&job_view::table(&jobs, clock, session.out.terminal))?;
    session.out.flush()?;
    if jobs.is_empty() {
        session.note_other_queues().await?;
    }
    Ok(Exit::Done)
}

/// Jobs in a state, newest first: the queue's list knows no states, so it is read page by page.
async fn in_state(state: JobState, offset: usize, limit: usize, session: &Session) -> Result<Vec<JobGlance>, CliError> {
    let mut found = Vec::new();
    let mut passed = 0;
    while found.len() < offset + limit {
        let page = session.client.jobs(&session.queue, passed, PAGE).await?;
        if page.is_empty() {
            break;
        }
        passed += page.len();
        found.extend(page.into_iter().filter(|job| job.record.state == state));
    }
    Ok(found.into_iter().skip(offset).take(limit).collect())
}

/// Waits for the end and writes the result, or says why there is none.
pub(crate) async fn finish(
    job: &JobHandle,
    timeout: Option<Duration>,
    show: &ShowArgs,
    session: &mut Session,
) -> Result<Exit, CliError> {
    let limit = timeout.unwrap_or(Duration::MAX);
    let record = Box::pin(job_progress::wait(job, limit, session)).await?;
    if record.state != JobState::Completed {
        if session.out.json {
            let view = JobView::of(job, &session.queue, true).await?;
            session.out.document(&view.document())?;
            session.out.flush()?;
        }
        // Without them the record's own word has to do.
        let errors = job.errors().await.unwrap_or_default();
        return Err(bad_end(job, &record, &errors));
    }
    job_result::print(job, &record, show, session).await?;
    Ok(Exit::Done)
}

fn bad_end(job: &JobHandle, record: &JobRecord, errors: &[(String, String)]) -> CliError {
    let (id, queue) = (job.id(), why::on(job.queue()));
    let reason = match (record.state, record.error.as_str()) {
        (JobState::Cancelled, _) => format!("job {id} was cancelled"),
        (state, "") => format!("job {id} {state}"),
        (state, _) => format!("job {id} {state}: {}", job_view::reason(record, errors, 2000)),
    };
    let lost = |what| record.error.contains(what);
    let hint = match retry_can_help(record) {
        _ if lost(SPILLED_DATA_GONE) || lost(SPILLED_DATA_DAMAGED) => format!(
            "`workyard job {id}{queue}` shows more; spilled data is not made again: unless it comes back there, submit the job anew"
        ),
        _ if lost(DATA_GONE) => {
            format!("`workyard job {id}{queue}` shows more; what is done does not run again: submit the job anew")
        }
        true => format!("`workyard job {id}{queue}` shows more, `workyard job retry {id}{queue}` runs what is missing"),
        false => format!("`workyard job {id}{queue}` shows more"),
    };
    CliError::Told {
        exit: Exit::TaskFailed,
        message: reason,
        hint: Some(hint),
    }
}

fn retry_can_help(record: &JobRecord) -> bool {
    record.maps.total > 0 && !STAYS.iter().any(|reason| record.error.contains(reason))
}
