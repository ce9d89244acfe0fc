//! One task's life: enqueue, claim, heartbeat, settle, promote, reclaim, cancel, under everything that can break.
//!
//! `store` is Redis and its functions, `world` the processes and the network around it, `check` what must hold.
//! What parks and wakes is in the model of wake-ups.

mod check;
mod steps;
mod store;
mod world;

pub use world::{Action, Bounds, Faults, State, Tasks};

/// A fault of the protocol, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A settle does not compare the token.
    NoFence,
    /// The token is the last one and one more, whatever Redis' clock says.
    TokenIsCounter,
    /// The token is Redis' clock, whatever the last one was.
    TokenIsClock,
    /// Promote takes the task out in one call and puts it in with another.
    TwoStepPromote,
    /// Reclaim does not look whether the session has ended.
    ReclaimUnchecked,
    /// A silence of everybody grants nobody another lease.
    NoGrace,
    /// A repeated enqueue adds the task again.
    EnqueueNotIdempotent,
    /// A repeated settle is looked at as if it were new.
    NoSettleMemory,
    /// An older settle batch takes the place of the newer answer.
    OldBatchForgets,
    /// A claim whose reply was lost is not answered again.
    NoRedelivery,
    /// A failure with no attempt left is retried all the same.
    NoLastAttempt,
    /// A consumer's death is never poison.
    NoPoison,
    /// Cancel leaves a running task with its holder.
    CancelKeepsHolder,
    /// A consumer does not look what it holds after its connection was lost.
    NoRecount,
    /// A complete takes the task out of running, and out of the tasks with another call.
    TwoStepComplete,
}
