//! A Redis that answers and refuses: it loads its data, or its disk fails. Both programs wait, say so once, and go on.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use workyard_tests::{Daemon, TestServer, Yard, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);

const HANDLERS: &str = r#"
concurrency = 4

[[queues]]
name = "q"

[handlers.echo]
type = "builtin"
function = "echo"

[handlers.sleep]
type = "builtin"
function = "sleep"
"#;

/// A daemon that holds a task which ends during the outage, and what is pending behind it.
async fn begin(yard: &Yard) -> Daemon {
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, HANDLERS).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(path);
    let daemon = Daemon::spawn(command.env("WORKYARD_REDIS_URL", yard.server.consumer_url()));
    yard.add_many(4, "sleep", r#"{"ms": 1500}"#).await;
    yard.add_many(20, "echo", "1").await;
    wait_until(SOON, || async { yard.overview().await.running == 4 }).await;
    daemon
}

/// `workyard enqueue`, sent while Redis refuses; returns when it has said what it waits for.
async fn enqueue(yard: &Yard, outage: &str) -> Daemon {
    let mut command = workspace_binary("workyard");
    command.args(["enqueue", "echo", "2", "-q", "q", "--patience", "60s"]);
    let producer = Daemon::spawn(command.env("WORKYARD_REDIS_URL", yard.server.producer_url()));
    wait_until(SOON, || async { producer.stderr().contains(outage) }).await;
    assert!(producer.is_running());
    producer
}

/// Redis serves again: all 25 tasks complete, once each, and each program has told the outage once.
async fn end(yard: &Yard, daemon: &Daemon, producer: &Daemon, outage: &str) {
    assert_eq!(producer.wait_exit(SOON).await.code(), Some(0), "{}", producer.log());
    assert_eq!(producer.stderr().matches("note:").count(), 1, "{}", producer.log());
    yard.reaches("completed", 25).await;
    let seen = yard.overview().await;
    for counter in ["stale", "retried", "reclaimed", "failed"] {
        assert_eq!(seen.totals.get(counter).copied().unwrap_or_default(), 0, "{counter}");
    }
    wait_until(SOON, || async { daemon.log().contains("Redis serves again") }).await;
    let log = daemon.log();
    assert_eq!(log.matches("Redis cannot serve").count(), 1, "{log}");
    assert_eq!(log.matches("Redis serves again").count(), 1, "{log}");
    assert!(log.contains(outage), "{log}");
}

async fn refusal(redis: &mut MultiplexedConnection) -> Option<String> {
    let write = redis::cmd("SET").arg("probe").arg("1").exec_async(redis).await;
    write.err().and_then(|error| error.code().map(str::to_owned))
}

