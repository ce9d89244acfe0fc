//! What the figures say, and not only that they are there: of tasks that moved, jobs that ended, kinds and consumers that fail,
//! an outage.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use workyard_producer::{Client, ClientConfig, JobHandle, JobState};
use workyard_tests::{Daemon, TestServer, Yard, get, http_of, queue_name, wait_for, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(60);

const HEAD: &str = "http = \"127.0.0.1:0\"\nconcurrency = 4\nlease = \"1s\"\n[[queues]]\nname = \"q\"\n";
const SLEEP: &str = "[handlers.sleep]\ntype = \"builtin\"\nfunction = \"sleep\"\n";

/// A daemon at work with these handlers, and where it serves its figures: before it is at work it has none of its own.
async fn daemon(yard: &Yard, name: &str, handlers: &str) -> (Daemon, SocketAddr) {
    let path = yard.server.dir().join(name);
    std::fs::write(&path, format!("{HEAD}{handlers}")).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(path);
    let daemon = Daemon::spawn(command.env("WORKYARD_REDIS_URL", yard.server.consumer_url()));
    let address = http_of(&daemon).await;
    wait_until(LIMIT, || async { get(address, "/readyz").await.0 == 200 }).await;
    (daemon, address)
}

/// The value of a sample of a page.
fn value(page: &str, sample: &str) -> Option<f64> {
    let mut lines = page.lines();
    let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok())
}

/// The first page on which all of these samples are as they should be.
async fn page_with(address: SocketAddr, wanted: &[(&str, f64)]) -> String {
    wait_for(LIMIT, || async {
        let (_, page) = get(address, "/metrics").await;
        let is_right = |(sample, n): &(&str, f64)| value(&page, sample) == Some(*n);
        wanted.iter().all(is_right).then_some(page)
    })
    .await
}

