//! What is said of a task that was pushed raw and that no consumer has taken in.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::process::Stdio;

use support::{Hands, Ran, Server};
use workyard_producer::{Kind, NewTask, TaskId};
use workyard_shared::broker::Verdict;

const RAW: &str = r#"{"kind":"k","id":"i1","payload":1}"#;

async fn push(server: &Server, raw: &str) {
    let mut cmd = redis::cmd("RPUSH");
    cmd.arg("workyard:{default}:inbox").arg(raw);
    cmd.exec_async(&mut server.redis().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_inbox_is_said_to_be_there_and_can_be_waited_for() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    push(&server, "junk").await;
    push(&server, RAW).await;
    let there = "task i1 is no task yet: it is still in the inbox of queue default behind 1 others";
    let ran = server.run(&["task", "i1"]).fails(1, there);
    assert!(ran.err.contains("`workyard explain i1`"), "{ran:?}");
    for (command, answer) in [
        ("cancel", "still in the inbox: not cancelled"),
        ("delete", "still in the inbox: not deleted"),
    ] {
        let ran = server.run(&[command, "i1"]).fails(1, "takes it in");
        assert_eq!(ran.out, format!("i1  {answer}\n"));
        let ran = server.run(&[command, "i1", "--json"]).fails(1, "");
        assert_eq!(ran.json()[0]["answer"], answer);
    }
    server.run(&["cancel", "i2"]).fails(1, "looked in queue default");
    server
        .run(&["wait", "i1", "--timeout", "300ms"])
        .fails(3, "still in the inbox");
    server.run(&["wait", "i2", "--timeout", "300ms"]).fails(1, "no task i2");

    let mut command = server.workyard(&["wait", "i1"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut waiting = command.spawn().unwrap();
    // Long enough for some looks; were it over by then, it would have failed.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert!(
        waiting.try_wait().unwrap().is_none(),
        "{:?}",
        Ran::of(waiting.wait_with_output().unwrap())
    );
    let inbox = hands.queue.keys().inbox();
    let seen = hands.queue.peek(&inbox, 10, 1000).await.unwrap();
    let mut task = NewTask::new(Kind::new("k").unwrap(), "1").unwrap();
    task.id = Some(TaskId::new("i1").unwrap());
    let verdicts = [Verdict::Reject("{}".to_owned()), Verdict::Accept(Box::new(task))];
    let judged: Vec<_> = seen.into_iter().zip(verdicts).collect();
    hands.queue.ingest(&inbox, &judged).await.unwrap();
    let grant = hands.next().await;
    hands.complete(&grant, "7").await;
    assert_eq!(Ran::of(waiting.wait_with_output().unwrap()).ok().out, "7\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_inbox_can_be_purged_while_somebody_takes_it_in() {
    let server = Server::start(&[]).await;
    let queue = server.queue("default");
    let inbox = queue.keys().inbox();
    for raw in ["first", "junk", RAW, "last"] {
        push(&server, raw).await;
    }
    // An ingester has moved one, and looked at the others.
    let mut moves = redis::cmd("LMOVE");
    moves.arg(&inbox).arg(queue.keys().ingesting()).arg("LEFT").arg("RIGHT");
    moves.exec_async(&mut server.redis().await).await.unwrap();
    let verdicts = ["junk", "i1", "last"].map(|why| Verdict::Reject(format!("{{\"reason\":\"{why}\"}}")));
    let judged: Vec<_> = queue
        .peek(&inbox, 10, 1000)
        .await
        .unwrap()
        .into_iter()
        .zip(verdicts)
        .collect();
    let first = queue.ingest(&inbox, &judged[..1]).await.unwrap();
    assert_eq!(first.moved, 1);

    let said = "purge would remove 3 items of the inbox of queue default for good";
    server.run(&["purge", "inbox"]).fails(2, said);
    assert_eq!(queue.inbox_len().await.unwrap(), 3);
    let ran = server.run(&["purge", "inbox", "--yes"]).ok();
    assert_eq!(ran.out, "3 items removed\n");
    push(&server, "new").await;
    // What it looked at is gone: it moves nothing, least of all what has come since.
    let late = queue.ingest(&inbox, &judged[1..]).await.unwrap();
    assert_eq!((late.moved, queue.inbox_len().await.unwrap()), (0, 1));
    let totals = queue.overview().await.unwrap().totals;
    let counted = ["rejected", "deleted", "purged", "submitted"].map(|name| totals.get(name).copied().unwrap_or(0));
    assert_eq!(
        counted,
        [1, 3, 0, 0],
        "what never was a task is not counted as one that went"
    );
    let act = &server.run(&["audit", "-q", "default", "--json"]).ok().json()[0];
    assert_eq!((&act["count"], &act["detail"]), (&3.into(), &"inbox".into()), "{act}");
    let ran = server.run(&["purge", "inbox", "--yes", "--json"]).ok();
    assert_eq!(ran.json()["removed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_lies_behind_the_items_that_are_looked_at_nobody_says_that_it_was_never_there() {
    let server = Server::start(&[]).await;
    let mut junk = redis::cmd("RPUSH");
    junk.arg("workyard:{default}:inbox").arg(vec!["junk"; 1001]);
    junk.exec_async(&mut server.redis().await).await.unwrap();
    push(&server, RAW).await;
    for command in ["explain", "task", "wait"] {
        let ran = server.run(&[command, "i1"]).fails(
            1,
            "no task i1 in queue default, unless it is among the 2 items of the inbox that were not looked at",
        );
        assert!(!ran.err.contains("never enqueued"), "{ran:?}");
    }
    let mut trim = redis::cmd("LTRIM");
    trim.arg("workyard:{default}:inbox").arg(2).arg(-1);
    trim.exec_async(&mut server.redis().await).await.unwrap();
    let ran = server.run(&["explain", "i1"]).ok();
    assert!(ran.out.contains("behind 999 others"), "{ran:?}");
    server.run(&["explain", "i2"]).fails(1, "never enqueued there");
}
