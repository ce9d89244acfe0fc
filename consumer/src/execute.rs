//! Runs one task: timeout, cancel, panic, and what its outcome means for the queue.
//!
//! Invariant: every claimed task yields exactly one [`Done`], whatever the handler does. It writes
//! nothing: the lane settles.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use workyard_shared::broker::{Completion, FailVerdict, FailureReport};
use workyard_shared::limits::MAX_RESULT_BYTES;

use crate::context::Context;
use crate::handler::{Failure, Handler, Next, Outcome};
use crate::middleware::Middleware;

/// A claimed task, ready to run.
pub(crate) struct Job {
    pub(crate) ctx: Context,
    pub(crate) token: u64,
    pub(crate) payload: Bytes,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) created_ms: u64,
    pub(crate) retention: Duration,
}

/// What became of a claimed task.
pub(crate) enum Done {
    Completed(Completion),
    Failed(FailureReport, String),
    /// Cancelled, or its lease lost: there is nothing to say.
    Dropped {
        id: String,
        token: u64,
    },
}

impl Done {
    pub(crate) fn claim(&self) -> (&str, u64) {
        match self {
            Self::Completed(c) => (&c.id, c.token),
            Self::Failed(f, _) => (&f.id, f.token),
            Self::Dropped { id, token } => (id, *token),
        }
    }
}

/// How an attempt ended, before it is put into the queue's terms.
enum Ended {
    Outcome(Outcome),
    TimedOut,
    Cancelled,
}

/// Runs a task to its end.
pub(crate) async fn execute(job: Job, middleware: Arc<[Arc<dyn Middleware>]>) -> (Done, Duration) {
    for layer in middleware.iter() {
        layer.before(&job.ctx).await;
    }
    let started = Instant::now();
    let ended = attempt(&job).await;
    let run = started.elapsed();
    let timed_out = matches!(ended, Ended::TimedOut);
    let outcome = match ended {
        Ended::Outcome(outcome) => check_size(outcome),
        Ended::TimedOut => {
            let limit = job.timeout.unwrap_or_default();
            Err(Failure::retry(format!(
                "timeout: ran longer than {}",
                workyard_shared::duration::format(limit)
            )))
        }
        Ended::Cancelled => {
            return (
                Done::Dropped {
                    id: job.ctx.id().to_owned(),
                    token: job.token,
                },
                run,
            );
        }
    };
    for layer in middleware.iter().rev() {
        layer.after(&job.ctx, &outcome).await;
    }
    (settle(&job, outcome, timed_out, run), run)
}

async fn attempt(job: &Job) -> Ended {
    // The call itself may panic, before there is a future.
    let handler = Arc::clone(&job.handler);
    let (ctx, payload) = (job.ctx.clone(), job.payload.clone());
    let run = AssertUnwindSafe(async move { handler.run(ctx, payload).await }).catch_unwind();
    let limit = async {
        match job.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = run => Ended::Outcome(result.unwrap_or_else(|panic| Err(Failure::retry(describe(&*panic))))),
        () = job.ctx.cancellation().cancelled() => Ended::Cancelled,
        () = limit => {
            // Dropping the future ends an async handler; a blocking one can only be asked.
            job.ctx.cancellation().cancel();
            Ended::TimedOut
        }
    }
}

pub(crate) fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("the handler panicked: {text}")
}

fn check_size(outcome: Outcome) -> Outcome {
    match outcome {
        Ok(result) if result.len() > MAX_RESULT_BYTES => Err(Failure::fatal(format!(
            "the result has {} bytes, at most {MAX_RESULT_BYTES} are kept; store it elsewhere and return where",
            result.len()
        ))),
        other => other,
    }
}

fn settle(job: &Job, outcome: Outcome, timed_out: bool, run: Duration) -> Done {
    let id = job.ctx.id().to_owned();
    match outcome {
        Ok(result) => Done::Completed(Completion {
            id,
            token: job.token,
            kind: job.ctx.kind().to_owned(),
            created_ms: job.created_ms,
            run,
            retention: job.retention,
            result,
        }),
        Err(failure) => {
            let (verdict, delay) = match failure.next {
                _ if timed_out => (FailVerdict::Timeout, None),
                Next::Retry => (FailVerdict::Retry, None),
                Next::RetryAfter(delay) => (FailVerdict::Retry, Some(delay)),
                Next::Final => (FailVerdict::Final, None),
            };
            let report = FailureReport {
                id,
                token: job.token,
                verdict,
                delay,
                run,
                random: fastrand::f64(),
                error: failure.message,
            };
            Done::Failed(report, job.ctx.kind().to_owned())
        }
    }
}
