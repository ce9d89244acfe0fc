//! job_settle: see `lua/job_settle.lua`.

use std::time::Duration;

use redis::{Cmd, Value};

use crate::broker::settle::{cut, millis};
use crate::broker::{Queue, reply};
use crate::error::Error;
use crate::job::Part;
use crate::name::{JobId, SessionId};

/// How a task of a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobVerdict {
    /// Its parts are its output.
    Done,
    /// Another attempt may help.
    Retry,
    /// The function gave up for good.
    Final,
    /// It ran longer than its timeout.
    Timeout,
    /// This consumer cannot run it; another may.
    Elsewhere,
    /// It was stopped here: only clear it away.
    Drop,
}

impl JobVerdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Final => "final",
            Self::Timeout => "timeout",
            Self::Elsewhere => "elsewhere",
            Self::Drop => "drop",
        }
    }
}

/// A task of a job that has ended here.
#[derive(Debug, Clone)]
pub struct JobOutcome {
    /// Its id: `<job>:<member>`.
    pub id: String,
    /// The token of its claim.
    pub token: u64,
    /// How it ended.
    pub verdict: JobVerdict,
    /// Instead of the backoff.
    pub delay: Option<Duration>,
    /// 0 to 1: the chance in the jitter.
    pub random: f64,
    /// How long it ran.
    pub run: Duration,
    /// For people.
    pub error: String,
    /// By partition (keyed maps), or one under 0.
    pub parts: Vec<(u32, Part)>,
}

impl JobOutcome {
    /// About how many bytes it adds to a call.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Inline(lines) => lines.len(),
            Part::Spilled { path, .. } => path.len(),
        };
        self.parts.iter().map(|(_, p)| part(p) + 32).sum::<usize>() + self.error.len() + 200
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSettled {
    /// Its output is the job's.
    Kept,
    /// It will be retried.
    Retrying,
    /// It failed for good.
    Failed,
    /// Its output does not fit into the budget: it will run again and spill.
    HandedBack,
    /// It was cleared away.
    Dropped,
    /// It was not this consumer's any more, or its copy was faster.
    Stale,
}

/// Outcomes of one job, to be settled in one call.
#[derive(Debug, Clone)]
pub struct JobTurn {
    /// Whose tasks they are.
    pub job: JobId,
    /// The outcomes, at most 500.
    pub outcomes: Vec<JobOutcome>,
}

impl Queue {
    pub(in crate::broker) fn job_settle_cmd(&self, consumer: &SessionId, number: u64, turn: &JobTurn) -> Cmd {
        let (running, session) = (self.keys.running(consumer), self.keys.session(consumer));
        let mut cmd = self.job_call("job_settle", &turn.job, &[&running, &session]);
        cmd.arg(consumer.as_str()).arg(number).arg(turn.outcomes.len());
        for outcome in &turn.outcomes {
            cmd.arg(&outcome.id).arg(outcome.token).arg(outcome.verdict.as_str());
            match outcome.delay {
                Some(delay) => cmd.arg(millis(delay)),
                None => cmd.arg(""),
            };
            cmd.arg(format!("{:.6}", outcome.random.clamp(0.0, 1.0)))
                .arg(millis(outcome.run))
                .arg(cut(&outcome.error))
                .arg(outcome.parts.len());
            for (name, part) in &outcome.parts {
                cmd.arg(*name).arg(part.encode());
            }
        }
        cmd
    }

    pub(in crate::broker) fn read_job_settle(value: Value) -> Result<Vec<JobSettled>, Error> {
        reply::string(value)?
            .chars()
            .map(|letter| match letter {
                'k' => Ok(JobSettled::Kept),
                'r' => Ok(JobSettled::Retrying),
                'f' => Ok(JobSettled::Failed),
                'p' => Ok(JobSettled::HandedBack),
                'd' => Ok(JobSettled::Dropped),
                's' => Ok(JobSettled::Stale),
                other => Err(Error::Protocol(format!("job_settle letter {other:?}"))),
            })
            .collect()
    }
}
