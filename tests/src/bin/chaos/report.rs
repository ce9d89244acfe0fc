//! What a run showed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::args::Args;
use crate::recovery::Recovery;

/// The figures of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) profile: &'static str,
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    pub(crate) rate: u32,
    /// Cores of the machine.
    pub(crate) cores: usize,
    /// Tasks that were accepted.
    pub(crate) accepted: usize,
    /// Tasks whose calls got no answer, under ids that nobody knows.
    pub(crate) maybe: u64,
    /// Accepted tasks by their terminal state.
    pub(crate) terminal: BTreeMap<&'static str, usize>,
    /// Accepted and lost tasks by what their receipts said.
    pub(crate) levels: BTreeMap<&'static str, Level>,
    /// Tasks whose receipts said what covers every fault of this profile.
    pub(crate) covered: usize,
    /// Accepted tasks that are gone without a reason.
    pub(crate) lost: usize,
    /// Accepted tasks that a death of Redis took before they were synced or copied, as their receipts allowed.
    pub(crate) lost_unsynced: usize,
    /// How long before that death the oldest of them was accepted, ms.
    pub(crate) loss_window_ms: u64,
    /// Tasks that were told to have ended twice without a reason.
    pub(crate) two_ends: usize,
    /// Ends that a death of Redis took before they were synced or copied, so that their tasks ended again.
    pub(crate) rolled_back: usize,
    /// Runs that began.
    pub(crate) runs: usize,
    /// Executions that were too many.
    pub(crate) duplicated: usize,
    /// These by their reason.
    pub(crate) duplicates: BTreeMap<&'static str, usize>,
    pub(crate) stale_refused: u64,
    pub(crate) stale_accepted: usize,
    pub(crate) jobs: usize,
    /// Jobs that a death of Redis took, as [`Self::lost_unsynced`].
    pub(crate) jobs_lost_unsynced: usize,
    pub(crate) recoveries: Vec<Recovery>,
    /// Promises that did not hold.
    pub(crate) violations: Vec<String>,
}

/// Tasks with one sort of receipt.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Level {
    pub(crate) accepted: usize,
    pub(crate) lost: usize,
}

impl Report {
    /// An empty one for this run.
    pub(crate) fn of(args: &Args) -> Self {
        Self {
            profile: args.profile.name(),
            seed: args.seed,
            minutes: args.minutes,
            rate: args.rate,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            ..Self::default()
        }
    }

    /// The failover that took the servers longest, ms.
    pub(crate) fn slowest_failover(&self) -> Option<u64> {
        self.recoveries.iter().filter_map(|recovery| recovery.failover_ms).max()
    }

    /// Of the recoveries that were seen the one that took longest.
    pub(crate) fn slowest(&self) -> Option<&Recovery> {
        let seen = self.recoveries.iter().filter(|recovery| recovery.is_seen());
        seen.max_by_key(|recovery| recovery.ms)
    }

    /// How many recoveries were not seen before the next fault, or the end.
    pub(crate) fn unseen(&self) -> usize {
        self.recoveries.iter().filter(|recovery| !recovery.is_seen()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, seed, .. } = self;
        writeln!(
            f,
            "profile {profile}, seed {seed}, {} minutes, {} cores",
            self.minutes, self.cores
        )?;
        writeln!(f, "accepted {}, without an answer {}", self.accepted, self.maybe)?;
        writeln!(f, "ended {:?}", self.terminal)?;
        writeln!(
            f,
            "lost {}, taken by a death of Redis before they were kept {} (accepted up to {} ms before)",
            self.lost, self.lost_unsynced, self.loss_window_ms
        )?;
        for (level, Level { accepted, lost }) in &self.levels {
            writeln!(f, "at level {level}: accepted {accepted}, lost {lost}")?;
        }
        writeln!(f, "two ends {}, ends rolled back {}", self.two_ends, self.rolled_back)?;
        writeln!(
            f,
            "runs {}, executed too often {} {:?}",
            self.runs, self.duplicated, self.duplicates
        )?;
        writeln!(
            f,
            "stale writes: refused {}, accepted {}",
            self.stale_refused, self.stale_accepted
        )?;
        writeln!(
            f,
            "jobs {}, taken by a death of Redis {}",
            self.jobs, self.jobs_lost_unsynced
        )?;
        for recovery in &self.recoveries {
            writeln!(f, "recovered from {recovery}")?;
        }
        writeln!(
            f,
            "recoveries: {}, not seen before the next fault or the end {}",
            self.recoveries.len(),
            self.unseen()
        )?;
        for violation in &self.violations {
            writeln!(f, "BROKEN: {violation}")?;
        }
        if self.violations.is_empty() {
            f.write_str("every promise held")
        } else {
            write!(f, "repeat with --profile {profile} --seed {seed}")
        }
    }
}
