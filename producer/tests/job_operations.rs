//! What is said of jobs that do not get on, and of what cannot be done to them: from the command line, on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use support::jobs::{items, lines, member, queue};
use support::{Hands, SOON, Server};
use workyard_producer::{Client, Error, JobHandle, JobState};
use workyard_shared::broker::JobVerdict;
use workyard_shared::job::{Form, JobSpec, Member, Part};
use workyard_shared::name::{JobId, Kind, SessionId};
use workyard_shared::store::StoreError;

const KEY: &str = "workyard:{default}:job:";

async fn ended(job: &JobHandle) -> JobState {
    job.wait(SOON).await.unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_submitter_has_not_finished_says_so_everywhere() {
    let server = Server::start(&[]).await;
    let spec = JobSpec::new(Form::fold(), Kind::new("m").unwrap(), Kind::new("r").unwrap());
    let (id, chunk) = (JobId::new("half").unwrap(), bytes::Bytes::from("{\"items\":[1]}"));
    let queue = server.queue("default");
    let (nonce, chunks) = (SessionId::fresh(), [chunk.clone(), chunk]);
    queue.job_submit(&id, &nonce, &spec, 0, &chunks, false).await.unwrap();

    let words = "its submitter has not finished (2 chunks so far)";
    let shown = server.run(&["job", "half"]).ok().out;
    assert!(shown.contains(&format!("pending: {words}")), "{shown}");
    assert!(shown.contains("the same command with the same --id goes on"), "{shown}");
    let listed = server.run(&["job", "list"]).ok().out;
    assert!(listed.contains("0/2") && listed.contains(words), "{listed}");
    server
        .run(&["explain", "half"])
        .fails(1, "there is a job of that name: `workyard job half`");
    let waited = server
        .run(&["job", "wait", "half", "--timeout", "500ms"])
        .fails(3, words);
    assert!(waited.err.contains("abandoned an hour after"), "{waited:?}");
    assert!(waited.err.contains("`workyard job cancel half` stops it"), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_was_too_short_says_why_and_names_job_and_queue_also_as_json() {
    let server = Server::start(&[]).await;
    items(&server.client(), "idle", 1, 1).await;
    let line = ["job", "wait", "idle", "--timeout", "500ms", "--json"];
    let waited = server.run(&line).fails(3, "did not end within");
    let told: serde_json::Value = serde_json::from_str(&waited.err).unwrap();
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("no consumer serves queue default"), "{error}");
    assert!(error.contains("`workyard job wait idle` waits again"), "{error}");

    let put = ["enqueue", "k", "1", "-q", "full"];
    server.run(&["queue", "set", "full", "max_pending=1"]).ok();
    server.run(&put).ok();
    let refused = server.run(&put).fails(4, "`workyard queue show full` shows the limit");
    assert!(!refused.err.contains("QUEUE"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_chunks_are_told_by_their_numbers_and_what_they_are_made_of() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let job = server.client().map_reduce(&queue(), "m", "r").items(["a", "b", "c"]);
    let job = job
        .chunk_size(1)
        .policy("2".parse().unwrap())
        .id("bad")
        .submit()
        .await
        .unwrap();
    let mut grants = Vec::new();
    while grants.len() < 3 {
        grants.push(hands.next().await);
    }
    grants.sort_by_key(|grant| std::cmp::Reverse(member(grant)));
    hands.settle(&grants[0], JobVerdict::Final, Vec::new()).await;
    let shown = server.run(&["job", "bad"]).ok().out;
    assert!(shown.contains("failed      chunk 2\n"), "{shown}");
    assert!(shown.contains("            chunk 2: item \"c\"\n"), "{shown}");
    for grant in &grants[1..] {
        hands.settle(grant, JobVerdict::Final, Vec::new()).await;
    }
    assert_eq!(ended(&job).await, JobState::Failed);
    let shown = server.run(&["job", "bad"]).ok().out;
    assert!(shown.contains("failed      chunks 0, 1, 2\n"), "{shown}");
    let shown = server.run(&["job", "bad", "--json"]).ok().json();
    assert_eq!(shown["failed_inputs"]["0"], "item \"a\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_cannot_help_is_not_promised() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let lossy = server.client().map_reduce(&queue(), "m", "r").items([1, 2]);
    let lossy = lossy
        .chunk_size(1)
        .policy("1".parse().unwrap())
        .id("lossy")
        .submit()
        .await
        .unwrap();
    for _ in 0..3 {
        let grant = hands.next().await;
        match member(&grant) {
            Member::Map { chunk: 1, .. } => hands.settle(&grant, JobVerdict::Final, Vec::new()).await,
            _ => hands.settle(&grant, JobVerdict::Done, vec![(0, lines("1\n"))]).await,
        }
    }
    assert_eq!(ended(&lossy).await, JobState::Completed);
    let refused = server
        .run(&["job", "retry", "lossy"])
        .fails(1, "its policy accepted the chunks that were lost");
    assert!(!refused.err.contains("nothing is missing"), "{refused:?}");

    let gone = items(&server.client(), "gone", 1, 1).await;
    let grant = hands.next().await;
    hands.settle(&grant, JobVerdict::Final, Vec::new()).await;
    assert_eq!(ended(&gone).await, JobState::Failed);
    server.run(&["job", "wait", "gone"]).fails(1, "runs what is missing");
    let error = "reduce r:1.0 failed: spilled data is gone: file:///x is not there";
    let mut hset = redis::cmd("HSET");
    hset.arg(format!("{KEY}gone")).arg("error").arg(error);
    hset.query_async::<()>(&mut server.redis().await).await.unwrap();
    let told = server.run(&["job", "wait", "gone"]).fails(1, "submit the job anew");
    assert!(!told.err.contains("job retry"), "{told:?}");
}

/// One map of it has spilled.
async fn spilled(client: &Client, hands: &mut Hands, id: &str, place: &str) {
    let job = client.map_reduce(&queue(), "m", "r").items([1, 2]).chunk_size(1);
    job.spill(place).id(id).submit().await.unwrap();
    let grant = hands.next().await;
    let path = format!("workyard.q.{id}/data/m0-0-1");
    hands
        .settle(&grant, JobVerdict::Done, vec![(0, Part::Spilled { bytes: 2, path })])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_spilled_files_is_not_deleted_where_their_place_is_not_there() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let dir = tempfile::tempdir().unwrap();
    let place = format!("file://{}/unmounted", dir.path().display());
    spilled(&server.client(), &mut hands, "s", &place).await;
    server.run(&["job", "cancel", "s"]).ok();
    let refused = server.run(&["job", "delete", "s"]).fails(4, "does not exist here");
    assert!(
        refused.err.contains("`workyard job delete s --leave-files`"),
        "{refused:?}"
    );
    server.run(&["job", "s"]).ok();
    server.run(&["job", "delete", "s", "--leave-files"]).ok();
    server.run(&["job", "s"]).fails(1, "no job s");

    // Nothing of it was spilled: there is nothing to leave.
    let job = server.client().map_reduce(&queue(), "m", "r").items([1]);
    job.spill(&place).id("none").submit().await.unwrap();
    server.run(&["job", "cancel", "none"]).ok();
    server.run(&["job", "delete", "none"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usage_of_job_shows_what_is_taken() {
    let server = Server::start(&[]).await;
    let help = server.run(&["job", "--help"]).ok().out;
    assert!(help.contains("workyard job [OPTIONS] <ID>\n"), "{help}");
    assert!(help.contains("workyard job [OPTIONS] <COMMAND> ..."), "{help}");
    server
        .run(&["job", "x", "list"])
        .fails(2, "say `workyard job COMMAND ID`");
}

/// A result part that was cut, or to which something was added, at the end of a line.
#[tokio::test(flavor = "multi_thread")]
async fn a_spilled_result_that_is_shorter_or_longer_than_it_was_is_no_result() {
    let server = Server::start(&[]).await;
    let (client, dir) = (server.client(), tempfile::tempdir().unwrap());
    let mut hands = Hands::register(server.queue("default")).await;
    let place = format!("file://{}", dir.path().display());
    for (id, keyed) in [("fold", false), ("keyed", true)] {
        let mut job = client.map_reduce(&queue(), "m", "r").items([1]).spill(&place).id(id);
        if keyed {
            job = job.keyed(1);
        }
        let job = job.submit().await.unwrap();
        let map = hands.next().await;
        hands.settle(&map, JobVerdict::Done, vec![(0, lines("[1,1]\n"))]).await;
        let whole = "[1,1]\n[2,2]\n[3,3]\n";
        let part = Part::Spilled {
            bytes: whole.len() as u64,
            path: format!("workyard.q.{id}/out/0-1"),
        };
        let file = dir.path().join(format!("workyard.q.{id}/out/0-1"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, whole).unwrap();
        let reduce = hands.next().await;
        hands.settle(&reduce, JobVerdict::Done, vec![(0, part)]).await;
        assert_eq!(ended(&job).await, JobState::Completed);
        server.run(&["job", "result", id]).ok();
        for (now, bytes) in [("", 0), (&whole[..12], 12), (&format!("{whole}[4,4]\n")[..], 24)] {
            std::fs::write(&file, now).unwrap();
            let words =
                format!("spilled data is damaged: {bytes} bytes instead of 18 in {place}/workyard.q.{id}/out/0-1");
            for command in ["result", "wait"] {
                let told = server.run(&["job", command, id]).fails(1, &words);
                assert_eq!(told.out, "", "{told:?}");
            }
            let read = match keyed {
                true => job
                    .pairs::<u64, u64>()
                    .await
                    .unwrap()
                    .collect::<Vec<_>>()
                    .await
                    .map(|all| all.len()),
                false => job.results::<(u64, u64)>().await.map(|all| all.len()),
            };
            assert!(
                matches!(read, Err(Error::Store(StoreError::Damaged { .. }))),
                "{read:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_cut_tells_how_many_there_are_and_what_was_lost_is_told_behind_the_end() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let job = server
        .client()
        .map_reduce(&queue(), "m", "r")
        .items(0..130)
        .chunk_size(1);
    let job = job.policy("100%".parse().unwrap()).id("lossy").submit().await.unwrap();
    for _ in 0..130 {
        let grant = hands.next().await;
        hands.settle(&grant, JobVerdict::Final, Vec::new()).await;
    }
    // A tree of 32 to a node.
    for _ in 0..6 {
        let reduce = hands.next().await;
        hands.settle(&reduce, JobVerdict::Done, vec![(0, lines("0\n"))]).await;
    }
    assert_eq!(ended(&job).await, JobState::Completed);

    let shown = server.run(&["job", "lossy", "--json"]).ok().json();
    assert_eq!(shown["failed_total"], 130);
    assert_eq!(shown["failed_chunks"].as_array().unwrap().len(), 130);
    assert_eq!(shown["failed_inputs"].as_object().unwrap().len(), 100);
    assert_eq!(shown["failed_inputs"]["99"], "item 99");
    let told = server.run(&["job", "lossy"]).ok().out;
    assert!(told.contains("chunk 4: item 4\n"), "{told}");
    assert!(told.contains("... of the first 5; --json tells more of them"), "{told}");
    let result = server.run(&["job", "result", "lossy", "--json"]).ok().json();
    assert_eq!(
        (result["lost"].as_array().unwrap().len(), &result["lost_total"]),
        (100, &130.into())
    );
}
