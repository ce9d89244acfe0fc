//! job_submit: see `lua/job_submit.lua`.

use bytes::Bytes;

use crate::broker::{Queue, reply};
use crate::error::Error;
use crate::job::JobSpec;
use crate::name::{JobId, SessionId};

/// The answer to chunks that were submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSubmitted {
    /// So many chunks of the job are there now.
    Taken(u64),
    /// Another submitter's job has this id.
    Exists,
    /// The job was deleted between this submitter's calls.
    Deleted,
}

impl Queue {
    /// Adds chunks `from`, `from + 1` ... to a job, and seals it if `last`. The first call (`from` 0) makes the
    /// job. Sending a call again is harmless. At most 1,000 chunks and about 4 MiB a call.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the job has fewer chunks than `from`; others as [`Error`] sorts them.
    pub async fn job_submit(
        &self,
        job: &JobId,
        nonce: &SessionId,
        spec: &JobSpec,
        from: u64,
        chunks: &[Bytes],
        last: bool,
    ) -> Result<JobSubmitted, Error> {
        let mut cmd = self.job_call("job_submit", job, &[]);
        cmd.arg(from);
        match last {
            true => cmd.arg(from + chunks.len() as u64),
            false => cmd.arg(""),
        };
        let mut fields = spec.to_fields();
        fields.push(("nonce", nonce.to_string()));
        cmd.arg(2 * fields.len());
        for (name, value) in &fields {
            cmd.arg(*name).arg(value);
        }
        for chunk in chunks {
            cmd.arg(&chunk[..]);
        }
        let [letter, submitted] = <[redis::Value; 2]>::try_from(reply::array(self.link.call(&cmd).await?)?)
            .map_err(|_| Error::Protocol("job_submit answers two values".to_owned()))?;
        match reply::string(letter)?.as_str() {
            "s" => Ok(JobSubmitted::Taken(reply::count(&submitted)?)),
            "x" => Ok(JobSubmitted::Exists),
            "d" => Ok(JobSubmitted::Deleted),
            other => Err(Error::Protocol(format!("job_submit letter {other:?}"))),
        }
    }
}
