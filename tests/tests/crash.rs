//! Processes killed, frozen and drained under load, checked against a ledger outside of Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use workyard_shared::record::State;
use workyard_tests::{Daemon, Signal, TestServer, Yard, wait_until};

const LONG: Duration = Duration::from_secs(120);
/// Within this the tasks of a killed consumer run elsewhere.
const DEADLINE: Duration = Duration::from_secs(5);

struct Fleet {
    url: String,
    ledger: PathBuf,
    concurrency: usize,
}

impl Fleet {
    fn on(yard: &Yard, concurrency: usize) -> Self {
        Self {
            url: yard.server.consumer_url(),
            ledger: yard.server.dir().join("ledger"),
            concurrency,
        }
    }

    fn spawn(&self) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ledger-consumer"));
        command
            .arg(&self.url)
            .arg(&self.ledger)
            .arg(self.concurrency.to_string());
        Daemon::spawn(&mut command)
    }

    /// How many handlers of this process have said that they began.
    fn started(&self, daemon: &Daemon) -> usize {
        let told = std::fs::read_to_string(self.ledger.with_extension("started")).unwrap_or_default();
        let pid = daemon.pid().to_string();
        told.lines()
            .filter(|line| line.split(' ').next() == Some(&*pid))
            .count()
    }

    /// How often each task ran to its end.
    fn runs(&self) -> HashMap<String, usize> {
        let mut runs = HashMap::new();
        for line in std::fs::read_to_string(&self.ledger).unwrap_or_default().lines() {
            *runs.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
        runs
    }
}

/// Whether the consumer of this process says that so many handlers run.
async fn is_running(yard: &Yard, consumer: &Daemon, handlers: u64) -> bool {
    let of_it = format!("-{}-", consumer.pid());
    let known = yard.queue.consumers().await.unwrap();
    let Some((id, _)) = known.iter().find(|(id, _)| id.as_str().contains(&of_it)) else {
        return false;
    };
    let report = yard.broker.health(id).await.unwrap().unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap_or_default();
    report["running"] == handlers
}

/// Whether the consumer of this process still holds a lease.
async fn is_registered(yard: &Yard, consumer: &Daemon) -> bool {
    let of_it = format!("-{}-", consumer.pid());
    match yard.queue.consumers().await {
        Ok(known) => known.iter().any(|(id, _)| id.as_str().contains(&of_it)),
        // Redis was just killed: nothing is known.
        Err(error) if error.is_temporary() => true,
        Err(error) => panic!("no consumers: {error}"),
    }
}

