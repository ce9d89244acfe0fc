//! What a producer's call can answer instead of a value, by what the caller can do about it.
//!
//! Invariant: a wait that ran out of time is [`Error::Timeout`] and says nothing about the task,
//! which goes on. It does not retry anything.

use std::time::Duration;

use workyard_shared::duration;

/// Errors of this crate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on Redis failed, or its input broke a rule.
    #[error(transparent)]
    Call(#[from] workyard_shared::Error),
    /// The task did not end in the time that the caller gave it; it goes on.
    #[error("task {id} did not end within {}", duration::format(*.after))]
    Timeout {
        /// The task.
        id: String,
        /// The time given.
        after: Duration,
    },
    /// Redis knows no such task: it was never enqueued here, was deleted, or has ended and its
    /// result is not kept any more.
    #[error("no task {id} in queue {queue}: never enqueued there, or its result is not kept any more")]
    NotFound {
        /// The queue that was asked.
        queue: String,
        /// The id.
        id: String,
    },
}

impl Error {
    /// Whether waiting and doing the same again can succeed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_temporary())
    }

    /// Bad input, with what would be right.
    #[must_use]
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Call(workyard_shared::Error::Invalid(text.into()))
    }
}
