//! Counters of a daemon: per queue, and per queue and kind as far as the limit allows.
//!
//! Invariant: a [`KindMeter`] is made once per pair and never goes; past [`MOST_PAIRS`] a kind is counted as `other`
//! for as long as the daemon lives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use workyard_shared::metrics::OTHER;

use super::spread::{BATCH, CALL_US, RUN_US, Spread};
use crate::done::Done;

/// Pairs of queue and kind that are counted apart; each queue may have `other` besides.
const MOST_PAIRS: usize = 128;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Failed,
}

impl Outcome {
    pub(super) const ALL: [(Self, &'static str); 2] = [(Self::Completed, "completed"), (Self::Failed, "failed")];

    /// `None`: the run was stopped, or handed back.
    fn of(done: &Done) -> Option<Self> {
        done.kind()?;
        Some(if done.is_failure() {
            Self::Failed
        } else {
            Self::Completed
        })
    }
}

/// One kind of one queue.
#[derive(Debug)]
pub(super) struct KindMeter {
    pub(super) claimed: AtomicU64,
    pub(super) runs: [AtomicU64; 2],
    pub(super) run: Spread,
    pub(super) wait: Spread,
}

impl KindMeter {
    fn new() -> Self {
        Self {
            claimed: AtomicU64::new(0),
            runs: Default::default(),
            run: Spread::new(&RUN_US),
            wait: Spread::new(&RUN_US),
        }
    }
}

/// One queue.
#[derive(Debug)]
pub(crate) struct QueueMeter {
    pub(super) kinds: Mutex<HashMap<String, Arc<KindMeter>>>,
    pub(super) claimed: Spread,
    pub(super) settled: Spread,
    pub(crate) stale: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) leases_lost: AtomicU64,
    pub(super) promoted: AtomicU64,
    pub(super) ingested: AtomicU64,
    pairs: Arc<AtomicUsize>,
}

impl QueueMeter {
    /// A claim brought so many tasks.
    pub(crate) fn claimed(&self, tasks: usize) {
        if tasks > 0 {
            self.claimed.add(tasks as u64);
        }
    }

    /// A task is a dead letter, and no handler saw it.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// So many tasks were due and are pending now.
    pub(crate) fn promoted(&self, tasks: u64) {
        self.promoted.fetch_add(tasks, Ordering::Relaxed);
    }

    /// So many items of the inbox are tasks now.
    pub(crate) fn ingested(&self, tasks: u64) {
        self.ingested.fetch_add(tasks, Ordering::Relaxed);
    }

    /// One call settled so many outcomes.
    pub(crate) fn settled(&self, outcomes: usize) {
        self.settled.add(outcomes as u64);
    }

    /// The meter of a kind; locked, so only for one that the clerk does not know yet.
    fn of(&self, kind: &str) -> (Arc<KindMeter>, bool) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = kinds.get(kind) {
            return (Arc::clone(meter), true);
        }
        let pair = |n| (n < MOST_PAIRS).then_some(n + 1);
        let own = kind == OTHER
            || self
                .pairs
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pair)
                .is_ok();
        let name = if own { kind } else { OTHER };
        let meter = kinds
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(KindMeter::new()));
        (Arc::clone(meter), own)
    }
}

/// What a lane counts with: it remembers the meters of the kinds that it met.
#[derive(Debug)]
pub(crate) struct Clerk {
    pub(crate) queue: Arc<QueueMeter>,
    known: HashMap<String, Arc<KindMeter>>,
    /// The kind of the last task: mostly that of the next one too.
    last: (String, Arc<KindMeter>),
}

impl Clerk {
    pub(crate) fn new(queue: Arc<QueueMeter>) -> Self {
        Self {
            queue,
            known: HashMap::new(),
            // No kind is empty: this one is never counted.
            last: (String::new(), Arc::new(KindMeter::new())),
        }
    }

    fn of(&mut self, kind: &str) -> &KindMeter {
        if self.last.0 != kind {
            let meter = match self.known.get(kind) {
                Some(meter) => Arc::clone(meter),
                None => {
                    let (meter, own) = self.queue.of(kind);
                    // Those counted as `other` are not remembered: what people invent must not fill memory.
                    if own {
                        self.known.insert(kind.to_owned(), Arc::clone(&meter));
                    }
                    meter
                }
            };
            self.last = (kind.to_owned(), meter);
        }
        &self.last.1
    }

    /// A claim brought a task. Kinds that nobody runs here are `other`: what people invent must not use up the pairs.
    pub(crate) fn claimed(&mut self, kind: &str, is_run: impl FnOnce() -> bool) {
        let is_known = self.last.0 == kind || is_run();
        let meter = self.of(if is_known { kind } else { OTHER });
        meter.claimed.fetch_add(1, Ordering::Relaxed);
    }

    /// A task starts for the first time, this long after it could have.
    pub(crate) fn waited(&mut self, kind: &str, time: Duration) {
        self.of(kind).wait.add_time(time);
    }

    /// A task has ended.
    pub(crate) fn ended(&mut self, done: &Done, run: Duration) {
        let (Some(outcome), Some(kind)) = (Outcome::of(done), done.kind()) else {
            return;
        };
        let meter = self.of(kind);
        meter.runs[outcome as usize].fetch_add(1, Ordering::Relaxed);
        meter.run.add_time(run);
    }
}

/// Calls whose round trips are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Claim,
    Settle,
    Heartbeat,
}

impl Call {
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Claim, "claim"),
        (Self::Settle, "settle"),
        (Self::Heartbeat, "heartbeat"),
    ];
}

/// All counters of a daemon.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Pairs of queue and kind that are told apart, in all queues.
    pairs: Arc<AtomicUsize>,
    pub(super) calls: [Spread; 3],
    /// Reloads that were applied, and that were refused.
    pub(crate) reloads: [AtomicU64; 2],
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            pairs: Arc::default(),
            calls: std::array::from_fn(|_| Spread::new(&CALL_US)),
            reloads: Default::default(),
        }
    }

    /// Counters for one more queue.
    pub(crate) fn queue(&self) -> Arc<QueueMeter> {
        Arc::new(QueueMeter {
            kinds: Mutex::default(),
            claimed: Spread::new(&BATCH),
            settled: Spread::new(&BATCH),
            stale: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            leases_lost: AtomicU64::new(0),
            promoted: AtomicU64::new(0),
            ingested: AtomicU64::new(0),
            pairs: Arc::clone(&self.pairs),
        })
    }

    /// Redis answered a call after this long.
    pub(crate) fn answered(&self, call: Call, took: Duration) {
        self.calls[call as usize].add_time(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_beyond_the_limit_are_counted_as_other_and_not_remembered() {
        let meters = Meters::new();
        let queues = [meters.queue(), meters.queue()];
        let mut clerk = Clerk::new(Arc::clone(&queues[0]));
        for i in 0..500 {
            clerk.waited(&format!("k{i}"), Duration::from_millis(1));
        }
        let mut second = Clerk::new(Arc::clone(&queues[1]));
        second.waited("k1", Duration::from_millis(1));
        assert_eq!(clerk.known.len(), MOST_PAIRS);
        let kinds = queues[0].kinds.lock().unwrap();
        assert_eq!(kinds.len(), MOST_PAIRS + 1);
        let other = kinds[OTHER].wait.read(1.0).unwrap();
        assert_eq!(
            other.buckets.iter().map(|(_, n)| n).sum::<u64>(),
            500 - MOST_PAIRS as u64
        );
        assert_eq!(queues[1].kinds.lock().unwrap().keys().collect::<Vec<_>>(), [OTHER]);
    }
}
