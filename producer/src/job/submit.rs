//! Submission: chunks in calls of bounded size, resumed after any outage.
//!
//! Invariant: a chunk's number is its place in the input, so that a call that is sent again adds nothing twice. If Redis
//! comes back without the latest chunks, they are made again from the input; a job that somebody deleted is not. If we die, nothing of the job runs: the same
//! call with the same id goes on, or the maintainer fails the job as abandoned.

use std::sync::Arc;

use bytes::Bytes;
use workyard_shared::Error as CallError;
use workyard_shared::broker::{JobSubmitted, Queue};
use workyard_shared::crypto::KeyRing;
use workyard_shared::crypto::job::JobBinding;
use workyard_shared::job::{JobSpec, JobState};
use workyard_shared::name::{JobId, SessionId};

use super::identity::Identity;
use super::input::Ready;
use super::pack::Chunks;
use crate::client::Client;
use crate::error::Error;

/// Chunks in one call: it should not keep others waiting for more than some ms.
const CALL_CHUNKS: usize = 250;
/// Bytes of chunks in one call, about.
const CALL_BYTES: usize = 3 << 20;
/// How often a Redis may lose chunks before we give up.
const MAX_LOSSES: u32 = 5;
/// How often another submitter may be ahead of us between our look and our first call.
const MAX_LOOKS: u32 = 3;

/// A job on its way.
pub(crate) struct Submission<'a> {
    pub(crate) client: &'a Client,
    pub(crate) queue: Queue,
    pub(crate) id: JobId,
    pub(crate) spec: JobSpec,
    pub(crate) ready: Ready,
    pub(crate) size: u64,
    /// Of a job whose id the caller chose: the same call again is the same job.
    pub(crate) identity: Option<Identity>,
    /// Seals the chunks, if the job is sealed.
    pub(crate) seal: Option<Seal>,
}

/// What seals the chunks of one job.
#[derive(Debug, Clone)]
pub(crate) struct Seal {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) job: JobBinding,
}

impl Submission<'_> {
    /// Sends it all, unless it is there. Whether there was a job of the same call.
    pub(crate) async fn run(mut self) -> Result<bool, Error> {
        let Some(identity) = self.identity.take() else {
            return self.send_all(&SessionId::fresh()).await.map(|()| false);
        };
        for _ in 0..MAX_LOOKS {
            let there = self.client.patiently(|| self.queue.job_record(&self.id)).await?;
            let joined = there.is_some();
            if let Some(there) = there {
                // Its chunks were cut for the slots of that time.
                self.size = identity.size_in(&there.nonce).ok_or_else(|| self.exists())?;
                if there.state != JobState::Pending {
                    return Ok(true);
                }
            }
            match self.send_all(&identity.nonce(self.size)?).await {
                Err(Error::JobExists { .. }) => {}
                other => return other.map(|()| joined),
            }
        }
        Err(self.exists())
    }

    fn exists(&self) -> Error {
        Error::JobExists {
            id: self.id.to_string(),
        }
    }

    async fn send_all(&self, nonce: &SessionId) -> Result<(), Error> {
        let (mut skip, mut losses) = (0, 0);
        loop {
            let mut sent = skip;
            let error = match self.send(nonce, &mut sent).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let call_refused = matches!(error, Error::Call(CallError::Invalid(_)));
            if call_refused && sent > skip && losses < MAX_LOSSES {
                losses += 1;
                match self.kept(sent).await? {
                    Some(kept) if kept < sent => {
                        tracing::warn!(job = %self.id, sent, kept, "Redis has lost chunks of the job; they are sent again");
                        skip = kept;
                        continue;
                    }
                    // It was cancelled on its way: the handle tells.
                    Some(_) => return Ok(()),
                    // It is the input that is wrong.
                    None => {}
                }
            }
            if sent > 0 && !error.is_temporary() {
                // Half a job is of no use; if this fails, it is abandoned in an hour.
                self.queue.job_cancel(&self.id).await.ok();
            }
            return Err(error);
        }
    }

    /// How many chunks Redis has of those that it took; all if the job has ended; `None` if that explains nothing.
    async fn kept(&self, sent: u64) -> Result<Option<u64>, Error> {
        let record = self.client.patiently(|| self.queue.job_record(&self.id)).await?;
        Ok(match record {
            None => Some(0),
            Some(record) if record.state == JobState::Pending => Some(record.submitted).filter(|kept| *kept < sent),
            Some(record) => record.state.is_terminal().then_some(sent),
        })
    }

    /// Sends all chunks behind the first `sent`, and counts.
    async fn send(&self, nonce: &SessionId, sent: &mut u64) -> Result<(), Error> {
        let mut source = Source {
            chunks: self.ready.chunks(self.size)?,
            next: None,
            skip: *sent,
            number: 0,
            seal: self.seal.clone(),
        };
        loop {
            let taken = tokio::task::spawn_blocking(move || source.batch());
            let (rest, batch) = taken
                .await
                .map_err(|e| Error::invalid(format!("the input cannot be read: {e}")))??;
            source = rest;
            let last = source.next.is_none();
            let call = || self.queue.job_submit(&self.id, nonce, &self.spec, *sent, &batch, last);
            match self.client.patiently(call).await? {
                JobSubmitted::Taken(_) => *sent += batch.len() as u64,
                JobSubmitted::Exists => return Err(self.exists()),
                JobSubmitted::Deleted => {
                    return Err(Error::JobDeleted {
                        id: self.id.to_string(),
                    });
                }
            }
            if last {
                return Ok(());
            }
        }
    }
}

