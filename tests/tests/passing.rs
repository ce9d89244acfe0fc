//! The next attempt of a task that failed on a consumer that fails everything belongs to another.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_shared::options::Backoff;
use workyard_tests::{Running, Yard, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// A worker of the kind `work` which takes so long, or fails at once.
async fn worker(yard: &Yard, slots: usize, takes: Option<Duration>) -> Running {
    let mut registry = Registry::new();
    registry
        .register("work", move |_: Context, (): ()| async move {
            match takes {
                Some(takes) => {
                    tokio::time::sleep(takes).await;
                    Ok(())
                }
                None => Err::<(), _>(Failure::retry("this host is broken")),
            }
        })
        .unwrap();
    let config = WorkerConfig {
        concurrency: slots,
        ..yard.config()
    };
    yard.work(registry, config).await
}

/// Adds tasks of the kind `work` with two attempts.
async fn add(yard: &Yard, count: usize) {
    for _ in 0..count {
        yard.add("work", "null", |options| {
            options.max_attempts = Some(2);
            options.backoff = Some(quickly());
        })
        .await;
    }
}

fn quickly() -> Backoff {
    Backoff {
        base: Duration::from_millis(20),
        factor: 1.0,
        ..Backoff::default()
    }
}

/// Ten tasks end on the only one that works, so that the fleet knows somebody who runs the kind well.
async fn make_known(yard: &Yard) {
    add(yard, 10).await;
    yard.reaches("completed", 10).await;
    somebody_runs_it_well(yard).await;
}

async fn somebody_runs_it_well(yard: &Yard) {
    wait_until(SOON, || async {
        let said = yard.queue.fleet().await.unwrap();
        said.is_some_and(|said| said.contains("\"well\""))
    })
    .await;
}

/// The one that works has all its slots full, the broken one is free at once: most first attempts are there, and without this
/// most second ones would be.
#[tokio::test(flavor = "multi_thread")]
async fn no_task_burns_all_its_attempts_on_the_one_consumer_that_fails_everything() {
    let yard = Yard::start().await;
    let good = worker(&yard, 2, Some(Duration::from_millis(50))).await;
    make_known(&yard).await;
    let bad = worker(&yard, 10, None).await;
    add(&yard, 60).await;
    wait_until(SOON, || async {
        yard.total("completed").await + yard.total("failed").await == 70
    })
    .await;
    let (retried, handed_back) = (yard.total("retried").await, yard.total("released").await);
    println!("{retried} failed once on the broken consumer, {handed_back} hand-backs");
    assert_eq!(yard.total("failed").await, 0, "tasks that burnt both attempts there");
    assert!(retried > 0, "the broken one had some");
    good.stop().await;
    bad.stop().await;
}

/// A due probe comes before everyone: the retries that one of them leaves to others must not be kept going between the two.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_fail_everything_do_not_burn_between_them_what_a_third_one_completes() {
    let yard = Yard::start().await;
    let good = worker(&yard, 1, Some(Duration::from_millis(100))).await;
    make_known(&yard).await;
    let bad = [worker(&yard, 6, None).await, worker(&yard, 6, None).await];
    add(&yard, 60).await;
    let took = wait_until(SOON, || async {
        yard.total("completed").await + yard.total("failed").await == 70
    })
    .await;
    let (retried, handed_back) = (yard.total("retried").await, yard.total("released").await);
    println!("{retried} failed once on the broken consumers, {handed_back} hand-backs, {took:?}");
    assert_eq!(yard.total("failed").await, 0, "tasks that burnt both attempts there");
    good.stop().await;
    for bad in bad {
        bad.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_kind_that_nobody_else_runs_is_left_to_nobody() {
    let yard = Yard::start().await;
    let mut registry = Registry::new();
    registry
        .register("work", |_: Context, (): ()| async {
            Err::<(), _>(Failure::retry("this host is broken"))
        })
        .unwrap();
    // Fails the first attempt of those that are told to.
    registry
        .register("own", |ctx: Context, fails: bool| async move {
            match fails && ctx.attempt() == 1 {
                true => Err(Failure::retry("once")),
                false => Ok(()),
            }
        })
        .unwrap();
    let bad = yard
        .work(
            registry,
            WorkerConfig {
                concurrency: 4,
                ..yard.config()
            },
        )
        .await;
    let good = worker(&yard, 4, Some(Duration::from_millis(20))).await;
    let mut added = 0;
    while !a_circuit_is_open(&yard).await {
        for _ in 0..4 {
            yard.add("work", "null", |options| {
                options.max_attempts = Some(100);
                options.backoff = Some(quickly());
            })
            .await;
            added += 1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(added < 2000, "its circuit stays closed");
    }
    yard.reaches("completed", added).await;
    good.stop().await;
    let known = yard.add("own", "false", |_| {}).await;
    yard.ended(&known).await;
    wait_until(SOON, || async {
        let said = yard.queue.fleet().await.unwrap().unwrap_or_default();
        said.contains("\"consumers\":1,") && said.contains("\"own\"") && said.contains("\"well\"")
    })
    .await;
    // By its retry the bad one has heard of it.
    let backoff = Backoff {
        base: Duration::from_secs(2),
        ..quickly()
    };
    let retried = yard.add("own", "true", |options| options.backoff = Some(backoff)).await;
    let ended = yard.ended(&retried).await;
    assert_eq!((ended.failures, ended.releases), (1, 0), "{ended:?}");
    bad.stop().await;
}

async fn a_circuit_is_open(yard: &Yard) -> bool {
    for (consumer, _) in yard.queue.consumers().await.unwrap() {
        let health = yard.broker.health(&consumer).await.unwrap().unwrap_or_default();
        if health.contains(r#""circuit":"open""#) || health.contains(r#""circuit":"probing""#) {
            return true;
        }
    }
    false
}
