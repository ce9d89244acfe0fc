//! Everything that doctor can find: its word, what it means, how it can come about, what repair does.
//!
//! Invariant: each has all three sentences. Nothing here looks.

use serde::Serialize;

/// Sorts of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ailment {
    /// A field of the queue's state that no function can have written.
    BadState,
    /// A counter that is no number.
    BadCounter,
    /// A total below what is there.
    Drifted,
    /// A consumer's name that no consumer can have.
    BadConsumer,
    /// A lease that ends later than any can.
    EndlessLease,
    /// An idle consumer that does not exist.
    Parked,
    /// Tasks held by a consumer without a session.
    Orphaned,
    /// What is left of a consumer's session.
    LeftSession,
    /// A place without a task.
    NoTask,
    /// A task that is nowhere.
    NoPlace,
    /// A task in several places.
    TwoPlaces,
    /// A live task that has a result.
    Ended,
    /// A score that no function makes.
    BadScore,
    /// A result that would never go.
    NoIndex,
    /// An entry of a result that is not there.
    NoResult,
    /// What belongs to a task that has gone.
    Leftover,
    /// A task that this release cannot read.
    Unreadable,
    /// A result that this release cannot read.
    UnreadableResult,
    /// A step that no job wants.
    Stray,
    /// A step that its job wants and does not list.
    Unlisted,
    /// A step of a job without its task.
    NoStep,
    /// Parts of a job that has no record.
    GhostJob,
    /// A job that no maintainer looks at.
    UntendedJob,
    /// Counts of a job that do not match its sets.
    JobCounts,
    /// A job of which nothing runs, waits or is to come.
    JobStuck,
    /// A job that has lost the output of a step that is done.
    LostOutput,
    /// A job that has lost the description of a chunk that has not ended.
    LostChunk,
    /// A job whose record cannot be read.
    DamagedJob,
    /// A key that should go by itself and would not.
    NoTtl,
    /// A key of another type than it must have.
    WrongType,
    /// A key that is no part of the protocol.
    Foreign,
}

const BY_HAND: &str = "somebody wrote to the key by hand, or with a client that does not keep to the protocol";
const HALF_RESTORED: &str = "keys were deleted, evicted (maxmemory-policy must be noeviction) or restored one by one";
const NONE: &str = "none";

/// One of them with its word and its sentences.
#[derive(Debug, Clone, Copy)]
struct Row {
    ailment: Ailment,
    word: &'static str,
    what: &'static str,
    cause: &'static str,
    repair: &'static str,
}

const fn row(
    ailment: Ailment,
    word: &'static str,
    what: &'static str,
    cause: &'static str,
    repair: &'static str,
) -> Row {
    Row {
        ailment,
        word,
        what,
        cause,
        repair,
    }
}

