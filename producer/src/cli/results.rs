//! `results`: how tasks ended, the recent ones or as it happens.
//!
//! Invariant: followed ends are written one line each, at once. A gap after a lost connection is
//! told (in JSON as `{"gap":true}`), not hidden.

use serde_json::json;
use workyard_producer::{Filter, News, State, TaskView};

use super::args::ResultsArgs;
use super::exit::{CliError, Exit};
use super::output::{clean, summary};
use super::session::Session;
use super::table::Grid;
use super::time::{Clock, time_of_day};

/// Tasks shown when nobody says how many.
const DEFAULT_LIMIT: u64 = 20;
/// Characters of a result or an error in a line.
const SHOWN: usize = 80;

/// Runs the command.
pub(crate) async fn run(args: &ResultsArgs, session: &mut Session) -> Result<Exit, CliError> {
    let filter = args.filter.filter();
    if let Some(state) = filter.state.filter(|state| !state.is_terminal()) {
        let hint = "states of ended tasks are completed, failed, cancelled, expired";
        return Err(CliError::usage(
            format!("{} is no way to end", state.as_str()),
            Some(hint),
        ));
    }
    if args.follow {
        return follow(&filter, args.limit, session).await;
    }
    session.known_queue().await?;
    let limit = usize::try_from(args.limit.unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX);
    let tasks = recent(&filter, limit, session).await?;
    if session.out.json {
        session.out.document(&tasks)?;
    } else {
        let clock = session.clock().await?;
        session.out.line(&table(&tasks, clock, session.out.terminal))?;
    }
    Ok(Exit::Done)
}

/// The newest results and dead letters together.
async fn recent(filter: &Filter, limit: usize, session: &Session) -> Result<Vec<TaskView>, CliError> {
    let mut tasks = Vec::new();
    // Results and dead letters stand in two places; each is asked for its newest.
    for (place, has) in [
        (State::Completed, filter.state != Some(State::Failed)),
        (State::Failed, filter.state.is_none_or(|s| s == State::Failed)),
    ] {
        if !has {
            continue;
        }
        let states = match (place, filter.state) {
            (State::Failed, _) => vec![State::Failed],
            (_, Some(state)) => vec![state],
            (_, None) => vec![State::Completed, State::Cancelled, State::Expired],
        };
        for state in states {
            let mut one = filter.clone();
            one.state = Some(state);
            tasks.extend(session.client.list(&session.queue, &one, None, limit).await?.tasks);
        }
    }
    tasks.sort_by_key(|task| std::cmp::Reverse(task.finished_at));
    tasks.truncate(limit);
    Ok(tasks)
}

fn outcome(task: &TaskView) -> String {
    if let (Some(sealed), Some(_)) = (&task.sealed, &task.result) {
        return format!("({sealed})");
    }
    match (&task.result, &task.error) {
        (Some(result), _) => clean(&String::from_utf8_lossy(result.bytes()), SHOWN),
        (None, Some(error)) => summary(error, SHOWN),
        (None, None) => task.reason.clone().unwrap_or_default(),
    }
}

fn table(tasks: &[TaskView], clock: Clock, terminal: bool) -> String {
    let mut grid = Grid::new(terminal, &["finished", "state", "id", "kind", ">attempts", "outcome"]);
    for task in tasks {
        let attempts = task.attempts.to_string();
        let state = task.state.as_str();
        grid.row([
            &clock.cell(task.finished_at),
            state,
            &task.id,
            &task.kind,
            &attempts,
            &outcome(task),
        ]);
    }
    grid.text()
}

async fn follow(filter: &Filter, limit: Option<u64>, session: &mut Session) -> Result<Exit, CliError> {
    session.is_there(None).await?;
    let mut follow = session.client.follow(&session.queue).await?;
    session
        .out
        .note(&format!("following queue {}; end with Ctrl-C", session.queue));
    let mut left = limit.unwrap_or(u64::MAX);
    loop {
        for news in follow.next().await? {
            match news {
                News::Gap if session.out.json => session.out.json_line(&json!({ "gap": true }))?,
                News::Gap => session
                    .out
                    .note("note: the connection was lost; ends may be missing here"),
                News::Ended(task) if filter.admits(&task) => {
                    show(&task, session)?;
                    left -= 1;
                    if left == 0 {
                        return Ok(Exit::Done);
                    }
                }
                News::Ended(_) => {}
            }
        }
    }
}

fn show(task: &TaskView, session: &mut Session) -> Result<(), CliError> {
    if session.out.json {
        return session.out.json_line(task);
    }
    let at = task.finished_at.map(time_of_day).unwrap_or_default();
    let kind = if task.kind.is_empty() { "-" } else { &task.kind };
    session.out.line(&format!(
        "{at:<8}  {:<9}  {}  {kind}  {}",
        task.state.as_str(),
        clean(&task.id, 128),
        outcome(task)
    ))?;
    session.out.flush()
}
