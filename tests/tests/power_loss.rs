//! Redis loses its power: of its log stays what it had synced, and no more.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::broker::Seen;
use workyard_tests::{Cut, TestServer, Yard, monotonic_ms, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// A Redis that syncs as told, and has synced the functions.
async fn yard(appendfsync: &str) -> Yard {
    let yard = Yard::on(TestServer::start_recorded(&["--appendonly", "yes", "--appendfsync", appendfsync]).await);
    yard.add("k", "1", |_| {}).await;
    yard
}

/// Which of the tasks are gone after the power came back.
async fn lost_of(yard: &Yard, ids: &[String]) -> HashSet<String> {
    let mut lost = HashSet::new();
    for chunk in ids.chunks(500) {
        let names: Vec<&str> = chunk.iter().map(String::as_str).collect();
        for (id, seen) in chunk.iter().zip(yard.queue.inspect(&names).await.unwrap()) {
            if matches!(seen, Seen::Unknown) {
                lost.insert(id.clone());
            }
        }
    }
    lost
}

/// Waits for a sync that began after this call: all that was answered before is in it.
async fn synced_from_now(yard: &Yard) {
    let now = monotonic_ms();
    // Redis syncs only what it has written since.
    let mut redis = yard.server.connection().await;
    redis::Cmd::set("a write", 1).exec_async(&mut redis).await.unwrap();
    wait_until(SOON, || async { yard.server.synced_ms() > now }).await;
}

async fn cut_power(yard: &Yard) -> Cut {
    let cut = yard.server.lose_power();
    yard.server.restart().await;
    // The connection of the test itself is made anew.
    yard.overview().await;
    cut
}

fn has(cut: &Cut, id: &str) -> bool {
    cut.lost.windows(id.len()).any(|window| window == id.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_appendfsync_always_no_power_cut_takes_a_task_that_was_accepted_or_the_end_of_one() {
    let yard = yard("always").await;
    let mut registry = Registry::new();
    registry
        .register("k", |_: Context, n: u64| async move { Ok::<_, Failure>(n) })
        .unwrap();
    let worker = yard.work(registry, yard.config()).await;
    let mut ids = Vec::new();
    for round in 1..=3 {
        ids.extend(yard.add_many(300, "k", "1").await);
        // In the middle of the work: most have ended, some run.
        yard.reaches("completed", round * 300 - 100).await;
        let ended = yard.total("completed").await;
        cut_power(&yard).await;
        assert_eq!(lost_of(&yard, &ids).await, HashSet::new());
        assert!(yard.total("completed").await >= ended, "ends that were told are lost");
    }
    yard.reaches("completed", 901).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_everysec_a_power_cut_takes_only_what_was_not_yet_synced() {
    let yard = yard("everysec").await;
    let mut kept = Vec::new();
    // Redis syncs once a second. On a slow machine the second may be over before the power is cut: then once more.
    let (new, lost) = loop {
        kept.extend(yard.add_many(500, "k", "1").await);
        synced_from_now(&yard).await;
        let new = yard.add_many(500, "k", "1").await;
        let cut = cut_power(&yard).await;
        assert_eq!(lost_of(&yard, &kept).await, HashSet::new());
        let lost = lost_of(&yard, &new).await;
        println!("everysec: {} of 500 tasks accepted last are lost", lost.len());
        for id in &lost {
            assert!(
                has(&cut, id),
                "{id} is lost and was not in the part of the log that was not synced"
            );
        }
        assert_eq!(lost.is_empty(), cut.lost.is_empty());
        if !lost.is_empty() {
            break (new, lost);
        }
        assert!(kept.len() < 10_000, "ten times nothing was lost: this proves nothing");
        kept.extend(new);
    };
    // What came back is whole: each task that is left is in its place.
    let seen = yard.overview().await;
    assert_eq!(seen.pending as usize, 1 + kept.len() + new.len() - lost.len());
}

/// What makes the tests above worth something: a kill alone would lose nothing here, either.
#[tokio::test(flavor = "multi_thread")]
async fn without_syncs_a_power_cut_takes_everything_that_a_kill_leaves() {
    let yard = yard("no").await;
    let ids = yard.add_many(500, "k", "1").await;
    yard.server.kill9();
    yard.server.restart().await;
    yard.overview().await;
    assert_eq!(lost_of(&yard, &ids).await.len(), 0, "a kill");
    cut_power(&yard).await;
    yard.broker.link().ensure_library().await.unwrap();
    assert_eq!(lost_of(&yard, &ids).await.len(), ids.len(), "a power cut");
}
