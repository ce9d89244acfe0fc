//! The queues that a worker serves, and what belongs to each.
//!
//! Invariant: a name stands here once. A queue that a reload took out stays until its loop has ended, so that what runs is seen
//! and counted as before; until then it cannot come back: the same consumer would be in it twice.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use workyard_shared::Error;
use workyard_shared::name::QueueName;

use crate::health::Desk;
use crate::metrics::QueueMeter;
use crate::ops::Mark;

/// One queue, while the worker has to do with it.
pub(crate) struct Served {
    pub(crate) name: QueueName,
    /// The number of its loop among the shares of the slots.
    pub(crate) lane: usize,
    pub(crate) desk: Arc<Desk>,
    pub(crate) meter: Arc<QueueMeter>,
    /// Its loop goes round.
    pub(crate) mark: Mark,
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
