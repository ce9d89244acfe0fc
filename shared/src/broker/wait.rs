//! wait, follow, progress: see `lua/wait.lua`.

use std::time::Duration;

use bytes::Bytes;

use super::{Place, Queue, Seen, reply};
use crate::error::Error;
use crate::name::SessionId;
use crate::record::{Ended, Meta, Record, State};

/// The answer to a wait, per id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// It has ended.
    Ended(Ended),
    /// The waiter's channel will hear of it.
    Waiting,
    /// No task of this id is here, or its result is gone.
    Unknown,
}

impl From<Seen> for Waited {
    /// What a look without an ask tells a waiter: nobody will tell it of what is still to come.
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::Ended(ended) => Self::Ended(ended),
            Seen::Live {
                place: Place::Failed(at),
                record,
                meta,
            } => Self::Ended(dead_letter(&record, meta, at)),
            Seen::Live { .. } | Seen::Unreadable { .. } => Self::Waiting,
            Seen::Unknown => Self::Unknown,
        }
    }
}

/// A dead letter as its waiters are told of it; `failed_text` of `lua/wait.lua` makes the same.
fn dead_letter(record: &Record, meta: Meta, failed_ms: u64) -> Ended {
    Ended {
        state: State::Failed,
        kind: record.kind().to_owned(),
        created_ms: record.created_ms,
        started_ms: meta.started_ms,
        finished_ms: failed_ms,
        failures: meta.failures,
        crashes: meta.crashes,
        releases: meta.releases,
        consumer: meta.consumer,
        reason: meta.reason,
        last_error: meta.error.clone(),
        body: Bytes::from(meta.error),
    }
}

impl Queue {
    /// Asks to be told on the waiter's channel when tasks end, in one step with looking.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn wait(&self, waiter: &SessionId, ids: &[&str]) -> Result<Vec<Waited>, Error> {
        let mut cmd = self.fcall("wait", &[]);
        cmd.arg(waiter.as_str()).arg(ids);
        reply::array(self.link.call(&cmd).await?)?
            .into_iter()
            .map(|value| {
                let bytes = reply::bytes(value)?;
                match &bytes[..] {
                    b"waiting" => Ok(Waited::Waiting),
                    b"unknown" => Ok(Waited::Unknown),
                    _ => Ended::parse(&bytes).map(Waited::Ended),
                }
            })
            .collect()
    }

    /// Asks for a message per batch of ends on the `finished` channel, for this long.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn follow(&self, span: Duration) -> Result<(), Error> {
        let mut cmd = self.fcall("follow", &[]);
        cmd.arg(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        self.link.call(&cmd).await.map(|_| ())
    }

    /// Stores what a handler says of its progress; false if the task is not its consumer's any more.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn progress(&self, consumer: &SessionId, id: &str, token: u64, text: &str) -> Result<bool, Error> {
        let running = self.keys.running(consumer);
        let mut cmd = self.fcall("progress", &[&running]);
        cmd.arg(id).arg(token).arg(text);
        Ok(reply::string(self.link.call(&cmd).await?)? == "ok")
    }
}
