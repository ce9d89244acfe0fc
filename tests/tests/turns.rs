//! Whose turn it is: queues of one worker that want the same slots, and urgent tasks behind a full kind.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use workyard_consumer::{Concurrency, Context, Failure, QueueOrder, Registry, WorkerConfig};
use workyard_shared::name::TaskId;
use workyard_shared::submit::Submitter;
use workyard_tests::{Yard, new_task, queue_name, wait_until};

const SOON: Duration = Duration::from_secs(30);

type Log = Arc<Mutex<Vec<String>>>;

/// A kind `work` that takes so long and writes down its payload; with a limit also one that has none, and never comes.
fn registry(log: &Log, takes: Duration, limit: Option<usize>) -> Registry {
    let mut registry = Registry::new();
    let log = Arc::clone(log);
    registry
        .register("work", move |_: Context, name: String| {
            log.lock().unwrap().push(name);
            async move {
                tokio::time::sleep(takes).await;
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    if let Some(limit) = limit {
        registry.limit("work", Concurrency::Fixed(limit)).unwrap();
        registry
            .register("other", |_: Context, (): ()| async { Ok::<(), Failure>(()) })
            .unwrap();
    }
    registry
}

/// A worker of the queues `first` and `q`, each with work; what of the first 40 runs was whose.
async fn shares(order: QueueOrder, weight: usize, concurrency: usize, limit: Option<usize>) -> (usize, usize) {
    let (yard, log) = (Yard::start().await, Log::default());
    let config = WorkerConfig {
        concurrency,
        order,
        queues: vec![(queue_name("first"), weight), (queue_name("q"), 1)],
        ..yard.config()
    };
    let worker = yard
        .work(registry(&log, Duration::from_millis(20), limit), config)
        .await;
    yard.add_many(100, "work", "\"q\"").await;
    yard.reaches("completed", 3).await;
    let first = Submitter::start(yard.broker.queue(&queue_name("first")));
    let tasks: Vec<_> = (0..60)
        .map(|_| (TaskId::fresh(), new_task("work", "\"first\"")))
        .collect();
    first.submit(tasks, true, None, SOON).await.unwrap();
    let before = log.lock().unwrap().len();
    wait_until(SOON, || async { log.lock().unwrap().len() >= before + 40 }).await;
    let runs: Vec<String> = log.lock().unwrap()[before..before + 40].to_vec();
    worker.stop().await;
    let first = runs.iter().filter(|name| *name == "first").count();
    (first, runs.len() - first)
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_want_one_slot_share_it_by_weight_or_the_first_has_it() {
    // What was claimed before the first queue had work runs first; the rest is exact.
    for (concurrency, limit) in [(1, None), (16, Some(1))] {
        let (first, second) = shares(QueueOrder::Strict, 1, concurrency, limit).await;
        assert!(first >= 35, "strict, {concurrency} slots: {first} and {second}");
        let (first, second) = shares(QueueOrder::Weighted, 1, concurrency, limit).await;
        assert!(
            (12..=28).contains(&first),
            "1:1, {concurrency} slots: {first} and {second}"
        );
        let (first, second) = shares(QueueOrder::Weighted, 3, concurrency, limit).await;
        assert!(
            (22..=37).contains(&first),
            "3:1, {concurrency} slots: {first} and {second}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_task_goes_before_all_that_wait_behind_a_full_kind() {
    let (yard, log) = (Yard::start().await, Log::default());
    let config = WorkerConfig {
        concurrency: 16,
        ..yard.config()
    };
    let registry = registry(&log, Duration::from_millis(500), Some(1));
    let worker = yard.work(registry, config).await;
    for n in 0..20 {
        yard.add("work", &format!("\"{n:02}\""), |_| {}).await;
    }
    wait_until(SOON, || async { log.lock().unwrap().len() >= 4 }).await;
    let before = log.lock().unwrap().len();
    yard.add("work", "\"urgent\"", |options| options.priority = Some(0))
        .await;
    wait_until(SOON, || async {
        log.lock().unwrap().iter().any(|name| name == "urgent")
    })
    .await;
    let ahead = log.lock().unwrap().iter().position(|name| name == "urgent").unwrap() - before;
    println!("{ahead} tasks started before the urgent one");
    assert!(ahead <= 1, "{:?}", log.lock().unwrap());
    yard.reaches("completed", 21).await;
    // Those of one priority keep about their order: none is passed by more than a few.
    let order = log.lock().unwrap().clone();
    let numbers: Vec<i64> = order.iter().filter_map(|name| name.parse().ok()).collect();
    let passed = (0_i64..)
        .zip(&numbers)
        .map(|(place, number)| (place - number).abs())
        .max();
    println!("{numbers:?}");
    // On a machine with other work one may be due before those that it was handed back with.
    assert!(passed.unwrap() <= 12, "{numbers:?}");
    worker.stop().await;
}

/// Runs of 20 ms, one at a time: before, a worker's hands were full of them for as long as there were any.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_a_kind_with_one_slot_keeps_the_idle_slots_from_no_other_queue() {
    for order in [QueueOrder::Strict, QueueOrder::Weighted] {
        let (yard, log) = (Yard::start().await, Log::default());
        let config = WorkerConfig {
            concurrency: 8,
            order,
            queues: vec![(queue_name("q"), 1), (queue_name("behind"), 1)],
            ..yard.config()
        };
        let mut registry = registry(&log, Duration::from_millis(20), Some(1));
        let free = Arc::clone(&log);
        registry
            .register("free", move |_: Context, name: String| {
                free.lock().unwrap().push(name);
                async { Ok::<(), Failure>(()) }
            })
            .unwrap();
        let worker = yard.work(registry, config).await;
        yard.add_many(400, "work", "\"flood\"").await;
        yard.reaches("completed", 20).await;
        let behind = Submitter::start(yard.broker.queue(&queue_name("behind")));
        let tasks = vec![(TaskId::fresh(), new_task("free", "\"behind\""))];
        behind.submit(tasks, true, None, SOON).await.unwrap();
        wait_until(SOON, || async {
            log.lock().unwrap().iter().any(|name| name == "behind")
        })
        .await;
        let ahead = log.lock().unwrap().iter().position(|name| name == "behind").unwrap();
        println!("{order:?}: behind {ahead} of the flood");
        assert!(
            ahead < 200,
            "{order:?}: it waited for {ahead} of the flood beside idle slots"
        );
        worker.stop().await;
    }
}
