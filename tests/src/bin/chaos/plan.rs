//! Which fault comes when: a schedule that a seed decides.
//!
//! Invariant: the same seed, length and kinds give the same schedule. Every kind comes once before any comes again, one
//! fault is over before the next begins, and behind each there is a time without, in which everything has to recover.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

/// A sort of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Consumers are killed, and started again
    KillConsumers,
    /// Consumers are told to end, and started again when they have: a deploy
    Deploy,
    /// A consumer is frozen for longer than its lease, and goes on
    Freeze,
    /// Redis is killed, and started again
    KillRedis,
    /// Redis loses power: its log ends where it was last synced
    PowerLoss,
    /// Redis loses power, and all consumers with it
    PowerLossOfAll,
    /// A consumer is frozen for longer than its lease, and Redis is killed and started again meanwhile
    FreezeOverRestart,
    /// Redis is killed, and loads its data slowly
    SlowLoad,
    /// Redis reaches its maxmemory
    OutOfMemory,
    /// The disk of Redis is full
    DiskFull,
    /// Replies are lost after their calls were applied
    DropReplies,
    /// Replies are cut in the middle of a frame
    CutReplies,
    /// All connections are closed at once, again and again
    CutConnections,
    /// The network is slow
    Delay,
    /// The network stands still, and delivers later
    Stall,
    /// The network swallows everything, and connections stay open
    BlackHole,
    /// The wall clock of a consumer is set wrong, and right again
    MoveClock,
    /// The functions are removed from Redis, again and again
    FlushFunctions,
    /// The master is killed, a replica takes its place, and the former master comes back
    KillMaster,
    /// As kill-master, and consumers are killed with it; they start again while there is no master
    KillMasterAndConsumers,
    /// The master stands still until a replica has its place, and then goes on as if it had it still
    FreezeMaster,
    /// A replica is told to take the place of the master, which lives on
    FailOver,
    /// The replica is killed, and started again: nothing is confirmed meanwhile
    KillReplica,
    /// The connections of replicas are closed, again and again
    CutReplication,
    /// The slot of the queue moves to another master, key by key
    MoveSlot,
}

/// Whose network is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The producers'.
    Producers,
    /// One consumer's: a number, to be taken modulo how many there are.
    Consumer(usize),
    /// Everybody's.
    All,
}

/// A fault with its measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// When it begins, from the start of the load.
    pub(crate) at: Duration,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// What happens.
    pub(crate) kind: Kind,
    /// To whom, if it is a fault of the network.
    pub(crate) side: Side,
    /// Which consumer, as in [`Side::Consumer`], or how many.
    pub(crate) which: usize,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(f, "{at:6.1} s  {} for {lasts:.1} s", self.name())?;
        match (self.kind, self.side) {
            (Kind::KillConsumers | Kind::Deploy, _) => write!(f, " ({})", self.victims()),
            (Kind::KillMaster, _) => write!(f, " (its replica is {:?} behind)", self.lag()),
            (Kind::KillMasterAndConsumers, _) => {
                write!(f, " (its replica is {:?} behind; {})", self.lag(), self.victims())
            }
            (Kind::Freeze | Kind::FreezeOverRestart | Kind::MoveClock, _) => write!(f, " (consumer {})", self.which),
            (kind, Side::Producers) if kind.is_of_network() => f.write_str(" (producers)"),
            (kind, Side::Consumer(n)) if kind.is_of_network() => write!(f, " (consumer {n})"),
            (kind, Side::All) if kind.is_of_network() => f.write_str(" (all)"),
            _ => Ok(()),
        }
    }
}

impl Step {
    /// The name of its kind, as in `--faults`.
    pub(crate) fn name(&self) -> String {
        self.kind.name()
    }

    /// For how long a replica was cut off before its master dies.
    pub(crate) fn lag(&self) -> Duration {
        Duration::from_millis(self.which as u64 % 8 * 100)
    }

    /// How many consumers are killed, or told to end.
    pub(crate) fn victims(&self) -> usize {
        1 + self.which % 3
    }
}

