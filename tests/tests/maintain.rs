//! What the maintainer does is bounded by what there is to do, and not by how many tasks give it a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::balance::Policy;
use workyard_shared::broker::{Handback, Turn};
use workyard_shared::options::TaskOptions;
use workyard_shared::settings::Setting;
use workyard_tests::hand::Hand;
use workyard_tests::{Yard, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn quick() -> Registry {
    let mut registry = Registry::new();
    registry
        .register("work", |_: Context, (): ()| async { Ok::<(), Failure>(()) })
        .unwrap();
    registry
}

/// How often each function was called, and `jobs:due` looked at.
async fn calls(redis: &mut redis::aio::MultiplexedConnection) -> HashMap<String, usize> {
    let entries: Vec<Value> = redis::cmd("SLOWLOG")
        .arg("GET")
        .arg(-1)
        .query_async(redis)
        .await
        .unwrap();
    let mut counts = HashMap::new();
    for entry in entries {
        let Value::Array(fields) = entry else { continue };
        let words: Vec<String> = redis::from_redis_value(fields[3].clone()).unwrap_or_default();
        let function = words.get(1).and_then(|word| word.strip_prefix("workyard_1_"));
        let jobs = words
            .iter()
            .any(|word| word.ends_with("jobs:due"))
            .then_some("jobs:due");
        if let Some(name) = function.or(jobs) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn of(calls: &HashMap<String, usize>, name: &str) -> usize {
    calls.get(name).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_due_earlier_is_no_reason_to_compare_the_consumers_nor_to_look_after_jobs() {
    const TASKS: usize = 40;
    let yard = Yard::start().await;
    let worker = yard.work(quick(), yard.config()).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    let mut redis = yard.note_calls(Duration::ZERO).await;
    for n in 0..TASKS {
        let before = of(&calls(&mut redis).await, "promote");
        // Each of them is the earliest by far, however long the one before took, and the maintainer looks when it is due.
        let delay = Duration::from_secs(60 * (60 - n as u64));
        yard.add("work", "null", |options| options.delay = Some(delay)).await;
        wait_until(SOON, || {
            let mut redis = redis.clone();
            async move { of(&calls(&mut redis).await, "promote") > before }
        })
        .await;
    }
    let seen = calls(&mut redis).await;
    println!("{seen:?}");
    // What is looked at by time comes a few times as well.
    for name in ["survey", "jobs:due"] {
        assert!(of(&seen, name) < TASKS / 2, "{name}: {seen:?}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_come_due_one_after_the_other_are_promoted_together() {
    const TASKS: usize = 300;
    let yard = Yard::start().await;
    let worker = yard.work(quick(), yard.config()).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    let mut redis = yard.note_calls(Duration::ZERO).await;
    for n in 0..TASKS {
        let delay = Duration::from_secs(3) + Duration::from_millis(4) * u32::try_from(n).unwrap();
        yard.add("work", "null", |options| options.delay = Some(delay)).await;
    }
    yard.reaches("completed", TASKS as u64).await;
    let seen = calls(&mut redis).await;
    println!("{seen:?}");
    for name in ["promote", "dead", "sweep"] {
        assert!(of(&seen, name) < TASKS / 2, "{name}: {seen:?}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumers_are_compared_at_once_when_a_setting_changes() {
    let yard = Yard::start().await;
    let worker = yard.work(quick(), yard.config()).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    // An idle fleet is looked at four times a minute.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for policy in [Policy::Adaptive, Policy::RoundRobin, Policy::Pull] {
        yard.operator.set(&[Setting::Balance(policy)]).await.unwrap();
        let said = format!("\"policy\":\"{policy}\"");
        let took = wait_until(Duration::from_secs(10), || async {
            let fleet = yard.queue.fleet().await.unwrap();
            fleet.is_some_and(|json| json.contains(&said))
        })
        .await;
        println!("{policy}: {took:?}");
    }
    worker.stop().await;
}

/// Records are read for their kinds, but not many large ones in one call: nobody else is served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn each_move_is_counted_by_kind_and_large_records_move_in_steps() {
    const LARGE: usize = 5;
    let yard = Yard::start().await;
    let large = format!("\"{}\"", "x".repeat(700_000)); // two are more than 1 MiB
    let soon = |options: &mut TaskOptions| options.delay = Some(Duration::from_millis(1));
    for _ in 0..LARGE {
        yard.add("large", &large, soon).await;
    }
    yard.add("small", "1", soon).await;
    let mut steps = Vec::new();
    let all = LARGE as u64 + 1;
    let promoted = async {
        while steps.iter().sum::<u64>() < all {
            steps.push(yard.consumer.promote(100).await.unwrap().0);
        }
    };
    tokio::time::timeout(SOON, promoted).await.unwrap();
    assert!(steps.iter().all(|step| *step <= 2), "{steps:?}");
    let counted = async |event: &str| {
        let kinds = yard.overview().await.kinds;
        ["large", "small", "*"].map(|kind| kinds.get(kind).and_then(|of| of.get(event)).copied().unwrap_or(0))
    };
    assert_eq!(counted("promoted").await, [5, 1, 0]);
    assert_eq!(yard.total("promoted").await, 6);

    let mut hand = Hand::register(&yard.consumer).await;
    let mut grants = Vec::new();
    while grants.len() < LARGE + 1 {
        grants.extend(hand.claim(LARGE + 1).await);
    }
    let handbacks = grants.into_iter().map(|grant| Handback {
        id: grant.id,
        token: grant.token,
        unhandled: None,
        delay: Duration::ZERO,
    });
    let turn = Turn {
        number: 100,
        handbacks: handbacks.collect(),
        ..Turn::default()
    };
    turn.send(&yard.consumer, &hand.consumer, None).await.unwrap();
    assert_eq!(
        counted("released").await,
        [2, 0, 4],
        "one answer is for all: behind 1 MiB they are not told apart"
    );

    let mut held = 0;
    while held < LARGE + 1 {
        held += hand.claim(LARGE + 1).await.len();
    }
    let mut redis = yard.note_calls(Duration::ZERO).await;
    assert_eq!(yard.consumer.leave(&hand.consumer).await.unwrap(), all);
    let (counts, left) = (counted("released").await, of(&calls(&mut redis).await, "leave"));
    assert_eq!(counts, [7, 1, 4]);
    assert!(left >= 3, "{left} steps");
}
