//! What a handler can know and do about the task that it runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// One attempt of one task, as its handler sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) queue: String,
    pub(crate) attempt: u32,
    pub(crate) token: String,
    pub(crate) deadline: Option<Instant>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) cancelled: CancellationToken,
}

impl Context {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The task's kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The task's queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Which attempt this is: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The fencing token of this claim: decimal, grows with every claim of the task. Hand it to
    /// what you write to, and let it refuse a smaller one.
    #[must_use]
    pub fn fencing_token(&self) -> &str {
        &self.token
    }

    /// When the task's `timeout` ends this attempt, if it has one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How much of the timeout is left; `None` without a timeout.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The task's headers.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// Set when the task is cancelled, its timeout is over, or its lease was lost: whatever the
    /// handler still returns will be refused. Blocking handlers should look at it often.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Shorthand for `cancellation().is_cancelled()`.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// A context by hand, for testing a [`crate::Handler`] without a queue.
    #[must_use]
    pub fn for_test(kind: &str, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            kind: kind.to_owned(),
            queue: "test".to_owned(),
            attempt: 1,
            token: "1".to_owned(),
            deadline: None,
            headers: BTreeMap::new(),
            cancelled: CancellationToken::new(),
        }
    }
}
