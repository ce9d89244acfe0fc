//! What the tests of all handlers share: a handler from TOML, bounded runs, and looking at
//! processes from outside.
//!
//! Invariant: every wait is bounded and waits for something that happens, never for time to pass.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Built, build};
use crate::config::{self, ConfigError};
use crate::{Context, Handler, Outcome, Stage};

/// Longer than any wait takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

fn try_build(body: &str) -> Result<Built, ConfigError> {
    let text = format!("[[queues]]\nname = \"q\"\n[handlers.t]\n{body}");
    build(&config::parse(&text, Path::new("/test.toml"))?.handlers["t"])
}

/// Builds the function of jobs whose table is `body`.
pub(crate) fn stage(body: &str) -> Arc<dyn Stage> {
    try_build(body).unwrap().stage.unwrap()
}

/// Builds the handler whose table is `body`.
pub(crate) fn try_handler(body: &str) -> Result<Arc<dyn Handler>, ConfigError> {
    Ok(try_build(body)?.handler)
}

/// Builds the handler whose table is `body`.
pub(crate) fn handler(body: &str) -> Arc<dyn Handler> {
    try_handler(body).unwrap()
}

/// A `command` that runs `script` in a shell (that the configuration names as its program).
pub(crate) fn shell(script: &str, more: &str) -> Arc<dyn Handler> {
    handler(&format!(
        "type = \"command\"\nargv = [\"sh\", \"-c\", '''{script}''']\n{more}"
    ))
}

pub(crate) fn ctx() -> Context {
    Context::for_test("t", "task-1")
}

/// Runs one attempt to its end.
pub(crate) async fn run(handler: &Arc<dyn Handler>, ctx: Context, payload: impl Into<Bytes>) -> Outcome {
    tokio::time::timeout(PATIENCE, handler.run(ctx, payload.into()))
        .await
        .expect("the attempt hangs")
}

/// Runs one attempt that succeeds; its result as text.
pub(crate) async fn result_of(handler: &Arc<dyn Handler>, payload: impl Into<Bytes>) -> String {
    String::from_utf8(run(handler, ctx(), payload).await.unwrap().to_vec()).unwrap()
}

/// Polls `check` until it holds.
pub(crate) async fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a whole line in the file at `path`.
pub(crate) async fn line_in(path: &Path) -> String {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    wait_until(&format!("{} has a line", path.display()), || read().ends_with('\n')).await;
    read().trim().to_owned()
}

/// Waits until the process does not run any more; it may be a zombie that is not ours to reap.
pub(crate) async fn stopped(pid: &str) {
    wait_until(&format!("process {pid} is dead"), || {
        matches!(state(pid), None | Some('Z'))
    })
    .await;
}

/// Waits until the process is dead and reaped.
pub(crate) async fn reaped(pid: &str) {
    wait_until(&format!("process {pid} is reaped"), || state(pid).is_none()).await;
}

/// The state letter of a process.
pub(crate) fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
