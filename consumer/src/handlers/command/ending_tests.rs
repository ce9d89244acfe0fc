//! However an attempt ends, nothing of it stays: cancellation, timeouts, dropped futures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::testing::{PATIENCE, ctx, line_in, reaped, result_of, run, shell, state, stopped};
use crate::{Context, Handler, Next};

/// A shell with a child in the background; both write their ids.
fn family(dir: &Path, more: &str) -> Arc<dyn Handler> {
    let dir = dir.display();
    shell(
        &format!("sleep 1000 & echo $! > {dir}/child; echo $$ > {dir}/leader; wait"),
        &format!("kill_after = \"20s\"\n{more}"),
    )
}

/// Starts the attempt and returns the ids of leader and child once both run.
async fn started(
    handler: &Arc<dyn Handler>,
    ctx: Context,
    dir: &Path,
) -> (tokio::task::JoinHandle<crate::Outcome>, String, String) {
    let attempt = tokio::spawn(handler.run(ctx, Bytes::from_static(b"1")));
    let (child, leader) = (line_in(&dir.join("child")).await, line_in(&dir.join("leader")).await);
    (attempt, leader, child)
}

#[tokio::test]
async fn dropping_the_future_ends_the_whole_group_and_reaps_it() {
    let dir = tempfile::tempdir().unwrap();
    let (attempt, leader, child) = started(&family(dir.path(), ""), ctx(), dir.path()).await;
    attempt.abort();
    reaped(&leader).await;
    stopped(&child).await;
}

#[tokio::test]
async fn cancellation_ends_the_whole_group_before_the_attempt_returns() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = ctx();
    let (attempt, leader, child) = started(&family(dir.path(), ""), ctx.clone(), dir.path()).await;
    ctx.cancellation().cancel();
    let failure = tokio::time::timeout(PATIENCE, attempt)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(failure.message, "cancelled");
    assert_eq!(state(&leader), None);
    assert!(matches!(state(&child), None | Some('Z')));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group_and_keeps_what_it_said() {
    let own = shell("echo working >&2; sleep 1000; true", "timeout = \"300ms\"");
    let failure = run(&own, ctx(), "1").await.unwrap_err();
    assert_eq!(failure.next, Next::Retry);
    assert!(
        failure.message.starts_with("timed out after 300ms: working"),
        "{}",
        failure.message
    );

    let mut tight = ctx();
    tight.edit().deadline = Some(Instant::now() + Duration::from_millis(300));
    let dir = tempfile::tempdir().unwrap();
    let (attempt, leader, child) = started(&family(dir.path(), ""), tight, dir.path()).await;
    let failure = tokio::time::timeout(PATIENCE, attempt)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(failure.message.starts_with("timed out"), "{}", failure.message);
    assert_eq!(state(&leader), None);
    stopped(&child).await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    let stubborn = shell(
        "trap '' TERM; sleep 1000; sleep 1000",
        "timeout = \"100ms\"\nkill_after = \"200ms\"",
    );
    let start = Instant::now();
    let failure = run(&stubborn, ctx(), "1").await.unwrap_err();
    assert!(failure.message.starts_with("timed out"), "{}", failure.message);
    assert!(start.elapsed() >= Duration::from_millis(300), "the grace was granted");
}

#[tokio::test]
async fn the_grace_is_for_the_whole_group_not_only_for_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    // The leader has no trap and dies at once; its child needs a moment and writes to stdout.
    let script = format!(
        "(trap 'sleep 0.2; echo bye; echo yes > {path}/cleaned; exit' TERM; echo $$ > {path}/ready; \
         while :; do sleep 0.01; done) & wait"
    );
    let handler = shell(&script, "kill_after = \"20s\"");
    let ctx = ctx();
    let attempt = tokio::spawn(handler.run(ctx.clone(), Bytes::from_static(b"1")));
    line_in(&dir.path().join("ready")).await;
    ctx.cancellation().cancel();
    assert!(tokio::time::timeout(PATIENCE, attempt).await.unwrap().unwrap().is_err());
    assert_eq!(std::fs::read_to_string(dir.path().join("cleaned")).unwrap(), "yes\n");
}

#[tokio::test]
async fn what_a_finished_program_leaves_in_its_group_is_killed() {
    let pid = result_of(&shell("sleep 1000 & echo $!", ""), "1").await;
    stopped(&pid).await;
}

#[tokio::test]
async fn a_process_that_left_the_group_and_holds_the_pipe_does_not_hold_up_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let script =
        format!("setsid sh -c 'echo > {out}; exec sleep 1000' & while [ ! -s {out} ]; do sleep 0.01; done; echo $!");
    let pid = result_of(&shell(&script.replace('\'', "\""), ""), "1").await;
    assert!(state(&pid).is_some(), "it escaped: that is what this is about");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn a_runtime_that_goes_down_takes_the_group_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handler = family(dir.path(), "");
    let (_attempt, leader, child) = runtime.block_on(started(&handler, ctx(), dir.path()));
    runtime.shutdown_timeout(PATIENCE);
    let watch = tokio::runtime::Runtime::new().unwrap();
    watch.block_on(async {
        stopped(&leader).await;
        stopped(&child).await;
    });
}
