//! Commands that wait while Redis goes away, on a real Redis that is killed; hands play the consumer.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use support::jobs::{items, queue};
use support::{Hands, SOON, Server, until};
use workyard_producer::{JobId, task};

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A command that runs, with what it has written to stderr so far.
struct Waiter {
    child: Child,
    err: Arc<Mutex<String>>,
    name: String,
}

impl Waiter {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut command = server.workyard(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = BufReader::new(child.stderr.take().unwrap());
        let err: Arc<Mutex<String>> = Arc::default();
        let sink = Arc::clone(&err);
        std::thread::spawn(move || {
            for line in told.lines().map_while(Result::ok) {
                let mut text = sink.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        let name = args.join(" ");
        Self { child, err, name }
    }

    fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    async fn says(&self, text: &str) {
        let what = format!("{}: {text}", self.name);
        until(&what, async || self.err().contains(text)).await;
    }

    async fn ends(&mut self, code: i32) -> String {
        let begun = std::time::Instant::now();
        while begun.elapsed() < SOON {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote last may still be on its way to us.
                let end = || async { Arc::strong_count(&self.err) == 1 };
                until("all is read", end).await;
                assert_eq!(status.code(), Some(code), "{}: {}", self.name, self.err());
                return self.err();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{} still waits: {}", self.name, self.err());
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until so many tasks and jobs are waited for.
async fn all_wait(server: &Server, n: u64) {
    let redis = server.redis().await;
    let mut waiters = redis::cmd("HLEN");
    waiters.arg("workyard:{default}:waiters");
    until("all wait", async || {
        waiters.query_async::<u64>(&mut redis.clone()).await.unwrap() == n
    })
    .await;
}

/// Everything that waits, begun on a Redis that serves: for task `a`, a new one `b`, jobs `j` and `m`, and any end.
async fn all_that_wait(server: &Server, more: &[&str]) -> Vec<Waiter> {
    let client = server.client();
    let of = |id: &str| task("k").id(id).payload(&1).build().unwrap();
    client.enqueue(&queue(), of("a")).await.unwrap();
    items(&client, "j", 2, 1).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "1\n2\n").unwrap();
    let path = file.path().to_str().unwrap();
    let map_reduce = [
        "map-reduce",
        "--items",
        path,
        "--map",
        "own",
        "--reduce",
        "own",
        "--id",
        "m",
        "--json",
    ];
    let waiters: Vec<Waiter> = [
        &["wait", "a", "--json"][..],
        &["enqueue", "k", "--id", "b", "--wait"],
        &["job", "wait", "j"],
        &map_reduce,
        &["results", "--follow", "--limit", "1", "--json"],
    ]
    .iter()
    .map(|line| Waiter::start(server, &[line, more].concat()))
    .collect();
    all_wait(server, 4).await;
    let redis = server.redis().await;
    let mut follows = redis::cmd("HEXISTS");
    follows.arg("workyard:{default}:state").arg("follow");
    until("somebody follows", async || {
        follows.query_async::<bool>(&mut redis.clone()).await.unwrap()
    })
    .await;
    waiters
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_waits_an_outage_out_and_says_so_once() {
    let mut server = Server::start(&DURABLE).await;
    let mut waiters = all_that_wait(&server, &[]).await;
    server.crash();
    for waiter in &waiters {
        waiter.says("; the wait goes on when it is back").await;
    }
    server.come_back().await;
    for waiter in &waiters {
        waiter.says("note: Redis serves again").await;
    }
    let client = server.client();
    for id in ["j", "m"] {
        assert!(client.job(&queue(), &JobId::new(id).unwrap()).cancel().await.unwrap());
    }
    let mut hands = Hands::register(server.queue("default")).await;
    for _ in 0..2 {
        let grant = hands.next().await;
        hands.complete(&grant, "1").await;
    }
    for (waiter, code) in waiters.iter_mut().zip([0, 0, 1, 1, 0]) {
        let err = waiter.ends(code).await;
        let count = |text: &str| err.matches(text).count();
        assert_eq!(count("note: Redis cannot be reached ("), 1, "{}: {err}", waiter.name);
        assert_eq!(
            count("note: Redis serves again; the wait goes on\n"),
            1,
            "{}: {err}",
            waiter.name
        );
        assert!(!err.contains("waiting up to"), "{}: {err}", waiter.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_that_is_given_ends_every_wait_with_code_4_and_the_reason() {
    let mut server = Server::start(&DURABLE).await;
    let mut waiters = all_that_wait(&server, &["--patience", "2s"]).await;
    server.crash();
    for waiter in &mut waiters {
        let err = waiter.ends(4).await;
        assert!(
            err.contains("refused") && err.contains("; for longer than 2s"),
            "{}: {err}",
            waiter.name
        );
        assert!(
            err.contains("; waiting up to 2s for it (--patience)\n"),
            "{}: {err}",
            waiter.name
        );
        let told = err.contains("what was waited for goes on");
        assert_eq!(told, !waiter.name.starts_with("results"), "{}: {err}", waiter.name);
        assert!(!err.contains("goes on when"), "{}: {err}", waiter.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_whose_time_is_over_in_an_outage_says_so() {
    let mut server = Server::start(&DURABLE).await;
    server.run(&["enqueue", "k", "--id", "a"]).ok();
    items(&server.client(), "j", 2, 1).await;
    let lines = [&["wait", "a", "--json"][..], &["job", "wait", "j"]];
    let mut waiters = lines.map(|line| Waiter::start(&server, &[line, &["--timeout", "3s"]].concat()));
    all_wait(&server, 2).await;
    server.crash();
    for waiter in &mut waiters {
        let err = waiter.ends(3).await;
        assert!(err.contains("did not end within 3s"), "{}: {err}", waiter.name);
        let told = err.lines().filter(|line| line.contains("by then; ")).count();
        assert!(
            told == 1 && err.contains("Redis cannot be reached ("),
            "{}: {err}",
            waiter.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_writes_is_told_to_who_waits() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    server.run(&["enqueue", "k", "--id", "a"]).ok();
    let mut redis = server.redis().await;
    let mut refuse = async |replicas: &str| {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("SET").arg("min-replicas-to-write").arg(replicas);
        cmd.exec_async(&mut redis).await.unwrap();
    };
    refuse("1").await;
    let mut waiter = Waiter::start(&server, &["wait", "a", "--json"]);
    waiter.says("note: Redis cannot serve (").await;
    waiter.says("; the wait goes on when it is back").await;
    let mut hasty = Waiter::start(&server, &["results", "--follow", "--patience", "1s"]);
    assert!(hasty.ends(4).await.contains("; for longer than 1s"));
    refuse("0").await;
    waiter.says("note: Redis serves again").await;
    let grant = hands.next().await;
    hands.complete(&grant, "1").await;
    let err = waiter.ends(0).await;
    assert_eq!(err.matches("note: Redis").count(), 2, "{err}");
}

/// Nothing is closed and nobody answers: each try to hear of ends again that times out is another gap, and no news.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_redis_that_hangs_tells_one_gap_and_its_patience_ends() {
    let server = Server::start(&[]).await;
    let mut redis = server.redis().await;
    let info: redis::InfoDict = redis::cmd("INFO").arg("server").query_async(&mut redis).await.unwrap();
    let pid: u32 = info.get("process_id").unwrap();
    let mut follower = Waiter::start(&server, &["results", "--follow", "--patience", "4s"]);
    let mut follows = redis::cmd("HEXISTS");
    follows.arg("workyard:{default}:state").arg("follow");
    until("somebody follows", async || {
        follows.query_async::<bool>(&mut redis.clone()).await.unwrap()
    })
    .await;
    let signal = |name: &str| {
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args([name, &pid.to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let err = follower.ends(4).await;
    signal("-CONT");
    assert_eq!(err.matches("ends may be missing here").count(), 1, "{err}");
    assert!(err.contains("; for longer than 4s"), "{err}");
}
