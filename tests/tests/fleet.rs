//! Several consumers, queues and partitions; one slot of a cluster; quiet logs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::balance::Policy;
use workyard_shared::broker::{Beat, ClaimRequest, Claimed, Completion, Settled, Turn};
use workyard_shared::name::{SessionId, TaskId};
use workyard_shared::settings::Setting;
use workyard_shared::submit::Submitter;
use workyard_tests::{Daemon, Signal, TestServer, Yard, new_task, queue_name, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(20);

fn sleeper(name: &'static str, log: &Arc<Mutex<HashMap<String, &'static str>>>) -> Registry {
    let log = Arc::clone(log);
    let mut registry = Registry::new();
    registry
        .register("sleep", move |ctx: Context, ms: u64| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().insert(ctx.id().to_owned(), name);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok::<_, Failure>(())
            }
        })
        .unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_claimed_ahead_do_not_wait_behind_slow_ones_while_another_consumer_is_idle() {
    let yard = Yard::start().await;
    let log = Arc::default();
    let mut config = yard.config();
    config.concurrency = 2;
    let first = yard.work(sleeper("first", &log), config.clone()).await;
    // Tasks so short that it claims ahead.
    yard.add_many(300, "sleep", "0").await;
    yard.reaches("completed", 300).await;
    // Two that take long, and some behind them which the first consumer claims ahead.
    yard.add_many(2, "sleep", "20000").await;
    let behind = yard.add_many(10, "sleep", "0").await;
    let second = yard.work(sleeper("second", &log), config).await;
    let took = yard.reaches("completed", 310).await;
    println!("ten tasks behind two slow ones ran after {took:?}");
    assert!(behind.iter().all(|id| log.lock().unwrap()[id] == "second"));
    second.stop().await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_full_through_another_queue_passes_its_wake_up_on() {
    let yard = Yard::start().await;
    let log = Arc::default();
    let mut both = yard.config();
    both.concurrency = 1;
    both.queues.push((queue_name("other"), 1));
    let busy = yard.work(sleeper("busy", &log), both).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    let other = Submitter::start(yard.broker.queue(&queue_name("other")));
    other
        .submit(vec![(TaskId::fresh(), new_task("sleep", "10000"))], true, None, SOON)
        .await
        .unwrap();
    wait_until(SOON, || async { log.lock().unwrap().len() == 1 }).await;
    // It is parked on `q` with the lowest rank, but has no room; the next one has.
    let mut config = yard.config();
    config.concurrency = 1;
    let idle = yard.work(sleeper("idle", &log), config).await;
    wait_until(SOON, || async { yard.overview().await.parked == 2 }).await;
    let id = yard.add("sleep", "0", |_| {}).await;
    yard.reaches("completed", 1).await;
    assert_eq!(log.lock().unwrap()[&id], "idle");
    idle.stop().await;
    drop(busy);
}

#[tokio::test]
async fn a_partition_has_a_slot_of_its_own_and_works_like_the_plain_queue() {
    let yard = Yard::start().await;
    let queue = yard.broker.partition(&queue_name("q"), 1);
    let submitter = Submitter::start(queue.clone());
    submitter
        .submit(vec![(TaskId::fresh(), new_task("k", "1"))], true, None, SOON)
        .await
        .unwrap();
    assert_eq!(yard.overview().await.pending, 0);
    let consumer = SessionId::fresh();
    assert!(matches!(
        queue.heartbeat(&consumer, SOON, true).await.unwrap(),
        Beat::Ok { .. }
    ));
    let request = ClaimRequest {
        park: true,
        ..ClaimRequest::new(&consumer, 10, 0)
    };
    let (Claimed::Tasks(grants) | Claimed::More(grants)) = queue.claim(request).await.unwrap() else {
        panic!()
    };
    let completion = Completion {
        id: grants[0].id.clone(),
        token: grants[0].token,
        kind: "k".to_owned(),
        created_ms: 1,
        run: Duration::ZERO,
        retention: Duration::ZERO,
        result: bytes::Bytes::from_static(b"1"),
    };
    let turn = Turn {
        number: 1,
        completions: vec![completion],
        ..Turn::default()
    };
    assert_eq!(
        turn.send(&queue, &consumer, None).await.unwrap().completions,
        [Settled::Completed]
    );
    let seen = queue.overview().await.unwrap();
    assert_eq!((seen.totals["completed"], seen.running, seen.pending), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_stays_in_one_slot_of_a_cluster_node() {
    // A node that owns all slots refuses a call whose keys lie in two, and a function that touches a key of another.
    let server = TestServer::start_with(&["--cluster-enabled", "yes"]).await;
    let mut redis = server.connection().await;
    let _: () = redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16383)
        .query_async(&mut redis)
        .await
        .unwrap();
    wait_until(SOON, || {
        let mut redis = redis.clone();
        async move {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut redis).await.unwrap();
            info.contains("cluster_state:ok")
        }
    })
    .await;
    let yard = Yard::on(server);
    let log = Arc::default();
    let worker = yard.work(sleeper("w", &log), yard.config()).await;
    yard.add_many(50, "sleep", "1").await;
    let late = yard
        .add("sleep", "0", |o| o.delay = Some(Duration::from_millis(100)))
        .await;
    let never = yard
        .add("sleep", "0", |o| o.delay = Some(Duration::from_secs(100)))
        .await;
    let _: u64 = redis::cmd("RPUSH")
        .arg("workyard:{q}:inbox")
        .arg(r#"{"kind":"sleep","payload":0}"#)
        .query_async(&mut redis)
        .await
        .unwrap();
    yard.ended(&late).await;
    yard.reaches("completed", 52).await;
    yard.operator.cancel(&never).await.unwrap();
    worker.stop().await;
    assert_eq!(yard.overview().await.consumers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let yard = Yard::on(TestServer::start_durable().await);
    let ledger = yard.server.dir().join("ledger");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledger-consumer"));
    command.arg(yard.server.consumer_url()).arg(&ledger).arg("8");
    let daemon = Daemon::spawn(&mut command);
    yard.add_many(3, "record", r#"{"ms":1}"#).await;
    yard.reaches("completed", 3).await;
    let before = daemon.stderr().lines().count();
    yard.server.kill9();
    tokio::time::sleep(Duration::from_secs(6)).await;
    yard.server.restart().await;
    yard.add_many(3, "record", r#"{"ms":1}"#).await;
    yard.reaches("completed", 6).await;
    wait_until(SOON, || async { daemon.log().contains("Redis serves again") }).await;
    let log = daemon.stderr();
    let lines: Vec<&str> = log.lines().skip(before).collect();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    // The ingester waits on a connection of its own, and says so for itself.
    assert!((1..=2).contains(&count("Redis cannot serve")), "{lines:#?}");
    assert!((1..=2).contains(&count("Redis serves again")), "{lines:#?}");
    assert!(lines.len() <= 4, "{lines:#?}");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_session_is_gone_stops_its_handlers_and_works_on_under_a_new_one() {
    let yard = Yard::start().await;
    let (started, stopped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (s1, s2) = (Arc::clone(&started), Arc::clone(&stopped));
    let mut registry = Registry::new();
    registry
        .register("once", move |ctx: Context, _: u64| {
            let (s1, s2) = (Arc::clone(&s1), Arc::clone(&s2));
            async move {
                s1.notify_one();
                if ctx.attempt() == 1 && ctx.headers().is_empty() && !FIRST.swap(true, Ordering::SeqCst) {
                    let token = ctx.cancellation().clone();
                    tokio::spawn(async move {
                        token.cancelled().await;
                        s2.notify_one();
                    });
                    std::future::pending::<()>().await;
                }
                Ok::<_, Failure>("done")
            }
        })
        .unwrap();
    let worker = yard.work(registry, yard.config()).await;
    let id = yard.add("once", "1", |_| {}).await;
    started.notified().await;
    let mut redis = yard.server.connection().await;
    let _: u64 = redis::cmd("DEL")
        .arg("workyard:{q}:consumers")
        .query_async(&mut redis)
        .await
        .unwrap();
    tokio::time::timeout(SOON, stopped.notified())
        .await
        .expect("the handler of the lost session goes on");
    assert_eq!(yard.result(&id).await, "\"done\"");
    assert!(
        yard.total("stale").await >= 1,
        "the old session's write was not refused"
    );
    worker.stop().await;
}

static FIRST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_several_queues_leaves_no_session_behind() {
    let yard = Yard::start().await;
    let log = Arc::default();
    let mut config = yard.config();
    config.lease = Duration::from_millis(600);
    config.queues.push((queue_name("other"), 1));
    let worker = yard.work(sleeper("w", &log), config).await;
    yard.add("sleep", "2000", |_| {}).await;
    wait_until(SOON, || async { log.lock().unwrap().len() == 1 }).await;
    // `other` is left at once, while `q` drains for several leases.
    worker.stop().await;
    for name in ["q", "other"] {
        let left = yard.broker.queue(&queue_name(name)).consumers().await.unwrap();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    assert_eq!(yard.total("completed").await, 1);
}

/// A daemon of four slots with a kind whose command takes so long.
fn paced(yard: &Yard, takes: &str) -> Daemon {
    let file = yard.server.dir().join(format!("{takes}.toml"));
    let handler = format!("[handlers.work]\ntype = \"command\"\nargv = [\"sleep\", \"{takes}\"]\n");
    let text = format!("concurrency = 4\n[[queues]]\nname = \"q\"\n{handler}");
    std::fs::write(&file, text).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(file)
        .arg("--redis-url")
        .arg(yard.server.consumer_url());
    Daemon::spawn(&mut command)
}

/// Of 120 tasks, one every 50 ms, how many percent a daemon ran.
async fn share_of(yard: &Yard, daemon: &Daemon) -> usize {
    let (mut ticks, mut ids) = (tokio::time::interval(Duration::from_millis(50)), Vec::new());
    for _ in 0..120 {
        ticks.tick().await;
        ids.push(yard.add("work", "1", |_| {}).await);
    }
    let (mine, mut count) = (format!("-{}-", daemon.pid()), 0);
    for id in &ids {
        count += usize::from(yard.ended(id).await.consumer.contains(&mine));
    }
    count * 100 / ids.len()
}

/// Tasks come at 40 % of what both can do together, and one is four times slower.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_the_slow_one_gets_fewer_tasks_by_its_measured_speed_and_not_in_turn() {
    let yard = Yard::start().await;
    let (_fast, slow) = (paced(&yard, "0.1"), paced(&yard, "0.4"));
    wait_until(SOON, || async { yard.overview().await.parked == 2 }).await;
    let mut shares = Vec::new();
    for policy in [Policy::RoundRobin, Policy::Adaptive] {
        yard.operator.set(&[Setting::Balance(policy)]).await.unwrap();
        yard.fleet_says(&format!("\"policy\":\"{policy}\""), SOON).await;
        let share = share_of(&yard, &slow).await;
        println!("{policy}: the slow one ran {share} % of the tasks");
        shares.push(share);
    }
    // In turn as long as it has a free slot; by speed and free slots together a fifth would be its part.
    assert!((25..=60).contains(&shares[0]), "{shares:?}");
    assert!(shares[1] <= 20, "{shares:?}");
}
