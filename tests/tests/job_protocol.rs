//! The protocol of map-reduce jobs, step by step, on a real Redis: who counts, who waits, what is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use workyard_shared::broker::{
    CancelAnswer, ClaimRequest, Claimed, Grant, Handback, JobCancelled, JobDeleted, JobRetried, JobSettled,
    JobSubmitted, JobVerdict, Turn,
};
use workyard_shared::job::{Form, JobState, Part, Policy};
use workyard_shared::name::{JobId, SessionId};
use workyard_tests::hand::{Hand, job_id, member_of, outcome, spec, submit};
use workyard_tests::{Yard, queue_name};

const DONE: fn(&str) -> JobVerdict = |_| JobVerdict::Done;

fn expected(chunks: u64) -> String {
    (0..chunks).map(|i| format!("{i},")).collect()
}

/// Every task that was ever submitted has ended or is still there.
async fn counts_add_up(yard: &Yard) {
    let seen = yard.overview().await;
    let total = |name: &str| seen.totals.get(name).copied().unwrap_or(0);
    let ended = total("completed") + total("failed") + total("cancelled") + total("expired");
    assert_eq!(
        total("submitted"),
        ended + seen.pending + seen.scheduled + seen.running,
        "{:?}",
        seen.totals
    );
}

async fn keys(yard: &Yard, part: &str) -> Vec<String> {
    let mut connection = yard.server.connection().await;
    let scan: (u64, Vec<String>) = redis::cmd("SCAN")
        .arg(0)
        .arg("MATCH")
        .arg(format!("*{part}*"))
        .arg("COUNT")
        .arg(100_000)
        .query_async(&mut connection)
        .await
        .unwrap();
    scan.1
}

async fn nothing_of_it_is_left(yard: &Yard, job: &str) {
    let id = job_id(job);
    assert_eq!(yard.operator.job_delete(&id, false).await.unwrap(), JobDeleted::Deleted);
    let keys = keys(yard, &format!("job:{job}")).await;
    assert!(keys.is_empty(), "{keys:?}");
    let mut connection = yard.server.connection().await;
    for list in ["jobs", "jobs:due"] {
        let score = redis::Cmd::zscore(yard.queue.keys().named(list), job);
        let score: Option<f64> = score.query_async(&mut connection).await.unwrap();
        assert_eq!(score, None, "{job} is still in {list}");
    }
}

#[tokio::test]
async fn a_fold_keeps_the_order_of_chunks_for_any_size_and_fan_in() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    for chunks in [1, 2, 5, 31, 32, 33, 300] {
        for fan_in in [Some(2), Some(3), Some(32), None] {
            let id = job_id(&format!("f{chunks}-{}", fan_in.unwrap_or(0)));
            submit(&yard.producer, &id, &spec(Form::Fold { fan_in }), chunks).await;
            hand.work_all(&id, DONE).await;
            let record = hand.record(&id).await;
            assert_eq!(record.state, JobState::Completed, "{id}: {record:?}");
            assert_eq!(hand.result(&id, 0).await, expected(chunks), "{id}");
            assert_eq!(
                (record.maps.done, record.reduces.done),
                (chunks, record.reduces.total),
                "{id}"
            );
            nothing_of_it_is_left(&yard, id.as_str()).await;
        }
    }
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn a_job_lives_in_its_home_partition_alone() {
    let yard = Yard::start().await;
    let home = yard.broker.partition(&queue_name("q"), 1);
    let (mut hand, mut other) = (Hand::register(&home).await, Hand::register(&yard.consumer).await);
    for form in [Form::Fold { fan_in: Some(3) }, Form::Keyed { partitions: 2 }] {
        let id = job_id("home");
        submit(&home, &id, &spec(form), 20).await;
        assert!(other.claim(10).await.is_empty(), "a task came into partition 0");
        hand.work_all(&id, DONE).await;
        assert_eq!(hand.record(&id).await.state, JobState::Completed);
        if let Form::Fold { .. } = form {
            assert_eq!(hand.result(&id, 0).await, expected(20));
        }
        assert!(yard.queue.jobs(0, 1).await.unwrap().is_empty());
        assert_eq!(yard.queue.job_record(&id).await.unwrap(), None);
        assert_eq!(home.job_delete(&id, false).await.unwrap(), JobDeleted::Deleted);
    }
    assert!(keys(&yard, "job:home").await.is_empty());
}

#[tokio::test]
async fn a_keyed_job_gives_each_partition_its_part_of_every_chunk_in_order() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("keyed");
    submit(&yard.producer, &id, &spec(Form::Keyed { partitions: 3 }), 7).await;
    hand.work_all(&id, DONE).await;
    for partition in 0..3 {
        let parts: String = (0..7).map(|i| format!("{i}@{partition},")).collect();
        assert_eq!(hand.result(&id, partition).await, parts);
    }
    nothing_of_it_is_left(&yard, "keyed").await;
}

