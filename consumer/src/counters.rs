//! What a worker counts about itself, for its health key and its log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::done::Done;

/// Weight of the newest run in the mean: about the last 20 runs count.
const NEWEST: u64 = 20;

/// Counters of one worker process since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) processed: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) stale: AtomicU64,
    mean_run_ns: AtomicU64,
}

impl Counters {
    /// Counts a finished run. Two threads may overwrite each other's mean: it is a mean. Only of runs to a good end: how soon tasks fail, or
    /// are cancelled, says nothing of how long one takes, and estimates come from it.
    pub(crate) fn ran(&self, run: Duration, done: &Done) {
        self.processed.fetch_add(1, Ordering::Relaxed);
        if done.is_failure() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if done.kind().is_none() || done.is_failure() {
            return;
        }
        let run = u64::try_from(run.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.mean_run_ns.load(Ordering::Relaxed);
        let next = if mean == 0 {
            run
        } else {
            mean - mean / NEWEST + run / NEWEST
        };
        self.mean_run_ns.store(next.max(1), Ordering::Relaxed);
    }

    /// The mean run time; `None` before the first run.
    pub(crate) fn mean_run(&self) -> Option<Duration> {
        match self.mean_run_ns.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }
}
