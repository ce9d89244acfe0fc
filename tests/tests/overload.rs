//! A queue with a limit: who is refused, who waits, who gives way, and that nobody slips past.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use workyard_consumer::{Context, Failure, Registry};
use workyard_producer::{Client, ClientConfig, Error, NewTask, Overload, QueueName, Setting, task};
use workyard_shared::Error as CallError;
use workyard_shared::broker::{Handback, JobVerdict, Place, Seen, Settled, Turn};
use workyard_shared::job::{Form, JobState};
use workyard_shared::name::TaskId;
use workyard_tests::hand::{Hand, job_id, spec, submit};
use workyard_tests::{Yard, queue_name, wait_until};

const SOON: Duration = Duration::from_secs(15);

fn q() -> QueueName {
    queue_name("q")
}

fn client(yard: &Yard, block: Duration) -> Client {
    let mut config = ClientConfig::from_url(&yard.server.producer_url()).unwrap();
    config.block_timeout = block;
    Client::new(config).unwrap()
}

async fn limit(yard: &Yard, most: u64, overload: Overload) {
    let settings = [Setting::MaxPending(most), Setting::Overload(overload)];
    yard.operator.set(&settings).await.unwrap();
}

fn urgent(id: &str, priority: u8) -> NewTask {
    task("echo").id(id).priority(priority).build().unwrap()
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).unwrap();
    registry
}

/// Depth, limit and policy of a refusal.
#[track_caller]
fn full<T: std::fmt::Debug>(result: Result<T, Error>) -> (u64, u64, Overload) {
    match result.unwrap_err() {
        Error::Call(CallError::Full {
            depth, limit, policy, ..
        }) => (depth, limit, policy),
        other => panic!("{other:?}"),
    }
}

