//! What attacks on the queue have found: each test failed once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::broker::ClaimRequest;
use workyard_tests::Yard;
use workyard_tests::hand::Hand;

const SOON: Duration = Duration::from_secs(8);

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .register(
            "k",
            |_: Context, _: serde_json::Value| async move { Ok::<_, Failure>(1) },
        )
        .unwrap();
    registry
        .register("slow", |_: Context, _: serde_json::Value| async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok::<_, Failure>(1)
        })
        .unwrap();
    registry
}

async fn raw(yard: &Yard, command: &str, key: &str, arguments: &[&str]) -> redis::Value {
    let mut cmd = redis::cmd(command);
    cmd.arg(yard.queue.keys().named(key));
    for argument in arguments {
        cmd.arg(*argument);
    }
    yard.queue.link().call(&cmd).await.unwrap()
}

async fn all_end(yard: &Yard) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        let now = yard.overview().await;
        if now.pending + now.scheduled + now.running == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_wake_up_that_is_passed_on_late_leaves_who_parked_again_to_be_woken() {
    let yard = Yard::start().await;
    let hand = Hand::register(&yard.consumer).await;
    // It was woken without room, and passes that on; before the call arrives it had room again, and found nothing.
    let claim = ClaimRequest {
        park: true,
        ..ClaimRequest::new(&hand.consumer, 10, 0)
    };
    yard.consumer.claim(claim).await.unwrap();
    yard.consumer.pass_on().await.unwrap();
    assert_eq!(
        yard.overview().await.parked,
        1,
        "nobody would wake it for the next task"
    );
    // With a task there it may be woken once more, and has no place to lose then.
    yard.add("k", "1", |_| {}).await;
    yard.consumer.pass_on().await.unwrap();
    assert_eq!(yard.overview().await.parked, 0);
}

#[tokio::test]
async fn large_payloads_do_not_wait_for_the_poll() {
    let yard = Yard::start().await;
    let payload = format!("\"{}\"", "p".repeat(300 << 10));
    for _ in 0..12 {
        yard.add("k", &payload, |_| {}).await;
    }
    let worker = yard.work(registry(), yard.config()).await;
    assert!(
        all_end(&yard).await,
        "claims that the byte limit cut short were taken for an empty queue"
    );
    worker.stop().await;
}

#[tokio::test]
async fn the_expiry_of_a_task_that_ended_is_forgotten() {
    let yard = Yard::start().await;
    yard.add("k", "1", |task| task.expires_in = Some(Duration::from_secs(3600)))
        .await;
    let worker = yard.work(registry(), yard.config()).await;
    assert!(all_end(&yard).await);
    assert_eq!(raw(&yard, "ZCARD", "expiring", &[]).await, redis::Value::Int(0));
    worker.stop().await;
}

#[tokio::test]
async fn a_malformed_record_or_meta_takes_no_other_task_with_it() {
    let yard = Yard::start().await;
    let id = yard.add("k", "1", |_| {}).await;
    raw(&yard, "HSET", "tasks", &["bad", "e-garbage"]).await;
    raw(&yard, "HSET", "meta", &["bad", "garbage"]).await;
    raw(&yard, "ZADD", "pending", &["1", "bad"]).await;
    let worker = yard.work(registry(), yard.config()).await;
    assert_eq!(yard.result(&id).await, "1");
    worker.stop().await;
}

#[tokio::test]
async fn what_a_session_held_comes_back_also_if_its_entry_was_removed() {
    let yard = Yard::start().await;
    for _ in 0..4 {
        yard.add("slow", "1", |_| {}).await;
    }
    let worker = yard.work(registry(), yard.config()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    raw(&yard, "DEL", "consumers", &[]).await;
    assert!(all_end(&yard).await, "the tasks are running, and nobody has them");
    worker.stop().await;
}

#[tokio::test]
async fn an_id_that_is_no_text_does_not_block_the_consumer() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    for (command, key) in [("HSET", "tasks"), ("ZADD", "pending")] {
        let mut cmd = redis::cmd(command);
        cmd.arg(yard.queue.keys().named(key));
        match command {
            "HSET" => cmd.arg(&b"\xff\xfe"[..]).arg("d1 k\n\nnull"),
            _ => cmd.arg(1).arg(&b"\xff\xfe"[..]),
        };
        let _: redis::Value = cmd.query_async(&mut redis).await.unwrap();
    }
    let ids = yard.add_many(20, "k", "1").await;
    let worker = yard.work(registry(), yard.config()).await;
    for id in &ids {
        yard.result(id).await;
    }
    worker.stop().await;
}
