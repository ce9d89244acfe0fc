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
