//! Stats, consumers, rejected items, pause, install, help: what operators see.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::process::Stdio;
use std::time::Duration;

use support::{Hands, Ran, Server, workyard};
use workyard_producer::{LinkConfig, Prefix};
use workyard_shared::broker::{Broker, FailVerdict};
use workyard_shared::link::Link;
use workyard_shared::name::SessionId;

#[tokio::test(flavor = "multi_thread")]
async fn stats_are_exact_per_queue_per_kind_and_per_minute() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("mail")).await;
    for kind in ["send", "send", "bounce"] {
        server.run(&["enqueue", kind, "-q", "mail"]).ok();
    }
    server.run(&["enqueue", "x", "-q", "other", "--delay", "1h"]).ok();
    let first = hands.next().await;
    hands.complete(&first, "1").await;
    let second = hands.next().await;
    hands.fail(&second, FailVerdict::Final, "boom").await;

    let stats = server.run(&["stats", "--json"]).ok().json();
    assert_eq!(
        (&stats[0]["queue"], &stats[1]["queue"]),
        (&"mail".into(), &"other".into())
    );
    assert_eq!(
        (&stats[0]["pending"], &stats[0]["failed"], &stats[1]["scheduled"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(stats[0]["totals"]["submitted"], 3);
    assert_eq!(
        stats[0]["kinds"]["send"],
        serde_json::json!({"submitted": 2, "completed": 1, "failed": 1})
    );
    let minutes = server.run(&["stats", "--minutes", "-q", "mail", "--json"]).ok().json();
    let sum = |counter: &str| {
        minutes[0]["minutes"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|m| m["counts"][counter].as_u64())
            .sum::<u64>()
    };
    assert_eq!((sum("submitted"), sum("completed"), sum("failed")), (3, 1, 1));
    let table = server.run(&["stats", "-q", "mail"]).ok().out;
    assert!(
        table.contains("QUEUE") && table.contains("submitted") && table.contains("bounce"),
        "{table}"
    );
    assert!(server.run(&["stats", "--minutes"]).ok().out.contains("SUBMITTED"));
    assert_eq!(server.run(&["queues"]).ok().out.lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_several_lanes_is_shown_once_with_its_health() {
    let server = Server::start(&[]).await;
    let queue = server.queue("default");
    let broker = Broker::new(
        Link::new(LinkConfig::from_url(&server.url()).unwrap(), None).unwrap(),
        Prefix::default(),
    );
    broker.announce(queue.name()).await.unwrap();
    for lane in ["host-1.0", "host-1.1", "gone-2.0"] {
        queue
            .heartbeat(&SessionId::new(lane).unwrap(), Duration::from_secs(60), true)
            .await
            .unwrap();
    }
    let health = r#"{"consumer":"host-1","host":"h","version":"9.9","capacity":8,"running":1,"mean_run_ms":1.25}"#;
    broker
        .report_health(&SessionId::new("host-1").unwrap(), health, Duration::from_secs(60))
        .await
        .unwrap();
    let views = server.run(&["consumers", "--json"]).ok().json();
    let ids: Vec<&str> = views
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["gone-2", "host-1"]);
    assert_eq!(
        (&views[1]["alive"], &views[1]["health"]["capacity"]),
        (&true.into(), &8.into())
    );
    let table = server.run(&["consumers"]).ok().out;
    assert!(table.contains("9.9") && table.contains("1.2ms"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_resume_rejected_and_install_do_what_they_say() {
    let server = Server::start(&[]).await;
    let printed = server.run(&["install", "--print"]).ok();
    assert!(printed.out.starts_with("#!lua name=workyard_1\n"), "{}", printed.out);
    let installed = server.run(&["install", "--json"]).ok().json();
    assert_eq!(
        (&installed["library"], &installed["protocol"]),
        (&"workyard_1".into(), &1.into())
    );
    server.run(&["pause"]).ok();
    assert_eq!(server.run(&["queues", "--json"]).ok().json()[0]["paused"], true);
    server.run(&["resume"]).ok();
    assert_eq!(server.run(&["queues", "--json"]).ok().json()[0]["paused"], false);
    let mut redis = server.redis().await;
    for entry in [
        r#"{"reason":"not a JSON object","bytes":1,"raw":"\u001b[2J"}"#,
        r#"{"reason":"too long"} {"kind":"#,
    ] {
        redis::cmd("LPUSH")
            .arg("workyard:{default}:rejected")
            .arg(entry)
            .query_async::<()>(&mut redis)
            .await
            .unwrap();
    }
    let rejected = server.run(&["rejected", "--json"]).ok().json();
    assert_eq!(
        (&rejected[0]["raw"], &rejected[1]["reason"]),
        (&"{\"kind\":".into(), &"not a JSON object".into())
    );
    assert!(!server.run(&["rejected"]).ok().out.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_completions_and_man_pages_need_no_redis() {
    let run = |args: &[&str]| Ran::of(workyard(args).stdin(Stdio::null()).output().unwrap()).ok();
    let help = run(&["--help"]).out;
    assert!(
        help.contains("Exit codes:") && help.contains("4  Redis is unavailable"),
        "{help}"
    );
    for command in [
        "enqueue",
        "task",
        "wait",
        "results",
        "list",
        "cancel",
        "retry",
        "delete",
        "purge",
        "stats",
        "consumers",
        "rejected",
        "install",
        "explain",
        "queue",
        "redis",
    ] {
        assert!(run(&[command, "--help"]).out.contains("Example"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).out.contains("workyard"));
    }
    assert!(run(&["man"]).out.contains(".TH workyard"));
    let dir = tempfile::tempdir().unwrap();
    run(&["man", "--dir", dir.path().to_str().unwrap()]);
    assert!(dir.path().join("workyard-enqueue.1").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_redis_is_started_used_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("yard");
    let run = |args: &[&str]| {
        Ran::of(
            workyard(args)
                .env("WORKYARD_REDIS_DIR", &data)
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        )
    };
    run(&["redis", "status"]).fails(4, "");
    assert_eq!(run(&["redis", "start", "--json"]).ok().json()["state"], "started");
    run(&["enqueue", "k", "--id", "m", "--redis-url", "managed"]).ok();
    assert_eq!(
        run(&["task", "m", "--redis-url", "managed", "--json"]).ok().json()["state"],
        "pending"
    );
    assert!(run(&["redis", "status"]).ok().out.contains("running"));
    run(&["redis", "stop"]).ok();
    run(&["redis", "status"]).fails(4, "");
}