#[tokio::test]
async fn an_empty_job_completes_at_once() {
    let yard = Yard::start().await;
    let hand = Hand::register(&yard.consumer).await;
    submit(&yard.producer, &job_id("none"), &spec(Form::fold()), 0).await;
    assert_eq!(hand.record(&job_id("none")).await.state, JobState::Completed);
    assert_eq!(hand.result(&job_id("none"), 0).await, "null\n");
    submit(&yard.producer, &job_id("no-pairs"), &spec(Form::keyed()), 0).await;
    assert_eq!(hand.record(&job_id("no-pairs")).await.state, JobState::Completed);
    assert_eq!(yard.queue.job_output(&job_id("no-pairs"), 0).await.unwrap(), None);
}

#[tokio::test]
async fn last_map_enqueues_the_reduce_once_and_nothing_waits_before() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("once");
    submit(&yard.producer, &id, &spec(Form::Fold { fan_in: None }), 3).await;
    let grants = hand.claim(10).await;
    assert_eq!(grants.len(), 3);
    for grant in &grants[..2] {
        let done = hand.work(&id, grant).await;
        hand.settle(&id, vec![done]).await;
        assert!(hand.claim(10).await.is_empty(), "a reduce came before the last map");
    }
    let last = hand.work(&id, &grants[2]).await;
    // The reply is lost: the same batch again gets the same answer, and adds nothing.
    for _ in 0..3 {
        assert_eq!(hand.settle_as(77, &id, vec![last.clone()]).await, [JobSettled::Kept]);
    }
    let reduces = hand.claim(10).await;
    assert_eq!(reduces.iter().map(member_of).collect::<Vec<_>>(), ["r:1.0"]);
    // A later batch with the same outcome is another writer: it is refused.
    assert_eq!(hand.settle_as(78, &id, vec![last]).await, [JobSettled::Stale]);
}

#[tokio::test]
async fn submission_is_resumable_and_nothing_runs_before_its_last_chunk() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let (id, spec, nonce) = (job_id("resumed"), spec(Form::fold()), SessionId::fresh());
    let chunks: Vec<Bytes> = (0..5).map(|i| format!("{{\"items\":[{i}]}}").into()).collect();
    let submit = |from: u64, until: usize, last| {
        let (queue, spec, chunks, nonce, id) = (&yard.queue, &spec, &chunks, &nonce, &id);
        async move {
            let from_at = usize::try_from(from).unwrap();
            queue
                .job_submit(id, nonce, spec, from, &chunks[from_at..until], last)
                .await
        }
    };
    assert_eq!(submit(0, 2, false).await.unwrap(), JobSubmitted::Taken(2));
    assert_eq!(submit(0, 2, false).await.unwrap(), JobSubmitted::Taken(2));
    assert!(hand.claim(10).await.is_empty(), "it ran before it was whole");
    assert!(submit(3, 5, true).await.is_err(), "a gap was taken");
    assert_eq!(submit(1, 5, true).await.unwrap(), JobSubmitted::Taken(5));
    assert_eq!(submit(4, 5, true).await.unwrap(), JobSubmitted::Taken(5));
    let other = yard
        .queue
        .job_submit(&id, &SessionId::fresh(), &spec, 0, &chunks, true)
        .await
        .unwrap();
    assert_eq!(other, JobSubmitted::Exists);
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, expected(5));
}

#[tokio::test]
async fn a_submitter_whose_job_was_deleted_hears_it_and_another_begins_anew() {
    let yard = Yard::start().await;
    let (id, spec) = (job_id("undone"), spec(Form::fold()));
    let (nonce, chunks) = (SessionId::fresh(), [Bytes::from("{\"items\":[1]}")]);
    let submit = async |nonce: &SessionId, from| {
        let answer = yard.producer.job_submit(&id, nonce, &spec, from, &chunks, false).await;
        answer.map_err(|error| error.to_string())
    };
    assert_eq!(submit(&nonce, 0).await, Ok(JobSubmitted::Taken(1)));
    yard.operator.job_cancel(&id).await.unwrap();
    assert_eq!(yard.operator.job_delete(&id, false).await.unwrap(), JobDeleted::Deleted);
    for _ in 0..2 {
        assert_eq!(submit(&nonce, 1).await, Ok(JobSubmitted::Deleted));
    }
    let refused = submit(&SessionId::fresh(), 1).await.unwrap_err();
    assert!(refused.contains("comes before its predecessors"), "{refused}");
    // What is left of it goes by itself.
    let left = keys(&yard, "job:undone").await;
    assert_eq!(left, ["workyard:{q}:job:undone:again"]);
    let mut connection = yard.server.connection().await;
    let ttl: i64 = redis::Cmd::pttl(&left[0]).query_async(&mut connection).await.unwrap();
    assert!(ttl > 0, "{ttl}");
    assert_eq!(submit(&nonce, 0).await, Ok(JobSubmitted::Taken(1)));
    assert_eq!(submit(&nonce, 1).await, Ok(JobSubmitted::Taken(2)));
    assert!(!keys(&yard, "job:undone").await.contains(&left[0]));
}

