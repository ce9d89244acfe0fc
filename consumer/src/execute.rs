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
use workyard_shared::broker::{Completion, FailVerdict, FailureReport, Handback, JobOutcome, JobVerdict};
use workyard_shared::job::Part;
use workyard_shared::limits::MAX_RESULT_BYTES;

use crate::context::Context;
use crate::done::Done;
use crate::handler::{Failure, Handler, Next, Outcome};
use crate::jobs::{MemberEnd, MemberTask};
use crate::middleware::Middleware;
use crate::protection::Entrance;

/// How long a task of a job whose functions are not all known here is left to others.
const UNHANDLED_DELAY: Duration = Duration::from_secs(5);

/// What runs a task.
#[derive(Clone)]
pub(crate) enum Work {
    /// The handler of its kind.
    Handler(Arc<dyn Handler>),
    /// It is a step of a map-reduce job.
    Member(MemberTask),
}

/// A claimed task, ready to run.
pub(crate) struct Run {
    pub(crate) ctx: Context,
    pub(crate) token: u64,
    pub(crate) payload: Bytes,
    pub(crate) work: Work,
    pub(crate) timeout: Option<Duration>,
    pub(crate) created_ms: u64,
    pub(crate) retention: Duration,
    /// What stands between payload and handler; for most tasks nothing.
    pub(crate) entrance: Option<Box<Entrance>>,
}

/// How an attempt ended, before it is put into the queue's terms.
enum Ended {
    Outcome(Outcome),
    Parts(Vec<(u32, Part)>),
    /// With what its program said last, if it has one that did.
    TimedOut(Option<String>),
    Cancelled,
}

impl Ended {
    /// Told to end, a handler says that it failed, and may say so before the stop of its run is seen: that is no failure, of the
    /// task or of its kind.
    fn unless_cancelled(self, ctx: &Context) -> Self {
        let is_told = ctx.cancellation().is_cancelled() && !ctx.is_out_of_time();
        match self {
            Self::Outcome(Err(failure)) if is_told && matches!(failure.next, Next::Retry | Next::RetryAfter(_)) => {
                Self::Cancelled
            }
            other => other,
        }
    }
}

impl From<MemberEnd> for Ended {
    fn from(end: MemberEnd) -> Self {
        match end {
            MemberEnd::Parts(parts) => Self::Parts(parts),
            MemberEnd::Failed(failure) => Self::Outcome(Err(failure)),
            MemberEnd::Unwanted => Self::Cancelled,
        }
    }
}

/// Runs a task to its end.
pub(crate) async fn execute(mut task: Run, middleware: Arc<[Arc<dyn Middleware>]>) -> (Done, Duration) {
    let entrance = task.entrance.take();
    if let Some(entrance) = &entrance {
        match entrance.admit(&task.ctx, &task.payload) {
            Ok(payload) => task.payload = payload,
            Err(reason) => return (refused(&task, reason), Duration::ZERO),
        }
    }
    for layer in middleware.iter() {
        layer.before(&task.ctx).await;
    }
    let started = Instant::now();
    let ended = attempt(&task).await;
    let run = started.elapsed();
    let timed_out = matches!(ended, Ended::TimedOut(_)) || task.ctx.is_out_of_time();
    let (outcome, parts) = match ended {
        Ended::Outcome(outcome) => (check_size(outcome), Vec::new()),
        Ended::Parts(parts) => (Ok(Bytes::from_static(b"null")), parts),
        Ended::TimedOut(said) => {
            let limit = workyard_shared::duration::format(task.timeout.unwrap_or_default());
            let message = said.unwrap_or_else(|| format!("timed out after {limit}"));
            (Err(Failure::retry(message)), Vec::new())
        }
        Ended::Cancelled => return (dropped(&task), run),
    };
    for layer in middleware.iter().rev() {
        layer.after(&task.ctx, &outcome).await;
    }
    let outcome = match &entrance {
        Some(entrance) => entrance.close(&task.ctx, outcome),
        None => outcome,
    };
    let done = match &task.work {
        Work::Handler(_) => settle(&task, outcome, timed_out, run),
        Work::Member(member) => Done::Member(
            member.job.clone(),
            task.ctx.kind().to_owned(),
            settle_member(&task, member, outcome, parts, timed_out, run),
        ),
    };
    (done, run)
}

