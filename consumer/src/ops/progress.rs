//! Marks that loops leave as they go round, to be looked at from another thread.
//!
//! Invariant: a mark is one relaxed store. Each loop marks at least every half second, whatever it waits for, so one
//! that has not for many seconds is stuck; a loop that has ended says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use workyard_shared::broker::Queue;

/// How often a loop marks that has nothing else to do.
pub(crate) const TICK: Duration = Duration::from_millis(500);
/// How long the shared connection may take for an answer to count.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The loop has ended.
const ENDED: u64 = u64::MAX;

/// When a loop went round last.
#[derive(Debug)]
pub(crate) struct Mark {
    born: Instant,
    at_ms: AtomicU64,
}

impl Mark {
    fn new(born: Instant) -> Self {
        Self {
            born,
            at_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) {
        let ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(0);
        self.at_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.at_ms.store(ENDED, Ordering::Relaxed);
    }

    /// How long ago, at `now` after the start; nothing for one that has ended.
    pub(super) fn age(&self, now: Duration) -> Duration {
        match self.at_ms.load(Ordering::Relaxed) {
            ENDED => Duration::ZERO,
            ms => now.saturating_sub(Duration::from_millis(ms)),
        }
    }
}

/// The marks of one worker.
#[derive(Debug)]
pub(crate) struct Progress {
    born: Instant,
    /// The runtime that runs lanes and handlers.
    pub(crate) runtime: Mark,
    /// The connection that lanes use was answered.
    pub(crate) link: Mark,
    /// A heartbeat was answered.
    pub(crate) pulse: Mark,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let born = Instant::now();
        Self {
            born,
            runtime: Mark::new(born),
            link: Mark::new(born),
            pulse: Mark::new(born),
        }
    }

    /// A mark for the loop of a queue, which begins now.
    pub(crate) fn mark(&self) -> Mark {
        let mark = Mark::new(self.born);
        mark.now();
        mark
    }

    pub(super) fn now(&self) -> Duration {
        self.born.elapsed()
    }
}

/// Marks runtime and connection until `stop`; the connection is asked when it has had no answer for `silence`. Two loops: a connection that does not answer must not look like a
/// runtime that does not run.
pub(crate) fn tick(progress: &Arc<Progress>, queue: Queue, silence: Duration, stop: CancellationToken) {
    let (runtime, link) = (Arc::clone(progress), Arc::clone(progress));
    let ended = stop.clone();
    tokio::spawn(async move {
        while !ended.is_cancelled() {
            runtime.runtime.now();
            tokio::time::sleep(TICK).await;
        }
    });
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            tokio::time::sleep(2 * TICK).await;
            if link.link.age(link.now()) < silence {
                continue;
            }
            // Any answer shows that the connection works, also a refusal.
            match tokio::time::timeout(ANSWER_TIME, queue.now_us()).await {
                Ok(Err(error)) if error.is_temporary() => {}
                Ok(_) => link.link.now(),
                Err(_) => {}
            }
        }
    });
}