#[tokio::test]
async fn a_submitter_that_never_comes_back_has_its_job_failed() {
    let yard = Yard::start().await;
    let hand = Hand::register(&yard.consumer).await;
    let id = job_id("left");
    let chunk = [Bytes::from_static(b"{\"items\":[1]}")];
    yard.queue
        .job_submit(&id, &SessionId::fresh(), &spec(Form::fold()), 0, &chunk, false)
        .await
        .unwrap();
    yard.consumer.job_tend(&id, None, &[]).await.unwrap();
    assert_eq!(hand.record(&id).await.state, JobState::Pending);
    // As if its last call had been two hours ago.
    let long_ago = yard.broker.now_ms().await.unwrap() - 7_200_000;
    let set = redis::Cmd::hset(yard.queue.keys().job_key(&id, ""), "touched", long_ago);
    set.exec_async(&mut yard.server.connection().await).await.unwrap();
    yard.consumer.job_tend(&id, None, &[]).await.unwrap();
    let record = hand.record(&id).await;
    assert_eq!(record.state, JobState::Failed);
    assert!(record.error.starts_with("abandoned"), "{}", record.error);
    assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Lost);
    assert_eq!(yard.operator.job_delete(&id, false).await.unwrap(), JobDeleted::Deleted);
    // A word to the submitter, should it live.
    assert_eq!(keys(&yard, "job:left").await, ["workyard:{q}:job:left:again"]);
}

#[tokio::test]
async fn fail_fast_ends_the_job_and_a_retry_runs_only_what_is_missing() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("ff");
    submit(&yard.producer, &id, &spec(Form::Fold { fan_in: Some(4) }), 100).await;
    hand.work_all(&id, |member| {
        if member == "m:41" {
            JobVerdict::Final
        } else {
            JobVerdict::Done
        }
    })
    .await;
    let record = hand.record(&id).await;
    assert_eq!((record.state, record.maps.failed), (JobState::Failed, 1));
    assert_eq!(record.error, "chunk 41 failed: boom m:41");
    assert_eq!(yard.queue.job_failed(&id, 10).await.unwrap(), [41]);
    assert!(yard.queue.job_errors(&id).await.unwrap()["m:41"].contains("boom"));
    let seen = yard.overview().await;
    assert_eq!(
        (seen.pending, seen.scheduled, seen.running, seen.failed),
        (0, 0, 0, 0),
        "siblings are left"
    );
    counts_add_up(&yard).await;

    let done_before = record.maps.done;
    assert!(done_before > 0);
    assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
    let before = yard.total("submitted").await;
    hand.work_all(&id, DONE).await;
    let record = hand.record(&id).await;
    assert_eq!(
        (record.state, record.maps.done, record.maps.failed),
        (JobState::Completed, 100, 0)
    );
    assert_eq!(hand.result(&id, 0).await, expected(100));
    let ran = yard.total("submitted").await - before;
    assert!(ran <= 100 - done_before + record.reduces.total, "{ran} tasks ran again");
    assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Completed);
    nothing_of_it_is_left(&yard, "ff").await;
}

#[tokio::test]
async fn a_percentage_is_exact() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    // As a product of doubles 18.4 % of 375 is a little less than 69.
    let first = |member: &str| {
        member
            .strip_prefix("m:")
            .map_or(u64::MAX, |chunk| chunk.parse().unwrap())
    };
    for (lost, state) in [(69, JobState::Completed), (70, JobState::Failed)] {
        let id = job_id(&format!("lost-{lost}"));
        let mut spec = spec(Form::Fold { fan_in: None });
        spec.policy = Policy::AllowPercent(18.4);
        submit(&yard.producer, &id, &spec, 375).await;
        let bad = |member: &str| {
            if first(member) < lost {
                JobVerdict::Final
            } else {
                JobVerdict::Done
            }
        };
        hand.work_all(&id, bad).await;
        assert_eq!(hand.record(&id).await.state, state, "{lost} of 375");
    }
}

#[tokio::test]
async fn as_many_chunks_as_the_policy_allows_may_be_lost_and_not_one_more() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let bad = |member: &str| match member {
        "m:3" | "m:17" | "m:18" => JobVerdict::Final,
        _ => JobVerdict::Done,
    };
    for (name, form) in [
        ("fold", Form::Fold { fan_in: Some(4) }),
        ("keyed", Form::Keyed { partitions: 2 }),
    ] {
        let lost_three: String = expected(50).replacen("3,", "", 1).replace(",17,18,", ",");
        for (policy, survives) in [
            (Policy::Allow(3), true),
            (Policy::Allow(2), false),
            (Policy::AllowPercent(6.0), true),
            (Policy::AllowPercent(5.9), false),
        ] {
            let id = job_id(&format!("{name}-{}", policy.to_string().replace(['%', '.'], "p")));
            let mut spec = spec(form);
            spec.policy = policy;
            submit(&yard.producer, &id, &spec, 50).await;
            hand.work_all(&id, bad).await;
            let record = hand.record(&id).await;
            if survives {
                assert_eq!(
                    (record.state, record.accepted, record.maps.failed),
                    (JobState::Completed, 3, 3),
                    "{id}"
                );
                if name == "fold" {
                    assert_eq!(hand.result(&id, 0).await, lost_three, "{id}");
                }
                assert_eq!(yard.queue.job_failed(&id, 10).await.unwrap(), [3, 17, 18]);
            } else {
                assert_eq!((record.state, record.accepted), (JobState::Failed, 0), "{id}");
                // What was lost before runs again too: no loss was made good before the end.
                assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
                hand.work_all(&id, DONE).await;
                let record = hand.record(&id).await;
                assert_eq!((record.state, record.maps.failed), (JobState::Completed, 0), "{id}");
                if name == "fold" {
                    assert_eq!(hand.result(&id, 0).await, expected(50), "{id}");
                }
            }
            nothing_of_it_is_left(&yard, id.as_str()).await;
        }
    }
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn a_reduce_that_fails_for_good_fails_the_job_and_runs_again_with_a_retry() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    for (name, form, bad) in [
        ("rf", Form::Fold { fan_in: Some(4) }, "r:1.3"),
        ("rk", Form::Keyed { partitions: 4 }, "r:2"),
    ] {
        let id = job_id(name);
        submit(&yard.producer, &id, &spec(form), 40).await;
        hand.work_all(&id, |member| {
            if member == bad {
                JobVerdict::Final
            } else {
                JobVerdict::Done
            }
        })
        .await;
        let record = hand.record(&id).await;
        assert_eq!(record.state, JobState::Failed);
        assert!(
            record.error.starts_with(&format!("reduce {bad} failed")),
            "{}",
            record.error
        );
        assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
        let maps = record.maps.done;
        hand.work_all(&id, DONE).await;
        let record = hand.record(&id).await;
        assert_eq!((record.state, record.maps.done), (JobState::Completed, maps), "{id}");
        if name == "rf" {
            assert_eq!(hand.result(&id, 0).await, expected(40));
        }
        nothing_of_it_is_left(&yard, name).await;
    }
}

