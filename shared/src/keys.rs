//! Every key and channel of the protocol; nothing else makes one.
//!
//! Invariant: all keys of one queue partition share the hash tag `{queue}` or `{queue/partition}`,
//! so that a call never leaves its slot, and stand in the order that `lua/prelude.lua` expects.

use std::sync::Arc;

use crate::name::{JobId, Prefix, QueueName, SessionId};

/// The shared keys, in the order of `lua/prelude.lua`.
pub const SHARED: [&str; 15] = [
    "cfg",
    "state",
    "tasks",
    "meta",
    "pending",
    "scheduled",
    "failed",
    "results",
    "done",
    "waiters",
    "parked",
    "consumers",
    "stats",
    "minutes",
    "expiring",
];

/// What the keys of a job end with, in the order of `lua/job.lua`, behind `jobs` and `jobs:due`.
pub const JOB: [&str; 10] = [
    "", ":chunks", ":live", ":data", ":tree", ":failed", ":errors", ":runs", ":out", ":again",
];

/// The keys of one queue partition.
#[derive(Debug, Clone)]
pub struct Keys {
    base: Arc<str>,
    shared: Arc<[String]>,
}

impl Keys {
    /// The keys of `queue`; partition 0 is the plain queue, `n` has the tag `{queue/n}`.
    #[must_use]
    pub fn new(prefix: &Prefix, queue: &QueueName, partition: u16) -> Self {
        let base = match partition {
            0 => format!("{prefix}:{{{queue}}}:"),
            n => format!("{prefix}:{{{queue}/{n}}}:"),
        };
        let shared = SHARED.iter().map(|name| format!("{base}{name}")).collect();
        Self {
            base: base.into(),
            shared,
        }
    }

    /// The 15 keys that every function takes first.
    #[must_use]
    pub fn shared(&self) -> &[String] {
        &self.shared
    }

    /// One key of this partition by its short name.
    #[must_use]
    pub fn named(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    /// Hash of what a consumer holds: id to token and score.
    #[must_use]
    pub fn running(&self, consumer: &SessionId) -> String {
        format!("{}running:{consumer}", self.base)
    }

    /// Hash of a consumer's last token and last answers.
    #[must_use]
    pub fn session(&self, consumer: &SessionId) -> String {
        format!("{}session:{consumer}", self.base)
    }

    /// List of what a consumer must hear with its next heartbeat.
    #[must_use]
    pub fn notices(&self, consumer: &SessionId) -> String {
        format!("{}notices:{consumer}", self.base)
    }

    /// The last answered batch of a producer session; lives an hour.
    #[must_use]
    pub fn producer(&self, session: &SessionId) -> String {
        format!("{}producer:{session}", self.base)
    }

    /// List that any Redis client pushes JSON envelopes to.
    #[must_use]
    pub fn inbox(&self) -> String {
        self.named("inbox")
    }

    /// List between inbox and tasks: what the ingester's wait has moved.
    #[must_use]
    pub fn ingesting(&self) -> String {
        self.named("inbox:ingesting")
    }

    /// Capped list of refused inbox items with their reasons.
    #[must_use]
    pub fn rejected(&self) -> String {
        self.named("rejected")
    }

    /// A key that never exists, behind all others of a call in a cluster. While a slot moves key by key, its node
    /// refuses calls of which it lacks a key, and a function that it runs all the same fails at a key that goes while
    /// it runs: half-way. With this key among its own, none runs until the slot has arrived.
    #[must_use]
    pub fn guard(&self) -> String {
        self.named("guard")
    }

    /// Capped stream of what operators did.
    #[must_use]
    pub fn audit(&self) -> String {
        self.named("audit")
    }

    /// One key of a job: its record (`""`), or what belongs to it (`":chunks"`).
    #[must_use]
    pub fn job_key(&self, job: &JobId, part: &str) -> String {
        format!("{}job:{job}{part}", self.base)
    }

    /// The folder of a job's files below its spill place: `<prefix>.<queue>.<job>`. Jobs of other queues have others, and
    /// whoever uses the place for something else has none of such a name: it is removed with all that is in it.
    #[must_use]
    pub fn spill_folder(&self, job: &JobId) -> String {
        folder(&self.base, job.as_str())
    }

    /// The keys that every function of jobs takes behind the shared ones.
    #[must_use]
    pub fn job(&self, job: &JobId) -> Vec<String> {
        let mut keys = vec![self.named("jobs"), self.named("jobs:due")];
        keys.extend(JOB.iter().map(|part| self.job_key(job, part)));
        keys
    }

    /// Shard channel on which a consumer is woken.
    #[must_use]
    pub fn wake_channel(&self, consumer: &SessionId) -> String {
        format!("{}wake:{consumer}", self.base)
    }

    /// Shard channel on which a waiter hears of ends.
    #[must_use]
    pub fn done_channel(&self, waiter: &SessionId) -> String {
        format!("{}done:{waiter}", self.base)
    }

    /// Shard channel of every end, while somebody follows.
    #[must_use]
    pub fn finished_channel(&self) -> String {
        self.named("finished")
    }
}

fn folder(base: &str, job: &str) -> String {
    let queue = base.chars().filter_map(|c| match c {
        '{' | '}' => None,
        ':' | '/' => Some('.'),
        other => Some(other),
    });
    queue.chain(job.chars()).collect()
}

/// The folder that [`Keys::spill_folder`] names, by the key of the job's result; `None` if that is none.
#[must_use]
pub fn spill_folder_of_result(key: &str, job: &str) -> Option<String> {
    let base = key.strip_suffix(":out")?.strip_suffix(job)?.strip_suffix("job:")?;
    Some(folder(base, job))
}

/// The health key of a consumer, a plain JSON string with a TTL.
#[must_use]
pub fn health(prefix: &Prefix, consumer: &SessionId) -> String {
    format!("{prefix}:consumer:{consumer}")
}

/// The set of queue names seen by a producer library or a consumer.
#[must_use]
pub fn queues(prefix: &Prefix) -> String {
    format!("{prefix}:queues")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_the_order_that_the_lua_prelude_names() {
        let prelude = include_str!("../lua/prelude.lua");
        let names: Vec<String> = prelude
            .lines()
            .filter(|line| line.starts_with("local CFG,") || line.starts_with("local DONE,"))
            .flat_map(|line| {
                let names = line
                    .trim_start_matches("local ")
                    .split(" = ")
                    .next()
                    .unwrap_or_default();
                names.split(", ").map(str::to_lowercase).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(names, SHARED);
    }

    #[test]
    fn a_partition_changes_the_hash_tag_and_nothing_else() {
        let queue = QueueName::new("emails").unwrap();
        let plain = Keys::new(&Prefix::default(), &queue, 0);
        let first = Keys::new(&Prefix::default(), &queue, 1);
        assert_eq!(plain.inbox(), "workyard:{emails}:inbox");
        assert_eq!(first.inbox(), "workyard:{emails/1}:inbox");
    }
}
