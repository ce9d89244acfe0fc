//! The queues that a worker serves, and what belongs to each.
//!
//! Invariant: a name stands here once. A queue that a reload took out stays until its loop has ended, so that what runs is seen
//! and counted as before; until then it cannot come back: the same consumer would be in it twice.
//!
//! What Redis refuses of one queue is kept with it, and is no outage: the others are served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workyard_shared::Error;
use workyard_shared::name::QueueName;

use crate::health::Desk;
use crate::metrics::QueueMeter;
use crate::ops::Mark;

/// What is asked of Redis for a queue. Each is refused by itself: a key that somebody broke stands in the way of some calls and not
/// of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Heartbeat,
    Claim,
    Settle,
    // Of the maintainer; tasks run without them.
    Promote,
    Ends,
    Sweep,
    Look,
    Jobs,
    /// How much is left, of `--until-empty`.
    Count,
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Claim => "claim",
            Self::Settle => "batch of outcomes",
            Self::Promote => "promotion of due tasks",
            Self::Ends => "look for ended leases",
            Self::Sweep => "clearing up",
            Self::Look => "look at its consumers",
            Self::Jobs => "look at its jobs",
            Self::Count => "count of what is left",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Heartbeat | Self::Claim | Self::Settle => Level::Service,
            _ => Level::Upkeep,
        }
    }

    fn is_of_maintainer(self) -> bool {
        self.level() == Level::Upkeep && self != Self::Count
    }
}

/// Nothing is said of a refusal that keeps no task from running and is over so soon.
const SHORT: Duration = Duration::from_secs(5);

/// Something that Redis refuses.
#[derive(Debug)]
struct Refused {
    asked: Asked,
    since: Instant,
    why: String,
}

/// Whether tasks of a queue are refused, or only its upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Upkeep,
    Service,
}

/// What of a queue Redis refuses, each since when; told once per level when it begins and once when it is over.
#[derive(Debug, Default)]
struct Book {
    refused: Vec<Refused>,
    told: [bool; 2],
}

impl Book {
    /// Whether this is to be told.
    fn add(&mut self, asked: Asked, why: String, now: Instant) -> bool {
        let since = match self.refused.iter_mut().find(|known| known.asked == asked) {
            Some(known) => {
                known.why = why;
                known.since
            }
            None => {
                self.refused.push(Refused { asked, since: now, why });
                now
            }
        };
        let level = asked.level();
        let is_known = self.told[Level::Service as usize] || self.told[level as usize];
        let is_short = level == Level::Upkeep && now.duration_since(since) < SHORT;
        let is_news = !is_known && !is_short;
        self.told[level as usize] |= is_news;
        is_news
    }

    /// What was told and is over now.
    fn remove(&mut self, is_over: impl Fn(Asked) -> bool) -> Vec<Level> {
        self.refused.retain(|known| !is_over(known.asked));
        let mut over = Vec::new();
        for level in [Level::Service, Level::Upkeep] {
            let lasts = self.refused.iter().any(|known| known.asked.level() == level);
            if !lasts && std::mem::take(&mut self.told[level as usize]) {
                over.push(level);
            }
        }
        over
    }
}

/// What Redis refuses of one queue.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Whether there is anything: each answer asks.
    any: AtomicBool,
    book: Mutex<Book>,
}

impl Refusals {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is refused, and asked again until it is not.
    pub(crate) fn add(&self, queue: &QueueName, asked: Asked, error: &Error) {
        let is_news = self.book().add(asked, error.to_string(), Instant::now());
        self.any.store(true, Ordering::SeqCst);
        if !is_news {
            return;
        }
        let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let what = asked.name();
        match asked.level() {
            Level::Service => {
                warn!(%queue, %error, "queue {queue} cannot be served, its {what} is refused: {error}; that is tried again, and other queues go on{remedy}");
            }
            Level::Upkeep => {
                warn!(%queue, %error, "queue {queue} is served, but its {what} is refused: {error}; that is tried again{remedy}");
            }
        }
    }

