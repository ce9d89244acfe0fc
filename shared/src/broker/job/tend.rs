//! job_tend, job_backup, job_reducing, and what the maintainer reads for them: see `lua/job_tend.lua`.

use std::time::Duration;

use redis::Value;

use crate::broker::{Queue, reply};
use crate::error::Error;
use crate::job::JobState;
use crate::name::{JobId, SessionId};

/// Jobs looked at in one round.
const MOST_DUE: usize = 100;
/// What is due within this is due soon.
const SOON_MS: u64 = 5000;

/// The answer to a look after a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tended {
    /// `None`: the job is gone.
    pub state: Option<JobState>,
    /// There is more to do now: call again.
    pub more: bool,
    /// When it is due again; `None`: never.
    pub due_in: Option<Duration>,
    /// Spilled files that should be removed; then call again and say so.
    pub spill: Option<Spilled>,
}

/// Which of a job's spilled files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spilled {
    /// The intermediate ones, below `data/` of the job's folder.
    Data,
    /// All, its folder.
    All,
}

impl Queue {
    /// Jobs that are due to be looked after, at most 100, and whether others will be within the next seconds: all
    /// but ended ones that only wait for their retention. A queue without jobs costs one command.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn jobs_due(&self) -> Result<(Vec<JobId>, bool), Error> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.named("jobs:due"))
            .arg(0)
            .arg(MOST_DUE - 1)
            .arg("WITHSCORES");
        let first = reply::scored(self.link.call(&cmd).await?)?;
        if first.is_empty() {
            return Ok((Vec::new(), false));
        }
        let now_ms = self.now_us().await? / 1000;
        let soon = first.len() == MOST_DUE || first.iter().any(|(_, at)| *at > now_ms && *at <= now_ms + SOON_MS);
        let due = first.iter().filter(|(_, at)| *at <= now_ms);
        Ok((due.filter_map(|(id, _)| JobId::new(id).ok()).collect(), soon))
    }

    /// Does what is due for a job, in a bounded step. `gone`: spilled files that have been
    /// removed. `members`: live ones to be looked at, at most 500.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_tend(&self, job: &JobId, gone: Option<Spilled>, members: &[String]) -> Result<Tended, Error> {
        let mut cmd = self.job_call("job_tend", job, &[]);
        cmd.arg(match gone {
            None => "",
            Some(Spilled::Data) => "data",
            Some(Spilled::All) => "all",
        });
        cmd.arg(members);
        let wrong = |_| Error::Protocol("job_tend answers four values".to_owned());
        let [state, more, due, spilled] =
            <[Value; 4]>::try_from(reply::array(self.link.call(&cmd).await?)?).map_err(wrong)?;
        Ok(Tended {
            state: JobState::parse(&reply::string(state)?),
            more: reply::int(&more)? == 1,
            due_in: u64::try_from(reply::int(&due)?).ok().map(Duration::from_millis),
            spill: match reply::string(spilled)?.as_str() {
                "data" => Some(Spilled::Data),
                "all" => Some(Spilled::All),
                _ => None,
            },
        })
    }

    /// Live members from `cursor` on, and the next cursor (0: that was all).
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_live(&self, job: &JobId, cursor: u64) -> Result<(u64, Vec<String>), Error> {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(self.keys.job_key(job, ":live"))
            .arg(cursor)
            .arg("COUNT")
            .arg(200);
        let wrong = |_| Error::Protocol("HSCAN answers two values".to_owned());
        let [next, flat] = <[Value; 2]>::try_from(reply::array(self.link.call(&cmd).await?)?).map_err(wrong)?;
        let members = reply::strings(flat)?.into_iter().step_by(2).collect();
        let next = reply::string(next)?
            .parse()
            .map_err(|_| Error::Protocol("a cursor that is no number".to_owned()))?;
        Ok((next, members))
    }

    /// Run times of the present phase, the last 101.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_runs(&self, job: &JobId) -> Result<Vec<Duration>, Error> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.keys.job_key(job, ":runs")).arg(0).arg(100);
        let runs = reply::array(self.link.call(&cmd).await?)?;
        runs.iter()
            .map(|ms| reply::count(ms).map(Duration::from_millis))
            .collect()
    }

    /// Which of these tasks a consumer holds: the tokens of their claims (about the time of the claim in us).
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn held_tokens(&self, consumer: &SessionId, ids: &[String]) -> Result<Vec<Option<u64>>, Error> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.running(consumer)).arg(ids);
        reply::array(self.link.call(&cmd).await?)?
            .into_iter()
            .map(|value| match value {
                Value::Nil => Ok(None),
                other => Ok(reply::string(other)?
                    .split(' ')
                    .next()
                    .and_then(|token| token.parse().ok())),
            })
            .collect()
    }

    /// Adds backup copies of these members. How many were added.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_backup(&self, job: &JobId, members: &[String]) -> Result<u64, Error> {
        let mut cmd = self.job_call("job_backup", job, &[]);
        cmd.arg(members);
        reply::count(&self.link.call(&cmd).await?)
    }

    /// Says that a reducer has read its input.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_reducing(&self, job: &JobId) -> Result<(), Error> {
        self.link
            .call(&self.job_call("job_reducing", job, &[]))
            .await
            .map(|_| ())
    }
}
