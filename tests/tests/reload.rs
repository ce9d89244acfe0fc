//! Other queues by SIGHUP: loops begin and end, and no task is let go of.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use workyard_shared::broker::{Place, Queue, Seen};
use workyard_shared::name::SessionId;
use workyard_tests::{Daemon, Signal, Yard, get, http_of, queue_name, wait_for, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(45);

/// The daemon's file with these queues.
fn file(queues: &[&str], drain_timeout: &str) -> String {
    let queues: String = queues
        .iter()
        .map(|name| format!("[[queues]]\nname = \"{name}\"\n"))
        .collect();
    format!(
        "concurrency = 2\nhttp = 0\ndrain_timeout = \"{drain_timeout}\"\n{queues}\n[handlers.sleep]\ntype = \"builtin\"\nfunction = \"sleep\"\n"
    )
}

struct Stand {
    yard: Yard,
    daemon: Daemon,
    /// The second queue; the first is the yard's own.
    other: Queue,
    drain_timeout: &'static str,
    reloads: usize,
}

impl Stand {
    async fn start(queues: &[&str], drain_timeout: &'static str) -> Self {
        let yard = Yard::start().await;
        let url = yard.server.consumer_url();
        Self::start_as(yard, &url, queues, drain_timeout).await
    }

    /// As the user of this address.
    async fn start_as(yard: Yard, url: &str, queues: &[&str], drain_timeout: &'static str) -> Self {
        let other = yard.broker.queue(&queue_name("r"));
        let path = yard.server.dir().join("workyard.toml");
        std::fs::write(&path, file(queues, drain_timeout)).unwrap();
        let mut command = workspace_binary("workyard-consumer");
        command
            .args(["--log", "info,task=debug", "--config"])
            .arg(path)
            .env("WORKYARD_REDIS_URL", url);
        let daemon = Daemon::spawn(&mut command);
        wait_until(LIMIT, || async { yard.overview().await.consumers == 1 }).await;
        Self {
            yard,
            daemon,
            other,
            drain_timeout,
            reloads: 0,
        }
    }

    /// Has the daemon read a file with these queues, and waits until its log has the answer as often as that was given.
    async fn reload(&mut self, queues: &[&str], answer: &str) {
        let path = self.yard.server.dir().join("workyard.toml");
        std::fs::write(path, file(queues, self.drain_timeout)).unwrap();
        let before = self.daemon.log().matches(answer).count();
        self.daemon.signal(Signal::HUP);
        wait_until(LIMIT, || async { self.daemon.log().matches(answer).count() > before }).await;
        self.reloads += 1;
    }

    async fn holds(&mut self, queues: &[&str]) {
        self.reload(queues, "the new configuration holds").await;
    }

    /// Adds a task to the second queue and waits until it has run.
    async fn runs_in_other(&self, id: &str) {
        let mut command = workspace_binary("workyard");
        command
            .args([
                "enqueue",
                "sleep",
                r#"{"ms":1}"#,
                "--queue",
                "r",
                "--id",
                id,
                "--wait",
                "30s",
            ])
            .env("WORKYARD_REDIS_URL", self.yard.server.cli_url(&["enqueue"]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Queues that the consumer's report names.
    async fn reported(&self) -> Vec<String> {
        let sessions = self.other.consumers().await.unwrap();
        let Some((session, _)) = sessions.first() else {
            return Vec::new();
        };
        let process = SessionId::new(session.process()).unwrap();
        let report = self.yard.broker.health(&process).await.unwrap();
        let report: serde_json::Value = serde_json::from_str(&report.unwrap_or_default()).unwrap_or_default();
        let names = report["queues"].as_array().cloned().unwrap_or_default();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    async fn ends(self) {
        self.daemon.signal(Signal::TERM);
        let before = Instant::now();
        assert!(self.daemon.wait_exit(LIMIT).await.success());
        eprintln!("ended within {:?}", before.elapsed());
        let log = self.daemon.log();
        assert!(!log.contains("broke") && !log.contains("panicked"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_serves_other_queues_and_what_runs_in_those_that_it_left_finishes() {
    let mut stand = Stand::start(&["q"], "30s").await;
    let long = stand.yard.add("sleep", r#"{"ms":4000}"#, |_| {}).await;
    wait_until(LIMIT, || async { stand.yard.overview().await.running == 1 }).await;
    stand.holds(&["r"]).await;
    let waits = stand.yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    stand.runs_in_other("first").await;
    assert!(
        matches!(stand.yard.live(&long).await.0, Place::Running),
        "it runs on while the other queue is served"
    );
    stand.yard.result(&long).await;
    wait_until(LIMIT, || async { stand.yard.overview().await.consumers == 0 }).await;
    wait_until(LIMIT, || async { stand.reported().await == ["r"] }).await;
    assert!(
        matches!(stand.yard.live(&waits).await.0, Place::Pending),
        "nobody serves its queue"
    );
    let address = http_of(&stand.daemon).await;
    let (_, metrics) = get(address, "/metrics").await;
    assert!(
        metrics.contains("workyard_consumer_health_score{queue=\"r\"}"),
        "{metrics}"
    );
    assert!(!metrics.contains("{queue=\"q\"}"), "{metrics}");
    // Both, and in another order; what waited is served, and what is new is known to everybody.
    stand.holds(&["r", "q"]).await;
    stand.yard.result(&waits).await;
    stand.runs_in_other("second").await;
    wait_until(LIMIT, || async { stand.reported().await == ["r", "q"] }).await;
    let known = stand.yard.broker.queues().await.unwrap();
    assert_eq!(known.iter().map(ToString::to_string).collect::<Vec<_>>(), ["q", "r"]);
    let seen = stand.yard.overview().await;
    let totals = ["completed", "retried", "reclaimed"].map(|name| seen.totals.get(name).copied().unwrap_or(0));
    assert_eq!(totals, [2, 0, 0], "nothing was let go of");
    assert_eq!(get(address, "/healthz").await.0, 200);
    stand.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_being_left_hands_back_what_outlives_the_drain_time_and_cannot_come_back_before() {
    let mut stand = Stand::start(&["q", "r"], "2s").await;
    let long = stand.yard.add("sleep", r#"{"ms":60000}"#, |_| {}).await;
    wait_until(LIMIT, || async { stand.yard.overview().await.running == 1 }).await;
    stand.holds(&["r"]).await;
    stand
        .reload(&["r", "q"], "queue q was taken out and its last tasks still run here")
        .await;
    let left = Instant::now();
    let meta = wait_for(LIMIT, || async {
        match stand.yard.look(&long).await {
            Seen::Live {
                place: Place::Pending,
                meta,
                ..
            } => Some(meta),
            _ => None,
        }
    })
    .await;
    eprintln!(
        "handed back {:?} after the reload that was refused (drain_timeout 2s)",
        left.elapsed()
    );
    assert_eq!((meta.failures, meta.crashes), (0, 0), "no attempt is burnt");
    wait_until(LIMIT, || async { stand.yard.overview().await.consumers == 0 }).await;
    stand.runs_in_other("meanwhile").await;
    // Now it can, as often as one likes; its loops are new ones each time.
    for _ in 0..3 {
        stand.holds(&["r", "q"]).await;
        wait_until(LIMIT, || async { stand.yard.overview().await.running == 1 }).await;
        stand.holds(&["r"]).await;
        wait_until(LIMIT, || async { stand.yard.overview().await.consumers == 0 }).await;
    }
    let redis = stand.yard.server.connection().await;
    wait_until(LIMIT, || {
        let mut redis = redis.clone();
        async move {
            let mut channels = redis::cmd("PUBSUB");
            let channels: Vec<String> = channels.arg("SHARDCHANNELS").query_async(&mut redis).await.unwrap();
            channels.iter().filter(|channel| channel.contains("wake:")).count() == 1
        }
    })
    .await;
    let (place, meta) = stand.yard.live(&long).await;
    assert!(
        matches!(place, Place::Pending) && (meta.failures, meta.crashes) == (0, 0),
        "{place:?} {meta:?}"
    );
    stand.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_begins_to_serve_a_queue_also_while_redis_is_away() {
    let mut stand = Stand::start(&["q"], "30s").await;
    let waits = stand.yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    stand.yard.result(&waits).await;
    stand.yard.server.sigstop();
    stand.holds(&["q", "r"]).await;
    stand.yard.server.sigcont();
    stand.runs_in_other("after").await;
    wait_until(LIMIT, || async {
        stand.yard.broker.queues().await.is_ok_and(|known| known.len() == 2)
    })
    .await;
    stand.ends().await;
}

/// Sets rules of a user of Redis that may serve the first queue.
async fn allow(yard: &Yard, rules: &[&str]) {
    let mut redis = yard.server.connection().await;
    let mut acl = redis::cmd("ACL");
    let _: () = acl
        .arg("SETUSER")
        .arg("narrow")
        .arg(rules)
        .query_async(&mut redis)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_queue_that_a_reload_took_during_an_outage_is_served_as_soon_as_it_is_allowed() {
    let yard = Yard::start().await;
    yard.broker.link().load_library().await.unwrap();
    let own = ["~workyard:{q}:*", "~workyard:queues", "~workyard:consumer:*"];
    allow(&yard, &[&["on", ">pw", "&*", "+@all"], &own[..]].concat()).await;
    let url = yard.server.url_with("narrow:pw@");
    let mut stand = Stand::start_as(yard, &url, &["q"], "30s").await;
    stand.yard.server.sigstop();
    stand.holds(&["q", "r"]).await;
    stand.yard.server.sigcont();
    wait_until(LIMIT, || async {
        stand.daemon.log().contains("queue r cannot be served")
    })
    .await;
    let first = stand.yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    stand.yard.result(&first).await;
    allow(&stand.yard, &["~workyard:{r}:*"]).await;
    stand.runs_in_other("allowed").await;
    let log = stand.daemon.log();
    assert_eq!(log.matches("queue r cannot be served").count(), 1, "{log}");
    assert!(log.contains("queue r is served again"), "{log}");
    // Redis itself was away at most once, and that ended before.
    assert!(log.matches("Redis cannot serve").count() <= 1, "{log}");
    stand.ends().await;
}
