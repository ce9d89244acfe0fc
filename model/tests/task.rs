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

/// Two tasks, one consumer and a network that loses replies and brings copies.
fn network() -> Bounds {
    Bounds {
        consumers: 1,
        failures: true,
        faults: Faults {
            most: 2,
            reply_lost: true,
            copy: true,
            ..NONE
        },
        ..PLAIN
    }
}

/// One task that fails, is handed back and cancelled, two consumers, everything that happens to processes and network.
fn everything() -> Bounds {
    Bounds {
        tasks: 1,
        failures: true,
        releases: 1,
        cancels: 1,
        faults: Faults {
            most: 2,
            crash: true,
            freeze: true,
            reply_lost: true,
            copy: true,
            outage: true,
            ..NONE
        },
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
    let report = explore(Tasks { bounds, mutant: None });
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
fn a_task_survives_the_loss_of_the_logs_tail() {
    holds("tail", tail());
}

#[test]
fn a_task_survives_a_clock_that_goes_back() {
    holds("clock", clock());
}