async fn push(redis: &mut MultiplexedConnection, id: &str, priority: u8) {
    let item = format!(r#"{{"kind":"echo","id":"{id}","priority":{priority}}}"#);
    let mut cmd = redis::cmd("RPUSH");
    let _: u64 = cmd
        .arg("workyard:{q}:inbox")
        .arg(item)
        .query_async(redis)
        .await
        .unwrap();
}

/// The item of a rejected entry.
fn raw(entry: &str) -> String {
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
    entry["raw"].as_str().unwrap().to_owned()
}

async fn rejected(redis: &mut MultiplexedConnection) -> Vec<String> {
    let mut cmd = redis::cmd("LRANGE");
    cmd.arg("workyard:{q}:rejected").arg(0).arg(-1);
    cmd.query_async(redis).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_a_whole_call_and_says_how_full_it_is() {
    let yard = Yard::start().await;
    limit(&yard, 10, Overload::Reject).await;
    yard.add_many(8, "echo", "1").await;
    let client = client(&yard, SOON);
    let three = || (0..3).map(|_| task("echo").build().unwrap()).collect();
    let begun = Instant::now();
    assert_eq!(
        full(client.enqueue_many(&q(), three()).await),
        (8, 10, Overload::Reject)
    );
    assert!(begun.elapsed() < SOON, "a queue that rejects was waited for");
    assert_eq!(yard.overview().await.pending, 8, "a part of the call came in");
    for n in 0..2 {
        client.enqueue(&q(), urgent(&format!("t{n}"), 5)).await.unwrap();
    }
    assert_eq!(
        full(client.enqueue(&q(), urgent("t2", 0)).await),
        (10, 10, Overload::Reject)
    );
    // What is here already, and what does not become pending, needs no room.
    client.enqueue(&q(), urgent("t1", 5)).await.unwrap();
    let later = task("echo").delay(Duration::from_secs(60)).build().unwrap();
    client.enqueue(&q(), later).await.unwrap();
    limit(&yard, 0, Overload::Reject).await;
    client.enqueue(&q(), urgent("t2", 0)).await.unwrap();
    assert_eq!(yard.overview().await.pending, 11);
}

/// A task of about 1 KiB.
fn heavy(id: &str) -> NewTask {
    task("echo").id(id).payload(&"x".repeat(1000)).build().unwrap()
}

async fn limit_bytes(yard: &Yard, most: u64, overload: Overload) {
    let settings = [Setting::MaxBytes(most), Setting::Overload(overload)];
    yard.operator.set(&settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bytes_is_refused_at_the_budget_until_its_tasks_have_gone() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    let client = client(&yard, SOON);
    for overload in [Overload::Reject, Overload::Shed] {
        limit_bytes(&yard, 100_000, overload).await;
        let mut taken = 0;
        let refusal = loop {
            match client.enqueue(&q(), heavy(&format!("{overload:?}{taken}"))).await {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
            assert!(taken < 200, "no budget holds");
        };
        let Error::Call(CallError::Full {
            bytes: Some((held, most)),
            policy,
            ..
        }) = refusal
        else {
            panic!("{refusal:?}")
        };
        assert_eq!((most, policy), (100_000, overload));
        // The call before it found room.
        assert!((100_000..103_000).contains(&held), "{held} after {taken} tasks");
        assert!((60..110).contains(&taken), "{taken}");
        // What is here already needs no room; what comes later does.
        client.enqueue(&q(), heavy(&format!("{overload:?}0"))).await.unwrap();
        let later = task("echo").delay(Duration::from_secs(60)).build().unwrap();
        full(client.enqueue(&q(), later).await);
        let pending = yard.overview().await.pending;
        assert_eq!((pending, yard.total("shed").await), (taken, 0));
        push(&mut redis, &format!("raw{overload:?}"), 0).await;
        let worker = yard.work(registry(), yard.config()).await;
        // The raw one too, which had to wait in the inbox.
        wait_until(SOON, || async {
            let Seen::Ended(_) = yard.look(&format!("raw{overload:?}")).await else {
                return false;
            };
            yard.overview().await.pending == 0
        })
        .await;
        worker.stop().await;
        assert_eq!(rejected(&mut redis).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_waits_for_bytes_in_a_queue_that_blocks() {
    let yard = Yard::start().await;
    limit_bytes(&yard, 30_000, Overload::Block).await;
    let patient = client(&yard, SOON);
    let many: Vec<_> = (0..300).map(|n| heavy(&format!("b{n}"))).collect();
    let impatient = client(&yard, Duration::from_millis(200));
    // The first call finds an empty queue and comes in whole.
    impatient.enqueue_many(&q(), many).await.unwrap();
    full(impatient.enqueue(&q(), heavy("late")).await);
    let waiting = tokio::spawn(async move { patient.enqueue(&q(), heavy("patient")).await });
    let worker = yard.work(registry(), yard.config()).await;
    waiting.await.unwrap().unwrap();
    yard.reaches("completed", 301).await;
    worker.stop().await;
}

/// As if this had happened: so many had been completed when the minute so many before this one began; and until now.
async fn history(yard: &Yard, minute: u64, before: &[(u64, u64)], completed: u64) {
    let mut pipe = redis::pipe();
    for (ago, completed) in before {
        let minute = minute - ago;
        pipe.cmd("HSET").arg("workyard:{q}:minutes").arg(minute % 1440);
        pipe.arg(format!("{minute} 0 {completed}{}", " 0".repeat(15)));
    }
    pipe.cmd("HSET")
        .arg("workyard:{q}:stats")
        .arg("completed")
        .arg(completed);
    pipe.exec_async(&mut yard.server.connection().await).await.unwrap();
}

/// The wait that a refused submitter is told.
async fn told(client: &Client) -> Option<Duration> {
    match client.enqueue(&q(), urgent("a", 5)).await.unwrap_err() {
        Error::Call(CallError::Full { estimated_wait, .. }) => estimated_wait,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_estimates_the_wait_from_the_pace_while_there_was_work() {
    let yard = Yard::start().await;
    yard.add_many(10, "echo", "1").await;
    limit(&yard, 10, Overload::Reject).await;
    let client = client(&yard, SOON);
    assert_eq!(told(&client).await, None);
    // Each of the spans may be a minute longer: the clock goes on beside this.
    let minute = client.now().await.unwrap().ms() / 60_000;
    history(&yard, minute, &[(3, 0), (0, 300)], 300).await;
    assert_eq!(told(&client).await, None, "nobody is there to go on at that pace");
    let _hand = Hand::register(&yard.queue).await;
    let within = |wait: Option<Duration>, least, most| {
        println!("told {wait:?}");
        assert!((least..=most).contains(&wait.unwrap().as_millis()), "{wait:?}");
    };
    // 300 in 180 to 240 s.
    within(told(&client).await, 6_000, 10_000);
    // 300 in 60 to 120 s, behind three minutes without work: those are no pace.
    history(&yard, minute, &[(5, 0), (2, 0), (1, 0), (0, 300)], 300).await;
    within(told(&client).await, 2_000, 6_000);
    // They were many then; since this backlog is there, 30 have ended in 120 to 180 s.
    history(&yard, minute, &[(5, 0), (3, 0), (2, 1000), (1, 1015), (0, 1030)], 1030).await;
    within(told(&client).await, 1, 3_600);
    waits_since(&yard, (minute - 2) * 60_000 - 1).await;
    within(told(&client).await, 40_000, 80_000);
}

/// As if the first of the pending tasks had been created then.
async fn waits_since(yard: &Yard, ms: u64) {
    let mut redis = yard.server.connection().await;
    let id = &yard.queue.page("pending", 0, 1, false).await.unwrap()[0];
    let tasks = yard.queue.keys().named("tasks");
    let record: String = redis::Cmd::hget(&tasks, id).query_async(&mut redis).await.unwrap();
    let rest = record[1..].trim_start_matches(|c: char| c.is_ascii_digit());
    let older = redis::Cmd::hset(&tasks, id, format!("{}{ms}{rest}", &record[..1]));
    older.exec_async(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_waits_for_room_in_a_queue_that_blocks_and_gives_up_in_time() {
    let yard = Yard::start().await;
    limit(&yard, 10, Overload::Block).await;
    yard.add_many(10, "echo", "1").await;
    let impatient = client(&yard, Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(
        full(impatient.enqueue(&q(), urgent("a", 5)).await),
        (10, 10, Overload::Block)
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // More than the limit in one go comes in piece by piece, in order, as room comes.
    let patient = client(&yard, SOON);
    let many: Vec<_> = (0..35).map(|n| urgent(&format!("b{n:02}"), 5)).collect();
    let adding = tokio::spawn(async move { patient.enqueue_many(&q(), many).await });
    let worker = yard.work(registry(), yard.config()).await;
    let receipts = adding.await.unwrap().unwrap();
    let ids: Vec<String> = receipts.iter().map(|receipt| receipt.id.to_string()).collect();
    assert_eq!(ids, (0..35).map(|n| format!("b{n:02}")).collect::<Vec<_>>());
    yard.reaches("completed", 45).await;
    worker.stop().await;
    assert_eq!(yard.total("submitted").await, 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_producers_never_push_a_queue_above_its_limit_and_lose_nothing() {
    const EACH: u64 = 1500;
    let yard = Yard::start().await;
    limit(&yard, 1000, Overload::Block).await;
    let mut producers = tokio::task::JoinSet::new();
    for number in 0..8_u64 {
        let client = client(&yard, SOON * 4);
        producers.spawn(async move {
            // Half of them in bulk, half one by one with many under way.
            if number % 2 == 0 {
                let tasks = (0..EACH).map(|_| task("echo").build().unwrap()).collect();
                return client.enqueue_many(&q(), tasks).await.unwrap().len() as u64;
            }
            let mut singles = tokio::task::JoinSet::new();
            for _ in 0..EACH {
                let client = client.clone();
                singles.spawn(async move { client.enqueue(&q(), task("echo").build().unwrap()).await.unwrap() });
            }
            singles.join_all().await.len() as u64
        });
    }
    wait_until(SOON, || async { yard.overview().await.pending == 1000 }).await;
    let worker = yard.work(registry(), yard.config()).await;
    let (mut highest, mut accepted) = (0, 0);
    let begun = Instant::now();
    while accepted < 8 * EACH {
        let seen = yard.overview().await;
        assert!(begun.elapsed() < SOON * 2, "stuck: {seen:?}");
        highest = highest.max(seen.pending);
        while let Some(done) = producers.try_join_next() {
            accepted += done.unwrap();
        }
    }
    // That it was reached is known from above; how high a sample finds it depends on the machine.
    assert!(highest <= 1000, "{highest}");
    yard.reaches("completed", 8 * EACH).await;
    worker.stop().await;
    assert_eq!(yard.total("submitted").await, 8 * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_whose_tasks_went_together_are_refused_one_by_one() {
    let yard = Yard::start().await;
    limit(&yard, 7, Overload::Reject).await;
    let client = client(&yard, SOON);
    let mut singles = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        singles.spawn(async move { client.enqueue(&q(), task("echo").build().unwrap()).await.is_ok() });
    }
    let came_in = singles.join_all().await.into_iter().filter(|came| *came).count();
    assert_eq!((came_in, yard.overview().await.pending), (7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_urgent_give_way_to_more_urgent_ones_and_wait_as_dead_letters() {
    let yard = Yard::start().await;
    limit(&yard, 4, Overload::Shed).await;
    let client = client(&yard, SOON);
    for (id, priority) in [("a", 5), ("b", 9), ("c", 9), ("d", 1)] {
        client.enqueue(&q(), urgent(id, priority)).await.unwrap();
    }
    // Of two alike the younger goes.
    client.enqueue(&q(), urgent("e", 5)).await.unwrap();
    client.enqueue(&q(), urgent("f", 8)).await.unwrap();
    assert_eq!(full(client.enqueue(&q(), urgent("g", 8)).await), (4, 4, Overload::Shed));
    // Two for two, or none.
    let pair = |first, second| vec![urgent("h", first), urgent("i", second)];
    assert_eq!(
        full(client.enqueue_many(&q(), pair(0, 5)).await),
        (4, 4, Overload::Shed)
    );
    client.enqueue_many(&q(), pair(0, 4)).await.unwrap();
    let pending = yard.queue.page("pending", 0, 10, false).await.unwrap();
    assert_eq!(pending, ["h", "d", "i", "a"]);
    let mut shed = yard.queue.page("failed", 0, 10, false).await.unwrap();
    shed.sort();
    assert_eq!(shed, ["b", "c", "e", "f"]);
    let meta = yard.dead("b").await;
    assert_eq!((meta.reason.as_str(), meta.failures), ("shed", 0));
    assert!(meta.error.contains("max_pending=4"), "{}", meta.error);
    assert_eq!((yard.total("shed").await, yard.total("failed").await), (4, 4));
    // A retry is never refused.
    assert!(yard.operator.retry(&["b".to_owned()]).await.unwrap()[0]);
    assert_eq!(yard.overview().await.pending, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_task_that_is_shed_hears_of_it() {
    let yard = Yard::start().await;
    limit(&yard, 1, Overload::Shed).await;
    let client = client(&yard, SOON);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.enqueue_and_wait(&q(), urgent("a", 9), SOON).await })
    };
    wait_until(SOON, || async { yard.overview().await.pending == 1 }).await;
    client.enqueue(&q(), urgent("b", 1)).await.unwrap();
    let ended = waiting.await.unwrap().unwrap().1.unwrap();
    assert_eq!((ended.state.as_str(), ended.reason.as_str()), ("failed", "shed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_sheds_a_bounded_number_and_a_bulk_goes_on_in_such_steps() {
    let yard = Yard::start().await;
    limit(&yard, 200, Overload::Shed).await;
    for _ in 0..200 {
        yard.add("echo", "1", |options| options.priority = Some(9)).await;
    }
    let client = client(&yard, SOON);
    let tasks = |n: usize| {
        (0..n)
            .map(|_| task("echo").priority(1).build().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(client.enqueue_many(&q(), tasks(120)).await.unwrap().len(), 120);
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.failed, seen.totals["shed"]), (200, 120, 120));
    // A call of the protocol that would shed more than fifty is refused whole.
    let batch: Vec<_> = tasks(51).into_iter().map(|task| (TaskId::fresh(), task)).collect();
    let session = workyard_shared::name::SessionId::fresh();
    let number = workyard_shared::broker::Batch {
        session: &session,
        number: 1,
        waiter: None,
    };
    let cmd = yard.queue.enqueue_cmd(number, true, &batch).unwrap();
    assert!(matches!(yard.producer.enqueue(&cmd).await, Err(CallError::Full { .. })));
    let after = yard.overview().await;
    assert_eq!(
        (after.pending, after.failed, after.totals),
        (seen.pending, seen.failed, seen.totals)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_a_promotion_and_what_a_dead_consumer_held_come_in_whatever_the_limit() {
    let yard = Yard::start().await;
    let delayed = yard
        .add("echo", "1", |options| options.delay = Some(Duration::from_millis(1)))
        .await;
    let mut hand = Hand::register(&yard.consumer).await;
    yard.add("echo", "1", |_| {}).await;
    assert_eq!(hand.claim(1).await.len(), 1);
    limit(&yard, 1, Overload::Reject).await;
    yard.add("echo", "1", |_| {}).await;
    wait_until(SOON, || async { yard.consumer.promote(10).await.unwrap().0 == 1 }).await;
    assert!(matches!(
        yard.look(&delayed).await,
        Seen::Live {
            place: Place::Pending,
            ..
        }
    ));
    assert_eq!(yard.consumer.leave(&hand.consumer).await.unwrap(), 1);
    assert_eq!(yard.overview().await.pending, 3);
    assert_eq!(
        full(client(&yard, SOON).enqueue(&q(), urgent("a", 0)).await),
        (3, 1, Overload::Reject)
    );
}

/// As a consumer does with tasks whose kind is full.
#[tokio::test(flavor = "multi_thread")]
async fn what_consumers_handed_back_for_a_while_waits_too_and_what_is_delayed_does_not() {
    let yard = Yard::start().await;
    // They fall due among those that are handed back below: of many, five runs of ten are looked at.
    let due = |at: u32, of: u32| SOON + Duration::from_secs(3) * at / of;
    for at in 0..30 {
        yard.add("echo", "1", |options| options.delay = Some(due(at, 30))).await;
    }
    let client = client(&yard, SOON);
    for (held, about) in [(6, 6..=6), (200, 170..=220)] {
        limit(&yard, 0, Overload::Reject).await;
        let there = usize::try_from(yard.overview().await.handed_back).unwrap();
        yard.add_many(held - there, "echo", "1").await;
        let mut hand = Hand::register(&yard.consumer).await;
        let grants = hand.claim(held).await.into_iter().zip(0..);
        let handbacks = grants.map(|(grant, at)| Handback {
            id: grant.id,
            token: grant.token,
            unhandled: None,
            delay: due(at, 200),
        });
        let turn = Turn {
            number: 1,
            handbacks: handbacks.collect(),
            ..Turn::default()
        };
        let answer = turn.send(&yard.consumer, &hand.consumer, None).await.unwrap();
        assert!(answer.handbacks.iter().all(|settled| *settled == Settled::Released));
        let seen = yard.overview().await;
        assert_eq!((seen.pending, seen.scheduled), (0, 30 + held as u64));
        // Of many a few are looked at.
        assert!(about.contains(&seen.handed_back), "{}", seen.handed_back);
        limit(&yard, held as u64 / 2, Overload::Reject).await;
        let (depth, ..) = full(client.enqueue(&q(), urgent("new", 0)).await);
        assert!(about.contains(&depth), "{depth}");
        let stats = client.stats(&q()).await.unwrap();
        assert!(about.contains(&client.signals(&q(), &stats).await.unwrap().backlog));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_job_are_neither_refused_nor_shed() {
    let yard = Yard::start().await;
    limit(&yard, 3, Overload::Shed).await;
    let job = job_id("nightly");
    submit(&yard.producer, &job, &spec(Form::Fold { fan_in: Some(10) }), 20).await;
    assert_eq!(yard.overview().await.pending, 20);
    // They are the least urgent ones, and stay.
    let client = client(&yard, SOON);
    assert_eq!(
        full(client.enqueue(&q(), urgent("a", 0)).await),
        (20, 3, Overload::Shed)
    );
    let mut hand = Hand::register(&yard.consumer).await;
    hand.work_all(&job, |_| JobVerdict::Done).await;
    assert_eq!(hand.record(&job).await.state, JobState::Completed);
    client.enqueue(&q(), urgent("a", 0)).await.unwrap();
}

/// Bytes of a payload that nobody should read without need.
const LARGE: usize = 100_000;

/// Calls of functions so far, connections, bytes that Redis sent.
async fn traffic(redis: &mut MultiplexedConnection) -> [u64; 3] {
    let mut cmd = redis::cmd("INFO");
    let info: String = cmd.arg("stats").arg("commandstats").query_async(redis).await.unwrap();
    [
        "cmdstat_fcall:calls=",
        "total_connections_received:",
        "total_net_output_bytes:",
    ]
    .map(|name| {
        let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        rest.trim().split(',').next().unwrap().parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_raw_waits_in_the_inbox_of_a_full_queue_and_comes_in_with_the_room() {
    let yard = Yard::start().await;
    limit(&yard, 3, Overload::Reject).await;
    yard.operator.set_paused(true).await.unwrap();
    let worker = yard.work(registry(), yard.config()).await;
    let mut redis = yard.server.connection().await;
    for n in 0..20 {
        let item = format!(
            r#"{{"kind":"echo","id":"raw{n:02}","payload":"{}"}}"#,
            "x".repeat(LARGE)
        );
        let mut cmd = redis::cmd("RPUSH");
        cmd.arg("workyard:{q}:inbox").arg(item);
        cmd.exec_async(&mut redis).await.unwrap();
    }
    wait_until(SOON, || async { yard.overview().await.pending == 3 }).await;
    assert_eq!(yard.queue.inbox_len().await.unwrap(), 17);
    // A full queue does not keep Redis busy: no item is read in vain, on no new connection.
    let [calls, connections, bytes] = traffic(&mut redis).await;
    tokio::time::sleep(Duration::from_secs(2)).await; // a rate needs a span
    let after = traffic(&mut redis).await;
    let during = [after[0] - calls, after[1] - connections, after[2] - bytes];
    assert!(
        during[0] < 40 && during[1] == 0 && during[2] < LARGE as u64,
        "calls, connections, bytes in two seconds: {during:?}"
    );
    yard.operator.set_paused(false).await.unwrap();
    yard.reaches("completed", 20).await;
    worker.stop().await;
    assert_eq!(yard.queue.inbox_len().await.unwrap(), 0);
    assert!(rejected(&mut redis).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_raw_sheds_others_or_is_rejected_with_the_reason() {
    let yard = Yard::start().await;
    limit(&yard, 3, Overload::Shed).await;
    yard.operator.set_paused(true).await.unwrap();
    for _ in 0..3 {
        yard.add("echo", "1", |_| {}).await;
    }
    let mut redis = yard.server.connection().await;
    for (id, priority) in [("low", 9), ("same", 5), ("high", 1)] {
        push(&mut redis, id, priority).await;
    }
    let worker = yard.work(registry(), yard.config()).await;
    wait_until(SOON, || async { yard.queue.inbox_len().await.unwrap() == 0 }).await;
    let entries = rejected(&mut redis).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert!(
        entries[1].contains("the queue is full (3 pending, max_pending=3)"),
        "{entries:?}"
    );
    assert!(
        raw(&entries[1]).contains(r#""id":"low""#) && raw(&entries[0]).contains(r#""id":"same""#),
        "{entries:?}"
    );
    assert!(matches!(
        yard.look("high").await,
        Seen::Live {
            place: Place::Pending,
            ..
        }
    ));
    let seen = yard.overview().await;
    assert_eq!(
        (seen.pending, seen.failed, seen.totals["shed"], seen.totals["rejected"]),
        (3, 1, 1, 2)
    );
    worker.stop().await;
}
