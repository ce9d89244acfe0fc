//! peek and ingest: see `lua/ingest.lua`.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::{Queue, reply};
use crate::envelope::NewTask;
use crate::error::Error;
use crate::link::Link;

/// Longest wait of one BLMOVE; then the connection has shown that it lives.
const WAIT: Duration = Duration::from_secs(8);

/// An item at the head of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxItem {
    /// Its bytes.
    Raw(Bytes),
    /// Too large to be looked at: its length only.
    Oversize(u64),
}

/// What the ingester decided about an item.
#[derive(Debug)]
pub enum Verdict {
    /// A task.
    Accept(Box<NewTask>),
    /// Refused; the entry for the rejected list, reason included.
    Reject(String),
}

/// Waits for the inbox on a connection of its own.
///
/// It blocks in `BLMOVE inbox -> inbox:ingesting`, never in a command that would take an item out
/// of Redis: a reply that is lost leaves the item where it is looked for first.
pub struct InboxWait {
    connection: deadpool_redis::Connection,
    link: Link,
    cmd: redis::Cmd,
}

impl std::fmt::Debug for InboxWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboxWait").finish_non_exhaustive()
    }
}

impl InboxWait {
    /// Returns true when an item has come, false after about five seconds without one.
    ///
    /// # Errors
    /// As [`Error`] sorts them; then make a new one.
    pub async fn wait(&mut self) -> Result<bool, Error> {
        // A server that neither answers nor hangs up: leave this connection to its fate.
        let answer = tokio::time::timeout(2 * WAIT, self.cmd.query_async::<Value>(&mut self.connection)).await;
        let lost = |_| Error::Unknown("no answer to BLMOVE".to_owned());
        let answer = answer.map_err(lost).and_then(|answer| answer.map_err(Error::from));
        let moved = answer.inspect_err(|error| self.link.heed(error))?;
        // What it holds is looked at where it stands now.
        Ok(moved != Value::Nil)
    }
}

/// What an ingest step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ingested {
    /// Items that left the inbox.
    pub moved: u64,
    /// Those that became tasks.
    pub accepted: u64,
    /// Those that were rejected.
    pub rejected: u64,
}

impl Queue {
    /// Opens a connection that waits for the inbox.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn inbox_wait(&self) -> Result<InboxWait, Error> {
        let connection = self.link.own_connections(1).get(&self.keys.inbox()).await?;
        let mut cmd = redis::cmd("BLMOVE");
        cmd.arg(self.keys.inbox())
            .arg(self.keys.ingesting())
            .arg("LEFT")
            .arg("RIGHT")
            .arg(WAIT.as_secs());
        Ok(InboxWait {
            connection,
            link: self.link.clone(),
            cmd,
        })
    }

    /// Looks at the head of `source`: at most `most` items and `max_bytes` together.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn peek(&self, source: &str, most: usize, max_bytes: usize) -> Result<Vec<InboxItem>, Error> {
        let mut cmd = self.fcall("peek", &[source]);
        cmd.arg(most).arg(max_bytes);
        self.peeked(&cmd).await
    }

    /// As [`Self::peek`], of a queue that was full: no item is read while it still is, and then about as many as there is
    /// room for.
    ///
    /// # Errors
    /// [`Error::Full`] while the queue takes nothing new; else as [`Error`] sorts them.
    pub async fn peek_for_room(&self, source: &str, most: usize, max_bytes: usize) -> Result<Vec<InboxItem>, Error> {
        let mut cmd = self.fcall("peek", &[source]);
        cmd.arg(most).arg(max_bytes).arg("room");
        self.peeked(&cmd).await
    }

    /// Whether what lies in the inbox waits for room.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn inbox_is_blocked(&self) -> Result<bool, Error> {
        match self.peek_for_room(&self.keys.inbox(), 0, 0).await {
            Err(Error::Full { .. }) => Ok(true),
            other => other.map(|_| false),
        }
    }

    async fn peeked(&self, cmd: &redis::Cmd) -> Result<Vec<InboxItem>, Error> {
        reply::array(self.link.call(cmd).await?)?
            .into_iter()
            .map(|value| match value {
                Value::Int(n) => Ok(InboxItem::Oversize(u64::try_from(n).unwrap_or_default())),
                other => reply::bytes(other).map(InboxItem::Raw),
            })
            .collect()
    }

    /// Moves the judged items, as long as they still stand at the head of `source`.
    ///
    /// # Errors
    /// As [`Error`] sorts them; after any, peek again.
    pub async fn ingest(&self, source: &str, items: &[(InboxItem, Verdict)]) -> Result<Ingested, Error> {
        let mut cmd = self.fcall("ingest", &[source, &self.keys.rejected()]);
        for (item, verdict) in items {
            let letter = match item {
                InboxItem::Raw(bytes) => {
                    cmd.arg(&bytes[..]);
                    "r"
                }
                InboxItem::Oversize(len) => {
                    cmd.arg(*len);
                    "o"
                }
            };
            match verdict {
                Verdict::Accept(task) => {
                    cmd.arg("a").arg(task.id.as_ref().map_or("", |id| id.as_str()));
                    cmd.arg(task.head()?).arg(&task.payload[..]);
                }
                Verdict::Reject(entry) => {
                    cmd.arg(letter).arg(entry).arg("").arg("");
                }
            }
        }
        let [moved, accepted, rejected] = reply::counts(self.link.call(&cmd).await?)?;
        Ok(Ingested {
            moved,
            accepted,
            rejected,
        })
    }
}
