//! Who is woken, and what that costs: whoever waits longest, one for one task, and the others notice nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_shared::broker::ClaimRequest;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::SessionId;
use workyard_tests::{Yard, spawn, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Consumers that are driven by hand and listen on one link.
struct Listeners<'a> {
    yard: &'a Yard,
    link: Link,
    pushes: UnboundedReceiver<redis::PushInfo>,
}

impl<'a> Listeners<'a> {
    fn on(yard: &'a Yard) -> Self {
        let (push_in, pushes) = unbounded_channel();
        let config = LinkConfig::from_url(&yard.server.consumer_url()).unwrap();
        let link = Link::new(config, Some(push_in)).unwrap();
        Self { yard, link, pushes }
    }

    /// One more: it is registered, listens, and waits for work.
    async fn add(&self) -> SessionId {
        let consumer = SessionId::fresh();
        let channel = self.yard.queue.keys().wake_channel(&consumer);
        self.link.subscribe(&channel).await.unwrap();
        let beat = self.yard.consumer.heartbeat(&consumer, SOON * 4, true);
        beat.await.unwrap();
        self.parks(&consumer).await;
        consumer
    }

    /// It claims, gets nothing, and waits.
    async fn parks(&self, consumer: &SessionId) {
        let request = ClaimRequest {
            park: true,
            ..ClaimRequest::new(consumer, 4, 0)
        };
        self.yard.consumer.claim(request).await.unwrap();
    }

    /// The channels on which work was told of, until a second passes without any.
    async fn woken(&mut self) -> Vec<String> {
        let mut channels = Vec::new();
        while let Ok(Some(push)) = tokio::time::timeout(Duration::from_secs(1), self.pushes.recv()).await {
            if let [redis::Value::BulkString(channel), redis::Value::BulkString(text)] = &push.data[..]
                && text == b"work"
            {
                channels.push(String::from_utf8_lossy(channel).into_owned());
            }
        }
        channels
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_pull_whoever_waits_longest_is_woken_and_looking_again_ends_a_wait() {
    let yard = Yard::start().await;
    let mut all = Listeners::on(&yard);
    let (first, second, third) = (all.add().await, all.add().await, all.add().await);
    all.parks(&first).await;
    let mut woken = Vec::new();
    for _ in 0..3 {
        yard.add("work", "1", |_| {}).await;
        woken.extend(all.woken().await);
    }
    let channel = |consumer| yard.queue.keys().wake_channel(consumer);
    assert_eq!(woken, [&second, &third, &first].map(channel));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_who_wait_one_task_wakes_exactly_one() {
    let yard = Yard::start().await;
    let mut all = Listeners::on(&yard);
    for _ in 0..200 {
        all.add().await;
    }
    yard.add("work", "1", |_| {}).await;
    assert_eq!(all.woken().await.len(), 1);
    assert_eq!(yard.overview().await.parked, 199);
}

/// The word of a line of MONITOR that follows a text, up to the end of its argument.
fn behind<'a>(line: &'a str, text: &str) -> &'a str {
    let (_, rest) = line.split_once(text).unwrap_or_else(|| panic!("{line}"));
    rest.split('"').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_idle_workers_one_claims_a_task_and_the_others_send_nothing() {
    let yard = Yard::start().await;
    let done = Arc::new(Notify::new());
    let workers: Vec<_> = (0..200)
        .map(|_| {
            let (mut registry, done) = (Registry::new(), Arc::clone(&done));
            registry
                .register("work", move |_: Context, _: serde_json::Value| {
                    done.notify_one();
                    async { Ok::<_, Failure>(()) }
                })
                .unwrap();
            let config = WorkerConfig {
                // A beat every 40 s.
                lease: Duration::from_secs(120),
                watch_host: false,
                ..yard.config()
            };
            spawn(registry, config)
        })
        .collect();
    wait_until(SOON * 2, || async { yard.overview().await.parked == 200 }).await;
    let monitor = workyard_tests::redis_client(&yard.server.url());
    let mut lines = monitor.get_async_monitor().await.unwrap().into_on_message::<String>();
    let mut sent = Vec::new();
    yard.add("work", "1", |_| {}).await;
    let all = async {
        while let Some(line) = lines.next().await {
            // What functions call is shown as well; beats, and the maintainer's looks at the fleet, are none of the task's.
            let of_fleet = ["heartbeat", "survey", "fleet"].map(|name| format!("workyard_1_{name}\""));
            if !line.contains(" lua] ")
                && line.contains("\"workyard_1_")
                && !of_fleet.iter().any(|name| line.contains(name))
            {
                sent.push(line);
            }
        }
    };
    // Whoever else were woken would have claimed by then.
    tokio::time::timeout(Duration::from_secs(3), all).await.ok();
    tokio::time::timeout(SOON, done.notified()).await.expect("it ran");
    let claims: Vec<&String> = sent.iter().filter(|line| line.contains("workyard_1_claim")).collect();
    let who: Vec<&str> = claims.iter().map(|line| behind(line, ":running:")).collect();
    let names: Vec<&str> = sent.iter().map(|line| behind(line, "workyard_1_")).collect();
    println!("{names:?}");
    assert!(!who.is_empty() && who.iter().all(|one| *one == who[0]), "{claims:#?}");
    // It is added, claimed, settled; at most a claim that finds nothing follows.
    assert!(names.len() <= 4, "{names:?}");
    assert_eq!(yard.overview().await.parked, 200);
    join_all(workers.into_iter().map(workyard_tests::Running::stop)).await;
}
