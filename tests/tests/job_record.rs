//! What the record of a job says of its result and its time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use workyard_shared::broker::{JobRetried, JobVerdict};
use workyard_shared::job::{Form, JobState, Part, ResultPlace};
use workyard_tests::Yard;
use workyard_tests::hand::{Hand, job_id, member_of, outcome, spec, submit};

const DONE: fn(&str) -> JobVerdict = |_| JobVerdict::Done;

fn place(job: &str, parts: u64, bytes: u64) -> ResultPlace {
    ResultPlace {
        key: format!("workyard:{{q}}:job:{job}:out"),
        parts,
        bytes,
        spilled: 0,
        spilled_bytes: 0,
    }
}

#[tokio::test]
async fn the_record_of_a_completed_job_says_where_its_result_is() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    for (name, form, chunks, parts, bytes) in [
        ("fold", Form::fold(), 3, 1, "i0,1,2,".len()),
        ("tree", Form::Fold { fan_in: Some(2) }, 3, 1, "i0,1,2,".len()),
        ("keyed", Form::Keyed { partitions: 4 }, 2, 4, 4 * "i0@0,1@0,".len()),
        ("empty", Form::fold(), 0, 1, "inull\n".len()),
        ("no-pairs", Form::keyed(), 0, 0, 0),
    ] {
        let id = job_id(name);
        submit(&yard.producer, &id, &spec(form), chunks).await;
        if chunks > 0 {
            assert_eq!(hand.record(&id).await.result, None, "{name}: nothing is whole yet");
        }
        hand.work_all(&id, DONE).await;
        let record = hand.record(&id).await;
        assert_eq!(record.result, Some(place(name, parts, bytes as u64)), "{name}");
        assert_eq!(record.bytes, bytes as u64, "{name}: only the result is left");
    }
}

#[tokio::test]
async fn parts_of_the_result_that_were_spilled_are_counted_with_their_bytes() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("sp");
    let mut spilling = spec(Form::Keyed { partitions: 2 });
    spilling.spill = Some("file:///spill".to_owned());
    submit(&yard.producer, &id, &spilling, 1).await;
    let spilled = Part::Spilled {
        bytes: 1000,
        path: "sp/out/1-7".to_owned(),
    };
    let mut stored = 0;
    for _ in 0..3 {
        let grant = hand.claim(1).await.remove(0);
        let part = match member_of(&grant) {
            "r:1" => spilled.clone(),
            "r:0" => Part::Inline(Bytes::from_static(b"abc\n")),
            _ => Part::Inline(Bytes::new()),
        };
        if member_of(&grant) != "m:0" {
            stored += part.encode().len() as u64;
        }
        let done = outcome(&grant, JobVerdict::Done, vec![(0, part)]);
        hand.settle(&id, vec![done]).await;
    }
    let found = hand.record(&id).await.result.unwrap();
    assert_eq!(
        found,
        ResultPlace {
            spilled: 1,
            spilled_bytes: 1000,
            ..place("sp", 2, stored)
        }
    );
}

#[tokio::test]
async fn the_run_time_leaves_out_what_lies_between_an_end_and_a_retry() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.consumer).await;
    let id = job_id("rt");
    submit(&yard.producer, &id, &spec(Form::fold()), 4).await;
    let bad = |member: &str| match member {
        "m:1" => JobVerdict::Final,
        _ => JobVerdict::Done,
    };
    hand.work_all(&id, bad).await;
    let failed = hand.record(&id).await;
    assert_eq!((failed.state, failed.starts), (JobState::Failed, 1));
    // As if it had run for five seconds, an hour ago.
    let long_ago = yard.broker.now_ms().await.unwrap() - 3_600_000;
    let mut set = redis::cmd("HSET");
    set.arg(yard.queue.keys().job_key(&id, ""));
    set.arg(&[
        "started",
        &long_ago.to_string(),
        "finished",
        &(long_ago + 5000).to_string(),
    ]);
    set.exec_async(&mut yard.server.connection().await).await.unwrap();
    let failed = hand.record(&id).await;
    assert_eq!(failed.run_time(), Some(Duration::from_secs(5)));

    assert_eq!(yard.operator.job_retry(&id).await.unwrap(), JobRetried::Retrying);
    let running = hand.record(&id).await;
    assert_eq!((running.starts, running.run_time()), (2, None));
    hand.work_all(&id, DONE).await;
    let record = hand.record(&id).await;
    assert_eq!(record.state, JobState::Completed);
    let took = record.run_time().unwrap();
    println!("an hour between two starts, the job ran for {took:?}");
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(60),
        "{took:?}"
    );
    assert!(record.resumed_ms >= long_ago + 3_600_000);
}
