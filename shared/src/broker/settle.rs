//! complete, fail, release: see the Lua files of these names; and a turn, all of them in one
//! round trip with the next claim.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};

use super::claim::{ClaimRequest, Claimed};
use super::job::{JobSettled, JobTurn};
use super::{Queue, reply};
use crate::error::Error;
use crate::limits::MAX_ERROR_BYTES;
use crate::name::SessionId;

/// A task that a handler finished.
#[derive(Debug, Clone)]
pub struct Completion {
    /// Its id.
    pub id: String,
    /// The token of its claim.
    pub token: u64,
    /// Its kind, for the counters.
    pub kind: String,
    /// When it was accepted, from its record.
    pub created_ms: u64,
    /// How long the handler ran.
    pub run: Duration,
    /// How long to keep the result; zero keeps none.
    pub retention: Duration,
    /// The result, JSON.
    pub result: Bytes,
}

/// Why a task failed, for the function's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt may help.
    Retry,
    /// The handler gave up for good.
    Final,
    /// Its payload is not JSON.
    Malformed,
    /// It ran longer than its timeout; another attempt may help.
    Timeout,
    /// The consumer does not take it: sealed or signed in a way that it cannot accept, or not at all.
    Refused,
}

/// A task that failed.
#[derive(Debug, Clone)]
pub struct FailureReport {
    /// Its id.
    pub id: String,
    /// The token of its claim.
    pub token: u64,
    /// What happened.
    pub verdict: Verdict,
    /// The handler's own delay instead of the backoff.
    pub delay: Option<Duration>,
    /// 0 to 1: the chance in the jitter.
    pub random: f64,
    /// How long the attempt ran.
    pub run: Duration,
    /// For people; cut at [`MAX_ERROR_BYTES`].
    pub error: String,
}

impl FailureReport {
    /// Whether no further attempt is asked for.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.verdict, Verdict::Final | Verdict::Malformed | Verdict::Refused)
    }
}

/// A task handed back unfinished.
#[derive(Debug, Clone)]
pub struct Handback {
    /// Its id.
    pub id: String,
    /// The token of its claim.
    pub token: u64,
    /// Its kind, if this consumer knows no handler for that.
    pub unhandled: Option<String>,
    /// Not claimed again for this long.
    pub delay: Duration,
}

/// What became of a settled task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Its result is kept.
    Completed,
    /// It will be retried.
    Retrying,
    /// It is in the dead-letter set.
    Failed,
    /// It is pending again.
    Released,
    /// It was not this consumer's any more; nothing was changed.
    Stale,
}

fn read_letters(value: Value) -> Result<Vec<Settled>, Error> {
    reply::string(value)?
        .chars()
        .map(|letter| match letter {
            'k' => Ok(Settled::Completed),
            'r' => Ok(Settled::Retrying),
            'f' => Ok(Settled::Failed),
            'p' => Ok(Settled::Released),
            's' => Ok(Settled::Stale),
            other => Err(Error::Protocol(format!("settle letter {other:?}"))),
        })
        .collect()
}

pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_ERROR_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Queue {
    fn settle_cmd(&self, edge: &str, consumer: &SessionId, number: u64) -> Cmd {
        let (running, session) = (self.keys.running(consumer), self.keys.session(consumer));
        let mut cmd = self.fcall(edge, &[&running, &session]);
        cmd.arg(consumer.as_str()).arg(number);
        cmd
    }

    fn complete_cmd(&self, consumer: &SessionId, number: u64, tasks: &[Completion]) -> Cmd {
        let mut cmd = self.settle_cmd("complete", consumer, number);
        for task in tasks {
            // Without a result to keep, the other times are not looked at: equal texts cost least.
            let times = match millis(task.retention) {
                0 => Cow::Borrowed("0 0 -"),
                retention => Cow::Owned(format!("{retention} {} {}", task.created_ms, millis(task.run))),
            };
            cmd.arg(&task.id)
                .arg(task.token)
                .arg(&task.kind)
                .arg(&*times)
                .arg(&task.result[..]);
        }
        cmd
    }

    fn fail_cmd(&self, consumer: &SessionId, number: u64, tasks: &[FailureReport]) -> Cmd {
        let mut cmd = self.settle_cmd("fail", consumer, number);
        for task in tasks {
            let verdict = match task.verdict {
                Verdict::Retry => "retry",
                Verdict::Final => "final",
                Verdict::Malformed => "malformed",
                Verdict::Timeout => "timeout",
                Verdict::Refused => "refused",
            };
            cmd.arg(&task.id).arg(task.token).arg(verdict);
            cmd.arg(task.delay.map(|d| millis(d).to_string()).unwrap_or_default());
            cmd.arg(format!("{:.6}", task.random.clamp(0.0, 1.0)))
                .arg(millis(task.run))
                .arg(cut(&task.error));
        }
        cmd
    }

    fn release_cmd(&self, consumer: &SessionId, number: u64, tasks: &[Handback]) -> Cmd {
        let mut cmd = self.settle_cmd("release", consumer, number);
        for task in tasks {
            cmd.arg(&task.id).arg(task.token);
            cmd.arg(if task.unhandled.is_some() { "unhandled" } else { "drain" })
                .arg(millis(task.delay));
        }
        cmd
    }
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// One round trip of a consumer: what it settles, and what it claims next. Sending the same turn
/// again is harmless while its number stays: each edge answers a repeated number as before.
#[derive(Debug, Default)]
pub struct Turn {
    /// Number of this turn's batches; grows by one with each turn.
    pub number: u64,
    /// Finished tasks, at most 1,000.
    pub completions: Vec<Completion>,
    /// Failed tasks, at most 50.
    pub failures: Vec<FailureReport>,
    /// Tasks handed back, at most 1,000.
    pub handbacks: Vec<Handback>,
    /// Tasks of one job that have ended.
    pub job: Option<JobTurn>,
}

/// The answers to a turn, in its order.
#[derive(Debug, Default)]
pub struct TurnAnswer {
    /// For each completion.
    pub completions: Vec<Settled>,
    /// For each failure.
    pub failures: Vec<Settled>,
    /// For each handback.
    pub handbacks: Vec<Settled>,
    /// For each task of the job.
    pub job: Vec<JobSettled>,
    /// Why the tasks of the job could not be settled, and never can: they stay with this consumer until the job is deleted.
    pub job_refused: Option<Error>,
    /// What was claimed, if anything was asked for.
    pub claimed: Option<Claimed>,
}

impl TurnAnswer {
    /// How many of the settled tasks were not the consumer's any more.
    #[must_use]
    pub fn stale(&self) -> usize {
        let all = self.completions.iter().chain(&self.failures).chain(&self.handbacks);
        let jobs = self.job.iter().filter(|settled| **settled == JobSettled::Stale);
        all.filter(|settled| **settled == Settled::Stale).count() + jobs.count()
    }
}

impl Turn {
    /// Whether there is nothing to settle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.completions.is_empty() && self.failures.is_empty() && self.handbacks.is_empty() && self.job.is_none()
    }

    /// How many outcomes it settles.
    #[must_use]
    pub fn len(&self) -> usize {
        let members = self.job.as_ref().map_or(0, |job| job.outcomes.len());
        self.completions.len() + self.failures.len() + self.handbacks.len() + members
    }

    /// Sends the turn, with a claim if one is wanted.
    ///
    /// # Errors
    /// As [`Error`] sorts them; if temporary, send the same turn again.
    pub async fn send(
        &self,
        queue: &Queue,
        consumer: &SessionId,
        claim: Option<ClaimRequest<'_>>,
    ) -> Result<TurnAnswer, Error> {
        let mut pipeline = Pipeline::with_capacity(5);
        if !self.completions.is_empty() {
            pipeline.add_command(queue.complete_cmd(consumer, self.number, &self.completions));
        }
        if !self.failures.is_empty() {
            pipeline.add_command(queue.fail_cmd(consumer, self.number, &self.failures));
        }
        if !self.handbacks.is_empty() {
            pipeline.add_command(queue.release_cmd(consumer, self.number, &self.handbacks));
        }
        if let Some(turn) = &self.job {
            pipeline.add_command(queue.job_settle_cmd(consumer, self.number, turn));
        }
        if let Some(request) = claim {
            pipeline.add_command(queue.claim_cmd(request));
        }
        let mut answers = queue.link.pipeline(&pipeline).await?.into_iter();
        let mut next = || {
            answers
                .next()
                .unwrap_or_else(|| Err(Error::Protocol("an answer is missing".to_owned())))
        };
        let mut answer = TurnAnswer::default();
        if !self.completions.is_empty() {
            answer.completions = read_letters(next()?)?;
        }
        if !self.failures.is_empty() {
            answer.failures = read_letters(next()?)?;
        }
        if !self.handbacks.is_empty() {
            answer.handbacks = read_letters(next()?)?;
        }
        if self.job.is_some() {
            answer.job = match next() {
                // A job whose keys somebody damaged must not hold up what has nothing to do with it.
                Err(why) if !why.is_temporary() => {
                    answer.job_refused = Some(why);
                    Vec::new()
                }
                other => Queue::read_job_settle(other?)?,
            };
        }
        if claim.is_some() {
            answer.claimed = Some(Queue::read_claim(next()?)?);
        }
        Ok(answer)
    }
}
