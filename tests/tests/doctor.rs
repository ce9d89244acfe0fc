//! The doctor: corrupt states made by hand are found, explained and mended; a queue at work gives no finding.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use workyard_consumer::{Context, Failure, Registry};
use workyard_producer::{Ailment, Client, ClientConfig, Diagnosis};
use workyard_shared::broker::{JobVerdict, Place, Seen};
use workyard_shared::job::{Form, JobState};
use workyard_shared::name::TaskId;
use workyard_shared::options::Backoff;
use workyard_tests::hand::{Hand, job_id, spec, submit};
use workyard_tests::{Yard, queue_name, spawn, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(60);

struct Patient {
    yard: Yard,
    redis: MultiplexedConnection,
    client: Client,
}

impl Patient {
    async fn admit() -> Self {
        let yard = Yard::start().await;
        let redis = yard.server.connection().await;
        let client = Client::new(ClientConfig::from_url(&yard.server.url()).unwrap()).unwrap();
        // What a client does with its first task.
        yard.broker.announce(&queue_name("q")).await.unwrap();
        Self { yard, redis, client }
    }

    /// A plain command: words, the keys of the queue `q` written as `@name`.
    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut cmd = redis::Cmd::new();
        for word in words {
            match word.strip_prefix('@') {
                Some(name) => cmd.arg(format!("workyard:{{q}}:{name}")),
                None => cmd.arg(*word),
            };
        }
        cmd.query_async(&mut self.redis.clone()).await.unwrap()
    }

    async fn hurt(&self, words: &[&str]) {
        let _: redis::Value = self.ask(words).await;
    }

    async fn seen(&self) -> BTreeSet<Ailment> {
        sorts(&self.client.doctor(None, false).await.unwrap().findings)
    }

    /// Repairs, and looks again: what was repaired.
    async fn cure(&self) -> Diagnosis {
        let cured = self.client.doctor(None, true).await.unwrap();
        assert_eq!(cured.findings, [], "left after {:?}", cured.repaired);
        assert_eq!(
            self.client.doctor(None, true).await.unwrap().repaired,
            [],
            "the second doctor"
        );
        cured
    }

    async fn place(&self, id: &str) -> Option<Place> {
        match self.yard.look(id).await {
            Seen::Live { place, .. } => Some(place),
            _ => None,
        }
    }
}

fn sorts(findings: &[workyard_producer::Finding]) -> BTreeSet<Ailment> {
    findings.iter().map(|finding| finding.ailment).collect()
}

