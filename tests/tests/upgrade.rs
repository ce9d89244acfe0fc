//! Rolling deploys: releases of two protocol versions, and two builds of one, share a queue; what is too new is refused and kept.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::broker::{Place, Seen};
use workyard_shared::functions;
use workyard_tests::{Yard, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn echo() -> Registry {
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).unwrap();
    registry
}

async fn load(redis: &mut MultiplexedConnection, library: &str) {
    let mut cmd = redis::cmd("FUNCTION");
    cmd.arg("LOAD").arg("REPLACE").arg(library);
    cmd.exec_async(redis).await.unwrap();
}

/// The library as the next version of the protocol would have it: every function under its own name.
fn next_library() -> String {
    let next = functions::library().replace("workyard_1", "workyard_2");
    assert_ne!(next, functions::library());
    next
}

/// A client of the next release: its functions, on the keys that both have.
struct Newer {
    redis: MultiplexedConnection,
    shared: Vec<String>,
}

impl Newer {
    async fn of(yard: &Yard) -> Self {
        Self {
            redis: yard.server.connection().await,
            shared: yard.queue.keys().shared().to_vec(),
        }
    }

    async fn call(&mut self, edge: &str, own: &[&str], args: &[&str]) -> Value {
        let mut cmd = redis::cmd("FCALL");
        cmd.arg(format!("workyard_2_{edge}")).arg(self.shared.len() + own.len());
        cmd.arg(&self.shared);
        for name in own {
            cmd.arg(format!("workyard:{{q}}:{name}"));
        }
        cmd.arg(args).query_async(&mut self.redis).await.unwrap()
    }
}

