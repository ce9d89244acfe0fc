//! Runs that are stopped from outside, by each type of handler: cancelled, or out of time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use workyard_producer::{Client, ClientConfig, JobState};
use workyard_shared::broker::Place;
use workyard_shared::name::SessionId;
use workyard_tests::{Daemon, Yard, is_alive, queue_name, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(45);

/// What each of them says last, if it can.
const SAID: &str = "still at it";

/// A kind of each type that never ends by itself, and the same with a time limit of the handler's own.
const KINDS: [&str; 4] = ["builtin", "http", "command", "worker"];

fn file(address: &str) -> String {
    let mut file = "concurrency = 16\nwatch_host = false\n[[queues]]\nname = \"q\"\n".to_owned();
    for (name, limit) in [("", ""), ("_own", "timeout = \"300ms\"\n")] {
        file += &format!(
            r#"
[handlers.builtin{name}]
type = "builtin"
function = "sleep"
{limit}
[handlers.http{name}]
type = "http"
url = "http://{address}/"
{limit}
[handlers.command{name}]
type = "command"
argv = ["sh", "-c", "echo {SAID} >&2; exec sleep 60"]
{limit}
[handlers.worker{name}]
type = "worker"
processes = 4
argv = ["python3", "-uc", "import sys\nfor line in sys.stdin: pass", "worker{name}"]
{limit}"#
        );
    }
    file
}

/// A daemon, and the socket that nobody answers on.
async fn start() -> (Yard, Daemon, TcpListener) {
    let yard = Yard::start().await;
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, file(&deaf.local_addr().unwrap().to_string())).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(path)
        .env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    let daemon = Daemon::spawn(&mut command);
    wait_until(LIMIT, || async { yard.overview().await.consumers == 1 }).await;
    (yard, daemon, deaf)
}

async fn report(yard: &Yard) -> serde_json::Value {
    let (session, _) = yard.queue.consumers().await.unwrap().remove(0);
    let process = SessionId::new(session.process()).unwrap();
    let report = yard.broker.health(&process).await.unwrap();
    serde_json::from_str(&report.unwrap_or_default()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_over_within_a_second_and_says_nothing_against_its_kind() {
    let (yard, daemon, _deaf) = start().await;
    let mut ids = Vec::new();
    for kind in KINDS {
        for _ in 0..4 {
            ids.push(yard.add(kind, r#"{"ms":60000}"#, |_| {}).await);
        }
    }
    wait_until(LIMIT, || async {
        yard.overview().await.running == 16 && report(&yard).await["running"] == 16
    })
    .await;
    let before = Instant::now();
    for id in &ids {
        let ran = workspace_binary("workyard")
            .args(["cancel", id, "--queue", "q"])
            .env("WORKYARD_REDIS_URL", yard.server.cli_url(&["cancel"]))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let ended = yard.ended(id).await;
        assert!(
            ended.started_ms > 0 && !ended.consumer.is_empty(),
            "who ran it, and since when: {ended:?}"
        );
    }
    let all = before.elapsed();
    wait_until(LIMIT, || async { report(&yard).await["running"] == 0 }).await;
    eprintln!(
        "16 were cancelled in {all:?}, their slots free and reported {:?} later (deadline 1s)",
        before.elapsed() - all
    );
    yard.add("builtin", r#"{"ms":1}"#, |_| {}).await;
    yard.reaches("completed", 1).await;
    wait_until(LIMIT, || async { report(&yard).await["processed"] == 17 }).await;
    let report = report(&yard).await;
    let ms = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(ms("beat_ms") - ms("started_ms"), ms("up_ms"), "{report}");
    assert_eq!(
        (&report["errors"], &report["stale"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    let totals = yard.overview().await.totals;
    assert_eq!(
        (totals.get("cancelled"), totals.get("stale")),
        (Some(&16), None),
        "{totals:?}"
    );
    let log = daemon.log();
    assert!(!log.contains("fails everywhere") && !log.contains("circuit"), "{log}");
}

/// Four running maps of a job are cancelled from the command line: how long until their slots are free and their processes gone.
async fn cancelled_job(map: &str, programs: &str) -> Duration {
    let (yard, daemon, _deaf) = start().await;
    let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    let job = client
        .map_reduce(&queue_name("q"), map, "sum")
        .items(0..4)
        .chunk_size(1);
    let job = job.submit().await.unwrap();
    let pids = || {
        let mut pids = daemon.children();
        pids.retain(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(programs))
        });
        pids
    };
    let expected = if programs.is_empty() { 0 } else { 4 };
    wait_until(LIMIT, || async {
        yard.overview().await.running == 4
            && report(&yard).await["running"] == 4
            && (expected == 0 || pids().len() == 4)
    })
    .await;
    let pids = if expected == 0 { Vec::new() } else { pids() };
    let begun = Instant::now();
    yard.said(&["job", "cancel", job.id().as_str(), "--queue", "q"]);
    wait_until(LIMIT, || async {
        yard.overview().await.running == 0 && !pids.iter().any(|pid| is_alive(*pid))
    })
    .await;
    let took = begun.elapsed();
    assert_eq!(job.status().await.unwrap().state, JobState::Cancelled);
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_stops_its_programs_workers_and_requests_within_a_second() {
    for (map, programs) in [("command", "sleep"), ("worker", "worker\0"), ("http", "")] {
        // The best of three: what runs beside this on the machine may hold up one of them.
        let mut took: Vec<Duration> = Vec::new();
        while took.len() < 3 && took.last().is_none_or(|took| *took > Duration::from_secs(1)) {
            took.push(cancelled_job(map, programs).await);
        }
        eprintln!("{map}: four running maps of a job were stopped {took:?} after `job cancel` began (at most 1 s)");
        assert!(
            took.iter().any(|took| *took <= Duration::from_secs(1)),
            "{map}: {took:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_out_of_time_says_so_alike_whoever_ran_it_and_whose_limit_it_was() {
    let (yard, _daemon, _deaf) = start().await;
    for kind in KINDS {
        let own = format!("{kind}_own");
        for (kind, limit) in [(kind, Some(Duration::from_millis(300))), (&*own, None)] {
            let id = yard
                .add(kind, r#"{"ms":60000}"#, |options| {
                    options.timeout = limit;
                    options.max_attempts = Some(1);
                })
                .await;
            yard.reaches("failed", 1).await;
            wait_until(LIMIT, || async { matches!(yard.live(&id).await.0, Place::Failed(_)) }).await;
            let meta = yard.dead(&id).await;
            assert_eq!(meta.reason, "timeout", "{kind}: {meta:?}");
            // Of the task's time some may be over when its handler begins.
            assert!(meta.error.starts_with("timed out after "), "{kind}: {meta:?}");
            assert_eq!(
                meta.error.contains(SAID),
                kind.starts_with("command"),
                "{kind}: {meta:?}"
            );
        }
    }
}
