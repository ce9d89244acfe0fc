//! promote, dead, reclaim, sweep: what the queue's maintainer does. See the Lua files.

use std::time::Duration;

use super::{Queue, reply};
use crate::error::Error;
use crate::name::SessionId;

/// What one step of a reclaim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaimed {
    /// Tasks that are pending again.
    pub back: u64,
    /// Tasks dead-lettered as poison.
    pub poisoned: u64,
    /// Whether the dead consumer held more.
    pub more: bool,
}

/// What one step of a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Tasks that expired unstarted.
    pub expired: u64,
    /// Results past their retention.
    pub dropped: u64,
    /// Dead letters trimmed by count or age.
    pub trimmed: u64,
    /// Whether there is more to do.
    pub more: bool,
}

impl Queue {
    /// Moves due tasks to pending, at most `most`. Answers how many, and when the next is due.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn promote(&self, most: usize) -> Result<(u64, Option<Duration>), Error> {
        let mut cmd = self.fcall("promote", &[]);
        cmd.arg(most);
        let items = reply::array(self.link.call(&cmd).await?)?;
        let [moved, due] = &items[..] else {
            return Err(Error::Protocol("a short promote answer".to_owned()));
        };
        Ok((
            reply::count(moved)?,
            u64::try_from(reply::int(due)?).ok().map(Duration::from_millis),
        ))
    }

    /// Consumers whose session lease has ended, at most ten.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn dead_consumers(&self) -> Result<Vec<SessionId>, Error> {
        let names = reply::strings(self.link.call(&self.fcall("dead", &[])).await?)?;
        Ok(names.iter().filter_map(|name| SessionId::new(name).ok()).collect())
    }

    /// Takes one step's worth of work from a dead consumer.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn reclaim(&self, dead: &SessionId) -> Result<Reclaimed, Error> {
        let [back, poisoned, more] = self.take_back("reclaim", dead).await?;
        Ok(Reclaimed {
            back,
            poisoned,
            more: more == 1,
        })
    }

    /// Removes what has outlived its time, at most `most` of each sort.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn sweep(&self, most: usize) -> Result<Swept, Error> {
        let mut cmd = self.fcall("sweep", &[]);
        cmd.arg(most);
        let [expired, dropped, trimmed, more] = reply::counts(self.link.call(&cmd).await?)?;
        Ok(Swept {
            expired,
            dropped,
            trimmed,
            more: more == 1,
        })
    }
}