#[tokio::test]
async fn retries_are_counted_and_do_not_end_the_job() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("rt");
    submit(&yard.producer, &id, &spec(Form::fold()), 10).await;
    hand.work_all(&id, |member| {
        if member == "m:7" {
            JobVerdict::Retry
        } else {
            JobVerdict::Done
        }
    })
    .await;
    assert_eq!(hand.record(&id).await.maps.retried, 1);
    yard.consumer.promote(10).await.unwrap();
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, expected(10));
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn cancel_takes_every_task_away_and_refuses_what_still_comes() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("ca");
    submit(&yard.producer, &id, &spec(Form::fold()), 5000).await;
    while yard.consumer.job_tend(&id, None, &[]).await.unwrap().more {}
    assert_eq!(
        yard.overview().await.pending,
        2000,
        "the window: one call cannot clear it away"
    );
    let grants = hand.claim(50).await;
    let late = hand.work(&id, &grants[0]).await;
    assert_eq!(yard.operator.job_cancel(&id).await.unwrap(), JobCancelled::Cancelled);
    assert_eq!(yard.operator.job_cancel(&id).await.unwrap(), JobCancelled::Finished);
    while yard.consumer.job_tend(&id, None, &[]).await.unwrap().more {}
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.scheduled), (0, 0));
    let dropped = outcome(&grants[1], JobVerdict::Drop, Vec::new());
    assert_eq!(
        hand.settle(&id, vec![late, dropped]).await,
        [JobSettled::Stale, JobSettled::Dropped]
    );
    assert_eq!(hand.record(&id).await.maps.done, 0);
    assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, expected(5000));
    nothing_of_it_is_left(&yard, "ca").await;
    assert_eq!(yard.operator.job_cancel(&id).await.unwrap(), JobCancelled::Unknown);
}

#[tokio::test]
async fn of_two_copies_the_first_to_finish_counts_and_the_other_is_fenced_off() {
    let yard = Yard::start().await;
    let (mut slow, mut fast) = (
        Hand::register(&yard.consumer).await,
        Hand::register(&yard.consumer).await,
    );
    let id = job_id("bk");
    submit(&yard.producer, &id, &spec(Form::fold()), 3).await;
    let grants = slow.claim(3).await;
    let (straggler, rest): (Vec<_>, Vec<_>) = grants.into_iter().partition(|g| member_of(g) == "m:1");
    for grant in &rest {
        let done = slow.work(&id, grant).await;
        slow.settle(&id, vec![done]).await;
    }
    let members = ["m:1".to_owned(), "m:0".to_owned(), "nonsense".to_owned()];
    assert_eq!(yard.consumer.job_backup(&id, &members).await.unwrap(), 1);
    assert_eq!(
        yard.consumer.job_backup(&id, &members).await.unwrap(),
        0,
        "a third copy"
    );
    let copy = fast.claim(3).await;
    assert_eq!(member_of(&copy[0]), "m:1:b");
    let text = |text: &'static str| vec![(0, Part::Inline(Bytes::from_static(text.as_bytes())))];
    let first = outcome(&copy[0], JobVerdict::Done, text("copy,"));
    assert_eq!(fast.settle(&id, vec![first]).await, [JobSettled::Kept]);
    let second = outcome(&straggler[0], JobVerdict::Done, text("straggler,"));
    assert_eq!(slow.settle(&id, vec![second]).await, [JobSettled::Stale]);
    fast.work_all(&id, DONE).await;
    assert_eq!(fast.result(&id, 0).await, "0,copy,2,");
    let record = fast.record(&id).await;
    assert_eq!((record.maps.done, record.maps.backup), (3, 1));
    counts_add_up(&yard).await;
    nothing_of_it_is_left(&yard, "bk").await;
}

