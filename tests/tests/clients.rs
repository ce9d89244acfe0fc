//! Any Redis client enqueues: redis-cli and redis-py, by the inbox and by the function.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;
use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_shared::keys::SHARED;
use workyard_tests::{Running, Yard, queue_name, spawn, wait_until};

const SOON: Duration = Duration::from_secs(15);

async fn echo(yard: &Yard) -> Running {
    let mut registry = Registry::new();
    registry
        .register("echo", |_: Context, payload: serde_json::Value| async move {
            Ok::<_, Failure>(payload)
        })
        .unwrap();
    yard.work(registry, yard.config()).await
}

fn refused(entry: &str) -> (String, String) {
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
    (
        entry["reason"].as_str().unwrap().to_owned(),
        entry["raw"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_py_enqueues_by_inbox_and_by_function() {
    let yard = Yard::start().await;
    let worker = echo(&yard).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/enqueue.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(yard.server.producer_url())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "is the Python package `redis` there? scripts/test installs it\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(yard.result("py-fcall").await, "\"two\"");
    assert_eq!(yard.result(&made).await, "[]");
    assert_eq!(yard.result("py-inbox").await, r#"{"n":[1,2.5,null]}"#);
    wait_until(SOON, || async { yard.total("rejected").await == 2 }).await;
    let rejected = yard.queue.rejected(10).await.unwrap();
    assert!(refused(&rejected[0]).0.contains("not UTF-8"), "{rejected:?}");
    assert_eq!(refused(&rejected[1]).1, "{not json");
    yard.reaches("failed", 1).await;
    let meta = yard.dead("py-malformed").await;
    assert_eq!((meta.reason.as_str(), meta.failures), ("malformed", 1));
    assert_eq!(yard.total("submitted").await, 4, "the repeated batch added a task");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_enqueues_by_inbox_and_by_function() {
    let yard = Yard::start().await;
    let worker = echo(&yard).await;
    let item = r#"{"kind":"echo","id":"cli-inbox","payload":{"to":"a"},"priority":1,"unknown":7}"#;
    // redis-cli comes with redis-server; a machine that has only the wheel's server has none.
    let Some(pushed) = yard.server.cli_as("producer", &["RPUSH", "workyard:{q}:inbox", item]) else {
        return eprintln!("no redis-cli on this machine");
    };
    assert_eq!(pushed.trim(), "1");
    assert_eq!(yard.result("cli-inbox").await, r#"{"to":"a"}"#);
    let keys: Vec<String> = SHARED.iter().map(|key| format!("workyard:{{q}}:{key}")).collect();
    let enqueue_as = |id: &str, head: &str, payload: &str| {
        let mut call = vec!["FCALL", "workyard_1_enqueue", "15"];
        call.extend(keys.iter().map(String::as_str));
        call.extend(["", "", "", id, head, payload]);
        yard.server.cli_as("producer", &call).unwrap()
    };
    let enqueue = |head, payload| enqueue_as("cli-fcall", head, payload);
    for head in ["echo not_before=1795955940", "echo expires_at=1795955940"] {
        let refused = enqueue(head, "1");
        assert!(refused.contains("looks like seconds (give 1795955940000)"), "{refused}");
    }
    let refused = enqueue("echo not_before=1795955940000123", "1");
    assert!(
        refused.contains("looks like microseconds (give 1795955940000)"),
        "{refused}"
    );
    assert_eq!(enqueue("echo priority=1 delay=50", "1e400").trim(), "c");
    yard.reaches("failed", 1).await; // serde's Value has no 1e400: the handler refuses it, the queue does not
    for (n, extra) in ["not json", "[]", r#"{"headers":5}"#, r#"{"headers":{"a":1}}"#]
        .iter()
        .enumerate()
    {
        enqueue_as(&format!("extra-{n}"), &format!("echo\n{extra}"), "1");
        yard.reaches("failed", 2 + n as u64).await;
        let meta = yard.dead(&format!("extra-{n}")).await;
        assert_eq!(meta.reason, "malformed", "{extra}");
    }
    enqueue_as("extra", "echo\n{\"headers\":{\"a\":\"b\"},\"c\":1}", "1");
    assert_eq!(yard.result("extra").await, "1");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_the_document_runs_as_it_stands_there() {
    let yard = Yard::start().await;
    if yard.server.cli(&["PING"]).is_none() {
        return eprintln!("no redis-cli on this machine");
    }
    let config = WorkerConfig {
        queues: vec![(queue_name("default"), 1)],
        ..yard.config()
    };
    let worker = spawn(Registry::new(), config);
    // A reader has a consumer that runs, or `workyard install`: the functions are there.
    yard.broker.link().ensure_library().await.unwrap();
    let document = include_str!("../../docs/jobs.md");
    let blocks = document
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"));
    let (example, _) = blocks
        .into_iter()
        .find(|(block, _)| block.contains("job_submit"))
        .unwrap();
    // The reader's redis-cli knows the server by itself.
    let example = example.replace("redis-cli ", &format!("redis-cli -u {} ", yard.server.producer_url()));
    // It waits in a loop: one that does not end in time must not go on behind the test.
    let shell = tokio::process::Command::new("sh")
        .args(["-ec", &example])
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(SOON, shell)
        .await
        .expect("the example ends")
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, ["s", "2", "i10"], "{ran:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_in_the_inbox_loses_nothing_sound_and_the_list_stays_capped() {
    let yard = Yard::start().await;
    let worker = echo(&yard).await;
    let mut redis = yard.server.connection().await;
    let huge = format!("{{\"kind\":\"echo\",\"payload\":\"{}\"}}", "x".repeat(3 << 20));
    let mut push = redis::cmd("RPUSH");
    push.arg("workyard:{q}:inbox");
    for n in 0..1500 {
        push.arg(format!("garbage {n}"));
        if n % 10 == 0 {
            push.arg(format!("{{\"kind\":\"echo\",\"id\":\"good-{n}\",\"payload\":{n}}}"));
        }
        if n == 700 {
            push.arg(&huge).arg(r#"{"kind":"echo","queue":"other"}"#);
        }
    }
    let _: u64 = push.query_async(&mut redis).await.unwrap();
    yard.reaches("completed", 150).await;
    wait_until(SOON, || async { yard.total("rejected").await == 1502 }).await;
    assert_eq!(yard.queue.inbox_len().await.unwrap(), 0);
    let rejected = yard.queue.rejected(5000).await.unwrap();
    assert_eq!(rejected.len(), 1000, "newest 1,000 are kept");
    assert!(
        rejected.iter().any(|entry| entry.contains("3145")),
        "the oversize item is not named"
    );
    assert!(
        rejected.iter().any(|entry| entry.contains("its queue is")),
        "the foreign queue is not named"
    );
    worker.stop().await;
}
