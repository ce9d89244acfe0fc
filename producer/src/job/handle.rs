//! A job that was submitted: watched, waited for, operated, its result read.
//!
//! Invariant: a handle holds no state of the job but how it came to it; each answer is Redis' of now. Dropping it changes nothing.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use workyard_shared::broker::{JobCancelled, JobDeleted, JobGlance, JobRetried, Queue};
use workyard_shared::crypto::is_sealed;
use workyard_shared::crypto::job::{JobBinding, open_chunk, open_error};
use workyard_shared::job::{Form, JobRecord, JobState};
use workyard_shared::name::{JobId, QueueName};
use workyard_shared::store::{StoreError, Stores};

use super::merge::{Merge, Pairs, typed};
use super::output::{Lines, Opening};
use crate::board::Ask;
use crate::client::Client;
use crate::error::Error;
use crate::look::JOB;
use crate::raw_json::RawJson;

/// What a job lacks that did not complete.
const NO_RESULT: &str = "it has no result";

/// A job in a queue; see [`Client::job`].
#[derive(Debug, Clone)]
pub struct JobHandle {
    client: Client,
    queue: Queue,
    id: JobId,
    joined: bool,
}

impl Client {
    /// The job of this id; whether there is one, its methods tell.
    #[must_use]
    pub fn job(&self, queue: &QueueName, id: &JobId) -> JobHandle {
        JobHandle {
            client: self.clone(),
            queue: self.queue(queue),
            id: id.clone(),
            joined: false,
        }
    }

    /// Jobs of a queue, newest first: `most` behind the first `skip`.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn jobs(&self, queue: &QueueName, skip: usize, most: usize) -> Result<Vec<JobGlance>, Error> {
        let keys = self.queue(queue);
        let mut jobs = self.patiently(|| keys.jobs(skip, most)).await?;
        for job in &mut jobs {
            self.open_record(queue, &job.id, &mut job.record);
        }
        Ok(jobs)
    }
}

