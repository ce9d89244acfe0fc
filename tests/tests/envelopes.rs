//! What an envelope may say, by the inbox and by the function: every option has its effect, and the published schema says what is taken.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::acl::Role;
use workyard_shared::broker::{Place, Seen};
use workyard_shared::envelope::NewTask;
use workyard_shared::keys::SHARED;
use workyard_shared::options::TaskType;
use workyard_shared::record::State;
use workyard_tests::{Yard, queue_name, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(15);

fn refused(entry: &str) -> (String, String) {
    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
    (
        entry["reason"].as_str().unwrap().to_owned(),
        entry["raw"].as_str().unwrap().to_owned(),
    )
}

/// The ways by which a task comes in that are tried with every option.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// RPUSH of an envelope.
    Inbox,
    /// FCALL of the published function.
    Function,
}

/// A queue and who pushes raw.
struct Counter {
    yard: Yard,
    redis: redis::aio::MultiplexedConnection,
    added: usize,
}

impl Counter {
    async fn open() -> Self {
        let yard = Yard::start().await;
        yard.broker.link().load_library().await.unwrap();
        let redis = yard.server.connection_as(Role::Producer).await;
        Self { yard, redis, added: 0 }
    }

    async fn push(&mut self, item: &str) {
        let mut push = redis::cmd("RPUSH");
        push.arg("workyard:{q}:inbox").arg(item);
        let _: u64 = push.query_async(&mut self.redis).await.unwrap();
    }

    /// The letter that the function answers for the task, or why it refuses it.
    async fn call(&mut self, id: &str, head: &str, payload: &[u8]) -> Result<String, redis::RedisError> {
        let mut call = redis::cmd("FCALL");
        call.arg("workyard_1_enqueue").arg(SHARED.len());
        for key in SHARED {
            call.arg(format!("workyard:{{q}}:{key}"));
        }
        call.arg("").arg("").arg("").arg(id).arg(head).arg(payload);
        let answer: Vec<String> = call.query_async(&mut self.redis).await?;
        Ok(answer[0].clone())
    }

    /// Adds a task with fields of an envelope, or with the same as options of the function.
    async fn add(&mut self, way: Way, kind: &str, fields: &str, options: &str) -> String {
        self.added += 1;
        let id = format!("{way:?}-{}", self.added);
        let kind = match kind {
            "fails" => format!("fails.{}", self.added),
            other => other.to_owned(),
        };
        match way {
            Way::Inbox => {
                let comma = if fields.is_empty() { "" } else { "," };
                self.push(&format!(
                    r#"{{"kind":"{kind}","id":"{id}","payload":1{comma}{fields}}}"#
                ))
                .await;
            }
            Way::Function => {
                let gap = if options.starts_with('\n') || options.is_empty() {
                    ""
                } else {
                    " "
                };
                assert_eq!(
                    self.call(&id, &format!("{kind}{gap}{options}"), b"1").await.unwrap(),
                    "c"
                );
            }
        }
        id
    }

    async fn score(&self, set: &str, id: &str) -> Option<f64> {
        let mut redis = self.yard.server.connection().await;
        let mut ask = redis::cmd("ZSCORE");
        ask.arg(format!("workyard:{{q}}:{set}")).arg(id);
        ask.query_async(&mut redis).await.unwrap()
    }

    /// Of a task that waits for another attempt: what it waits in ms, with which priority it comes back, and how often it failed.
    async fn retry(&self, id: &str) -> (f64, f64, i32) {
        wait_for(SOON, || async {
            let before = self.score("scheduled", id).await?;
            let (Seen::Live { meta, .. }, after) = (self.yard.look(id).await, self.score("scheduled", id).await) else {
                return None;
            };
            let wait = before.floor() - meta.failed_ms as f64;
            let failures = i32::try_from(meta.failures).unwrap();
            (after == Some(before) && failures > 0).then_some((wait, before.fract() * 256.0, failures))
        })
        .await
    }
}

