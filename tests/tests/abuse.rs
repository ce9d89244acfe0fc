//! Limits and abuse: what is too much, too long, at the edge of a number, or plain junk costs nobody else anything.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use redis::aio::MultiplexedConnection;
use workyard_consumer::{Context, Failure, Registry};
use workyard_producer::{Client, ClientConfig, News, task};
use workyard_shared::broker::{Claimed, Place, Seen};
use workyard_shared::job::Form;
use workyard_shared::name::{Kind, QueueName};
use workyard_tests::hand::{Hand, job_id, spec, submit};
use workyard_tests::{TestServer, Yard, queue_name, spawn, tls_dir, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(60);

fn echo() -> Registry {
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).unwrap();
    registry
}

async fn ask<T: redis::FromRedisValue>(redis: &MultiplexedConnection, words: &[&str]) -> T {
    let mut cmd = redis::Cmd::new();
    for word in words {
        cmd.arg(*word);
    }
    cmd.query_async(&mut redis.clone()).await.unwrap()
}

fn client(yard: &Yard) -> Client {
    Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_enqueue_and_none_is_lost() {
    let yard = Yard::start().await;
    let worker = yard.work(echo(), yard.config()).await;
    // A thousand handshakes of a debug build take minutes.
    let many = if tls_dir().is_some() { 100 } else { 1000 };
    let clients: Vec<Client> = (0..many).map(|_| client(&yard)).collect();
    let q = queue_name("q");
    let receipts = join_all(
        clients
            .iter()
            .map(|client| client.enqueue(&q, task("echo").build().unwrap())),
    )
    .await;
    assert!(receipts.iter().all(Result::is_ok));
    let redis = yard.server.connection().await;
    let info: String = ask(&redis, &["INFO", "clients"]).await;
    let connected = info
        .lines()
        .find_map(|line| line.strip_prefix("connected_clients:"))
        .unwrap();
    assert!(connected.trim().parse::<u64>().unwrap() > many, "{connected}");
    yard.reaches("completed", many).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queues_are_listed_and_a_daemon_serves_its_own() {
    let yard = Yard::start().await;
    let redis = yard.server.connection().await;
    let fill = "for i = 1, 10000 do local q = 'q' .. i
      redis.call('SADD', 'workyard:queues', q)
      redis.call('HSET', 'workyard:{' .. q .. '}:stats', 'submitted', '1', 'submitted echo', '1')
      redis.call('HSET', 'workyard:{' .. q .. '}:state', 'seq', '1')
      redis.call('HSET', 'workyard:{' .. q .. '}:tasks', 'a', 'd1700000000000 echo\\n\\n1')
      redis.call('ZADD', 'workyard:{' .. q .. '}:pending', '87960930222081', 'a') end";
    let _: redis::Value = ask(&redis, &["EVAL", fill, "0"]).await;
    let worker = yard.work(echo(), yard.config()).await;
    let workyard = |args: &[&str]| {
        let mut command = workspace_binary("workyard");
        let output = command
            .args(args)
            .env("WORKYARD_REDIS_URL", yard.server.cli_url(args))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let begun = Instant::now();
    let listed = tokio::task::block_in_place(|| workyard(&["queues"]));
    println!("10,000 queues listed in {:?}", begun.elapsed());
    assert_eq!(
        listed.lines().count(),
        1 + 10_001 - usize::from(!listed.contains("\nq "))
    );
    let shown = tokio::task::block_in_place(|| workyard(&["stats", "-q", "q7777"]));
    assert!(shown.contains("q7777"), "{shown}");
    let id = yard.add("echo", "5", |_| ()).await;
    assert_eq!(yard.result(&id).await, "5");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_try_to_leave_their_key_are_refused_at_every_door() {
    let yard = Yard::start().await;
    let redis = yard.server.connection().await;
    let long = "q".repeat(100_000);
    let bad = [
        "a}{b",
        "a}:tasks",
        "{q}",
        "a:b",
        "a b",
        "a\nb",
        "a\0b",
        "\r\nFLUSHALL\r\n",
        "é",
        "",
        "../q",
        &long,
    ];
    for name in bad.iter().filter(|name| **name != "../q") {
        assert!(QueueName::new(name).is_err(), "{name:.20}");
        if !["a:b"].contains(name) {
            assert!(Kind::new(name).is_err(), "{name:.20}");
        }
        // By the function, as another client would call it.
        let mut cmd = redis::cmd("FCALL");
        cmd.arg("workyard_1_enqueue").arg(15).arg(yard.queue.keys().shared());
        cmd.arg(&["", "", "", ""]).arg(*name).arg("1");
        yard.broker.link().ensure_library().await.unwrap();
        let answer: redis::RedisResult<redis::Value> = cmd.query_async(&mut redis.clone()).await;
        // A kind may have colons; behind a line feed there is room for an object of headers, which nobody reads here.
        if *name != "a:b" && *name != "a\nb" {
            assert!(answer.as_ref().is_err_and(|e| e.to_string().len() < 500), "{answer:?}");
        }
        // By the command line, where the system lets such an argument through.
        if !name.contains('\0') {
            let mut command = workspace_binary("workyard");
            let command = command
                .args(["enqueue", "k", "1", "-q", name])
                .env("WORKYARD_REDIS_URL", yard.server.producer_url());
            assert_eq!(command.output().unwrap().status.code(), Some(2), "{name:.20}");
        }
    }
    // By the inbox: refused with a reason that does not repeat it all.
    let worker = yard.work(echo(), yard.config()).await;
    for name in bad {
        let item = serde_json::json!({ "kind": format!("{name} "), "payload": 1 }).to_string();
        let _: u64 = ask(&redis, &["RPUSH", "workyard:{q}:inbox", &item]).await;
    }
    yard.reaches("rejected", bad.len() as u64).await;
    for entry in yard.queue.rejected(100).await.unwrap() {
        let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
        assert!(entry["reason"].as_str().unwrap().len() < 700, "{}", entry["reason"]);
    }
    let keys: Vec<String> = ask(&redis, &["KEYS", "*"]).await;
    assert!(keys.iter().all(|key| key.starts_with("workyard:")), "{keys:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_512_mb_in_the_inbox_is_refused_unseen_and_stalls_nobody() {
    let yard = Yard::start().await;
    let worker = yard.work(echo(), yard.config()).await;
    let redis = yard.server.connection().await;
    // The most that Redis takes; once, for it takes this client half a minute and 1.5 GB.
    let megabytes: usize = if workyard_tests::roles_are_on() { 64 } else { 512 };
    let mut huge = redis::cmd("RPUSH");
    huge.arg("workyard:{q}:inbox").arg("x".repeat((megabytes << 20) - 1));
    let begun = Instant::now();
    huge.exec_async(&mut yard.server.connection().await).await.unwrap();
    println!("{megabytes} MB pushed in {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while yard.total("rejected").await == 0 || begun.elapsed() < Duration::from_secs(1) {
        assert!(begun.elapsed() < SOON);
        let asked = Instant::now();
        let _: String = ask(&redis, &["PING"]).await;
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{megabytes} MB: refused; the slowest of the answers to others meanwhile took {slowest:?}");
    // Redis itself moves such a value about; what is asked for is that it is looked at once, and not by Lua.
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
    let entry = yard.queue.rejected(10).await.unwrap().remove(0);
    assert!(entry.len() < 4096, "{} bytes", entry.len());
    let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
    assert!(entry["reason"].as_str().unwrap().contains("at most"), "{entry}");
    assert_eq!(
        (entry["bytes"].as_u64(), entry["raw"].as_str().map(str::len)),
        (Some((megabytes as u64) * (1 << 20) - 1), Some(1024))
    );
    let id = yard.add("echo", "7", |_| ()).await;
    assert_eq!(yard.result(&id).await, "7");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_the_edge_of_a_double_neither_pass_nor_harm() {
    let yard = Yard::start().await;
    let redis = yard.server.connection().await;
    let worker = yard.work(echo(), yard.config()).await;
    let refused = [
        r#""priority":256"#,
        r#""priority":9007199254740993"#,
        r#""priority":-1"#,
        r#""priority":1e400"#,
        r#""priority":NaN"#,
        r#""not_before":9007199254740993"#,
        r#""not_before":1e400"#,
        r#""delay":1e19"#,
        r#""delay":"1e400s""#,
        r#""delay":"NaNs""#,
        r#""expires_at":18446744073709551615"#,
        r#""not_before":1795955940000000"#,
        r#""retention":"99999999999999999999d""#,
        r#""backoff":{"factor":1e999}"#,
    ];
    for field in refused {
        let item = format!(r#"{{"kind":"echo","payload":1,{field}}}"#);
        let _: u64 = ask(&redis, &["RPUSH", "workyard:{q}:inbox", &item]).await;
    }
    yard.reaches("rejected", refused.len() as u64).await;
    // The latest time that is one.
    let latest = r#"{"kind":"echo","id":"latest","not_before":253402300799999}"#;
    let _: u64 = ask(&redis, &["RPUSH", "workyard:{q}:inbox", latest]).await;
    wait_until(SOON, || async { yard.overview().await.scheduled == 1 }).await;
    assert!(matches!(
        yard.look("latest").await,
        Seen::Live {
            place: Place::Scheduled(253_402_300_799_999),
            ..
        }
    ));
    worker.stop().await;

    // Scores that somebody put there: claimed, given back, promoted, and no call fails.
    let ids = yard.add_many(4, "echo", "1").await;
    for (id, score) in ids.iter().zip(["+inf", "-inf", "9007199254740993", "0.5"]) {
        let _: u64 = ask(&redis, &["ZADD", "workyard:{q}:pending", score, id]).await;
    }
    let mut hand = Hand::register(&yard.consumer).await;
    assert_eq!(hand.claim(4).await.len(), 4);
    yard.consumer.leave(&hand.consumer).await.unwrap();
    assert_eq!(yard.overview().await.pending, 4);
    let scores: Vec<f64> = {
        let flat: Vec<(String, f64)> = ask(&redis, &["ZRANGE", "workyard:{q}:pending", "0", "-1", "WITHSCORES"]).await;
        flat.into_iter().map(|(_, score)| score).collect()
    };
    assert!(
        scores
            .iter()
            .all(|score| score.is_finite() && score.fract() == 0.0 && *score >= 0.0),
        "{scores:?}"
    );
    let _: u64 = ask(&redis, &["ZADD", "workyard:{q}:scheduled", "-inf", &ids[0]]).await;
    let _: u64 = ask(&redis, &["ZREM", "workyard:{q}:pending", &ids[0]]).await;
    let worker = spawn(echo(), yard.config());
    yard.reaches("completed", 4).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_in_two_queues_is_two_tasks() {
    let yard = Yard::start().await;
    let client = client(&yard);
    let other = queue_name("other");
    let build = |n: u32| task("echo").id("same").payload(&n).build().unwrap();
    let first = client.enqueue(&queue_name("q"), build(1)).await.unwrap();
    let second = client.enqueue(&other, build(2)).await.unwrap();
    assert_eq!((first.id.as_str(), second.id.as_str()), ("same", "same"));
    let operator = ClientConfig::from_url(&yard.server.operator_url()).unwrap();
    Client::new(operator).unwrap().cancel(&other, "same").await.unwrap();
    let worker = spawn(echo(), yard.config());
    assert_eq!(yard.result("same").await, "1");
    worker.stop().await;
    let cancelled = client.task(&other, "same").await.unwrap();
    assert_eq!(cancelled.state.as_str(), "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_redis_is_flat_after_fifty_thousand_tasks_or_as_many_as_are_asked_for_have_passed() {
    // Five rounds; WORKYARD_PASSED_TASKS=10000000 has made the figure of docs/profiles.md.
    let chosen = std::env::var("WORKYARD_PASSED_TASKS").ok();
    let passed: usize = chosen.map_or(50_000, |text| text.parse().expect("WORKYARD_PASSED_TASKS is a number"));
    let round: usize = (passed / 5).next_multiple_of(500);
    let yard = Yard::start().await;
    let redis = yard.server.connection().await;
    let worker = spawn(echo(), yard.config());
    let client = client(&yard);
    let (mut used, mut sent) = (Vec::new(), 0);
    for _ in 1..=5 {
        for _ in 0..round / 500 {
            // Results go at once: what is left is what leaks.
            let mut tasks = Vec::with_capacity(500);
            for _ in 0..500 {
                tasks.push(task("echo").payload(&1).retention(Duration::ZERO).build().unwrap());
            }
            client.enqueue_many(&queue_name("q"), tasks).await.unwrap();
            sent += 500;
            // No more wait than in the shortest run: what Redis holds then is not what leaks.
            wait_until(SOON * 4, || async { yard.total("completed").await + 10_000 >= sent }).await;
        }
        yard.reaches("completed", sent).await;
        let info: String = ask(&redis, &["INFO", "memory"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        used.push(line.trim().parse::<i64>().unwrap());
    }
    println!("used_memory after each {round} tasks: {used:?}");
    // The answer of each call is remembered for an hour, in some 620 bytes: that is no leak.
    let answers = i64::try_from(sent / 500 * 700).unwrap();
    // The first round makes tables grow and connections; a leak of 20 bytes a task would be 800 kB.
    assert!(used[4] - used[0] < 700_000 + answers, "{used:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_on_the_channel_of_ends_and_among_results_does_not_end_a_follower() {
    let yard = Yard::start().await;
    let redis = yard.server.connection().await;
    let client = client(&yard);
    let mut follow = client.follow(&queue_name("q")).await.unwrap();
    let _: u64 = ask(
        &redis,
        &["HSET", "workyard:{q}:results", "odd", "what a newer release stores"],
    )
    .await;
    let long = format!("{} completed", "x".repeat(100_000));
    for junk in [
        "",
        " ",
        "completed",
        "a b c d",
        "x pending",
        "\u{0} running",
        "odd completed",
        &long,
        "last completed",
    ] {
        let _: u64 = ask(&redis, &["SPUBLISH", "workyard:{q}:finished", junk]).await;
    }
    let mut told = Vec::new();
    while !told.iter().any(|id| id == "last") {
        let news = tokio::time::timeout(SOON, follow.next())
            .await
            .expect("news")
            .expect("no error");
        for one in news {
            match one {
                News::Ended(view) => told.push(view.id.clone()),
                News::Gap => {}
            }
        }
    }
    assert!(told.contains(&"odd".to_owned()), "{told:?}");
    assert!(!told.iter().any(|id| id == "x" || id == "\u{0}"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_what_a_consumer_holds_costs_no_task_its_place() {
    let yard = Yard::start().await;
    let redis = yard.server.connection().await;
    let ids = yard.add_many(6, "echo", "1").await;
    let mut hand = Hand::register(&yard.consumer).await;
    let token = hand.claim(6).await[0].token;
    let running = format!("workyard:{{q}}:running:{}", hand.consumer);
    for (id, score) in ids.iter().zip(["", "nan", "-5", "1e300", "0x", "7 7"]) {
        let _: u64 = ask(&redis, &["HSET", &running, id, &format!("{token} {score}")]).await;
    }
    yard.consumer.leave(&hand.consumer).await.unwrap();
    assert_eq!(yard.overview().await.pending, 6);
    let mut next = Hand::register(&yard.consumer).await;
    assert_eq!(next.claim(6).await.len(), 6);
    let request = workyard_shared::broker::ClaimRequest::new(&next.consumer, 1, u64::MAX);
    assert!(matches!(yard.consumer.claim(request).await.unwrap(), Claimed::Tasks(none) if none.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_step_of_a_job_is_refused_at_every_door() {
    let yard = Yard::on(TestServer::start_single(&[]).await);
    let worker = yard.work(echo(), yard.config()).await;
    let mut redis = yard.server.connection().await;
    redis::cmd("RPUSH")
        .arg("workyard:{q}:inbox")
        .arg(r#"{"kind":"echo","type":"map","id":"k1:1:m:0"}"#)
        .exec_async(&mut redis)
        .await
        .unwrap();
    yard.reaches("rejected", 1).await;
    let entry = yard.queue.rejected(1).await.unwrap().remove(0);
    assert!(entry.contains("is that of a step of a job"), "{entry}");
    // The function's rule is wider than what a consumer takes for a step, and refuses a whole call: nothing may get that far.
    for (n, id) in [
        "k1:01:m:00",
        "k:1:m:0x",
        "k:1:m:99999999999999999999",
        "k:4294967296:r:0:0",
    ]
    .iter()
    .enumerate()
    {
        let item = format!(r#"{{"kind":"echo","type":"map","id":"{id}"}}"#);
        redis::cmd("RPUSH")
            .arg("workyard:{q}:inbox")
            .arg(&[item.as_str(), r#"{"kind":"echo","payload":1}"#])
            .exec_async(&mut redis)
            .await
            .unwrap();
        yard.reaches("rejected", n as u64 + 2).await;
        yard.reaches("completed", n as u64 + 1).await;
    }
    let mut task = workyard_tests::new_task("echo", "null");
    task.options.task_type = workyard_shared::options::TaskType::Reduce;
    let refused =
        workyard_producer::Client::new(workyard_producer::ClientConfig::from_url(&yard.server.producer_url()).unwrap())
            .unwrap()
            .enqueue(yard.queue.name(), {
                task.id = Some("k2:1:r:0".parse().unwrap());
                task
            })
            .await;
    assert!(refused.unwrap_err().to_string().contains("is that of a step of a job"));
    let mut cmd = redis::cmd("FCALL");
    cmd.arg("workyard_1_enqueue").arg(15);
    for key in workyard_shared::keys::SHARED {
        cmd.arg(format!("workyard:{{q}}:{key}"));
    }
    for arg in ["", "", "", "k3:1:m:7", "echo type=map", "null"] {
        cmd.arg(arg);
    }
    let error = cmd
        .query_async::<redis::Value>(&mut redis)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("is that of a step of a job"), "{error}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_the_id_of_a_step_and_no_job_knows_is_dead_lettered() {
    let yard = Yard::on(TestServer::start_single(&[]).await);
    let worker = yard.work(echo(), yard.config()).await;
    let mut redis = yard.server.connection().await;
    // One that an older release let in.
    let mut by_hand = redis::pipe();
    by_hand
        .atomic()
        .hset("workyard:{q}:tasks", "k4:1:m:0", "o1795000000000 echo type=map\n\nnull")
        .zadd("workyard:{q}:pending", "k4:1:m:0", 1);
    by_hand.exec_async(&mut redis).await.unwrap();
    yard.add("echo", "null", |_| ()).await; // wakes the consumer
    yard.reaches("failed", 1).await;
    let meta = yard.dead("k4:1:m:0").await;
    assert_eq!(meta.reason, "no-job");
    // And ones of a job that exists: of another start, and beyond its chunks.
    let (job, spec) = (job_id("real"), spec(Form::Fold { fan_in: Some(2) }));
    submit(&yard.queue, &job, &spec, 3).await;
    let record = yard.queue.job_record(&job).await.unwrap().unwrap();
    let strange = [
        format!("real:{}:m:0", record.epoch + 7),
        format!("real:{}:m:99", record.epoch),
    ];
    for id in &strange {
        let mut by_hand = redis::pipe();
        by_hand
            .atomic()
            .hset("workyard:{q}:tasks", id, "o1795000000000 echo type=map\n\nnull")
            .zadd("workyard:{q}:pending", id, 1);
        by_hand.exec_async(&mut redis).await.unwrap();
    }
    yard.add("echo", "null", |_| ()).await;
    yard.reaches("failed", 3).await;
    for id in &strange {
        assert!(
            matches!(
                yard.look(id).await,
                Seen::Live {
                    place: Place::Failed(_),
                    ..
                }
            ),
            "{id}"
        );
    }
    worker.stop().await;
}

/// The commands of a program, each with the options of its own that take a value, and the name of its first argument: as its
/// help tells them.
fn commands(program: &str, words: &[String], found: &mut Vec<(Vec<String>, Vec<String>)>) {
    let help = workspace_binary(program).args(words).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (mut below, mut named) = (Vec::new(), Vec::new());
    let mut heading = "";
    for line in help.lines().filter(|line| !line.is_empty()) {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 {
            heading = line;
            continue;
        }
        let text = line.trim_start();
        match heading {
            "Commands:" if indent == 2 => below.extend(text.split(' ').next().filter(|name| *name != "help")),
            "Arguments:" if indent == 2 => {
                let first = text.split(' ').next().unwrap_or_default();
                named.push(first.trim_matches(['<', '[', ']', '>', '.']).to_owned());
            }
            // Those that every command has are tried with one.
            _ if indent < 10 && text.starts_with('-') && (heading != "Global options:" || words.is_empty()) => {
                let long = text.find("--").map(|at| &text[at..]);
                let option = long.filter(|long| long.contains('<'));
                named.extend(option.and_then(|long| long.split([' ', '[']).next()).map(str::to_owned));
            }
            _ => {}
        }
    }
    // Of several arguments the first: a bad one in front of the second is told before it.
    if let Some(first) = named.iter().position(|name| !name.starts_with('-')) {
        let first = named[first].clone();
        named.retain(|name| name.starts_with('-') || *name == first);
    }
    if words.is_empty() || below.is_empty() {
        found.push((words.to_vec(), named));
    }
    for name in below {
        commands(program, &[words, &[name.to_owned()]].concat(), found);
    }
}

/// What takes any text when it is read: words to look for, names of people, files and folders to be written, and
/// places that a job may name later.
const FREE: [&str; 8] = [
    "--dir",
    "--error",
    "--jobs-read",
    "--jobs-spill",
    "--operator",
    "FILE",
    "PAYLOAD",
    "--spill",
];

/// A file or an address, which the error names.
const NAMED: [&str; 2] = ["--config", "--from-file"];

/// Lines that can be read and say what cannot be, and a word of what each is to be told.
const LINES: [(&str, &str); 15] = [
    ("enqueue k hello", "quote it as JSON"),
    ("enqueue k @/no/such/file", "cannot read /no/such/file"),
    ("enqueue k --max-attempts 0", "max_attempts must be"),
    ("enqueue k --backoff-jitter 2", "jitter must be"),
    ("enqueue --from-file LINES", "line 2"),
    ("list -q typo", "no queue \"typo\""),
    ("purge pending", "--yes"),
    ("purge inbox", "--yes"),
    ("cancel --all", "--yes"),
    ("delete --all", "--yes"),
    ("retry --all --state completed", "only failed tasks"),
    ("queue delete q", "--yes"),
    ("queues --redis-url nonsense", "\"nonsense\" is no Redis URL"),
    ("queue set q colour=red", "colour"),
    ("map-reduce --map count --reduce sum --input /no/such", "/no/such"),
];
/// The same of the daemon.
const DAEMONS: [(&str, &str); 3] = [
    ("--config /no/such.toml", "/no/such.toml"),
    ("--config BAD", "concurrency"),
    ("--config GOOD --concurrency 0", "concurrency"),
];

/// A program, its arguments, and what it must be told by.
type Case = (&'static str, Vec<String>, String);

/// Every value that is none: program, its arguments, and what it must be told by.
fn nonsense(files: &std::path::Path) -> Vec<Case> {
    let (good, bad, lines) = (files.join("good.toml"), files.join("bad.toml"), files.join("lines"));
    std::fs::write(
        &good,
        "[[queues]]\nname = \"q\"\n[handlers.k]\ntype = \"builtin\"\nfunction = \"echo\"\n",
    )
    .unwrap();
    std::fs::write(
        &bad,
        "concurrency = \"many\"\n[handlers.k]\ntype = \"builtin\"\nfunction = \"echo\"\n",
    )
    .unwrap();
    std::fs::write(&lines, "{\"kind\":\"k\"}\n{\"kind\":\"a b\"}\n").unwrap();
    let mut cases = Vec::new();
    let mut add = |program, line: &str, told: &str| {
        let line = line
            .replace("GOOD", good.to_str().unwrap())
            .replace("BAD", bad.to_str().unwrap());
        let line = line.replace("LINES", lines.to_str().unwrap());
        cases.push((program, line.split(' ').map(str::to_owned).collect(), told.to_owned()));
    };
    for (line, told) in LINES {
        add("workyard", line, told);
    }
    for (line, told) in DAEMONS {
        add("workyard-consumer", line, told);
    }
    for program in ["workyard", "workyard-consumer"] {
        bad_values(program, good.to_str().unwrap(), &mut cases);
    }
    cases
}

/// Each option and argument of a program with what is no value of it.
fn bad_values(program: &'static str, good: &str, cases: &mut Vec<Case>) {
    let mut found = Vec::new();
    commands(program, &[], &mut found);
    for (mut words, named) in found {
        if program == "workyard-consumer" && words.is_empty() {
            words = vec!["--config".to_owned(), good.to_owned()];
        } else if words.is_empty() {
            words.push("queues".to_owned());
        }
        let tried = named.iter().filter(|name| !FREE.contains(&name.as_str()));
        // How Redis is reached has tests of its own: a file of the password is not looked at if the address says that.
        for name in tried.filter(|name| !name.starts_with("--redis")) {
            for value in ["a b", "\u{1b}[0m"] {
                let mut line = words.clone();
                if name == "--config" {
                    line.retain(|word| word == "healthcheck");
                }
                if name.starts_with('-') {
                    line.push(format!("{name}={value}"));
                } else {
                    line.extend(["--".to_owned(), value.to_owned()]);
                }
                // What names a place is told by that, and everything else by the option.
                let told = match NAMED.contains(&name.as_str()) {
                    true if value.contains('\u{1b}') => "[0m",
                    true => value,
                    false => name.trim_start_matches('-'),
                };
                cases.push((program, line, told.to_owned()));
            }
        }
    }
}

/// All that is there, but what a connection writes itself.
async fn all_keys(redis: &MultiplexedConnection) -> Vec<(String, Vec<u8>)> {
    let mut keys: Vec<String> = ask(redis, &["KEYS", "*"]).await;
    keys.sort();
    let mut all = Vec::new();
    for key in keys {
        let bytes = ask(redis, &["DUMP", &key]).await;
        all.push((key, bytes));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_for_any_command_of_both_programs_is_told_with_code_2_and_touches_nothing() {
    let yard = Yard::on(TestServer::start_single(&[]).await);
    for (id, delay) in [("waits", 0), ("later", 3600)] {
        yard.add_as(id.parse().unwrap(), "k", "1", |options| {
            options.delay = Some(Duration::from_secs(delay)).filter(|delay| !delay.is_zero());
        })
        .await;
    }
    yard.broker.announce(&queue_name("q")).await.unwrap();
    let redis = yard.server.connection().await;
    let _: u64 = ask(&redis, &["RPUSH", "workyard:{q}:inbox", "{}"]).await;
    let before = all_keys(&redis).await;
    let cases = nonsense(yard.server.dir());
    assert!(cases.len() > 220, "{}", cases.len());
    let tried = stream::iter(&cases).map(|case| taken(&yard.server, case));
    let wrong: Vec<String> = tried.buffer_unordered(4).filter_map(std::future::ready).collect().await;
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert!(before == all_keys(&redis).await, "something was changed");
}

/// What a program did with such a line instead of refusing it.
async fn taken(server: &TestServer, (program, line, told): &Case) -> Option<String> {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let url = match *program {
        "workyard" => server.cli_url(&words),
        _ => server.consumer_url(),
    };
    let mut command = tokio::process::Command::from(workspace_binary(program));
    command
        .args(line)
        .env("WORKYARD_REDIS_URL", url)
        .env("WORKYARD_QUEUE", "q")
        .current_dir(server.dir())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // A daemon that takes it goes on for ever.
    let Ok(output) = tokio::time::timeout(SOON, command.output()).await else {
        return Some(format!("{program} {line:?} goes on"));
    };
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let refused = output.status.code() == Some(2) && output.stdout.is_empty() && error.contains(told.as_str());
    (!refused).then(|| {
        format!(
            "{program} {line:?}: {:?} {:?} {error}",
            output.status.code(),
            String::from_utf8_lossy(&output.stdout)
        )
    })
}
