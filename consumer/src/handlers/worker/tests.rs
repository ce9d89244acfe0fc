//! The promises of `worker`, with real processes: shells whose answers are written in advance,
//! and the Python example.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::testing::{PATIENCE, ctx, handler, line_in, reaped, result_of, run, state, wait_until};
use crate::{Handler, Next, Outcome};

/// A worker that is a shell script; it runs in `dir`.
fn script(dir: &Path, script: &str, more: &str) -> Arc<dyn Handler> {
    handler(&format!(
        "type = \"worker\"\nargv = [\"sh\", \"-c\", '''{script}''']\ncwd = {dir:?}\nkill_after = \"20s\"\n{more}"
    ))
}

/// The answer to the task that [`ctx`] makes, as a shell command.
const ANSWER: &str = r#"echo "{\"type\":\"result\",\"id\":\"task-1\",\"token\":\"1\",\"result\":$$}""#;

/// Answers each task with the id of the process; notes each start.
fn pids(dir: &Path, more: &str) -> Arc<dyn Handler> {
    script(
        dir,
        &format!("echo $$ >> starts; while read -r line; do {ANSWER}; done"),
        more,
    )
}

fn starts(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn failure_of(handler: &Arc<dyn Handler>) -> crate::Failure {
    run(handler, ctx(), "1").await.unwrap_err()
}

fn begin(handler: &Arc<dyn Handler>, ctx: crate::Context) -> tokio::task::JoinHandle<Outcome> {
    tokio::spawn(handler.run(ctx, Bytes::from_static(b"1")))
}

#[tokio::test]
async fn a_payload_with_line_breaks_arrives_as_one_line_and_a_result_returns_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let result = r#"{ "b": 1e400, "a" : [ ],"é":"\u00e9" }"#;
    let script_text = format!(
        "while read -r line; do printf '%s\\n' \"$line\" > got; \
         printf '%s\\n' '{{\"type\":\"result\",\"id\":\"task-1\",\"token\":\"1\",\"result\":{result}}}'; done"
    );
    std::fs::write(dir.path().join("worker.sh"), script_text).unwrap();
    let worker = handler(&format!(
        "type = \"worker\"\nargv = [\"sh\", \"worker.sh\"]\ncwd = {:?}",
        dir.path()
    ));
    assert_eq!(result_of(&worker, "{\n  \"n\": 1e400\r\n}").await, result);
    let got = std::fs::read_to_string(dir.path().join("got")).unwrap();
    assert!(got.ends_with("\"payload\":{   \"n\": 1e400  }}\n"), "{got}");
}

#[tokio::test]
async fn nothing_starts_before_the_first_task_and_one_process_serves_a_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let worker = pids(dir.path(), "processes = 4");
    assert!(starts(dir.path()).is_empty());
    let first = result_of(&worker, "1").await;
    for _ in 0..20 {
        assert_eq!(result_of(&worker, "1").await, first);
    }
    assert_eq!(starts(dir.path()), [first]);
}

#[tokio::test]
async fn the_pool_has_as_many_processes_as_configured_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    // Each task waits until the test lets all of them go.
    let gate =
        format!("echo $$ >> starts; while read -r line; do while [ ! -e go ]; do sleep 0.01; done; {ANSWER}; done");
    let worker = script(dir.path(), &gate, "processes = 2");
    let tasks: Vec<_> = (0..6).map(|_| begin(&worker, ctx())).collect();
    wait_until("two processes run", || starts(dir.path()).len() == 2).await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    let mut used = std::collections::BTreeSet::new();
    for task in tasks {
        used.insert(tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap());
    }
    assert_eq!(starts(dir.path()).len(), 2);
    assert_eq!(used.len(), 2, "both worked");
}

#[tokio::test]
async fn a_worker_that_dies_with_a_task_fails_it_with_the_reason_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let fatal = format!(
        "echo $$ >> starts; read -r line; if [ ! -e died ]; then touch died; echo boom >&2; exit 7; fi; {ANSWER}; read -r line"
    );
    let worker = script(dir.path(), &fatal, "");
    let failure = failure_of(&worker).await;
    assert_eq!(
        (failure.next, failure.message.as_str()),
        (Next::Retry, "the worker exited (exit code 7): boom")
    );
    let second = result_of(&worker, "1").await;
    let started = starts(dir.path());
    assert_eq!((started.len(), &started[1]), (2, &second));
    reaped(&started[0]).await;
}