impl JobHandle {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.id
    }

    pub(super) fn joining(self, joined: bool) -> Self {
        Self { joined, ..self }
    }

    /// Whether [`MapReduce::submit`](crate::MapReduce::submit) found it there, of an earlier call that was the same.
    #[must_use]
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        self.queue.name()
    }

    /// Where it is, and every counter.
    ///
    /// # Errors
    /// [`Error::NoJob`], [`Error::Call`].
    pub async fn status(&self) -> Result<JobRecord, Error> {
        let record = self.client.patiently(|| self.queue.job_record(&self.id)).await?;
        let mut record = record.ok_or_else(|| self.unknown())?;
        self.client.open_record(self.queue.name(), &self.id, &mut record);
        Ok(record)
    }

    /// Its last errors by task: `m:<chunk>` of maps, `r:...` of reduces.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn errors(&self) -> Result<Vec<(String, String)>, Error> {
        let errors = self.client.patiently(|| self.queue.job_errors(&self.id)).await?;
        let mut errors: Vec<_> = errors.into_iter().collect();
        if errors.iter().any(|(_, error)| is_sealed(error.as_bytes())) {
            let job = self.binding().await?;
            for (_, error) in &mut errors {
                *error = open_error(self.client.inner.config.keys.as_deref(), &job, error);
            }
        }
        errors.sort();
        Ok(errors)
    }

    /// Numbers of chunks that failed for good, the lowest `most`.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn failed_chunks(&self, most: usize) -> Result<Vec<u64>, Error> {
        self.client.patiently(|| self.queue.job_failed(&self.id, most)).await
    }

    /// What chunks are made of, as JSON (docs/jobs.md, "Inputs"), by their numbers: of those that are not done. What the keys of
    /// this client do not open stays sealed.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn chunks(&self, numbers: &[u64]) -> Result<Vec<(u64, RawJson)>, Error> {
        let found = self
            .client
            .patiently(|| self.queue.job_chunks(&self.id, numbers))
            .await?;
        let mut named: Vec<_> = numbers
            .iter()
            .zip(found)
            .filter_map(|(number, chunk)| Some((*number, chunk?)))
            .collect();
        if let keys @ Some(_) = self.client.inner.config.keys.as_deref()
            && named.iter().any(|(_, chunk)| is_sealed(chunk))
        {
            let job = self.binding().await?;
            for (number, chunk) in named.iter_mut().filter(|(_, chunk)| is_sealed(chunk)) {
                if let Ok(plain) = open_chunk(keys, &job, *number, chunk) {
                    *chunk = plain;
                }
            }
        }
        Ok(named
            .into_iter()
            .map(|(number, chunk)| (number, RawJson::new(chunk)))
            .collect())
    }

    /// Waits until it has ended, well or not, which the record's `state` tells (see [`Self::wait_completed`]): woken by Redis, not polled. Outages only make it later, unless [`ClientConfig::wait_patience`](crate::ClientConfig::wait_patience) bounds them.
    ///
    /// # Errors
    /// [`Error::JobTimeout`] after `timeout`: the job goes on. [`Error::NoJob`], [`Error::Call`].
    pub async fn wait(&self, timeout: Duration) -> Result<JobRecord, Error> {
        let begun = Instant::now();
        loop {
            let (end, ended) = oneshot::channel();
            self.client.inner.board.ask(Ask::Wait {
                queue: self.queue.clone(),
                id: format!("{JOB}{}", self.id),
                look: true,
                ready: None,
                end,
            })?;
            let ended = self.client.inner.outages.outlast(ended);
            match tokio::time::timeout(timeout.saturating_sub(begun.elapsed()), ended).await {
                Ok(Ok(Ok(Err(Error::NotFound { .. })))) => return Err(self.unknown()),
                Ok(Ok(Ok(answer))) => answer.map(|_| ())?,
                Ok(Err(outage)) => return Err(outage),
                Ok(Ok(Err(_))) => return Err(workyard_shared::Error::Unknown("the client has ended".to_owned()).into()),
                Err(_) => {
                    return Err(Error::JobTimeout {
                        id: self.id.to_string(),
                        after: timeout,
                    });
                }
            }
            let record = self.status().await?;
            // Not so if somebody retried it just now.
            if record.state.is_terminal() {
                return Ok(record);
            }
        }
    }

    /// Waits as [`Self::wait`]; an end that is no result is an error.
    ///
    /// # Errors
    /// [`Error::JobState`] with the reason if it failed or was cancelled. Others as [`Self::wait`].
    pub async fn wait_completed(&self, timeout: Duration) -> Result<JobRecord, Error> {
        let record = self.wait(timeout).await?;
        match record.state {
            JobState::Completed => Ok(record),
            _ => Err(self.refused(&record, NO_RESULT)),
        }
    }

    /// Ends it. False: it had ended before.
    ///
    /// # Errors
    /// [`Error::NoJob`], [`Error::Call`].
    pub async fn cancel(&self) -> Result<bool, Error> {
        match self.client.patiently(|| self.queue.job_cancel(&self.id)).await? {
            JobCancelled::Cancelled => Ok(true),
            JobCancelled::Finished => Ok(false),
            JobCancelled::Unknown => Err(self.unknown()),
        }
    }

    /// Runs what is missing of a failed or cancelled job. Spilled data that is gone cannot be made again.
    ///
    /// # Errors
    /// [`Error::JobState`] if it has not ended, is completed, or was never whole. [`Error::NoJob`], [`Error::Call`].
    pub async fn retry(&self) -> Result<(), Error> {
        loop {
            let cannot = match self.client.patiently(|| self.queue.job_retry(&self.id)).await? {
                JobRetried::Retrying => return Ok(()),
                JobRetried::More => continue,
                JobRetried::Running => {
                    let record = self.status().await?;
                    // An answer of one moment and a state of a later one must not contradict each other.
                    let cannot = match record.state.is_terminal() {
                        true => "it was still running when it was to be retried, and has ended since",
                        false => "it has not ended",
                    };
                    return Err(self.refused(&record, cannot));
                }
                JobRetried::Completed => {
                    let record = self.status().await?;
                    let cannot = match record.accepted {
                        0 => "nothing is missing",
                        _ => "its policy accepted the chunks that were lost, and its result does without them",
                    };
                    return Err(self.refused(&record, cannot));
                }
                JobRetried::Lost => "not all of its chunks were ever submitted; submit it anew",
                JobRetried::Unknown => return Err(self.unknown()),
            };
            return Err(self.refused(&self.status().await?, cannot));
        }
    }

    /// Removes an ended job, its record, its result and its spilled files.
    ///
    /// # Errors
    /// [`Error::JobState`] if it has not ended; [`Error::Store`] if its files cannot be removed from here, also because
    /// their place does not exist here. [`Error::NoJob`], [`Error::Call`].
    pub async fn delete(&self) -> Result<(), Error> {
        self.delete_with(true).await
    }

    /// As [`Self::delete`], but leaves its spilled files where they are: nobody will remove them.
    ///
    /// # Errors
    /// [`Error::JobState`] if it has not ended. [`Error::NoJob`], [`Error::Call`].
    pub async fn delete_leaving_files(&self) -> Result<(), Error> {
        self.delete_with(false).await
    }

    async fn delete_with(&self, files_too: bool) -> Result<(), Error> {
        let mut files_gone = !files_too;
        loop {
            match self
                .client
                .patiently(|| self.queue.job_delete(&self.id, files_gone))
                .await?
            {
                JobDeleted::Deleted => return Ok(()),
                JobDeleted::More => {}
                JobDeleted::Alive => return Err(self.refused(&self.status().await?, "cancel it first")),
                JobDeleted::Spilled => {
                    self.remove_files().await?;
                    files_gone = true;
                }
                JobDeleted::Unknown => return Err(self.unknown()),
            }
        }
    }

    async fn remove_files(&self) -> Result<(), Error> {
        let record = self.status().await?;
        let Some(place) = record.spec.spill.as_deref() else {
            return Ok(());
        };
        match self.try_remove(place, record.has_spilled_files()).await {
            // None of its files counts: a place that was never used need not be reached.
            Err(_) if !record.has_spilled_files() => Ok(()),
            other => other,
        }
    }

    async fn try_remove(&self, place: &str, must_be_there: bool) -> Result<(), Error> {
        let store = Stores::default().open(place)?;
        if must_be_there && !store.is_there().await? {
            return Err(StoreError::Temporary {
                url: place.to_owned(),
                detail: "it does not exist here, and the job has spilled files in it".to_owned(),
            }
            .into());
        }
        Ok(store.remove_all(&self.queue.keys().spill_folder(&self.id)).await?)
    }

    /// The first value of the result of a fold, usually the only one; `None` if the input was empty, or if the last reduce
    /// emitted nothing (as `min` of no numbers does).
    ///
    /// # Errors
    /// [`Error::JobState`] if the job is not completed; [`Error::Call`] with `Protocol` if it is not of this type;
    /// [`Error::NoJob`], [`Error::Store`], [`Error::JobSealed`].
    pub async fn result<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let (record, mut lines) = self.output(0).await?;
        if is_empty(&record) {
            return Ok(None);
        }
        lines.next().await?.map(|line| typed(&line)).transpose()
    }

    /// All values of the result of a fold; none of an empty input.
    ///
    /// # Errors
    /// As [`Self::result`].
    pub async fn results<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        let (record, mut lines) = self.output(0).await?;
        let mut all = Vec::new();
        if is_empty(&record) {
            return Ok(all);
        }
        while let Some(line) = lines.next().await? {
            all.push(typed(&line)?);
        }
        Ok(all)
    }

    /// The pairs of a keyed job in the order of their keys, merged from its parts as they are taken.
    ///
    /// # Errors
    /// As [`Self::result`].
    pub async fn pairs<K: DeserializeOwned, V: DeserializeOwned>(&self) -> Result<Pairs<K, V>, Error> {
        let record = self.completed().await?;
        let stores = Stores::default();
        let mut parts = Vec::new();
        for part in 0..parts_of(&record) {
            parts.push(self.lines(&record, part, &stores).await?);
        }
        Ok(Pairs::new(Merge::new(parts)))
    }

    /// One part of the result as JSON lines: the partition of a keyed job, 0 of a fold.
    ///
    /// # Errors
    /// As [`Self::result`]; `Invalid` if there is no such part.
    pub async fn part(&self, part: u32) -> Result<Vec<RawJson>, Error> {
        let (_, mut lines) = self.output(part).await?;
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push(RawJson::new(line));
        }
        Ok(all)
    }

    async fn output(&self, part: u32) -> Result<(JobRecord, Lines), Error> {
        let record = self.completed().await?;
        let parts = parts_of(&record);
        if part >= parts {
            return Err(Error::invalid(format!(
                "job {} has {parts} parts, the first is 0",
                self.id
            )));
        }
        let lines = self.lines(&record, part, &Stores::default()).await?;
        Ok((record, lines))
    }

    /// What is sealed of it is bound to this.
    async fn binding(&self) -> Result<JobBinding, Error> {
        let record = self.client.patiently(|| self.queue.job_record(&self.id)).await?;
        let record = record.ok_or_else(|| self.unknown())?;
        Ok(JobBinding::new(self.queue.name(), &self.id, &record.spec))
    }

    async fn completed(&self) -> Result<JobRecord, Error> {
        let record = self.status().await?;
        match record.state {
            JobState::Completed => Ok(record),
            _ => Err(self.refused(&record, NO_RESULT)),
        }
    }

    /// A part without an output has none.
    async fn lines(&self, record: &JobRecord, part: u32, stores: &Stores) -> Result<Lines, Error> {
        let output = self.client.patiently(|| self.queue.job_output(&self.id, part)).await?;
        let opening = Opening {
            keys: self.client.inner.config.keys.clone(),
            job: JobBinding::new(self.queue.name(), &self.id, &record.spec),
            id: self.id.clone(),
            part,
        };
        Lines::of(output, record.spec.spill.as_deref(), stores, opening)
    }

    fn unknown(&self) -> Error {
        Error::NoJob {
            queue: self.queue.name().to_string(),
            id: self.id.to_string(),
        }
    }

    fn refused(&self, record: &JobRecord, cannot: &'static str) -> Error {
        Error::JobState {
            id: self.id.to_string(),
            state: record.state,
            reason: record.error.clone(),
            cannot,
        }
    }
}

/// Its result, `null`, is nobody's value.
fn is_empty(record: &JobRecord) -> bool {
    record.submitted == 0
}

fn parts_of(record: &JobRecord) -> u32 {
    match record.spec.form {
        Form::Fold { .. } => 1,
        Form::Keyed { partitions } => partitions,
    }
}