/// The first page on which a sample is as it should be, and then the sample.
async fn grows(address: SocketAddr, sample: &str, is_right: impl Fn(f64) -> bool) -> f64 {
    wait_for(LIMIT, || async {
        let (_, page) = get(address, "/metrics").await;
        value(&page, sample).filter(|n| is_right(*n))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_claims_promotes_and_ingests_counts_what_it_moved() {
    let yard = Yard::start().await;
    let (_daemon, address) = daemon(&yard, "a.toml", SLEEP).await;
    page_with(
        address,
        &[
            (r#"workyard_consumer_promoted_tasks_total{queue="q"}"#, 0.0),
            (r#"workyard_consumer_ingested_tasks_total{queue="q"}"#, 0.0),
        ],
    )
    .await;
    yard.add_many(5, "sleep", r#"{"ms":1}"#).await;
    yard.add("sleep", r#"{"ms":1}"#, |o| o.delay = Some(Duration::from_millis(300)))
        .await;
    let mut redis = yard.server.connection().await;
    for _ in 0..2 {
        let mut push = redis::cmd("RPUSH");
        push.arg(yard.queue.keys().inbox())
            .arg(r#"{"kind":"sleep","payload":{"ms":1}}"#);
        let () = push.query_async(&mut redis).await.unwrap();
    }
    yard.reaches("completed", 8).await;
    let page = page_with(
        address,
        &[
            (r#"workyard_consumer_claimed_tasks_total{queue="q",kind="sleep"}"#, 8.0),
            (r#"workyard_consumer_promoted_tasks_total{queue="q"}"#, 1.0),
            (r#"workyard_consumer_ingested_tasks_total{queue="q"}"#, 2.0),
            (r#"workyard_consumer_claim_tasks_sum{queue="q"}"#, 8.0),
            (r#"workyard_consumer_settle_tasks_sum{queue="q"}"#, 8.0),
        ],
    )
    .await;
    for call in ["claim", "heartbeat"] {
        let count = format!("workyard_consumer_redis_call_seconds_count{{call=\"{call}\"}}");
        assert!(value(&page, &count).unwrap() >= 1.0, "{count}");
    }
    let health = value(&page, r#"workyard_consumer_health_score{queue="q"}"#).unwrap();
    assert!((0.6..=1.0).contains(&health), "{health}");
    // What nobody runs here was claimed, too, and has no series of its own.
    yard.add("invented", "1", |_| {}).await;
    grows(
        address,
        r#"workyard_consumer_claimed_tasks_total{queue="q",kind="other"}"#,
        |n| n >= 1.0,
    )
    .await;
    let (_, page) = get(address, "/metrics").await;
    let mut own = page.lines().filter(|line| line.starts_with("workyard_consumer_"));
    assert!(own.all(|line| !line.contains("kind=\"invented\"")), "{page}");
}

async fn ends(job: &JobHandle, state: JobState) {
    assert_eq!(job.wait(LIMIT).await.unwrap().state, state);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_stand_in_their_states_and_each_that_fails_is_counted() {
    let yard = Yard::start().await;
    let (_daemon, address) = daemon(&yard, "a.toml", SLEEP).await;
    let states = |completed: f64, failed: f64, ever_failed: f64| {
        [
            (r#"workyard_queue_jobs{queue="q",state="pending"}"#, 0.0),
            (r#"workyard_queue_jobs{queue="q",state="mapping"}"#, 0.0),
            (r#"workyard_queue_jobs{queue="q",state="shuffling"}"#, 0.0),
            (r#"workyard_queue_jobs{queue="q",state="reducing"}"#, 0.0),
            (r#"workyard_queue_jobs{queue="q",state="cancelled"}"#, 0.0),
            (r#"workyard_queue_jobs{queue="q",state="completed"}"#, completed),
            (r#"workyard_queue_jobs{queue="q",state="failed"}"#, failed),
            (
                r#"workyard_queue_events_total{queue="q",event="jobs_failed"}"#,
                ever_failed,
            ),
        ]
    };
    // A state in which no job is has a series, or the first job that fails would look like one that always had.
    page_with(address, &states(0.0, 0.0, 0.0)).await;
    let of = |url: &str| Client::new(ClientConfig::from_url(url).unwrap()).unwrap();
    let client = of(&yard.server.producer_url());
    let job = client.map_reduce(&queue_name("q"), "sum", "sum").items([1, 2]);
    ends(&job.submit().await.unwrap(), JobState::Completed).await;
    let args = serde_json::json!({"pattern": "("});
    let job = client.map_reduce(&queue_name("q"), "grep", "sum").map_args(&args);
    let failing = job.items(["a"]).submit().await.unwrap();
    ends(&failing, JobState::Failed).await;
    page_with(address, &states(1.0, 1.0, 1.0)).await;
    let again = of(&yard.server.operator_url()).job(&queue_name("q"), failing.id());
    again.retry().await.unwrap();
    ends(&failing, JobState::Failed).await;
    page_with(address, &states(1.0, 1.0, 2.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_fails_everywhere_shows_its_open_breaker() {
    let yard = Yard::start().await;
    let broken = "[handlers.broken]\ntype = \"builtin\"\nfunction = \"fail\"\n";
    let (_daemon, address) = daemon(&yard, "a.toml", broken).await;
    let breaker = r#"workyard_consumer_breaker_open{queue="q",kind="broken"}"#;
    assert!(!get(address, "/metrics").await.1.contains("breaker_open"));
    yard.add_many(40, "broken", r#"{"times":1000}"#).await;
    page_with(address, &[(breaker, 1.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_what_another_completes_shows_a_low_score_and_an_open_circuit() {
    let yard = Yard::start().await;
    let argv = |program: &str| format!("[handlers.work]\ntype = \"command\"\nargv = [\"{program}\"]\n");
    let (_bad, bad) = daemon(&yard, "bad.toml", &argv("false")).await;
    let (_good, good) = daemon(&yard, "good.toml", &argv("true")).await;
    let score = r#"workyard_consumer_health_score{queue="q"}"#;
    let feed = async {
        loop {
            yard.add_many(20, "work", "null").await;
            wait_until(LIMIT, || async { yard.overview().await.pending < 10 }).await;
        }
    };
    let seen = async {
        let low = grows(bad, score, |n| n < 0.3).await;
        wait_until(LIMIT, || async {
            let (_, page) = get(bad, "/metrics").await;
            ["open", "probing"].iter().any(|state| {
                let sample = format!("workyard_consumer_circuit_state{{queue=\"q\",state=\"{state}\"}}");
                value(&page, &sample) == Some(1.0)
            })
        })
        .await;
        low
    };
    let low = tokio::select! {
        low = seen => low,
        () = feed => unreachable!("it feeds for ever"),
    };
    let (_, page) = get(good, "/metrics").await;
    let high = value(&page, score).unwrap();
    println!("scores: {low} and {high}");
    assert!(high >= 0.6, "{high}");
    let closed = r#"workyard_consumer_circuit_state{queue="q",state="closed"}"#;
    assert_eq!(value(&page, closed), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_by_kind_until_it_has_ended() {
    let yard = Yard::start().await;
    let handlers = format!("{SLEEP}[handlers.echo]\ntype = \"builtin\"\nfunction = \"echo\"\n");
    let (_daemon, address) = daemon(&yard, "a.toml", &handlers).await;
    yard.add("echo", "1", |_| {}).await;
    let ids = yard.add_many(3, "sleep", r#"{"ms":60000}"#).await;
    let of = |kind: &str| format!("workyard_consumer_kind_running_tasks{{queue=\"q\",kind=\"{kind}\"}}");
    page_with(address, &[(&of("sleep"), 3.0), (&of("echo"), 0.0)]).await;
    yard.operator.cancel(&ids[0]).await.unwrap();
    page_with(address, &[(&of("sleep"), 2.0)]).await;
    for id in &ids[1..] {
        yard.operator.cancel(id).await.unwrap();
    }
    page_with(address, &[(&of("sleep"), 0.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_counted_and_ends() {
    let yard = Yard::on(TestServer::start_durable().await);
    let (_daemon, address) = daemon(&yard, "a.toml", SLEEP).await;
    page_with(address, &[("workyard_redis_up", 1.0)]).await;
    yard.server.kill9();
    page_with(address, &[("workyard_redis_up", 0.0)]).await;
    let errors = r#"workyard_consumer_redis_errors_total{error="away"}"#;
    let in_outage = grows(address, errors, |n| n >= 1.0).await;
    yard.server.restart().await;
    let page = page_with(address, &[("workyard_redis_up", 1.0)]).await;
    assert!(value(&page, errors).unwrap() >= in_outage, "{page}");
}
