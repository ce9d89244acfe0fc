//! What a handler is: one async function from a task to an outcome.
//!
//! Invariant: a handler never touches Redis state of its task; it returns an [`Outcome`] and the
//! settler writes it, fenced by the claim's token. Dropping the returned future is how a handler
//! is cancelled, so a handler must be drop-safe (child processes are ended by their guards).
//!
//! It does not decide about retries: it says what happened, the policy of the task decides.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::context::Context;

/// A boxed future, as returned by [`Handler::run`].
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// What became of one attempt: result bytes (JSON), or why not.
pub type Outcome = Result<Bytes, Failure>;

/// Runs tasks of one kind.
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt. `payload` is the task's payload, valid JSON, byte for byte as enqueued.
    ///
    /// # Errors
    /// A [`Failure`] says why the attempt failed and whether another may help.
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome>;

    /// Ends what the handler keeps between tasks, such as a pool of processes. Called once at
    /// shutdown, after the last run; a run that is still going fails. Most handlers keep nothing.
    fn close(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why an attempt failed, and what the handler wants done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, for people; cut at [`workyard_shared::limits::MAX_ERROR_BYTES`].
    pub message: String,
    /// What should happen next.
    pub next: Next,
}

/// What a handler wants after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Retry by the task's own backoff while attempts are left.
    Retry,
    /// Retry after exactly this long while attempts are left.
    RetryAfter(Duration),
    /// Never retry: straight to the dead-letter set.
    Final,
    /// Not here: another consumer may be able to. It burns no attempt.
    Elsewhere,
}

impl Failure {
    /// A failure that the task's backoff answers.
    pub fn retry(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: Next::Retry,
        }
    }

    /// A failure that is retried after `delay` instead of the task's backoff.
    pub fn retry_after(message: impl Into<String>, delay: Duration) -> Self {
        Self {
            message: message.into(),
            next: Next::RetryAfter(delay),
        }
    }

    /// What this consumer cannot run, for a reason that need not hold for others: it is handed back and burns no attempt.
    /// A step of a job that ten consumers handed back so has failed, for the last one's reason.
    pub fn elsewhere(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: Next::Elsewhere,
        }
    }

    /// A failure for good: no attempt can help.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: Next::Final,
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// Any error is a failure worth a retry; its message includes its sources.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::retry(message)
    }
}
