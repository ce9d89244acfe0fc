//! The promises of `command`, each with real processes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::launch::INHERITED;
use super::super::testing::{ctx, handler, result_of, run, shell, try_handler};
use crate::Next;

#[tokio::test]
async fn a_payload_passes_through_byte_for_byte() {
    let cat = handler("type = \"command\"\nargv = [\"cat\"]");
    let payload = "{ \"n\": 1e400,\r\n\t\"b\": 12345678901234567890123, \"a\":[ ], \"é\": \"\\u00e9\" }";
    assert_eq!(result_of(&cat, payload).await, payload);
}

#[tokio::test]
async fn a_payload_of_the_largest_size_does_not_block_the_pipes() {
    let cat = handler("type = \"command\"\nargv = [\"cat\"]");
    let payload = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    assert_eq!(result_of(&cat, payload.clone()).await, payload);
}

#[tokio::test]
async fn a_program_that_reads_no_input_still_succeeds() {
    let payload = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(result_of(&shell("exit 0", ""), payload).await, "null");
}

#[tokio::test]
async fn shell_metacharacters_in_a_field_stay_one_harmless_argument() {
    let dir = tempfile::tempdir().unwrap();
    let printf = handler(&format!(
        "type = \"command\"\nargv = [\"printf\", \"<%s>\", \"{{payload.to}}\"]\noutput = \"text\"\ncwd = {:?}",
        dir.path()
    ));
    let to = "a b; touch pwned $(touch pwned) `touch pwned` * ' | > pwned";
    let result = result_of(&printf, serde_json::json!({ "to": to }).to_string()).await;
    assert_eq!(result, serde_json::json!(format!("<{to}>")).to_string());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_unfit_field_fails_for_good_with_the_reason() {
    let echo = handler("type = \"command\"\nargv = [\"echo\", \"{payload.to}\"]");
    for payload in [r#"{"to":"-n"}"#, r#"{"to":{}}"#, r#"{"to":"a\u0000"}"#, "{}", "3"] {
        let failure = run(&echo, ctx(), payload).await.unwrap_err();
        assert_eq!(failure.next, Next::Final, "{payload}");
        assert!(failure.message.contains("payload field to"), "{}", failure.message);
    }
    let lenient = handler("type = \"command\"\nallow_dash_args = true\nargv = [\"printf\", \"%s\", \"{payload.to}\"]");
    assert_eq!(result_of(&lenient, r#"{"to":-5}"#).await, "-5");
}

#[tokio::test]
async fn a_field_too_long_for_an_argument_fails_for_good() {
    let echo = handler("type = \"command\"\nargv = [\"echo\", \"{payload.to}\"]");
    let failure = run(&echo, ctx(), format!(r#"{{"to":"{}"}}"#, "x".repeat(900_000)))
        .await
        .unwrap_err();
    assert_eq!(failure.next, Next::Final);
    assert!(failure.message.contains("cannot start"), "{}", failure.message);
}

#[tokio::test]
async fn the_environment_of_the_daemon_does_not_leak() {
    let private = |(name, _): (std::ffi::OsString, _)| !INHERITED.iter().any(|known| name == *known);
    assert!(std::env::vars_os().any(private), "there is something to leak");
    let env = handler("type = \"command\"\nargv = [\"env\"]\noutput = \"text\"\nenv = { EXTRA = \"more\" }");
    let text: String = serde_json::from_str(&result_of(&env, "1").await).unwrap();
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    for name in &names {
        let known = INHERITED.contains(name) || name.starts_with("WORKYARD_") || *name == "EXTRA";
        assert!(known, "{name} leaked");
    }
    assert!(names.contains("PATH") && text.contains("EXTRA=more\n"));
}

#[tokio::test]
async fn a_program_learns_what_it_runs() {
    let show =
        "echo $WORKYARD_ID $WORKYARD_KIND $WORKYARD_QUEUE $WORKYARD_ATTEMPT $WORKYARD_TOKEN [$WORKYARD_DEADLINE]";
    assert_eq!(result_of(&shell(show, ""), "1").await, "\"task-1 t test 1 1 []\"");

    let left: u64 = result_of(&shell("echo $WORKYARD_DEADLINE", "timeout = \"60s\""), "1")
        .await
        .parse()
        .unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");

    let mut earlier = ctx();
    earlier.edit().deadline = Some(Instant::now() + Duration::from_secs(40));
    let handler = shell("echo $WORKYARD_DEADLINE", "timeout = \"60s\"");
    let left: u64 = serde_json::from_slice(&run(&handler, earlier, "1").await.unwrap()).unwrap();
    assert!((30_000..=40_000).contains(&left), "{left}");
}

#[tokio::test]
async fn the_exit_code_decides() {
    let table = [
        ("echo why >&2; exit 3", Next::Retry, "exit code 3: why"),
        ("echo bad >&2; exit 65", Next::Final, "exit code 65: bad"),
        ("exit 78", Next::Final, "exit code 78"),
        ("exit 75", Next::Retry, "exit code 75"),
        (
            "echo busy >&2; echo workyard-retry-after: 30s >&2; exit 75",
            Next::RetryAfter(Duration::from_secs(30)),
            "exit code 75: busy",
        ),
        ("kill -9 $$", Next::Retry, "killed by signal 9"),
    ];
    for (script, next, message) in table {
        let failure = run(&shell(script, ""), ctx(), "1").await.unwrap_err();
        assert_eq!((failure.next, failure.message.as_str()), (next, message), "{script}");
    }
    let own = shell("exit 4", "final_exit_codes = [4]");
    assert_eq!(run(&own, ctx(), "1").await.unwrap_err().next, Next::Final);
}

#[tokio::test]
async fn only_the_end_of_a_long_standard_error_is_kept() {
    let script = "i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done >&2; exit 1";
    let failure = run(&shell(script, ""), ctx(), "1").await.unwrap_err();
    assert!(failure.message.len() <= 4096, "{}", failure.message.len());
    assert!(failure.message.starts_with("exit code 1: ..."), "{}", failure.message);
    assert!(failure.message.ends_with("line 8999"), "{}", failure.message);
}

#[tokio::test]
async fn output_modes_apply() {
    assert_eq!(result_of(&shell("echo '{\"a\" : 1}'", ""), "1").await, "{\"a\" : 1}");
    assert_eq!(result_of(&shell("echo 5", "output = \"text\""), "1").await, "\"5\"");
    assert_eq!(
        result_of(&shell("yes | head -c 3000000", "output = \"none\""), "1").await,
        "null"
    );
    let failure = run(&shell("echo no", "output = \"json\""), ctx(), "1")
        .await
        .unwrap_err();
    assert!(failure.message.contains("not JSON"), "{}", failure.message);
}

#[tokio::test]
async fn endless_output_ends_the_program_and_fails_for_good() {
    let failure = run(&shell("yes", ""), ctx(), "1").await.unwrap_err();
    assert_eq!(failure.next, Next::Final);
    assert!(failure.message.contains("1048576 bytes"), "{}", failure.message);

    let one_too_many = shell("head -c 1048577 /dev/zero | tr '\\0' 1", "");
    assert_eq!(run(&one_too_many, ctx(), "1").await.unwrap_err().next, Next::Final);
    let just_fits = shell("head -c 1048576 /dev/zero | tr '\\0' 1; echo", "");
    assert_eq!(run(&just_fits, ctx(), "1").await.unwrap().len(), 1 << 20);
}

#[test]
fn a_program_that_is_missing_is_found_out_when_the_handler_is_built() {
    let table = [
        (
            "argv = [\"no-such-program-here\"]",
            "no program no-such-program-here in PATH",
        ),
        ("argv = [\"/etc/passwd\"]", "/etc/passwd is no executable file"),
        ("argv = [\"./gone\"]", "/gone is no executable file"),
        ("argv = [\"cat\"]\ncwd = \"/no/folder\"", "cwd /no/folder is no folder"),
    ];
    for (body, expected) in table {
        let error = try_handler(&format!("type = \"command\"\n{body}"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected) && error.starts_with("handlers.t: "), "{error}");
    }
}
