//! `list`: tasks by state, kind and error, page by page.
//!
//! Invariant: stdout has the page; where the next one begins is in the JSON document, or a note on
//! stderr.

use serde::Serialize;
use workyard_producer::{Cursor, Filter, TaskView};

use super::args::ListArgs;
use super::exit::{CliError, Exit};
use super::output::summary;
use super::session::Session;
use super::table::Grid;
use super::time::Clock;

/// Tasks of one call while passing over an offset.
const SKIP_STEP: u64 = 1000;

#[derive(Serialize)]
struct Document<'a> {
    tasks: &'a [TaskView],
    next: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: &ListArgs, session: &mut Session) -> Result<Exit, CliError> {
    session.known_queue().await?;
    let filter = args.filter.filter();
    let mut cursor = args.cursor.clone();
    let mut skip = args.offset;
    while skip > 0 {
        let (passed, next) = gather(session, &filter, cursor, skip.min(SKIP_STEP)).await?;
        skip -= (passed.len() as u64).min(skip);
        cursor = next;
        if cursor.is_none() {
            return show(&[], None, session).await;
        }
    }
    let (tasks, next) = gather(session, &filter, cursor, args.limit).await?;
    show(&tasks, next.as_ref(), session).await
}

/// Up to `limit` tasks: the library's pages may be short when few tasks pass the filter.
async fn gather(
    session: &Session,
    filter: &Filter,
    mut cursor: Option<Cursor>,
    limit: u64,
) -> Result<(Vec<TaskView>, Option<Cursor>), CliError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut tasks = Vec::new();
    loop {
        let page = session
            .client
            .list(&session.queue, filter, cursor.as_ref(), limit - tasks.len())
            .await?;
        tasks.extend(page.tasks);
        cursor = page.next;
        if tasks.len() >= limit || cursor.is_none() {
            return Ok((tasks, cursor));
        }
    }
}

async fn show(tasks: &[TaskView], next: Option<&Cursor>, session: &mut Session) -> Result<Exit, CliError> {
    if session.out.json {
        session.out.document(&Document {
            tasks,
            next: next.map(Cursor::to_string),
        })?;
        return Ok(Exit::Done);
    }
    let clock = session.clock().await?;
    session.out.line(&table(tasks, clock, session.out.terminal))?;
    session.out.flush()?;
    if tasks.is_empty() {
        session.note_other_queues().await?;
    }
    if let Some(next) = next {
        session.out.note(&format!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

/// The table of a page.
pub(crate) fn table(tasks: &[TaskView], clock: Clock, terminal: bool) -> String {
    let mut grid = Grid::new(
        terminal,
        &[
            "id",
            "kind",
            "state",
            ">priority",
            ">attempts",
            "created",
            "when",
            "error",
        ],
    );
    for task in tasks {
        let when = task.due_at.or(task.finished_at).or(task.started_at);
        grid.row([
            task.id.clone(),
            task.kind.clone(),
            task.state.as_str().to_owned(),
            task.priority.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            task.attempts.to_string(),
            clock.cell(task.created_at),
            clock.cell(when),
            summary(
                task.error.as_deref().unwrap_or_default(),
                if terminal { 58 } else { 118 },
            ),
        ]);
    }
    grid.text()
}
