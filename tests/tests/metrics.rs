//! The figures for Prometheus: what the documents, alarms and dashboards name is there, right, small and quick.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use workyard_shared::metrics::{FAMILIES, Source};
use workyard_shared::name::TaskId;
use workyard_shared::submit::Submitter;
use workyard_tests::{
    Daemon, Signal, Yard, get, http_of, new_task, passes, queue_name, repository_text, wait_for, wait_until,
    workspace_binary,
};

const LIMIT: Duration = Duration::from_secs(45);
/// Three times the 50 ms that a scrape may take, for what else the machine does. That a build is one for debugging, and TLS, fit in.
const SCRAPE_BOUND: Duration = Duration::from_millis(150);
const HOW: &str = "It is part of Debian's package prometheus: apt-get install prometheus";

const HANDLERS: &str = r#"
http = "127.0.0.1:0"
concurrency = 8
lease = "1s"
queue_order = "weighted"

[handlers.sleep]
type = "builtin"
function = "sleep"

[handlers.flaky]
type = "builtin"
function = "fail"
"#;

fn daemon(yard: &Yard, queues: &[String]) -> Daemon {
    let queues: String = queues
        .iter()
        .map(|name| format!("[[queues]]\nname = \"{name}\"\n"))
        .collect();
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, format!("{HANDLERS}\n{queues}")).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(path)
        .env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    Daemon::spawn(&mut command)
}

fn cli(yard: &Yard, args: &[&str]) -> String {
    let mut command = workspace_binary("workyard");
    let output = command
        .args(args)
        .env("WORKYARD_REDIS_URL", yard.server.cli_url(args))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a sample, its name and labels written as they stand in the text.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|rest| rest.split(' ').next())
        .map(str::to_owned)
        .collect()
}

async fn scraped(address: SocketAddr, sample: &str, at_least: f64) -> String {
    wait_for(LIMIT, || async {
        let (status, text) = get(address, "/metrics").await;
        (status == 200 && value(&text, sample).is_some_and(|n| n >= at_least)).then_some(text)
    })
    .await
}

