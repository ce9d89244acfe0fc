//! What the loops of a worker say to each other.

use std::time::Duration;

use workyard_shared::name::SessionId;

/// News for the lane of one queue.
#[derive(Debug)]
pub(crate) enum LaneEvent {
    /// This consumer is registered under this id: claim with it. An earlier one is lost.
    Session(SessionId),
    /// There may be work.
    Work,
    /// A task that this consumer runs was cancelled.
    Cancel(String),
    /// The shared connection was lost: subscriptions are gone.
    Disconnected,
}

/// Set by a lane before it leaves its queue: the pulse must not renew, or begin anew, what is over.
pub(crate) type Over = std::sync::Arc<std::sync::atomic::AtomicBool>;

/// News for the maintenance loop of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Duty {
    /// A heartbeat was answered: whether we are the maintainer, and when something is due.
    Beat { maintainer: bool, due_in: Option<Duration> },
    /// A task is due earlier than expected.
    Due,
    /// The consumers should be compared at once.
    Look,
    /// A job should be looked after at once.
    Jobs,
}
