//! Limits, settings, warnings, signals and explanations from the command line, on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use support::{Hands, Server};
use workyard_producer::Prefix;
use workyard_shared::broker::{Broker, FailVerdict, Grant};
use workyard_shared::link::{Link, LinkConfig};

/// Writes the health key of a consumer.
async fn report(server: &Server, hands: &Hands, health: &str) {
    let link = Link::new(LinkConfig::from_url(&server.url()).unwrap(), None).unwrap();
    let broker = Broker::new(link, Prefix::default());
    let minute = Duration::from_secs(60);
    broker.report_health(&hands.id, health, minute).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_at_run_time_all_or_none_and_shown() {
    let server = Server::start(&[]).await;
    let shown = server.run(&["queue", "show", "emails", "--json"]).ok().json();
    let defaults = serde_json::json!({
        "queue": "emails", "paused": false, "balance": "pull", "max_pending": 0, "max_bytes": 0,
        "overload": "reject",
    });
    assert_eq!(shown, defaults);
    let set = [
        "queue",
        "set",
        "emails",
        "balance=round-robin",
        "max_pending=10",
        "overload=shed",
    ];
    let text = server.run(&set).ok().out;
    assert!(
        text.contains("balance       round-robin") && text.contains("max_pending   10"),
        "{text}"
    );
    server
        .run(&["queue", "set", "emails", "balance=pull", "max_pending=many"])
        .fails(2, "max_pending must be a whole number");
    server
        .run(&["queue", "set", "emails", "max_bytes=2 cups"])
        .fails(2, "max_bytes must be bytes like 0 (no limit), 1000000, 64MiB or 2GiB");
    let shown = server.run(&["queue", "show", "emails", "--json"]).ok().json();
    assert_eq!(
        (&shown["balance"], &shown["overload"]),
        (&"round-robin".into(), &"shed".into())
    );
    server.run(&["queue", "set", "emails", "paused=1"]).ok();
    assert_eq!(server.run(&["queues", "--json"]).ok().json()[0]["paused"], true);
    server.run(&["resume", "-q", "emails"]).ok();
    assert_eq!(
        server.run(&["queue", "show", "emails", "--json"]).ok().json()["paused"],
        false
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_bytes_is_told_with_what_is_held() {
    let server = Server::start(&[]).await;
    server.run(&["queue", "set", "default", "max_bytes=1KiB"]).ok();
    let payload = format!("\"{}\"", "x".repeat(2000));
    server.run(&["enqueue", "k", &payload]).ok();
    server
        .run(&["enqueue", "k"])
        .fails(4, "bytes of at most 1024, and none has ended");
    server.run(&["queue", "set", "default", "overload=block"]).ok();
    server
        .run(&["enqueue", "k", "--block-timeout", "100ms"])
        .fails(3, "bytes of at most 1024");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_told_with_depth_limit_and_wait_and_its_own_exit_codes() {
    let server = Server::start(&[]).await;
    server.run(&["queue", "set", "default", "max_pending=2"]).ok();
    server.run(&["enqueue", "k", "--id", "a"]).ok();
    server.run(&["enqueue", "k", "--id", "b"]).ok();
    let ran = server
        .run(&["enqueue", "k"])
        .fails(4, "2 tasks are pending of at most 2");
    assert!(
        ran.out.is_empty() && ran.err.contains("none has ended in the last minutes"),
        "{ran:?}"
    );
    let file = b"{\"kind\":\"k\"}\n{\"kind\":\"k\"}\n";
    server
        .feed(&["enqueue", "--from-file", "-"], file)
        .fails(4, "of at most 2");

    server.run(&["queue", "set", "default", "overload=block"]).ok();
    let blocked = ["enqueue", "k", "--block-timeout", "100ms"];
    server.run(&blocked).fails(3, "of at most 2");
    server
        .feed(&["enqueue", "--from-file", "-", "--block-timeout", "0"], file)
        .fails(3, "0 of 2 tasks");
    let mut waiting = server
        .workyard(&["enqueue", "k", "--id", "c", "--block-timeout", "20s"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(waiting.stderr.take().unwrap());
    // Nobody waits in silence.
    let mut told = String::new();
    while !told.contains("note: queue default is full; waiting up to 20s for room") {
        assert_ne!(errors.read_line(&mut told).unwrap(), 0, "{told}");
    }
    server.run(&["cancel", "a"]).ok();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(server.run(&["task", "c", "--json"]).ok().json()["state"], "pending");

    server.run(&["queue", "set", "default", "overload=shed"]).ok();
    let refused = server.run(&["enqueue", "k"]).fails(4, "the queue is full");
    assert!(refused.err.contains("for tasks that are more urgent"), "{refused:?}");
    server.run(&["enqueue", "k", "--priority", "1"]).ok();
    let shed = server.run(&["task", "c", "--json"]).ok().json();
    assert_eq!((&shed["state"], &shed["reason"]), (&"failed".into(), &"shed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_did_not_fit_nobody_says_that_nothing_came_in() {
    let server = Server::start(&[]).await;
    server.run(&["queue", "set", "default", "max_pending=600"]).ok();
    let lines = "{\"kind\":\"k\"}\n".repeat(1500);
    let refused = server
        .feed(&["enqueue", "--from-file", "-"], lines.as_bytes())
        .fails(4, "the queue is full");
    assert!(refused.err.contains("of the last call some may be in"), "{refused:?}");
    assert!(!refused.err.contains("nothing was enqueued"), "{refused:?}");
    let stats = server.run(&["stats", "--json"]).ok().json();
    // A call of 500 comes in whole, or not at all.
    assert_eq!(stats[0]["pending"], 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_was_refused_whole_nobody_says_that_some_may_be_in() {
    let server = Server::start(&[]).await;
    server.run(&["queue", "set", "default", "max_pending=5"]).ok();
    let lines = "{\"kind\":\"k\"}\n".repeat(20);
    let file = ["enqueue", "--from-file", "-", "--block-timeout", "100ms"];
    let refused = server.feed(&file, lines.as_bytes()).fails(4, "nothing was enqueued");
    assert!(
        refused.err.contains("0 of 20 tasks were accepted before") && !refused.err.contains("may be in"),
        "{refused:?}"
    );
    assert_eq!(server.run(&["stats", "--json"]).ok().json()[0]["pending"], 0);
    // One that waits lets in what fits, and then knows what is in.
    server.run(&["queue", "set", "default", "overload=block"]).ok();
    let refused = server
        .feed(&file, lines.as_bytes())
        .fails(3, "none of the others was enqueued");
    assert!(
        refused.err.contains("5 of 20 tasks were accepted before") && !refused.err.contains("may be in"),
        "{refused:?}"
    );
    assert_eq!(server.run(&["stats", "--json"]).ok().json()[0]["pending"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_without_a_healthy_consumer_warns_or_fails_as_asked() {
    let server = Server::start(&[]).await;
    let text = "no healthy consumer for queue default";
    let warned = server.run(&["enqueue", "k", "--id", "a"]).ok();
    assert_eq!(
        (warned.out.as_str(), warned.err.as_str()),
        ("a\n", &*format!("warning: {text}\n"))
    );
    let json = server.run(&["enqueue", "k", "--json"]).ok();
    assert_eq!((&json.json()["warning"], json.err.as_str()), (&text.into(), ""));
    server
        .run(&["enqueue", "k", "--id", "b", "--require-consumer"])
        .fails(4, text);
    server.run(&["task", "b"]).fails(1, "no task b");
    let lines = b"{\"kind\":\"k\"}\n{\"kind\":\"k\",\"queue\":\"other\"}\n";
    let file = ["enqueue", "--from-file", "-", "--json"];
    let both = server.feed(&file, lines).ok().json()["warning"].to_string();
    assert!(
        both.contains("queue default; no healthy consumer for queue other"),
        "{both}"
    );
    server
        .feed(&["enqueue", "--from-file", "-", "--require-consumer"], lines)
        .fails(4, text);

    let mut hands = Hands::register(server.queue("default")).await;
    assert_eq!(server.run(&["enqueue", "k", "--require-consumer"]).ok().err, "");
    for (health, served) in [
        (r#"{"capacity":4,"draining":true}"#, false),
        (r#"{"capacity":4,"healthy":false}"#, false),
        (r#"{"capacity":4,"healthy":true,"draining":false}"#, true),
    ] {
        report(&server, &hands, health).await;
        let ran = server.run(&["enqueue", "k", "--require-consumer"]);
        if served {
            assert!(ran.ok().err.is_empty());
        } else {
            ran.fails(4, &format!("{text}: 1 drain or are unhealthy"));
        }
    }
    // Whoever says which kinds it knows makes a slip of the pen heard.
    report(&server, &hands, r#"{"capacity":4,"kinds":["send","sum"]}"#).await;
    assert_eq!(server.run(&["enqueue", "sum"]).ok().err, "");
    let slip = "no consumer of queue default has a handler for kind sned now; they have handlers for send, sum; did you mean send?";
    for more in [&[][..], &["--require-consumer"]] {
        let warned = server.run(&[&["enqueue", "sned"], more].concat()).ok();
        assert_eq!(warned.err, format!("warning: {slip}\n"));
    }
    assert!(!hands.claim(10).await.is_empty());
    // A lease that has ended serves nobody, whatever its health key says.
    let mut redis = server.redis().await;
    let consumers = redis::cmd("ZADD")
        .arg("workyard:{default}:consumers")
        .arg(1)
        .arg(hands.id.as_str())
        .to_owned();
    consumers.exec_async(&mut redis).await.unwrap();
    server.run(&["enqueue", "k", "--require-consumer"]).fails(4, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_stats_tell_an_autoscaler_what_it_wants_to_know() {
    let server = Server::start(&[]).await;
    server.run(&["enqueue", "k", "--priority", "9", "--id", "old"]).ok();
    let of = |command: &str| server.run(&[command, "--json"]).ok().json()[0].clone();
    let first = of("queues");
    assert_eq!(
        (
            &first["backlog"],
            &first["healthy_consumers"],
            &first["wanted_consumers"]
        ),
        (&1.into(), &0.into(), &1.into())
    );
    assert!(first.get("time_to_drain_ms").is_none(), "{first}");
    // The oldest is behind more urgent ones.
    let created = server.run(&["task", "old", "--json"]).ok().json()["created_at"].clone();
    let mut hands = Hands::register(server.queue("default")).await;
    report(&server, &hands, r#"{"capacity":8}"#).await;
    for _ in 0..3 {
        server.run(&["enqueue", "k", "--priority", "1"]).ok();
    }
    let mut redis = server.redis().await;
    redis::cmd("RPUSH")
        .arg("workyard:{default}:inbox")
        .arg("{}")
        .exec_async(&mut redis)
        .await
        .unwrap();
    for _ in 0..2 {
        let grant = hands.next().await;
        hands.complete(&grant, "1").await;
    }
    let stats = of("stats");
    assert_eq!(
        (&stats["oldest_pending"], &stats["backlog"], &stats["slots"]),
        (&created, &3.into(), &8.into())
    );
    let number = |name: &str| stats[name].as_f64().unwrap_or_else(|| panic!("{name}: {stats}"));
    assert!(number("arrival_per_second") > number("drain_per_second") && number("drain_per_second") > 0.0);
    assert!(number("oldest_pending_ms") > 0.0 && number("time_to_drain_ms") > 0.0 && number("wanted_consumers") >= 1.0);
    let table = server.run(&["stats"]).ok().out;
    assert!(table.contains("WANTED") && table.contains("DRAINED IN"), "{table}");
}

/// The reasons by their names, and the whole document.
fn why(server: &Server, id: &str) -> (String, serde_json::Value) {
    let json = server.run(&["explain", id, "--json"]).ok().json();
    let reasons = json["reasons"].as_array().unwrap().iter();
    let names: Vec<String> = reasons
        .map(|reason| reason["why"].as_str().unwrap().to_owned())
        .collect();
    (names.join(" "), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_a_task_waits_for() {
    let server = Server::start(&[]).await;
    server.run(&["explain", "nobody"]).fails(1, "no task nobody");
    let mut redis = server.redis().await;
    for item in [r#"{"kind":"k"}"#, r#"{"kind":"k","id":"raw"}"#] {
        let push = redis::cmd("RPUSH").arg("workyard:{default}:inbox").arg(item).to_owned();
        push.exec_async(&mut redis).await.unwrap();
    }
    let (names, json) = why(&server, "raw");
    assert_eq!(
        (names.as_str(), &json["reasons"][0]["ahead"]),
        ("in-inbox no-consumer", &1.into())
    );
    // Each limit for itself keeps it there, and a paused queue makes no room.
    let full = || {
        let (names, json) = why(&server, "raw");
        (names, json["reasons"][0]["full"].as_bool().unwrap())
    };
    assert!(!full().1);
    server.run(&["enqueue", "k", "--id", "first"]).ok();
    server.run(&["queue", "set", "default", "paused=1"]).ok();
    for (limit, none) in [("max_bytes=1", "max_bytes=0"), ("max_pending=1", "max_pending=0")] {
        server.run(&["queue", "set", "default", limit]).ok();
        assert_eq!(full(), ("in-inbox paused no-consumer".to_owned(), true), "{limit}");
        server.run(&["queue", "set", "default", none]).ok();
        assert!(!full().1, "{none}");
    }
    server.run(&["resume"]).ok();
    server.run(&["cancel", "first"]).ok();
    for (id, more) in [("a", &[][..]), ("b", &[]), ("later", &["--delay", "1h"])] {
        server.run(&[&["enqueue", "k", "--id", id], more].concat()).ok();
    }
    server.run(&["pause"]).ok();
    let (names, json) = why(&server, "b");
    assert_eq!(names, "paused no-consumer queued");
    assert_eq!(
        (&json["state"], &json["reasons"][2]["ahead"]),
        (&"pending".into(), &1.into())
    );
    server.run(&["resume"]).ok();
    let hands = Hands::register(server.queue("default")).await;
    report(&server, &hands, r#"{"draining":true}"#).await;
    assert_eq!(why(&server, "a").0, "no-consumer queued");
    report(&server, &hands, "{}").await;
    assert_eq!(why(&server, "a").0, "queued");
    assert_eq!(why(&server, "later").0, "not-due");
    // Nobody looks at this queue, so nobody has noted that its time is over.
    server
        .run(&["enqueue", "k", "--id", "stale", "-q", "empty", "--expires-in", "1ms"])
        .ok();
    let told = server.run(&["explain", "stale", "-q", "empty"]).ok().out;
    assert!(told.contains("its time to start was over"), "{told}");
    let text = server.run(&["explain", "a"]).ok().out;
    assert!(text.contains("it is the next to be claimed"), "{text}");
}

/// The next task, which may have to become due first.
async fn next_due(hands: &mut Hands) -> Grant {
    for _ in 0..2000 {
        hands.queue.promote(10).await.unwrap();
        if let Some(grant) = hands.claim(1).await.pop() {
            return grant;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no task came");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_of_a_retried_task_that_it_was_handed_back_and_of_a_claimed_one_not_that_it_runs() {
    let server = Server::start(&[]).await;
    server.run(&["enqueue", "k", "--id", "a", "--backoff-base", "1ms"]).ok();
    let mut hands = Hands::register(server.queue("default")).await;
    let grant = hands.next().await;
    let told = |id: &str| server.run(&["explain", id]).ok().out;
    assert!(told("a").contains(" has held it since "), "{}", told("a"));
    let shown = server.run(&["task", "a"]).ok().out;
    assert!(shown.contains("claimed ") && !shown.contains("started "), "{shown}");
    hands.fail(&grant, FailVerdict::Retry, "disk full").await;
    for _ in 0..2 {
        let grant = next_due(&mut hands).await;
        hands.release(&grant, None, Duration::from_millis(1)).await;
    }
    let grant = next_due(&mut hands).await;
    hands.release(&grant, None, Duration::from_secs(3600)).await;
    let (names, json) = why(&server, "a");
    assert_eq!(
        (names.as_str(), &json["reasons"][0]["handed_back"]),
        ("retrying", &3.into())
    );
    let both = "it failed, was handed back unharmed 3 times, and is due 2";
    assert!(told("a").contains(both), "{}", told("a"));
    // Some handed it back as they know no handler, and others for its kind's slots.
    server.run(&["enqueue", "k", "--id", "b"]).ok();
    let grant = next_due(&mut hands).await;
    hands
        .release(&grant, Some("k".to_owned()), Duration::from_millis(1))
        .await;
    let grant = next_due(&mut hands).await;
    hands.release(&grant, None, Duration::from_secs(3600)).await;
    let (names, json) = why(&server, "b");
    assert_eq!(
        (names.as_str(), &json["reasons"][0]["times"]),
        ("handed-back unhandled", &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_who_runs_a_task_what_failed_and_how_it_ended() {
    let server = Server::start(&[]).await;
    for id in ["a", "b"] {
        server.run(&["enqueue", "k", "--id", id, "--backoff-base", "1h"]).ok();
    }
    let mut hands = Hands::register(server.queue("default")).await;
    let grant = hands.next().await;
    let (names, json) = why(&server, "a");
    assert_eq!(
        (names.as_str(), &json["reasons"][0]["consumer"]),
        ("running", &hands.id.as_str().into())
    );
    hands.fail(&grant, FailVerdict::Retry, "disk full").await;
    assert_eq!(why(&server, "a").0, "retrying");
    let text = server.run(&["explain", "a"]).ok().out;
    assert!(
        text.contains("is retrying") && text.contains("its last error: disk full"),
        "{text}"
    );
    let grant = hands.next().await;
    hands.hand_back(&grant).await;
    assert_eq!(why(&server, "b").0, "not-due unhandled");
    server.run(&["enqueue", "k", "--id", "c"]).ok();
    let grant = hands.next().await;
    hands.complete(&grant, "1").await;
    assert_eq!(why(&server, "c").0, "ended");
    server.run(&["enqueue", "k", "--id", "bad"]).ok();
    let grant = hands.next().await;
    hands.fail(&grant, FailVerdict::Final, "no such user").await;
    let text = server.run(&["explain", "bad"]).ok().out;
    assert!(text.contains("reason: final; its last error: no such user"), "{text}");
    // Something has drained: a place has an estimate now.
    for id in ["d", "e"] {
        server.run(&["enqueue", "k", "--id", id]).ok();
    }
    let (_, json) = why(&server, "e");
    assert!(json["reasons"][0]["starts_in_ms"].as_u64().unwrap() > 0, "{json}");
    assert!(json["reasons"][0]["drain_per_second"].as_f64().unwrap() > 0.0, "{json}");
    let text = server.run(&["explain", "e"]).ok().out;
    assert!(text.contains("at the pace of its consumers"), "{text}");
}
