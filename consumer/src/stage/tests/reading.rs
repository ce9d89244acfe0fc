//! Chunks of files: what is read, and what is refused.

use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::json;
use workyard_shared::job::Form;

use super::*;
use crate::Next;
use crate::stage::Places;

/// Writes a file, and describes all of it as a chunk.
pub(crate) fn chunk_of(path: &Path, form: &str, bytes: &[u8]) -> Chunk {
    std::fs::write(path, bytes).unwrap();
    serde_json::from_value(json!({ form: [slice(path, 0, bytes.len())] })).unwrap()
}

fn slice(path: &Path, start: usize, end: usize) -> Value {
    let now = std::fs::metadata(path).unwrap();
    let version = i128::from(now.mtime()) * 1_000_000_000 + i128::from(now.mtime_nsec());
    json!({
        "url": format!("file://{}", path.display()),
        "start": start, "end": end, "size": now.len(), "version": version.to_string(),
    })
}

async fn identity(folder: &Path, chunk: Chunk) -> Result<String, Failure> {
    let stages = below(&Registry::new(), folder);
    map_fold(&stages, &spec(Form::fold(), "identity", "identity"), chunk).await
}

#[tokio::test]
async fn every_kind_of_chunk_gives_its_items() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let table: [(&str, &[u8], &str); 4] = [
        (
            "lines",
            b"a \"b\"\r\n\nlast\xff",
            "\"a \\\"b\\\"\"\n\"\"\n\"last\u{fffd}\"\n",
        ),
        ("json-lines", b"{\"n\": 1e400}\r\n\n \n[1]", "{\"n\": 1e400}\n[1]\n"),
        ("lines", b"", ""),
        ("json-lines", b"\n", ""),
    ];
    for (form, bytes, expected) in table {
        let chunk = chunk_of(&path, form, bytes);
        assert_eq!(identity(dir.path(), chunk).await.unwrap(), expected, "{form}");
    }
    let files = identity(dir.path(), chunk_of(&path, "files", b"one\ntwo"))
        .await
        .unwrap();
    let file: Value = serde_json::from_str(&files).unwrap();
    assert_eq!(file, json!({"path": path.to_str().unwrap(), "text": "one\ntwo"}));
    let stages = below(&Registry::new(), dir.path());
    let count = spec(Form::fold(), "line-count", "identity");
    let file = chunk_of(&path, "files", b"one\ntwo");
    assert_eq!(map_fold(&stages, &count, file).await.unwrap(), "2\n");
    let spread: Chunk = serde_json::from_str("{\"items\":[{\n\"a\":\r\n1e400},\"x\\ny\"]}").unwrap();
    assert_eq!(
        identity(dir.path(), spread).await.unwrap(),
        "{ \"a\":  1e400}\n\"x\\ny\"\n"
    );
}

#[tokio::test]
async fn slices_of_many_files_come_in_their_order_each_ended_by_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    std::fs::write(&a, "skipped\nfirst\nsecond\nskipped\n").unwrap();
    std::fs::write(&b, "third").unwrap();
    let chunk = serde_json::from_value(json!({"lines": [slice(&a, 8, 21), slice(&b, 0, 5), slice(&a, 8, 14)]}));
    let lines = identity(dir.path(), chunk.unwrap()).await.unwrap();
    assert_eq!(lines, "\"first\"\n\"second\"\n\"third\"\n\"first\"\n");
}

#[tokio::test]
async fn csv_records_are_objects_also_with_line_breaks_in_quotes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let text = "name,\"the \"\"note\"\"\"\r\nann,\"two\r\nlines, \"\"quoted\"\"\"\r\nbob,\n";
    std::fs::write(&path, text).unwrap();
    let csv = |end| -> Chunk {
        let header = "name,\"the \"\"note\"\"\"";
        serde_json::from_value(json!({"csv": {"header": header, "slices": [slice(&path, 21, end)]}})).unwrap()
    };
    assert_eq!(
        identity(dir.path(), csv(text.len())).await.unwrap(),
        concat!(
            r#"{"name":"ann","the \"note\"":"two\r\nlines, \"quoted\""}"#,
            "\n",
            r#"{"name":"bob","the \"note\"":""}"#,
            "\n"
        )
    );
    let failure = identity(dir.path(), csv(24)).await.unwrap_err();
    assert_eq!(
        failure,
        Failure::fatal(format!(
            "record 1 of the chunk has 1 fields, its header 2 ({}, byte 21)",
            path.display()
        ))
    );
    let other: Chunk = serde_json::from_value(json!({"csv": {
        "header": "a;b", "delimiter": ";", "slices": []}}))
    .unwrap();
    assert_eq!(identity(dir.path(), other).await.unwrap(), "");
}

