//! What a handler can know and do about the task that it runs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use workyard_shared::Error;
use workyard_shared::broker::{Accepted, Queue};
use workyard_shared::crypto::KeyRing;
use workyard_shared::envelope::NewTask;
use workyard_shared::name::{SessionId, TaskId};
use workyard_shared::submit::Submitter;
use workyard_shared::trace_context::TraceContext;

use crate::kind_slots::KindPermit;

/// How long [`Context::enqueue`] waits out an outage.
const ENQUEUE_PATIENCE: Duration = Duration::from_secs(10);

/// The way from a context back to its queue.
#[derive(Debug)]
pub(crate) struct Lifeline {
    pub(crate) queue: Queue,
    pub(crate) session: SessionId,
    pub(crate) submitter: Submitter,
}

/// One attempt of one task, as its handler sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    attempt: Arc<Attempt>,
}

/// What a context tells, shared by its clones.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) number: u32,
    pub(crate) token: String,
    pub(crate) deadline: Option<Instant>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) cancelled: CancellationToken,
    pub(crate) lifeline: Option<Arc<Lifeline>>,
    pub(crate) keys: Option<Arc<KeyRing>>,
    /// Whether something of it came sealed, which a step of a job finds out on its way; `None` if nothing can.
    pub(crate) sealed: Option<Arc<AtomicBool>>,
    /// Of the span of this run, if there is one.
    pub(crate) trace: Option<TraceContext>,
    /// Given back when the last clone is gone: a blocking function holds its slot by this.
    pub(crate) slot: Option<Arc<Slot>>,
}

/// What an attempt takes up while it lasts.
#[derive(Debug)]
pub(crate) struct Slot {
    _permits: (OwnedSemaphorePermit, Option<KindPermit>),
    /// How long the run may go on once it is stopped, in ms.
    wind_down_ms: AtomicU64,
    /// It was ended because its time was over, the task's or its handler's.
    out_of_time: AtomicBool,
}

impl Slot {
    pub(crate) fn new(permit: OwnedSemaphorePermit, of_kind: Option<KindPermit>) -> Self {
        Self {
            _permits: (permit, of_kind),
            wind_down_ms: AtomicU64::new(0),
            out_of_time: AtomicBool::new(false),
        }
    }

    /// How long the run may go on after it was stopped.
    pub(crate) fn wind_down(&self) -> Duration {
        Duration::from_millis(self.wind_down_ms.load(Ordering::Relaxed))
    }
}

impl From<Attempt> for Context {
    fn from(attempt: Attempt) -> Self {
        Self {
            attempt: Arc::new(attempt),
        }
    }
}

impl Context {
    /// The same attempt, seen by a function of another kind: a combiner runs in its map's task.
    pub(crate) fn for_kind(&self, kind: &str) -> Self {
        if kind == self.kind() {
            return self.clone();
        }
        Attempt {
            kind: kind.to_owned(),
            ..Attempt::clone(&self.attempt)
        }
        .into()
    }

    /// From now on the run ends by itself within `longest` when it is stopped (cancelled, out of time, lost), and is not
    /// dropped before: a program has had its signal then, and cleans up.
    pub(crate) fn winds_down(&self, longest: Duration) {
        if let Some(slot) = &self.attempt.slot {
            let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
            slot.wind_down_ms.fetch_max(ms, Ordering::Relaxed);
        }
    }

    /// Its time is over: whatever is said of it now, that is why it failed.
    pub(crate) fn ran_out_of_time(&self) {
        if let Some(slot) = &self.attempt.slot {
            slot.out_of_time.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_out_of_time(&self) -> bool {
        let slot = self.attempt.slot.as_ref();
        slot.is_some_and(|slot| slot.out_of_time.load(Ordering::Relaxed))
    }

    /// How long it may go on after it was stopped.
    pub(crate) fn wind_down(&self) -> Duration {
        self.attempt
            .slot
            .as_ref()
            .map_or(Duration::ZERO, |slot| slot.wind_down())
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.attempt.id
    }

    /// The task's kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.attempt.kind
    }

    /// The task's queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        let lifeline = self.attempt.lifeline.as_ref();
        lifeline.map_or("test", |lifeline| lifeline.queue.name().as_str())
    }

    /// Which attempt this is: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// The fencing token of this claim: decimal, grows with every claim of the task. Hand it to
    /// what you write to, and let it refuse a smaller one.
    #[must_use]
    pub fn fencing_token(&self) -> &str {
        &self.attempt.token
    }

