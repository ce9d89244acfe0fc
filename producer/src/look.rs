//! A look of the board at one queue: who subscribes, renews and asks, in this order.
//!
//! Invariant: it subscribes first and asks then, so that no end falls between the two. It repeats nothing and applies
//! nothing: that is `room.rs`.

use std::time::Duration;

use bytes::Bytes;
use workyard_shared::broker::{Queue, Waited};
use workyard_shared::job::JobState;
use workyard_shared::name::{JobId, SessionId};
use workyard_shared::record::{Ended, State};
use workyard_shared::{Error as CallError, Outage};

/// What the name of a job begins with among the ids that are waited for. No id of a task has a space.
pub(crate) const JOB: &str = "job ";
/// For how long Redis publishes ends after each renewal; a few times the pause between looks.
const FOLLOW_SPAN: Duration = Duration::from_secs(20);

/// What the state of a job means to those who wait for its end. `None`: there is no such job.
pub(crate) fn job_waited(state: Option<JobState>, job: &str) -> Waited {
    let Some(state) = state else {
        return Waited::Unknown;
    };
    match State::parse(state.as_str()).filter(|_| state.is_terminal()) {
        None => Waited::Waiting,
        // What else there is to know stands in the record of the job.
        Some(state) => Waited::Ended(Ended {
            state,
            kind: job.to_owned(),
            created_ms: 0,
            started_ms: 0,
            finished_ms: 0,
            failures: 0,
            crashes: 0,
            releases: 0,
            consumer: String::new(),
            reason: String::new(),
            last_error: String::new(),
            body: Bytes::new(),
        }),
    }
}

/// One look at a queue.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) queue: Queue,
    pub(crate) session: SessionId,
    pub(crate) subscribe: bool,
    pub(crate) follow: bool,
    pub(crate) subscribe_ends: bool,
    pub(crate) ids: Vec<String>,
}

impl Look {
    /// To wait is to write one's name down, which a Redis that refuses writes refuses: what is there to be read still is.
    pub(crate) async fn read_only(&self, refusal: &CallError) -> Vec<(String, Waited)> {
        let refuses_writes = matches!(
            refusal,
            CallError::Unavailable {
                outage: Outage::StorageFailing | Outage::OutOfMemory | Outage::ReadOnly,
                ..
            }
        );
        let tasks: Vec<&str> = self
            .ids
            .iter()
            .map(String::as_str)
            .filter(|id| !id.starts_with(JOB))
            .collect();
        if !refuses_writes || tasks.is_empty() {
            return Vec::new();
        }
        // What cannot be read either is told by the next look.
        let seen = self.queue.inspect(&tasks).await.unwrap_or_default();
        tasks
            .iter()
            .map(|id| (*id).to_owned())
            .zip(seen.into_iter().map(Waited::from))
            .collect()
    }

    /// Subscribes and renews the following where that is due, and asks for the ids.
    pub(crate) async fn run(&self) -> Result<Vec<(String, Waited)>, CallError> {
        let (link, keys) = (self.queue.link(), self.queue.keys());
        if self.subscribe {
            link.subscribe(&keys.done_channel(&self.session)).await?;
        }
        if self.follow {
            if self.subscribe_ends {
                link.subscribe(&keys.finished_channel()).await?;
            }
            self.queue.follow(FOLLOW_SPAN).await?;
        }
        if self.ids.is_empty() {
            return Ok(Vec::new());
        }
        let (jobs, tasks): (Vec<&str>, Vec<&str>) =
            self.ids.iter().map(String::as_str).partition(|id| id.starts_with(JOB));
        let mut found = Vec::with_capacity(self.ids.len());
        for name in jobs {
            let id = JobId::new(&name[JOB.len()..])?;
            let state = self.queue.job_wait(&self.session, &id).await?;
            found.push((name.to_owned(), job_waited(state, id.as_str())));
        }
        if !tasks.is_empty() {
            let answers = self.queue.wait(&self.session, &tasks).await?;
            found.extend(tasks.into_iter().map(str::to_owned).zip(answers));
        }
        Ok(found)
    }
}