#[tokio::test]
async fn a_failure_names_the_file_and_the_place_of_the_item() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    std::fs::write(&a, "1\n2\n3\n4").unwrap();
    std::fs::write(&b, "5\n\nno\n").unwrap();
    let stages = below(&Registry::new(), dir.path());
    let sum = spec(Form::fold(), "sum", "sum");
    for (form, from, reason) in [
        ("lines", 2, format!("item 5 is no number:  ({}, line 2)", b.display())),
        (
            "json-lines",
            2,
            format!("line 6 of the chunk is not JSON ({}, line 3)", b.display()),
        ),
    ] {
        let chunk = json!({form: [slice(&a, from, 7), slice(&b, 0, 6)]});
        let failure = map(&stages, &sum, serde_json::from_value(chunk).unwrap())
            .await
            .unwrap_err();
        assert_eq!(failure.message, reason);
    }
    let chunk = json!({"lines": [slice(&a, 2, 7), slice(&b, 3, 6)]});
    let failure = map(&stages, &sum, serde_json::from_value(chunk).unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        failure.message,
        format!("item 4 is no number: no ({}, byte 3)", b.display())
    );
    let failure = map(&stages, &sum, chunk_of(&b, "files", b"x")).await.unwrap_err();
    assert!(
        failure.message.ends_with(&format!("({})", b.display())),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_file_that_changed_fails_for_good_and_a_missing_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let stale = chunk_of(&path, "lines", b"one\n");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let touched = chunk_of(&path, "lines", b"one\ntwo\n");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    for chunk in [stale, touched.clone()] {
        let failure = identity(dir.path(), chunk).await.unwrap_err();
        assert_eq!(failure.next, Next::Final);
        assert!(
            failure.message.ends_with("f has changed under the job"),
            "{}",
            failure.message
        );
    }
    std::fs::remove_file(&path).unwrap();
    let failure = identity(dir.path(), touched).await.unwrap_err();
    assert_eq!(failure.next, Next::Retry);
    assert!(failure.message.starts_with("cannot open "), "{}", failure.message);
}

#[tokio::test]
async fn nothing_outside_of_the_configured_places_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let secret = dir.path().join("secret");
    let mut chunks = vec![chunk_of(&secret, "lines", b"secret\n")];
    symlink("../secret", root.join("link")).unwrap();
    symlink("..", root.join("folder")).unwrap();
    for way in ["root/link", "root/../secret", "root/folder/secret", "rooted"] {
        let url = format!("file://{}/{way}", dir.path().display());
        let mut chunk = serde_json::to_value(&chunks[0]).unwrap();
        chunk["lines"][0]["url"] = url.into();
        chunks.push(serde_json::from_value(chunk).unwrap());
    }
    for chunk in chunks {
        let failure = identity(&root, chunk).await.unwrap_err();
        assert_eq!(
            failure.next,
            Next::Elsewhere,
            "another consumer's configuration may list it"
        );
        assert!(
            failure.message.contains("is not below the places"),
            "{}",
            failure.message
        );
    }
}

#[tokio::test]
async fn objects_are_refused_outside_of_their_prefixes_and_without_a_store() {
    // Without a store by hand: a real one would look for credentials on the network.
    let places = Places::new(&[Place::Store("s3://data/in".into())], None);
    let stages = Stages::new(std::collections::HashMap::new(), places);
    let spec = spec(Form::fold(), "identity", "identity");
    for (url, reason) in [
        ("s3://data/in/a", "without object stores"),
        ("s3://data/inner/a", "is not below the places"),
        ("s3://data/in/../a", "is not below the places"),
        ("https://data/in/a", "is not below the places"),
    ] {
        let chunk = json!({"lines": [{"url": url, "start": 0, "end": 1, "size": 1, "version": "e"}]});
        let failure = map(&stages, &spec, serde_json::from_value(chunk).unwrap())
            .await
            .unwrap_err();
        assert_ne!(failure.next, Next::Retry);
        assert!(failure.message.contains(reason), "{url}: {}", failure.message);
    }
}

#[tokio::test]
async fn bad_descriptions_and_bad_lines_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let chunk = chunk_of(&path, "json-lines", b"1\n{\"a\":\n3\n");
    let failure = identity(dir.path(), chunk).await.unwrap_err();
    assert_eq!(
        failure,
        Failure::fatal(format!("line 2 of the chunk is not JSON ({}, line 2)", path.display()))
    );
    for (start, end, reason) in [
        (5, 3, "has no bytes 5 to 3"),
        (0, 99, "has no bytes"),
        (0, 1 << 30, "at once"),
    ] {
        let chunk = serde_json::from_value(json!({"lines": [slice(&path, start, end)]})).unwrap();
        let failure = identity(dir.path(), chunk).await.unwrap_err();
        assert!(
            failure.message.contains(reason) && failure.next == Next::Final,
            "{}",
            failure.message
        );
    }
}
