//! What a breaker holds ends, too.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_tests::{Yard, wait_until};

const LIMIT: Duration = Duration::from_secs(90);

/// Pauses of the breaker between the last ones: 1, 2, 4, 8 s.
#[tokio::test(flavor = "multi_thread")]
async fn what_always_fails_ends_although_nothing_else_of_its_kind_succeeds() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    for _ in 0..16 {
        let id = yard.add("broken", "1", |options| options.max_attempts = Some(1)).await;
        // As after an hour behind an open breaker.
        let meta = redis::cmd("HSET")
            .arg(yard.queue.keys().named("meta"))
            .arg(id)
            .arg("0 0 1000 0 0 - 0 -\n\n")
            .to_owned();
        meta.exec_async(&mut redis).await.unwrap();
    }
    let mut registry = Registry::new();
    registry
        .register("broken", |_: Context, _: u8| async {
            Err::<(), _>(Failure::retry("always"))
        })
        .unwrap();
    let config = WorkerConfig {
        concurrency: 2,
        ..yard.config()
    };
    let worker = yard.work(registry, config).await;
    wait_until(LIMIT, || async { yard.overview().await.failed == 16 }).await;
    println!("{} hand-backs", yard.total("released").await);
    worker.stop().await;
}