    /// It is served.
    pub(crate) fn over(&self, queue: &QueueName, asked: Asked) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        for level in self.remove(|of| of == asked) {
            match level {
                Level::Service => info!(%queue, "queue {queue} is served again"),
                Level::Upkeep => info!(%queue, "nothing of queue {queue} is refused any more"),
            }
        }
    }

    /// Another consumer is its maintainer, and says what it meets.
    pub(crate) fn is_maintained_elsewhere(&self) {
        self.remove(Asked::is_of_maintainer);
    }

    fn remove(&self, is_over: impl Fn(Asked) -> bool) -> Vec<Level> {
        let mut book = self.book();
        let over = book.remove(is_over);
        self.any.store(!book.refused.is_empty(), Ordering::SeqCst);
        over
    }

    /// Why its tasks are refused, if they have been for longer than this.
    pub(crate) fn longer_than(&self, span: Duration) -> Option<String> {
        let book = self.book();
        let of_tasks = book
            .refused
            .iter()
            .filter(|known| known.asked.level() == Level::Service);
        let first = of_tasks.min_by_key(|known| known.since)?;
        (first.since.elapsed() > span).then(|| first.why.clone())
    }
}

/// One queue, while the worker has to do with it.
pub(crate) struct Served {
    pub(crate) name: QueueName,
    /// The number of its loop among the shares of the slots.
    pub(crate) lane: usize,
    pub(crate) desk: Arc<Desk>,
    pub(crate) meter: Arc<QueueMeter>,
    /// Its loop goes round.
    pub(crate) mark: Mark,
    /// What Redis does not do for it.
    pub(crate) refusals: Refusals,
    /// Stop claiming, finish what runs; with the worker, or before.
    pub(crate) drain: CancellationToken,
    /// The time for that is over: hand back what still runs.
    pub(crate) halt: CancellationToken,
}

/// All of them: those that are served, in the order of their turns, and behind them those that are being left.
#[derive(Default)]
pub(crate) struct Queues {
    all: RwLock<Arc<[Arc<Served>]>>,
    /// Numbers of loops that have ended.
    vacant: Mutex<Vec<usize>>,
}

impl Queues {
    pub(crate) fn all(&self) -> Arc<[Arc<Served>]> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that are served.
    pub(crate) fn names(&self) -> Vec<QueueName> {
        let all = self.all();
        let served = all.iter().filter(|queue| !queue.drain.is_cancelled());
        served.map(|queue| queue.name.clone()).collect()
    }

    /// Whether these could be served from now on.
    ///
    /// # Errors
    /// [`Error::Invalid`] if one of them is still being left.
    pub(crate) fn may_change(&self, names: &[QueueName]) -> Result<(), Error> {
        let all = self.all();
        let left = all
            .iter()
            .find(|queue| queue.drain.is_cancelled() && names.contains(&queue.name));
        left.map_or(Ok(()), |queue| {
            Err(Error::Invalid(format!(
                "queue {} was taken out and its last tasks still run here: reload again when they have ended",
                queue.name
            )))
        })
    }

    /// Replaces those that are served; those that are not among them any more are returned, and stay until [`Self::left`].
    pub(crate) fn change(&self, served: Vec<Arc<Served>>) -> Vec<Arc<Served>> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = |queue: &&Arc<Served>| !served.iter().any(|other| Arc::ptr_eq(other, queue));
        let others: Vec<_> = all.iter().filter(is_other).cloned().collect();
        let leaving = others.iter().filter(|queue| !queue.drain.is_cancelled());
        let leaving = leaving.cloned().collect();
        *all = served.into_iter().chain(others).collect();
        leaving
    }

    /// Its loop has ended.
    pub(crate) fn left(&self, queue: &Arc<Served>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        *all = all.iter().filter(|other| !Arc::ptr_eq(other, queue)).cloned().collect();
        drop(all);
        self.vacant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(queue.lane);
    }

    /// A number whose loop has ended, if there is one.
    pub(crate) fn vacant(&self) -> Option<usize> {
        self.vacant.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_and_its_end_once_however_many_calls_meet_it() {
        let (mut book, now) = (Book::default(), Instant::now());
        let why = || "WRONGTYPE".to_owned();
        assert!(!book.add(Asked::Sweep, why(), now), "it may be over soon");
        assert!(book.add(Asked::Claim, why(), now));
        for asked in [Asked::Claim, Asked::Heartbeat, Asked::Sweep] {
            assert!(!book.add(asked, why(), now + SHORT), "{asked:?}");
        }
        let over = |book: &mut Book, asked| book.remove(|of| of == asked);
        assert_eq!(over(&mut book, Asked::Heartbeat), []);
        assert_eq!(over(&mut book, Asked::Claim), [Level::Service]);
        assert_eq!(over(&mut book, Asked::Claim), []);
        assert!(book.add(Asked::Sweep, why(), now + SHORT), "it lasts");
        assert!(!book.add(Asked::Promote, why(), now + 2 * SHORT));
        assert_eq!(over(&mut book, Asked::Sweep), []);
        assert_eq!(over(&mut book, Asked::Promote), [Level::Upkeep]);
    }
}
