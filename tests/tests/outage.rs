//! Redis killed, restarted, emptied, out of memory, without functions: stated behaviour for each.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::PushKind;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use workyard_consumer::{BoxFuture, Context, Failure, Middleware, Registry, Worker, WorkerConfig};
use workyard_producer::{Client, ClientConfig, JobState};
use workyard_shared::Error;
use workyard_shared::balance::Policy;
use workyard_shared::broker::Broker;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Prefix, TaskId};
use workyard_shared::outage::Patience;
use workyard_shared::record::State;
use workyard_shared::settings::Setting;
use workyard_shared::submit::Submitter;
use workyard_tests::{Fault, FaultProxy, TestServer, Yard, new_task, queue_name, roles_are_on, wait_until};

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
    let ids = yard.add_many(200, "gated", "1").await;
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
    // Who waits for a task hears of it all the same, also of one that ended before.
    let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    let ended = client.wait(yard.queue.name(), &ids[0], SOON).await.unwrap();
    assert_eq!(ended.state, State::Completed);
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

/// What the only consumer of a queue sends in 20 s in which there is nothing to do.
async fn sent_while_idle(policy: Policy) {
    let yard = Yard::start().await;
    let (gate, started) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(0)));
    yard.operator.set(&[Setting::Balance(policy)]).await.unwrap();
    let mut config = yard.config();
    config.poll = Duration::from_secs(5);
    let worker = yard.work(gated(&gate, &started), config).await;
    wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    let monitor = workyard_tests::redis_client(&yard.server.url());
    let monitor = monitor.get_async_monitor().await.unwrap();
    let mut lines = monitor.into_on_message::<String>();
    let (begun, mut sent) = (std::time::Instant::now(), Vec::new());
    let all = async {
        while let Some(line) = lines.next().await {
            // What functions call is shown as well.
            if !line.contains(" lua] ") {
                sent.push(line.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" "));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.ok();
    let elapsed = begun.elapsed();
    println!("{policy}: {} commands in {elapsed:?}", sent.len());
    // What comes every few seconds may come once more than that within a span that begins just before it.
    let most = usize::try_from(elapsed.as_secs()).unwrap() * 2 + 2;
    assert!(
        sent.len() <= most,
        "{policy}: {} commands in {elapsed:?}\n{sent:#?}",
        sent.len()
    );
    worker.stop().await;
}

#[tokio::test]
async fn an_idle_consumer_sends_at_most_two_commands_a_second_under_every_policy() {
    futures_util::future::join_all(Policy::ALL.map(sent_while_idle)).await;
    assert!(Patience::default().next_delay(1.0) > Duration::ZERO);
}

#[tokio::test]
async fn a_connection_that_fell_silent_costs_one_timeout_and_is_replaced() {
    let server = TestServer::start().await;
    let proxy = FaultProxy::before(server.port()).await.unwrap();
    let mut config = LinkConfig::from_url(&server.url_through(&proxy)).unwrap();
    config.response_timeout = Duration::from_millis(500);
    let (push_in, mut pushes) = mpsc::unbounded_channel();
    let link = Link::new(config, Some(push_in)).unwrap();
    let ping = redis::cmd("PING");
    link.call(&ping).await.unwrap();
    proxy.set(Fault::BlackHole);
    let lost = link.call(&ping).await;
    assert!(matches!(lost, Err(Error::Unknown(_))), "{lost:?}");
    // What the old connection carries vanishes for ever; only a new one can answer.
    proxy.set(Fault::None);
    link.call(&ping).await.unwrap();
    let news = tokio::time::timeout(SOON, pushes.recv()).await.unwrap().unwrap();
    assert_eq!(
        news.kind,
        PushKind::Disconnection,
        "its subscriptions are lost, which nobody was told"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_was_cut_in_its_middle_is_unknown_and_sending_again_adds_nothing() {
    let yard = Yard::start().await;
    let proxy = FaultProxy::before(yard.server.port()).await.unwrap();
    let link = Link::new(LinkConfig::from_url(&yard.server.url_through(&proxy)).unwrap(), None).unwrap();
    link.ensure_library().await.unwrap();
    proxy.set(Fault::CutReply(1));
    let cut = link.call(redis::cmd("ECHO").arg("a longer answer")).await;
    assert!(matches!(cut, Err(Error::Unknown(_))), "{cut:?}");

    // The attempt to connect anew is cut as well; that must not be remembered.
    wait_until(SOON, || async { proxy.hits() >= 2 }).await;
    proxy.set(Fault::None);
    let ping = redis::cmd("PING");
    wait_until(SOON, || async { link.call(&ping).await.is_ok() }).await;
    let queue = Broker::new(link, Prefix::default()).queue(&queue_name("q"));
    let submitter = Submitter::start(queue);
    let (before, task) = (proxy.hits(), (TaskId::fresh(), new_task("k", "1")));
    proxy.set(Fault::CutReply(1));
    let adding = tokio::spawn(async move { submitter.submit(vec![task], true, None, SOON).await });
    wait_until(SOON, || async { proxy.hits() > before }).await;
    assert_eq!(yard.overview().await.pending, 1, "it was applied");
    proxy.set(Fault::None);
    assert_eq!(adding.await.unwrap().unwrap().len(), 1);
    assert_eq!(yard.overview().await.pending, 1);
}

/// Its password is changed under it: it asks now and then, and goes on when it is let in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_login_is_refused_asks_seldom_and_goes_on_when_it_is_let_in() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    let mut acl = async |words: &[&str]| {
        let mut set = redis::cmd(words[0]);
        set.arg(&words[1..]).exec_async(&mut redis).await.unwrap();
    };
    acl(&["ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all"]).await;
    let config = WorkerConfig {
        link: LinkConfig::from_url(&yard.server.url_with("worker:secret@")).unwrap(),
        ..yard.config()
    };
    let gate = Arc::new(Semaphore::new(100));
    let worker = yard.work(gated(&gate, &Arc::default()), config).await;
    let connections = async || {
        let ask = redis::cmd("INFO").arg("stats").to_owned();
        let info: redis::InfoDict = ask.query_async(&mut yard.server.connection().await).await.unwrap();
        info.get::<u64>("total_connections_received").unwrap()
    };
    acl(&["ACL", "SETUSER", "worker", "resetpass", ">other"]).await;
    acl(&["CLIENT", "KILL", "USER", "worker"]).await;
    let before = connections().await;
    // That nothing happens can only be waited for.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let tried = connections().await - before;
    println!("{tried} connections in 4 s");
    assert!(tried < 100, "{tried} connections in 4 s");
    acl(&["ACL", "SETUSER", "worker", "resetpass", ">secret"]).await;
    let id = yard.add("gated", "1", |_| {}).await;
    yard.result(&id).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_link_that_was_refused_for_its_password_connects_when_the_password_is_right() {
    let server = TestServer::start().await;
    let url = server.url_with("worker:secret@");
    let link = Link::new(LinkConfig::from_url(&url).unwrap(), None).unwrap();
    let ping = redis::cmd("PING");
    let refused = link.call(&ping).await;
    assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
    let mut redis = server.connection().await;
    let mut allow = redis::cmd("ACL");
    allow.arg(&["SETUSER", "worker", "on", ">secret", "+@all"]);
    allow.exec_async(&mut redis).await.unwrap();
    wait_until(SOON, || async { link.call(&ping).await.is_ok() }).await;
}

#[tokio::test]
async fn a_link_that_was_refused_its_database_by_a_busy_redis_connects_when_it_is_free() {
    let server = TestServer::start_with(&["--busy-reply-threshold", "50"]).await;
    let link = Link::new(LinkConfig::from_url(&format!("{}1", server.url())).unwrap(), None).unwrap();
    let mut hog = server.connection().await;
    let hogging = tokio::spawn(async move {
        let mut script = redis::cmd("EVAL");
        script.arg("while true do end").arg(0);
        script.exec_async(&mut hog).await
    });
    let ping = redis::cmd("PING");
    wait_until(SOON, || async {
        let busy = link.call(&ping).await;
        matches!(
            busy,
            Err(Error::Unavailable {
                outage: workyard_shared::Outage::Busy,
                ..
            })
        )
    })
    .await;
    let mut redis = server.connection().await;
    redis::cmd("SCRIPT").arg("KILL").exec_async(&mut redis).await.unwrap();
    wait_until(SOON, || async { link.call(&ping).await.is_ok() }).await;
    assert!(hogging.await.unwrap().is_err(), "the script was killed");
}

/// Holds each reduce back before it reads what it reduces.
struct Held {
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Middleware for Held {
    fn before(&self, ctx: &Context) -> BoxFuture<()> {
        let (begun, go) = (Arc::clone(&self.begun), Arc::clone(&self.go));
        let is_reduce = ctx.kind() == "add";
        Box::pin(async move {
            if is_reduce {
                begun.add_permits(1);
                go.acquire().await.unwrap().forget();
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_that_finds_redis_away_waits_for_its_inputs_and_burns_no_attempt() {
    let yard = Yard::on(TestServer::start_durable().await);
    let mut registry = Registry::new();
    registry.map("same", |n: i64| Ok::<i64, Failure>(n)).unwrap();
    registry
        .reduce("add", |a: i64, b: i64| Ok::<i64, Failure>(a + b))
        .unwrap();
    let (begun, go, stop) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(Semaphore::new(0)),
        CancellationToken::new(),
    );
    let held = Held {
        begun: Arc::clone(&begun),
        go: Arc::clone(&go),
    };
    let worker = Worker::new(yard.config(), registry).unwrap().with_middleware(held);
    let running = tokio::spawn(worker.run(stop.clone()));
    let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    let job = client
        .map_reduce(&queue_name("q"), "same", "add")
        .items(1..=4)
        .chunk_size(1)
        .fan_in_all()
        .max_attempts(1)
        .submit()
        .await
        .unwrap();
    let held = tokio::time::timeout(SOON, begun.acquire()).await;
    held.expect("a reduce begins").unwrap().forget();
    yard.server.kill9();
    go.add_permits(100);
    // Far longer than it takes to be refused a connection.
    tokio::time::sleep(Duration::from_secs(1)).await;
    yard.server.restart().await;
    let record = job.wait(SOON).await.unwrap();
    assert_eq!(record.state, JobState::Completed, "{}", record.error);
    assert_eq!(job.result::<i64>().await.unwrap(), Some(10));
    stop.cancel();
    running.await.unwrap().unwrap();
}
