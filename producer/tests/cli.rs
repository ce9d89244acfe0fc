//! Enqueue from the command line, and how it fails, on a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::process::Stdio;

use support::{Ran, Server, workyard};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_hears_too_that_less_was_confirmed_than_it_asked_for() {
    let server = Server::start(&[]).await;
    let answer = server
        .run(&["enqueue", "k", "--durability", "fsync", "--json"])
        .ok()
        .json();
    let warning = answer["warning"].as_str().unwrap();
    assert!(warning.contains("nothing confirms that it is on disk"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_come_back_byte_for_byte_from_argument_stdin_and_file() {
    let server = Server::start(&[]).await;
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let large = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    let payloads = [
        "{}",
        "[]",
        "null",
        "1.0",
        "1e400",
        "-0",
        "123456789012345678901234567890",
        " {\"b\" :\n 1, \"a\":\"\\u0000é\u{1f600}\"}  ",
        &deep,
        &large,
    ];
    for (n, payload) in payloads.iter().enumerate() {
        let id = format!("p{n}");
        server
            .feed(&["enqueue", "k", "-", "--id", &id], format!("{payload}\n").as_bytes())
            .ok();
        assert_eq!(server.run(&["task", &id, "--payload"]).ok().out, **payload, "stdin");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[1,\r\n2]\r\n").unwrap();
    server
        .run(&["enqueue", "k", &format!("@{}", file.path().display()), "--id", "f"])
        .ok();
    assert_eq!(server.run(&["task", "f", "--payload"]).ok().out, "[1,\r\n2]");
    server.run(&["enqueue", "k", "-5", "--id", "n"]).ok();
    assert_eq!(server.run(&["task", "n", "--payload"]).ok().out, "-5");
    let too_large = format!("\"{}\"", "x".repeat(1 << 20));
    server
        .feed(&["enqueue", "k", "-"], too_large.as_bytes())
        .fails(2, "payload has");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_with_code_2_and_adds_nothing() {
    let server = Server::start(&[]).await;
    server.run(&["enqueue", "k", "hello"]).fails(2, "quote it as JSON");
    server
        .run(&["enqueue", "k", "@/no/such/file"])
        .fails(2, "cannot read /no/such/file");
    server
        .run(&["enqueue", "k", "--max-attempts", "0"])
        .fails(2, "max_attempts must be");
    server
        .run(&["enqueue", "k", "--backoff-jitter", "2"])
        .fails(2, "jitter must be");
    server.run(&["enqueue", "k", "--skip-invalid"]).fails(2, "--from-file");
    server.run(&["enqueue", "k", "-q", "a/b"]).fails(2, "must match");
    server.run(&["list", "-q", "typo"]).fails(2, "no queue \"typo\"");
    server.run(&["purge", "pending"]).fails(2, "--yes");
    server.run(&["nonsense"]).fails(2, "error:");
    for line in [
        &["enqueue", "k", "--wait", "5"][..],
        &["enqueue", "k", "{}", "--wait", "5"],
    ] {
        server.run(line).fails(2, "duration \"5\" must be like 250ms, 30s");
    }
    for args in [
        &["enqueue", "k", "hello", "--json"][..],
        &["enqueue", "k", "--delay", "soon", "--json"],
    ] {
        let ran = server.run(args);
        let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        assert_eq!((ran.code, error["code"].as_u64()), (2, Some(2)));
        assert!(error["error"].is_string());
    }
    assert_eq!(server.run(&["queues", "--json"]).ok().out, "[]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_options_of_a_task_are_kept_and_the_same_id_is_one_task() {
    let server = Server::start(&[]).await;
    let ran = server
        .run(&[
            "enqueue",
            "mail:send",
            "{}",
            "--id",
            "o1",
            "--priority",
            "1",
            "--delay",
            "1h",
            "--timeout",
            "90s",
            "--header",
            "t=1=2",
            "--backoff-factor",
            "3",
        ])
        .ok();
    assert_eq!(ran.out, "o1\n");
    let again = server.run(&["enqueue", "mail:send", "{}", "--id", "o1"]).ok();
    assert!(again.err.contains("already"), "{again:?}");
    assert_eq!(
        server.run(&["enqueue", "k", "--id", "o1", "--json"]).ok().json()["accepted"],
        "duplicate"
    );
    let view = server.run(&["task", "o1", "--json"]).ok().json();
    assert_eq!(
        (&view["state"], &view["priority"], &view["headers"]["t"]),
        (&"scheduled".into(), &1.into(), &"1=2".into())
    );
    assert_eq!(
        (&view["options"]["timeout"], &view["options"]["backoff_factor"]),
        (&"1m 30s".into(), &"3".into())
    );
    assert!(view["due_at"].as_str().unwrap() > view["created_at"].as_str().unwrap());
    server.run(&["task", "o2"]).fails(1, "no task o2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_bad_line_adds_nothing_unless_it_is_skipped() {
    let server = Server::start(&[]).await;
    let mut text = String::from(
        "\u{feff}{\"kind\":\"k\",\"payload\":1,\"id\":\"first\"}\n\nnot json\n{\"kind\":\"k\",\"timeout\":\"soon\"}\r\n",
    );
    for n in 0..1200 {
        text.push_str(&format!("{{\"kind\":\"k\",\"payload\":{n},\"queue\":\"other\"}}\n"));
    }
    let ran = server
        .feed(&["enqueue", "--from-file", "-"], text.as_bytes())
        .fails(2, "2 lines are not valid");
    assert!(
        ran.err.contains("line 3: not a JSON object") && ran.err.contains("line 4: timeout must be"),
        "{ran:?}"
    );
    assert_eq!(server.run(&["queues", "--json"]).ok().out, "[]\n");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let path = file.path().to_str().unwrap();
    let ran = server
        .run(&["enqueue", "--from-file", path, "--skip-invalid", "--json"])
        .ok();
    assert_eq!(
        ran.json(),
        serde_json::json!({
            "created": 1201, "duplicates": 0, "skipped": 2, "durability": "memory",
            "warning": "no healthy consumer for queue default; no healthy consumer for queue other",
        })
    );
    assert!(
        ran.err
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{ran:?}"
    );
    // In the order of the file, and a second time the id is known.
    let page = server
        .run(&["list", "-q", "other", "--limit", "1200", "--json"])
        .ok()
        .json();
    let payloads: Vec<u64> = page["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["payload"].as_u64().unwrap())
        .collect();
    assert!(payloads == (0..1200).collect::<Vec<_>>(), "the order is another");
    let again = server.run(&["enqueue", "--from-file", path, "--skip-invalid"]).ok();
    assert!(
        again
            .out
            .contains("1200 tasks enqueued, 1 were here already, 2 invalid lines skipped"),
        "{again:?}"
    );
    server
        .run(&["enqueue", "--from-file", "/no/such"])
        .fails(2, "cannot read /no/such");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_looks_like_a_slip_is_told_once_and_kept() {
    let server = Server::start(&[]).await;
    let line = "{\"kind\":\"k\",\"priorty\":1,\"colour\":2}\n";
    let text = format!("{{\"kind\":\"k\",\"priority\":1}}\n{line}{line}");
    let ran = server.feed(&["enqueue", "--from-file", "-"], text.as_bytes()).ok();
    let slips: Vec<&str> = ran.err.lines().filter(|line| line.contains("unknown")).collect();
    assert_eq!(
        slips,
        ["line 2: warning: unknown field \"priorty\" is kept as it is; did you mean \"priority\"?"]
    );
    let page = server.run(&["list", "--json"]).ok().json();
    let kept = page["tasks"].as_array().unwrap().iter();
    assert_eq!(kept.filter(|task| task["unknown"]["priorty"] == 1).count(), 2);
    let ran = server
        .feed(&["enqueue", "--from-file", "-", "--json"], line.as_bytes())
        .ok();
    let told: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(told["line"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_a_queue_never_seen_is_done_and_told_and_a_resume_makes_none() {
    let server = Server::start(&[]).await;
    for command in ["pause", "resume"] {
        let ran = server.run(&[command, "-q", command]).ok();
        assert!(
            ran.err.contains(&format!("queue {command} has never been seen")),
            "{ran:?}"
        );
    }
    let queues = server.run(&["queues", "--json"]).ok().json();
    let names: Vec<_> = queues.as_array().unwrap().iter().map(|queue| &queue["queue"]).collect();
    assert_eq!(names, ["pause"], "{queues}");
    assert_eq!(server.run(&["pause", "-q", "pause"]).ok().err, "");
    server.run(&["enqueue", "k", "-q", "used"]).ok();
    assert_eq!(server.run(&["pause", "-q", "used"]).ok().err, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_or_denies_is_code_4_and_no_password_is_shown() {
    for args in [
        &["list"][..],
        &["enqueue", "k"],
        &["wait", "a"],
        &["enqueue", "k", "--durability", "replica:1"],
        &["results", "--follow"],
    ] {
        let mut command = workyard(args);
        let ran = Ran::of(
            command
                .args(["--redis-url", "redis://:s3cret@127.0.0.1:1/", "--patience", "0"])
                .output()
                .unwrap(),
        );
        assert!(!format!("{ran:?}").contains("s3cret"), "{ran:?}");
        ran.fails(4, "127.0.0.1:1: Connection refused");
    }
    // Not longer than the wait, however patient it is otherwise.
    let begun = std::time::Instant::now();
    for args in [&["wait", "a"][..], &["job", "wait", "a"]] {
        let mut command = workyard(args);
        command.args(["--timeout", "300ms", "--redis-url", "redis://127.0.0.1:1/"]);
        Ran::of(command.output().unwrap()).fails(4, "no answer within 300ms");
    }
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let server = Server::start(&[]).await;
    let mut redis = server.redis().await;
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg("right")
        .query_async::<()>(&mut redis)
        .await
        .unwrap();
    let url = server.url_with(":wr0ng@");
    let ran = Ran::of(workyard(&["list", "--redis-url", &url, "-vv"]).output().unwrap());
    assert!(!format!("{ran:?}").contains("wr0ng"), "{ran:?}");
    ran.fails(4, "check user and password");
    let url = server.url_with("");
    Ran::of(workyard(&["list", "--redis-url", &url]).output().unwrap()).fails(4, "WORKYARD_REDIS_PASSWORD_FILE");
    Ran::of(workyard(&["list", "--redis-url", "http://x"]).output().unwrap()).fails(2, "is no Redis URL");
}

#[test]
fn a_connection_that_never_stood_lost_no_reply() {
    // The system connects, and nobody ever speaks: so a port without TLS looks to who begins TLS there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for (scheme, hint) in [
        ("rediss", "is that a port for TLS"),
        ("redis", "nobody answered within 2s"),
    ] {
        let url = format!("{scheme}://{address}/");
        let ran = Ran::of(
            workyard(&["list", "--redis-url", &url, "--patience", "0s"])
                .output()
                .unwrap(),
        );
        let ran = ran.fails(4, hint);
        assert!(!ran.err.contains("may have been applied"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let server = Server::start(&[]).await;
    let lines: String = (0..2000)
        .map(|n| format!("{{\"kind\":\"k\",\"payload\":\"{}{n}\"}}\n", "x".repeat(200)))
        .collect();
    server.feed(&["enqueue", "--from-file", "-"], lines.as_bytes()).ok();
    for args in [
        &["list", "--limit", "2000"][..],
        &["list", "--limit", "2000", "--json"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut child = server
            .workyard(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn the_usage_in_an_error_names_no_option_that_the_environment_gave() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_workyard"))
            .args(args)
            .env("WORKYARD_REDIS_URL", "redis://127.0.0.1:1/")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = run(&["job", "cancel"]);
    assert!(error.contains("Usage: workyard job cancel <ID>\n"), "{error}");
    let error = run(&["job", "cancel", "--redis-url=redis://127.0.0.1:2/"]);
    assert!(error.contains("job cancel --redis-url <URL> <ID>\n"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_not_there_says_which_queue_was_looked_in_and_which_others_there_are() {
    let server = Server::start(&[]).await;
    server.run(&["enqueue", "k", "--id", "a", "-q", "emails"]).ok();
    server.run(&["enqueue", "k", "--id", "b", "-q", "shop"]).ok();
    for args in [
        &["task", "a", "-q", "shop"][..],
        &["wait", "a", "-q", "shop"],
        &["explain", "a", "-q", "shop"],
        &["retry", "a", "-q", "shop"],
        &["cancel", "a", "-q", "shop"],
        &["delete", "a", "-q", "shop"],
    ] {
        let ran = server
            .run(args)
            .fails(1, "looked in queue shop; -q names another: emails");
        assert!(!ran.out.contains("looked in"), "{args:?}: {ran:?}");
        let json = server.run(&[args, &["--json"]].concat());
        assert!(!json.out.contains("looked in") && json.code == 1, "{args:?}: {json:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_named_with_or_without_its_flag_and_only_once() {
    let server = Server::start(&[]).await;
    let paused = |args: &[&str]| server.run(args).ok().out;
    assert!(paused(&["pause", "emails"]).starts_with("queue emails is paused"));
    assert!(paused(&["resume", "emails", "-q", "emails"]).starts_with("queue emails is resumed"));
    assert!(paused(&["queue", "show", "-q", "emails"]).contains("emails"));
    for args in [
        &["pause", "emails", "-q", "shop"][..],
        &["-q", "shop", "resume", "emails"],
        &["queue", "show", "emails", "--queue=shop"],
        &["queue", "set", "emails", "paused=1", "-q", "shop"],
        &["queue", "delete", "emails", "-q", "shop", "--yes"],
    ] {
        server
            .run(args)
            .fails(2, "two queues are named: emails, and shop by --queue");
    }
    server.run(&["queue", "show"]).fails(2, "WORKYARD_QUEUE=emails");
    // What the environment says is no second name.
    let with_variable = |args: &[&str]| {
        let mut command = server.workyard(args);
        command.env("WORKYARD_QUEUE", "shop");
        Ran::of(command.output().unwrap()).ok().out
    };
    assert!(with_variable(&["pause", "emails"]).starts_with("queue emails is paused"));
    assert!(with_variable(&["queue", "show", "emails"]).contains("emails"));
    assert!(with_variable(&["queue", "show"]).contains("shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_consumer_of_a_mistyped_queue_is_told_which_queues_there_are() {
    let server = Server::start(&[]).await;
    server.run(&["enqueue", "k", "-q", "shop"]).ok();
    let told = "queue shpo is new; did you mean shop? There are shop";
    server
        .run(&["enqueue", "k", "-q", "shpo", "--require-consumer"])
        .fails(4, told);
    let ran = server.run(&["enqueue", "k", "-q", "shpo"]).ok();
    assert!(ran.err.contains(told), "{ran:?}");
    let ran = server.run(&["enqueue", "k", "-q", "shop"]).ok();
    assert!(!ran.err.contains("is new"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_tasks_tells_the_ids_if_asked_for() {
    let server = Server::start(&[]).await;
    server
        .run(&["enqueue", "--ids", "k"])
        .fails(2, "--ids goes with --from-file");
    let lines = "{\"kind\":\"k\",\"id\":\"a\"}\n{\"kind\":\"k\"}\n{\"kind\":\"k\",\"id\":\"c\",\"queue\":\"q\"}\n";
    let ran = server
        .feed(&["enqueue", "--from-file", "-", "--ids"], lines.as_bytes())
        .ok();
    assert!(ran.err.contains("3 tasks enqueued"), "{ran:?}");
    let ids: Vec<&str> = ran.out.lines().collect();
    assert_eq!(ids.len(), 3, "{ran:?}");
    let made: Vec<&&str> = ids.iter().filter(|id| !["a", "c"].contains(id)).collect();
    server.run(&["task", made[0]]).ok();
    let ran = server
        .feed(&["enqueue", "--from-file", "-", "--ids", "--json"], lines.as_bytes())
        .ok();
    let documents: Vec<serde_json::Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_c = documents.iter().find(|document| document["id"] == "c").unwrap();
    assert_eq!((&of_c["queue"], &of_c["accepted"]), (&"q".into(), &"duplicate".into()));
    assert_eq!(documents.last().unwrap()["duplicates"], 2);
}

/// Commands that show every document of docs/json.md that needs no consumer. A file goes behind some.
const SHOWN: &[&str] = &[
    "enqueue --from-file",
    "enqueue k 1 --id b --priority 1 --max-attempts 2 --header h=1",
    "enqueue k --id later --delay 1h",
    "task a",
    "list",
    "list --state scheduled",
    "results",
    "explain a",
    "explain later",
    "queues",
    "stats",
    "stats --minutes",
    "cancel a none",
    "retry a",
    "retry --all",
    "cancel --all --kind none --yes",
    "delete a",
    "delete --all --kind none --yes",
    "task b",
    "pause",
    "resume",
    "queue set default max_pending=100",
    "queue show default",
    "audit",
    "doctor",
    "map-reduce --map count --reduce sum --detach --id j --items",
    "job j",
    "job list",
    "job cancel j",
    "job delete j",
    "purge scheduled --yes",
    "install",
    "acl --role producer",
];

#[tokio::test(flavor = "multi_thread")]
async fn docs_json_names_every_field_that_the_commands_print() {
    let document = include_str!("../../docs/json.md");
    let server = Server::start(&[]).await;
    let inbox = redis::cmd("RPUSH").arg("workyard:{default}:inbox").arg("x").to_owned();
    inbox.exec_async(&mut server.redis().await).await.unwrap();
    let lines = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(lines.path(), "{\"kind\":\"k\"}\n{\"kind\":\"k\",\"id\":\"a\"}\n").unwrap();
    let lines = lines.path().to_str().unwrap();
    let items = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(items.path(), "[1,2]").unwrap();
    let items = items.path().to_str().unwrap();
    let mut seen = 0;
    for args in SHOWN.iter().map(|line| line.split(' ').collect::<Vec<_>>()) {
        let file = match args.last() {
            Some(&"--from-file") => &[lines][..],
            Some(&"--items") => &[items],
            _ => &[],
        };
        let ran = server.run(&[args.as_slice(), file, &["--json"]].concat());
        assert!(ran.code <= 1, "{args:?}: {ran:?}");
        let shown: serde_json::Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {ran:?}"));
        let one = shown
            .as_array()
            .map_or_else(|| vec![&shown], |all| all.iter().collect());
        for name in one
            .iter()
            .filter_map(|one| one.as_object())
            .flat_map(serde_json::Map::keys)
        {
            seen += 1;
            let named = [format!("`{name}`"), format!("\"{name}\"")];
            assert!(
                named.iter().any(|name| document.contains(name)),
                "{args:?}: `{name}` is not in docs/json.md"
            );
        }
        assert!(ran.code == 0 || ran.err.is_empty(), "{args:?}: {ran:?}");
    }
    assert!(seen > 150, "{seen}");
}