#[tokio::test]
async fn whatever_is_no_answer_to_its_task_ends_the_process() {
    let answer =
        |id: &str, token: &str| format!(r#"echo '{{"type":"result","id":"{id}","token":"{token}","result":1}}'"#);
    let table = [
        ("echo not json".to_owned(), "wrote a line that is no message"),
        (
            answer("task-2", "1"),
            "answered for task task-2 with token 1, but its task was task-1",
        ),
        (
            answer("task-1", "0"),
            "answered for task task-1 with token 0, but its task was task-1",
        ),
        (
            "head -c 2000000 /dev/zero".to_owned(),
            "wrote a line longer than 1114112 bytes",
        ),
        ("exec >&-".to_owned(), "closed its standard output"),
        ("exit 0".to_owned(), "exited (exit code 0)"),
        ("kill -9 $$".to_owned(), "exited (killed by signal 9)"),
    ];
    for (command, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("echo $$ >> starts; read -r line; {command}; sleep 1000");
        let worker = script(dir.path(), &text, "");
        let failure = failure_of(&worker).await;
        assert_eq!(failure.next, Next::Retry);
        assert!(failure.message.contains(expected), "{command}: {}", failure.message);
        assert_eq!(
            state(&starts(dir.path())[0]),
            None,
            "{command}: it is gone when the attempt is over"
        );
    }
}

#[tokio::test]
async fn a_program_that_always_dies_is_not_restarted_without_pause() {
    let dir = tempfile::tempdir().unwrap();
    let worker = script(dir.path(), "exit 1", "");
    let start = Instant::now();
    for _ in 0..4 {
        assert!(failure_of(&worker).await.message.contains("exit code 1"));
    }
    // 100 + 200 + 400 ms between four starts.
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
}

#[tokio::test]
async fn errors_of_a_worker_become_failures_and_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let error = |fields: &str| {
        format!(r#"read -r line; echo '{{"type":"error","id":"task-1","token":"1","error":"no"{fields}}}'; "#)
    };
    let text = format!(
        "echo $$ >> starts; {}{}{}read -r line; {ANSWER}; read -r line",
        error(""),
        error(r#","retry":false"#),
        error(r#","retry_after_ms":1500"#),
    );
    let worker = script(dir.path(), &text, "");
    for next in [Next::Retry, Next::Final, Next::RetryAfter(Duration::from_millis(1500))] {
        let failure = failure_of(&worker).await;
        assert_eq!((failure.next, failure.message.as_str()), (next, "no"));
    }
    assert_eq!(result_of(&worker, "1").await, starts(dir.path())[0]);
}

#[tokio::test]
async fn a_process_that_leaves_while_idle_fails_no_task() {
    let dir = tempfile::tempdir().unwrap();
    let once = script(dir.path(), &format!("echo $$ >> starts; read -r line; {ANSWER}"), "");
    for _ in 0..10 {
        let pid = result_of(&once, "1").await;
        reaped(&pid).await;
    }
}

#[tokio::test]
async fn a_process_that_announces_its_last_answer_gets_no_other_task() {
    let dir = tempfile::tempdir().unwrap();
    let last = ANSWER.replace(":$$}", r#":$$,\"last\":true}"#);
    let once = script(
        dir.path(),
        &format!("echo $$ >> starts; read -r line; {last}; sleep 0.05"),
        "",
    );
    for _ in 0..10 {
        result_of(&once, "1").await;
    }
    let started = starts(dir.path());
    assert_eq!(started.len(), 10);
    assert!(
        started.iter().all(|pid| state(pid).is_none()),
        "each is gone when its task is over"
    );
}

/// A worker that never answers; its child notes its id.
fn hanging(dir: &Path, more: &str) -> Arc<dyn Handler> {
    script(
        dir,
        &format!(
            "echo $$ >> starts; while read -r line; do if [ -e ok ]; then {ANSWER}; else sleep 1000 & echo $! > child; wait; fi; done"
        ),
        more,
    )
}

async fn is_replaced(worker: &Arc<dyn Handler>, dir: &Path) {
    let started = starts(dir);
    reaped(&started[0]).await;
    super::super::testing::stopped(&line_in(&dir.join("child")).await).await;
    std::fs::write(dir.join("ok"), "").unwrap();
    assert_ne!(result_of(worker, "1").await, started[0]);
}

#[tokio::test]
async fn a_dropped_future_ends_its_process_group_and_the_next_task_gets_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let worker = hanging(dir.path(), "");
    let task = begin(&worker, ctx());
    line_in(&dir.path().join("child")).await;
    task.abort();
    is_replaced(&worker, dir.path()).await;
}

#[tokio::test]
async fn cancellation_ends_the_process_before_the_attempt_returns() {
    let dir = tempfile::tempdir().unwrap();
    let worker = hanging(dir.path(), "");
    let ctx = ctx();
    let task = begin(&worker, ctx.clone());
    line_in(&dir.path().join("child")).await;
    ctx.cancellation().cancel();
    let failure = tokio::time::timeout(PATIENCE, task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(failure.message, "cancelled");
    assert_eq!(state(&starts(dir.path())[0]), None);
    is_replaced(&worker, dir.path()).await;
}

#[tokio::test]
async fn a_timeout_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let worker = hanging(dir.path(), "timeout = \"1s\"");
    let failure = failure_of(&worker).await;
    assert_eq!(
        (failure.next, failure.message.as_str()),
        (Next::Retry, "timed out after 1s")
    );
    is_replaced(&worker, dir.path()).await;
}

#[tokio::test]
async fn closing_lets_an_idle_worker_finish_and_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "trap 'echo term > how' TERM; echo $$ >> starts; while read -r line; do {ANSWER}; done; echo eof > how"
    );
    let worker = script(dir.path(), &text, "processes = 2");
    result_of(&worker, "1").await;
    tokio::time::timeout(PATIENCE, worker.close()).await.unwrap();
    assert_eq!(state(&starts(dir.path())[0]), None);
    assert_eq!(line_in(&dir.path().join("how")).await, "eof");
    assert!(failure_of(&worker).await.message.contains("shuts down"));
}

#[tokio::test]
async fn closing_waits_for_a_worker_that_closes_its_output_before_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "trap 'echo term > how; exit' TERM; while read -r line; do {ANSWER}; done; exec >&-; \
         for n in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; done; echo left > how"
    );
    let worker = script(dir.path(), &text, "");
    result_of(&worker, "1").await;
    tokio::time::timeout(PATIENCE, worker.close()).await.unwrap();
    assert_eq!(line_in(&dir.path().join("how")).await, "left");
}