fn texts(value: &Value) -> Vec<String> {
    let Value::Array(items) = value else {
        panic!("{value:?}")
    };
    let text = |item: &Value| redis::from_redis_value::<String>(item.clone()).unwrap();
    items.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_two_protocol_versions_share_a_queue_and_each_task_ends_once() {
    const EACH: usize = 200;
    let yard = Yard::start().await;
    yard.add_many(EACH, "echo", "1").await;
    let mut newer = Newer::of(&yard).await;
    load(&mut newer.redis, &next_library()).await;
    for n in 0..EACH {
        let added = newer
            .call("enqueue", &[], &["", "", "", &format!("new-{n}"), "echo", "2"])
            .await;
        assert_eq!(texts(&added), ["c"]);
    }
    // A repeat by an older producer of what a newer one added is known.
    let mut redis = newer.redis.clone();
    let mut again = redis::cmd("FCALL");
    again
        .arg("workyard_1_enqueue")
        .arg(newer.shared.len())
        .arg(&newer.shared);
    again.arg(&["", "", "", "new-0", "echo", "2"]);
    assert_eq!(texts(&again.query_async(&mut redis).await.unwrap()), ["d"]);

    let own = ["running:newer", "session:newer"];
    newer
        .call(
            "heartbeat",
            &["notices:newer", "vitals", "fleet"],
            &["newer", "60000", "1", "", "0", "", ""],
        )
        .await;
    // The newer one takes its share first, then both at once.
    let mut taken = 0;
    let claim = ["newer", "50", "0", "0", "1048576", "", "1"];
    let first = newer.call("claim", &own, &claim).await;
    let worker = yard.work(echo(), yard.config()).await;
    let mut next = texts(&first);
    for batch in 1.. {
        let (token, tasks) = (next[1].clone(), next.split_off(2));
        if tasks.is_empty() {
            break;
        }
        let mut args = vec!["newer".to_owned(), batch.to_string()];
        for task in tasks.chunks(3) {
            args.extend([&task[0], &token, "echo", "3600000 1 -", "9"].map(ToString::to_string));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let letters = newer.call("complete", &own, &args).await;
        assert_eq!(letters, Value::BulkString(vec![b'k'; tasks.len() / 3]));
        taken += tasks.len() / 3;
        let claim = ["newer", "5", &token, "0", "1048576", "", "1"];
        next = texts(&newer.call("claim", &own, &claim).await);
    }
    yard.reaches("completed", 2 * EACH as u64).await;
    worker.stop().await;
    assert!(taken >= 50, "{taken}");
    let seen = yard.overview().await;
    let total = |name: &str| seen.totals.get(name).copied().unwrap_or_default();
    assert_eq!((seen.pending, seen.running, seen.results), (0, 0, 2 * EACH as u64));
    assert_eq!(
        (total("completed"), total("stale"), total("reclaimed")),
        (2 * EACH as u64, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_dead_consumer_of_the_next_version_comes_back_to_one_of_this() {
    let yard = Yard::start().await;
    let ids = yard.add_many(5, "echo", "1").await;
    let mut newer = Newer::of(&yard).await;
    load(&mut newer.redis, &next_library()).await;
    newer
        .call(
            "heartbeat",
            &["notices:newer", "vitals", "fleet"],
            &["newer", "500", "1", "", "0", "", ""],
        )
        .await;
    let claim = ["newer", "5", "0", "0", "1048576", "", "1"];
    let held = newer.call("claim", &["running:newer", "session:newer"], &claim).await;
    assert_eq!(texts(&held).len(), 2 + 3 * 5);
    let worker = spawn_here(&yard);
    yard.reaches("completed", 5).await;
    assert_eq!(yard.total("reclaimed").await, 5);
    // The frozen one comes back, under the other library's functions: its token fences it.
    let token = texts(&held)[1].clone();
    let late = ["newer", "1", &ids[0], &token, "echo", "3600000 1 -", "9"];
    let letters = newer.call("complete", &["running:newer", "session:newer"], &late).await;
    assert_eq!(letters, Value::BulkString(b"s".to_vec()));
    assert_eq!(yard.result(&ids[0]).await, "1");
    worker.stop().await;
}

fn spawn_here(yard: &Yard) -> workyard_tests::Running {
    workyard_tests::spawn(echo(), yard.config())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_build_of_the_same_version_is_replaced_while_its_consumers_work() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    let worker = yard.work(echo(), yard.config()).await;
    // A release before this one: the same names, fewer functions.
    let newest = "do -- checkup.lua\n";
    let (older, _) = functions::library()
        .split_once(newest)
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    load(&mut redis, &older).await;
    yard.add_many(20, "echo", "1").await;
    yard.reaches("completed", 20).await;
    // A newer program needs what the older build lacks: it loads its own, and the older consumer goes on with that.
    assert_eq!(
        yard.queue.checkup(workyard_shared::broker::Care::Look).await.unwrap(),
        []
    );
    yard.add_many(20, "echo", "1").await;
    yard.reaches("completed", 40).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_that_starts_among_newer_ones_leaves_their_functions_alone() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    // A release behind this one: of the same protocol, with a function more.
    let own = format!("-- release {}\n", env!("CARGO_PKG_VERSION"));
    let newer = functions::library().replacen(&own, "-- release 999.0.0\n", 1)
        + "register('newest', function() return 'here' end)\n";
    assert!(functions::is_later(&newer));
    load(&mut redis, &newer).await;
    // This one starts, installs, and misses a function that no release has: its calls ask for it again and again.
    let worker = yard.work(echo(), yard.config()).await;
    yard.broker.link().load_library().await.unwrap();
    let mut unknown = redis::cmd("FCALL");
    unknown.arg("workyard_1_nobody").arg(0);
    assert!(yard.broker.link().call(&unknown).await.is_err());
    yard.add_many(20, "echo", "1").await;
    yard.reaches("completed", 20).await;
    worker.stop().await;
    let mut call = redis::cmd("FCALL");
    let keys = yard.queue.keys().shared();
    call.arg("workyard_1_newest").arg(keys.len()).arg(keys);
    assert_eq!(call.query_async::<String>(&mut redis).await.unwrap(), "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_of_a_newer_version_is_refused_with_its_reason_and_kept_whole() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    let worker = yard.work(echo(), yard.config()).await;
    let newer = r#"{"v":2,"kind":"echo","payload":{"n":12345678901234567890},"when":{"cron":"@daily"}}"#;
    let mut push = redis::cmd("RPUSH");
    push.arg(yard.queue.keys().inbox())
        .arg(newer)
        .arg(r#"{"v":1,"kind":"echo","payload":3}"#);
    push.exec_async(&mut redis).await.unwrap();
    yard.reaches("completed", 1).await;
    yard.reaches("rejected", 1).await;
    let entry: serde_json::Value = serde_json::from_str(&yard.queue.rejected(10).await.unwrap()[0]).unwrap();
    assert_eq!(entry["raw"], newer);
    assert!(
        entry["reason"]
            .as_str()
            .unwrap()
            .contains("version 2 is not known here, this is version 1"),
        "{entry}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_task_of_a_newer_form_stays_and_runs_when_a_consumer_can_read_it() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    let stored = "z1700000000000 echo shard=7\n\n{\"n\":1}";
    for cmd in [
        redis::cmd("HSET").arg("workyard:{q}:tasks").arg("newer").arg(stored),
        redis::cmd("ZADD").arg("workyard:{q}:pending").arg(100).arg("newer"),
    ] {
        cmd.exec_async(&mut redis).await.unwrap();
    }
    let worker = yard.work(echo(), yard.config()).await;
    yard.add_many(5, "echo", "1").await;
    yard.reaches("completed", 5).await;
    wait_until(SOON, || async { yard.total("released").await > 0 }).await;
    worker.stop().await;
    let mut get = redis::cmd("HGET");
    get.arg("workyard:{q}:tasks").arg("newer");
    assert_eq!(get.query_async::<String>(&mut redis).await.unwrap(), stored);
    let seen = yard.overview().await;
    assert_eq!((seen.failed, seen.running, seen.pending + seen.scheduled), (0, 0, 1));
    // The release that can read it: here, the form that this one has.
    let readable = "o1700000000000 echo priority=1\n\n{\"n\":1}";
    redis::cmd("HSET")
        .arg("workyard:{q}:tasks")
        .arg("newer")
        .arg(readable)
        .exec_async(&mut redis)
        .await
        .unwrap();
    assert!(matches!(
        yard.look("newer").await,
        Seen::Live {
            place: Place::Scheduled(_),
            ..
        }
    ));
    // It would come again half a minute later.
    redis::cmd("ZADD")
        .arg("workyard:{q}:scheduled")
        .arg(1)
        .arg("newer")
        .exec_async(&mut redis)
        .await
        .unwrap();
    let newest = yard.work(echo(), yard.config()).await;
    assert_eq!(yard.result("newer").await, "{\"n\":1}");
    newest.stop().await;
}