#[tokio::test]
async fn if_one_copy_fails_the_other_decides() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("bf");
    submit(&yard.producer, &id, &spec(Form::fold()), 1).await;
    let original = hand.claim(1).await;
    assert_eq!(yard.consumer.job_backup(&id, &["m:0".to_owned()]).await.unwrap(), 1);
    let failed = outcome(&original[0], JobVerdict::Final, Vec::new());
    assert_eq!(hand.settle(&id, vec![failed]).await, [JobSettled::Failed]);
    assert_eq!(hand.record(&id).await.state, JobState::Mapping);
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, "0,");
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn a_job_over_its_budget_fails_with_that_reason_or_is_told_to_spill() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let mut small = spec(Form::fold());
    small.budget = 10;
    let id = job_id("bu");
    submit(&yard.producer, &id, &small, 20).await;
    hand.work_all(&id, DONE).await;
    let record = hand.record(&id).await;
    assert_eq!(record.state, JobState::Failed);
    assert!(record.error.starts_with("budget: "), "{}", record.error);
    nothing_of_it_is_left(&yard, "bu").await;

    let id = job_id("sp");
    small.spill = Some("file:///spill".to_owned());
    submit(&yard.producer, &id, &small, 1).await;
    let grants = hand.claim(1).await;
    let inline = outcome(
        &grants[0],
        JobVerdict::Done,
        vec![(0, Part::Inline(Bytes::from_static(b"0123456789")))],
    );
    assert_eq!(hand.settle(&id, vec![inline]).await, [JobSettled::HandedBack]);
    assert!(hand.record(&id).await.full);
    let again = hand.claim(1).await;
    assert_eq!(again[0].meta.failures, 0, "an attempt was burnt");
    let spilled = Part::Spilled {
        bytes: 10,
        path: "sp/data/m0-0-1".to_owned(),
    };
    let outcome = outcome(&again[0], JobVerdict::Done, vec![(0, spilled)]);
    assert_eq!(hand.settle(&id, vec![outcome]).await, [JobSettled::Kept]);
    assert_eq!(hand.record(&id).await.spilled, 1);
    yard.operator.job_cancel(&id).await.unwrap();
    assert_eq!(yard.operator.job_delete(&id, false).await.unwrap(), JobDeleted::Spilled);
    assert_eq!(yard.operator.job_delete(&id, true).await.unwrap(), JobDeleted::Deleted);
    counts_add_up(&yard).await;
}

/// Bytes of all values of a hash.
async fn stored(yard: &Yard, job: &JobId, part: &str) -> u64 {
    let values = redis::cmd("HVALS").arg(yard.queue.keys().job_key(job, part)).to_owned();
    let values: Vec<Vec<u8>> = values.query_async(&mut yard.server.connection().await).await.unwrap();
    values.iter().map(|value| value.len() as u64).sum()
}

#[tokio::test]
async fn the_bytes_of_a_job_are_those_that_redis_holds_for_it_references_and_marks_too() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    for (name, form) in [
        ("fold", Form::Fold { fan_in: Some(3) }),
        ("keyed", Form::Keyed { partitions: 5 }),
    ] {
        let id = job_id(name);
        let mut spilling = spec(form);
        spilling.spill = Some("file:///spill".to_owned());
        submit(&yard.producer, &id, &spilling, 20).await;
        let mut steps = 0;
        while let Some(grant) = hand.claim(1).await.pop() {
            // Of each kind some: nothing at all, a reference, one part of those that there may be.
            let parts = match steps % 4 {
                0 => Vec::new(),
                1 => vec![(0, spilled(steps))],
                _ => vec![(0, Part::Inline(Bytes::from(format!("{steps},"))))],
            };
            let done = outcome(&grant, JobVerdict::Done, parts);
            assert_eq!(hand.settle(&id, vec![done]).await, [JobSettled::Kept]);
            let (data, out) = (stored(&yard, &id, ":data").await, stored(&yard, &id, ":out").await);
            assert_eq!(hand.record(&id).await.bytes, data + out, "{name}, step {steps}");
            steps += 1;
        }
        assert_eq!(hand.record(&id).await.state, JobState::Completed);
        assert!(steps > 20, "{name}: maps and reduces");
        yard.operator.job_delete(&id, true).await.unwrap();
    }
}

/// A reference as a consumer writes it.
fn spilled(number: u64) -> Part {
    Part::Spilled {
        bytes: 1000,
        path: format!("workyard.q.job/data/m12345-{number}-1790000000000000"),
    }
}

