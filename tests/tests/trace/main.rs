//! The trace check: random interleavings of everything that producers, consumers, the maintainer and operators do,
//! on the real functions in a real Redis, compared with a plain reference after every step.
//!
//! `WORKYARD_TRACE_SECONDS` is how long it looks (15 by default). What fails is shrunk to a short sequence of steps and
//! printed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod clients;
mod hand;
mod keepers;
mod op;
mod reference;
mod rules;
mod view;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use workyard_shared::link::{Link, LinkConfig};
use workyard_tests::{Yard, queue_name};

use op::Op;
use world::World;

const CASES_AT_ONCE: u32 = 20;

fn seconds() -> u64 {
    let chosen = std::env::var("WORKYARD_TRACE_SECONDS").ok();
    chosen.map_or(15, |text| text.parse().expect("WORKYARD_TRACE_SECONDS is a number"))
}

/// Does the steps one after another; the first difference, with where it was.
async fn follow(world: &mut World, ops: &[Op]) -> Result<(), String> {
    for (n, op) in ops.iter().enumerate() {
        world.step(op).await.map_err(|why| format!("step {n}, {op:?}: {why}"))?;
    }
    Ok(())
}

/// A sequence that fails, a step a line.
fn told(why: &str, ops: &[Op]) -> String {
    let steps: String = ops.iter().map(|op| format!("\n  {op:?}")).collect();
    format!("{why}\nThe shortest sequence that was found:{steps}")
}

fn tally(reached: &mut BTreeMap<String, u64>, world: &World) {
    for (counter, n) in &world.reference.stats {
        if !counter.contains(' ') {
            *reached.entry(counter.clone()).or_default() += n;
        }
    }
}

#[test]
fn every_interleaving_leaves_the_queue_as_the_reference_says() {
    // One thread: a step is a few round trips, and each hop to another thread would cost as much.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let yard = runtime.block_on(Yard::start());
    runtime.block_on(yard.broker.link().load_library()).unwrap();
    let redis = runtime.block_on(yard.server.connection());
    let (pushes, _heard) = tokio::sync::mpsc::unbounded_channel();
    let ears = Link::new(LinkConfig::from_url(&yard.server.url()).unwrap(), Some(pushes)).unwrap();

    let (cases, steps, reached) = (Cell::new(0_u64), Cell::new(0_u64), RefCell::new(BTreeMap::new()));
    let (begun, limit) = (Instant::now(), Duration::from_secs(seconds()));
    let strategy = op::ops();
    while begun.elapsed() < limit {
        let mut runner = TestRunner::new(Config {
            cases: CASES_AT_ONCE,
            failure_persistence: None,
            max_shrink_iters: 3000,
            ..Config::default()
        });
        let outcome = runner.run(&strategy, |ops| {
            cases.set(cases.get() + 1);
            steps.set(steps.get() + ops.len() as u64);
            // A queue of its own for each case; half of them in another partition.
            let queue = yard
                .broker
                .partition(&queue_name(&format!("q{}", cases.get())), (cases.get() % 2) as u16);
            let followed = runtime.block_on(async {
                let mut world = World::new(queue, redis.clone(), ears.clone()).await;
                let followed = follow(&mut world, &ops).await;
                tally(&mut reached.borrow_mut(), &world);
                followed
            });
            followed.map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, ops)) => panic!("{}", told(&why.to_string(), &ops)),
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
    let reached = reached.into_inner();
    println!(
        "{} sequences, {} steps, in {:?}: {reached:?}",
        cases.get(),
        steps.get(),
        begun.elapsed()
    );
    // A check that never got there proves nothing.
    for counter in [
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
    ] {
        assert!(
            reached.get(counter).is_some_and(|n| *n > 0),
            "nothing was ever {counter}"
        );
    }
}
