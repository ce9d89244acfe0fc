//! `--until-empty`: when the queues of a worker are empty, and what keeps one from it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::info;
use workyard_shared::Error;
use workyard_shared::broker::{Overview, Place, Queue, Seen};
use workyard_shared::name::QueueName;

use crate::fleet::Fleet;
use crate::queues::{Asked, Served};

/// How often it is looked whether everything is done.
const EMPTY_CHECK: Duration = Duration::from_millis(200);
/// It says nothing of a wait that ends so soon ...
const SHORT: Duration = Duration::from_secs(3);
/// ... and of one that lasts, once and then as seldom as this.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// Returns when no queue has anything left to do; says what it waits for, where that may take long.
pub(crate) async fn all_empty(fleet: &Fleet) {
    let mut said = Said::default();
    loop {
        let mut left = 0;
        for served in fleet.queues.all().iter().filter(|queue| !queue.drain.is_cancelled()) {
            let queue = fleet.broker.queue(&served.name);
            left += match left_in(&queue, served).await {
                Ok((left, hindrance)) => {
                    served.refusals.over(&served.name, Asked::Count);
                    if let Some(hindrance) = hindrance
                        && said.is_due(&served.name, hindrance.what, Instant::now())
                    {
                        info!(queue = %served.name, "queue {} is not empty yet: {}", served.name, hindrance.words);
                    }
                    left
                }
                Err(error) => {
                    fleet.failed(served, Asked::Count, &error);
                    1
                }
            };
        }
        if left == 0 {
            return;
        }
        tokio::time::sleep(EMPTY_CHECK).await;
    }
}

/// Why a queue that is not empty may stay so for long.
struct Hindrance {
    /// Its sort: of each the log has a line now and then.
    what: &'static str,
    words: String,
}

/// How many tasks a queue has left, and what keeps them.
async fn left_in(queue: &Queue, served: &Served) -> Result<(u64, Option<Hindrance>), Error> {
    let (inbox, seen) = (queue.inbox_len().await?, queue.overview().await?);
    let (waiting, name) = (inbox + seen.pending + seen.scheduled, queue.name());
    let hindrance = if seen.paused && waiting > 0 {
        let words = format!("it is paused with {waiting} waiting (`workyard resume {name}` lets it go on)");
        Some(Hindrance { what: "paused", words })
    } else if seen.scheduled > 0 && inbox + seen.pending + seen.running == 0 {
        next_due(queue, served, &seen).await?
    } else {
        None
    };
    Ok((waiting + seen.running, hindrance))
}

/// What all that is left waits for its time for, judged by the one that is due first.
async fn next_due(queue: &Queue, served: &Served, overview: &Overview) -> Result<Option<Hindrance>, Error> {
    let first = queue.page("scheduled", 0, 1, false).await?;
    let ids: Vec<&str> = first.iter().map(String::as_str).collect();
    let seen = if ids.is_empty() {
        Vec::new()
    } else {
        queue.inspect(&ids).await?
    };
    let Some(Seen::Live {
        place: Place::Scheduled(due_ms),
        record,
        meta,
    }) = seen.into_iter().next()
    else {
        return Ok(None);
    };
    let away = Duration::from_millis(due_ms.saturating_sub(overview.now_ms));
    let (kind, left, id) = (record.kind(), overview.scheduled, &first[0]);
    let due = format!("the first is {id} (kind {kind}), due {}", moment(due_ms, away));
    let (what, words) = if meta.unhandled > 0 {
        let words =
            format!("no consumer has a handler for kind {kind}: {id} goes back until that has been tried ten times");
        ("unhandled", words)
    } else if served.desk.broken_kinds().iter().any(|broken| broken == kind) {
        (
            "broken",
            format!("kind {kind} fails everywhere, one is tried now and then; waiting: {left}"),
        )
    } else if away < SHORT {
        return Ok(None);
    } else if meta.failures > 0 {
        (
            "retrying",
            format!(
                "waiting for another attempt: {left}, {due}, failures so far: {}",
                meta.failures
            ),
        )
    } else {
        ("scheduled", format!("scheduled for later: {left}, {due}"))
    };
    Ok(Some(Hindrance { what, words }))
}

/// As people read it, of the clock of Redis.
fn moment(at_ms: u64, away: Duration) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(chrono::DateTime::from_timestamp_millis);
    let at = at.map_or_else(|| "?".to_owned(), |at| at.format("%F %T UTC").to_string());
    format!("in {} ({at})", workyard_shared::duration::format(away))
}

/// What was said of which queue, and when.
#[derive(Default)]
struct Said(HashMap<(QueueName, &'static str), Instant>);

impl Said {
    /// Whether it is time for a line; then it counts as said.
    fn is_due(&mut self, queue: &QueueName, what: &'static str, now: Instant) -> bool {
        let entry = (queue.clone(), what);
        let is_due = self.0.get(&entry).is_none_or(|at| now.duration_since(*at) >= SAY_AGAIN);
        if is_due {
            self.0.insert(entry, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_queue_waits_for_is_said_once_and_seldom_again() {
        let (q, r) = (QueueName::new("q").unwrap(), QueueName::new("r").unwrap());
        let (mut said, begin) = (Said::default(), Instant::now());
        assert!(said.is_due(&q, "paused", begin));
        assert!(!said.is_due(&q, "paused", begin + SAY_AGAIN / 2));
        // Another queue, and another reason, are other news.
        assert!(said.is_due(&r, "paused", begin));
        assert!(said.is_due(&q, "scheduled", begin));
        assert!(said.is_due(&q, "paused", begin + SAY_AGAIN));
        assert!(!said.is_due(&q, "paused", begin + SAY_AGAIN));
    }
}