/// In the order of [`Ailment`].
const TABLE: [Row; 31] = [
    row(
        Ailment::BadState,
        "bad-state",
        "a field of the queue's state is no number it can have; enqueue, claim or heartbeat fail, or tokens stop to grow",
        BY_HAND,
        "the sequence becomes that of the last pending task, the token Redis' clock; other fields are removed, and set by the next heartbeat",
    ),
    row(
        Ailment::BadCounter,
        "bad-counter",
        "a counter of the statistics is no number; calls that count fail after they have done their work",
        BY_HAND,
        "the counter is removed and begins anew",
    ),
    row(
        Ailment::Drifted,
        "drifted",
        "a total of the statistics is less than what it counts: than the sum of its kinds, or than the tasks that are there or have ended",
        "a field of the statistics was deleted or set by hand",
        "the total becomes the least that it can be",
    ),
    row(
        Ailment::BadConsumer,
        "bad-consumer",
        "a consumer is registered under a name that none can have; nobody will ever reclaim from it",
        BY_HAND,
        "its registration is removed",
    ),
    row(
        Ailment::EndlessLease,
        "endless-lease",
        "a session lease ends later than any can; if its consumer is dead, its tasks are held for ever",
        "Redis' clock was far ahead for a while, or somebody wrote to the key by hand",
        "the lease ends in a minute, unless its consumer renews it",
    ),
    row(
        Ailment::Parked,
        "parked",
        "an idle consumer waits to be woken that has no session; each costs a wake-up one try of five",
        HALF_RESTORED,
        "it is taken from those that wait",
    ),
    row(
        Ailment::Orphaned,
        "orphaned",
        "tasks are held by a consumer without a session: nobody runs them, and nobody will reclaim them",
        HALF_RESTORED,
        "they are pending again, in their old order, without burning an attempt",
    ),
    row(
        Ailment::LeftSession,
        "left-session",
        "the key of a session is here and the session is not; it would stay for ever",
        HALF_RESTORED,
        "the key is removed",
    ),
    row(
        Ailment::NoTask,
        "no-task",
        "an id stands in pending, scheduled, failed or with a consumer, and there is no such task",
        HALF_RESTORED,
        "the id is taken from its place; what the task was is lost",
    ),
    row(
        Ailment::NoPlace,
        "no-place",
        "a task is here and stands nowhere: not pending, scheduled, failed, nor with a consumer; it would never run",
        HALF_RESTORED,
        "it is pending, behind the others of its priority; it may have run before",
    ),
    row(
        Ailment::TwoPlaces,
        "two-places",
        "a task stands in more than one place; it could run twice, or run and be a dead letter",
        BY_HAND,
        "one place stays: with a consumer (the newest claim), else pending, scheduled, failed",
    ),
    row(
        Ailment::Ended,
        "ended",
        "a task is alive and has ended, too: its result is here",
        HALF_RESTORED,
        "the end stands; the live task is removed, and a consumer that runs it will be refused",
    ),
    row(
        Ailment::BadScore,
        "bad-score",
        "a score is infinite, negative or otherwise none that a function makes; the task or result would never be due",
        BY_HAND,
        "pending: behind the others of its priority; scheduled: due now; failed: as of now; a result: for another hour",
    ),
    row(
        Ailment::NoIndex,
        "no-index",
        "a result has no entry that says when it goes; it would stay for ever",
        HALF_RESTORED,
        "it goes in an hour",
    ),
    row(
        Ailment::NoResult,
        "no-result",
        "an entry says when a result goes that is not here",
        HALF_RESTORED,
        "the entry is removed",
    ),
    row(
        Ailment::Leftover,
        "leftover",
        "counters, an expiry or waiters belong to a task that is not here",
        HALF_RESTORED,
        "they are removed",
    ),
    row(
        Ailment::Unreadable,
        "unreadable",
        "a stored task is in a form that this release cannot read",
        "a newer release stored it, or somebody wrote it by hand",
        "none: a newer release may read it; else cancel it, `workyard cancel ID`",
    ),
    row(
        Ailment::UnreadableResult,
        "unreadable-result",
        "a stored result is in a form that this release cannot read",
        "a newer release stored it, or somebody wrote it by hand",
        "none: a newer release may read it; it goes with its retention, or by `workyard delete ID`",
    ),
    row(
        Ailment::Stray,
        "stray",
        "a step of a map-reduce job is here that its job, if there is one, does not know; its outcome would be refused",
        HALF_RESTORED,
        "the step is removed",
    ),
    row(
        Ailment::Unlisted,
        "unlisted",
        "a step is here that its job needs and does not list as live; its output would be refused, and the job would not go on",
        HALF_RESTORED,
        "it is listed again",
    ),
    row(
        Ailment::NoStep,
        "no-step",
        "a job waits for a step whose task is not here",
        "it was purged or deleted by hand, or keys were restored one by one; served queues fail it within seconds",
        "the task is made again from its chunk; if that is not here either, the chunk has failed",
    ),
    row(
        Ailment::GhostJob,
        "ghost-job",
        "parts of a job are here and its record is not; they would stay for ever",
        HALF_RESTORED,
        "they are removed",
    ),
    row(
        Ailment::UntendedJob,
        "untended-job",
        "a job is not listed, or not due ever: no maintainer feeds it, ends it or removes it",
        HALF_RESTORED,
        "it is listed, and due now",
    ),
    row(
        Ailment::JobCounts,
        "job-counts",
        "counts in the record of a job do not match its sets; it may never go on, or end too early",
        BY_HAND,
        "the counts become those of the sets, and what waited for them goes on",
    ),
    row(
        Ailment::JobStuck,
        "job-stuck",
        "a job is not over, and nothing of it runs, waits or is to come",
        HALF_RESTORED,
        "what has left no output runs again; if nothing is left to run it from, it fails and says so",
    ),
    row(
        Ailment::LostOutput,
        "lost-output",
        "the output of a step that is done is gone, and has not been read; the reduce that misses it will fail and name it",
        HALF_RESTORED,
        "the job fails and says so, for what is done does not run again: submit it anew; one that has ended already stays as it is",
    ),
    row(
        Ailment::LostChunk,
        "lost-chunk",
        "the description of a chunk that has not ended is gone; if its task is not here, or is lost later, its map can only fail",
        HALF_RESTORED,
        "it is taken from the chunk's task, if there is one; else it stays, and the map fails when its turn comes",
    ),
    row(
        Ailment::DamagedJob,
        "damaged-job",
        "the record of a job cannot be read",
        BY_HAND,
        "none: its input cannot be told from it; `workyard job delete ID` removes what is left",
    ),
    row(
        Ailment::NoTtl,
        "no-ttl",
        "a key that goes by itself has no time to live; it would stay for ever",
        "PERSIST, or a restore without the time to live",
        "it gets the time to live that it always has",
    ),
    row(
        Ailment::WrongType,
        "wrong-type",
        "a key of the protocol has another type than it must have; every call that needs it fails, and the queue is not looked at further",
        "another program uses the same prefix, or somebody wrote to the key by hand",
        "none: it may be somebody's data; RENAME or DEL it",
    ),
    row(
        Ailment::Foreign,
        "foreign",
        "a key below the prefix is no part of this protocol",
        "another program uses the same prefix, or another version of Workyard stored it",
        "none: it may be somebody's data; RENAME or DEL it, or give one of the two another prefix",
    ),
];

impl Ailment {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Finds one by its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.word == word).map(|row| row.ailment)
    }

    /// Its word, as JSON and the functions have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// What it is, in a sentence.
    #[must_use]
    pub fn what(self) -> &'static str {
        self.row().what
    }

    /// How it can come about.
    #[must_use]
    pub fn cause(self) -> &'static str {
        self.row().cause
    }

    /// What repair does.
    #[must_use]
    pub fn repair(self) -> &'static str {
        self.row().repair
    }

    /// Whether repair mends it.
    #[must_use]
    pub fn is_curable(self) -> bool {
        !self.repair().starts_with(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_its_word_once_and_all_its_sentences() {
        for (n, row) in TABLE.iter().enumerate() {
            let ailment = row.ailment;
            assert_eq!(ailment as usize, n, "the order of the table");
            assert_eq!(Ailment::parse(ailment.word()), Some(ailment));
            assert_eq!(
                serde_json::to_string(&ailment).unwrap(),
                format!("\"{}\"", ailment.word())
            );
            for sentence in [ailment.what(), ailment.cause(), ailment.repair()] {
                assert!(sentence.len() > 10 && !sentence.ends_with('.'), "{sentence}");
            }
        }
    }
}
