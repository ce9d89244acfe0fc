//! The typed calls: one method per function, replies turned into types at this border.
//!
//! Invariant: nothing outside this module builds an `FCALL` or reads a raw reply. A method sends
//! one call; it neither waits for outages nor repeats.

mod audit;
mod claim;
mod doctor;
mod enqueue;
mod figures;
mod ingest;
mod inspect;
mod job;
mod maintain;
mod operate;
mod overview;
mod reply;
mod server;
mod session;
mod settings;
mod settle;
mod wait;
#[cfg(test)]
mod header_tests;

pub use audit::AuditEntry;
pub use claim::{ClaimRequest, Claimed, Grant, Tries};
pub use doctor::{Care, KeyFacts, Odd, ScanPage};
pub use enqueue::{Accepted, Batch};
pub use figures::{CircuitCount, QueueFigures};
pub use ingest::{InboxItem, InboxWait, Ingested, Verdict};
pub use inspect::{Holding, Place, Seen};
pub use job::{
    Absent, JobCancelled, JobDeleted, JobGlance, JobOutcome, JobPulse, JobRetried, JobSettled, JobSubmitted, JobTurn,
    JobVerdict, Spilled, Tended,
};
pub use maintain::{Reclaimed, Swept};
pub use operate::{CancelAnswer, Deleted, PurgePlace};
pub use overview::{COUNTERS, Overview};
pub use server::ServerFigures;
pub use session::{Beat, Report, Survey};
pub use settle::{Completion, FailureReport, Handback, Settled, Turn, TurnAnswer, Verdict as FailVerdict};
pub use wait::Waited;

use std::sync::Arc;

use redis::{Cmd, Value};

use crate::error::Error;
use crate::functions;
use crate::keys::{self, Keys};
use crate::link::Link;
use crate::name::{Prefix, QueueName};

/// One installation of Workyard on one Redis.
#[derive(Debug, Clone)]
pub struct Broker {
    link: Link,
    prefix: Prefix,
    /// Who acts, for the audit.
    who: Arc<str>,
}

impl Broker {
    /// An installation whose keys begin with `prefix`.
    #[must_use]
    pub fn new(link: Link, prefix: Prefix) -> Self {
        let who = audit::who(link.config().user(), "library").into();
        Self { link, prefix, who }
    }

    /// The same installation, whose audit calls whoever acts here by this name.
    #[must_use]
    pub fn acting_as(mut self, name: &str) -> Self {
        self.who = audit::who(self.link.config().user(), name).into();
        self
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What its keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The calls on one queue.
    #[must_use]
    pub fn queue(&self, name: &QueueName) -> Queue {
        self.partition(name, 0)
    }

    /// The calls on one partition of a queue.
    #[must_use]
    pub fn partition(&self, name: &QueueName, partition: u16) -> Queue {
        Queue {
            link: self.link.clone(),
            keys: Keys::new(&self.prefix, name, partition),
            name: name.clone(),
            who: Arc::clone(&self.who),
        }
    }

    /// Makes a queue known to `workyard queues`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn announce(&self, name: &QueueName) -> Result<(), Error> {
        let mut cmd = redis::cmd("SADD");
        cmd.arg(keys::queues(&self.prefix)).arg(name.as_str());
        self.link.call(&cmd).await.map(|_| ())
    }

    /// Takes a queue from those that `workyard queues` knows, as [`Queue::retire`] removed it; whoever uses it again
    /// announces it again.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn forget(&self, name: &QueueName) -> Result<(), Error> {
        let mut cmd = redis::cmd("SREM");
        cmd.arg(keys::queues(&self.prefix)).arg(name.as_str());
        self.link.call(&cmd).await.map(|_| ())
    }

    /// The clock of a server, in ms since the epoch; a queue's own is [`Queue::now_us`].
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        Ok(us(self.link.call(&redis::cmd("TIME")).await?)? / 1000)
    }

    /// The queues that a client library or a consumer has used.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn queues(&self) -> Result<Vec<QueueName>, Error> {
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(keys::queues(&self.prefix));
        let names = reply::strings(self.link.call(&cmd).await?)?;
        // Somebody else may have put anything into the set: only names are queues.
        let mut names: Vec<_> = names.iter().filter_map(|n| QueueName::new(n).ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// Reads the answer to TIME, in us since the epoch.
fn us(value: Value) -> Result<u64, Error> {
    let [seconds, micros] = reply::counts(value)?;
    Ok(seconds * 1_000_000 + micros)
}

/// The calls on one queue partition.
#[derive(Debug, Clone)]
pub struct Queue {
    link: Link,
    keys: Keys,
    name: QueueName,
    who: Arc<str>,
}

impl Queue {
    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The clock of the server that has this queue, in us since the epoch.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn now_us(&self) -> Result<u64, Error> {
        us(self.link.call_at(&self.keys.shared()[0], &redis::cmd("TIME")).await?)
    }

    /// `FCALL workyard_1_<edge>` with the shared keys and `own` ones, and in a cluster the [guard](Keys::guard).
    fn fcall(&self, edge: &str, own: &[&str]) -> Cmd {
        let guard = self.link.is_cluster().then(|| self.keys.guard());
        let mut cmd = redis::cmd("FCALL");
        let count = self.keys.shared().len() + own.len() + usize::from(guard.is_some());
        cmd.arg(functions::name(edge)).arg(count);
        for key in self.keys.shared() {
            cmd.arg(key.as_str());
        }
        for key in own {
            cmd.arg(*key);
        }
        cmd.arg(guard);
        cmd
    }
}
