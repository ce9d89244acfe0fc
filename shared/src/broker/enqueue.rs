//! enqueue: see `lua/enqueue.lua`.

use redis::{Cmd, Value};

use super::{Queue, reply};
use crate::envelope::NewTask;
use crate::error::Error;
use crate::name::{SessionId, TaskId};

/// What makes a repeated enqueue harmless, and who wants to hear of the ends.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The producer's session; one call of it is under way at a time.
    pub session: &'a SessionId,
    /// Grows with each new batch of the session; a repeat has the same number.
    pub number: u64,
    /// A waiter session to be told when the tasks end.
    pub waiter: Option<&'a SessionId>,
}

/// What became of one task of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new.
    Created,
    /// A task of this id or its result is still here: nothing was added.
    Duplicate,
}

impl Queue {
    /// The command that adds `tasks`, each with its id. `unique` promises that the ids were made by
    /// [`TaskId::fresh`], so that Redis need not look for them.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a task's headers are too large.
    pub fn enqueue_cmd<'a>(
        &self,
        batch: Batch<'_>,
        unique: bool,
        tasks: impl IntoIterator<Item = &'a (TaskId, NewTask)>,
    ) -> Result<Cmd, Error> {
        let producer = self.keys.producer(batch.session);
        let mut cmd = self.fcall("enqueue", &[&producer]);
        cmd.arg(batch.number).arg(if unique { "u" } else { "" });
        cmd.arg(batch.waiter.map_or("", SessionId::as_str));
        for (id, task) in tasks {
            cmd.arg(id.as_str()).arg(task.head()?).arg(&task.payload[..]);
        }
        Ok(cmd)
    }

    /// Adds tasks; see [`Self::enqueue_cmd`].
    ///
    /// # Errors
    /// As [`Error`] sorts them. After [`Error::Unknown`] send the same batch again: it is
    /// recognised for an hour. [`Error::Full`]: there is no room for all of them, and none was added.
    pub async fn enqueue(&self, cmd: &Cmd) -> Result<Vec<Accepted>, Error> {
        Self::read_enqueue(self.link.call(cmd).await?)
    }

    /// Reads the answer to [`Self::enqueue_cmd`], for one who sent it on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is none.
    pub fn read_enqueue(value: Value) -> Result<Vec<Accepted>, Error> {
        let answer = reply::array(value)?;
        let letters = answer
            .into_iter()
            .next()
            .ok_or_else(|| Error::Protocol("an empty answer".to_owned()))?;
        reply::string(letters)?
            .chars()
            .map(|letter| match letter {
                'c' => Ok(Accepted::Created),
                'd' => Ok(Accepted::Duplicate),
                other => Err(Error::Protocol(format!("enqueue letter {other:?}"))),
            })
            .collect()
    }
}
