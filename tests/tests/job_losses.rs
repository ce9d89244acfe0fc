//! Jobs that lost some of their data: a result is right, or there is none. The doctor tells what is lost before it is missed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use redis::FromRedisValue;
use workyard_consumer::{Emit, Failure, Registry};
use workyard_producer::{Ailment, Client, ClientConfig, JobHandle, JobState};
use workyard_shared::broker::{JobRetried, JobVerdict};
use workyard_shared::job::{Form, Part};
use workyard_shared::name::JobId;
use workyard_tests::hand::{Hand, job_id, member_of, outcome, spec, submit};
use workyard_tests::{Yard, queue_name};

const SOON: Duration = Duration::from_secs(60);
const FOLD: Form = Form::Fold { fan_in: Some(2) };
const KEYED: Form = Form::Keyed { partitions: 4 };

/// The kinds of [`spec`]: a fold adds numbers up, a keyed job counts.
fn functions(form: Form) -> Registry {
    let mut registry = Registry::new();
    if let Form::Fold { .. } = form {
        registry.map("m", |n: i64| Ok::<i64, Failure>(n)).unwrap();
        registry
            .reduce("r", |a: i64, b: i64| Ok::<i64, Failure>(a + b))
            .unwrap();
        return registry;
    }
    let map = |n: i64, emit: &mut Emit<i64, u64>| {
        // Chunk 0 leaves something for one partition and nothing for the others, chunk 1 nothing at all.
        if n != 1 {
            emit.pair(n, 1);
        }
        Ok::<(), Failure>(())
    };
    registry.map_pairs("m", map).unwrap();
    let total = |_: &i64, counts: Vec<u64>| Ok::<u64, Failure>(counts.iter().sum());
    registry.reduce_pairs("r", total).unwrap();
    registry
}

/// What a chunk that holds its own number leaves: by partition, as JSON lines.
fn output(form: Form, chunk: u32) -> Vec<(u32, Part)> {
    let lines = |text: String| Part::Inline(text.into());
    match (form, chunk) {
        (Form::Fold { .. }, _) => vec![(0, lines(format!("{chunk}\n")))],
        (_, 1) => Vec::new(),
        (Form::Keyed { .. }, 3) => (0..4).map(|p| (p, lines(format!("[{},1]\n", 30 + p)))).collect(),
        (Form::Keyed { .. }, _) => vec![(chunk % 4, lines(format!("[{chunk},1]\n")))],
    }
}

fn spilled(parts: Vec<(u32, Part)>) -> Vec<(u32, Part)> {
    let elsewhere = |name: u32| Part::Spilled {
        bytes: 3,
        path: format!("workyard.q.j/data/{name}"),
    };
    parts.into_iter().map(|(name, _)| (name, elsewhere(name))).collect()
}

struct Site {
    yard: Yard,
    client: Client,
    job: JobId,
    hand: Hand,
    form: Form,
}