#[test]
fn the_document_lists_every_family_as_it_is_and_no_other() {
    let document = repository_text("docs/metrics.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `workyard_"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let listed: Vec<Vec<String>> = FAMILIES
        .iter()
        .map(|family| {
            let labels = if family.labels.is_empty() {
                "-".to_owned()
            } else {
                family.labels.join(", ")
            };
            let shown = match family.source {
                Source::Queue => "both",
                Source::Installation => "`workyard metrics`",
                Source::Daemon => "daemon",
            };
            let name = format!("`{}`", family.name);
            [&name, family.form.as_str(), &labels, shown, family.help]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(rows, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_counts_what_ran_and_the_command_shows_the_installation_and_promtool_likes_both() {
    let yard = Yard::start().await;
    let daemon = daemon(&yard, &["q".to_owned()]);
    let address = http_of(&daemon).await;
    yard.add_many(20, "sleep", r#"{"ms":20}"#).await;
    yard.add("sleep", r#"{"ms":60000}"#, |o| {
        o.timeout = Some(Duration::from_millis(50))
    })
    .await;
    yard.add("flaky", r#"{"times":9}"#, |o| o.max_attempts = Some(1)).await;
    yard.add("sleep", r#"{"ms":1}"#, |o| o.delay = Some(Duration::from_secs(3600)))
        .await;
    yard.reaches("completed", 20).await;
    yard.reaches("failed", 1).await;
    let text = scraped(
        address,
        r#"workyard_consumer_runs_total{queue="q",kind="sleep",outcome="failed"}"#,
        1.0,
    )
    .await;
    let expected = [
        (
            r#"workyard_consumer_runs_total{queue="q",kind="sleep",outcome="completed"}"#,
            20.0,
        ),
        (
            r#"workyard_consumer_runs_total{queue="q",kind="flaky",outcome="failed"}"#,
            1.0,
        ),
        (
            r#"workyard_consumer_run_seconds_bucket{le="0.005",queue="q",kind="sleep"}"#,
            0.0,
        ),
        (r#"workyard_consumer_wait_seconds_count{queue="q",kind="sleep"}"#, 21.0),
        (r#"workyard_queue_events_total{queue="q",event="completed"}"#, 20.0),
        (
            r#"workyard_kind_events_total{queue="q",kind="flaky",event="failed"}"#,
            1.0,
        ),
        (r#"workyard_queue_tasks{queue="q",state="failed"}"#, 1.0),
        (r#"workyard_consumer_circuit_state{queue="q",state="closed"}"#, 1.0),
        ("workyard_consumer_slots", 8.0),
    ];
    for (sample, n) in expected {
        assert_eq!(value(&text, sample), Some(n), "{sample} in\n{text}");
    }
    // Runs of 20 ms lie between these bounds.
    let sum = value(&text, r#"workyard_consumer_run_seconds_sum{queue="q",kind="sleep"}"#).unwrap();
    assert!((0.4..60.0).contains(&sum), "{sum} s");
    let shown = cli(&yard, &["metrics"]);
    assert_eq!(
        value(
            &shown,
            r#"workyard_queue_consumers_by_circuit{queue="q",circuit="closed"}"#
        ),
        Some(1.0),
        "{shown}"
    );
    let open = cli(&yard, &["metrics", "--open-metrics"]);
    assert!(open.ends_with("# EOF\n"));
    for page in [&text, &shown] {
        passes("promtool", &["check", "metrics"], page, HOW);
    }
    // Broken kinds are shown when there are some; everything else always.
    let all: BTreeSet<String> = families(&text).union(&families(&shown)).cloned().collect();
    let missing: Vec<_> = FAMILIES
        .iter()
        .map(|f| f.name)
        .filter(|name| !all.contains(*name))
        .collect();
    assert_eq!(missing, ["workyard_consumer_breaker_open"]);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_and_the_writes_refused_after_it_are_counted() {
    let yard = Yard::start().await;
    let frozen = daemon(&yard, &["q".to_owned()]);
    let address = http_of(&frozen).await;
    yard.add_many(2, "sleep", r#"{"ms":6000}"#).await;
    wait_until(LIMIT, || async { yard.overview().await.running == 2 }).await;
    frozen.signal(Signal::STOP);
    let other = daemon(&yard, &["q".to_owned()]);
    yard.reaches("reclaimed", 2).await;
    let by_kind = r#"workyard_kind_events_total{queue="q",kind="sleep",event="reclaimed"}"#;
    scraped(http_of(&other).await, by_kind, 2.0).await;
    frozen.signal(Signal::CONT);
    let text = scraped(address, r#"workyard_consumer_leases_lost_total{queue="q"}"#, 1.0).await;
    println!(
        "stale: {:?}",
        value(&text, r#"workyard_consumer_stale_writes_total{queue="q"}"#)
    );
    scraped(address, r#"workyard_consumer_stale_writes_total{queue="q"}"#, 1.0).await;
    assert!(yard.total("stale").await >= 1);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_serves_the_installation_and_says_when_redis_is_away() {
    let yard = Yard::start().await;
    yard.add("k", "1", |_| {}).await;
    yard.broker.announce(&queue_name("q")).await.unwrap();
    let mut command = workspace_binary("workyard");
    command
        .args(["metrics", "--listen", "127.0.0.1:0"])
        .env("WORKYARD_REDIS_URL", yard.server.operator_url());
    let server = Daemon::spawn(&mut command);
    let address = http_of(&server).await;
    let text = scraped(address, r#"workyard_queue_tasks{queue="q",state="pending"}"#, 1.0).await;
    assert_eq!(value(&text, "workyard_redis_up"), Some(1.0));
    assert_eq!(get(address, "/readyz").await.0, 200);
    // A queue that comes later is shown too.
    yard.broker.announce(&queue_name("later")).await.unwrap();
    wait_until(LIMIT, || async {
        get(address, "/metrics").await.1.contains("queue=\"later\"")
    })
    .await;
    yard.server.kill9();
    scraped(address, "workyard_redis_up", 0.0).await;
    wait_until(LIMIT, || async {
        get(address, "/metrics").await.1.contains("workyard_redis_up 0")
    })
    .await;
    let (status, body) = get(address, "/readyz").await;
    assert!(status == 503 && body.contains(r#""reason":""#), "{status}: {body}");
    assert_eq!(get(address, "/healthz").await.0, 200, "a restart would mend nothing");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(LIMIT).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_of_a_busy_daemon_with_100_queues_and_many_kinds_is_quick_and_small() {
    let yard = Yard::start().await;
    let names: Vec<String> = (0..100).map(|i| format!("queue-with-a-name-{i}")).collect();
    // Kinds that nobody runs count too.
    for name in &names {
        let submitter = Submitter::start(yard.broker.queue(&queue_name(name)));
        let tasks = (0..30).map(|i| {
            let kind = if i < 15 {
                "sleep".to_owned()
            } else {
                format!("invented:{i}")
            };
            // Far longer, all of them, than the scrapes below.
            (TaskId::fresh(), new_task(&kind, r#"{"ms":300}"#))
        });
        submitter
            .submit(tasks.collect::<Vec<_>>(), true, None, LIMIT)
            .await
            .unwrap();
    }
    let daemon = daemon(&yard, &names);
    let address = http_of(&daemon).await;
    scraped(
        address,
        r#"workyard_consumer_runs_total{queue="queue-with-a-name-0",kind="sleep",outcome="completed"}"#,
        1.0,
    )
    .await;
    let mut times: Vec<Duration> = Vec::new();
    let mut bytes = 0;
    let mut per_family: BTreeMap<String, usize> = BTreeMap::new();
    // More than a few only where others take the processors away for a while.
    while times.len() < 5 || (times.len() < 15 && times.iter().all(|took| *took >= SCRAPE_BOUND)) {
        // Past the second for which a page is given again.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let begun = Instant::now();
        let (status, text) = get(address, "/metrics").await;
        times.push(begun.elapsed());
        assert_eq!(status, 200);
        let busy = value(&text, "workyard_consumer_running_tasks").unwrap();
        let waiting = text.lines().filter(|line| {
            line.contains(r#"state="pending"} "#) && !line.ends_with(" 0") && line.starts_with("workyard_queue_tasks")
        });
        assert!(busy >= 1.0 && waiting.count() >= 1, "no work was left to do: {text}");
        bytes = bytes.max(text.len());
        per_family.clear();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            *per_family
                .entry(line.split('{').next().unwrap().to_owned())
                .or_default() += line.len() + 1;
        }
    }
    let mut largest: Vec<_> = per_family.into_iter().map(|(name, bytes)| (bytes, name)).collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    println!(
        "scrapes: {times:.0?} (deadline 50 ms), {bytes} bytes at most; {:?}",
        &largest[..5]
    );
    assert!(bytes < 1_000_000, "{bytes} bytes");
    assert!(times.iter().any(|took| *took < SCRAPE_BOUND), "{times:?}");
}
