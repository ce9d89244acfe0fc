//! The Python example is what authors of workers copy, so it must do what it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use serde_json::json;
use workyard_shared::job::{Form, JobSpec};

use super::super::testing::{PATIENCE, handler, stage, state};
use crate::stage::tests::{function, items, job, map, one_partition, spec};
use crate::{Context, Failure, Handler, Next, Outcome, Registry};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/worker.py");

/// A job of the example's functions over two chunks of lines.
async fn count(spec: &JobSpec) -> Result<String, Failure> {
    let worker = stage(&format!("type = \"worker\"\nargv = [\"python3\", {PROGRAM:?}]"));
    let mut registry = Registry::new();
    registry.stage("split-words", Arc::clone(&worker)).unwrap();
    registry.stage("total", Arc::clone(&worker)).unwrap();
    registry.stage("greet", worker).unwrap();
    let chunks = vec![items(&json!(["The cat", "the é"])), items(&json!(["a cat"]))];
    tokio::time::timeout(PATIENCE, job(&registry.stages(&[]), spec, chunks))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_python_example_maps_combines_and_reduces() {
    let mut keyed = spec(one_partition(), r#"split-words {"shortest": 1}"#, "total");
    let counts = "[\"a\",1]\n[\"cat\",2]\n[\"the\",2]\n[\"é\",1]\n";
    // Python writes the é of a key as an escape; it is the same key.
    assert_eq!(count(&keyed).await.unwrap(), counts);
    keyed.combine = Some(function("total"));
    assert_eq!(count(&keyed).await.unwrap(), counts);
    keyed.map = function(r#"split-words {"shortest": 2}"#);
    assert_eq!(count(&keyed).await.unwrap(), "[\"cat\",2]\n[\"the\",2]\n");
    let fold = spec(Form::fold(), "line-count", "total");
    assert_eq!(count(&fold).await.unwrap(), "3\n");
}

#[tokio::test]
async fn a_worker_that_returns_no_array_or_no_pairs_fails_for_good() {
    let worker = stage(&format!("type = \"worker\"\nargv = [\"python3\", {PROGRAM:?}]"));
    let mut registry = Registry::new();
    registry.stage("sum", Arc::clone(&worker)).unwrap();
    registry.stage("total", worker).unwrap();
    let stages = registry.stages(&[]);
    let table = [
        (
            Form::fold(),
            "sum",
            "the worker's result must be an array of what it emits",
        ),
        (
            one_partition(),
            "sum",
            "the worker's result must be an array of what it emits",
        ),
    ];
    for (form, kind, reason) in table {
        let failure = map(&stages, &spec(form, kind, kind), items(&json!([1])))
            .await
            .unwrap_err();
        assert_eq!(failure.next, Next::Final);
        assert!(failure.message.starts_with(reason), "{}", failure.message);
    }
    let spec = spec(Form::fold(), "total", "identity");
    let large = map(&stages, &spec, items(&json!(vec![1; 600_000])));
    assert_eq!(large.await.unwrap(), [(0, "600000\n".to_owned())]);
}

fn example(more: &str) -> Arc<dyn Handler> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/worker.py");
    handler(&format!(
        "type = \"worker\"\nargv = [\"python3\", {program:?}]\nkill_after = \"20s\"\n{more}"
    ))
}

async fn run(worker: &Arc<dyn Handler>, kind: &str, payload: &'static str) -> Outcome {
    let attempt = worker.run(Context::for_test(kind, "id-é"), Bytes::from_static(payload.as_bytes()));
    tokio::time::timeout(PATIENCE, attempt).await.unwrap()
}

#[tokio::test]
async fn the_python_example_maps_kinds_to_functions() {
    let worker = example("");
    let greeting = run(&worker, "greet", "{\n\"name\": \"Zoë\"\n}").await.unwrap();
    let greeting: serde_json::Value = serde_json::from_slice(&greeting).unwrap();
    assert_eq!(greeting, serde_json::json!({"greeting": "Hello, Zoë", "attempt": 1}));
    assert_eq!(run(&worker, "sum", "[1, 2, 3]").await.unwrap(), "6");
}

#[tokio::test]
async fn the_python_example_turns_exceptions_into_failures() {
    let worker = example("");
    let failures = [
        ("sum", "[\"a\"]", Next::Final, "the payload must be a list of numbers"),
        ("dance", "1", Next::Final, "this worker has no function for kind dance"),
        ("greet", "{}", Next::Retry, "KeyError: 'name'"),
        (
            "sum",
            "[1e400]",
            Next::Retry,
            "ValueError: Out of range float values are not JSON compliant",
        ),
    ];
    for (kind, payload, next, message) in failures {
        let failure = run(&worker, kind, payload).await.unwrap_err();
        assert_eq!(failure.next, next, "{kind}");
        assert!(failure.message.starts_with(message), "{}", failure.message);
    }
    assert_eq!(
        run(&worker, "sum", "[1]").await.unwrap(),
        "1",
        "it survived all of them"
    );
}

#[tokio::test]
async fn the_python_example_ends_on_sigterm_and_prints_do_not_break_the_protocol() {
    // Long enough for a busy machine to start Python again.
    let worker = example("timeout = \"4s\"");
    let failure = run(&worker, "pause", r#"{"seconds":1000}"#).await.unwrap_err();
    assert_eq!(failure.message, "timed out after 4s");
    assert_eq!(run(&worker, "pause", r#"{"seconds":0}"#).await.unwrap(), "null");
    assert_eq!(run(&worker, "sum", "[2]").await.unwrap(), "2");
}

#[tokio::test]
async fn the_python_example_ends_when_its_input_does() {
    let dir = tempfile::tempdir().unwrap();
    // A parent that notes the id of the interpreter and then becomes it.
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/worker.py");
    let text = format!("trap '' TERM; echo $$ > pid; exec python3 {program}");
    let worker = handler(&format!(
        "type = \"worker\"\nargv = [\"sh\", \"-c\", '''{text}''']\ncwd = {:?}\nkill_after = \"25s\"",
        dir.path()
    ));
    run(&worker, "sum", "[1]").await.unwrap();
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker.close())
        .await
        .expect("it left before its grace was over");
    assert_eq!(state(pid.trim()), None);
}
