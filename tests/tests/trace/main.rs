//! The trace check: random interleavings of everything that producers, consumers, the maintainer and operators do,
//! on the real functions in a real Redis, compared with a plain reference after every step.
//!
//! `WORKYARD_TRACE_SECONDS` is how long it looks (15 by default). What fails is shrunk to a short sequence of steps and
//! printed. Faults put into the functions on purpose have to be found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod clients;
mod hand;
mod keepers;
mod look;
mod mutants;
mod op;
mod reference;
mod rules;
mod view;
mod world;

use std::time::{Duration, Instant};

use workyard_shared::functions;

use look::{Done, Look};
use mutants::MUTANTS;

/// What has to happen at least once: a check that never got there proves nothing.
const REACHED: [&str; 14] = [
    "submitted",
    "completed",
    "failed",
    "retried",
    "cancelled",
    "expired",
    "reclaimed",
    "released",
    "stale",
    "deleted",
    "duplicate",
    "requeued",
    "purged",
    "promoted",
];

/// Within this each mutant is found; most in a second.
const MUTANT_LIMIT: Duration = Duration::from_secs(120);

fn seconds() -> u64 {
    let chosen = std::env::var("WORKYARD_TRACE_SECONDS").ok();
    chosen.map_or(15, |text| text.parse().expect("WORKYARD_TRACE_SECONDS is a number"))
}

#[test]
fn every_interleaving_leaves_the_queue_as_the_reference_says() {
    let look = Look::start(&functions::library());
    let (begun, limit) = (Instant::now(), Duration::from_secs(seconds()));
    let look_on = || match look.until(limit, true) {
        Ok(done) => done,
        Err(found) => panic!("{}", found.why),
    };
    let mut done = look_on();
    // A busy machine gets through few sequences in that time.
    let missing = |done: &Done| {
        let is_missing = |counter: &&str| done.reached.get(*counter).is_none_or(|n| *n == 0);
        REACHED.into_iter().find(is_missing)
    };
    while missing(&done).is_some() && begun.elapsed() < limit * 4 {
        done.add(look_on());
    }
    println!("{} sequences, {} steps: {:?}", done.cases, done.steps, done.reached);
    if let Some(counter) = missing(&done) {
        panic!("nothing was ever {counter}");
    }
}

#[test]
fn faults_put_into_the_functions_are_found() {
    let sound = functions::library();
    let look = Look::start(&sound);
    for mutant in MUTANTS {
        assert_eq!(
            sound.matches(mutant.from).count(),
            1,
            "{}: its text is not there once",
            mutant.name
        );
        look.load(&sound.replace(mutant.from, mutant.to));
        let begun = Instant::now();
        match look.until(MUTANT_LIMIT, false) {
            Err(found) => println!(
                "{}: {:?}, {} sequences: {}",
                mutant.name,
                begun.elapsed(),
                found.after,
                found.why
            ),
            Ok(done) => panic!(
                "{} was not found: {} steps, {:?}",
                mutant.name, done.steps, done.reached
            ),
        }
    }
}
