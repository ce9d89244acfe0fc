//! Real programs as functions of jobs.

use serde_json::{Value, json};
use workyard_shared::job::Form;

use super::super::testing::stage;
use crate::stage::tests::{job, one_partition, spec};
use crate::{Failure, Next, Registry};

/// Registers shell commands, each `name`, script and more TOML.
fn commands(table: &[(&str, &str, &str)]) -> Registry {
    let mut registry = Registry::new();
    for (name, script, more) in table {
        let body = format!("type = \"command\"\nargv = [\"sh\", \"-c\", '''{script}''']\n{more}");
        registry.stage(name, stage(&body)).unwrap();
    }
    registry
}

const TEXT: &str = "records = \"text\"";

/// A job over one file of text.
async fn over_text(registry: &Registry, form: Form, map: &str, reduce: &str, text: &str) -> Result<String, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let chunk = crate::stage::tests::chunk_of(&dir.path().join("f"), "lines", text.as_bytes());
    let stages = crate::stage::tests::below(registry, dir.path());
    job(&stages, &spec(form, map, reduce), vec![chunk.clone(), chunk]).await
}

#[tokio::test]
async fn wc_tr_and_awk_are_mappers_and_awk_a_reducer() {
    let registry = commands(&[
        ("lines", "wc -l", TEXT),
        ("upper", "tr a-z A-Z", TEXT),
        (
            "pairs",
            "tr -s \"[:space:]\" \"\\n\" | awk \"{print \\$0 \\\"\\t\\\" 1}\"",
            TEXT,
        ),
        ("add", "awk \"{s+=\\$1} END {print s}\"", TEXT),
    ]);
    let text = "one two\nthree\n\nfour";
    let lines = over_text(&registry, Form::fold(), "lines", "add", text).await.unwrap();
    assert_eq!(lines, "8\n");
    let upper = over_text(&registry, Form::fold(), "upper", "identity", "a \"b\"\n\nnull\n")
        .await
        .unwrap();
    assert_eq!(upper, "\"A \\\"B\\\"\"\n\"\"\n\"NULL\"\n".repeat(2));
    let words = over_text(&registry, one_partition(), "pairs", "sum", "b a\nb\n")
        .await
        .unwrap();
    assert_eq!(words, "[\"a\",2]\n[\"b\",4]\n");
}

#[tokio::test]
async fn json_is_the_default_and_a_keyed_reduce_gets_its_keys_with_all_values() {
    let registry = commands(&[("show", "cat", ""), ("groups", "sed \"s/,\\[/,[0,/\"", "")]);
    let text = over_text(&registry, Form::fold(), "show", "show", "a \"b\"\n")
        .await
        .unwrap();
    assert_eq!(text, "\"a \\\"b\\\"\"\n".repeat(2));
    let grouped = over_text(&registry, one_partition(), "word-count", "groups", "b a\nb\n")
        .await
        .unwrap();
    assert_eq!(grouped, "[\"a\",[0,1,1]]\n[\"b\",[0,2,2]]\n");
}

#[tokio::test]
async fn a_program_learns_its_part_and_gets_its_arguments() {
    let show = "cat > /dev/null; echo \"$WORKYARD_ARGS\"; echo $WORKYARD_STAGE $WORKYARD_FORM $WORKYARD_KIND";
    let mut registry = commands(&[("show", show, "")]);
    let argument = "type = \"command\"\nargv = [\"grep\", \"-c\", \"{payload.word}\"]\nrecords = \"text\"";
    registry.stage("find", stage(argument)).unwrap();
    let shown = over_text(&registry, Form::fold(), "show {\"a\": \"b\"}", "identity", "x\n")
        .await
        .unwrap();
    assert_eq!(shown, "{\"a\": \"b\"}\n\"map fold show\"\n".repeat(2));
    let found = over_text(&registry, Form::fold(), r#"find {"word":"x"}"#, "sum", "x\ny\nx\n")
        .await
        .unwrap();
    assert_eq!(found, "4\n");
    let failure = over_text(&registry, Form::fold(), "find", "sum", "x\n")
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::fatal("argument word is missing"));
}

#[tokio::test]
async fn malformed_lines_fail_for_good_and_are_named() {
    let table = [
        (
            "cat >/dev/null; echo 1; echo two",
            "output = \"json\"",
            Form::fold(),
            "line 2 of standard output is not JSON",
        ),
        (
            "printf \"a\\t1\\nb 2\\n\"",
            TEXT,
            one_partition(),
            "line 2 of standard output is no pair: neither",
        ),
        ("echo word", "", one_partition(), "line 1 of standard output is no pair"),
        (
            "printf \"a\\t1\\n\"",
            "",
            one_partition(),
            "line 1 of standard output is no pair",
        ),
        (
            "echo [1]",
            "",
            one_partition(),
            "line 1 of the output of bad is no pair",
        ),
    ];
    for (script, more, form, reason) in table {
        let registry = commands(&[("bad", script, more)]);
        let failure = over_text(&registry, form, "bad", "identity", "x\n").await.unwrap_err();
        assert_eq!(failure.next, Next::Final, "{script}");
        assert!(failure.message.starts_with(reason), "{script}: {}", failure.message);
    }
    let registry = commands(&[("no", "echo why >&2; exit 3", "")]);
    let failure = over_text(&registry, Form::fold(), "no", "identity", "x\n")
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::retry("exit code 3: why"));
}

#[tokio::test]
async fn tabs_make_pairs_of_json_or_text_and_json_pairs_stay() {
    let script = r#"printf "k\t1\nk\ttwo words\nk\t\n[\"j\", {\"a\":1}]\nt\ta\tb\n""#;
    let registry = commands(&[("pairs", script, TEXT)]);
    let pairs = over_text(&registry, one_partition(), "pairs", "identity", "")
        .await
        .unwrap();
    let rows: Vec<Value> = pairs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        rows,
        [
            json!(["j", [{"a": 1}, {"a": 1}]]),
            json!(["k", [1, "two words", "", 1, "two words", ""]]),
            json!(["t", ["a\tb", "a\tb"]]),
        ]
    );
}

#[tokio::test]
async fn large_input_and_output_pass_through_a_program() {
    let registry = commands(&[("cat", "cat", TEXT)]);
    let text = "some words on a line\n".repeat(200_000);
    let counted = over_text(&registry, Form::fold(), "cat", "identity", &text)
        .await
        .unwrap();
    assert_eq!(counted.lines().count(), 400_000);
}

#[tokio::test]
async fn csv_as_text_begins_with_its_header() {
    let dir = tempfile::tempdir().unwrap();
    let lines = crate::stage::tests::chunk_of(&dir.path().join("f"), "lines", b"1,2\n3,4\n");
    let slices = serde_json::to_value(&lines).unwrap()["lines"].clone();
    let chunk = serde_json::from_value(json!({"csv": {"header": "a,b", "slices": slices}})).unwrap();
    let registry = commands(&[("cat", "cat", TEXT)]);
    let stages = crate::stage::tests::below(&registry, dir.path());
    let out = job(&stages, &spec(Form::fold(), "cat", "identity"), vec![chunk])
        .await
        .unwrap();
    assert_eq!(out, "\"a,b\"\n\"1,2\"\n\"3,4\"\n");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended() {
    let registry = commands(&[("slow", "echo began >&2; sleep 1000", "timeout = \"200ms\"")]);
    let failure = over_text(&registry, Form::fold(), "slow", "identity", "x\n")
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::retry("timed out after 200ms: began"));
}
