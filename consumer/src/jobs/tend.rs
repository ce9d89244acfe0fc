//! The maintainer's chores for jobs: nothing waits for a task that cannot come, nothing stays that is over.
//!
//! Invariant: every step is one bounded function that any consumer may call; if we die between two, the next
//! maintainer finds the job still due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};
use workyard_shared::Error;
use workyard_shared::broker::{Queue, Spilled, Tended};
use workyard_shared::job::{JobRecord, JobState};
use workyard_shared::name::JobId;

use super::spill::Spill;
use super::straggler;

/// Pages of live tasks (200 each) looked at per job and round.
const PAGES: usize = 10;
/// Pause between rounds while there are active jobs.
const ROUND: Duration = Duration::from_secs(1);

/// The chores of one queue.
pub(crate) struct JobChores {
    queue: Queue,
    spill: Arc<Spill>,
    cursors: HashMap<JobId, u64>,
    complained: HashSet<JobId>,
}

impl JobChores {
    /// The chores of `queue`.
    pub(crate) fn new(queue: Queue, spill: Arc<Spill>) -> Self {
        Self {
            queue,
            spill,
            cursors: HashMap::new(),
            complained: HashSet::new(),
        }
    }

    /// One round over what is due. When the next should be; `None`: no job is active.
    ///
    /// # Errors
    /// Those of Redis.
    pub(crate) async fn round(&mut self) -> Result<Option<Duration>, Error> {
        let (due_jobs, soon) = self.queue.jobs_due().await?;
        let mut next = soon.then_some(ROUND);
        for job in due_jobs {
            let due = match self.tend(&job).await {
                // Its keys are damaged: that is its own trouble, not that of the jobs behind it.
                Err(why) if !why.is_temporary() => {
                    self.complain(&job, &why);
                    Some(ROUND)
                }
                other => other?,
            };
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next.map(|span| span.clamp(ROUND / 10, ROUND)))
    }

    fn complain(&mut self, job: &JobId, why: &Error) {
        if self.complained.len() < 1000 && self.complained.insert(job.clone()) {
            warn!(queue = %self.queue.name(), %job, %why, "job {job} cannot be looked after, its keys are damaged: delete it ({why})");
        }
    }

    async fn tend(&mut self, job: &JobId) -> Result<Option<Duration>, Error> {
        let (mut gone, mut pages, mut members) = (None, 0, Vec::new());
        loop {
            let cursor = self.cursors.get(job).copied().unwrap_or(0);
            let (next, page) = self.queue.job_live(job, cursor).await?;
            self.cursors.insert(job.clone(), next);
            let tended = self.queue.job_tend(job, gone, &page).await?;
            members.extend(page);
            pages += 1;
            let Some(state) = tended.state else {
                self.cursors.remove(job);
                return Ok(None);
            };
            // Its retention may be over while the intermediate files go: then all have to, and not a minute later.
            if let Some(which) = tended
                .spill
                .filter(|which| gone != Some(*which) && gone != Some(Spilled::All))
            {
                if self.remove_spilled(job, which).await? {
                    gone = Some(which);
                    continue;
                }
                return Ok(None);
            }
            if !tended.more && (next == 0 || pages >= PAGES) {
                return self.done(job, state, &members, &tended).await;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn done(
        &mut self,
        job: &JobId,
        state: JobState,
        members: &[String],
        tended: &Tended,
    ) -> Result<Option<Duration>, Error> {
        if state.is_terminal() {
            self.cursors.remove(job);
            return Ok(None);
        }
        let copies = straggler::back_up(&self.queue, job, members).await?;
        if copies > 0 {
            info!(queue = %self.queue.name(), %job, copies, "job {job}: {copies} slow tasks got a backup copy");
        }
        Ok(tended.due_in)
    }

    /// Removes spilled files; false if this consumer cannot. Another may, or the next round.
    async fn remove_spilled(&self, job: &JobId, which: Spilled) -> Result<bool, Error> {
        let Some(record) = self.queue.job_record(job).await? else {
            return Ok(false);
        };
        match self.try_remove(job, &record, which).await {
            Ok(()) => Ok(true),
            // None of its files counts: a place that was never used, and that nobody may use, keeps no job for ever.
            Err(_) if !record.has_spilled_files() => Ok(true),
            Err(why) => {
                warn!(queue = %self.queue.name(), %job, %why, "spilled files of job {job} are still there: {why}");
                Ok(false)
            }
        }
    }

    async fn try_remove(&self, job: &JobId, record: &JobRecord, which: Spilled) -> Result<(), String> {
        let spill = record.spec.spill.as_deref().ok_or("the job names no spill place")?;
        let folder = self.queue.keys().spill_folder(job);
        let prefix = match which {
            Spilled::Data => format!("{folder}/data"),
            Spilled::All => folder,
        };
        let store = self.spill.open(spill).map_err(|e| e.to_string())?;
        if record.has_spilled_files() && !store.is_there().await.map_err(|e| e.to_string())? {
            return Err(format!("there is no {spill} here: another consumer may see it"));
        }
        store.remove_all(&prefix).await.map_err(|e| e.to_string())?;
        debug!(%job, %prefix, "removed spilled files");
        Ok(())
    }
}
