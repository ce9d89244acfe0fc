//! Map-reduce jobs from the library, on a real Redis; hands play the consumer.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::jobs::{items, lines, member, payload, queue};
use support::{Hands, SOON, Server, until};
use workyard_producer::{Client, ClientConfig, Durability, Error, FileFormat, JobHandle, JobState, Prefix};
use workyard_shared::broker::JobVerdict;
use workyard_shared::job::{Chunk, Member, Part};
use workyard_shared::name::JobId;

/// Runs every task of a job of which only the number of items matters: maps and reduces count.
async fn run_as_count(hands: &mut Hands, tasks: usize) {
    for _ in 0..tasks {
        let grant = hands.next().await;
        let count = match member(&grant) {
            Member::Map { .. } => match serde_json::from_str(&payload(&grant)).unwrap() {
                Chunk::Items(items) => items.len(),
                other => panic!("{other:?}"),
            },
            _ => 0,
        };
        hands
            .settle(&grant, JobVerdict::Done, vec![(0, lines(&format!("{count}\n")))])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_woken_by_the_end_and_the_result_is_typed() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut hands = Hands::register(server.queue("default")).await;
    let job = items(&client, "fold", 7, 3).await;
    assert_eq!(job.status().await.unwrap().maps.total, 3);
    assert!(matches!(job.result::<u64>().await, Err(Error::JobState { .. })));

    let waiting = tokio::spawn({
        let job = job.clone();
        async move { job.wait(SOON).await }
    });
    run_as_count(&mut hands, 3).await;
    let reduce = hands.next().await;
    assert!(!member(&reduce).is_map());
    hands
        .settle(&reduce, JobVerdict::Done, vec![(0, lines("7\n8\n"))])
        .await;
    let begun = std::time::Instant::now();
    let record = waiting.await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "woken, not found by a look every 5 s"
    );
    assert_eq!(
        (record.state, record.maps.done, record.reduces.done),
        (JobState::Completed, 3, 1)
    );
    assert_eq!(job.result::<u64>().await.unwrap(), Some(7));
    assert_eq!(job.results::<u64>().await.unwrap(), [7, 8]);
    assert!(
        job.result::<String>()
            .await
            .unwrap_err()
            .to_string()
            .contains("not of this type")
    );
    // A wait for what has ended answers at once.
    job.wait_completed(Duration::from_secs(3)).await.unwrap();
    job.delete().await.unwrap();
    assert!(matches!(job.wait(SOON).await, Err(Error::NoJob { .. })));
}

