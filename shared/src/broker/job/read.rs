//! Reading of jobs: plain commands on the keys that docs/jobs.md names. Nothing is changed.

use std::collections::HashMap;

use bytes::Bytes;
use redis::{Pipeline, Value};

use crate::broker::{Queue, reply};
use crate::error::Error;
use crate::job::{JobRecord, JobState, Part};
use crate::name::JobId;

/// Bytes of outputs in one answer, about.
const READ_BYTES: u64 = 8 << 20;

/// What a consumer that runs tasks of a job looks at a few times a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPulse {
    /// `None`: the job is gone.
    pub state: Option<JobState>,
    /// Bytes in Redis.
    pub bytes: u64,
    /// The budget was reached.
    pub full: bool,
    /// Which start of the job this is.
    pub epoch: u64,
    /// Per member that was asked for: whether its task is still wanted.
    pub live: Vec<bool>,
}

/// A job among others.
#[derive(Debug, Clone, PartialEq)]
pub struct JobGlance {
    /// Its id.
    pub id: JobId,
    /// Its record.
    pub record: JobRecord,
}

fn pairs(value: Value) -> Result<HashMap<String, String>, Error> {
    let flat = match value {
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        other => reply::array(other)?,
    };
    let mut texts = flat.into_iter().map(reply::string);
    let mut found = HashMap::new();
    while let Some(name) = texts.next() {
        let value = texts
            .next()
            .ok_or_else(|| Error::Protocol("a name without a value".to_owned()))?;
        found.insert(name?, value?);
    }
    Ok(found)
}

/// How many of the first sizes are together at most `room`; at least one.
fn within(sizes: &[u64], room: u64) -> usize {
    let mut sum = 0_u64;
    let fit = sizes
        .iter()
        .take_while(|size| {
            sum = sum.saturating_add(**size);
            sum <= room
        })
        .count();
    fit.max(1)
}

fn optional(value: Value) -> Result<Option<Bytes>, Error> {
    match value {
        Value::Nil => Ok(None),
        other => reply::bytes(other).map(Some),
    }
}