#[tokio::test]
async fn references_to_spilled_parts_have_a_bound_of_their_own() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("refs");
    let mut small = spec(Form::Keyed { partitions: 1000 });
    (small.budget, small.spill) = (1000, Some("file:///spill".to_owned()));
    submit(&yard.producer, &id, &small, 400).await;
    while yard.consumer.job_tend(&id, None, &[]).await.unwrap().more {}
    let mut settled = Vec::new();
    for grant in hand.claim(400).await {
        let parts = (0..1000)
            .map(|partition| (partition, spilled(partition.into())))
            .collect();
        settled = hand.settle(&id, vec![outcome(&grant, JobVerdict::Done, parts)]).await;
        if settled != [JobSettled::Kept] {
            break;
        }
    }
    assert_eq!(settled, [JobSettled::Failed]);
    assert!(stored(&yard, &id, ":data").await <= 1000 + (16 << 20) + 64);
    let record = hand.record(&id).await;
    assert_eq!(record.state, JobState::Failed);
    assert!(record.maps.done > 200, "16 MiB are room for many: {record:?}");
    let reason = "budget: the references to spilled data would exceed 16777";
    assert!(record.error.starts_with(reason), "{}", record.error);
    assert_eq!(yard.operator.job_delete(&id, true).await.unwrap(), JobDeleted::Deleted);
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn a_chunk_whose_task_was_taken_away_by_hand_has_failed() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let mut lenient = spec(Form::fold());
    lenient.policy = Policy::Allow(1);
    let id = job_id("au");
    submit(&yard.producer, &id, &lenient, 3).await;
    let task = format!("au:{}:m:1", hand.record(&id).await.epoch);
    assert_eq!(yard.operator.cancel(&task).await.unwrap(), CancelAnswer::Cancelled);
    let (_, members) = yard.queue.job_live(&id, 0).await.unwrap();
    yard.consumer.job_tend(&id, None, &members).await.unwrap();
    assert_eq!(hand.record(&id).await.maps.failed, 1);
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.record(&id).await.state, JobState::Completed);
    assert_eq!(hand.result(&id, 0).await, "0,2,");
    assert!(yard.queue.job_errors(&id).await.unwrap()["m:1"].contains("by hand"));
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn an_ended_job_goes_with_its_retention() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("gone");
    let mut brief = spec(Form::fold());
    brief.retention = Duration::from_secs(1);
    submit(&yard.producer, &id, &brief, 2).await;
    hand.work_all(&id, DONE).await;
    let tended = yard.consumer.job_tend(&id, None, &[]).await.unwrap();
    assert!(tended.due_in.is_some_and(|due| due <= brief.retention), "{tended:?}");
    workyard_tests::wait_until(Duration::from_secs(15), || async {
        for due in yard.queue.jobs_due().await.unwrap().0 {
            yard.consumer.job_tend(&due, None, &[]).await.unwrap();
        }
        yard.queue.job_record(&id).await.unwrap().is_none()
    })
    .await;
    assert!(keys(&yard, "job:gone").await.is_empty());
}

#[tokio::test]
async fn what_is_still_held_of_an_earlier_start_is_never_taken_for_a_task_of_the_next() {
    let yard = Yard::start().await;
    let (mut old, mut new) = (
        Hand::register(&yard.consumer).await,
        Hand::register(&yard.consumer).await,
    );
    let id = job_id("again");
    submit(&yard.producer, &id, &spec(Form::fold()), 2).await;
    let before = old.claim(2).await;
    yard.operator.job_cancel(&id).await.unwrap();
    assert_eq!(yard.operator.job_delete(&id, false).await.unwrap(), JobDeleted::Deleted);
    submit(&yard.producer, &id, &spec(Form::fold()), 2).await;
    let text = |grant: &Grant| {
        outcome(
            grant,
            JobVerdict::Done,
            vec![(0, Part::Inline(Bytes::from_static(b"old")))],
        )
    };
    // The old holder brings its output, drops, hands back, and dies: nothing of it touches the new job.
    let answers = old.settle(&id, vec![text(&before[0])]).await;
    assert_eq!(answers, [JobSettled::Stale]);
    assert_eq!(yard.consumer.leave(&old.consumer).await.unwrap(), 0);
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running), (2, 0));
    new.work_all(&id, DONE).await;
    assert_eq!(new.result(&id, 0).await, "0,1,");
    counts_add_up(&yard).await;
    nothing_of_it_is_left(&yard, "again").await;
}

#[tokio::test]
async fn cancel_and_retry_over_running_tasks_keep_the_counters_right_and_leave_nothing() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("churn");
    submit(&yard.producer, &id, &spec(Form::Fold { fan_in: Some(3) }), 30).await;
    let mut number = 500;
    for round in 0..10 {
        let held = hand.claim(7).await;
        yard.operator.job_cancel(&id).await.unwrap();
        assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
        let mut drops: Vec<_> = held.iter().map(|g| outcome(g, JobVerdict::Drop, Vec::new())).collect();
        if round % 2 == 0 {
            hand.settle(&id, drops).await;
        } else {
            // As a drain would: handed back one by one.
            number += 1;
            let handbacks = drops.drain(..).map(|o| Handback {
                id: o.id,
                token: o.token,
                unhandled: None,
                delay: Duration::ZERO,
            });
            let turn = Turn {
                number,
                handbacks: handbacks.collect(),
                ..Turn::default()
            };
            turn.send(&yard.queue, &hand.consumer, None).await.unwrap();
        }
    }
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, expected(30));
    counts_add_up(&yard).await;
    assert_eq!(yard.total("deleted").await, 0, "a place without a task was left");
    let meta = redis::Cmd::hlen(yard.queue.keys().named("meta"));
    let left: u64 = meta.query_async(&mut yard.server.connection().await).await.unwrap();
    assert_eq!(left, 0, "what is known of tasks that are gone was left");
    nothing_of_it_is_left(&yard, "churn").await;
}