/// It could not be waited for, and would be promised in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_a_level_of_durability_is_told_that_jobs_have_none() {
    let server = Server::start(&[]).await;
    let client = server.client().with_durability(Durability::Fsync);
    let job = client.map_reduce(&queue(), "m", "r").items([1, 2]);
    let error = job.submit().await.unwrap_err();
    assert!(error.to_string().contains("without with_durability"), "{error}");
    assert!(client.jobs(&queue(), 0, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_job_has_no_result_and_one_that_did_not_complete_is_an_error() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let empty = items(&client, "empty", 0, 1).await;
    empty.wait_completed(SOON).await.unwrap();
    assert_eq!(empty.result::<i64>().await.unwrap(), None);
    assert_eq!(empty.results::<i64>().await.unwrap(), [0_i64; 0]);
    assert_eq!(empty.part(0).await.unwrap()[0].bytes(), "null");
    let stopped = items(&client, "stopped", 1, 1).await;
    stopped.cancel().await.unwrap();
    assert_eq!(stopped.wait(SOON).await.unwrap().state, JobState::Cancelled);
    let error = stopped.wait_completed(SOON).await.unwrap_err();
    assert!(error.to_string().contains("is cancelled"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_are_merged_from_inline_and_spilled_parts_and_delete_removes_the_files() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut hands = Hands::register(server.queue("default")).await;
    let dir = tempfile::tempdir().unwrap();
    let place = format!("file://{}", dir.path().display());
    let job = client
        .map_reduce(&queue(), "word-count", "sum-by-key")
        .items(["a b"])
        .keyed(2)
        .spill(&place)
        .id("words")
        .submit()
        .await
        .unwrap();
    let map = hands.next().await;
    assert_eq!(payload(&map), r#"{"items":["a b"]}"#);
    hands
        .settle(
            &map,
            JobVerdict::Done,
            vec![(0, lines("[\"a\",1]\n")), (1, lines("[\"b\",2]\n"))],
        )
        .await;
    std::fs::create_dir(dir.path().join("workyard.default.words")).unwrap();
    std::fs::write(
        dir.path().join("workyard.default.words/part"),
        "[\"a\",10]\n[\"d\",3]\n",
    )
    .unwrap();
    for _ in 0..2 {
        let reduce = hands.next().await;
        let part = match member(&reduce) {
            Member::Partition { partition: 0, .. } => Part::Spilled {
                bytes: 17,
                path: "workyard.default.words/part".into(),
            },
            Member::Partition { .. } => lines("[7,1]\n[\"b\",20]\n[\"c\",5]\n"),
            other => panic!("{other:?}"),
        };
        hands.settle(&reduce, JobVerdict::Done, vec![(0, part)]).await;
    }
    job.wait(SOON).await.unwrap();
    let pairs: Vec<(serde_json::Value, u64)> = job.pairs().await.unwrap().collect().await.unwrap();
    let keys: Vec<String> = pairs.iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(keys, ["7", "\"a\"", "\"b\"", "\"c\"", "\"d\""]);

    let shown = server.run(&["job", "result", "words"]).ok();
    assert_eq!(shown.out, "7\t1\na\t10\nb\t20\nc\t5\nd\t3\n");
    let shown = server.run(&["job", "result", "words", "--top", "2", "--json"]).ok();
    assert_eq!(
        shown.out,
        "{\"key\":\"b\",\"value\":20}\n{\"key\":\"a\",\"value\":10}\n"
    );
    let shown = server.run(&["job", "result", "words", "--parts"]).ok();
    assert_eq!(shown.out.lines().next(), Some("0\ta\t10"));
    server.run(&["job", "delete", "words"]).ok();
    assert!(!dir.path().join("workyard.default.words").exists());
}

/// Chunks of a large job: 40,000, which take 40 calls, or as many as `WORKYARD_MANY_CHUNKS` says.
fn many() -> u64 {
    let chosen = std::env::var("WORKYARD_MANY_CHUNKS").ok();
    chosen.map_or(40_000, |text| text.parse().expect("WORKYARD_MANY_CHUNKS is a number"))
}

/// Begins to submit a large job; some of its chunks are there.
async fn submitting(server: &Server, id: &'static str) -> tokio::task::JoinHandle<JobHandle> {
    let client = server.client();
    let submitting = tokio::spawn(async move { items(&client, id, many(), 1).await });
    some_are_there(server, id).await;
    submitting
}

async fn some_are_there(server: &Server, id: &str) {
    let redis = server.redis().await;
    until("some chunks are there", async || {
        redis::cmd("HLEN")
            .arg(format!("workyard:{{default}}:job:{id}:chunks"))
            .query_async::<u64>(&mut redis.clone())
            .await
            .unwrap()
            > 2000
    })
    .await;
}

/// What is in the chunks of a job that nobody works on, in order.
async fn chunks(server: &Server, id: &str) -> Vec<String> {
    let mut redis = server.redis().await;
    let chunks: BTreeMap<u64, String> = redis::cmd("HGETALL")
        .arg(format!("workyard:{{default}}:job:{id}:chunks"))
        .query_async(&mut redis)
        .await
        .unwrap();
    chunks.into_values().collect()
}

/// All chunks of a large job are there, each once and in its place.
async fn is_whole(server: &Server, job: &JobHandle) {
    let record = job.status().await.unwrap();
    assert_eq!((record.submitted, record.maps.total), (many(), many()));
    let expected: Vec<String> = (0..many()).map(|n| format!("{{\"items\":[{n}]}}")).collect();
    assert_eq!(chunks(server, job.id().as_str()).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_goes_on_where_an_outage_broke_it_and_adds_nothing_twice() {
    let mut server = Server::start(&["--appendonly", "no"]).await;
    let submitting = submitting(&server, "resumed").await;
    // Redis dies under it and comes back with nothing.
    server.crash_and_restart().await;
    is_whole(&server, &submitting.await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_that_died_is_followed_by_the_same_call_with_the_same_id() {
    let server = Server::start(&[]).await;
    let dying = submitting(&server, "half").await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled(), "it was too fast to be stopped");
    let half = server.client().job(&queue(), &"half".parse().unwrap());
    assert_eq!(half.status().await.unwrap().state, JobState::Pending);

    let job = items(&server.client(), "half", many(), 1).await;
    assert!(job.joined());
    is_whole(&server, &job).await;
}

/// Both in one step, so that the submitter meets neither alone.
async fn cancel_and_delete(server: &Server, id: &str) {
    let (queue, id) = (server.queue("default"), JobId::new(id).unwrap());
    let mut keys = queue.keys().shared().to_vec();
    keys.extend(queue.keys().job(&id));
    keys.push(queue.keys().named("audit"));
    let mut both = redis::pipe();
    both.atomic();
    for (function, more) in [
        ("workyard_1_job_cancel", &["me"][..]),
        ("workyard_1_job_delete", &["me", ""]),
    ] {
        both.cmd("FCALL").arg(function).arg(keys.len()).arg(&keys).arg(more);
    }
    let answers: Vec<String> = both.query_async(&mut server.redis().await).await.unwrap();
    assert_eq!(answers, ["cancelled", "deleted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_deleted_under_its_submitter_stays_so_until_the_same_call_comes_again() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let submit = {
        let job = client
            .map_reduce(&queue(), "count", "sum")
            .items(0..many())
            .chunk_size(1);
        job.id("undone")
    };
    let submitting = tokio::spawn(submit.submit());
    some_are_there(&server, "undone").await;
    cancel_and_delete(&server, "undone").await;
    let error = submitting.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "job undone was deleted while it was being submitted");
    server.run(&["job", "undone"]).fails(1, "no job undone");
    assert_eq!(chunks(&server, "undone").await, [""; 0]);
    server.run(&["doctor"]).ok();
    is_whole(&server, &items(&client, "undone", many(), 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_with_chunks_of_the_size_that_it_began_with() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let submit = async |id: &str| {
        client
            .map_reduce(&queue(), "count", "sum")
            .items(0..10)
            .id(id)
            .submit()
            .await
            .unwrap()
    };
    // Of one item each, as there are slots enough. The other was begun when there were few.
    let record = submit("small").await.status().await.unwrap();
    assert_eq!(record.submitted, 10);
    let begun = record.nonce.strip_suffix("-1").unwrap().to_owned() + "-4";
    server
        .queue("default")
        .job_submit(
            &"large".parse().unwrap(),
            &begun.parse().unwrap(),
            &record.spec,
            0,
            &[r#"{"items":[0,1,2,3]}"#.into()],
            false,
        )
        .await
        .unwrap();
    assert!(submit("large").await.joined());
    let expected = [r#"{"items":[0,1,2,3]}"#, r#"{"items":[4,5,6,7]}"#, r#"{"items":[8,9]}"#];
    assert_eq!(chunks(&server, "large").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_one_job_of_one_call_and_other_calls_hear_it() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut hands = Hands::register(server.queue("default")).await;
    let first = items(&client, "one", 2, 1).await;
    assert!(!first.joined());
    assert!(items(&client, "one", 2, 1).await.joined(), "while it runs");
    run_as_count(&mut hands, 2).await;
    let reduce = hands.next().await;
    hands.settle(&reduce, JobVerdict::Done, vec![(0, lines("2\n"))]).await;
    let again = items(&client, "one", 2, 1).await;
    assert!(again.joined(), "when it has ended");
    assert_eq!(again.wait_completed(SOON).await.unwrap().starts, 1);
    assert_eq!(again.result::<u64>().await.unwrap(), Some(2));

    let other = client
        .map_reduce(&queue(), "count", "sum")
        .items([1])
        .id("one")
        .submit()
        .await;
    assert!(matches!(other, Err(Error::JobExists { .. })), "{other:?}");
    server
        .feed(
            &[
                "map-reduce",
                "--items",
                "-",
                "--map",
                "a",
                "--reduce",
                "b",
                "--id",
                "one",
            ],
            b"1",
        )
        .fails(2, "there is a job one already");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_four_per_slot_of_the_consumers_that_live() {
    let server = Server::start(&[]).await;
    let hands = Hands::register(server.queue("default")).await;
    redis::cmd("SET")
        .arg(workyard_shared::keys::health(&Prefix::default(), &hands.id))
        .arg("{\"capacity\":2}")
        .query_async::<()>(&mut server.redis().await)
        .await
        .unwrap();
    let client = server.client();
    let job = client
        .map_reduce(&queue(), "m", "r")
        .items(0..80)
        .submit()
        .await
        .unwrap();
    assert_eq!(job.status().await.unwrap().submitted, 8);
}

#[tokio::test]
async fn a_mistake_anywhere_in_the_chain_is_told_before_anything_is_sent() {
    let client = Client::new(ClientConfig::from_url("redis://127.0.0.1:1/").unwrap()).unwrap();
    let queue = queue();
    let job = || client.map_reduce(&queue, "m", "r").items([1]);
    for (bad, reason) in [
        (client.map_reduce(&queue, "m", "r"), "needs an input"),
        (client.map_reduce(&queue, "a b", "r").items([1]), "kind"),
        (job().id("a:b"), "job"),
        (job().keyed(0), "1 to 1000"),
        (job().keyed(3).fan_in(4), "fan-in is for the fold form"),
        (job().fan_in(1), "2 to 1000"),
        (job().combine("sum"), "keyed form"),
        (job().combine_args(&serde_json::json!({})), "no combiner"),
        (job().map_args("x"), "JSON object"),
        (job().spill("/tmp"), "file:///"),
        (job().allow_failures_percent(101.0), "0 to 100"),
        (job().max_attempts(0), "max_attempts"),
        (job().chunk_size(0), "at least 1 item"),
        (job().files(["/no/such/file"], None), "no such file"),
        (
            job().files(["x"], Some(FileFormat::Csv { delimiter: 'é' })),
            "delimiter",
        ),
    ] {
        let error = bad.submit().await.unwrap_err();
        assert!(
            matches!(error, Error::Call(workyard_shared::Error::Invalid(_))),
            "{reason}: {error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
}