impl Site {
    /// A job of four chunks whose maps all are done but those of `left`.
    async fn mapped(form: Form, spill: bool, left: &[u32]) -> Self {
        let yard = Yard::start().await;
        let client = Client::new(ClientConfig::from_url(&yard.server.url()).unwrap()).unwrap();
        yard.broker.announce(&queue_name("q")).await.unwrap();
        let (job, mut hand) = (job_id("j"), Hand::register(&yard.queue).await);
        submit(&yard.queue, &job, &spec(form), 4).await;
        for (chunk, grant) in (0..).zip(hand.claim(4).await) {
            assert_eq!(member_of(&grant), format!("m:{chunk}"));
            let parts = match spill {
                true => spilled(output(form, chunk)),
                false => output(form, chunk),
            };
            let verdict = match left.contains(&chunk) {
                true => JobVerdict::Drop,
                false => JobVerdict::Done,
            };
            hand.settle(&job, vec![outcome(&grant, verdict, parts)]).await;
        }
        Self {
            yard,
            client,
            job,
            hand,
            form,
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &str, part: &str, words: &[&str]) -> T {
        let mut cmd = redis::cmd(command);
        cmd.arg(self.yard.queue.keys().job_key(&self.job, part)).arg(words);
        cmd.query_async(&mut self.yard.server.connection().await).await.unwrap()
    }

    async fn hurt(&self, command: &str, part: &str, words: &[&str]) {
        let changed: i64 = self.ask(command, part, words).await;
        assert!(changed > 0, "{command} {part} {words:?}");
    }

    /// Real consumers do the rest.
    async fn end(&self) -> workyard_shared::job::JobRecord {
        let worker = self.yard.work(functions(self.form), self.yard.config()).await;
        let record = self.handle().wait(SOON).await.unwrap();
        worker.stop().await;
        record
    }

    fn handle(&self) -> JobHandle {
        self.client.job(&queue_name("q"), &self.job)
    }

    async fn seen(&self) -> Vec<Ailment> {
        let told = self.client.doctor(None, false).await.unwrap();
        told.findings.iter().map(|finding| finding.ailment).collect()
    }

    async fn repaired(&self) -> Vec<Ailment> {
        let told = self.client.doctor(None, true).await.unwrap();
        told.repaired.iter().map(|finding| finding.ailment).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_that_misses_an_output_fails_for_good_and_names_it() {
    for (form, name, named) in [
        (
            FOLD,
            "0.2",
            "reduce r:1.1 failed: an output is gone: that of chunk 2 (`0.2` of",
        ),
        (
            KEYED,
            "3.3",
            "reduce r:3 failed: an output is gone: that of chunk 3 for partition 3 (`3.3` of",
        ),
        // Its mark has gone with it: all others have theirs, so it is missed.
        (KEYED, "", "failed: an output is gone: that of chunk 0 for partition"),
    ] {
        for spill in [false, true] {
            let site = Site::mapped(form, spill, &[]).await;
            match name {
                "" => site.hurt("DEL", ":data", &[]).await,
                name => site.hurt("HDEL", ":data", &[name]).await,
            }
            if !spill {
                assert_eq!(site.seen().await, [Ailment::LostOutput]);
            }
            let record = site.end().await;
            assert_eq!(record.state, JobState::Failed);
            // Of a spilled one another reduce may have failed before: no consumer here may use a spill place.
            assert!(spill || record.error.contains(named), "{}", record.error);
            if !spill {
                assert_eq!(
                    site.yard.operator.job_retry(&site.job).await.unwrap(),
                    JobRetried::Retrying
                );
                let again = site.end().await;
                assert_eq!(
                    (again.state, again.error.contains("an output is gone")),
                    (JobState::Failed, true)
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inner_node_whose_output_is_gone_is_missed_and_an_empty_one_is_not() {
    let mut site = Site::mapped(FOLD, false, &[]).await;
    for grant in site.hand.claim(1).await {
        // A consumer that says nothing of its output left an empty one.
        site.hand
            .settle(&site.job, vec![outcome(&grant, JobVerdict::Done, Vec::new())])
            .await;
    }
    assert_eq!(site.ask::<Vec<String>>("HKEYS", ":data", &[]).await.len(), 3);
    assert!(site.seen().await.is_empty());
    let record = site.end().await;
    assert_eq!(record.state, JobState::Completed, "{}", record.error);
    assert_eq!(site.handle().result::<i64>().await.unwrap(), Some(5));

    let mut site = Site::mapped(FOLD, false, &[]).await;
    for grant in site.hand.claim(1).await {
        let parts = vec![(0, Part::Inline("1\n".into()))];
        site.hand
            .settle(&site.job, vec![outcome(&grant, JobVerdict::Done, parts)])
            .await;
    }
    site.hurt("HDEL", ":data", &["1.0"]).await;
    assert_eq!(site.seen().await, [Ailment::LostOutput]);
    let record = site.end().await;
    assert!(
        record.error.contains("an output is gone: that of reduce r:1.0"),
        "{}",
        record.error
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_for_which_chunks_left_nothing_is_reduced_without_them_also_of_an_earlier_release() {
    for earlier in [false, true] {
        let site = Site::mapped(KEYED, false, &[2]).await;
        if earlier {
            // As a release stored it that knew no marks; a later one does the last map.
            site.hurt("HDEL", ":data", &["m.0", "m.1", "m.3"]).await;
            site.hurt("HDEL", "", &["counted", "kept"]).await;
        }
        assert!(site.seen().await.is_empty());
        let record = site.end().await;
        assert_eq!(record.state, JobState::Completed, "{}", record.error);
        let pairs: BTreeMap<i64, u64> = site
            .handle()
            .pairs::<i64, u64>()
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(pairs, [0, 2, 30, 31, 32, 33].map(|key| (key, 1)).into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_ends_a_job_that_lost_an_output_and_tells_it_of_one_that_has_ended() {
    for form in [FOLD, KEYED] {
        // Chunk 0 of a fold, or what it left for partition 0.
        let name = "0.0";
        let site = Site::mapped(form, false, &[2]).await;
        site.hurt("HDEL", ":data", &[name]).await;
        assert_eq!(site.repaired().await, [Ailment::LostOutput]);
        let record = site.hand.record(&site.job).await;
        assert_eq!(record.state, JobState::Failed);
        assert!(record.error.starts_with("an output is gone"), "{}", record.error);
        assert!(site.seen().await.is_empty(), "its own word tells it");

        let site = Site::mapped(form, false, &[2]).await;
        site.yard.operator.job_cancel(&site.job).await.unwrap();
        site.hurt("HDEL", ":data", &[name]).await;
        assert!(site.repaired().await.is_empty());
        assert_eq!(site.seen().await, [Ailment::LostOutput]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_description_that_is_gone_and_takes_it_from_the_task() {
    let site = Site::mapped(FOLD, false, &[2, 3]).await;
    let id = format!("j:{}:m:2", site.hand.record(&site.job).await.epoch);
    let before: String = site.ask("HGET", ":chunks", &["2"]).await;
    site.hurt("HDEL", ":chunks", &["2"]).await;
    assert_eq!(site.seen().await, [Ailment::LostChunk]);
    assert_eq!(site.repaired().await, [Ailment::LostChunk]);
    assert_eq!(site.ask::<String>("HGET", ":chunks", &["2"]).await, before);
    assert!(site.seen().await.is_empty());

    // With the task nobody knows what it was: no task is made of nothing.
    site.hurt("HDEL", ":chunks", &["2"]).await;
    let keys = site.yard.queue.keys();
    let mut gone = redis::pipe();
    gone.hdel(keys.named("tasks"), &id).zrem(keys.named("pending"), &id);
    gone.exec_async(&mut site.yard.server.connection().await).await.unwrap();
    assert_eq!(site.seen().await, [Ailment::NoStep, Ailment::LostChunk]);
    assert_eq!(site.repaired().await, [Ailment::NoStep]);
    let record = site.hand.record(&site.job).await;
    assert_eq!(record.state, JobState::Failed);
    assert!(
        record.error.contains("its task and its description were removed"),
        "{}",
        record.error
    );
}
