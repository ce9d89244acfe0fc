//! The fan-in of a map-reduce job: chunks are mapped, and the last of them sets its reduce going, once.
//!
//! `job` is the record and the functions that change it, `world` the consumers, the maintainer and people around
//! it. A job here has one reduce over all its chunks; a tree is more of the same step.

mod job;
mod world;

pub use world::{Action, FanIn, State};

/// A fault of the protocol, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A map that is done is counted without a look at whether it is still wanted.
    BareCounter,
    /// What a consumer says of a task that it does not hold any more counts.
    NoFence,
    /// Ids of tasks do not tell the starts of a job apart.
    NoEpoch,
    /// The reduce is added with another call than the one that settles the last map.
    TwoStepReduce,
    /// A copy that fails decides, although the other one still runs.
    TwinForgotten,
    /// A chunk that is lost is left out at once, and not when all others are done.
    AcceptEarly,
    /// A retry runs lost chunks again and still counts them as lost.
    RetryKeepsLost,
    /// What ran when a job ended is not run again by its retry.
    DropForgets,
    /// A task that somebody purged is waited for.
    NoAudit,
}
