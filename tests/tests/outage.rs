//! Redis killed, restarted, emptied, out of memory, without functions: stated behaviour for each.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::Error;
use workyard_shared::name::TaskId;
use workyard_shared::outage::Patience;
use workyard_shared::submit::Submitter;
use workyard_tests::{TestServer, Yard, new_task, roles_are_on, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn gated(gate: &Arc<Semaphore>, started: &Arc<AtomicUsize>) -> Registry {
    let (gate, started) = (Arc::clone(gate), Arc::clone(started));
    let mut registry = Registry::new();
    registry
        .register("gated", move |_: Context, n: u64| {
            let (gate, started) = (Arc::clone(&gate), Arc::clone(&started));
            async move {
                started.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok::<_, Failure>(n)
            }
        })
        .unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn results_finished_while_redis_was_dead_are_delivered_after_its_restart_and_nothing_runs_twice() {
    let yard = Yard::on(TestServer::start_durable().await);
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut config = yard.config();
    config.concurrency = 10;
    let worker = yard.work(gated(&gate, &started), config).await;
    yard.add_many(30, "gated", "1").await;
    wait_until(SOON, || async { started.load(Ordering::SeqCst) == 10 }).await;
    yard.server.kill9();
    gate.add_permits(100);
    // Longer than the lease, so that only the granted extra lease keeps the work with its holder.
    tokio::time::sleep(Duration::from_secs(4)).await;
    yard.server.restart().await;
    let took = yard.reaches("completed", 30).await;
    println!("recovered in {took:?}");
    assert_eq!(started.load(Ordering::SeqCst), 30, "a task ran twice");
    assert_eq!(yard.total("stale").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_started_before_redis_waits_for_it_and_one_restarted_often_goes_on() {
    let server = TestServer::start_durable().await;
    server.kill9();
    let yard = Yard::on(server);
    let mut registry = Registry::new();
    registry
        .register("echo", |_: Context, n: u64| async move { Ok::<_, Failure>(n) })
        .unwrap();
    let worker = workyard_tests::spawn(registry, yard.config());
    for round in 1..=5_u64 {
        yard.server.restart().await;
        yard.add("echo", "1", |_| {}).await;
        let took = yard.reaches("completed", round).await;
        println!("round {round}: {took:?} after the restart");
        yard.server.kill9();
    }
    yard.server.restart().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_flushall_and_function_flush_new_tasks_flow_at_once() {
    let yard = Yard::start().await;
    let mut registry = Registry::new();
    registry
        .register("echo", |_: Context, n: u64| async move { Ok::<_, Failure>(n) })
        .unwrap();
    let worker = yard.work(registry, yard.config()).await;
    let mut redis = yard.server.connection().await;
    for round in 0..5 {
        let _: () = redis::cmd("FUNCTION")
            .arg("FLUSH")
            .query_async(&mut redis)
            .await
            .unwrap();
        if round == 2 {
            let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        }
        if roles_are_on() {
            // Neither producer nor consumer may load them; whoever may does.
            yard.broker.link().load_library().await.unwrap();
        }
        let id = yard.add("echo", "1", |_| {}).await;
        assert_eq!(yard.result(&id).await, "1");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_refuses_new_tasks_with_that_reason_and_the_queue_drains() {
    let yard = Yard::start().await;
    yard.add_many(200, "gated", "1").await;
    yard.server.config_set("maxmemory", "1mb").await;
    let submitter = Submitter::start(yard.queue.clone());
    let refused = submitter
        .submit(
            vec![(TaskId::fresh(), new_task("gated", "1"))],
            true,
            None,
            Duration::ZERO,
        )
        .await;
    assert!(
        matches!(
            refused,
            Err(Error::Unavailable {
                outage: workyard_shared::Outage::OutOfMemory,
                ..
            })
        ),
        "{refused:?}"
    );
    let (gate, started) = (Arc::new(Semaphore::new(1000)), Arc::new(AtomicUsize::new(0)));
    let worker = workyard_tests::spawn(gated(&gate, &started), yard.config());
    // The announcement of the queue is a plain write: it waits until memory is there again.
    yard.server.config_set("maxmemory", "0").await;
    wait_until(SOON, || async { yard.overview().await.consumers == 1 }).await;
    yard.server.config_set("maxmemory", "1mb").await;
    yard.reaches("completed", 200).await;
    yard.server.config_set("maxmemory", "0").await;
    yard.add("gated", "1", |_| {}).await;
    yard.reaches("completed", 201).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_redis_is_waited_out() {
    let yard = Yard::start().await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let worker = yard.work(gated(&gate, &started), yard.config()).await;
    yard.add("gated", "1", |_| {}).await;
    wait_until(SOON, || async { started.load(Ordering::SeqCst) == 1 }).await;
    let mut redis = yard.server.connection().await;
    let _: () = redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg("1")
        .query_async(&mut redis)
        .await
        .unwrap();
    gate.add_permits(10);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let _: () = redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .query_async(&mut redis)
        .await
        .unwrap();
    yard.reaches("completed", 1).await;
    assert_eq!(started.load(Ordering::SeqCst), 1, "the task ran twice");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_costs_nothing_but_time() {
    let yard = Yard::start().await;
    let (gate, started) = (Arc::new(Semaphore::new(1000)), Arc::new(AtomicUsize::new(0)));
    let worker = yard.work(gated(&gate, &started), yard.config()).await;
    yard.add_many(5, "gated", "1").await;
    yard.reaches("completed", 5).await;
    yard.server.sigstop();
    tokio::time::sleep(Duration::from_secs(7)).await;
    yard.server.sigcont();
    yard.add_many(5, "gated", "1").await;
    yard.reaches("completed", 10).await;
    assert_eq!(started.load(Ordering::SeqCst), 10);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runtime_cannot_cost_the_lease() {
    let yard = Yard::start().await;
    let begun = Arc::new(Notify::new());
    let b = Arc::clone(&begun);
    let mut registry = Registry::new();
    registry
        .register("hog", move |_: Context, _: u64| {
            b.notify_one();
            async {
                // An async handler that never yields: it holds its runtime thread for five leases.
                let until = std::time::Instant::now() + Duration::from_secs(3);
                while std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                Ok::<_, Failure>(1)
            }
        })
        .unwrap();
    let mut config = yard.config();
    config.lease = Duration::from_millis(600);
    config.concurrency = 16;
    // A runtime of its own: the test itself must not be starved.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let guard = runtime.enter();
    let worker = workyard_tests::spawn(registry, config);
    drop(guard);
    let ids = yard.add_many(16, "hog", "1").await;
    begun.notified().await;
    for id in &ids {
        wait_until(Duration::from_secs(120), || async {
            matches!(yard.look(id).await, workyard_shared::broker::Seen::Ended(_))
        })
        .await;
    }
    assert_eq!((yard.total("reclaimed").await, yard.total("stale").await), (0, 0));
    worker.stop().await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn an_idle_consumer_sends_at_most_two_commands_a_second() {
    let yard = Yard::start().await;
    let (gate, started) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(0)));
    let mut config = yard.config();
    config.poll = Duration::from_secs(5);
    let worker = yard.work(gated(&gate, &started), config).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    let mut redis = yard.server.connection().await;
    let _: () = redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .query_async(&mut redis)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut redis).await.unwrap();
    let count = info
        .lines()
        .find_map(|l| l.strip_prefix("total_commands_processed:"))
        .unwrap()
        .parse::<u64>()
        .unwrap();
    // Calls inside functions are counted by Redis as well: look at what clients sent instead.
    let sent: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut redis)
        .await
        .unwrap();
    let calls = |name: &str| {
        sent.lines()
            .find_map(|l| l.strip_prefix(&format!("cmdstat_{name}:calls=")))
            .and_then(|l| l.split(',').next())
            .map_or(0, |n| n.parse::<u64>().unwrap())
    };
    let total = calls("fcall") + calls("set") + calls("blmove");
    println!("{total} commands in 12 s ({count} with those inside functions)");
    assert!(total <= 24, "{total} commands in 12 s\n{sent}");
    worker.stop().await;
    assert!(Patience::default().next_delay(1.0) > Duration::ZERO);
}