async fn ask(redis: &mut MultiplexedConnection, command: &[&str]) -> redis::RedisResult<redis::Value> {
    let mut cmd = redis::cmd(command[0]);
    cmd.arg(&command[1..]).query_async(redis).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loads_its_data_for_seconds_is_waited_for() {
    // Each key takes a millisecond to load, and Redis answers in between.
    let args = [
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let yard = Yard::on(TestServer::start_with(&[&durable[..], &args].concat()).await);
    let mut redis = yard.server.connection().await;
    let fill = "for i = 1, 5000 do redis.call('SET', 'filler:' .. i, string.rep('x', 100)) end";
    ask(&mut redis, &["EVAL", fill, "0"]).await.unwrap();
    // A rewritten log is loaded key by key.
    yard.server.rewrite_log().await;
    let daemon = begin(&yard).await;
    yard.server.kill9();
    let meanwhile = async {
        let client = yard.server.client();
        wait_until(SOON, || async {
            let Ok(mut redis) = client.get_multiplexed_async_connection().await else {
                return false;
            };
            refusal(&mut redis).await.as_deref() == Some("LOADING")
        })
        .await;
        enqueue(&yard, "loading its data").await
    };
    let (producer, ()) = tokio::join!(meanwhile, yard.server.restart());
    // It was away before it was loading: one outage, told by its beginning.
    end(&yard, &daemon, &producer, "Redis cannot serve").await;
}

/// Makes Redis refuse writes: its snapshot cannot be written. Returns what is in its way.
async fn refuse_writes(yard: &Yard, redis: &mut MultiplexedConnection) -> PathBuf {
    // A folder where the snapshot is to go stops even root.
    let obstacle = yard.server.dir().join("dump.rdb");
    std::fs::create_dir(&obstacle).unwrap();
    ask(redis, &["BGSAVE"]).await.unwrap();
    refused(redis).await;
    obstacle
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_told_by_a_redis_that_refuses_writes() {
    let yard = Yard::start().await;
    yard.server.config_set("save", "86400 1000000").await;
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, HANDLERS).unwrap();
    let done = yard.add_many(1, "echo", "1").await.remove(0);
    let failed = yard.add_many(1, "sleep", r#""not a span""#).await.remove(0);
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(path).arg("--until-empty");
    let daemon = Daemon::spawn(command.env("WORKYARD_REDIS_URL", yard.server.consumer_url()));
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(0), "{}", daemon.log());
    let mut redis = yard.server.connection().await;
    refuse_writes(&yard, &mut redis).await;
    // Without a limit: only a look can end the waiting.
    for (id, code) in [(done.as_str(), 0), (&failed, 1), ("nobody", 1)] {
        let mut command = workspace_binary("workyard");
        command.args(["wait", id, "-q", "q"]);
        let waiter = Daemon::spawn(command.env("WORKYARD_REDIS_URL", yard.server.producer_url()));
        assert_eq!(
            waiter.wait_exit(SOON).await.code(),
            Some(code),
            "{id}: {}",
            waiter.log()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_save_its_data_is_waited_for() {
    let yard = Yard::start().await;
    yard.server.config_set("save", "86400 1000000").await;
    let daemon = begin(&yard).await;
    let mut redis = yard.server.connection().await;
    let obstacle = refuse_writes(&yard, &mut redis).await;
    let producer = enqueue(&yard, "cannot write to its disk").await;
    // Longer than the lease, which cannot be renewed meanwhile.
    tokio::time::sleep(Duration::from_secs(4)).await;
    std::fs::remove_dir(&obstacle).unwrap();
    ask(&mut redis, &["BGSAVE"]).await.unwrap();
    end(&yard, &daemon, &producer, "cannot write to its disk").await;
}

async fn refused(redis: &MultiplexedConnection) {
    wait_until(SOON, || {
        let mut redis = redis.clone();
        async move { refusal(&mut redis).await.as_deref() == Some("MISCONF") }
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_whose_disk_is_full_is_waited_for() {
    let args = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let yard = Yard::on(TestServer::start_with(&args).await);
    let mut redis = yard.server.connection().await;
    let large = "x".repeat(100_000);
    ask(&mut redis, &["SET", "filler", &large]).await.unwrap();
    let daemon = begin(&yard).await;
    yard.server.limit_files(Some(50_000));
    refused(&redis).await;
    let producer = enqueue(&yard, "cannot write to its disk").await;
    // Longer than the lease, which cannot be renewed meanwhile.
    tokio::time::sleep(Duration::from_secs(4)).await;
    yard.server.limit_files(None);
    end(&yard, &daemon, &producer, "cannot write to its disk").await;
}

/// The newest file of the log of commands: its size, and how many zero bytes are in it. No task of these tests has one.
#[cfg(target_os = "linux")]
fn newest_log(yard: &Yard) -> (u64, usize) {
    let files = std::fs::read_dir(yard.server.dir().join("appendonlydir")).unwrap();
    let logs = files.map(|file| file.unwrap().path());
    let newest = logs
        .filter(|path| path.to_string_lossy().contains(".incr."))
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .unwrap();
    let bytes = std::fs::read(newest).unwrap();
    (bytes.len() as u64, bytes.iter().filter(|byte| **byte == 0).count())
}

/// Redis (7.0) and Valkey (9.1) take back what they could write of a command when the disk was full, but write on behind it, where
/// they opened the file after a rewrite: the hole is full of zeros, and they do not start from that log any more.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_mends_the_hole_that_a_full_disk_left_in_the_log_of_redis() {
    let args = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let yard = Yard::on(TestServer::start_with(&args).await);
    let mut redis = yard.server.connection().await;
    yard.server.rewrite_log().await;
    yard.add_many(10, "k", "1").await;
    let (size, _) = newest_log(&yard);
    yard.server.limit_files(Some(size + 1000));
    _ = ask(&mut redis, &["SET", "filler", &"x".repeat(10_000)]).await;
    refused(&redis).await;
    yard.server.limit_files(None);
    wait_until(SOON, || {
        let mut redis = redis.clone();
        async move { refusal(&mut redis).await.is_none() }
    })
    .await;
    yard.add_many(10, "k", "2").await;
    let (_, hole) = newest_log(&yard);
    println!("a hole of {hole} bytes");
    yard.server.rewrite_log().await;
    assert_eq!(newest_log(&yard).1, 0);
    yard.server.kill9();
    yard.server.restart().await;
    wait_until(SOON, || async { yard.overview().await.pending == 20 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_has_memory_again_is_said_to_serve_although_nothing_is_pushed() {
    let yard = Yard::start().await;
    let daemon = begin(&yard).await;
    yard.reaches("completed", 24).await;
    yard.server.config_set("maxmemory", "1mb").await;
    wait_until(SOON, || async { daemon.log().contains("Redis cannot serve") }).await;
    yard.server.config_set("maxmemory", "0").await;
    let took = wait_until(SOON, || async { daemon.log().contains("Redis serves again") }).await;
    println!("said {took:?} after there was memory (the aim is 2 s)");
    assert!(
        took < Duration::from_secs(6),
        "{took:?}: as long as it waits for an item"
    );
}
