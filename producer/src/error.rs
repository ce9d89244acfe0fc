//! What a producer's call can answer instead of a value, by what the caller can do about it.
//!
//! Invariant: a wait that ran out of time is [`Error::Timeout`] and says nothing about the task,
//! which goes on. It does not retry anything.

use std::time::Duration;

use workyard_shared::crypto::Unopened;
use workyard_shared::duration;
use workyard_shared::job::JobState;
use workyard_shared::store::StoreError;

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
    /// As [`Self::NotFound`]; but it may have been pushed raw, and wait in the inbox behind the items that were looked at.
    #[error(
        "no task {id} in queue {queue}, unless it is among the {unseen} items of the inbox that were not looked at (the first \
         1,000 or 4 MiB are)"
    )]
    NotSeen {
        /// The queue that was asked.
        queue: String,
        /// The id.
        id: String,
        /// Items of the inbox that were not looked at.
        unseen: u64,
    },
    /// The task is completed, and its result cannot be opened with the keys of this client.
    #[error("the result of task {id} is {why}")]
    Sealed {
        /// The task.
        id: String,
        /// What stands in the way.
        why: Unopened,
    },
    /// What is kept of a job cannot be opened with the keys of this client.
    #[error("what is kept of job {id} is {why}")]
    JobSealed {
        /// The job.
        id: String,
        /// What stands in the way.
        why: Unopened,
    },
    /// Redis knows no such job: it was never submitted here, was deleted, or its retention is over.
    #[error("no job {id} in queue {queue}: never submitted there, or not kept any more")]
    NoJob {
        /// The queue that was asked.
        queue: String,
        /// The id.
        id: String,
    },
    /// Another call made a job of this id.
    #[error("there is a job {id} already, of another call: its functions, options or input are not the same")]
    JobExists {
        /// The id.
        id: String,
    },
    /// Somebody deleted the job before all of its chunks were there.
    #[error("job {id} was deleted while it was being submitted")]
    JobDeleted {
        /// The id.
        id: String,
    },
    /// The job did not end in the time that the caller gave it; it goes on.
    #[error("job {id} did not end within {}", duration::format(*.after))]
    JobTimeout {
        /// The job.
        id: String,
        /// The time given.
        after: Duration,
    },
    /// The job is in a state in which this cannot be done.
    #[error("job {id} is {state}{}: {cannot}", if .reason.is_empty() { String::new() } else { format!(" ({reason})") })]
    JobState {
        /// The job.
        id: String,
        /// Where it is.
        state: JobState,
        /// Why it failed, if it did.
        reason: String,
        /// What cannot be done.
        cannot: &'static str,
    },
    /// Nobody would run the task: no consumer of the queue is alive and well.
    #[error("no healthy consumer for queue {queue}{}", if *.alive > 0 { format!(": {} drain or are unhealthy", .alive) } else { String::new() })]
    NoConsumer {
        /// The queue.
        queue: String,
        /// Consumers whose lease lives all the same.
        alive: u64,
    },
    /// A file or object of a job cannot be read or removed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Whether waiting and doing the same again can succeed.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Call(error) => error.is_temporary(),
            Self::Store(error) => matches!(error, StoreError::Temporary { .. }),
            _ => false,
        }
    }

    /// Bad input, with what would be right.
    #[must_use]
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Call(workyard_shared::Error::Invalid(text.into()))
    }
}