impl Kind {
    /// Its name, as in `--faults`.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn is_of_network(self) -> bool {
        matches!(
            self,
            Self::DropReplies | Self::CutReplies | Self::CutConnections | Self::Delay | Self::Stall | Self::BlackHole
        )
    }

    /// How long it lasts, in ms.
    fn span(self) -> std::ops::Range<u64> {
        match self {
            // A deploy: from when they have ended on.
            Self::KillConsumers | Self::Deploy | Self::KillRedis | Self::PowerLoss | Self::PowerLossOfAll => 100..3_000,
            // The lease is 3 s.
            Self::Freeze | Self::FreezeOverRestart => 4_200..7_000,
            Self::SlowLoad | Self::OutOfMemory | Self::DiskFull | Self::FlushFunctions => 2_000..4_000,
            Self::MoveClock => 3_000..6_000,
            Self::DropReplies | Self::CutReplies | Self::CutConnections => 1_500..3_000,
            Self::Delay | Self::Stall | Self::BlackHole => 2_000..6_000,
            // A failover takes some six seconds, and is over before the former master comes back.
            Self::KillMaster | Self::KillMasterAndConsumers | Self::FreezeMaster => 7_000..11_000,
            Self::FailOver => 500..1_000,
            Self::KillReplica | Self::CutReplication => 2_000..5_000,
            // For so long it is half-moved.
            Self::MoveSlot => 100..1_500,
        }
    }

    /// How much longer it takes until the servers are again what they were: the former master has the data of the new one.
    fn settling(self) -> Duration {
        Duration::from_secs(match self {
            // A sentinel looks on for 8 s and more while a former master calls itself one, before it makes a replica of it.
            Self::KillMaster | Self::KillMasterAndConsumers | Self::FreezeMaster | Self::FailOver => 13,
            Self::KillReplica | Self::MoveSlot => 3,
            Self::CutReplication => 1,
            _ => 0,
        })
    }
}

/// From here on a run is long enough to let everything recover for 10 s behind each fault.
const LONG: Duration = Duration::from_secs(100);

/// The schedule of a run of this length.
pub(crate) fn plan(seed: u64, total: Duration, kinds: &[Kind]) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let quiet_ms = if total >= LONG { 10_500..12_500 } else { 1_000..2_000 };
    let (mut steps, mut deck) = (Vec::new(), Vec::new());
    // First a while in which the load settles in: long tasks run everywhere.
    let mut at = Duration::from_secs(3);
    while !kinds.is_empty() {
        if deck.is_empty() {
            deck = kinds.to_vec();
            rng.shuffle(&mut deck);
        }
        let Some(kind) = deck.pop() else { break };
        let step = Step {
            at,
            lasts: Duration::from_millis(rng.u64(kind.span())),
            kind,
            side: [Side::Producers, Side::Consumer(rng.usize(..100)), Side::All][rng.usize(..3)],
            which: rng.usize(..100),
        };
        let quiet = Duration::from_millis(rng.u64(quiet_ms.clone()));
        at += step.lasts + kind.settling() + quiet;
        // The last one, too, is followed by load that shows whether it was survived.
        if at > total {
            break;
        }
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn five_minutes(profile: Profile, seed: u64) -> Vec<Step> {
        plan(seed, Duration::from_secs(300), &profile.kinds().collect::<Vec<_>>())
    }

    #[test]
    fn a_seed_decides_the_schedule() {
        let [first, again, other] = [7, 7, 8].map(|seed| five_minutes(Profile::Cluster, seed));
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn five_minutes_have_every_kind_and_time_to_recover_behind_each() {
        for (seed, profile) in (0..200).flat_map(|seed| Profile::value_variants().iter().map(move |of| (seed, *of))) {
            let steps = five_minutes(profile, seed);
            for kind in profile.kinds() {
                assert!(
                    steps.iter().any(|step| step.kind == kind),
                    "{profile:?}, seed {seed} has no {kind:?}"
                );
            }
            for pair in steps.windows(2) {
                let quiet = pair[1].at - (pair[0].at + pair[0].lasts + pair[0].kind.settling());
                assert!(quiet >= Duration::from_millis(10_500), "seed {seed}: {quiet:?}");
            }
        }
    }

    #[test]
    fn a_short_run_has_the_kinds_that_it_is_asked_for() {
        let kinds = [Kind::Freeze, Kind::KillRedis];
        let steps = plan(1, Duration::from_secs(15), &kinds);
        assert!(
            kinds.iter().all(|kind| steps.iter().any(|step| step.kind == *kind)),
            "{steps:?}"
        );
    }
}
