//! The next attempt of a task that failed on a consumer that fails everything belongs to another.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_shared::options::{Backoff, TaskOptions};
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

/// The one that works has all its slots full, the broken one is free at once: most first attempts are there, and without this
/// most second ones would be.
#[tokio::test(flavor = "multi_thread")]
async fn no_task_burns_all_its_attempts_on_the_one_consumer_that_fails_everything() {
    let yard = Yard::start().await;
    let good = worker(&yard, 2, Some(Duration::from_millis(50))).await;
    let add = async |count: usize| {
        for _ in 0..count {
            let change = |options: &mut TaskOptions| {
                options.max_attempts = Some(2);
                options.backoff = Some(Backoff {
                    base: Duration::from_millis(20),
                    factor: 1.0,
                    ..Backoff::default()
                });
            };
            yard.add("work", "null", change).await;
        }
    };
    // The fleet knows somebody who runs the kind well.
    add(10).await;
    yard.reaches("completed", 10).await;
    wait_until(SOON, || async {
        let said = yard.queue.fleet().await.unwrap();
        said.is_some_and(|said| said.contains("\"well\""))
    })
    .await;
    let bad = worker(&yard, 10, None).await;
    add(60).await;
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
