//! What a breaker holds ends, too.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_shared::name::SessionId;
use workyard_tests::{Yard, wait_until};

const LIMIT: Duration = Duration::from_secs(90);

/// A worker of a kind that fails always, which `ran` hears of; waits until so many of its tasks are dead letters.
async fn fails_all(yard: &Yard, count: u64, ran: impl Fn(&str) + Send + Sync + 'static) {
    let mut registry = Registry::new();
    registry
        .register("broken", move |ctx: Context, _: u8| {
            ran(ctx.id());
            async { Err::<(), _>(Failure::retry("always")) }
        })
        .unwrap();
    let config = WorkerConfig {
        concurrency: 2,
        ..yard.config()
    };
    let worker = yard.work(registry, config).await;
    wait_until(LIMIT, || async { yard.overview().await.failed == count }).await;
    println!("{} hand-backs", yard.total("released").await);
    worker.stop().await;
}

/// Pauses of the breaker between the last ones: 1, 2, 4, 8 s.
#[tokio::test(flavor = "multi_thread")]
async fn what_always_fails_ends_although_nothing_else_of_its_kind_succeeds() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    for _ in 0..16 {
        let id = yard.add("broken", "1", |options| options.max_attempts = Some(2)).await;
        // On its last attempt, as after an hour behind an open breaker.
        let meta = redis::cmd("HSET")
            .arg(yard.queue.keys().named("meta"))
            .arg(id)
            .arg("1 0 1000 0 0 - 0 -\n\n")
            .to_owned();
        meta.exec_async(&mut redis).await.unwrap();
    }
    fails_all(&yard, 16, |_| {}).await;
}

/// Pauses of the breaker between the last ones: 1, 2, 4 s.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_tried_once_runs_once_also_as_a_probe() {
    let yard = Yard::start().await;
    for _ in 0..16 {
        yard.add("broken", "1", |options| options.max_attempts = Some(1)).await;
    }
    let runs: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let counts = Arc::clone(&runs);
    fails_all(&yard, 16, move |id| {
        *counts.lock().unwrap().entry(id.to_owned()).or_default() += 1;
    })
    .await;
    let runs = runs.lock().unwrap().clone();
    assert!(runs.len() == 16 && runs.values().all(|n| *n == 1), "{runs:?}");
    assert!(yard.total("released").await > 0, "its breaker never opened");
}

/// What `explain` says of a task.
fn explained(yard: &Yard, args: &[&str]) -> String {
    yard.said(&[&["explain", "--queue", "q"], args].concat())
}

/// What `explain` says of a task when the only consumer that is left says this of itself.
async fn explained_beside(yard: &Yard, session: &SessionId, report: &str, id: &str) -> String {
    yard.consumer.heartbeat(session, LIMIT, false).await.unwrap();
    yard.broker.report_health(session, report, LIMIT).await.unwrap();
    explained(yard, &[id])
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_an_open_circuit_from_a_drain_a_breaker_and_nobody() {
    let yard = Yard::start().await;
    let id = yard.add("work", "1", |_| {}).await;
    assert!(explained(&yard, &[&id]).contains("no consumer serves queue q now"));
    let session = SessionId::fresh();
    yard.consumer.heartbeat(&session, LIMIT, true).await.unwrap();
    let unhealthy = "no healthy consumer serves queue q now: 1 alive, but draining or with an open circuit, which gets single \
                     probes (`workyard consumers` says which)";
    for circuit in ["open", "probing"] {
        let report = format!(r#"{{"capacity":4,"balance":[{{"queue":"q","circuit":"{circuit}"}}]}}"#);
        let said = explained_beside(&yard, &session, &report, &id).await;
        assert!(said.contains(unhealthy), "{circuit}: {said}");
        assert!(said.contains("it is the next to be claimed"), "{circuit}: {said}");
        let json: serde_json::Value = serde_json::from_str(&explained(&yard, &["--json", &id])).unwrap();
        let reason = &json["reasons"][0];
        assert_eq!(
            (&reason["why"], &reason["alive"]),
            (&"no-consumer".into(), &1.into()),
            "{json}"
        );
        assert_eq!(reason["text"], unhealthy, "{json}");
    }
    let elsewhere = r#"{"capacity":4,"healthy":false,"balance":[{"queue":"q","circuit":"closed"},{"queue":"other","circuit":"open"}]}"#;
    let said = explained_beside(&yard, &session, elsewhere, &id).await;
    assert!(
        !said.contains("healthy"),
        "its circuit in another queue is no matter here: {said}"
    );
}
