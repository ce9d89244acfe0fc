//! The task that owns one worker process from its start to its end.
//!
//! Invariant: a process is owned by exactly one keeper, and the permit that counts a task against
//! the size of the pool stays with the keeper until the process is idle again or gone. So neither
//! a dropped handler future nor a process that dies slowly makes the pool larger than configured.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::interrupt::Interrupt;
use super::backoff::Backoff;
use super::process::{Fault, Process};
use super::protocol::{self, Call};
use crate::{Context, Failure, Outcome};

/// A task on its way to a process.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ctx: Context,
    pub(super) payload: Bytes,
    pub(super) call: Option<Arc<Call>>,
    pub(super) timeout: Option<Duration>,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Reply {
    /// The process had the task. If it is still good, it takes the next one.
    Done {
        outcome: Outcome,
        permit: OwnedSemaphorePermit,
        reusable: bool,
    },
    /// The process ended before it saw the task; another one can have it.
    NotTaken(OwnedSemaphorePermit),
}

/// Owns a process.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) handler: Arc<str>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) closing: CancellationToken,
    pub(super) backoff: Arc<Backoff>,
}

/// How a task ended, as far as the process is concerned.
enum End {
    /// The process answered.
    Answered(Outcome),
    /// The process is broken; how.
    Broken(String),
    /// The process is fine but busy with something that nobody wants any more.
    Stopped(Failure),
}

impl Keeper {
    /// Serves `first` and then one job after another until the process or the pool ends.
    pub(super) async fn run(mut self, mut process: Process, first: Job) {
        let mut next = Some(first);
        loop {
            if let Some(job) = next.take() {
                match self.serve(process, job).await {
                    Some(kept) => process = kept,
                    None => return,
                }
            }
            tokio::select! {
                // In this order: a process that is gone must not get the job that came meanwhile.
                biased;
                () = self.closing.cancelled() => break,
                fault = process.idle() => return self.bury(process, fault).await,
                // `None`: the pool forgot this process, say since a future was dropped just as
                // the answer arrived.
                job = self.jobs.recv() => match job {
                    // It had exited, and only the end of its output was still to come.
                    Some(job) if process.has_exited() => {
                        give_back(job);
                        return self.bury(process, Fault::Ended).await;
                    }
                    Some(job) => next = Some(job),
                    None => break,
                },
            }
        }
        self.refuse_jobs().await;
        process.close().await;
    }

    /// Has the process do one task; gives it back if it can do another.
    async fn serve(&mut self, mut process: Process, mut job: Job) -> Option<Process> {
        let end = self.attempt(&mut process, &mut job).await;
        let Job { permit, reply, .. } = job;
        let outcome = match end {
            End::Answered(outcome) => {
                self.backoff.succeeded();
                if process.leaving() {
                    process.close().await;
                    // Fails if the future was dropped; then nobody waits for this outcome.
                    let _unread = reply.send(Reply::Done {
                        outcome,
                        permit,
                        reusable: false,
                    });
                    return None;
                }
                let done = Reply::Done {
                    outcome,
                    permit,
                    reusable: true,
                };
                match reply.send(done) {
                    Ok(()) => return Some(process),
                    // Nobody holds the way back to this process any more. The permit in the
                    // returned reply lives until the process is gone.
                    Err(_unread) => {
                        process.close().await;
                        return None;
                    }
                }
            }
            End::Broken(reason) => {
                self.backoff.failed();
                Err(Failure::retry(format!("the worker {reason}")))
            }
            End::Stopped(failure) => Err(failure),
        };
        process.end().await;
        // Fails if the future was dropped; then nobody waits for this outcome.
        let _unread = reply.send(Reply::Done {
            outcome,
            permit,
            reusable: false,
        });
        None
    }

    async fn attempt(&self, process: &mut Process, job: &mut Job) -> End {
        let interrupt = Interrupt::start(&job.ctx, job.timeout);
        let line = match protocol::task_line(&job.ctx, interrupt.remaining_ms(), job.call.as_deref(), &job.payload) {
            Ok(line) => line,
            Err(failure) => return End::Answered(Err(failure)),
        };
        tokio::select! {
            answer = process.perform(&job.ctx, job.call.as_deref(), line) => match answer {
                Ok(outcome) => End::Answered(outcome),
                Err(reason) => End::Broken(reason),
            },
            failure = interrupt.fired() => End::Stopped(failure),
            () = job.reply.closed() => End::Stopped(Failure::retry("cancelled")),
            () = self.closing.cancelled() => End::Stopped(Failure::retry("the daemon shuts down")),
        }
    }

    /// Gives back jobs that arrived as the process ended. None of them reached it.
    async fn refuse_jobs(&mut self) {
        self.jobs.close();
        while let Some(job) = self.jobs.recv().await {
            give_back(job);
        }
    }

    /// Notes that an idle process broke, and ends what is left of it.
    async fn bury(mut self, mut process: Process, fault: Fault) {
        self.refuse_jobs().await;
        let handler = &*self.handler;
        let reason = process.explain(fault).await;
        if process.left_in_peace() {
            tracing::debug!(handler, "an idle worker {reason}");
        } else {
            self.backoff.failed();
            tracing::warn!(handler, "an idle worker {reason}");
        }
        process.end().await;
    }
}

fn give_back(job: Job) {
    // Fails if the future was dropped; then the permit is free again.
    let _unread = job.reply.send(Reply::NotTaken(job.permit));
}
