//! The reasons for which a task is not running.
//!
//! Invariant: a reason carries facts, not words: programs read its name and fields, the command line words it in one
//! place. How reasons are found is in `explain.rs`.

use serde::Serialize;

use crate::moment::Moment;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Something that a task waits for, or that has become of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// It has ended.
    Ended {
        /// One word for the reason of a bad end.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<Moment>,
        /// The last error.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// It was to start before then and did not; nobody has noted it yet, since no consumer looked.
    TooLate {
        /// When its time was over.
        at: Moment,
    },
    /// A consumer holds it: it runs there, or was claimed ahead and waits for a slot. Which of the two Redis does not know.
    Running {
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none")]
        consumer: Option<String>,
        /// Since when: when it was claimed.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Moment>,
    },
    /// The consumer that held it is gone: its lease is over, and a consumer of the queue takes the task back with its next look.
    HolderGone {
        /// Who.
        consumer: String,
        /// When its lease ended.
        at: Moment,
    },
    /// It is delayed.
    NotDue {
        /// Until then.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Moment>,
    },
    /// Consumers handed it back for a while: the slots of its kind are taken, or something else keeps it from starting there.
    HandedBack {
        /// Its kind.
        kind: String,
        /// How often.
        times: u32,
        /// About how many tasks of the queue wait so, this one included.
        waiting: u64,
        /// When it comes again.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Moment>,
    },
    /// It failed and will be tried again.
    Retrying {
        /// How often it has failed.
        failures: u32,
        /// How often it was handed back unharmed besides; the last of both decides when it is due.
        #[serde(skip_serializing_if = "is_zero")]
        handed_back: u32,
        /// The last error.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Not before then.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Moment>,
    },
    /// Consumers handed it back because they know no handler for its kind.
    Unhandled {
        /// Its kind.
        kind: String,
        /// How often.
        times: u32,
    },
    /// The queue is paused.
    Paused,
    /// Its kind fails everywhere: the fleet's breaker holds its tasks back, and a few probes show when it works again.
    BreakerOpen {
        /// The kind.
        kind: String,
    },
    /// No consumer of the queue is alive and well.
    NoConsumer {
        /// Those that are alive, but drain or are unhealthy.
        alive: u64,
    },
    /// Others are claimed before it.
    Queued {
        /// How many.
        ahead: u64,
        /// When its turn comes at the pace of the consumers, if that is known: what left per second in whole minutes of this backlog, else by
        /// their slots and mean run times.
        #[serde(skip_serializing_if = "Option::is_none")]
        starts_in_ms: Option<u64>,
        /// That pace, in tasks per second; there when `starts_in_ms` is.
        #[serde(skip_serializing_if = "Option::is_none")]
        drain_per_second: Option<f64>,
    },
    /// It was pushed raw and is still in the inbox.
    InInbox {
        /// How many items are before it.
        ahead: u64,
        /// The queue is at a limit, `max_pending` or `max_bytes`: the inbox waits for room.
        full: bool,
    },
}