#[tokio::test]
async fn a_task_that_ten_consumers_could_not_run_fails_for_the_reason_that_the_last_one_gave() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("nobody");
    submit(&yard.producer, &id, &spec(Form::fold()), 1).await;
    for tries in 1..=10 {
        let grants = hand.claim(1).await;
        assert_eq!((grants.len(), grants[0].meta.failures), (1, 0), "try {tries}");
        let answer = hand
            .settle(&id, vec![outcome(&grants[0], JobVerdict::Elsewhere, Vec::new())])
            .await;
        assert_eq!(
            answer,
            [if tries < 10 {
                JobSettled::HandedBack
            } else {
                JobSettled::Failed
            }]
        );
        assert!(
            yard.queue.job_errors(&id).await.unwrap()["m:0"].contains("boom"),
            "people see why at once"
        );
        yard.consumer.promote(10).await.unwrap();
    }
    let record = hand.record(&id).await;
    assert!(
        record.error.contains("boom m:0") && record.error.contains("10 tries"),
        "{}",
        record.error
    );
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn a_damaged_job_can_be_listed_and_deleted_with_all_of_its_tasks() {
    let yard = Yard::start().await;
    let mut connection = yard.server.connection().await;
    for (name, field, value) in [
        ("b1", "form", "zzz"),
        ("b2", "maps", "inf"),
        ("b3", "allow", "zzz"),
        ("b4", "state", "no"),
    ] {
        let id = job_id(name);
        submit(&yard.producer, &id, &spec(Form::fold()), 9).await;
        let set = redis::Cmd::hset(yard.queue.keys().job_key(&id, ""), field, value);
        set.exec_async(&mut connection).await.unwrap();
        assert_eq!(yard.queue.jobs(0, 10).await.unwrap().len(), 1, "{name}");
        delete_all(&yard, name).await;
        let seen = yard.overview().await;
        assert_eq!((seen.running, seen.pending), (0, 0), "{name}");
    }
    let id = job_id("b5");
    submit(&yard.producer, &id, &spec(Form::fold()), 9).await;
    let data = yard.queue.keys().job_key(&id, ":data");
    redis::Cmd::set(data, "foo").exec_async(&mut connection).await.unwrap();
    delete_all(&yard, "b5").await;
    assert_eq!(yard.overview().await.running, 0);
    counts_add_up(&yard).await;
}

/// Deletes a job that may have to be cancelled first.
async fn delete_all(yard: &Yard, job: &str) {
    let id = job_id(job);
    loop {
        match yard.operator.job_delete(&id, true).await.unwrap() {
            JobDeleted::Deleted => break,
            JobDeleted::Alive => drop(yard.operator.job_cancel(&id).await.unwrap()),
            JobDeleted::More => {}
            other => panic!("{job}: {other:?}"),
        }
    }
    assert!(keys(yard, &format!("job:{job}")).await.is_empty());
}

#[tokio::test]
async fn a_task_settles_only_under_the_token_of_its_claim_and_once_in_a_batch() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("fence");
    submit(&yard.producer, &id, &spec(Form::fold()), 2).await;
    let grants = hand.claim(2).await;
    for (verdict, wrong) in [(JobVerdict::Done, -1), (JobVerdict::Final, 1), (JobVerdict::Drop, 1)] {
        let mut stale = hand.work(&id, &grants[0]).await;
        (stale.verdict, stale.token) = (verdict, stale.token.checked_add_signed(wrong).unwrap());
        let expected = if verdict == JobVerdict::Drop {
            JobSettled::Dropped
        } else {
            JobSettled::Stale
        };
        assert_eq!(hand.settle(&id, vec![stale]).await, [expected]);
        assert_eq!(hand.record(&id).await.maps.done, 0);
        assert_eq!(yard.overview().await.running, 2, "it is held as before");
    }
    let done = hand.work(&id, &grants[0]).await;
    let twice = hand.settle(&id, vec![done.clone(), done]).await;
    assert_eq!(twice, [JobSettled::Kept, JobSettled::Stale]);
    assert_eq!(hand.record(&id).await.maps.done, 1);
    let last = hand.work(&id, &grants[1]).await;
    hand.settle(&id, vec![last]).await;
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, "0,1,");
    counts_add_up(&yard).await;
}

#[tokio::test]
async fn what_is_done_is_forgotten_on_the_way_and_a_completed_job_keeps_its_record_and_result_only() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    for (name, form) in [
        ("lean-f", Form::Fold { fan_in: Some(2) }),
        ("lean-k", Form::Keyed { partitions: 2 }),
    ] {
        let id = job_id(name);
        submit(&yard.producer, &id, &spec(form), 8).await;
        let mut connection = yard.server.connection().await;
        let mut fields = async |part: &str| -> u64 {
            let len = redis::Cmd::hlen(yard.queue.keys().job_key(&id, part));
            len.query_async(&mut connection).await.unwrap()
        };
        for grant in hand.claim(5).await {
            let done = hand.work(&id, &grant).await;
            hand.settle(&id, vec![done]).await;
        }
        assert_eq!(fields(":chunks").await, 3, "{name}: descriptions of done chunks stay");
        hand.work_all(&id, |member| match member {
            "r:3.0" | "r:1" => JobVerdict::Final,
            _ => JobVerdict::Done,
        })
        .await;
        // The top of the tree, or one partition, is missing: of the tree only its children are left.
        // Of a chunk there are an output for each partition and the mark that says so.
        let left = if name == "lean-f" { 2 } else { 3 * 8 };
        assert_eq!(fields(":data").await, left, "{name}");
        assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
        hand.work_all(&id, DONE).await;
        assert_eq!(hand.record(&id).await.state, JobState::Completed);
        let mut keys = keys(&yard, &format!("job:{name}")).await;
        keys.sort();
        let key = |part: &str| format!("workyard:{{q}}:job:{name}{part}");
        assert_eq!(keys, [key(""), key(":out")]);
    }
}

