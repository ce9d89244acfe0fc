//! No wake-up is lost, checked exhaustively; and each known fault, found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use workyard_model::explore;
use workyard_model::wakeup::{Mutant, WakeUps};

const FEW: WakeUps = WakeUps {
    consumers: 2,
    slots: 1,
    tasks: 3,
    crashes: 1,
    drains: 1,
    pauses: 1,
    deaf: 1,
    polls: 0,
    crowds: 0,
    mutant: None,
};

/// Slots that other queues take, and claims out of turn.
const CROWDED: WakeUps = WakeUps {
    drains: 0,
    pauses: 0,
    deaf: 0,
    polls: 1,
    crowds: 1,
    ..FEW
};

fn holds(name: &str, model: WakeUps) {
    let report = explore(&model);
    println!("{name}: {report}");
    assert_eq!(report.broken, None);
}

fn is_found(mutant: Mutant) {
    let found = [FEW, CROWDED].into_iter().any(|model| {
        let mutant = Some(mutant);
        let report = explore(&WakeUps { mutant, ..model });
        println!("{mutant:?}: {report}");
        report.broken.is_some()
    });
    assert!(found, "{mutant:?} was not found");
}

#[test]
fn two_consumers_of_one_slot_get_what_is_pending() {
    holds("one slot", FEW);
}

#[test]
fn two_consumers_of_two_slots_get_what_is_pending() {
    holds(
        "two slots",
        WakeUps {
            slots: 2,
            drains: 0,
            ..FEW
        },
    );
}

#[test]
fn three_consumers_get_what_is_pending() {
    holds(
        "three",
        WakeUps {
            consumers: 3,
            tasks: 2,
            drains: 0,
            pauses: 0,
            ..FEW
        },
    );
}

#[test]
fn consumers_whose_slots_another_queue_takes_leave_nothing_lying() {
    holds("crowded", CROWDED);
}

#[test]
fn parking_with_a_call_of_its_own_is_found() {
    is_found(Mutant::ParkLater);
}

#[test]
fn a_claim_that_passes_nothing_on_is_found() {
    is_found(Mutant::NoPassOn);
}

#[test]
fn a_reclaim_that_wakes_nobody_is_found() {
    is_found(Mutant::ReclaimIsSilent);
}

#[test]
fn a_drain_that_swallows_its_wake_up_is_found() {
    is_found(Mutant::DrainIsSilent);
}

#[test]
fn a_resume_that_wakes_nobody_is_found() {
    is_found(Mutant::ResumeIsSilent);
}

#[test]
fn a_consumer_without_room_that_swallows_its_wake_up_is_found() {
    is_found(Mutant::FullIsSilent);
}

#[test]
fn a_wake_up_before_the_work_is_found() {
    is_found(Mutant::WakeBeforeAdd);
}

#[test]
fn resting_on_an_answer_older_than_the_wake_up_is_found() {
    is_found(Mutant::RestOnOldAnswer);
}
