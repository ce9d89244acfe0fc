//! What all loops of one worker share.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use workyard_shared::Error;
use workyard_shared::broker::Broker;
use workyard_shared::outage::Watch;

use crate::counters::Counters;
use crate::health::Host;
use crate::jobs::Spill;
use crate::metrics::Meters;
use crate::middleware::Middleware;
use crate::ops::Progress;
use crate::protection::Protection;
use crate::queues::{Asked, Queues, Served};
use crate::registry::Registry;
use crate::slots::Slots;
use crate::stage::Stages;
use crate::suspects::Suspects;
use crate::telemetry::Tracing;

/// Shared by lanes, pulse, maintenance and ingest of a worker. No loop owns another: they meet here
/// and in `worker.rs`.
pub(crate) struct Fleet {
    pub(crate) broker: Broker,
    /// For large answers, over a connection of their own: Redis cuts off one that has subscribed, as the other has, when
    /// 32 MB wait to be read on it (`client-output-buffer-limit pubsub`).
    pub(crate) bulk: Broker,
    /// Replaced by a reload: taken once per batch, not per task.
    pub(crate) handlers: RwLock<Arc<Registry>>,
    /// Replaced by a reload, and taken, like the handlers.
    pub(crate) protection: RwLock<Arc<Protection>>,
    /// Handlers that a reload took out, closed when their last task has ended.
    pub(crate) retiring: TaskTracker,
    pub(crate) stages: Arc<Stages>,
    pub(crate) spill: Arc<Spill>,
    pub(crate) host: Arc<Host>,
    /// Something should be reported before the next beat.
    pub(crate) urgent: Arc<Notify>,
    pub(crate) queues: Queues,
    pub(crate) middleware: Arc<[Arc<dyn Middleware>]>,
    /// Hooks that were told of a dead letter and have not returned.
    pub(crate) hooks: TaskTracker,
    /// `None`: nobody wants spans.
    pub(crate) tracing: Option<Tracing>,
    pub(crate) slots: Slots,
    /// One task at a time that consumers died under: if we die, too, it is clear whose fault that was. With several, those
    /// that only ran beside the guilty one would be condemned with it.
    pub(crate) suspects: Arc<Suspects>,
    pub(crate) counters: Counters,
    pub(crate) meters: Meters,
    pub(crate) progress: Arc<Progress>,
    pub(crate) watch: Watch,
    /// Stop claiming, finish what runs.
    pub(crate) drain: CancellationToken,
    /// The time for draining is over: hand back what still runs.
    pub(crate) halt: CancellationToken,
    /// Nobody waits for Redis any longer.
    pub(crate) over: CancellationToken,
    pub(crate) poll: Duration,
    pub(crate) prefetch: usize,
}

/// How long the answer to a turn is waited for in the end. What a claim brought that is given up goes back with our session.
const LAST_ANSWER: Duration = Duration::from_secs(1);

impl Fleet {
    /// Returns when nobody waits any longer for the answer to a turn of a queue that settles something, or only claims.
    pub(crate) async fn gives_up(&self, queue: &Served, settles: bool) {
        if settles {
            self.over.cancelled().await;
        } else {
            queue.drain.cancelled().await;
        }
        tokio::time::sleep(LAST_ANSWER).await;
    }

    /// A call of a queue failed: what is refused of it alone is no outage.
    pub(crate) fn failed(&self, queue: &Served, asked: Asked, error: &Error) {
        if error.is_of_the_call() {
            self.watch.counted(error);
            queue.refusals.add(&queue.name, asked, error);
        } else {
            self.watch.failed(error);
        }
    }

    /// The handlers of now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.handlers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys of now, and what must be sealed or signed.
    pub(crate) fn protection(&self) -> Arc<Protection> {
        Arc::clone(&self.protection.read().unwrap_or_else(PoisonError::into_inner))
    }
}
