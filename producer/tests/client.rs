//! The client library on a real Redis: order, waits through outages, durability.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use support::{Hands, SOON, Server, until};
use workyard_producer::{Accepted, Durability, Error, Filter, Kept, News, QueueName, State, task};
use workyard_shared::broker::FailVerdict;

fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_claimed_in_the_order_of_their_submission() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let tasks = (0..5000).map(|n| task("k").payload(&n).build().unwrap()).collect();
    let receipts = client.enqueue_many(&queue(), tasks).await.unwrap();
    assert_eq!(receipts.len(), 5000);
    assert!(receipts.iter().all(|receipt| receipt.accepted == Accepted::Created));
    let mut hands = Hands::register(server.queue("q")).await;
    let mut claimed = Vec::new();
    while claimed.len() < 5000 {
        let grants = hands.claim(1000).await;
        assert!(!grants.is_empty());
        claimed.extend(grants.into_iter().map(|grant| grant.id));
    }
    let submitted: Vec<&str> = receipts.iter().map(|receipt| receipt.id.as_str()).collect();
    // Not assert_eq: it would write 5,000 ids twice.
    assert!(claimed == submitted, "the order is another");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_are_kept_for_no_time_reach_all_who_enqueued_and_waited() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let waits: Vec<_> = (0..200)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let task = task("k").payload(&n).retention(Duration::ZERO).build().unwrap();
                client.enqueue_and_wait(&queue(), task, SOON).await.unwrap().1.unwrap()
            })
        })
        .collect();
    let mut hands = Hands::register(server.queue("q")).await;
    for _ in 0..200 {
        let grant = hands.next().await;
        hands.complete(&grant, "\"done\"").await;
    }
    for wait in waits {
        assert_eq!(wait.await.unwrap().body, "\"done\"");
    }
    assert_eq!(client.stats(&queue()).await.unwrap().results, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_cut_connections_and_a_crash_of_redis() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let client = server.client();
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(client.enqueue(&queue(), task("k").build().unwrap()).await.unwrap().id);
    }
    let waits: Vec<_> = ids
        .iter()
        .map(|id| {
            let (client, id) = (client.clone(), id.to_string());
            tokio::spawn(async move { client.wait(&queue(), &id, 3 * SOON).await })
        })
        .collect();
    let mut redis = server.redis().await;
    until("both wait", async || {
        redis::cmd("HLEN")
            .arg("workyard:{q}:waiters")
            .query_async::<u64>(&mut redis.clone())
            .await
            .unwrap()
            == 2
    })
    .await;
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .query_async::<u64>(&mut redis)
        .await
        .unwrap();
    let mut hands = Hands::register(server.queue("q")).await;
    let first = hands.next().await;
    hands.complete(&first, "1").await;
    server.crash_and_restart().await;
    let mut hands = Hands::register(server.queue("q")).await;
    let second = hands.next().await;
    hands.complete(&second, "2").await;
    let mut bodies = Vec::new();
    for wait in waits {
        bodies.push(wait.await.unwrap().unwrap().body);
    }
    assert_eq!(bodies, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_waits_out_an_outage_and_is_then_there_once() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let client = server.client();
    client.enqueue(&queue(), task("k").build().unwrap()).await.unwrap();
    let tasks = (0..3000).map(|n| task("k").payload(&n).build().unwrap()).collect();
    let queue = queue();
    let (receipts, ()) = tokio::join!(client.enqueue_many(&queue, tasks), server.crash_and_restart());
    assert_eq!(receipts.unwrap().len(), 3000);
    let receipt = client.enqueue(&queue, task("k").build().unwrap()).await.unwrap();
    assert_eq!(receipt.accepted, Accepted::Created);
    assert_eq!(client.stats(&queue).await.unwrap().pending, 3002);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_what_was_confirmed() {
    let server = Server::start(&[]).await;
    let mut config = server.config();
    config.confirm_within = Duration::from_millis(200);
    let client = workyard_producer::Client::new(config).unwrap();
    let enqueue = async |level| {
        let client = client.with_durability(level);
        client
            .enqueue(&queue(), task("k").build().unwrap())
            .await
            .unwrap()
            .durability
    };
    assert_eq!(enqueue(Durability::Memory).await, Kept::Memory);
    assert_eq!(enqueue(Durability::Fsync).await, Kept::Memory, "nothing syncs here");
    assert_eq!(
        enqueue(Durability::Replicas(1)).await,
        Kept::Unknown,
        "nobody replicates"
    );
    let port = server.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]).await;
    let mut redis = replica.redis().await;
    until("the replica is in step", async || {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut redis.clone())
            .await
            .unwrap();
        info.get::<String>("master_link_status").as_deref() == Some("up")
    })
    .await;
    until("the replica confirms", async || {
        enqueue(Durability::Replicas(1)).await == Kept::Replicas(1)
    })
    .await;
    let bulk = client.with_durability(Durability::Replicas(1));
    let tasks = (0..1200).map(|n| task("k").payload(&n).build().unwrap()).collect();
    let receipts = bulk.enqueue_many(&queue(), tasks).await.unwrap();
    assert_eq!(receipts.len(), 1200);
    redis::cmd("PING").query_async::<()>(&mut redis).await.unwrap();

    let safe = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let client = safe.client().with_durability(Durability::Fsync);
    let receipt = client.enqueue(&queue(), task("k").build().unwrap()).await.unwrap();
    assert_eq!(receipt.durability, Kept::Fsync);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_expiry_and_of_a_gap() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut follow = client.follow(&queue()).await.unwrap();
    let short = task("k").expires_in(Duration::from_millis(1)).build().unwrap();
    client.enqueue(&queue(), short).await.unwrap();
    let hands = Hands::register(server.queue("q")).await;
    until("it expires", async || {
        hands.queue.sweep(100).await.unwrap().expired == 1
    })
    .await;
    let news = follow.next().await.unwrap();
    assert!(
        matches!(&news[..], [News::Ended(view)] if view.state == State::Expired && view.kind == "k"),
        "{news:?}"
    );
    let mut redis = server.redis().await;
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .query_async::<u64>(&mut redis)
        .await
        .unwrap();
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .query_async::<u64>(&mut redis)
        .await
        .unwrap();
    let news = follow.next().await.unwrap();
    assert!(matches!(&news[..], [News::Gap]), "{news:?}");
    let follows = || async {
        let mut redis = server.redis().await;
        let subscribed: Vec<redis::Value> = redis::cmd("PUBSUB")
            .arg("SHARDNUMSUB")
            .arg("workyard:{q}:finished")
            .query_async(&mut redis)
            .await
            .unwrap();
        subscribed.last() == Some(&redis::Value::Int(1))
    };
    until("it follows again", follows).await;
    let receipt = client.enqueue(&queue(), task("k").build().unwrap()).await.unwrap();
    client.cancel(&queue(), receipt.id.as_str()).await.unwrap();
    let news = follow.next().await.unwrap();
    assert!(
        matches!(&news[..], [News::Ended(view)] if view.state == State::Cancelled),
        "{news:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_woken_long_before_the_next_look() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut hands = Hands::register(server.queue("q")).await;
    let mut redis = server.redis().await;
    for _ in 0..5 {
        let id = client.enqueue(&queue(), task("k").build().unwrap()).await.unwrap().id;
        let waiting = {
            let (client, id) = (client.clone(), id.clone());
            tokio::spawn(async move { client.wait(&queue(), id.as_str(), SOON).await.unwrap() })
        };
        until("it waits", async || {
            let field = redis::cmd("HEXISTS")
                .arg("workyard:{q}:waiters")
                .arg(id.as_str())
                .clone();
            field.query_async::<bool>(&mut redis.clone()).await.unwrap()
        })
        .await;
        let grant = hands.next().await;
        let begun = std::time::Instant::now();
        hands.complete(&grant, "1").await;
        waiting.await.unwrap();
        // The look comes every five seconds: five of these in a row would meet it.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    redis::cmd("PING").query_async::<()>(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_what_is_not_there_says_so_and_retry_all_ends() {
    let server = Server::start(&[]).await;
    let client = server.client();
    assert!(matches!(
        client.wait(&queue(), "nope", SOON).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        client.task(&queue(), "nope").await,
        Err(Error::NotFound { .. })
    ));
    let tasks = (0..450)
        .map(|n| task(if n % 3 == 0 { "a" } else { "b" }).build().unwrap())
        .collect();
    client.enqueue_many(&queue(), tasks).await.unwrap();
    let mut hands = Hands::register(server.queue("q")).await;
    for _ in 0..450 {
        let grant = hands.next().await;
        hands.fail(&grant, FailVerdict::Final, "boom").await;
    }
    let only = Filter {
        kind: Some(workyard_producer::Kind::new("a").unwrap()),
        ..Filter::default()
    };
    assert_eq!(client.retry_all(&queue(), &only).await.unwrap(), 150);
    assert_eq!(client.retry_all(&queue(), &Filter::default()).await.unwrap(), 300);
    assert_eq!(client.stats(&queue()).await.unwrap().failed, 0);
}