async fn attempt(task: &Run) -> Ended {
    // The call itself may panic, before there is a future.
    let (work, ctx, payload) = (task.work.clone(), task.ctx.clone(), task.payload.clone());
    let run = AssertUnwindSafe(async move {
        match work {
            Work::Handler(handler) => Ended::Outcome(handler.run(ctx, payload).await),
            // Boxed: it is many times larger, and every task's future would have room for it.
            Work::Member(member) => Box::pin(member.run(ctx, payload)).await.into(),
        }
    })
    .catch_unwind();
    let limit = async {
        match task.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut run = std::pin::pin!(run);
    let mut stopped = tokio::select! {
        biased;
        ended = &mut run => {
            let ended = ended.unwrap_or_else(|panic| Ended::Outcome(Err(Failure::retry(describe(&*panic)))));
            return ended.unless_cancelled(&task.ctx);
        }
        () = task.ctx.cancellation().cancelled() => Ended::Cancelled,
        () = limit => {
            // Dropping the future ends an async handler; a blocking one can only be asked.
            task.ctx.cancellation().cancel();
            Ended::TimedOut(None)
        }
    };
    // A program has its signal, and its time to clean up: dropped now, it would be killed. Its slot is in use until then.
    let wind_down = task.ctx.wind_down();
    if !wind_down.is_zero() {
        let last_words = tokio::time::timeout(wind_down, run).await;
        // What the program said last is why it took so long, if anything is.
        if let (Ended::TimedOut(said), Ok(Ok(Ended::Outcome(Err(failure))))) = (&mut stopped, last_words)
            && task.ctx.is_out_of_time()
        {
            *said = Some(failure.message);
        }
    }
    stopped
}

/// Cancelled: a handler's task has been settled by whoever did it; a step of a job has to be cleared away.
fn dropped(task: &Run) -> Done {
    let (id, token) = (task.ctx.id().to_owned(), task.token);
    match &task.work {
        Work::Handler(_) => Done::Dropped { id, token },
        Work::Member(member) => Done::Member(
            member.job.clone(),
            task.ctx.kind().to_owned(),
            JobOutcome {
                id,
                token,
                verdict: JobVerdict::Drop,
                delay: None,
                random: 0.0,
                run: Duration::ZERO,
                error: String::new(),
                parts: Vec::new(),
            },
        ),
    }
}

fn refused(task: &Run, reason: String) -> Done {
    let report = FailureReport {
        id: task.ctx.id().to_owned(),
        token: task.token,
        verdict: FailVerdict::Refused,
        delay: None,
        run: Duration::ZERO,
        random: 0.0,
        error: reason,
    };
    Done::Failed(report, task.ctx.kind().to_owned())
}

fn unhandled(task: &Run) -> Done {
    Done::HandedBack(Handback {
        id: task.ctx.id().to_owned(),
        token: task.token,
        unhandled: Some(task.ctx.kind().to_owned()),
        delay: UNHANDLED_DELAY,
    })
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

fn settle(task: &Run, outcome: Outcome, timed_out: bool, run: Duration) -> Done {
    let id = task.ctx.id().to_owned();
    match outcome {
        Ok(result) => Done::Completed(Completion {
            id,
            token: task.token,
            kind: task.ctx.kind().to_owned(),
            created_ms: task.created_ms,
            run,
            retention: task.retention,
            result,
        }),
        Err(failure) => {
            let (verdict, delay) = match failure.next {
                Next::Elsewhere => return unhandled(task),
                _ if timed_out => (FailVerdict::Timeout, None),
                Next::Retry => (FailVerdict::Retry, None),
                Next::RetryAfter(delay) => (FailVerdict::Retry, Some(delay)),
                Next::Final => (FailVerdict::Final, None),
            };
            let report = FailureReport {
                id,
                token: task.token,
                verdict,
                delay,
                run,
                random: fastrand::f64(),
                error: failure.message,
            };
            Done::Failed(report, task.ctx.kind().to_owned())
        }
    }
}

fn settle_member(
    task: &Run,
    member: &MemberTask,
    outcome: Outcome,
    parts: Vec<(u32, Part)>,
    timed_out: bool,
    run: Duration,
) -> JobOutcome {
    let (verdict, delay, error) = match outcome {
        Ok(_) => (JobVerdict::Done, None, String::new()),
        Err(failure) => {
            // Also of one that ran out of time: a program's last words are in it.
            let words = member.sealing.error(&task.ctx, failure.message);
            match failure.next {
                _ if timed_out => (JobVerdict::Timeout, None, words),
                Next::Retry => (JobVerdict::Retry, None, words),
                Next::RetryAfter(delay) => (JobVerdict::Retry, Some(delay), words),
                Next::Final => (JobVerdict::Final, None, words),
                Next::Elsewhere => (JobVerdict::Elsewhere, None, words),
            }
        }
    };
    JobOutcome {
        id: task.ctx.id().to_owned(),
        token: task.token,
        verdict,
        delay,
        random: fastrand::f64(),
        run,
        error,
        parts,
    }
}
