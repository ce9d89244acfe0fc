//! A daemon at work with every secret that it can have: the password in its URL, a ring of keys, variables of its programs,
//! headers of its calls and of its spans.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use workyard_tests::{Collector, Daemon, Yard, children_of, http_of, wait_for, workspace_binary};

use crate::seen::{FILE, MARK, SOON, Seen, becomes_ready, file, marked};

/// A server that answers each call with an error.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let mut got = Vec::new();
            let is_whole = |got: &[u8]| got.windows(4).any(|bytes| bytes == b"\r\n\r\n");
            while !is_whole(&got) && peer.read_buf(&mut got).await.is_ok_and(|n| n > 0) {}
            // Its caller waits for an answer, whatever it sent.
            let answer = b"HTTP/1.1 500 Wrong\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwrong";
            peer.write_all(answer).await.ok();
        }
    });
    address
}

/// Programs and calls with secrets; two of them fail, so that their errors are kept.
fn handlers(yard: &Yard, collector: &str, refusing: &str) -> String {
    file(yard, "token", &format!("{MARK}-file\n"));
    format!(
        r#"
[keys]
file = "ring"

[telemetry]
endpoint = "{collector}"
headers = {{ authorization = "Bearer {MARK}-otlp" }}

[handlers.tree]
type = "command"
argv = ["sh", "-c", "sleep 60 & sleep 60; :"]
env = {{ TOKEN = "{MARK}-variable", FROM_FILE = {{ file = "token" }}, FROM_ENV = {{ env = "SECRET_OF_A_TEST" }} }}

[handlers.fails]
type = "command"
argv = ["sh", "-c", "test -n \"$TOKEN\" && echo it is set >&2; exit 3"]
env = {{ TOKEN = "{MARK}-variable" }}

[handlers.worker]
type = "worker"
argv = ["python3", "-uc", """
import json, os, sys
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({{"type": "result", "id": task["id"], "token": task["token"], "result": len(os.environ["TOKEN"])}}))
"""]
env = {{ TOKEN = {{ file = "token" }} }}

[handlers.call]
type = "http"
url = "http://{refusing}/"
headers = {{ authorization = "Bearer {MARK}-header", x-key = {{ file = "token" }} }}
"#
    )
}

fn workyard(yard: &Yard, url: &str, args: &[&str]) -> String {
    crate::seen::workyard(yard, url, &[], &[args, &["--keys", "ring"]].concat())
}

/// The process, and all that it started, and what these did.
fn tree(pid: u32) -> Vec<u32> {
    std::iter::once(pid)
        .chain(children_of(pid).into_iter().flat_map(tree))
        .collect()
}

/// Keys of a ring, as they stand in it and in hexadecimal.
fn material(ring: &str) -> Vec<String> {
    let keys = ring.lines().filter(|line| !line.starts_with('#'));
    let keys: Vec<String> = keys
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(|key| key.trim_end_matches('=').to_owned())
        .collect();
    assert!(keys.len() >= 2 && keys.iter().all(|key| key.len() >= 40), "{ring}");
    keys
}

async fn at_work(yard: &Yard, url: &str, mut command: Command, seen: &mut Seen) {
    let daemon = Daemon::spawn(
        command
            .args(["--log", "trace"])
            .env("SECRET_OF_A_TEST", format!("{MARK}-of-env")),
    );
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    for (kind, exit) in [("env", 0), ("worker", 0), ("fails", 1), ("call", 1)] {
        let task = ["enqueue", kind, "1", "--wait", "20s", "--max-attempts", "1"];
        let said = workyard(yard, url, &task);
        assert!(said.starts_with(&format!("exit code Some({exit})")), "{kind}: {said}");
        seen.add(kind, said);
    }
    assert!(seen.of("fails").contains("it is set"), "{}", seen.of("fails"));
    // Two programs below the shell, one of the pool, and the daemon.
    let id = yard.add("tree", "1", |_| {}).await;
    // One that only begins has no arguments for a moment.
    let has_begun = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    let whole = |all: &Vec<u32>| all.len() >= 5 && all.iter().all(has_begun);
    let all = wait_for(SOON, || async { Some(tree(daemon.pid())).filter(whole) }).await;
    for pid in all {
        seen.arguments("the arguments of a process of the daemon's tree", pid);
    }
    let arguments = seen.of("the arguments of a process of the daemon's tree");
    assert!(
        arguments.contains("python3") && arguments.contains("sleep"),
        "{arguments}"
    );
    seen.pages(address).await;
    for args in [
        &["stats", "--json"][..],
        &["consumers", "--json"],
        &["consumers"],
        &["metrics"],
        &["list", "--json"],
        &["results", "--json"],
        &["task", &id, "--json"],
        &["explain", &id],
        &["pause"],
        &["resume"],
        &["audit", "--json"],
        &["doctor"],
    ] {
        let said = workyard(yard, url, args);
        assert!(said.starts_with("exit code Some(0)"), "{said}");
        seen.add(args[0], said);
    }
    seen.keys(yard).await;
    // It is told to stop in the midst of a run: what it says of that is seen, too.
    seen.end_of(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_daemon_at_work_shows_anywhere() {
    let (yard, mut seen) = (marked().await, Seen::default());
    let collector = Collector::start().await;
    let url = yard.server.url_with(&format!("worker:{MARK}@"));
    for used_for in ["encrypt", "sign"] {
        let mut command = workspace_binary("workyard");
        command
            .args(["keys", "new", "ring", "--use", used_for])
            .current_dir(yard.server.dir());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        seen.add(
            "keys new",
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
        );
    }
    let ring = std::fs::read_to_string(yard.server.dir().join("ring")).unwrap();
    for key in material(&ring) {
        seen.hides(key);
    }
    let handlers = handlers(&yard, &collector.endpoint(), &refusing().await);
    let text = format!("drain_timeout = \"1s\"\n{FILE}{handlers}");
    // In a variable, and in the file.
    let config = file(&yard, "workyard.toml", &text);
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(config).env("WORKYARD_REDIS_URL", &url);
    command.args(["--log-format", "human"]);
    at_work(&yard, &url, command, &mut seen).await;
    let config = file(&yard, "workyard.toml", &format!("redis_url = \"{url}\"\n{text}"));
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(config).args(["--log-format", "json"]);
    at_work(&yard, &url, command, &mut seen).await;
    seen.holds_no_secret();
}
