//! One look at an installation: its queues, and the rows of one view of one queue.
//!
//! Invariant: bounded. At most [`QUEUES`] queues and [`ROWS`] rows are read, however many there are. Rates are those since
//! the look before, by Redis' clock.

use std::collections::HashMap;

use workyard_producer::{Client, Error, Moment, QueueName, QueueStats};

use super::rows::{self, Line};
use super::screen::{View, Wanted};
use crate::cli::side_by_side::side_by_side;

/// Queues that are shown at most.
pub(super) const QUEUES: usize = 200;
/// Rows of a view that are shown at most.
pub(super) const ROWS: usize = 100;

/// What was seen.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) at: Moment,
    pub(super) queues: Vec<QueueLine>,
    /// Queues that there are besides these.
    pub(super) more: usize,
    /// Of what the rows are.
    pub(super) of: Option<(QueueName, View)>,
    pub(super) rows: Vec<Line>,
}

/// A queue.
#[derive(Debug, Clone)]
pub(super) struct QueueLine {
    pub(super) name: QueueName,
    pub(super) pending: u64,
    pub(super) scheduled: u64,
    pub(super) running: u64,
    pub(super) failed: u64,
    pub(super) inbox: u64,
    pub(super) consumers: u64,
    pub(super) paused: bool,
    /// How long the oldest pending task has been so.
    pub(super) oldest_ms: Option<u64>,
    /// Per second since the look before; `None` at the first.
    pub(super) rates: Option<Rates>,
}

impl QueueLine {
    fn of(name: QueueName, stats: &QueueStats, rates: Option<Rates>) -> Self {
        Self {
            name,
            pending: stats.pending,
            scheduled: stats.scheduled,
            running: stats.running,
            failed: stats.failed,
            inbox: stats.inbox,
            consumers: stats.consumers,
            paused: stats.paused,
            oldest_ms: stats.oldest_pending.map(|at| stats.at.ms().saturating_sub(at.ms())),
            rates,
        }
    }
}

/// What happened, per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) submitted: f64,
    pub(super) completed: f64,
    pub(super) failed: f64,
}

/// The counters of a look.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Moment,
    submitted: u64,
    completed: u64,
    failed: u64,
}

impl Counted {
    fn of(stats: &QueueStats) -> Self {
        let total = |name: &str| stats.totals.get(name).copied().unwrap_or_default();
        Self {
            at: stats.at,
            submitted: total("submitted"),
            completed: total("completed"),
            // A failed attempt is either tried again or the last.
            failed: total("failed") + total("retried"),
        }
    }

    /// `None` if no time has passed.
    fn since(self, before: Self) -> Option<Rates> {
        let ms = self.at.ms().saturating_sub(before.at.ms());
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 * 1000.0 / ms as f64;
        (ms > 0).then(|| Rates {
            submitted: rate(self.submitted, before.submitted),
            completed: rate(self.completed, before.completed),
            failed: rate(self.failed, before.failed),
        })
    }
}

/// Looks, and remembers what it needs for rates.
#[derive(Debug)]
pub(super) struct Looker {
    only: Option<QueueName>,
    before: HashMap<QueueName, Counted>,
}

impl Looker {
    /// Of this queue, or of all.
    pub(super) fn new(only: Option<QueueName>) -> Self {
        Self {
            only,
            before: HashMap::new(),
        }
    }

    /// Looks once. Rows are those of the wanted queue, or of the first if none is wanted or it is gone.
    pub(super) async fn look(&mut self, client: &Client, want: &Wanted) -> Result<Picture, Error> {
        let mut names = match &self.only {
            Some(queue) => vec![queue.clone()],
            None => client.queues().await?,
        };
        names.sort_unstable();
        let more = names.len().saturating_sub(QUEUES);
        names.truncate(QUEUES);
        let stats = side_by_side(names, |name| async move {
            let stats = client.stats(&name).await?;
            Ok::<_, Error>((name, stats))
        });
        let mut queues = Vec::new();
        for (name, stats) in stats.await? {
            let counted = Counted::of(&stats);
            let rates = self.before.insert(name.clone(), counted);
            queues.push(QueueLine::of(
                name,
                &stats,
                rates.and_then(|before| counted.since(before)),
            ));
        }
        let at = client.now().await?;
        let chosen = queues.iter().find(|line| Some(&line.name) == want.queue.as_ref());
        let of = chosen.or(queues.first()).map(|line| (line.name.clone(), want.view));
        let rows = match &of {
            Some((queue, view)) => rows::read(client, queue, *view, at).await?,
            None => Vec::new(),
        };
        Ok(Picture {
            at,
            queues,
            more,
            of,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_counted_in_the_time_between_two_looks() {
        let counted = |ms, n| Counted {
            at: Moment::from_ms(ms),
            submitted: n,
            completed: 2 * n,
            failed: 0,
        };
        let rates = counted(2500, 15).since(counted(2000, 5)).unwrap();
        assert_eq!((rates.submitted, rates.completed, rates.failed), (20.0, 40.0, 0.0));
        assert_eq!(counted(2000, 15).since(counted(2000, 5)), None);
    }
}
