//! Map-reduce jobs from the command line, on a real Redis; hands play the consumer.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../shared/tests/support/s3.rs"]
mod s3;
mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::jobs::{items, lines, member, payload};
use support::{Hands, Ran, SOON, Server, until};
use workyard_producer::JobId;
use workyard_shared::broker::JobVerdict;
use workyard_shared::job::{Chunk, Member, Part};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_shown_listed_cancelled_retried_and_deleted() {
    let server = Server::start(&[]).await;
    let submit = |id: &str, more: &[&str]| {
        let base = [
            "map-reduce",
            "--items",
            "-",
            "--map",
            "sum",
            "--reduce",
            "sum",
            "--detach",
            "--id",
            id,
        ];
        let line: Vec<&str> = base.iter().chain(more).copied().collect();
        server.feed(&line, b"1\n2\n3\n").ok()
    };
    assert_eq!(submit("a", &["--chunk-size", "2"]).out, "a\n");
    let keyed = ["--json", "--map-arg", "field=x", "--keyed", "--partitions", "3"];
    let detached = submit("b", &[&keyed[..], &["--unchecked"]].concat());
    assert_eq!(detached.json(), serde_json::json!({"job": "b"}));

    let shown = server.run(&["job", "a", "--json"]).ok().json();
    assert_eq!(
        (&shown["state"], &shown["chunks"], &shown["input"]),
        (&"mapping".into(), &2.into(), &"stdin".into())
    );
    let shown = server.run(&["job", "b"]).ok().out;
    assert!(
        shown.contains("keyed, 3 partitions") && shown.contains("0 of 3 done"),
        "{shown}"
    );
    let listed = server.run(&["job", "list", "--json"]).ok().json();
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["b", "a"]);
    assert_eq!(server.run(&["job", "list", "--limit", "1"]).ok().out.lines().count(), 2);

    server
        .run(&["job", "wait", "a", "--timeout", "500ms"])
        .fails(3, "did not end within 500ms");
    server.run(&["job", "result", "a"]).fails(1, "has no result");
    server.run(&["job", "delete", "a"]).fails(1, "cancel it first");
    server.run(&["job", "retry", "a"]).fails(1, "it has not ended");
    server.run(&["job", "cancel", "a"]).ok();
    let again = server.run(&["job", "cancel", "a"]).fails(1, "had ended before");
    assert_eq!(again.out, "", "one thing is enough");
    let listed = |state| server.run(&["job", "list", "--json", "--state", state]).ok().json();
    assert_eq!(listed("cancelled")[0]["job"], "a");
    assert_eq!(
        (listed("mapping")[0]["job"].clone(), listed("failed")),
        ("b".into(), serde_json::json!([]))
    );
    for command in [&["task", "b"][..], &["wait", "b"], &["cancel", "b"]] {
        server.run(command).fails(1, "workyard job b");
    }
    let ran = server.run(&["job", "wait", "a", "--json"]).fails(1, "was cancelled");
    assert_eq!(ran.json()["state"], "cancelled");
    server.run(&["job", "retry", "a"]).ok();
    server.run(&["job", "cancel", "a"]).ok();
    server.run(&["job", "delete", "a"]).ok();
    for action in ["wait", "result", "cancel", "retry", "delete"] {
        server.run(&["job", action, "a"]).fails(1, "no job a in queue default");
    }
    server.run(&["job", "nope"]).fails(1, "no job nope");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_says_which_chunk_and_why() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let waiting = server
        .workyard(&[
            "map-reduce",
            "--items",
            "-",
            "--map",
            "m",
            "--reduce",
            "r",
            "--id",
            "bad",
            "--max-attempts",
            "1",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(|mut child| {
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"[1]").unwrap();
            child
        })
        .unwrap();
    let map = hands.next().await;
    hands.settle(&map, JobVerdict::Final, Vec::new()).await;
    Ran::of(waiting.wait_with_output().unwrap()).fails(1, "job bad failed");
    let shown = server.run(&["job", "bad", "--json"]).ok().json();
    assert_eq!(
        (&shown["failed_chunks"], &shown["maps"]["failed"]),
        (&serde_json::json!([0]), &1.into())
    );
    assert!(server.run(&["job", "bad"]).ok().out.contains("boom"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_chunks_that_are_allowed_are_listed_with_the_result() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let line = [
        "map-reduce",
        "--items",
        "-",
        "--map",
        "m",
        "--reduce",
        "r",
        "--id",
        "lossy",
        "--chunk-size",
        "1",
    ];
    let more = ["--allow-failures", "50%", "--detach"];
    server.feed(&[&line[..], &more].concat(), b"1\n2\n").ok();
    for _ in 0..2 {
        let map = hands.next().await;
        match member(&map) {
            Member::Map { chunk: 1, .. } => hands.settle(&map, JobVerdict::Final, Vec::new()).await,
            _ => hands.settle(&map, JobVerdict::Done, vec![(0, lines("1\n"))]).await,
        }
    }
    let reduce = hands.next().await;
    hands
        .settle(&reduce, JobVerdict::Done, vec![(0, lines("{\"a\": 1}\n"))])
        .await;
    let shown = server.run(&["job", "wait", "lossy"]).ok();
    assert_eq!(shown.out, "{\"a\": 1}\n");
    assert!(
        shown.err.contains("lost chunks (1) are left out of the result: 1"),
        "{shown:?}"
    );
    let shown = server.run(&["job", "wait", "lossy", "--json"]).ok();
    assert_eq!(
        shown.out,
        "{\"job\":\"lossy\",\"state\":\"completed\",\"result\":{\"a\": 1},\"lost\":[1]}\n"
    );
}

/// A job of one chunk whose result is this.
async fn completed(server: &Server, hands: &mut Hands, id: &str, result: &str) {
    items(&server.client(), id, 1, 1).await;
    for text in ["1\n", result] {
        let grant = hands.next().await;
        hands.settle(&grant, JobVerdict::Done, vec![(0, lines(text))]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_fold_has_a_top_and_its_strings_can_be_raw() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let result = |line: &[&str]| server.run(&[&["job", "result"], line].concat()).ok().out;
    completed(&server, &mut hands, "object", "{\"a\":1,\"b\":20,\"c\":3}\n").await;
    assert_eq!(result(&["object", "--top", "2"]), "b\t20\nc\t3\n");
    assert_eq!(
        result(&["object", "--top", "1", "--json"]),
        "{\"key\":\"b\",\"value\":20}\n"
    );
    completed(&server, &mut hands, "list", "1\n30\n2\n").await;
    assert_eq!(result(&["list", "--top", "2"]), "30\n2\n");
    assert_eq!(
        result(&["list", "--by-value", "--json"]),
        "{\"job\":\"list\",\"state\":\"completed\",\"result\":[30,2,1]}\n"
    );
    completed(&server, &mut hands, "texts", "\"a \\\"b\\\"\\tc\"\n[\"d\"]\n").await;
    assert_eq!(result(&["texts", "--raw"]), "a \"b\"\tc\n[\"d\"]\n");
    assert_eq!(result(&["texts"]), "\"a \\\"b\\\"\\tc\"\n[\"d\"]\n");
    let top = server.run(&["job", "result", "texts", "--top", "1"]);
    top.fails(2, "neither one object of numbers");
    server
        .run(&["job", "result", "texts", "--parts"])
        .fails(2, "needs --keyed");
}

/// Reads stderr until a line has this.
fn read_until(err: &mut impl std::io::BufRead, wanted: &str) {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let read = err.read_line(&mut seen).unwrap();
        assert!(read > 0, "ended without \"{wanted}\": {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_hears_that_nobody_works_and_why_tasks_fail() {
    let server = Server::start(&[]).await;
    items(&server.client(), "idle", 1, 1).await;
    let mut waiting = server
        .workyard(&["job", "wait", "idle"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = std::io::BufReader::new(waiting.stderr.take().unwrap());
    read_until(
        &mut err,
        "note: no consumer serves queue default; start one with `workyard-consumer",
    );
    let shown = server.run(&["job", "idle"]).ok().out;
    assert!(shown.contains("no consumer serves queue default"), "{shown}");
    let mut hands = Hands::register(server.queue("default")).await;
    let map = hands.next().await;
    hands.settle(&map, JobVerdict::Retry, Vec::new()).await;
    read_until(&mut err, "note: m:0: boom");
    server.run(&["job", "cancel", "idle"]).ok();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_lines_of_progress_tell_the_pace_and_the_rest() {
    let server = Server::start(&[]).await;
    items(&server.client(), "paced", 40, 1).await;
    let mut waiting = server
        .workyard(&["job", "wait", "paced"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = std::io::BufReader::new(waiting.stderr.take().unwrap());
    read_until(&mut err, "mapping: maps 0 of 40");
    let begun = Instant::now();
    let mut hands = Hands::register(server.queue("default")).await;
    for _ in 0..4 {
        for _ in 0..5 {
            let map = hands.next().await;
            hands.settle(&map, JobVerdict::Done, vec![(0, lines("1\n"))]).await;
        }
        // A line comes once a second and if something was done.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let mut line = String::new();
    while !line.starts_with("mapping: maps 20 of 40") {
        line.clear();
        assert!(
            std::io::BufRead::read_line(&mut err, &mut line).unwrap() > 0,
            "no line of 20 maps"
        );
    }
    let took = begun.elapsed().as_secs_f64();
    // `, 4.5/s, about 5s left`: the pace since the first line.
    let (_, pace) = line.trim().split_once("reduces 0 of 3, ").unwrap();
    let (pace, rest) = pace.split_once("/s, about ").unwrap();
    let (pace, rest) = (pace.parse::<f64>().unwrap(), rest.strip_suffix("s left").unwrap());
    assert!(pace > 20.0 / took - 0.1 && pace < 20.0 / 2.0, "{line}: {took} s");
    assert!((rest.parse::<f64>().unwrap() - 20.0 / pace).abs() < 1.5, "{line}");
    server.run(&["job", "cancel", "paced"]).ok();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_readme_find_their_input() {
    let server = Server::start(&[]).await;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let examples: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("workyard map-reduce"))
        .collect();
    assert!(examples.len() >= 2, "{examples:?}");
    for example in examples {
        let rest = example.strip_prefix("workyard").unwrap();
        let mut shell = std::process::Command::new("sh");
        let program = env!("CARGO_BIN_EXE_workyard");
        shell
            .args(["-c", &format!("'{program}' {rest} --detach")])
            .current_dir(root);
        Ran::of(shell.env("WORKYARD_REDIS_URL", server.url()).output().unwrap()).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_is_heard_while_nobody_reads_what_is_shown() {
    let server = Server::start(&[]).await;
    items(&server.client(), "long", 1, 1).await;
    // A pipe that is full: the first line of progress is stuck.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &[b'x'; 65_536]).unwrap();
    let mut waiting = server
        .workyard(&["job", "wait", "long"])
        .stderr(writer)
        .spawn()
        .unwrap();
    // It may be stuck before Redis knows that it waits: what tells is that it has begun to listen for the signal.
    let status = format!("/proc/{}/status", waiting.id());
    until("it listens", async || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 2 != 0
    })
    .await;
    let pid = waiting.id().to_string();
    let mut ended = tokio::task::spawn_blocking(move || waiting.wait());
    let press = async {
        // Tokio catches the signal a moment before it has somebody to tell of it: what comes in between is lost, and a person
        // presses again.
        loop {
            std::process::Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap();
            if let Ok(ended) = tokio::time::timeout(Duration::from_secs(2), &mut ended).await {
                return ended.unwrap().unwrap();
            }
        }
    };
    let ended = tokio::time::timeout(SOON, press).await.expect("it ends");
    assert_eq!(ended.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_waiting_and_not_the_job() {
    let server = Server::start(&[]).await;
    items(&server.client(), "long", 1, 1).await;
    let mut waiting = server
        .workyard(&["job", "wait", "long"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its first line of progress: it waits now.
    let mut line = String::new();
    let mut err = std::io::BufReader::new(waiting.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut err, &mut line).unwrap();
    assert_eq!(line, "mapping: maps 0 of 1, reduces 0 of 1\n");
    let kill = std::process::Command::new("kill")
        .args(["-INT", &waiting.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut err, &mut rest).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(3));
    assert!(
        rest.contains("job long goes on") && rest.contains("workyard job wait long`"),
        "{rest}"
    );
    assert_eq!(server.run(&["job", "long", "--json"]).ok().json()["state"], "mapping");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_told_before_anything_is_sent() {
    let server = Server::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let base = ["map-reduce", "--map", "m", "--reduce", "r"];
    let line = |more: &[&'static str]| base.iter().chain(more).copied().collect::<Vec<_>>();
    let from_stdin = |more: &[&'static str], text: &[u8]| server.feed(&line(more), text);
    from_stdin(&["--items", "-"], b"1\n{\n").fails(2, "line 2 is not JSON");
    from_stdin(&["--items", "-"], b"some text\n").fails(2, "--format lines");
    server.run(&line(&["--input", "-"])).fails(2, "--items -");
    server.run(&line(&[])).fails(2, "--items");
    server
        .run(&line(&["--input", "x", "--parts"]))
        .fails(2, "--parts needs --keyed");
    server
        .run(&line(&["--input", "x", "--delimiter", ";"]))
        .fails(2, "--format csv");
    server
        .run(&line(&["--input", "x.csv", "--delimiter", ";"]))
        .fails(2, "no such file");
    server
        .run(&line(&["--input", "x", "--raw", "--json"]))
        .fails(2, "--raw");
    std::fs::write(dir.path().join("a.csv"), "k\n1\n").unwrap();
    std::fs::write(dir.path().join("b.jsonl"), "1\n").unwrap();
    let mut command = server.workyard(&line(&["--input"]));
    let ran = Ran::of(command.arg(dir.path().join("*")).output().unwrap());
    ran.fails(2, "a.csv) and JSON lines (file:///");
    let mut command = server.workyard(&line(&["--format", "lines", "--detach", "--input"]));
    Ran::of(command.arg(dir.path().join("*")).output().unwrap()).ok();
    server.run(&["job", "list", "--state", "completed"]).ok();
    from_stdin(&["--items", "-", "--format", "items"], b"[1, x]").fails(2, "item 2 of the array");
    from_stdin(&["--items", "-", "--format", "csv"], b"").fails(2, "--input");
    from_stdin(&["--items", "-", "--chunk-size", "1KiB"], b"").fails(2, "number of them");
    server.run(&line(&["--items", "/no/such"])).fails(2, "/no/such");
    server.run(&line(&["--input", "/no/*/such"])).fails(2, "/no/*/such");
    server.run(&line(&["--input", "/no/such"])).fails(2, "no such file");
    let mut command = server.workyard(&line(&["--input"]));
    Ran::of(command.arg(dir.path()).output().unwrap()).fails(2, "is a folder");
    let jobs = server.run(&["job", "list", "--json"]).ok().json();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "only the one of a given format");

    let empty = from_stdin(&["--items", "-", "--json"], b"").ok().json();
    assert_eq!(
        (&empty["state"], &empty["result"]),
        (&"completed".into(), &serde_json::Value::Null)
    );
    assert_eq!(from_stdin(&["--items", "-", "--keyed"], b" [ ]").ok().out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_built_in_function_cannot_do_is_refused_before_anything_is_sent() {
    let server = Server::start(&[]).await;
    let run = |line: &str| {
        let words = ["map-reduce", "--items", "-", "--detach"]
            .into_iter()
            .chain(line.split(' '));
        server.feed(&words.collect::<Vec<_>>(), b"1\n")
    };
    for (line, reason) in [
        (
            "--map grep --reduce identity",
            "needs the argument pattern (--map-arg pattern=...)",
        ),
        (
            "--map grep --map-arg pattern=( --reduce identity",
            "the pattern of grep does not fit",
        ),
        (
            "--map sum --reduce top-n --reduce-arg n=abc",
            "string \"abc\", expected usize (--reduce-arg)",
        ),
        (
            "--map identity --combine top-n --combine-arg n=0 --reduce sum",
            "n of top-n must be 1 to",
        ),
        ("--map sum --map-arg feild=x --reduce sum", "unknown field `feild`"),
        ("--map sum --reduce sum --keyed", "sum cannot map in the keyed form"),
        ("--map sum --reduce word-count", "word-count cannot reduce"),
    ] {
        let refused = run(line).fails(2, reason);
        assert!(refused.err.contains("--unchecked"), "{}", refused.err);
    }
    assert_eq!(
        server.run(&["job", "list", "--json"]).ok().json(),
        serde_json::json!([])
    );
    run("--map grep --reduce identity --unchecked").ok();
    run("--map grep --map-arg pattern=x --reduce my-own --reduce-arg any=1").ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_shows_where_its_result_is_and_how_long_it_ran() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    completed(&server, &mut hands, "done", "55\n").await;
    let shown = server.run(&["job", "done"]).ok().out;
    for row in [
        "result      1 part in workyard:{default}:job:done:out, 4 bytes",
        "took        ",
        "(maps ",
    ] {
        assert!(shown.contains(row), "{row}: {shown}");
    }
    let shown = server.run(&["job", "done", "--json"]).ok().json();
    let place = serde_json::json!({"key": "workyard:{default}:job:done:out", "parts": 1, "bytes": 4});
    assert_eq!((&shown["result"], &shown["starts"]), (&place, &1.into()));
    assert!(shown["run_ms"].is_u64(), "{shown}");
    items(&server.client(), "begun", 1, 1).await;
    let shown = server.run(&["job", "begun", "--json"]).ok().json();
    assert_eq!((shown.get("result"), shown.get("run_ms")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_become_slices_with_their_version() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), "k,v\r\n1,\"x\ny\"\r\n2,z\r\n").unwrap();
    std::fs::write(dir.path().join("b.csv"), "k,v\r\n3,z\r\n").unwrap();
    let pattern = format!("{}/*.csv", dir.path().display());
    let line = [
        "map-reduce",
        "--input",
        &pattern,
        "--map",
        "m",
        "--reduce",
        "r",
        "--detach",
        "--chunk-size",
        "8",
    ];
    let id = server.run(&line).ok().out;
    let shown = server.run(&["job", id.trim(), "--json"]).ok().json();
    assert_eq!(
        (&shown["chunks"], &shown["input"]),
        (&2.into(), &pattern.as_str().into())
    );
    assert!(JobId::new(id.trim()).is_ok());
    let Chunk::Csv(first) = serde_json::from_str(&payload(&hands.next().await)).unwrap() else {
        panic!("no csv")
    };
    assert_eq!(
        (first.header.as_str(), first.slices[0].start, first.slices[0].end),
        ("k,v", 5, 14)
    );
    let meta = std::fs::metadata(dir.path().join("a.csv")).unwrap();
    let modified = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(first.slices[0].version, modified.as_nanos().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_cut_at_their_records_and_spilled_objects_go_with_the_job() {
    let server = Server::start(&[]).await;
    let mut hands = Hands::register(server.queue("default")).await;
    let (shelf, port) = s3::serve().await;
    let put = |key: &str, text: &str| {
        let mut shelf = shelf.lock().unwrap();
        shelf.objects.insert(format!("/bucket/{key}"), text.as_bytes().to_vec());
    };
    put("logs/1.jsonl", "1\n22\n333\n");
    put("logs/2.jsonl", "4\n");
    put("logs/deep/3.jsonl", "5\n");
    let run = |args: &[&str]| {
        let mut command = server.workyard(args);
        Ran::of(command.envs(s3::settings(port)).stdin(Stdio::null()).output().unwrap())
    };
    let base = [
        "map-reduce",
        "--map",
        "m",
        "--reduce",
        "r",
        "--detach",
        "--id",
        "s",
        "--chunk-size",
        "3",
    ];
    let line = |pattern: &'static str| base.iter().copied().chain(["--input", pattern]).collect::<Vec<_>>();
    run(&line("s3://bucket/none*")).fails(2, "no file matches");
    run(&line("s3://bucket/none")).fails(2, "s3://bucket/none is not there");
    let mut spilling = line("s3://bucket/logs/*.jsonl");
    spilling.extend(["--spill", "s3://bucket/spill"]);
    run(&spilling).ok();
    let mut slices = Vec::new();
    for n in 0..3 {
        let grant = hands.next().await;
        let Chunk::JsonLines(found) = serde_json::from_str(&payload(&grant)).unwrap() else {
            panic!("no JSON lines")
        };
        slices.extend(found.into_iter().map(|s| (s.url, s.start, s.end, s.version)));
        hands
            .settle(&grant, JobVerdict::Done, vec![(0, lines(&format!("{n}\n")))])
            .await;
    }
    let (one, two) = (
        "s3://bucket/logs/1.jsonl".to_owned(),
        "s3://bucket/logs/2.jsonl".to_owned(),
    );
    let tag = |n: u64| format!("\"tag-{n}\"");
    let expected = [(one.clone(), 0, 5, tag(9)), (one, 5, 9, tag(9)), (two, 0, 2, tag(2))];
    assert_eq!(slices, expected);

    put("spill/workyard.default.s/part", "\"from afar\"\n");
    put("spill/other/part", "x");
    let reduce = hands.next().await;
    let part = Part::Spilled {
        bytes: 12,
        path: "workyard.default.s/part".into(),
    };
    hands.settle(&reduce, JobVerdict::Done, vec![(0, part)]).await;
    assert_eq!(run(&["job", "result", "s"]).ok().out, "\"from afar\"\n");
    run(&["job", "delete", "s"]).ok();
    let left: Vec<String> = shelf
        .lock()
        .unwrap()
        .objects
        .keys()
        .filter(|key| key.contains("spill"))
        .cloned()
        .collect();
    assert_eq!(left, ["/bucket/spill/other/part"]);
}
