//! The fan-in of a job, checked exhaustively; and each known fault, found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use workyard_model::explore;
use workyard_model::fan_in::{FanIn, Mutant};

/// Two chunks, of which one may be lost.
const SMALL: FanIn = FanIn {
    maps: 2,
    consumers: 2,
    allow: 1,
    failures: 1,
    crashes: 1,
    freezes: 0,
    lost_replies: 1,
    cancels: 1,
    retries: 1,
    purges: 0,
    backups: 0,
    mutant: None,
};

/// Copies of slow steps, and people who purge.
const COPIES: FanIn = FanIn {
    lost_replies: 0,
    crashes: 0,
    purges: 1,
    backups: 1,
    ..SMALL
};

/// A consumer that was frozen beyond its lease settles late, once a copy too.
const FROZEN: FanIn = FanIn {
    crashes: 0,
    freezes: 1,
    ..SMALL
};
const FROZEN_COPY: FanIn = FanIn {
    freezes: 1,
    purges: 0,
    cancels: 0,
    ..COPIES
};

/// No chunk may be lost.
const STRICT: FanIn = FanIn {
    allow: 0,
    failures: 2,
    purges: 1,
    cancels: 0,
    ..SMALL
};

fn holds(name: &str, model: FanIn) {
    let report = explore(&model);
    println!("{name}: {report}");
    assert_eq!(report.broken, None);
}

fn is_found(mutant: Mutant) {
    let found = [COPIES, STRICT, SMALL, FROZEN].into_iter().any(|model| {
        let mutant = Some(mutant);
        let report = explore(&FanIn { mutant, ..model });
        println!("{mutant:?}: {report}");
        report.broken.is_some()
    });
    assert!(found, "{mutant:?} was not found");
}

#[test]
fn a_job_that_may_lose_a_chunk_reduces_once_and_ends() {
    holds("small", SMALL);
}

#[test]
fn a_job_with_copies_and_purged_tasks_reduces_once_and_ends() {
    holds("copies", COPIES);
}

#[test]
fn a_job_whose_frozen_consumer_settles_late_reduces_once_and_ends() {
    holds("frozen", FROZEN);
    holds("frozen with a copy", FROZEN_COPY);
}

#[test]
fn a_job_that_may_lose_nothing_reduces_once_and_ends() {
    holds("strict", STRICT);
}

#[test]
fn counting_what_is_not_wanted_any_more_is_found() {
    is_found(Mutant::BareCounter);
}

#[test]
fn the_word_of_a_consumer_that_lost_its_lease_is_found_if_it_counts() {
    is_found(Mutant::NoFence);
}

#[test]
fn ids_that_do_not_tell_the_starts_apart_are_found() {
    is_found(Mutant::NoEpoch);
}

#[test]
fn a_reduce_that_is_added_with_another_call_is_found() {
    is_found(Mutant::TwoStepReduce);
}

#[test]
fn a_copy_that_decides_alone_is_found() {
    is_found(Mutant::TwinForgotten);
}

#[test]
fn losses_that_are_left_out_at_once_are_found() {
    is_found(Mutant::AcceptEarly);
}

#[test]
fn a_retry_that_still_counts_what_was_lost_is_found() {
    is_found(Mutant::RetryKeepsLost);
}

#[test]
fn a_retry_that_forgets_what_ran_is_found() {
    is_found(Mutant::DropForgets);
}

#[test]
fn waiting_for_a_purged_task_is_found() {
    is_found(Mutant::NoAudit);
}
