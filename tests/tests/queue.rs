//! A task's way through a worker: order, results, retries, cancels, timeouts, drains.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use workyard_consumer::{BoxFuture, Concurrency, Context, Failure, QueueOrder};
use workyard_producer::{Client, ClientConfig};
use workyard_shared::broker::{Place, Seen};
use workyard_shared::record::State;
use workyard_tests::{TestServer, Yard, echo_and, new_task, queue_name, wait_until};

const SOON: Duration = Duration::from_secs(15);

type Json = serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_and_its_result_is_kept_with_its_history() {
    let yard = Yard::start().await;
    let id = yard.add("echo", r#"{"a":[1,2]}"#, |_| {}).await;
    assert!(matches!(
        yard.look(&id).await,
        Seen::Live {
            place: Place::Pending,
            ..
        }
    ));
    let worker = yard.work(echo_and(|_| {}), yard.config()).await;
    let ended = yard.ended(&id).await;
    assert_eq!(ended.body, r#"{"a":[1,2]}"#.as_bytes());
    assert!(ended.created_ms > 0 && ended.started_ms >= ended.created_ms && ended.finished_ms >= ended.started_ms);
    assert!(!ended.consumer.is_empty());
    worker.stop().await;
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running, seen.results, seen.consumers), (0, 0, 1, 0));
    assert_eq!((seen.totals["submitted"], seen.totals["completed"]), (1, 1));
    assert_eq!(seen.kinds["echo"]["completed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_consumer_starts_a_task_without_a_poll_however_it_is_enqueued() {
    let yard = Yard::start().await;
    // The poll is ten minutes away: only wake-ups can start these in time.
    let worker = yard.work(echo_and(|_| {}), yard.config()).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    let mut redis = yard.server.connection().await;
    for round in 1..=3_u64 {
        yard.add("echo", "1", |_| {}).await;
        let took = yard.reaches("completed", 3 * round - 2).await;
        assert!(took < SOON, "library: {took:?}");

        let mut cmd = redis::cmd("FCALL");
        cmd.arg("workyard_1_enqueue")
            .arg(yard.queue.keys().shared().len())
            .arg(yard.queue.keys().shared());
        cmd.arg("").arg("").arg("").arg("").arg("echo priority=1").arg("2");
        let answer: Vec<String> = cmd.query_async(&mut redis).await.unwrap();
        assert_eq!(answer[0], "c");
        yard.reaches("completed", 3 * round - 1).await;

        let _: u64 = redis::cmd("RPUSH")
            .arg("workyard:{q}:inbox")
            .arg(r#"{"kind":"echo","payload":{"x":1},"priority":1}"#)
            .query_async(&mut redis)
            .await
            .unwrap();
        yard.reaches("completed", 3 * round).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost_when_a_task_comes_while_the_consumer_parks() {
    let yard = Yard::start().await;
    let (started_in, mut started) = tokio::sync::mpsc::unbounded_channel::<()>();
    let registry = echo_and(|r| {
        r.register("tick", move |_: Context, _: Json| {
            started_in.send(()).unwrap();
            async { Ok::<_, Failure>(()) }
        })
        .unwrap();
    });
    let worker = yard.work(registry, yard.config()).await;
    // Each next task is sent when the one before has begun: while its consumer settles, claims and parks.
    for n in 0..1000 {
        yard.add("tick", "1", |_| {}).await;
        let begun = tokio::time::timeout(SOON, started.recv()).await;
        assert!(begun.is_ok(), "task {n} was left to the poll");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_slot_tasks_finish_in_order_of_priority_then_of_submission() {
    let yard = Yard::start().await;
    let mut expected: Vec<(u8, u32)> = Vec::new();
    for n in 0..1000_u32 {
        let priority = u8::try_from((n * 7919) % 11).unwrap();
        yard.add("note", &n.to_string(), |o| o.priority = Some(priority)).await;
        expected.push((priority, n));
    }
    expected.sort_unstable();
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let registry = echo_and(|r| {
        r.register("note", move |_: Context, n: u32| {
            seen.lock().unwrap().push(n);
            async { Ok::<_, Failure>(()) }
        })
        .unwrap();
    });
    let mut config = yard.config();
    config.concurrency = 1;
    config.until_empty = true;
    workyard_tests::spawn(registry, config).ended().await;
    let expected: Vec<u32> = expected.into_iter().map(|(_, n)| n).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_waits_outside_of_its_slot_and_the_last_one_is_dead_lettered() {
    let yard = Yard::start().await;
    let mut config = yard.config();
    config.concurrency = 1;
    let worker = yard
        .work(
            echo_and(|r| {
                r.register("flaky", |ctx: Context, _: Json| async move {
                    if ctx.attempt() < 3 {
                        Err(Failure::retry_after("not yet", Duration::from_millis(300)))
                    } else {
                        Ok(ctx.attempt())
                    }
                })
                .unwrap();
                r.register("broken", |_: Context, _: Json| async {
                    Err::<(), _>(Failure::retry_after("never", Duration::ZERO))
                })
                .unwrap();
                r.register("hopeless", |_: Context, _: Json| async {
                    Err::<(), _>(Failure::fatal("no way"))
                })
                .unwrap();
                r.register("panics", |_: Context, _: Json| async {
                    if true { panic!("oh no") } else { Ok::<(), Failure>(()) }
                })
                .unwrap();
            }),
            config,
        )
        .await;
    let flaky = yard.add("flaky", "null", |_| {}).await;
    yard.reaches("retried", 1).await;
    // The only slot is free while the retry waits.
    let echo = yard.add("echo", "5", |_| {}).await;
    assert_eq!(yard.result(&echo).await, "5");
    assert_eq!(yard.result(&flaky).await, "3");
    let broken = yard.add("broken", "null", |_| {}).await;
    let hopeless = yard.add("hopeless", "null", |_| {}).await;
    let panics = yard.add("panics", "null", |o| o.max_attempts = Some(1)).await;
    yard.reaches("failed", 3).await;
    for (id, failures, reason, text) in [
        (broken, 3, "attempts", "never"),
        (hopeless, 1, "final", "no way"),
        (panics, 1, "attempts", "panicked: oh no"),
    ] {
        let meta = yard.dead(&id).await;
        assert_eq!((meta.failures, meta.reason.as_str()), (failures, reason));
        assert!(meta.error.contains(text), "{}", meta.error);
        assert!(meta.started_ms > 0 && !meta.consumer.is_empty(), "{meta:?}");
        assert!(yard.operator.retry(std::slice::from_ref(&id)).await.unwrap()[0]);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_due_at_once_are_promoted_in_bounded_steps_and_all_run() {
    let yard = Yard::start().await;
    for _ in 0..1000 {
        yard.add("echo", "1", |o| o.delay = Some(Duration::from_millis(1)))
            .await;
    }
    wait_until(SOON, || async {
        yard.consumer.promote(1).await.unwrap().1 == Some(Duration::ZERO)
    })
    .await;
    assert_eq!(
        yard.consumer.promote(200).await.unwrap(),
        (200, Some(Duration::ZERO)),
        "a step is no step"
    );
    let worker = yard.work(echo_and(|_| {}), yard.config()).await;
    yard.reaches("completed", 1000).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_task_starts_when_it_is_due_and_not_before() {
    let yard = Yard::start().await;
    let worker = yard.work(echo_and(|_| {}), yard.config()).await;
    let far = yard
        .add("echo", "0", |o| o.delay = Some(Duration::from_secs(3600)))
        .await;
    let id = yard
        .add("echo", "1", |o| o.delay = Some(Duration::from_millis(700)))
        .await;
    let ended = yard.ended(&id).await;
    let waited = ended.started_ms - ended.created_ms;
    assert!((700..2100).contains(&waited), "started after {waited} ms");
    assert!(matches!(
        yard.look(&far).await,
        Seen::Live {
            place: Place::Scheduled(_),
            ..
        }
    ));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_task_wherever_it_is_and_stops_its_handler() {
    let yard = Yard::start().await;
    let (started, stopped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (s1, s2) = (Arc::clone(&started), Arc::clone(&stopped));
    let worker = yard
        .work(
            echo_and(|r| {
                r.register("endless", move |ctx: Context, _: Json| {
                    let (s1, s2) = (Arc::clone(&s1), Arc::clone(&s2));
                    async move {
                        let token = ctx.cancellation().clone();
                        tokio::spawn(async move {
                            token.cancelled().await;
                            s2.notify_one();
                        });
                        s1.notify_one();
                        std::future::pending::<Result<(), Failure>>().await
                    }
                })
                .unwrap();
            }),
            yard.config(),
        )
        .await;
    let running = yard.add("endless", "null", |_| {}).await;
    let delayed = yard.add("echo", "1", |o| o.delay = Some(Duration::from_secs(60))).await;
    started.notified().await;
    let begun = Instant::now();
    for id in [&running, &delayed] {
        assert_eq!(
            yard.operator.cancel(id).await.unwrap(),
            workyard_shared::broker::CancelAnswer::Cancelled
        );
        assert_eq!(yard.ended(id).await.state, State::Cancelled);
    }
    tokio::time::timeout(Duration::from_secs(3), stopped.notified())
        .await
        .expect("the handler was not stopped");
    println!("cancelled and stopped in {:?}", begun.elapsed());
    assert_eq!(yard.total("cancelled").await, 2);
    wait_until(SOON, || async { yard.overview().await.running == 0 }).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_exceeds_its_timeout_is_failed_at_once_and_a_blocking_one_keeps_its_slot() {
    let yard = Yard::start().await;
    let release = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = Arc::clone(&release);
    let mut config = yard.config();
    config.concurrency = 1;
    let worker = yard
        .work(
            echo_and(|r| {
                r.register_blocking("stuck", move |_: Context, _: Json| {
                    let (lock, signal) = &*held;
                    drop(signal.wait_while(lock.lock().unwrap(), |free| !*free).unwrap());
                    Ok::<_, Failure>("late")
                })
                .unwrap();
            }),
            config,
        )
        .await;
    let stuck = yard
        .add("stuck", "null", |o| {
            o.timeout = Some(Duration::from_millis(200));
            o.max_attempts = Some(1);
        })
        .await;
    yard.reaches("failed", 1).await;
    let meta = yard.dead(&stuck).await;
    assert_eq!(meta.reason, "timeout");
    // The function has not returned: its slot is the only one.
    let echo = yard.add("echo", "7", |_| {}).await;
    tokio::time::timeout(Duration::from_millis(600), yard.ended(&echo))
        .await
        .expect_err("the lost slot was given away");
    *release.0.lock().unwrap() = true;
    release.1.notify_all();
    assert_eq!(yard.result(&echo).await, "7");
    assert_eq!(yard.total("completed").await, 1, "the late result was kept");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_not_started_in_time_expires_even_when_nobody_claims_it() {
    let yard = Yard::start().await;
    yard.operator.set_paused(true).await.unwrap();
    let worker = yard.work(echo_and(|_| {}), yard.config()).await;
    let id = yard
        .add("echo", "1", |o| o.expires_in = Some(Duration::from_millis(300)))
        .await;
    assert_eq!(yard.ended(&id).await.state, State::Expired);
    yard.operator.set_paused(false).await.unwrap();
    let later = yard
        .add("echo", "2", |o| o.expires_in = Some(Duration::from_secs(60)))
        .await;
    assert_eq!(yard.result(&later).await, "2");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_hands_out_nothing_and_a_resumed_one_goes_on_at_once() {
    let yard = Yard::start().await;
    let worker = yard.work(echo_and(|_| {}), yard.config()).await;
    yard.operator.set_paused(true).await.unwrap();
    let id = yard.add("echo", "1", |_| {}).await;
    tokio::time::timeout(Duration::from_millis(400), yard.ended(&id))
        .await
        .expect_err("a paused queue ran a task");
    yard.operator.set_paused(false).await.unwrap();
    assert_eq!(yard.result(&id).await, "1");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_running_tasks_finish_and_hands_the_rest_back_unburnt() {
    let yard = Yard::start().await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (g, s) = (Arc::clone(&gate), Arc::clone(&started));
    let slow = echo_and(|r| {
        r.register("slow", move |_: Context, _: Json| {
            let (g, s) = (Arc::clone(&g), Arc::clone(&s));
            async move {
                s.fetch_add(1, Ordering::SeqCst);
                g.acquire().await.unwrap().forget();
                Ok::<_, Failure>(())
            }
        })
        .unwrap();
    });
    let mut config = yard.config();
    config.concurrency = 5;
    let worker = yard.work(slow, config).await;
    yard.add_many(20, "slow", "null").await;
    wait_until(SOON, || async { started.load(Ordering::SeqCst) == 5 }).await;
    let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    let stopping = tokio::spawn(worker.stop());
    // A slot that is free before the drain has begun takes the next task, and rightly.
    wait_until(SOON, || async {
        let seen = client.consumers(&[queue_name("q")]).await.unwrap();
        let health = seen.first().and_then(|consumer| consumer.health.as_ref());
        health.is_some_and(|json| str::from_utf8(json.bytes()).unwrap().contains("\"draining\":true"))
    })
    .await;
    assert_eq!(yard.overview().await.running, 5);
    gate.add_permits(5);
    stopping.await.unwrap();
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running, seen.consumers), (15, 0, 0));
    assert_eq!(yard.total("completed").await, 5);
    assert_eq!(started.load(Ordering::SeqCst), 5, "a task ran twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_outlast_the_drain_timeout_go_back_at_once_without_burning_an_attempt() {
    let yard = Yard::start().await;
    let started = Arc::new(Semaphore::new(0));
    let s = Arc::clone(&started);
    let stubborn_and_polite = echo_and(|r| {
        let deaf = Arc::clone(&s);
        r.register("deaf", move |_: Context, _: Json| {
            deaf.add_permits(1);
            std::future::pending::<Result<(), Failure>>()
        })
        .unwrap();
        r.register("polite", move |ctx: Context, _: Json| {
            s.add_permits(1);
            async move {
                ctx.cancellation().cancelled().await;
                Err::<(), _>(Failure::retry("told to end"))
            }
        })
        .unwrap();
    });
    let mut config = yard.config();
    config.drain_timeout = Duration::from_millis(200);
    let worker = yard.work(stubborn_and_polite, config).await;
    let mut ids = Vec::new();
    for kind in ["deaf", "polite"] {
        ids.push(yard.add(kind, "null", |o| o.max_attempts = Some(1)).await);
    }
    started.acquire_many(2).await.unwrap().forget();
    worker.stop().await;
    for id in ids {
        let (place, meta) = yard.live(&id).await;
        assert_eq!(place, Place::Pending);
        assert_eq!((meta.failures, meta.crashes, meta.releases), (0, 0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_never_takes_more_than_its_own_slots_and_others_pass_it() {
    let yard = Yard::start().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Narrow(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl workyard_consumer::Handler for Narrow {
        fn run(&self, _: Context, _: bytes::Bytes) -> BoxFuture<workyard_consumer::Outcome> {
            let (now, most) = (Arc::clone(&self.0), Arc::clone(&self.1));
            Box::pin(async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(bytes::Bytes::from_static(b"null"))
            })
        }
    }
    let narrow = Arc::new(Narrow(Arc::clone(&now), Arc::clone(&most)));
    let registry = echo_and(|r| {
        r.add("narrow", narrow, Some(2.into())).unwrap();
    });
    let mut config = yard.config();
    config.concurrency = 6;
    yard.add_many(60, "narrow", "null").await;
    let echo = yard.add("echo", "1", |_| {}).await;
    let worker = yard.work(registry, config).await;
    yard.ended(&echo).await;
    assert!(
        yard.overview().await.kinds["narrow"]
            .get("completed")
            .copied()
            .unwrap_or(0)
            < 60,
        "echo came last"
    );
    yard.reaches("completed", 61).await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_kind_of_slow_tasks_leaves_the_other_slots_to_other_kinds_and_other_consumers() {
    let yard = Yard::start().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    struct Slow(Arc<tokio::sync::Semaphore>);
    impl workyard_consumer::Handler for Slow {
        fn run(&self, _: Context, _: bytes::Bytes) -> BoxFuture<workyard_consumer::Outcome> {
            let gate = Arc::clone(&self.0);
            Box::pin(async move {
                gate.acquire()
                    .await
                    .map_err(|e| Failure::retry(e.to_string()))?
                    .forget();
                Ok(bytes::Bytes::from_static(b"null"))
            })
        }
    }
    let with_slow = || {
        echo_and(|r| {
            r.add("slow", Arc::new(Slow(Arc::clone(&gate))), Some(1.into()))
                .unwrap();
        })
    };
    let mut config = yard.config();
    config.concurrency = 6;
    yard.add_many(20, "slow", "null").await;
    let first = yard.work(with_slow(), config.clone()).await;
    // None of them ends before the gate opens: whoever waited for them would wait for ever.
    let echo = yard.add("echo", "1", |_| {}).await;
    yard.ended(&echo).await;
    let second = yard.work(with_slow(), config).await;
    wait_until(Duration::from_secs(30), || async { yard.overview().await.running >= 3 }).await;
    gate.add_permits(20);
    yard.reaches("completed", 21).await;
    assert_eq!(yard.total("retried").await, 0);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_one_consumer_runs_are_not_dead_lettered_by_those_that_do_not_know_their_kind() {
    let yard = Yard::start().await;
    let gate = Arc::new(Semaphore::new(1));
    let passes = Arc::clone(&gate);
    let knows = echo_and(|r| {
        r.register("slow", move |_: Context, (): ()| {
            let gate = Arc::clone(&passes);
            async move {
                gate.acquire()
                    .await
                    .map_err(|e| Failure::retry(e.to_string()))?
                    .forget();
                Ok(())
            }
        })
        .unwrap();
        r.limit("slow", Concurrency::Fixed(1)).unwrap();
    });
    let one = yard.work(knows, yard.config()).await;
    yard.add_many(12, "slow", "null").await;
    yard.reaches("completed", 1).await;
    // Nothing to do but to take what it cannot run.
    let other = yard.work(echo_and(|_| {}), yard.config()).await;
    // Each has gone round more often than a task without any handler may.
    yard.reaches("released", 12 * 14).await;
    assert_eq!(yard.total("failed").await, 0);
    gate.add_permits(12);
    yard.reaches("completed", 12).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_order_of_queues_serves_the_first_until_it_is_empty() {
    let yard = Yard::start().await;
    let second = yard.broker.queue(&queue_name("second"));
    let low = workyard_shared::submit::Submitter::start(second);
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let registry = echo_and(|r| {
        r.register("where", move |ctx: Context, _: Json| {
            seen.lock().unwrap().push(ctx.queue().to_owned());
            async { Ok::<_, Failure>(()) }
        })
        .unwrap();
    });
    for _ in 0..20 {
        let task = (workyard_shared::name::TaskId::fresh(), new_task("where", "null"));
        low.submit(vec![task], true, None, SOON).await.unwrap();
        yard.add("where", "null", |_| {}).await;
    }
    let mut config = yard.config();
    config.concurrency = 1;
    config.prefetch = 0;
    config.order = QueueOrder::Strict;
    config.queues.push((queue_name("second"), 1));
    config.until_empty = true;
    workyard_tests::spawn(registry, config).ended().await;
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 40);
    assert!(order[..20].iter().all(|queue| queue == "q"), "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_tells_a_handler_whether_the_task_is_still_its_own_and_leaves_its_progress_alone() {
    let yard = Yard::start().await;
    let (said_in, mut said) = tokio::sync::mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let registry = echo_and(|r| {
        r.register("beats", move |ctx: Context, _: Json| {
            let (said, go) = (said_in.clone(), Arc::clone(&goes));
            async move {
                ctx.progress("half").await?;
                for _ in 0..2 {
                    let beat = ctx.heartbeat().await;
                    let is_lost = matches!(beat, Err(workyard_consumer::Error::LeaseLost));
                    said.send((beat.is_ok(), is_lost, ctx.is_cancelled())).unwrap();
                    go.notified().await;
                }
                Ok::<_, Failure>(())
            }
        })
        .unwrap();
    });
    let id = yard.add("beats", "1", |_| {}).await;
    let worker = yard.work(registry, yard.config()).await;
    let heard = tokio::time::timeout(SOON, said.recv()).await.unwrap();
    assert_eq!(heard, Some((true, false, false)));
    assert_eq!(yard.live(&id).await.1.progress, "half");
    // As if it had been given to another meanwhile.
    let holding = yard.queue.holding(&id).await.unwrap().unwrap();
    let mut redis = yard.server.connection().await;
    let mut take = redis::cmd("HDEL");
    take.arg(format!("workyard:{{q}}:running:{}", holding.consumer))
        .arg(&id);
    assert_eq!(take.query_async::<u32>(&mut redis).await.unwrap(), 1);
    go.notify_one();
    let heard = tokio::time::timeout(SOON, said.recv()).await.unwrap();
    assert_eq!(heard, Some((false, true, true)), "it is told to stop");
    assert_eq!(yard.total("stale").await, 1, "and that is counted");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_can_say_how_far_it_is_and_enqueue_more() {
    let yard = Yard::start().await;
    let gate = Arc::new(Notify::new());
    let g = Arc::clone(&gate);
    let registry = echo_and(|r| {
        r.register("parent", move |ctx: Context, _: Json| {
            let g = Arc::clone(&g);
            async move {
                ctx.progress("half way").await?;
                let mut child = new_task("echo", "\"child\"");
                child.id = Some(workyard_shared::name::TaskId::new(format!("{}-child", ctx.id()))?);
                ctx.enqueue(child).await?;
                g.notified().await;
                Ok::<_, Failure>(())
            }
        })
        .unwrap();
    });
    let worker = yard.work(registry, yard.config()).await;
    let id = yard.add("parent", "null", |_| {}).await;
    assert_eq!(yard.result(&format!("{id}-child")).await, "\"child\"");
    let (place, meta) = yard.live(&id).await;
    assert_eq!(place, Place::Running);
    assert_eq!(meta.progress, "half way");
    gate.notify_one();
    yard.ended(&id).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_come_through_byte_for_byte() {
    struct Raw;
    impl workyard_consumer::Handler for Raw {
        fn run(&self, _: Context, payload: bytes::Bytes) -> BoxFuture<workyard_consumer::Outcome> {
            Box::pin(std::future::ready(Ok(payload)))
        }
    }
    let yard = Yard::on(TestServer::start().await);
    let big = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let registry = echo_and(|r| {
        r.add("raw", Arc::new(Raw), None).unwrap();
    });
    let worker = yard.work(registry, yard.config()).await;
    for payload in [
        "{}",
        "[]",
        "null",
        "1.0",
        "1e400",
        "123456789012345678901234567890",
        "\"\\u0000\\ud83d\\ude00é\u{2028}\"",
        " { \"a\" :\n1 } ",
        "-0.0",
        &big,
        &deep,
    ] {
        let id = yard.add("raw", payload, |_| {}).await;
        assert_eq!(yard.result(&id).await, *payload);
    }
    let task =
        workyard_shared::envelope::NewTask::new(workyard_shared::name::Kind::new("raw").unwrap(), format!("{big} "));
    assert!(task.unwrap_err().to_string().contains("1048576"));
    worker.stop().await;
}
