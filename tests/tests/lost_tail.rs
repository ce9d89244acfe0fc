//! Redis comes back without the tail of its log, to consumers that live on.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;
use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::name::SessionId;
use workyard_tests::{Yard, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// What a settle changes of one task: as it was, to be put back.
struct Before(Vec<(String, Vec<u8>)>);

impl Before {
    async fn settled(yard: &Yard, redis: &mut MultiplexedConnection, holder: &SessionId) -> Self {
        let keys = yard.queue.keys();
        let mut dumps = Vec::new();
        for key in [keys.named("tasks"), keys.running(holder), keys.session(holder)] {
            let dump = redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap();
            dumps.push((key, dump));
        }
        Self(dumps)
    }

    /// As after a restart of Redis: the state is that of before, all connections are gone.
    async fn again(&self, yard: &Yard, redis: &mut MultiplexedConnection) {
        let mut pipe = redis::pipe();
        let keys = yard.queue.keys();
        pipe.atomic()
            .cmd("DEL")
            .arg(keys.named("results"))
            .arg(keys.named("done"));
        for (key, dump) in &self.0 {
            pipe.cmd("RESTORE").arg(key).arg(0).arg(&dump[..]).arg("REPLACE");
        }
        for kind in ["normal", "pubsub"] {
            pipe.cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind);
        }
        pipe.exec_async(redis).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_end_the_log_lost_runs_again_although_its_consumer_lives() {
    let yard = Yard::start().await;
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let mut registry = Registry::new();
    let (handler_gate, counter) = (Arc::clone(&gate), Arc::clone(&runs));
    registry
        .register("k", move |_: Context, n: u32| {
            let (gate, counter) = (Arc::clone(&handler_gate), Arc::clone(&counter));
            async move {
                let run = counter.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok::<_, Failure>(n + run)
            }
        })
        .unwrap();
    let worker = yard.work(registry, yard.config()).await;
    let id = yard.add("k", "1", |_| {}).await;
    wait_until(SOON, || async { runs.load(Ordering::SeqCst) == 1 }).await;
    let holder = yard.queue.holding(&id).await.unwrap().unwrap().consumer;
    let mut redis = yard.server.connection().await;
    let before = Before::settled(&yard, &mut redis, &holder).await;
    gate.add_permits(1);
    assert_eq!(yard.result(&id).await, "1");

    before.again(&yard, &mut redis).await;
    wait_until(SOON, || async { runs.load(Ordering::SeqCst) == 2 }).await;
    gate.add_permits(1);
    assert_eq!(yard.result(&id).await, "2");
    let holders = yard.queue.consumers().await.unwrap();
    assert_eq!(holders[0].0, holder, "it is the same session");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_while_the_connection_is_lost_does_not_run_again() {
    let yard = Yard::start().await;
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let mut registry = Registry::new();
    let (handler_gate, counter) = (Arc::clone(&gate), Arc::clone(&runs));
    registry
        .register("k", move |_: Context, n: u32| {
            let (gate, counter) = (Arc::clone(&handler_gate), Arc::clone(&counter));
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok::<_, Failure>(n)
            }
        })
        .unwrap();
    let mut config = yard.config();
    config.concurrency = 16;
    let worker = yard.work(registry, config).await;
    let ids = yard.add_many(3, "k", "1").await;
    wait_until(SOON, || async { runs.load(Ordering::SeqCst) == 3 }).await;
    let mut redis = yard.server.connection().await;
    for _ in 0..5 {
        let mut pipe = redis::pipe();
        for kind in ["normal", "pubsub"] {
            pipe.cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind);
        }
        pipe.exec_async(&mut redis).await.unwrap();
        // Back again, behind whatever it looked at: a new task is taken.
        let before = runs.load(Ordering::SeqCst);
        yard.add("k", "1", |_| {}).await;
        wait_until(SOON, || async { runs.load(Ordering::SeqCst) > before }).await;
    }
    gate.add_permits(8);
    for id in &ids {
        yard.result(id).await;
    }
    yard.reaches("completed", 8).await;
    assert_eq!((runs.load(Ordering::SeqCst), yard.total("released").await), (8, 0));
    worker.stop().await;
}
