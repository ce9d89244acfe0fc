//! Outages as those who wait see them: since when Redis cannot serve, why, and how long that may last.
//!
//! Invariant: one state per client, fed by the looks of its board alone, so that all waits tell the same. A wait goes on
//! through an outage; only a client with a limit ends it, when a look has failed for that long. It looks at nothing itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use workyard_shared::{Error as CallError, Outage, duration};

use crate::client::Client;
use crate::error::Error;

/// An outage that goes on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Away {
    /// When a look failed first.
    pub since: Instant,
    /// When one failed last.
    pub seen: Instant,
    /// Why the last one failed.
    pub error: CallError,
}

/// In words, behind "Redis": what is wrong and what was said.
impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.error {
            CallError::Unavailable {
                outage: Outage::Away,
                detail,
            }
            | CallError::Unknown(detail) => write!(f, "cannot be reached ({detail})"),
            CallError::Unavailable { outage, .. } => write!(f, "cannot serve ({outage})"),
            other => write!(f, "cannot serve ({other})"),
        }
    }
}

impl Away {
    /// What ends a wait of so little patience.
    fn too_long(self, limit: Duration) -> Error {
        let (outage, detail) = match self.error {
            CallError::Unavailable { outage, detail } => (outage, detail),
            // What was asked for was only a look: nothing may have been applied.
            other => (Outage::Away, other.to_string()),
        };
        let detail = format!("{detail}; for longer than {}", duration::format(limit));
        Error::Call(CallError::Unavailable { outage, detail })
    }
}

/// The state, shared by the board and those who wait.
#[derive(Debug)]
pub(crate) struct Outages {
    away: watch::Sender<Option<Away>>,
    waits: AtomicUsize,
    limit: Option<Duration>,
}

impl Outages {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            away: watch::Sender::new(None),
            waits: AtomicUsize::new(0),
            limit,
        }
    }

    /// A look failed for a temporary reason.
    pub(crate) fn failed(&self, error: &CallError) {
        let seen = Instant::now();
        self.away.send_modify(|away| {
            let since = away.as_ref().map_or(seen, |away| away.since);
            let error = error.clone();
            *away = Some(Away { since, seen, error });
        });
    }

    /// A look got its answer.
    pub(crate) fn succeeded(&self) {
        self.away.send_if_modified(|away| away.take().is_some());
    }

    /// Waits through outages, as long as the client may.
    ///
    /// # Errors
    /// The outage that lasted too long.
    pub(crate) async fn outlast<T>(&self, wait: impl Future<Output = T>) -> Result<T, Error> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        let _one_less = Leaving(&self.waits);
        tokio::select! {
            biased;
            answer = wait => Ok(answer),
            error = self.lasting() => Err(error),
        }
    }

    async fn lasting(&self) -> Error {
        let Some(limit) = self.limit else {
            return std::future::pending().await;
        };
        let begun = Instant::now();
        // What is left of an earlier wait counts from now: nobody has looked since.
        let lasts = |away: &Option<Away>| {
            away.as_ref()
                .is_some_and(|away| away.seen >= begun && away.seen - away.since.max(begun) >= limit)
        };
        match self.away.subscribe().wait_for(lasts).await.map(|away| away.clone()) {
            Ok(Some(away)) => away.too_long(limit),
            // The sender is ours: it is there as long as we are.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// The outage of Redis that goes on, as those who wait with this client or follow see it; `None` while it serves. It
    /// changes with the looks of the waits alone: without one it stays as it was.
    #[must_use]
    pub fn outage(&self) -> watch::Receiver<Option<Away>> {
        self.inner.outages.away.subscribe()
    }

    /// Whether somebody waits with this client for an end, or follows.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.inner.outages.waits.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> CallError {
        CallError::Unavailable {
            outage: Outage::Away,
            detail: "refused".to_owned(),
        }
    }

    #[tokio::test]
    async fn only_an_outage_that_lasts_ends_a_wait_and_only_with_a_limit() {
        let outages = Outages::new(Some(Duration::from_millis(30)));
        let looks = async {
            outages.failed(&refused());
            tokio::time::sleep(Duration::from_millis(40)).await;
            outages.succeeded();
            outages.failed(&refused());
            "ended"
        };
        assert_eq!(outages.outlast(looks).await.unwrap(), "ended");
        tokio::time::sleep(Duration::from_millis(40)).await;
        let looks = async {
            // The first of this wait, though the outage is older.
            outages.failed(&refused());
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(40)).await;
            outages.failed(&refused());
            std::future::pending::<()>().await;
        };
        let error = outages.outlast(looks).await.unwrap_err().to_string();
        assert!(error.contains("refused; for longer than 30ms"), "{error}");
        let patient = Outages::new(None);
        let looks = async {
            patient.failed(&refused());
            tokio::time::sleep(Duration::from_millis(40)).await;
            patient.failed(&refused());
            tokio::task::yield_now().await;
        };
        patient.outlast(looks).await.unwrap();
        assert!(patient.away.borrow().is_some());
    }
}