#[tokio::test]
async fn closing_ends_a_worker_that_ignores_everything_with_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("trap '' TERM; echo $$ >> starts; read -r line; {ANSWER}; while :; do sleep 1; done");
    let worker = handler(&format!(
        "type = \"worker\"\nargv = [\"sh\", \"-c\", '''{text}''']\ncwd = {:?}\nkill_after = \"200ms\"",
        dir.path()
    ));
    result_of(&worker, "1").await;
    tokio::time::timeout(PATIENCE, worker.close()).await.unwrap();
    assert_eq!(state(&starts(dir.path())[0]), None);
}

#[tokio::test]
async fn closing_fails_a_running_task_with_retry() {
    let dir = tempfile::tempdir().unwrap();
    let worker = hanging(dir.path(), "");
    let task = begin(&worker, ctx());
    line_in(&dir.path().join("child")).await;
    tokio::time::timeout(PATIENCE, worker.close()).await.unwrap();
    let failure = tokio::time::timeout(PATIENCE, task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (failure.next, failure.message.as_str()),
        (Next::Retry, "the daemon shuts down")
    );
    assert_eq!(state(&starts(dir.path())[0]), None);
}

#[tokio::test]
async fn a_pool_that_is_dropped_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let worker = pids(dir.path(), "");
    let pid = result_of(&worker, "1").await;
    drop(worker);
    reaped(&pid).await;
}
