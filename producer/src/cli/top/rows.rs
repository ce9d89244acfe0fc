//! The rows of each view: what is read for them and what they show.
//!
//! Invariant: every row knows its id, which acts and the selection go by; a task that ended while it was looked at has no row.

use std::time::Duration;

use workyard_producer::{
    Client, ConsumerView, Error, Filter, JobId, JobRecord, JobState, Moment, Phase, QueueName, State, TaskView,
};
use workyard_shared::duration;

use super::look::ROWS;
use super::screen::View;
use crate::cli::consumers;
use crate::cli::output::summary;
use crate::cli::side_by_side::side_by_side;

/// Most characters of an error.
const ERROR: usize = 160;
/// Characters of a bar.
const BAR: u64 = 20;

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) cells: Vec<String>,
    /// For a job: its id, and whether it has ended.
    pub(super) job: Option<(JobId, bool)>,
    /// It should catch the eye.
    pub(super) bad: bool,
}

/// Heads of the columns; those with `>` are numbers.
pub(super) fn heads(view: View) -> &'static [&'static str] {
    match view {
        View::Running => &["id", "kind", ">attempt", ">for", "consumer", "progress"],
        View::Pending => &["id", "kind", ">priority", ">attempts", ">age"],
        View::Scheduled => &["id", "kind", ">attempts", ">due in", "last error"],
        View::Failed => &["id", "kind", ">attempts", ">ago", "reason", "error"],
        View::Consumers => &consumers::TOP,
        View::Jobs => &[
            "id",
            "state",
            "functions",
            "maps",
            "reduces",
            ">failed",
            ">took",
            "error",
        ],
    }
}

/// Reads the rows of a view.
pub(super) async fn read(client: &Client, queue: &QueueName, view: View, now: Moment) -> Result<Vec<Line>, Error> {
    match view {
        View::Running => tasks(client, queue, State::Running, now).await,
        View::Pending => tasks(client, queue, State::Pending, now).await,
        View::Scheduled => {
            let mut rows = tasks(client, queue, State::Scheduled, now).await?;
            rows.extend(tasks(client, queue, State::Retrying, now).await?);
            Ok(rows)
        }
        View::Failed => tasks(client, queue, State::Failed, now).await,
        View::Consumers => {
            let seen = client.consumers(std::slice::from_ref(queue)).await?;
            let line = |view: &ConsumerView| Line {
                id: view.id.clone(),
                cells: consumers::top_cells(view),
                job: None,
                bad: !view.alive,
            };
            Ok(seen.iter().take(ROWS).map(line).collect())
        }
        View::Jobs => {
            let jobs = client.jobs(queue, 0, ROWS).await?;
            Ok(jobs
                .into_iter()
                .map(|glance| job(glance.id, &glance.record, now))
                .collect())
        }
    }
}

async fn tasks(client: &Client, queue: &QueueName, state: State, now: Moment) -> Result<Vec<Line>, Error> {
    let filter = Filter {
        state: Some(state),
        ..Filter::default()
    };
    let tasks = client.list(queue, &filter, None, ROWS).await?.tasks;
    if state != State::Running {
        return Ok(tasks.into_iter().map(|task| line(task, now)).collect());
    }
    // A listing does not ask who runs a task, and since when.
    let held = side_by_side(tasks, |task| async move {
        match client.task(queue, &task.id).await {
            Ok(task) => Ok(Some(task).filter(|task| task.state == State::Running)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let held = held.await?.into_iter().flatten();
    Ok(held.map(|task| line(task, now)).collect())
}

fn line(task: TaskView, now: Moment) -> Line {
    let error = summary(task.error.as_deref().unwrap_or_default(), ERROR);
    let since = |at: Option<Moment>| span(at.map(|at| now.ms().saturating_sub(at.ms())));
    let cells = match task.state {
        State::Running => vec![
            task.attempts.to_string(),
            since(task.started_at),
            task.consumer.clone().unwrap_or_default(),
            summary(task.progress.as_deref().unwrap_or_default(), ERROR),
        ],
        State::Pending => {
            let priority = task.priority.map(|n| n.to_string());
            let attempts = task.attempts.to_string();
            vec![priority.unwrap_or_default(), attempts, since(task.created_at)]
        }
        State::Scheduled | State::Retrying => vec![
            task.attempts.to_string(),
            span(task.due_at.map(|at| at.ms().saturating_sub(now.ms()))),
            error,
        ],
        _ => vec![
            task.attempts.to_string(),
            since(task.finished_at),
            task.reason.clone().unwrap_or_default(),
            error,
        ],
    };
    Line {
        cells: [vec![task.id.clone(), task.kind], cells].concat(),
        id: task.id,
        job: None,
        bad: task.state == State::Failed || task.state == State::Retrying,
    }
}

/// Whole seconds, or "-".
fn span(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| duration::format(Duration::from_secs(ms / 1000)))
}

fn job(id: JobId, record: &JobRecord, now: Moment) -> Line {
    let ended = record.state.is_terminal();
    let until = if ended { record.finished_ms } else { now.ms() };
    let took = (record.started_ms > 0).then(|| until.saturating_sub(record.started_ms));
    Line {
        cells: vec![
            id.to_string(),
            record.state.to_string(),
            format!("{} -> {}", record.spec.map.kind, record.spec.reduce.kind),
            bar(&record.maps),
            bar(&record.reduces),
            (record.maps.failed + record.reduces.failed).to_string(),
            span(took),
            summary(&record.error, ERROR),
        ],
        bad: record.state == JobState::Failed,
        id: id.to_string(),
        job: Some((id, ended)),
    }
}

/// `###.......  30% 3/10`, or nothing while nothing is known.
fn bar(phase: &Phase) -> String {
    let Some(filled) = (phase.done * BAR).checked_div(phase.total) else {
        return String::new();
    };
    let filled = usize::try_from(filled.min(BAR)).unwrap_or_default();
    let empty = BAR as usize - filled;
    let percent = phase.done * 100 / phase.total;
    let (done, total) = (phase.done, phase.total);
    format!(
        "{}{} {percent:>3}% {done}/{total}",
        "#".repeat(filled),
        ".".repeat(empty)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_much_of_a_phase_is_done() {
        let phase = |done, total| Phase {
            done,
            total,
            ..Phase::default()
        };
        assert_eq!(bar(&phase(0, 0)), "");
        assert_eq!(bar(&phase(3, 10)), "######..............  30% 3/10");
        assert_eq!(bar(&phase(10, 10)), "#################### 100% 10/10");
    }

    #[test]
    fn every_row_of_tasks_has_as_many_cells_as_its_view_has_heads() {
        let queue = QueueName::new("q").unwrap();
        for (view, state) in [
            (View::Running, State::Running),
            (View::Pending, State::Pending),
            (View::Scheduled, State::Scheduled),
            (View::Failed, State::Failed),
        ] {
            let line = line(TaskView::bare(&queue, "a", state), Moment::from_ms(1));
            assert_eq!(line.cells.len(), heads(view).len(), "{view:?}");
        }
    }
}