struct Source {
    chunks: Chunks,
    /// One ahead, so that the last call is known to be the last.
    next: Option<Bytes>,
    skip: u64,
    /// Of the next chunk.
    number: u64,
    seal: Option<Seal>,
}

impl Source {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(chunk) = self.chunks.next().transpose()? else {
            return Ok(None);
        };
        let number = self.number;
        self.number += 1;
        match &self.seal {
            Some(seal) => Ok(Some(seal.keys.seal_chunk(&seal.job, number, &chunk)?)),
            None => Ok(Some(chunk)),
        }
    }

    fn batch(mut self) -> Result<(Self, Vec<Bytes>), Error> {
        while self.skip > 0 && self.chunks.next().transpose()?.is_some() {
            self.skip -= 1;
            self.number += 1;
        }
        let mut bytes = 0;
        let mut batch = Vec::new();
        loop {
            let chunk = match self.next.take() {
                Some(chunk) => Some(chunk),
                None => self.chunk()?,
            };
            let Some(chunk) = chunk else {
                return Ok((self, batch));
            };
            if batch.len() >= CALL_CHUNKS || (bytes > 0 && bytes + chunk.len() > CALL_BYTES) {
                self.next = Some(chunk);
                return Ok((self, batch));
            }
            bytes += chunk.len();
            batch.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(sizes: Vec<usize>, skip: u64) -> Vec<usize> {
        let mut source = Source {
            chunks: Box::new(sizes.into_iter().map(|size| Ok(vec![0; size].into()))),
            next: None,
            skip,
            number: 0,
            seal: None,
        };
        let mut found = Vec::new();
        loop {
            let (rest, batch) = source.batch().unwrap();
            source = rest;
            found.push(batch.len());
            if source.next.is_none() {
                return found;
            }
        }
    }

    #[test]
    fn calls_are_bounded_by_number_and_bytes_and_the_last_is_known() {
        assert_eq!(batches(vec![], 0), [0]);
        assert_eq!(batches(vec![1; CALL_CHUNKS], 0), [CALL_CHUNKS]);
        assert_eq!(batches(vec![1; CALL_CHUNKS + 1], 0), [CALL_CHUNKS, 1]);
        assert_eq!(batches(vec![1 << 20; 7], 0), [3, 3, 1]);
        assert_eq!(batches(vec![1; 1001], 1000), [1]);
    }
}
