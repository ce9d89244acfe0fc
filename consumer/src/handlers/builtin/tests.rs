//! The builtins, built from a configuration.

use std::time::{Duration, Instant};

use super::super::testing::{ctx, handler, result_of, run, try_handler};
use super::*;
use crate::Next;

fn builtin(function: &str) -> std::sync::Arc<dyn Handler> {
    handler(&format!("type = \"builtin\"\nfunction = \"{function}\""))
}

#[tokio::test]
async fn echo_returns_the_payload_byte_for_byte_and_noop_null() {
    let payload = "{ \"b\": 1e400,\n\"a\": [] }";
    assert_eq!(result_of(&builtin("echo"), payload).await, payload);
    assert_eq!(result_of(&builtin("noop"), payload).await, "null");
}

#[tokio::test]
async fn sleep_takes_its_time_and_ends_when_cancelled() {
    let start = Instant::now();
    assert_eq!(result_of(&builtin("sleep"), r#"{"ms":50}"#).await, "null");
    assert!(start.elapsed() >= Duration::from_millis(50));

    let cancelled = ctx();
    cancelled.cancellation().cancel();
    let failure = run(&builtin("sleep"), cancelled, r#"{"ms":1000000}"#)
        .await
        .unwrap_err();
    assert_eq!(failure.message, "cancelled");

    let short = handler("type = \"builtin\"\nfunction = \"sleep\"\ntimeout = \"50ms\"");
    let failure = run(&short, ctx(), r#"{"ms":1000000}"#).await.unwrap_err();
    assert_eq!(
        (failure.next, failure.message.as_str()),
        (Next::Retry, "timed out after 50ms")
    );
}

#[tokio::test]
async fn fail_fails_as_often_as_asked() {
    let fail = builtin("fail");
    for (attempt, succeeds) in [(1, false), (2, false), (3, true)] {
        let mut ctx = ctx();
        ctx.edit().number = attempt;
        let outcome = run(&fail, ctx, r#"{"times":2}"#).await;
        assert_eq!(outcome.is_ok(), succeeds, "attempt {attempt}");
        assert!(outcome.is_ok() || outcome.unwrap_err().next == Next::Retry);
    }
}

#[tokio::test]
async fn text_functions_read_texts_and_files_below_their_root() {
    let dir = tempfile::tempdir().unwrap();
    let text = "one two\nthree\n".repeat(50_000);
    std::fs::write(dir.path().join("book.txt"), &text).unwrap();
    let root = |function: &str| {
        handler(&format!(
            "type = \"builtin\"\nfunction = \"{function}\"\nroot = {:?}",
            dir.path()
        ))
    };
    assert_eq!(result_of(&root("word-count"), r#"{"path":"book.txt"}"#).await, "150000");
    assert_eq!(result_of(&root("line-count"), r#"{"path":"book.txt"}"#).await, "100000");
    let by_path = result_of(&root("sha256"), r#"{"path":"book.txt"}"#).await;
    assert_eq!(
        by_path,
        result_of(&builtin("sha256"), serde_json::json!({ "text": text }).to_string()).await
    );
    assert_eq!(result_of(&builtin("word-count"), r#"{"text":"a b"}"#).await, "2");
    let failure = run(&root("sha256"), ctx(), r#"{"path":"../../etc/passwd"}"#)
        .await
        .unwrap_err();
    assert_eq!(failure.next, Next::Final);
}

#[test]
fn reading_stops_when_its_attempt_is_over() {
    let stop = CancellationToken::new();
    stop.cancel();
    // Without the look at the token this reads for ever.
    let failure = read(std::io::repeat(b'x'), Fold::new(Function::WordCount).unwrap(), &stop).unwrap_err();
    assert_eq!(failure.message, "cancelled");
}

#[tokio::test]
async fn a_wrong_payload_fails_for_good_and_says_what_is_right() {
    for (function, form) in [
        ("sleep", r#"{"ms": N}"#),
        ("fail", r#"{"times": N}"#),
        ("sha256", r#"{"path": "..."}"#),
    ] {
        let failure = run(&builtin(function), ctx(), r#"{"other":1}"#).await.unwrap_err();
        assert_eq!(failure.next, Next::Final);
        assert!(failure.message.contains(form), "{}", failure.message);
    }
}

#[test]
fn a_root_that_is_no_folder_is_found_out_when_the_handler_is_built() {
    let body = "type = \"builtin\"\nfunction = \"sha256\"\nroot = \"/no/folder\"";
    let error = try_handler(body).err().unwrap().to_string();
    assert_eq!(
        error,
        "handlers.t: root /no/folder is no folder; create it or correct the path"
    );
}
