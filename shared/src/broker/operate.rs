//! cancel, retry, delete, purge, retire: what operators do to tasks and queues. See `lua/cancel.lua`, `lua/operate.lua`,
//! `lua/retire.lua`.

use redis::Value;

use super::{Holding, Queue, reply};
use crate::error::Error;

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It is cancelled, for good.
    Cancelled,
    /// It had ended already.
    Finished,
    /// No task of this id is here.
    Unknown,
}

/// The answer to a delete, per id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Deleted,
    /// It has not ended: cancel it first.
    Alive,
    /// No task of this id is here.
    Unknown,
}

/// What a purge removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgePlace {
    /// Tasks that wait for a consumer.
    Pending,
    /// Delayed tasks and retries.
    Scheduled,
    /// The dead-letter set.
    Failed,
    /// Results.
    Results,
    /// Raw items that no consumer has taken in yet.
    Inbox,
}

/// How often a cancel chases a task that moves from consumer to consumer.
const CANCEL_CHASES: usize = 8;

impl Queue {
    /// Cancels a task wherever it is. When this returns, it is terminal in Redis; a handler that
    /// runs it hears of it at once.
    ///
    /// # Errors
    /// As [`Error`] sorts them; [`Error::Unknown`] also if the task kept moving.
    pub async fn cancel(&self, id: &str) -> Result<CancelAnswer, Error> {
        self.cancel_in(id, "").await
    }

    /// Cancels a task as one of many: `act`, a line of at most 256 bytes, says for the audit which.
    ///
    /// # Errors
    /// As [`Self::cancel`].
    pub async fn cancel_in(&self, id: &str, act: &str) -> Result<CancelAnswer, Error> {
        for _ in 0..CANCEL_CHASES {
            let mut cmd = self.fcall("cancel", &[&self.keys.audit()]);
            cmd.arg(&*self.who).arg(id).arg("").arg(act);
            if let Some(answer) = read_cancel(self.link.call(&cmd).await?)? {
                return Ok(answer);
            }
            let Some(Holding { consumer: holder, .. }) = self.holding(id).await? else {
                continue;
            };
            let (running, notices) = (self.keys.running(&holder), self.keys.notices(&holder));
            let mut cmd = self.fcall("cancel", &[&self.keys.audit(), &running, &notices]);
            cmd.arg(&*self.who).arg(id).arg(holder.as_str()).arg(act);
            if let Some(answer) = read_cancel(self.link.call(&cmd).await?)? {
                return Ok(answer);
            }
        }
        Err(Error::Unknown(format!("task {id} moves between consumers; try again")))
    }

    /// Makes dead letters pending again, counters anew; true for each that was one.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn retry(&self, ids: &[String]) -> Result<Vec<bool>, Error> {
        let mut cmd = self.fcall("retry", &[&self.keys.audit()]);
        cmd.arg(&*self.who).arg(ids);
        Ok(reply::string(self.link.call(&cmd).await?)?
            .chars()
            .map(|letter| letter == 'r')
            .collect())
    }

    /// Deletes finished tasks.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn delete(&self, ids: &[String]) -> Result<Vec<Deleted>, Error> {
        let mut cmd = self.fcall("delete", &[&self.keys.audit()]);
        cmd.arg(&*self.who).arg(ids);
        let letters = reply::string(self.link.call(&cmd).await?)?;
        Ok(letters
            .chars()
            .map(|letter| match letter {
                'd' => Deleted::Deleted,
                'a' => Deleted::Alive,
                _ => Deleted::Unknown,
            })
            .collect())
    }

    /// Removes the queue itself, in which nothing may be left: no task (dead letters included), no item of the inbox, no job, and
    /// no consumer that serves it. Results, settings, counters and rejected items go; the audit stays for 90 days.
    ///
    /// # Errors
    /// As [`Error`] sorts them; [`Error::Invalid`] says what is still there.
    pub async fn retire(&self) -> Result<(), Error> {
        let keys = &self.keys;
        let mut own = vec![keys.audit(), keys.inbox(), keys.ingesting(), keys.rejected()];
        own.extend(["vitals", "fleet", "jobs", "jobs:due"].map(|name| keys.named(name)));
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let mut cmd = self.fcall("retire", &own);
        cmd.arg(&*self.who);
        self.link.call(&cmd).await.map(|_| ())
    }

    /// Removes one step's worth (500) of a place; zero when it is empty.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn purge_step(&self, place: PurgePlace) -> Result<u64, Error> {
        let (audit, inbox, ingesting) = (self.keys.audit(), self.keys.inbox(), self.keys.ingesting());
        let mut cmd = match place {
            PurgePlace::Inbox => self.fcall("purge", &[&audit, &inbox, &ingesting]),
            _ => self.fcall("purge", &[&audit]),
        };
        cmd.arg(&*self.who).arg(match place {
            PurgePlace::Pending => "pending",
            PurgePlace::Scheduled => "scheduled",
            PurgePlace::Failed => "failed",
            PurgePlace::Results => "results",
            PurgePlace::Inbox => "inbox",
        });
        cmd.arg(500);
        reply::count(&self.link.call(&cmd).await?)
    }
}

/// `None`: some consumer holds it, or it moved meanwhile.
fn read_cancel(value: Value) -> Result<Option<CancelAnswer>, Error> {
    match reply::string(value)?.as_str() {
        "cancelled" => Ok(Some(CancelAnswer::Cancelled)),
        "finished" => Ok(Some(CancelAnswer::Finished)),
        "unknown" => Ok(Some(CancelAnswer::Unknown)),
        "running" => Ok(None),
        other => Err(Error::Protocol(format!("cancel answer {other:?}"))),
    }
}