#[tokio::test]
async fn a_call_feeds_few_large_chunks_and_all_come_in_their_turn() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let (id, spec, nonce) = (job_id("large"), spec(Form::fold()), SessionId::fresh());
    let chunk = Bytes::from(format!("{{\"items\":[\"{}\"]}}", "x".repeat(1_000_000)));
    for at in 0..10 {
        let submitted = yard
            .queue
            .job_submit(&id, &nonce, &spec, at, std::slice::from_ref(&chunk), at == 9);
        assert_eq!(submitted.await.unwrap(), JobSubmitted::Taken(at + 1));
    }
    assert_eq!(yard.overview().await.pending, 4, "4 MiB in one call");
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.result(&id, 0).await, expected(10));
}

#[tokio::test]
async fn a_chunk_under_which_three_consumers_died_has_failed_as_poison_and_is_no_dead_letter() {
    const SOON: Duration = Duration::from_secs(15);
    const BRIEF: Duration = Duration::from_millis(100);
    let yard = Yard::start().await;
    // Nobody is judged for one lease after a silence, and the first beat ends one: a short lease.
    yard.consumer.heartbeat(&SessionId::fresh(), BRIEF, true).await.unwrap();
    let mut hand = Hand::register(&yard.consumer).await;
    let mut lenient = spec(Form::fold());
    lenient.policy = Policy::Allow(1);
    let id = job_id("po");
    submit(&yard.producer, &id, &lenient, 2).await;
    let keep = hand.claim(1).await.remove(0);
    for _ in 0..3 {
        let mortal = SessionId::fresh();
        yard.consumer.heartbeat(&mortal, BRIEF, true).await.unwrap();
        let claim = ClaimRequest::new(&mortal, 1, 0);
        let claimed = yard.consumer.claim(claim).await.unwrap();
        assert!(matches!(&claimed, Claimed::Tasks(grants) | Claimed::More(grants) if grants.len() == 1));
        workyard_tests::wait_until(SOON, || async {
            yard.consumer.heartbeat(&hand.consumer, SOON * 40, false).await.unwrap();
            yard.consumer.dead_consumers().await.unwrap().contains(&mortal)
        })
        .await;
        yard.consumer.reclaim(&mortal).await.unwrap();
    }
    assert_eq!(yard.overview().await.failed, 1, "poison");
    let (_, members) = yard.queue.job_live(&id, 0).await.unwrap();
    yard.consumer.job_tend(&id, None, &members).await.unwrap();
    assert_eq!(yard.overview().await.failed, 0, "the job has it");
    let lost = if member_of(&keep) == "m:0" { 1 } else { 0 };
    assert_eq!(yard.queue.job_failed(&id, 10).await.unwrap(), [lost]);
    assert!(!yard.queue.job_errors(&id).await.unwrap()[&format!("m:{lost}")].is_empty());
    let done = hand.work(&id, &keep).await;
    hand.settle(&id, vec![done]).await;
    hand.work_all(&id, DONE).await;
    assert_eq!(hand.record(&id).await.accepted, 1);
    assert_eq!(hand.result(&id, 0).await, format!("{},", 1 - lost));
    counts_add_up(&yard).await;
    nothing_of_it_is_left(&yard, "po").await;
}

#[tokio::test]
async fn errors_and_run_times_that_are_kept_have_a_cap() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("capped");
    let mut lossy = spec(Form::fold());
    lossy.policy = Policy::Allow(1);
    submit(&yard.producer, &id, &lossy, 400).await;
    let failing = |member: &str| match member[2..].parse::<u64>() {
        Ok(chunk) if chunk < 150 => JobVerdict::Retry,
        Ok(399) if member.starts_with('m') => JobVerdict::Final,
        _ => JobVerdict::Done,
    };
    hand.work_all(&id, failing).await;
    assert_eq!(hand.record(&id).await.maps.retried, 150);
    let errors = yard.queue.job_errors(&id).await.unwrap();
    assert_eq!(errors.len(), 51, "of those that were tried again half of the places");
    assert!(errors.contains_key("m:399"), "{errors:?}");
    assert_eq!(yard.queue.job_runs(&id).await.unwrap().len(), 101, "of 250");
    let runs = redis::Cmd::llen(yard.queue.keys().job_key(&id, ":runs"));
    let kept: u64 = runs.query_async(&mut yard.server.connection().await).await.unwrap();
    assert_eq!(kept, 101);
}