impl Queue {
    /// The record of a job; `None` if there is no such job.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_record(&self, job: &JobId) -> Result<Option<JobRecord>, Error> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.keys.job_key(job, ""));
        let fields = pairs(self.link.call(&cmd).await?)?;
        match fields.is_empty() {
            true => Ok(None),
            false => JobRecord::from_fields(&fields).map(Some),
        }
    }

    /// Descriptions of chunks; `None` for those that are done, or not there.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_chunks(&self, job: &JobId, numbers: &[u64]) -> Result<Vec<Option<Bytes>>, Error> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.job_key(job, ":chunks")).arg(numbers);
        reply::array(self.link.call(&cmd).await?)?
            .into_iter()
            .map(optional)
            .collect()
    }

    /// Members whose last error is kept, with it; at most 100.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_errors(&self, job: &JobId) -> Result<HashMap<String, String>, Error> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.keys.job_key(job, ":errors"));
        pairs(self.link.call(&cmd).await?)
    }

    /// Numbers of chunks that failed for good, `most` from the lowest on.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_failed(&self, job: &JobId, most: usize) -> Result<Vec<u64>, Error> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.job_key(job, ":failed")).arg(0).arg(most.max(1) - 1);
        reply::array(self.link.call(&cmd).await?)?
            .iter()
            .map(reply::count)
            .collect()
    }

    /// Jobs of this queue, newest first, `most` behind the first `skip`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn jobs(&self, skip: usize, most: usize) -> Result<Vec<JobGlance>, Error> {
        let mut cmd = redis::cmd("ZREVRANGE");
        cmd.arg(self.keys.named("jobs")).arg(skip).arg(skip + most.max(1) - 1);
        let ids = reply::strings(self.link.call(&cmd).await?)?;
        let ids: Vec<JobId> = ids.iter().filter_map(|id| JobId::new(id).ok()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(ids.len());
        for id in &ids {
            pipeline.cmd("HGETALL").arg(self.keys.job_key(id, ""));
        }
        let mut found = Vec::new();
        for (id, answer) in ids.into_iter().zip(self.link.pipeline(&pipeline).await?) {
            let fields = match answer.and_then(pairs) {
                Err(why) if !why.is_temporary() => {
                    let record = JobRecord::damaged(&why);
                    found.push(JobGlance { id, record });
                    continue;
                }
                other => other?,
            };
            if !fields.is_empty() {
                let record = JobRecord::from_fields(&fields).unwrap_or_else(|why| JobRecord::damaged(&why));
                found.push(JobGlance { id, record });
            }
        }
        Ok(found)
    }

    /// The state of a job, and which of these members are still wanted.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_pulse(&self, job: &JobId, members: &[String]) -> Result<JobPulse, Error> {
        let mut pipeline = Pipeline::with_capacity(2);
        let record = self.keys.job_key(job, "");
        pipeline
            .cmd("HMGET")
            .arg(record)
            .arg(&["state", "bytes", "full", "epoch"]);
        if !members.is_empty() {
            pipeline.cmd("HMGET").arg(self.keys.job_key(job, ":live")).arg(members);
        }
        let mut answers = self.link.pipeline(&pipeline).await?.into_iter();
        let missing = || Error::Protocol("an answer is missing".to_owned());
        let fields = reply::array(answers.next().ok_or_else(missing)??)?;
        let text = |at: usize| match fields.get(at) {
            Some(Value::Nil) | None => Ok(None),
            Some(value) => reply::string(value.clone()).map(Some),
        };
        let live = match answers.next() {
            Some(answer) => reply::array(answer?)?.iter().map(|v| *v != Value::Nil).collect(),
            None => Vec::new(),
        };
        Ok(JobPulse {
            state: text(0)?.and_then(|name| JobState::parse(&name)),
            bytes: text(1)?.and_then(|n| n.parse().ok()).unwrap_or(0),
            full: text(2)?.as_deref() == Some("1"),
            epoch: text(3)?.and_then(|n| n.parse().ok()).unwrap_or(0),
            live,
        })
    }

    /// Stored outputs by their names in `data`; `None` for one that is not there. They are read a few megabytes at a time,
    /// so that nobody else waits long behind them.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_data(&self, job: &JobId, names: &[String]) -> Result<Vec<Option<Part>>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let key = self.keys.job_key(job, ":data");
        // What the whole job holds is known in one look. Asking each size costs as much as reading a small part.
        let mut asked = redis::cmd("HGET");
        asked.arg(self.keys.job_key(job, "")).arg("bytes");
        let all = optional(self.link.call(&asked).await?)?.and_then(|bytes| str::from_utf8(&bytes).ok()?.parse().ok());
        let sizes = match all.unwrap_or(u64::MAX) {
            0..=READ_BYTES => vec![0; names.len()],
            _ => self.sizes(&key, names).await?,
        };
        let (mut parts, mut rest) = (Vec::with_capacity(names.len()), names);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(within(&sizes[parts.len()..], READ_BYTES));
            let mut cmd = redis::cmd("HMGET");
            cmd.arg(&key).arg(now);
            for value in reply::array(self.link.call(&cmd).await?)? {
                parts.push(optional(value)?.map(|stored| Part::decode(&stored)).transpose()?);
            }
            rest = later;
        }
        Ok(parts)
    }

    /// How long these fields of a hash are; 0 for one that is not there.
    async fn sizes(&self, key: &str, names: &[String]) -> Result<Vec<u64>, Error> {
        let mut asked = Pipeline::with_capacity(names.len());
        for name in names {
            asked.cmd("HSTRLEN").arg(key).arg(name);
        }
        let answers = self.link.pipeline(&asked).await?;
        answers.into_iter().map(|size| reply::count(&size?)).collect()
    }

    /// One part of the result: 0 in the fold form, else the partition. `None` if it is not there.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_output(&self, job: &JobId, part: u32) -> Result<Option<Part>, Error> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(self.keys.job_key(job, ":out")).arg(part);
        optional(self.link.call(&cmd).await?)?
            .map(|stored| Part::decode(&stored))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn as_many_are_read_at_once_as_fit_and_one_at_least() {
        assert_eq!(within(&[3, 3, 3, 3], 9), 3);
        assert_eq!(within(&[10, 1], 9), 1);
        assert_eq!(within(&[1], 9), 1);
        assert_eq!(within(&[u64::MAX, u64::MAX], 9), 1);
    }
}
