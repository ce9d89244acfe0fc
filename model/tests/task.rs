//! The life of a task, checked exhaustively; and each known fault, found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use workyard_model::explore;
use workyard_model::task::{Bounds, Faults, Mutant, Tasks};

const PLAIN: Bounds = Bounds {
    tasks: 2,
    consumers: 2,
    failures: false,
    releases: 0,
    cancels: 0,
    faults: NONE,
};
const NONE: Faults = Faults {
    most: 0,
    crash: false,
    freeze: false,
    reply_lost: false,
    copy: false,
    outage: false,
    tail_lost: false,
    clock_back: false,
};

/// Two tasks, consumers that die and freeze.
fn deaths() -> Bounds {
    Bounds {
        faults: Faults {
            most: 2,
            crash: true,
            freeze: true,
            ..NONE
        },
        ..PLAIN
    }
}

/// Two tasks that fail and are handed back, one consumer, and a network that loses replies and brings copies.
fn network() -> Bounds {
    Bounds {
        consumers: 1,
        failures: true,
        releases: 1,
        faults: Faults {
            most: 2,
            reply_lost: true,
            copy: true,
            ..NONE
        },
        ..PLAIN
    }
}

/// One task that fails and is cancelled, two consumers, everything that happens to processes and network.
fn everything() -> Bounds {
    Bounds {
        tasks: 1,
        failures: true,
        cancels: 1,
        faults: Faults {
            most: 2,
            crash: true,
            freeze: true,
            reply_lost: true,
            copy: true,
            ..NONE
        },
        ..PLAIN
    }
}

/// Redis is away for longer than a lease.
fn outage() -> Bounds {
    Bounds {
        faults: Faults {
            most: 2,
            crash: true,
            freeze: true,
            reply_lost: true,
            outage: true,
            ..NONE
        },
        tasks: 1,
        ..PLAIN
    }
}

/// Redis loses the tail of its log.
fn tail() -> Bounds {
    Bounds {
        tasks: 1,
        faults: Faults {
            most: 2,
            crash: true,
            freeze: true,
            reply_lost: true,
            tail_lost: true,
            ..NONE
        },
        ..PLAIN
    }
}

/// Redis' clock goes back.
fn clock() -> Bounds {
    Bounds {
        tasks: 1,
        failures: true,
        faults: Faults {
            most: 3,
            freeze: true,
            reply_lost: true,
            clock_back: true,
            ..NONE
        },
        ..PLAIN
    }
}

fn holds(name: &str, bounds: Bounds) {
    let report = explore(&Tasks { bounds, mutant: None });
    println!("{name}: {report}");
    assert_eq!(report.broken, None);
}

#[test]
fn two_tasks_survive_deaths_and_frozen_consumers() {
    holds("deaths", deaths());
}

#[test]
fn two_tasks_survive_lost_replies_and_late_copies() {
    holds("network", network());
}

#[test]
fn a_task_survives_everything_that_happens_to_processes_and_network() {
    holds("everything", everything());
}

#[test]
fn a_task_survives_an_outage_and_nobody_who_lives_is_robbed() {
    holds("outage", outage());
}

#[test]
fn a_task_survives_the_loss_of_the_logs_tail() {
    holds("tail", tail());
}

#[test]
fn a_task_survives_a_clock_that_goes_back() {
    holds("clock", clock());
}

fn is_found(mutant: Mutant, bounds: Bounds) {
    let report = explore(&Tasks {
        bounds,
        mutant: Some(mutant),
    });
    println!("{mutant:?}: {report}");
    assert!(report.broken.is_some(), "{mutant:?} was not found");
}

#[test]
fn a_settle_without_its_fence_is_found() {
    is_found(Mutant::NoFence, tail());
}

#[test]
fn a_token_that_does_not_grow_after_a_lost_log_is_found() {
    is_found(Mutant::TokenIsCounter, tail());
}

#[test]
fn a_token_that_goes_back_with_the_clock_is_found() {
    is_found(Mutant::TokenIsClock, clock());
}

#[test]
fn a_promote_in_two_steps_is_found() {
    is_found(Mutant::TwoStepPromote, network());
}

#[test]
fn a_reclaim_that_does_not_check_the_lease_is_found() {
    is_found(Mutant::ReclaimUnchecked, deaths());
}

#[test]
fn a_reclaim_right_after_an_outage_is_found() {
    is_found(Mutant::NoGrace, outage());
}

#[test]
fn an_enqueue_that_is_not_idempotent_is_found() {
    is_found(Mutant::EnqueueNotIdempotent, network());
}

#[test]
fn a_settle_that_forgets_its_answer_is_found() {
    is_found(Mutant::NoSettleMemory, network());
}

#[test]
fn an_old_batch_that_takes_the_place_of_a_new_one_is_found() {
    is_found(Mutant::OldBatchForgets, network());
}

#[test]
fn a_claim_that_is_not_answered_again_is_found() {
    is_found(Mutant::NoRedelivery, network());
}

#[test]
fn a_failure_without_end_is_found() {
    is_found(Mutant::NoLastAttempt, network());
}

#[test]
fn a_poison_task_that_goes_on_killing_is_found() {
    is_found(Mutant::NoPoison, deaths());
}

#[test]
fn a_cancel_that_leaves_the_task_with_its_holder_is_found() {
    is_found(Mutant::CancelKeepsHolder, everything());
}

#[test]
fn a_consumer_that_never_recounts_is_found() {
    is_found(Mutant::NoRecount, tail());
}

#[test]
fn a_complete_in_two_steps_is_found() {
    is_found(Mutant::TwoStepComplete, network());
}
