//! `workyard consumers`: what it shows of real consumers, and how it watches them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use workyard_consumer::{Concurrency, Context, Failure, Registry, WorkerConfig};
use workyard_shared::acl::Role;
use workyard_shared::link::LinkConfig;
use workyard_tests::{Daemon, Fault, FaultProxy, Running, TestServer, Yard, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);

/// A worker with a limited and a free kind; payload 0 fails.
async fn worker(yard: &Yard) -> Running {
    let mut registry = Registry::new();
    for kind in ["mail", "scale"] {
        registry
            .register(kind, |_: Context, n: u64| async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                if n == 0 { Err(Failure::fatal("no")) } else { Ok(n) }
            })
            .unwrap();
    }
    registry
        .limit("mail", Concurrency::Adaptive { min: 2, max: 32 })
        .unwrap();
    let config = WorkerConfig {
        concurrency: 8,
        // Health is that of the consumer, not of the machine that runs these tests.
        watch_host: false,
        ..yard.config()
    };
    yard.work(registry, config).await
}

fn consumers(yard: &Yard, args: &[&str]) -> Command {
    let mut command = workspace_binary("workyard");
    // By the environment: a password among the arguments would be warned of.
    command
        .env("WORKYARD_REDIS_URL", yard.server.operator_url())
        .arg("consumers")
        .args(args);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_measured_is_shown_per_consumer_kind_and_machine() {
    let yard = Yard::start().await;
    let worker = worker(&yard).await;
    for n in 0..4 {
        yard.add("mail", &n.to_string(), |_| {}).await;
    }
    yard.reaches("completed", 3).await;
    yard.reaches("failed", 1).await;
    let shown = || async {
        let output = consumers(&yard, &[]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The last run is in the health key with the next beat, the first three may be before.
    wait_until(SOON, || async { shown().await.contains(" 25 ") }).await;
    let text = shown().await;
    let tables: Vec<Vec<Vec<&str>>> = text
        .split("\n\n")
        .map(|table| table.lines().map(|line| line.split_whitespace().collect()).collect())
        .collect();
    let [all, kinds, machines] = &tables[..] else {
        panic!("{text}")
    };
    let heads =
        "CONSUMER ALIVE QUEUES HOLDS RUNNING CAPACITY PROCESSED ERRORS MEAN ERR % HEALTH LOAD CIRCUIT HOST VERSION";
    assert!(all[0].join(" ").starts_with(heads), "{text}");
    // id, alive, queues, holds, running, capacity, processed, errors, mean, err %, health, load, circuit ...
    assert_eq!(all[1][1..8].join(" "), "yes q 0 0 8 4 1", "{text}");
    assert_eq!(all[1][9..13].join(" "), "25 1.00 1.00 closed", "{text}");
    let heads = "CONSUMER QUEUE KIND SLOTS RUNS ERRORS ERR % MEAN LAST FASTEST MEDIAN SLOWEST";
    assert_eq!(kinds[0].join(" "), heads);
    assert_eq!(kinds[1][1..8].join(" "), "q mail 0/2 of 2..32 4 1", "{text}");
    assert_eq!((kinds[1][8], kinds[1][10], kinds[1].len()), ("25", "3", 14), "{text}");
    assert_eq!(machines[0].join(" "), "CONSUMER UP CPU % MEMORY % LOOP LAG REDIS STALE");
    // Its runs take 2 ms; CPU and memory of this machine are not watched; Redis is some way off.
    let ms = |text: &str| {
        text.trim_end_matches("ms")
            .parse::<f64>()
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    assert!((1.5..500.0).contains(&ms(all[1][8])), "{text}");
    assert_eq!((machines[1].len(), &machines[1][2..4]), (7, &["0", "0"][..]), "{text}");
    assert!(ms(machines[1][4]) >= 0.0 && ms(machines[1][5]) > 0.0, "{text}");
    assert_eq!(machines[1].last(), Some(&"0"), "{text}");
    worker.stop().await;
}

/// What the only consumer says of itself.
async fn said(yard: &Yard) -> Option<serde_json::Value> {
    let (consumer, _) = yard.queue.consumers().await.unwrap().pop()?;
    let json = yard.broker.health(&consumer).await.unwrap()?;
    Some(serde_json::from_str(&json).unwrap())
}

/// The longest time between two reports of so many seconds.
async fn longest_silence(yard: &Yard, seconds: u64) -> u64 {
    let (begun, mut beats) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(seconds) {
        beats.extend(said(yard).await.and_then(|report| report["beat_ms"].as_u64()));
        beats.dedup();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(beats.len() > 1, "{beats:?}");
    beats.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reports_each_second_while_it_works_and_each_fifth_while_it_does_not() {
    let yard = Yard::start().await;
    let worker = worker(&yard).await;
    wait_until(SOON, || async { said(&yard).await.is_some() }).await;
    // Nothing runs: the longest is between two reports, and no report is missed. A second more, as other tests run beside.
    let idle = longest_silence(&yard, 13).await;
    let feed = async {
        loop {
            yard.add("scale", "1", |_| {}).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // The first task ends the silence before it.
    let busy = async {
        yard.reaches("completed", 1).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        longest_silence(&yard, 6).await
    };
    let busy = tokio::select! {
        () = feed => unreachable!(),
        busy = busy => busy,
    };
    println!("reports: each {idle} ms idle, each {busy} ms at work");
    assert!(idle <= 6500, "{idle} ms");
    assert!(busy <= 2000, "{busy} ms");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_gets_far_away_is_measured_and_shrinks_the_slots_of_a_kind_that_move() {
    // Nodes and sentinels tell addresses that lead past any proxy.
    let yard = Yard::on(TestServer::start_single(&[]).await);
    let proxy = FaultProxy::before(yard.server.port()).await.unwrap();
    let url = yard.server.role_url_through(Role::Consumer, &proxy);
    let mut registry = Registry::new();
    registry
        .register("mail", |_: Context, _: u64| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Failure>(())
        })
        .unwrap()
        .limit("mail", Concurrency::Adaptive { min: 2, max: 12 })
        .unwrap();
    let config = WorkerConfig {
        link: LinkConfig::from_url(&url).unwrap(),
        concurrency: 24,
        watch_host: false,
        ..yard.config()
    };
    let worker = yard.work(registry, config).await;
    let number = |path: &'static str| {
        let yard = &yard;
        async move { said(yard).await.and_then(|report| report.pointer(path)?.as_f64()) }
    };
    let limit = || number("/concurrency/mail/limit");
    let act = async {
        wait_until(SOON * 2, || async { limit().await.is_some_and(|n| n >= 6.0) }).await;
        let near = number("/balance/0/rtt_ms").await.unwrap();
        proxy.set(Fault::Delay(Duration::from_millis(300)));
        wait_until(SOON, || async {
            number("/balance/0/rtt_ms").await.is_some_and(|ms| ms > near + 300.0)
        })
        .await;
        // A run takes as long as before: it is the pressure that takes slots away.
        let took = wait_until(SOON, || async { limit().await == Some(2.0) }).await;
        println!("down to 2 slots {took:?} after Redis was seen to be far away");
        proxy.set(Fault::None);
        wait_until(SOON * 2, || async { limit().await.is_some_and(|n| n >= 6.0) }).await;
    };
    tokio::select! {
        () = yard.feed("mail") => {}
        () = act => {}
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_key_that_something_else_wrote_hides_nobody() {
    let yard = Yard::on(TestServer::start_single(&[]).await);
    let worker = worker(&yard).await;
    let mut redis = yard.server.connection().await;
    let health = || async {
        redis::cmd("KEYS")
            .arg("workyard:consumer:*")
            .query_async(&mut yard.server.connection().await)
            .await
    };
    wait_until(SOON, || async {
        health().await.is_ok_and(|keys: Vec<String>| keys.len() == 1)
    })
    .await;
    let key = health().await.unwrap().remove(0);
    // The consumer sets it right with its next report, some seconds later.
    let mut foreign = redis::pipe();
    foreign.atomic().del(&key).lpush(&key, "not ours");
    foreign.exec_async(&mut redis).await.unwrap();
    let output = consumers(&yard, &[]).output().unwrap();
    let (text, error) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{error}");
    assert!(text.lines().nth(1).is_some_and(|line| line.contains(" yes ")), "{text}");
    let mut foreign = redis::pipe();
    foreign
        .atomic()
        .del("workyard:{q}:fleet")
        .lpush("workyard:{q}:fleet", "not ours");
    foreign.exec_async(&mut redis).await.unwrap();
    let output = workspace_binary("workyard")
        .env("WORKYARD_REDIS_URL", yard.server.operator_url())
        .args(["stats", "-q", "q"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("something else wrote a key that belongs to Workyard"),
        "{error}"
    );
    redis::cmd("DEL")
        .arg("workyard:{q}:fleet")
        .exec_async(&mut redis)
        .await
        .unwrap();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_goes_on_through_an_outage_and_ends_at_ctrl_c_with_0() {
    let yard = Yard::start().await;
    let worker = worker(&yard).await;
    let lines = Daemon::spawn(&mut consumers(&yard, &["--watch", "100ms", "--json"]));
    let blocks = Daemon::spawn(&mut consumers(&yard, &["--watch", "100ms"]));
    let pictures = || {
        (
            lines.stdout().lines().count(),
            blocks.stdout().matches("CIRCUIT").count(),
        )
    };
    wait_until(SOON, || async { pictures().0 > 2 && pictures().1 > 2 }).await;

    yard.server.sigstop();
    wait_until(SOON, || async { blocks.stderr().contains("still watching") }).await;
    let before = pictures();
    yard.server.sigcont();
    wait_until(SOON, || async {
        pictures().0 > before.0 + 2 && pictures().1 > before.1 + 2
    })
    .await;
    assert_eq!(
        blocks.stderr().lines().count(),
        2,
        "an outage and its end are told once"
    );
    assert_eq!(lines.stderr(), "");

    for watch in [&lines, &blocks] {
        watch.signal(Signal::INT);
        let status = watch.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(0));
    }
    for line in lines.stdout().lines() {
        let views: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(views[0]["alive"], true, "{line}");
    }
    let text = blocks.stdout();
    assert!(text.contains("\n\nCONSUMER") && !text.contains('\u{1b}'), "{text}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_refuses_a_queue_that_nobody_used_and_a_pause_that_cannot_be() {
    let yard = Yard::start().await;
    for (args, text) in [
        (&["--watch", "--queue", "typo"][..], "no queue \"typo\""),
        (&["--watch", "1ms"][..], "give 100ms to 1h"),
    ] {
        let output = consumers(&yard, args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(text), "{error}");
    }
}