/// Completes `echo`, fails `fails`, and never ends `hangs`.
fn three_kinds() -> Registry {
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).unwrap();
    let fails = |_: Context, _: serde_json::Value| async { Err::<(), _>(Failure::retry("no")) };
    // A kind of its own for each: one that always fails would have its breaker opened, and its tasks held back.
    for n in 1..=40 {
        registry.register(&format!("fails.{n}"), fails).unwrap();
    }
    let hangs = |_: Context, _: serde_json::Value| std::future::pending::<Result<(), Failure>>();
    registry.register("hangs", hangs).unwrap();
    registry
}

async fn ends_of_attempts(counter: &mut Counter, way: Way) {
    let once = counter.add(way, "fails", r#""max_attempts":1"#, "max_attempts=1").await;
    let meta = counter.yard.buried(&once, SOON).await;
    assert_eq!((meta.reason.as_str(), meta.failures), ("attempts", 1), "{way:?}");
    let late = counter
        .add(
            way,
            "hangs",
            r#""timeout":"50ms","max_attempts":1"#,
            "timeout=50 max_attempts=1",
        )
        .await;
    let meta = counter.yard.buried(&late, SOON).await;
    assert_eq!(
        (meta.reason.as_str(), meta.error.as_str()),
        ("timeout", "timed out after 50ms"),
        "{way:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_attempts_have_their_effect_by_inbox_and_by_function() {
    let mut counter = Counter::open().await;
    let worker = counter.yard.work(three_kinds(), counter.yard.config()).await;
    for way in [Way::Inbox, Way::Function] {
        // The defaults: 2, 4 s, and up to a tenth more; ten priorities less urgent with each failure.
        let plain = counter.add(way, "fails", "", "").await;
        let (wait, priority, failures) = counter.retry(&plain).await;
        let least = 1000.0 * f64::from(2_i32.pow(failures.unsigned_abs()));
        assert!((least..=least * 1.1).contains(&wait), "{way:?}: {wait} ms");
        assert_eq!(priority, 5.0 + 10.0 * f64::from(failures));

        let far = (r#""backoff":{"base":"1h"}"#, "backoff_base=3600000");
        for (fields, options, wanted) in [
            (r#""retry_priority_step":3"#, "retry_priority_step=3", 8.0),
            (
                r#""retry_priority_step":0,"priority":7"#,
                "retry_priority_step=0 priority=7",
                7.0,
            ),
            (
                r#""retry_priority_step":200,"priority":200"#,
                "retry_priority_step=200 priority=200",
                255.0,
            ),
        ] {
            let id = counter
                .add(
                    way,
                    "fails",
                    &format!("{fields},{}", far.0),
                    &format!("{options} {}", far.1),
                )
                .await;
            assert_eq!(counter.retry(&id).await.1, wanted, "{way:?} {options}");
        }
        for (fields, options, wanted) in [
            (
                r#"{"base":"1m","factor":3,"cap":"1h","jitter":0}"#,
                "backoff_base=60000 backoff_factor=3 backoff_cap=3600000 backoff_jitter=0",
                180_000.0..=180_000.0,
            ),
            (
                r#"{"base":60000,"factor":3,"cap":100000,"jitter":0}"#,
                "backoff_base=60000 backoff_factor=3 backoff_cap=100000 backoff_jitter=0",
                100_000.0..=100_000.0,
            ),
            (
                r#"{"base":"60s","factor":1,"jitter":1}"#,
                "backoff_base=60000 backoff_factor=1 backoff_jitter=1",
                60_000.0..=120_000.0,
            ),
        ] {
            let id = counter
                .add(way, "fails", &format!("\"backoff\":{fields}"), options)
                .await;
            let wait = counter.retry(&id).await.0;
            assert!(wanted.contains(&wait), "{way:?} {options}: {wait} ms");
        }
        ends_of_attempts(&mut counter, way).await;
    }
    worker.stop().await;
}

async fn starts_later(counter: &mut Counter, way: Way, soon: u64) {
    for (fields, options) in [
        (r#""delay":"200ms""#.to_owned(), "delay=200".to_owned()),
        (format!("\"not_before\":{soon}"), format!("not_before={soon}")),
        // Of both, the delay holds.
        (
            format!("\"not_before\":{},\"delay\":200", soon + 3_600_000),
            format!("not_before={} delay=200", soon + 3_600_000),
        ),
    ] {
        let id = counter.add(way, "echo", &fields, &options).await;
        let ended = counter.yard.ended(&id).await;
        let due = if options.starts_with("delay") || options.ends_with("delay=200") {
            ended.created_ms + 200
        } else {
            soon
        };
        assert!(ended.started_ms >= due, "{way:?} {options}: {ended:?}");
    }
}

async fn expires(counter: &mut Counter, way: Way, soon: u64) {
    for (fields, options) in [
        (
            r#""expires_in":"50ms","delay":"1h""#.to_owned(),
            "expires_in=50 delay=3600000".to_owned(),
        ),
        (
            format!("\"expires_at\":{soon},\"delay\":\"1h\""),
            format!("expires_at={soon} delay=3600000"),
        ),
        (
            format!("\"expires_at\":{},\"expires_in\":50,\"delay\":\"1h\"", soon + 3_600_000),
            format!("expires_at={} expires_in=50 delay=3600000", soon + 3_600_000),
        ),
    ] {
        let id = counter.add(way, "echo", &fields, &options).await;
        assert_eq!(counter.yard.ended(&id).await.state, State::Expired, "{way:?} {options}");
    }
}

async fn is_kept(counter: &mut Counter, way: Way, soon: u64) {
    // What is only kept, until somebody reads it; and nothing of it is lost where one time takes the place of another.
    let extra = r#""headers":{"tenant":"7"},"colour":[1, 2]"#;
    let fields = format!(
        r#""type":"map","not_before":{soon},"delay":"1h","timeout":"9s","priority":3,"queue":"q","v":1,{extra}"#
    );
    let options = format!("type=map not_before={soon} delay=3600000 timeout=9000 priority=3\n{{{extra}}}");
    let id = counter.add(way, "echo", &fields, &options).await;
    let record = wait_for(SOON, || async {
        match counter.yard.look(&id).await {
            Seen::Live {
                place: Place::Scheduled(_),
                record,
                ..
            } => Some(record),
            _ => None,
        }
    })
    .await;
    let (chosen, (headers, unknown)) = (record.options(), record.extra());
    assert_eq!((chosen.task_type, chosen.priority), (TaskType::Map, Some(3)), "{way:?}");
    assert_eq!(chosen.timeout, Some(Duration::from_secs(9)), "{way:?}");
    assert_eq!(
        (headers["tenant"].as_str(), unknown["colour"].get()),
        ("7", "[1, 2]"),
        "{way:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_times_and_places_have_their_effect_by_inbox_and_by_function() {
    let mut counter = Counter::open().await;
    let worker = counter.yard.work(three_kinds(), counter.yard.config()).await;
    for way in [Way::Inbox, Way::Function] {
        let kept = counter
            .add(way, "echo", r#""retention":"5m""#, "retention=300000")
            .await;
        let ended = counter.yard.ended(&kept).await;
        let gone_at = counter.score("done", &kept).await.unwrap();
        assert_eq!(gone_at - ended.finished_ms as f64, 300_000.0, "{way:?}");
        let done = counter.yard.total("completed").await;
        let unkept = counter.add(way, "echo", r#""retention":0"#, "retention=0").await;
        counter.yard.reaches("completed", done + 1).await;
        assert!(matches!(counter.yard.look(&unkept).await, Seen::Unknown), "{way:?}");

        let soon = counter.yard.overview().await.now_ms + 300;
        starts_later(&mut counter, way, soon).await;
        expires(&mut counter, way, soon).await;
        is_kept(&mut counter, way, soon).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_urgent_goes_first_whichever_way_it_came() {
    let mut counter = Counter::open().await;
    let worker = counter.yard.work(three_kinds(), counter.yard.config()).await;
    counter.yard.operator.set_paused(true).await.unwrap();
    let mut ids = Vec::new();
    for (way, priority) in [(Way::Inbox, 9), (Way::Function, 8), (Way::Inbox, 7), (Way::Function, 6)] {
        ids.push(
            counter
                .add(
                    way,
                    "echo",
                    &format!("\"priority\":{priority}"),
                    &format!("priority={priority}"),
                )
                .await,
        );
    }
    wait_until(SOON, || async { counter.yard.overview().await.pending == 4 }).await;
    let mut scores = Vec::new();
    for id in &ids {
        scores.push(counter.score("pending", id).await.unwrap());
    }
    assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
    counter.yard.operator.set_paused(false).await.unwrap();
    for id in &ids {
        counter.yard.ended(id).await;
    }
    worker.stop().await;
}

/// Envelopes, and whether they are to be taken: every field once as it may be, and as it may not.
const ENVELOPES: &[(bool, &str)] = &[
    (true, r#"{"kind":"k"}"#),
    (true, r#"{"kind":"a.b_c:d-9","payload":{"x":[1,null]}}"#),
    (true, r#"{"kind":"k","v":1,"id":"!own~","queue":"q"}"#),
    (
        true,
        r#"{"kind":"k","v":null,"id":null,"queue":null,"headers":null,"payload":null,"type":null}"#,
    ),
    (
        true,
        r#"{"kind":"k","priority":null,"max_attempts":null,"backoff":null,"retry_priority_step":null}"#,
    ),
    (
        true,
        r#"{"kind":"k","not_before":null,"delay":null,"timeout":null,"expires_at":null,"expires_in":null,"retention":null}"#,
    ),
    (
        true,
        r#"{"kind":"k","headers":{"a":"b"},"unknown":{"a":1},"signature":7,"id":"signed"}"#,
    ),
    (
        true,
        r#"{"kind":"k","priority":0,"retry_priority_step":0,"max_attempts":1}"#,
    ),
    (
        true,
        r#"{"kind":"k","priority":255,"retry_priority_step":255,"max_attempts":1000}"#,
    ),
    (true, r#"{"kind":"k","backoff":{}}"#),
    (
        true,
        r#"{"kind":"k","backoff":{"base":0,"factor":1,"cap":"1h","jitter":0}}"#,
    ),
    (
        true,
        r#"{"kind":"k","backoff":{"base":"1.5s","factor":100.0,"cap":315360000000,"jitter":1}}"#,
    ),
    (
        true,
        r#"{"kind":"k","backoff":{"base":null,"factor":null,"cap":null,"jitter":null}}"#,
    ),
    (true, r#"{"kind":"k","not_before":0,"delay":0,"retention":0}"#),
    (
        true,
        r#"{"kind":"k","not_before":253402300799999,"delay":315360000000,"retention":"3650d"}"#,
    ),
    (
        true,
        r#"{"kind":"k","not_before":"2026-11-24T12:00:00Z","expires_at":"2999-12-31 23:59:59.123+02:00"}"#,
    ),
    (
        true,
        r#"{"kind":"k","delay":"1h 30m","timeout":"1h30m","expires_in":" 250ms ","retention":"0"}"#,
    ),
    (
        true,
        r#"{"kind":"k","timeout":1,"expires_in":315360000000,"expires_at":253402300799999}"#,
    ),
    (
        true,
        r#"{"kind":"k","timeout":"2min","delay":".5s","retention":"90sec"}"#,
    ),
    (true, r#"{"kind":"k","type":"single","id":"j:1:m:0"}"#),
    (true, r#"{"kind":"k","type":"map","id":"j:1:m"}"#),
    (true, r#"{"kind":"k","type":"reduce"}"#),
    (false, r#"[]"#),
    (false, r#""kind""#),
    (false, r#"{}"#),
    (false, r#"{"kind":null}"#),
    (false, r#"{"kind":""}"#),
    (false, r#"{"kind":"a b"}"#),
    (false, r#"{"kind":["k"]}"#),
    (false, r#"{"kind":"k","v":2}"#),
    (false, r#"{"kind":"k","v":"1"}"#),
    (false, r#"{"kind":"k","id":""}"#),
    (false, r#"{"kind":"k","id":"a b"}"#),
    (false, r#"{"kind":"k","id":7}"#),
    (false, r#"{"kind":"k","queue":"a/b"}"#),
    (false, r#"{"kind":"k","headers":{"a":1}}"#),
    (false, r#"{"kind":"k","headers":{"a":null}}"#),
    (false, r#"{"kind":"k","headers":[]}"#),
    (false, r#"{"kind":"k","priority":256}"#),
    (false, r#"{"kind":"k","priority":-1}"#),
    (false, r#"{"kind":"k","priority":1.5}"#),
    (false, r#"{"kind":"k","priority":"1"}"#),
    (false, r#"{"kind":"k","retry_priority_step":256}"#),
    (false, r#"{"kind":"k","max_attempts":0}"#),
    (false, r#"{"kind":"k","max_attempts":1001}"#),
    (false, r#"{"kind":"k","backoff":5}"#),
    (false, r#"{"kind":"k","backoff":{"bas":1}}"#),
    (false, r#"{"kind":"k","backoff":{"bas":null}}"#),
    (false, r#"{"kind":"k","backoff":{"base":-1}}"#),
    (false, r#"{"kind":"k","backoff":{"factor":0.5}}"#),
    (false, r#"{"kind":"k","backoff":{"factor":101}}"#),
    (false, r#"{"kind":"k","backoff":{"cap":315360000001}}"#),
    (false, r#"{"kind":"k","backoff":{"jitter":1.1}}"#),
    (false, r#"{"kind":"k","backoff":{"jitter":"0"}}"#),
    (false, r#"{"kind":"k","not_before":1795955940}"#),
    (false, r#"{"kind":"k","not_before":253402300800000}"#),
    (false, r#"{"kind":"k","not_before":"tomorrow"}"#),
    (false, r#"{"kind":"k","not_before":"2026-11-24T12:00:00"}"#),
    (false, r#"{"kind":"k","delay":-1}"#),
    (false, r#"{"kind":"k","delay":315360000001}"#),
    (false, r#"{"kind":"k","delay":"soon"}"#),
    (false, r#"{"kind":"k","delay":"1 h"}"#),
    (false, r#"{"kind":"k","delay":""}"#),
    (false, r#"{"kind":"k","timeout":0}"#),
    (false, r#"{"kind":"k","timeout":true}"#),
    (false, r#"{"kind":"k","expires_at":0}"#),
    (false, r#"{"kind":"k","expires_at":1795955940000000}"#),
    (false, r#"{"kind":"k","expires_in":0}"#),
    (false, r#"{"kind":"k","expires_in":"1w"}"#),
    (false, r#"{"kind":"k","retention":[1]}"#),
    (false, r#"{"kind":"k","type":"other"}"#),
    (false, r#"{"kind":"k","type":"map","id":"j:1:m:0"}"#),
    (false, r#"{"kind":"k","type":"reduce","id":"a b"}"#),
    (false, r#"{"kind":"k","unique_key":"x"}"#),
    (false, r#"{"kind":"k","unique_key":null}"#),
    (false, r#"{"kind":"k","group":"x"}"#),
    (false, r#"{"kind":"k","schedule":"x"}"#),
    (false, r#"{"kind":"k","parent":"x"}"#),
];

/// What the schema says that it cannot express: it takes these, and they are refused.
fn beyond_the_schema() -> Vec<String> {
    let long = "x".repeat(1 << 20);
    let mut all: Vec<String> = [
        r#"{"kind":"k","kind":"k"}"#,
        r#"{"kind":"k","priority":1.0}"#,
        r#"{"kind":"k","max_attempts":1e2}"#,
        r#"{"kind":"k","v":1.0}"#,
        r#"{"kind":"k","queue":"other"}"#,
        r#"{"kind":"k","signature":"x"}"#,
        r#"{"kind":"k","payload":{"workyard.sealed":1}}"#,
        r#"{"kind":"k","delay":"4000d"}"#,
        r#"{"kind":"k","timeout":"0s"}"#,
        r#"{"kind":"k","expires_in":"0"}"#,
        r#"{"kind":"k","expires_at":"1972-01-01T00:00:00Z"}"#,
        r#"{"kind":"k","not_before":"2026-02-30T00:00:00Z"}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    all.push(format!(r#"{{"kind":"k","payload":"{long}"}}"#));
    all.push(format!(r#"{{"kind":"k","unknown":"{}"}}"#, &long[..65536]));
    all
}

/// What the published schema says of each.
fn judged(envelopes: &[&str]) -> Vec<bool> {
    const JUDGE: &str = "import json, sys, jsonschema\n\
        schema = json.load(open(sys.argv[1]))\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        judge = jsonschema.Draft202012Validator(schema)\n\
        for line in sys.stdin: print(judge.is_valid(json.loads(line)))\n";
    let mut python = Command::new("python3")
        .args([
            "-c",
            JUDGE,
            concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/envelope-v1.schema.json"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, text) = (python.stdin.take().unwrap(), envelopes.join("\n"));
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "is the Python package `jsonschema` there? scripts/test installs it"
    );
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line == "True")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_published_schema_takes_the_inbox_and_the_function_take_and_what_it_refuses_they_refuse() {
    let wide = format!(
        "{{\"kind\":\"k\"{}}}",
        (0..256).map(|n| format!(",\"f{n}\":1")).collect::<String>()
    );
    let mut all: Vec<(bool, &str)> = ENVELOPES.to_vec();
    all.push((false, &wide));
    let texts: Vec<&str> = all.iter().map(|(_, text)| *text).collect();
    for ((wanted, text), verdict) in all.iter().zip(judged(&texts)) {
        assert_eq!(verdict, *wanted, "the schema: {text}");
    }
    let beyond = beyond_the_schema();
    let texts: Vec<&str> = beyond.iter().map(String::as_str).collect();
    for (text, verdict) in texts.iter().zip(judged(&texts)) {
        assert!(verdict, "the schema can express it: {text:.80}");
    }
    all.extend(texts.iter().map(|text| (false, *text)));

    let mut counter = Counter::open().await;
    let taken = all.iter().filter(|(wanted, _)| *wanted).count();
    for (n, (wanted, text)) in all.iter().enumerate() {
        let read = NewTask::from_json(text.as_bytes());
        match read {
            Ok((task, queue)) if *wanted => {
                let answer = counter
                    .call(&format!("f{n}"), &task.head().unwrap(), &task.payload)
                    .await;
                assert_eq!(answer.unwrap(), "c", "{text}");
                assert!(queue.is_none_or(|queue| queue == queue_name("q")), "{text}");
            }
            // The place decides, or that there is no id.
            Ok((task, queue)) => assert!(
                queue.is_some_and(|queue| queue != queue_name("q"))
                    || workyard_shared::crypto::needs_id(&task).is_some(),
                "{text:.80}"
            ),
            Err(error) => assert!(!wanted, "{text:.80}: {error}"),
        }
        counter.push(text).await;
    }
    // No handler: what comes in stays. The last ones first, as the list of refused ones is newest first.
    let worker = counter.yard.work(Registry::new(), counter.yard.config()).await;
    wait_until(SOON, || async { counter.yard.queue.inbox_len().await.unwrap() == 0 }).await;
    let ended = async || counter.yard.total("rejected").await + counter.yard.total("submitted").await;
    wait_until(SOON, || async { ended().await == (all.len() + taken) as u64 }).await;
    let rejected = counter.yard.queue.rejected(1000).await.unwrap();
    let wanted: Vec<&str> = all
        .iter()
        .rev()
        .filter(|(wanted, _)| !wanted)
        .map(|(_, text)| *text)
        .collect();
    for (entry, text) in rejected.iter().zip(&wanted) {
        let (reason, raw) = refused(entry);
        let start = &raw[..raw.len().min(60)];
        assert!(
            text.starts_with(start),
            "{raw:.80} was refused ({reason}) in place of {text:.80}"
        );
    }
    assert_eq!(rejected.len(), wanted.len(), "{:?}", rejected.last());
    worker.stop().await;
}