/// The state of every task, and that it has one.
async fn states(yard: &Yard, ids: &[String]) -> BTreeMap<State, usize> {
    let mut states = BTreeMap::new();
    for chunk in ids.chunks(500) {
        let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
        for seen in yard.queue.inspect(&chunk).await.unwrap() {
            match seen {
                workyard_shared::broker::Seen::Ended(ended) => *states.entry(ended.state).or_default() += 1,
                other => panic!("a task without an end: {other:?}"),
            }
        }
    }
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_tasks_survive_kills_a_frozen_consumer_and_a_redis_killed_twice() {
    const TASKS: usize = 20_000;
    let yard = Yard::on(TestServer::start_durable().await);
    let fleet = Fleet::on(&yard, 32);
    let mut consumers: Vec<Daemon> = (0..4).map(|_| fleet.spawn()).collect();
    wait_until(LONG, || async { yard.overview().await.consumers == 4 }).await;
    let ids = yard.add_many(TASKS, "record", r#"{"ms":50}"#).await;
    let begun = Instant::now();
    let (mut round, mut frozen, mut deaths) = (0_usize, false, 0);
    // One kill every two seconds; in between, once each: a freeze past the lease, two deaths of Redis.
    while yard.total("completed").await < TASKS as u64 {
        assert!(begun.elapsed() < LONG, "not done: {:?}", yard.overview().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        match round {
            0 => {
                consumers[3].signal(Signal::STOP);
                frozen = true;
            }
            1 | 3 => {
                deaths += 1;
                yard.server.kill9();
                yard.server.restart().await;
            }
            _ => {}
        }
        // Not before its tasks were taken back, which an outage puts off: only then is what it writes stale.
        if frozen && !is_registered(&yard, &consumers[3]).await {
            frozen = false;
            consumers[3].signal(Signal::CONT);
        }
        let victim = round % 3;
        consumers[victim].kill9();
        consumers[victim] = fleet.spawn();
        round += 1;
    }
    assert_eq!(deaths, 2, "all was done before Redis had died twice");
    if frozen {
        wait_until(LONG, || async { !is_registered(&yard, &consumers[3]).await }).await;
        consumers[3].signal(Signal::CONT);
    }
    wait_until(LONG, || async { yard.total("stale").await >= 1 }).await;
    wait_until(LONG, || async { yard.overview().await.running == 0 }).await;
    let states = states(&yard, &ids).await;
    let (seen, runs) = (yard.overview().await, fleet.runs());
    let total = |name: &str| seen.totals.get(name).copied().unwrap_or_default();
    let twice = runs.values().filter(|n| **n > 1).count();
    println!(
        "{TASKS} tasks in {:?}: {round} consumers killed, states {states:?}, ran more than once {twice}, reclaimed {}, stale writes refused {}",
        begun.elapsed(),
        total("reclaimed"),
        total("stale")
    );
    assert_eq!(states, BTreeMap::from([(State::Completed, TASKS)]));
    assert!(ids.iter().all(|id| runs.contains_key(id)), "completed without a run");
    assert_eq!(
        (total("submitted"), total("completed"), total("failed")),
        (TASKS as u64, TASKS as u64, 0)
    );
    assert_eq!(
        (seen.pending, seen.scheduled, seen.running, seen.results),
        (0, 0, 0, TASKS as u64)
    );
    for consumer in &consumers {
        consumer.signal(Signal::TERM);
        assert!(consumer.wait_exit(LONG).await.success(), "{}", consumer.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thousand_tasks_of_a_killed_consumer_run_elsewhere_within_five_seconds() {
    let yard = Yard::start().await;
    let fleet = Fleet::on(&yard, 1000);
    let victim = fleet.spawn();
    yard.add_many(1000, "record", r#"{"ms":60000,"tell":true}"#).await;
    wait_until(LONG, || async { fleet.started(&victim) == 1000 }).await;
    let heir = fleet.spawn();
    wait_until(LONG, || async { yard.overview().await.consumers == 2 }).await;
    victim.kill9();
    // Not claimed: each handler says itself that it has begun. The bound is three times the deadline, for busy machines.
    let took = wait_until(DEADLINE * 3, || async { fleet.started(&heir) == 1000 }).await;
    println!("1,000 tasks of a killed consumer run elsewhere after {took:?} (deadline {DEADLINE:?})");
    assert_eq!(yard.total("reclaimed").await, 1000);
    heir.kill9();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_with_fifty_running_tasks_of_two_seconds_ends_with_exit_0_and_none_lost_or_run_twice() {
    let yard = Yard::start().await;
    let fleet = Fleet::on(&yard, 50);
    let daemon = fleet.spawn();
    let ids = yard.add_many(80, "record", r#"{"ms":2000}"#).await;
    // Claimed is not yet started: what a drain finds unstarted it hands back, as it should.
    wait_until(LONG, || async { is_running(&yard, &daemon, 50).await }).await;
    daemon.signal(Signal::TERM);
    let begun = Instant::now();
    assert_eq!(daemon.wait_exit(LONG).await.code(), Some(0), "{}", daemon.log());
    println!("drained in {:?}", begun.elapsed());
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running, seen.totals["completed"]), (30, 0, 50));
    let second = fleet.spawn();
    yard.reaches("completed", 80).await;
    assert_eq!(states(&yard, &ids).await, BTreeMap::from([(State::Completed, 80)]));
    assert!(fleet.runs().values().all(|n| *n == 1), "a task ran twice");
    second.signal(Signal::TERM);
    assert!(second.wait_exit(LONG).await.success());
}
