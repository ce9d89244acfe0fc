//! Middleware hears of attempts and of dead letters, and is waited for at the end of a worker.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use workyard_consumer::{BoxFuture, Context, Failure, Middleware};
use workyard_shared::broker::{ClaimRequest, Claimed, Handback, Settled, Turn};
use workyard_shared::name::SessionId;
use workyard_tests::{Yard, echo_and, wait_until};

const SOON: Duration = Duration::from_secs(15);

type Json = serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn hooks_see_every_attempt_and_every_dead_letter() {
    #[derive(Clone, Default)]
    struct Count(Arc<[AtomicUsize; 3]>);
    impl Middleware for Count {
        fn before(&self, _: &Context) -> BoxFuture<()> {
            self.0[0].fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }
        fn after(&self, _: &Context, outcome: &workyard_consumer::Outcome) -> BoxFuture<()> {
            self.0[1].fetch_add(usize::from(outcome.is_err()), Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }
        fn on_dead_letter(&self, _: &str, kind: &str, error: &str) -> BoxFuture<()> {
            assert_eq!((kind, error), ("bad", "no"));
            self.0[2].fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }
    }
    let yard = Yard::start().await;
    let count = Count::default();
    let registry = echo_and(|r| {
        r.register("bad", |_: Context, _: Json| async {
            Err::<(), _>(Failure::retry_after("no", Duration::ZERO))
        })
        .unwrap();
    });
    yard.add("bad", "null", |o| o.max_attempts = Some(2)).await;
    yard.add("echo", "null", |_| {}).await;
    let worker = workyard_consumer::Worker::new(yard.config(), registry)
        .unwrap()
        .with_middleware(count.clone());
    worker.join().await.unwrap();
    wait_until(SOON, || async { count.0[2].load(Ordering::SeqCst) == 1 }).await;
    assert_eq!(count.0[0].load(Ordering::SeqCst), 3);
    assert_eq!(count.0[1].load(Ordering::SeqCst), 2);
}

/// A task of a kind that nobody knows, which the next consumer that does not know it is the last to hand back.
async fn nearly_dead(yard: &Yard, kind: &str) -> String {
    let id = yard.add(kind, "1", |_| {}).await;
    let hand = SessionId::fresh();
    yard.queue.heartbeat(&hand, SOON * 4, true).await.unwrap();
    let mut above = 0;
    for number in 1..10 {
        let Claimed::Tasks(grants) = yard.queue.claim(ClaimRequest::new(&hand, 1, above)).await.unwrap() else {
            panic!("nothing claimed in round {number}");
        };
        above = grants[0].token;
        let back = Handback {
            id: id.clone(),
            token: above,
            unhandled: Some(kind.to_owned()),
            delay: Duration::ZERO,
        };
        let turn = Turn {
            number,
            handbacks: vec![back],
            ..Turn::default()
        };
        let answer = turn.send(&yard.queue, &hand, None).await.unwrap();
        assert_eq!(answer.handbacks, [Settled::Released]);
    }
    yard.queue.leave(&hand).await.unwrap();
    id
}

/// Writes down the dead letters that it hears of, each after a time.
#[derive(Clone, Default)]
struct Obituary {
    takes: Duration,
    told: Arc<Mutex<Vec<[String; 3]>>>,
}

impl Middleware for Obituary {
    fn on_dead_letter(&self, id: &str, kind: &str, error: &str) -> BoxFuture<()> {
        let (takes, told) = (self.takes, Arc::clone(&self.told));
        let entry = [id, kind, error].map(ToOwned::to_owned);
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            told.lock().unwrap().push(entry);
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_hears_of_a_task_that_nobody_has_a_handler_for_and_the_end_of_the_worker_waits_for_it() {
    let yard = Yard::start().await;
    let id = nearly_dead(&yard, "mystery").await;
    let hook = Obituary {
        takes: Duration::from_secs(1),
        ..Obituary::default()
    };
    let worker = workyard_consumer::Worker::new(yard.config(), echo_and(|_| {}))
        .unwrap()
        .with_middleware(hook.clone());
    worker.join().await.unwrap();
    assert_eq!(yard.dead(&id).await.reason, "no-handler");
    let error = "no handler: no consumer has one for kind mystery".to_owned();
    assert_eq!(*hook.told.lock().unwrap(), [[id, "mystery".to_owned(), error]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_return_holds_the_end_up_no_longer_than_the_drain_may_take() {
    let yard = Yard::start().await;
    nearly_dead(&yard, "mystery").await;
    let hook = Obituary {
        takes: Duration::MAX,
        ..Obituary::default()
    };
    let config = workyard_consumer::WorkerConfig {
        drain_timeout: Duration::from_millis(500),
        ..yard.config()
    };
    let worker = workyard_consumer::Worker::new(config, echo_and(|_| {}))
        .unwrap()
        .with_middleware(hook.clone());
    let began = Instant::now();
    tokio::time::timeout(SOON, worker.join()).await.unwrap().unwrap();
    println!(
        "with a hook that never returns the worker ended after {:?}",
        began.elapsed()
    );
    assert!(hook.told.lock().unwrap().is_empty());
}