fn set<const N: usize>(ailments: [Ailment; N]) -> BTreeSet<Ailment> {
    ailments.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_whose_places_were_damaged_are_found_and_mended() {
    let patient = Patient::admit().await;
    let yard = &patient.yard;
    let ids = yard.add_many(7, "echo", "1").await;
    let plain: Vec<&str> = ids.iter().map(String::as_str).collect();
    let [nowhere, everywhere, dead, ended, infinite, gone, fine] = plain[..] else {
        unreachable!()
    };
    patient.hurt(&["ZREM", "@pending", nowhere]).await;
    patient
        .hurt(&["ZADD", "@scheduled", "5", everywhere, "9", "ghost"])
        .await;
    patient.hurt(&["ZADD", "@failed", "1", everywhere]).await;
    patient.hurt(&["ZREM", "@pending", dead]).await;
    patient.hurt(&["ZADD", "@failed", "+inf", dead]).await;
    let text = "completed echo 1 1 1 0 0 0 - -\n7";
    patient.hurt(&["HSET", "@results", ended, text, "kept", text]).await;
    patient
        .hurt(&["ZADD", "@done", "99999999999999", ended, "5", "unkept"])
        .await;
    patient.hurt(&["ZADD", "@pending", "-inf", infinite]).await;
    patient.hurt(&["HDEL", "@tasks", gone]).await;
    patient.hurt(&["HSET", "@meta", "nobody", "1 0 0 0 0 - 0 -\n\n"]).await;
    let all = [
        Ailment::NoPlace,
        Ailment::TwoPlaces,
        Ailment::NoTask,
        Ailment::Ended,
        Ailment::BadScore,
        Ailment::NoIndex,
        Ailment::NoResult,
        Ailment::Leftover,
    ];
    assert_eq!(patient.seen().await, set(all));
    let cured = patient.cure().await;
    assert_eq!(sorts(&cured.repaired), set(all));
    for id in [nowhere, everywhere, infinite, fine] {
        assert_eq!(patient.place(id).await, Some(Place::Pending), "{id}");
    }
    assert!(matches!(patient.place(dead).await, Some(Place::Failed(at)) if at > 1));
    assert!(matches!(yard.look(ended).await, Seen::Ended(end) if &end.body[..] == b"7"));
    assert!(matches!(yard.look(gone).await, Seen::Unknown));
    // A result without an entry gets one that sweeps it, as any other.
    assert!(patient.ask::<f64>(&["ZSCORE", "@done", "kept"]).await > 1e12);

    // They run, each once.
    let worker = spawn(echo(), yard.config());
    yard.reaches("completed", 4).await;
    worker.stop().await;
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running, seen.failed), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_consumer_without_a_session_come_back_and_junk_in_their_places_harms_nobody() {
    let patient = Patient::admit().await;
    let yard = &patient.yard;
    let ids = yard.add_many(20, "echo", "1").await;
    let mut lost = Hand::register(&yard.consumer).await;
    let mut alive = Hand::register(&yard.consumer).await;
    assert_eq!(lost.claim(10).await.len(), 10);
    let held = alive.claim(5).await;
    let (gone, running) = (lost.consumer.to_string(), format!("@running:{}", lost.consumer));
    patient.hurt(&["ZREM", "@consumers", &gone]).await;
    // What a give-back trusts: one value without a score, one with a score that is none, one task that is held twice.
    patient
        .hurt(&["HSET", &running, &ids[0], "7", &ids[1], "7 nan", &held[0].id, "1 5"])
        .await;
    patient.hurt(&["HSET", "@session:old", "claimed", "1"]).await;
    patient.hurt(&["ZADD", "@parked", "1", "nobody"]).await;
    patient
        .hurt(&["ZADD", "@consumers", "1", "no name", "+inf", "forever"])
        .await;
    let all = [
        Ailment::Orphaned,
        Ailment::LeftSession,
        Ailment::TwoPlaces,
        Ailment::Parked,
        Ailment::BadConsumer,
        Ailment::EndlessLease,
    ];
    assert_eq!(patient.seen().await, set(all));
    patient.cure().await;
    for id in &ids[..10] {
        assert_eq!(patient.place(id).await, Some(Place::Pending), "{id}");
    }
    for grant in &held {
        assert_eq!(patient.place(&grant.id).await, Some(Place::Running));
    }
    assert_eq!(yard.overview().await.pending, 15);
    let ends: f64 = patient.ask(&["ZSCORE", "@consumers", "forever"]).await;
    assert!(ends.is_finite());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_and_counters_that_no_function_wrote_are_set_right() {
    let patient = Patient::admit().await;
    let yard = &patient.yard;
    let ids = yard.add_many(5, "echo", "1").await;
    patient
        .hurt(&["HSET", "@state", "seq", "many", "token", "1e300", "tick", "soon"])
        .await;
    patient
        .hurt(&["HSET", "@stats", "completed", "a lot", "failed echo", "3"])
        .await;
    patient.hurt(&["HDEL", "@stats", "submitted"]).await;
    let all = [Ailment::BadState, Ailment::BadCounter, Ailment::Drifted];
    assert_eq!(patient.seen().await, set(all));
    patient.cure().await;
    assert_eq!(patient.ask::<String>(&["HGET", "@state", "seq"]).await, "5");
    assert_eq!((yard.total("submitted").await, yard.total("failed").await), (5, 3));
    let worker = spawn(echo(), yard.config());
    yard.add("echo", "2", |_| ()).await;
    yard.reaches("completed", 6).await;
    worker.stop().await;
    assert_eq!(yard.result(&ids[0]).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_too_high_makes_no_other_wrong() {
    for field in ["completed", "completed echo", "cancelled", "expired echo", "trimmed"] {
        let patient = Patient::admit().await;
        patient.yard.add_many(2, "echo", "1").await;
        patient.hurt(&["HSET", "@stats", field, "1000000"]).await;
        let cured = patient.client.doctor(None, true).await.unwrap();
        assert_eq!(cured.repaired, [], "{field}");
        assert_eq!(patient.yard.total("submitted").await, 2, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_belong_are_told_and_left_alone() {
    let patient = Patient::admit().await;
    patient.yard.add_many(2, "echo", "1").await;
    patient.hurt(&["SET", "@producer:x", "1 c\n"]).await;
    patient.hurt(&["SET", "workyard:consumer:host-1", "{}"]).await;
    patient.hurt(&["SET", "@tasks:v0", "old"]).await;
    patient.hurt(&["SET", "workyard:{other}:pending", "a string"]).await;
    patient.hurt(&["HSET", "@tasks", "new", "z1 k future=1\n\n1"]).await;
    patient.hurt(&["ZADD", "@pending", "1", "new"]).await;
    patient.hurt(&["HINCRBY", "@stats", "submitted", "1"]).await;
    patient.hurt(&["HSET", "@results", "odd", "?"]).await;
    patient.hurt(&["ZADD", "@done", "99999999999999", "odd"]).await;
    let left = [
        Ailment::Foreign,
        Ailment::WrongType,
        Ailment::Unreadable,
        Ailment::UnreadableResult,
    ];
    let cured = patient.client.doctor(None, true).await.unwrap();
    assert_eq!(sorts(&cured.repaired), set([Ailment::NoTtl]));
    assert_eq!(sorts(&cured.findings), set(left));
    assert_eq!(patient.ask::<String>(&["GET", "@tasks:v0"]).await, "old");
    for key in ["@producer:x", "workyard:consumer:host-1"] {
        assert!(patient.ask::<i64>(&["PTTL", key]).await > 0, "{key}");
    }
    // Only what is of the queue that is asked for.
    let other = queue_name("other");
    let one = patient.client.doctor(Some(&other), false).await.unwrap();
    assert_eq!(sorts(&one.findings), set([Ailment::WrongType]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lost_parts_is_mended_and_completes() {
    for form in [Form::Fold { fan_in: Some(2) }, Form::Keyed { partitions: 2 }] {
        let patient = Patient::admit().await;
        let queue = &patient.yard.queue;
        let (job, ghost) = (job_id("j"), job_id("ghost"));
        for id in [&job, &ghost] {
            submit(queue, id, &spec(form), 4).await;
        }
        let epoch: String = patient.ask(&["HGET", "@job:j", "epoch"]).await;
        let (lost, unlisted) = (format!("j:{epoch}:m:1"), "m:2");
        patient.hurt(&["DEL", "@job:ghost"]).await;
        patient.hurt(&["HDEL", "@tasks", &lost]).await;
        patient.hurt(&["ZREM", "@pending", &lost]).await;
        patient.hurt(&["HDEL", "@job:j:live", unlisted]).await;
        patient.hurt(&["ZREM", "@jobs:due", "j"]).await;
        let all = [
            Ailment::GhostJob,
            Ailment::Stray,
            Ailment::NoStep,
            Ailment::Unlisted,
            Ailment::UntendedJob,
        ];
        assert_eq!(patient.seen().await, set(all));
        patient.cure().await;
        let mut hand = Hand::register(queue).await;
        patient.hurt(&["HINCRBY", "@job:j", "live_maps", "7"]).await;
        let found = patient.client.doctor(None, true).await.unwrap();
        assert_eq!(sorts(&found.repaired), set([Ailment::JobCounts]));
        hand.work_all(&job, |_| JobVerdict::Done).await;
        assert_eq!(hand.record(&job).await.state, JobState::Completed);
        let result = hand.result(&job, 0).await;
        let expected = if matches!(form, Form::Fold { .. }) {
            "0,1,2,3,"
        } else {
            "0@0,1@0,2@0,3@0,"
        };
        assert_eq!(result, expected);
        assert!(patient.seen().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_stands_still_goes_on_and_one_without_a_readable_record_is_told() {
    for form in [Form::Fold { fan_in: Some(2) }, Form::Keyed { partitions: 2 }] {
        let patient = Patient::admit().await;
        let (queue, job) = (&patient.yard.queue, job_id("j"));
        submit(queue, &job, &spec(form), 4).await;
        // All its tasks and the list of them are gone: nothing would ever feed it again.
        patient.hurt(&["DEL", "@tasks", "@pending", "@job:j:live"]).await;
        patient.cure().await;
        let mut hand = Hand::register(queue).await;
        while hand.record(&job).await.reduces.done == 0 {
            let grants = hand.claim(1).await;
            let outcome = hand.work(&job, &grants[0]).await;
            hand.settle(&job, vec![outcome]).await;
        }
        patient.hurt(&["DEL", "@tasks", "@pending", "@job:j:live"]).await;
        patient.cure().await;
        hand.work_all(&job, |_| JobVerdict::Done).await;
        let record = hand.record(&job).await;
        assert_eq!(record.state, JobState::Completed, "{record:?}");
        patient.hurt(&["HSET", "@job:j", "map_head", "?!"]).await;
        let told = patient.client.doctor(None, true).await.unwrap();
        assert_eq!(
            (sorts(&told.findings), told.repaired.len()),
            (set([Ailment::DamagedJob]), 0)
        );
    }
}

/// Kinds that complete, and that fail twice before they do.
fn echo() -> Registry {
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).unwrap();
    let slow = |context: Context, _: serde_json::Value| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if context.attempt() < 3 {
            return Err(Failure::retry("not yet"));
        }
        Ok::<_, Failure>(1)
    };
    registry.register("slow", slow).unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_queue_gives_no_finding_while_consumers_come_die_and_retry() {
    let patient = Patient::admit().await;
    let yard = &patient.yard;
    // Registered before all others, so it keeps the queue; the others come and go.
    let steady = yard.work(echo(), yard.config()).await;
    let begun = Instant::now();
    let work = async {
        let mut round = 0_usize;
        while begun.elapsed() < Duration::from_secs(8) {
            round += 1;
            let worker = spawn(echo(), yard.config());
            let mut dying = Hand::register(&yard.consumer).await;
            yard.add_many(200, "echo", "1").await;
            for n in 0..20 {
                yard.add("slow", "1", |options| {
                    options.max_attempts = Some(5);
                    options.backoff = Some(Backoff {
                        base: Duration::from_millis(10),
                        ..Backoff::default()
                    });
                    options.retention = Some(Duration::from_millis(if n % 2 == 0 { 0 } else { 200 }));
                })
                .await;
            }
            let job = job_id(&format!("j{round}"));
            submit(&yard.producer, &job, &spec(Form::Keyed { partitions: 2 }), 30).await;
            dying.claim(20).await;
            let id = TaskId::fresh();
            yard.add_as(id.clone(), "slow", "1", |_| ()).await;
            yard.operator.cancel(id.as_str()).await.unwrap();
            // A consumer that goes without a word: its lease is over at once.
            let mut redis = patient.redis.clone();
            let mut end = redis::cmd("ZADD");
            end.arg("workyard:{q}:consumers").arg(1).arg(dying.consumer.as_str());
            end.exec_async(&mut redis).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if round.is_multiple_of(2) {
                yard.operator.job_cancel(&job).await.unwrap();
            }
            worker.stop().await;
        }
    };
    let looks = async {
        let mut looked = 0_u64;
        let client = Client::new(ClientConfig::from_url(&yard.server.url()).unwrap()).unwrap();
        while begun.elapsed() < Duration::from_secs(8) {
            let diagnosis = client.doctor(None, false).await.unwrap();
            assert_eq!(diagnosis.findings, []);
            looked += diagnosis.looked_at.ids;
        }
        looked
    };
    let ((), looked) = tokio::join!(work, looks);
    assert!(looked > 1000, "{looked}");
    for counter in ["completed", "retried", "reclaimed", "cancelled"] {
        yard.reaches(counter, 1).await;
    }
    steady.stop().await;
}

/// docs/operations.md: no step of it holds Redis for more than a few milliseconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_many_tasks_and_consumers_is_made_of_short_steps() {
    let patient = Patient::admit().await;
    for _ in 0..50 {
        Hand::register(&patient.yard.consumer).await.claim(1).await;
    }
    patient.yard.add_many(20_000, "echo", "1").await;
    let mut redis = patient.yard.note_calls(Duration::from_millis(5)).await;
    let begun = Instant::now();
    let diagnosis = patient.client.doctor(None, false).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(diagnosis.findings, []);
    assert!(diagnosis.looked_at.ids >= 20_000, "{:?}", diagnosis.looked_at);
    let slow = patient.yard.noted_us(&mut redis).await;
    let slowest = slow.iter().max().copied().unwrap_or(0);
    println!("{took:?}; {} calls above 5 ms, the slowest {slowest} us", slow.len());
    // Others may run on this machine, and hold up a call or two.
    let long = slow.iter().filter(|us| **us > 15_000).count();
    assert!(long <= 10, "{long} calls above 15 ms, the slowest {slowest} us");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_explains_each_finding_and_its_exit_code_tells_whether_some_remain() {
    let patient = Patient::admit().await;
    let yard = &patient.yard;
    let ids = yard.add_many(3, "echo", "1").await;
    let run = |args: &[&str], url: &str| {
        let output = workspace_binary("workyard")
            .args(args)
            .env("WORKYARD_REDIS_URL", url)
            .env("WORKYARD_PATIENCE", "100ms")
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), out)
    };
    let url = yard.server.url();
    let (code, out) = run(&["doctor"], &url);
    assert!(code == 0 && out.starts_with("0 wrong, 0 repaired; looked at "), "{out}");
    patient.hurt(&["ZREM", "@pending", &ids[0]]).await;
    let (code, out) = run(&["doctor", "--queue", "q"], &url);
    assert_eq!(code, 1, "{out}");
    for text in [
        "no-place",
        &ids[0],
        "with --repair",
        "How: ",
        "Repair: it is pending",
        "1 wrong, 0 repaired",
    ] {
        assert!(out.contains(text), "{text}: {out}");
    }
    let (code, out) = run(&["doctor", "--repair", "--json"], &url);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["findings"]), (0, &serde_json::json!([])));
    assert_eq!(
        json["repaired"],
        serde_json::json!([{ "finding": "no-place", "queue": "q", "subject": ids[0] }])
    );
    assert!(json["explanations"]["no-place"]["cause"].is_string(), "{json}");
    assert_eq!(run(&["doctor", "--queue", "a/b"], &url).0, 2);
    yard.server.kill9();
    assert_eq!(run(&["doctor"], &url).0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_whose_keys_were_lost_one_by_one_works_again_after_repair() {
    let patient = Patient::admit().await;
    let yard = &patient.yard;
    yard.add_many(1500, "echo", "1").await;
    let mut lost = Hand::register(&yard.consumer).await;
    lost.claim(300).await;
    patient
        .hurt(&["DEL", "@pending", "@consumers", "@stats", "@state"])
        .await;
    patient.cure().await;
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running), (1500, 0));
    let worker = spawn(echo(), yard.config());
    wait_until(SOON, || async { yard.total("completed").await == 1500 }).await;
    worker.stop().await;
}
