//! What producers know to be accepted, in files that are synced before it counts.
//!
//! One line a batch: a mark, ms of the monotonic clock, then words. `A` ms of the call, level, ids: accepted; `M` number: no answer came, so as
//! many may be there under ids that nobody knows; `T` ids: sent, perhaps again; `J` ms of the call, id, result: a job that was accepted.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use workyard_tests::monotonic_ms;

/// What a receipt says of where the task is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Memory,
    Fsync,
    /// At least one replica has it.
    Replica,
    /// Two have it.
    Replicas,
    /// A replica was asked for and did not confirm it in time.
    Unknown,
}

impl Level {
    /// Its name, in receipts and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
            Self::Replica => "replica:1",
            Self::Replicas => "replica:2",
            Self::Unknown => "unknown",
        }
    }

    /// The level of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Memory, Self::Fsync, Self::Replica, Self::Replicas, Self::Unknown];
        all.into_iter().find(|level| level.name() == name)
    }
}

/// One producer's file.
pub(crate) struct Ledger(File);

/// A task that was accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// When the call was sent, ms: Redis had answered at some time between the two.
    pub(crate) sent_ms: u64,
    /// When the answer had come, ms.
    pub(crate) at_ms: u64,
    /// What the receipt says.
    pub(crate) level: Level,
    /// Which producer's it is.
    pub(crate) producer: usize,
}

impl Ledger {
    pub(crate) fn create(dir: &Path, producer: usize) -> io::Result<Self> {
        Ok(Self(File::create(dir.join(format!("accepted-{producer}")))?))
    }

    pub(crate) fn accepted(&self, sent_ms: u64, level: &str, ids: &[String]) -> io::Result<()> {
        self.line("A", &format!("{sent_ms} {level} {}", ids.join(" ")))
    }

    pub(crate) fn maybe(&self, tasks: usize) -> io::Result<()> {
        self.line("M", &tasks.to_string())
    }

    pub(crate) fn tried(&self, ids: &[String]) -> io::Result<()> {
        self.line("T", &ids.join(" "))
    }

    pub(crate) fn job(&self, sent_ms: u64, id: &str, result: i64) -> io::Result<()> {
        self.line("J", &format!("{sent_ms} {id} {result}"))
    }

    fn line(&self, mark: &str, words: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{mark} {} {words}\n", monotonic_ms()).as_bytes())?;
        self.0.sync_data()
    }
}
