//! The processes of one handler: who is idle, who may start, how all end.
//!
//! Invariant: a task runs only with a permit, there are as many permits as `processes`, and a
//! process is started only when no idle one is left. So there are never more processes than that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::super::interrupt::Interrupt;
use super::backoff::Backoff;
use super::keeper::{Job, Keeper, Reply};
use super::process::Process;
use super::protocol::Call;
use crate::config::WorkerConfig;
use crate::{Context, Failure, Outcome};

/// The way to one process.
type Seat = mpsc::Sender<Job>;

/// A pool of worker processes.
#[derive(Debug)]
pub(super) struct Pool {
    handler: Arc<str>,
    config: WorkerConfig,
    timeout: Option<Duration>,
    permits: Arc<Semaphore>,
    /// A stack: the process that was busy last is warm, and the others can stay asleep.
    idle: Mutex<Vec<Seat>>,
    backoff: Arc<Backoff>,
    keepers: TaskTracker,
    closing: CancellationToken,
    /// A pool that is dropped without having been closed still ends its processes.
    _close_on_drop: DropGuard,
}

impl Pool {
    pub(super) fn new(handler: &str, config: WorkerConfig, timeout: Option<Duration>) -> Self {
        let closing = CancellationToken::new();
        Self {
            handler: handler.into(),
            permits: Arc::new(Semaphore::new(config.processes)),
            config,
            timeout,
            idle: Mutex::default(),
            backoff: Arc::default(),
            keepers: TaskTracker::new(),
            _close_on_drop: closing.clone().drop_guard(),
            closing,
        }
    }

    /// Runs one attempt in the next free process.
    pub(super) async fn run(&self, ctx: Context, call: Option<Arc<Call>>, payload: Bytes) -> Outcome {
        // Until a process has the task only the task's own deadline counts.
        let waiting = Interrupt::start(&ctx, None);
        let mut permit = tokio::select! {
            permit = Arc::clone(&self.permits).acquire_owned() => permit.map_err(|_| closed())?,
            failure = waiting.fired() => return Err(failure),
        };
        while let Some(seat) = self.pop_idle() {
            let (job, answer) = self.job(&ctx, call.as_ref(), &payload, permit);
            // A process that died idle refuses the job, at the door or a moment later.
            let reply = match seat.try_send(job) {
                Ok(()) => answer.await.map_err(|_| lost())?,
                Err(mpsc::error::TrySendError::Closed(job) | mpsc::error::TrySendError::Full(job)) => {
                    Reply::NotTaken(job.permit)
                }
            };
            match reply {
                Reply::NotTaken(back) => permit = back,
                done @ Reply::Done { .. } => return self.settle(seat, done),
            }
        }
        tokio::select! {
            () = self.backoff.wait() => {}
            () = self.closing.cancelled() => return Err(closed()),
            failure = waiting.fired() => return Err(failure),
        }
        let (job, answer) = self.job(&ctx, call.as_ref(), &payload, permit);
        let seat = self.start(job)?;
        let reply = answer.await.map_err(|_| lost())?;
        self.settle(seat, reply)
    }

    fn job(
        &self,
        ctx: &Context,
        call: Option<&Arc<Call>>,
        payload: &Bytes,
        permit: OwnedSemaphorePermit,
    ) -> (Job, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            ctx: ctx.clone(),
            payload: payload.clone(),
            call: call.cloned(),
            timeout: self.timeout,
            permit,
            reply,
        };
        (job, answer)
    }

    /// Starts a process that begins with `first`, so that a process which cannot even start up
    /// fails a task, with the reason, instead of being started for ever.
    fn start(&self, first: Job) -> Result<Seat, Failure> {
        let process = Process::start(&self.handler, &self.config).map_err(|reason| {
            self.backoff.failed();
            Failure::retry(reason)
        })?;
        // Room for one: only the holder of the seat sends, and it waits for the reply.
        let (seat, jobs) = mpsc::channel(1);
        let keeper = Keeper {
            handler: Arc::clone(&self.handler),
            jobs,
            closing: self.closing.clone(),
            backoff: Arc::clone(&self.backoff),
        };
        self.keepers.spawn(keeper.run(process, first));
        Ok(seat)
    }

    fn settle(&self, seat: Seat, reply: Reply) -> Outcome {
        let Reply::Done {
            outcome,
            permit,
            reusable,
        } = reply
        else {
            return Err(lost());
        };
        if reusable {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
        }
        // Only now: who gets the permit next must find the seat, else it starts a process more.
        drop(permit);
        outcome
    }

    fn pop_idle(&self) -> Option<Seat> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Ends all processes and waits until they are reaped. Tasks that still run fail.
    pub(super) async fn close(&self) {
        self.permits.close();
        self.closing.cancel();
        self.keepers.close();
        self.keepers.wait().await;
    }
}

fn closed() -> Failure {
    Failure::retry("the daemon shuts down")
}

/// Only a panic of the keeper, or a runtime that goes down, loses a reply.
fn lost() -> Failure {
    Failure::retry("the worker process was lost")
}