    /// When the task's `timeout` ends this attempt, if it has one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.attempt.deadline
    }

    /// How much of the timeout is left; `None` without a timeout.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.attempt
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The task's headers.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.attempt.headers
    }

    /// The W3C trace context to hand on to whoever works for this task: the span of this run if the worker makes spans, else
    /// what the task's headers name. Tasks that [`Self::enqueue`] adds get it, programs and addresses that handle tasks too.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        let own = self.attempt.trace.clone();
        own.or_else(|| TraceContext::of(&self.attempt.headers))
    }

    /// The headers for a handler outside of this process: with the span of this run as the parent.
    pub(crate) fn headers_onward(&self) -> Cow<'_, BTreeMap<String, String>> {
        let Some(trace) = &self.attempt.trace else {
            return Cow::Borrowed(&self.attempt.headers);
        };
        let mut headers = self.attempt.headers.clone();
        trace.overwrite(&mut headers);
        Cow::Owned(headers)
    }

    /// Whether the payload came sealed, and the result will go so; in a step of a job, whether anything that it reads did. What
    /// a handler says in errors, progress and logs is not sealed (but the errors of a job's steps): it should not repeat the
    /// payload there.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.attempt
            .sealed
            .as_ref()
            .is_some_and(|sealed| sealed.load(Ordering::Relaxed))
    }

    /// Something that this run reads came sealed: what it makes must go so.
    pub(crate) fn has_opened(&self) {
        if let Some(sealed) = &self.attempt.sealed {
            sealed.store(true, Ordering::Relaxed);
        }
    }

    /// Set when the task is cancelled, its timeout is over, or its lease was lost: whatever the
    /// handler still returns will be refused. Blocking handlers should look at it often.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.attempt.cancelled
    }

    /// Shorthand for `cancellation().is_cancelled()`.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.attempt.cancelled.is_cancelled()
    }

    /// Stores one line (at most 256 bytes) that says how far the task is; people see it in
    /// `workyard task ID`. Also a way to ask whether the task is still ours.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if it is not: stop. Others as [`Error`] sorts them.
    pub async fn progress(&self, text: &str) -> Result<(), Error> {
        let Some(lifeline) = &self.attempt.lifeline else {
            return Ok(());
        };
        let token = self
            .attempt
            .token
            .parse()
            .map_err(|_| Error::Protocol("a token that is no number".to_owned()))?;
        if lifeline
            .queue
            .progress(&lifeline.session, &self.attempt.id, token, text)
            .await?
        {
            Ok(())
        } else {
            self.attempt.cancelled.cancel();
            Err(Error::LeaseLost)
        }
    }

    /// Asks Redis whether the task is still ours. There is no need to call it: the worker renews
    /// the lease of all its tasks by itself.
    ///
    /// # Errors
    /// As [`Self::progress`].
    pub async fn heartbeat(&self) -> Result<(), Error> {
        self.progress("").await
    }

    /// Adds a task to this task's queue. Give it an id made from this task's own
    /// (`format!("{}-mail", ctx.id())`): an attempt that runs again then adds nothing twice.
    ///
    /// It never waits for room, whatever the queue's `overload` says: room comes as tasks end, and handlers that all
    /// wait for it in their slots would never end.
    ///
    /// A worker with keys seals and signs it as a client with these keys does. It belongs to the trace of this task, unless its
    /// headers name one.
    ///
    /// # Errors
    /// [`Error::Full`] if the queue is at its limit: fail with [`Failure::retry_after`](crate::Failure::retry_after), or go on without. Others as [`Error`] sorts them.
    pub async fn enqueue(&self, mut task: NewTask) -> Result<Accepted, Error> {
        let Some(lifeline) = &self.attempt.lifeline else {
            return Ok(Accepted::Created);
        };
        let own = task.id.take();
        let unique = own.is_none();
        let id = own.unwrap_or_else(TaskId::fresh);
        if let Some(trace) = self.trace_context() {
            trace.inject(&mut task.headers);
        }
        if let Some(keys) = &self.attempt.keys {
            keys.protect(lifeline.queue.name(), &id, &mut task)?;
        }
        let answer = lifeline
            .submitter
            .submit(vec![(id, task)], unique, None, ENQUEUE_PATIENCE)
            .await?;
        answer
            .first()
            .copied()
            .ok_or_else(|| Error::Protocol("an empty answer".to_owned()))
    }

    /// A context by hand, for testing a [`crate::Handler`] without a queue.
    #[must_use]
    pub fn for_test(kind: &str, id: &str) -> Self {
        Attempt {
            id: id.to_owned(),
            kind: kind.to_owned(),
            number: 1,
            token: "1".to_owned(),
            deadline: None,
            headers: BTreeMap::new(),
            cancelled: CancellationToken::new(),
            lifeline: None,
            keys: None,
            sealed: None,
            trace: None,
            slot: None,
        }
        .into()
    }

    /// To change what a test's context tells.
    pub(crate) fn edit(&mut self) -> &mut Attempt {
        Arc::make_mut(&mut self.attempt)
    }
}
