//! job_cancel, job_retry, job_delete, job_wait: see `lua/job_operate.lua`.

use crate::broker::{Queue, reply};
use crate::error::Error;
use crate::job::JobState;
use crate::name::{JobId, SessionId};

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCancelled {
    /// It is cancelled now.
    Cancelled,
    /// It had ended before.
    Finished,
    /// No such job.
    Unknown,
}

/// The answer to a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRetried {
    /// What is missing runs again.
    Retrying,
    /// Not all is prepared yet: call again.
    More,
    /// It has not ended.
    Running,
    /// It is completed: nothing is missing.
    Completed,
    /// It was never sealed: there is nothing whole to run.
    Lost,
    /// No such job.
    Unknown,
}

/// The answer to a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobDeleted {
    /// No key of it is left.
    Deleted,
    /// It has not ended: cancel it first.
    Alive,
    /// Not all is removed yet: call again.
    More,
    /// It has spilled files that must go first.
    Spilled,
    /// No such job.
    Unknown,
}

impl Queue {
    /// Ends a job.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_cancel(&self, job: &JobId) -> Result<JobCancelled, Error> {
        let mut cmd = self.job_call("job_cancel", job, &[&self.keys.audit()]);
        cmd.arg(&*self.who);
        match reply::string(self.link.call(&cmd).await?)?.as_str() {
            "cancelled" => Ok(JobCancelled::Cancelled),
            "finished" => Ok(JobCancelled::Finished),
            "unknown" => Ok(JobCancelled::Unknown),
            other => Err(Error::Protocol(format!("job_cancel answer {other:?}"))),
        }
    }

    /// Runs what is missing of a failed or cancelled job.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_retry(&self, job: &JobId) -> Result<JobRetried, Error> {
        let mut cmd = self.job_call("job_retry", job, &[&self.keys.audit()]);
        cmd.arg(&*self.who);
        match reply::string(self.link.call(&cmd).await?)?.as_str() {
            "retrying" => Ok(JobRetried::Retrying),
            "more" => Ok(JobRetried::More),
            "running" => Ok(JobRetried::Running),
            "completed" => Ok(JobRetried::Completed),
            "lost" => Ok(JobRetried::Lost),
            "unknown" => Ok(JobRetried::Unknown),
            other => Err(Error::Protocol(format!("job_retry answer {other:?}"))),
        }
    }

    /// Removes an ended job, record and result. `spill_gone`: its spilled files have been removed.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_delete(&self, job: &JobId, spill_gone: bool) -> Result<JobDeleted, Error> {
        let mut cmd = self.job_call("job_delete", job, &[&self.keys.audit()]);
        cmd.arg(&*self.who).arg(if spill_gone { "1" } else { "" });
        match reply::string(self.link.call(&cmd).await?)?.as_str() {
            "deleted" => Ok(JobDeleted::Deleted),
            "alive" => Ok(JobDeleted::Alive),
            "more" => Ok(JobDeleted::More),
            "spilled" => Ok(JobDeleted::Spilled),
            "unknown" => Ok(JobDeleted::Unknown),
            other => Err(Error::Protocol(format!("job_delete answer {other:?}"))),
        }
    }

    /// Asks to be told when a job ends: `job <id>` LF state on the waiter's channel. The state; `None` if there
    /// is no such job.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_wait(&self, waiter: &SessionId, job: &JobId) -> Result<Option<JobState>, Error> {
        let mut cmd = self.job_call("job_wait", job, &[]);
        cmd.arg(waiter.as_str());
        let state = reply::string(self.link.call(&cmd).await?)?;
        if state == "unknown" {
            return Ok(None);
        }
        JobState::parse(&state)
            .map(Some)
            .ok_or_else(|| Error::Protocol(format!("job state {state:?}")))
    }
}
