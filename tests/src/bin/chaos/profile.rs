//! How Redis keeps its data, and so what may be lost, and which faults there can be.

use std::time::Duration;

use clap::ValueEnum;
use workyard_producer::Durability;

use crate::ledger::Level;
use crate::plan::Kind;

/// A way to run Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// One Redis that syncs before it answers: nothing that was accepted may be lost.
    Always,
    /// One Redis that syncs once a second: what was not yet synced may be lost with its power, and nothing else.
    Everysec,
    /// A master, its replica and a sentinel: what the replica had not yet may be lost with the master, unless it was confirmed.
    Sentinel,
    /// As with a sentinel, and two replicas: one confirmation may be that of the one that does not take over, so it takes both.
    Replicas,
    /// A cluster of three masters, two of them with a replica, between which the queue moves: as with a sentinel.
    Cluster,
}

/// How far a replica may be behind: some ms as a rule, more on a machine that has no time for it, and up to 0.7 s by what
/// is done to it before its master dies.
const REPLICA_LAG: Duration = Duration::from_secs(3);

impl Profile {
    /// Its name, as an argument and in documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
            Self::Sentinel => "sentinel",
            Self::Replicas => "replicas",
            Self::Cluster => "cluster",
        }
    }

    /// Whether there are replicas that take over.
    pub(crate) fn is_replicated(self) -> bool {
        self.replicas() > 0
    }

    /// Replicas of the queue's master.
    pub(crate) fn replicas(self) -> u8 {
        match self {
            Self::Always | Self::Everysec => 0,
            Self::Sentinel | Self::Cluster => 1,
            Self::Replicas => 2,
        }
    }

    /// Arguments of each server.
    pub(crate) fn server_args(self) -> &'static [&'static str] {
        match self {
            Self::Always => &["--appendonly", "yes", "--appendfsync", "always"],
            Self::Everysec | Self::Sentinel | Self::Replicas => &["--appendonly", "yes", "--appendfsync", "everysec"],
            // As docs/cluster.md recommends it.
            Self::Cluster => &["--appendonly", "yes", "--cluster-node-timeout", "5000"],
        }
    }

    /// For how long Redis may answer without having kept, when it does not say that it has. `None`: it answers only for what
    /// is synced.
    ///
    /// One server puts off writing while a sync is slow, for two seconds at most by a clock that it reads ten times a second. A
    /// kill takes that, too. Where a replica takes over, the disk does not count: what the replica had not yet is gone.
    pub(crate) fn unkept(self) -> Option<Duration> {
        match self {
            Self::Always => None,
            Self::Everysec => Some(Duration::from_millis(2_200)),
            Self::Sentinel | Self::Replicas | Self::Cluster => Some(REPLICA_LAG),
        }
    }

    /// What producers ask for who want no fault to take their tasks.
    pub(crate) fn covering(self) -> Durability {
        match self.replicas() {
            0 => Durability::Fsync,
            all => Durability::Replicas(all.into()),
        }
    }

    /// What their receipts say.
    pub(crate) fn covering_level(self) -> Level {
        match self.replicas() {
            0 => Level::Fsync,
            1 => Level::Replica,
            _ => Level::Replicas,
        }
    }

    /// Whether no fault of this profile may take a task whose receipt says this.
    pub(crate) fn covers(self, level: Level) -> bool {
        level == self.covering_level()
    }

    /// The faults that can be made here.
    pub(crate) fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::value_variants().iter().copied().filter(move |kind| match kind {
            Kind::KillConsumers | Kind::Deploy | Kind::Freeze | Kind::CutConnections | Kind::FlushFunctions => true,
            Kind::KillMaster
            | Kind::KillMasterAndConsumers
            | Kind::FreezeMaster
            | Kind::FailOver
            | Kind::KillReplica
            | Kind::CutReplication => self.is_replicated(),
            Kind::MoveSlot => self == Self::Cluster,
            // Most of these need one Redis behind proxies: nodes and sentinels tell clients addresses that lead past any.
            Kind::KillRedis
            | Kind::MoveClock
            | Kind::PowerLoss
            | Kind::PowerLossOfAll
            | Kind::FreezeOverRestart
            | Kind::SlowLoad
            | Kind::OutOfMemory
            | Kind::DiskFull
            | Kind::DropReplies
            | Kind::CutReplies
            | Kind::Delay
            | Kind::Stall
            | Kind::BlackHole => !self.is_replicated(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_level_that_the_faults_cannot_undo_covers_them() {
        assert!(Profile::Always.covers(Level::Fsync) && Profile::Everysec.covers(Level::Fsync));
        assert!(Profile::Replicas.covers(Level::Replicas) && !Profile::Replicas.covers(Level::Replica));
        for profile in [Profile::Sentinel, Profile::Cluster] {
            assert!(profile.covers(Level::Replica));
            // The replica takes over, not the disk.
            assert!(
                ![Level::Memory, Level::Fsync, Level::Unknown]
                    .into_iter()
                    .any(|level| profile.covers(level))
            );
        }
    }
}
