//! What can happen to a queue, as values that proptest makes and shrinks.
//!
//! Numbers pick from what there is at that moment, modulo its count: so any part of a sequence is a sequence, too.

use proptest::collection::vec;
use proptest::prelude::*;

/// A new task.
#[derive(Debug, Clone)]
pub struct Spec {
    pub id: u8,
    pub kind: u8,
    pub priority: Option<u8>,
    pub max_attempts: Option<u32>,
    pub keeps: bool,
    pub delayed: bool,
    pub expiry: Expiry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Never,
    /// It has passed when the call returns.
    Past,
    Far,
}

/// How a consumer settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Complete,
    /// With a delay of the handler's own, or the backoff.
    Retry {
        now: bool,
    },
    Final,
    Release {
        delayed: bool,
    },
    Unhandled,
}

#[derive(Debug, Clone)]
pub enum Op {
    Enqueue {
        producer: u8,
        awaited: bool,
        tasks: Vec<Spec>,
    },
    /// The reply of the producer's last call was lost: it comes again.
    Resend {
        producer: u8,
    },
    /// A number that was superseded.
    Outdated {
        producer: u8,
    },
    Claim {
        by: u8,
        most: u8,
        park: bool,
        lost: bool,
    },
    /// `of`: whose grants; mostly its own, else somebody else's tokens under this name.
    Settle {
        by: u8,
        of: u8,
        how: How,
        picks: Vec<u8>,
    },
    /// The settle that was `back` before the last one of its sort comes again, with its number.
    Resettle {
        by: u8,
        back: u8,
    },
    Progress {
        by: u8,
        of: u8,
        pick: u8,
    },
    /// It says which suspect it starts, or that others start beside it now.
    Try {
        by: u8,
        of: u8,
        pick: u8,
        beside: bool,
    },
    Beat {
        by: u8,
    },
    /// A process starts: a new session.
    Join,
    /// A consumer dies, maybe of what it said last that it starts, is found out, and another process starts.
    Die {
        of: u8,
        tries: bool,
        beside: bool,
    },
    EndLease {
        of: u8,
    },
    /// Nobody was heard of for longer than a lease.
    Silence,
    /// The lease that is granted after a silence has passed.
    GraceOver,
    Dead,
    Reclaim {
        of: u8,
    },
    Leave {
        by: u8,
    },
    Unpark {
        by: u8,
    },
    Promote {
        most: u8,
    },
    /// Time passes: all that is scheduled is due.
    AllDue,
    /// Time passes: the task's expiry, if it has one, is over.
    Expire {
        id: u8,
    },
    Sweep,
    /// Time passes: all results have outlived their retention.
    ResultsOld,
    Cancel {
        id: u8,
    },
    Requeue {
        ids: Vec<u8>,
    },
    Delete {
        ids: Vec<u8>,
    },
    Purge {
        place: u8,
    },
    Pause {
        on: bool,
    },
    Wait {
        id: u8,
    },
}

/// Ids in use: few, so that they meet again.
pub const IDS: u8 = 10;

fn spec() -> impl Strategy<Value = Spec> {
    (
        0..IDS,
        0..2_u8,
        prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(250))],
        prop_oneof![3 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(5))],
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
        prop_oneof![6 => Just(Expiry::Never), 1 => Just(Expiry::Past), 3 => Just(Expiry::Far)],
    )
        .prop_map(|(id, kind, priority, max_attempts, keeps, delayed, expiry)| Spec {
            id,
            kind,
            priority,
            max_attempts,
            keeps,
            delayed,
            expiry,
        })
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::Complete),
        3 => any::<bool>().prop_map(|now| How::Retry { now }),
        1 => Just(How::Final),
        2 => prop::bool::weighted(0.3).prop_map(|delayed| How::Release { delayed }),
        1 => Just(How::Unhandled),
    ]
}

/// One of the tasks that were received, the newest first: mostly one that is still held.
fn pick() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0), 2 => Just(1), 2 => 0..6_u8]
}

/// A consumer: few, so that they meet over a task.
fn who() -> std::ops::Range<u8> {
    0..4
}

fn settle() -> impl Strategy<Value = Op> {
    (who(), prop::option::weighted(0.15, who()), how(), vec(pick(), 1..4)).prop_map(|(by, of, how, picks)| Op::Settle {
        by,
        of: of.unwrap_or(by),
        how,
        picks,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let ids = || vec(0..IDS, 1..3);
    let tasks = prop_oneof![
        14 => (0..2_u8, any::<bool>(), vec(spec(), 1..4))
            .prop_map(|(producer, awaited, tasks)| Op::Enqueue { producer, awaited, tasks }),
        4 => (0..2_u8).prop_map(|producer| Op::Resend { producer }),
        1 => (0..2_u8).prop_map(|producer| Op::Outdated { producer }),
        3 => (0..IDS).prop_map(|id| Op::Cancel { id }),
        3 => ids().prop_map(|ids| Op::Requeue { ids }),
        2 => ids().prop_map(|ids| Op::Delete { ids }),
        1 => (0..4_u8).prop_map(|place| Op::Purge { place }),
        2 => prop::bool::weighted(0.2).prop_map(|on| Op::Pause { on }),
        2 => (0..IDS).prop_map(|id| Op::Wait { id }),
    ];
    let consumers = prop_oneof![
        20 => (who(), 1..4_u8, any::<bool>(), prop::bool::weighted(0.25))
            .prop_map(|(by, most, park, lost)| Op::Claim { by, most, park, lost }),
        20 => settle(),
        7 => (who(), 0..2_u8).prop_map(|(by, back)| Op::Resettle { by, back }),
        2 => (who(), who(), pick()).prop_map(|(by, of, pick)| Op::Progress { by, of, pick }),
        5 => (who(), prop::option::weighted(0.15, who()), pick(), prop::bool::weighted(0.4))
            .prop_map(|(by, of, pick, beside)| Op::Try { by, of: of.unwrap_or(by), pick, beside }),
        4 => who().prop_map(|by| Op::Beat { by }),
        6 => (who(), prop::bool::weighted(0.6), any::<bool>()).prop_map(|(of, tries, beside)| Op::Die { of, tries, beside }),
        4 => Just(Op::Join),
        5 => who().prop_map(|of| Op::EndLease { of }),
        2 => who().prop_map(|by| Op::Leave { by }),
        2 => who().prop_map(|by| Op::Unpark { by }),
    ];
    let maintainer = prop_oneof![
        1 => Just(Op::Silence),
        2 => Just(Op::GraceOver),
        1 => Just(Op::Dead),
        8 => who().prop_map(|of| Op::Reclaim { of }),
        5 => (1..4_u8).prop_map(|most| Op::Promote { most }),
        3 => Just(Op::AllDue),
        4 => (0..IDS).prop_map(|id| Op::Expire { id }),
        4 => Just(Op::Sweep),
        1 => Just(Op::ResultsOld),
    ];
    prop_oneof![4 => tasks, 7 => consumers, 2 => maintainer]
}

/// Sequences of things that happen.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..160)
}
