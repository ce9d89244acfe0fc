//! What the tests of keys stand on: the programs in one folder with their rings, and a look at all that Redis has.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use workyard_shared::broker::Seen;
use workyard_tests::{Daemon, Signal, Yard, workspace_binary};

/// Longest wait for anything.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What stands in each payload and result: whoever shows either shows this.
pub(crate) const MARK: &str = "Xyzzy-4711";

/// A handler of each type, each answering what it got.
pub(crate) const FILE: &str = r#"
[[queues]]
name = "q"

[handlers.command]
type = "command"
argv = ["cat"]

[handlers.argument]
type = "command"
argv = ["printf", "%s", "{payload.secret}"]
output = "text"

[handlers.worker]
type = "worker"
argv = ["python3", "-uc", """
import json, sys
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({"type": "result", "id": task["id"], "token": task["token"], "result": task["payload"]}))
"""]

[handlers.http]
type = "http"
url = "http://ADDRESS/"

[handlers.builtin]
type = "builtin"
function = "echo"
"#;

pub(crate) fn path(yard: &Yard, name: &str) -> PathBuf {
    yard.server.dir().join(name)
}

/// Runs `workyard` to its end: code, stdout, stderr.
pub(crate) fn cli(yard: &Yard, args: &[&str]) -> (i32, String, String) {
    let mut command = workspace_binary("workyard");
    let output = command
        .args(args)
        .current_dir(yard.server.dir())
        .env("WORKYARD_REDIS_URL", yard.server.cli_url(args))
        .env("WORKYARD_QUEUE", "q")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub(crate) fn done(yard: &Yard, args: &[&str]) -> String {
    let (code, stdout, stderr) = cli(yard, args);
    assert_eq!(code, 0, "{args:?}: {stdout} {stderr}");
    stdout
}

pub(crate) fn consumer(yard: &Yard, file: &str, flags: &[&str]) -> Daemon {
    std::fs::write(path(yard, "workyard.toml"), file).unwrap();
    let mut command: Command = workspace_binary("workyard-consumer");
    command
        .args(["--config", "workyard.toml", "--log", "trace"])
        .args(flags)
        .current_dir(yard.server.dir())
        .env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    Daemon::spawn(&mut command)
}

/// Puts an item into the inbox, as any client of Redis does.
pub(crate) async fn push(yard: &Yard, item: &str) {
    let () = redis::cmd("RPUSH")
        .arg(yard.queue.keys().inbox())
        .arg(item)
        .query_async(&mut yard.server.connection().await)
        .await
        .unwrap();
}

pub(crate) async fn stop(daemon: &Daemon) {
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(0), "{}", daemon.log());
}

/// A server that answers each POST with what it got.
pub(crate) async fn echo_server() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let mut got = Vec::new();
            // The head, and behind it as many bytes as it says.
            let body = loop {
                assert_ne!(peer.read_buf(&mut got).await.unwrap(), 0);
                let text = String::from_utf8_lossy(&got).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.to_lowercase();
                let length = length.split("content-length: ").nth(1).unwrap().lines().next();
                if body.len() == length.unwrap().parse::<usize>().unwrap() {
                    break body.to_owned();
                }
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            peer.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    address
}

/// Every key of Redis, as it is stored.
pub(crate) async fn everything(yard: &Yard) -> Vec<u8> {
    let mut redis = yard.server.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut all = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await.unwrap();
        let whole = match kind.as_str() {
            "hash" => redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await,
            "list" => {
                redis::cmd("LRANGE")
                    .arg(&key)
                    .arg(0)
                    .arg(-1)
                    .query_async(&mut redis)
                    .await
            }
            "string" => redis::cmd("GET")
                .arg(&key)
                .query_async(&mut redis)
                .await
                .map(|text| vec![text]),
            _ => continue,
        };
        let whole: Vec<Vec<u8>> = whole.unwrap();
        all.extend(whole.concat());
    }
    all
}

pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|found| found == text.as_bytes())
}

/// A dead letter that was refused at its first attempt, with this in its reason.
pub(crate) async fn refused(yard: &Yard, id: &str, reason: &str) {
    let meta = yard.buried(id, SOON).await;
    assert_eq!((meta.reason.as_str(), meta.failures), ("refused", 1), "{meta:?}");
    assert!(meta.error.contains(reason), "{reason}: {}", meta.error);
}

/// Writes into the record of a task what somebody with the password of a producer can.
pub(crate) async fn overwrite(yard: &Yard, id: &str, change: impl FnOnce(String) -> String) {
    let mut redis = yard.server.connection().await;
    let key = yard.queue.keys().named("tasks");
    let record: String = redis::cmd("HGET")
        .arg(&key)
        .arg(id)
        .query_async(&mut redis)
        .await
        .unwrap();
    let () = redis::cmd("HSET")
        .arg(&key)
        .arg(id)
        .arg(change(record))
        .query_async(&mut redis)
        .await
        .unwrap();
}

pub(crate) async fn record(yard: &Yard, id: &str) -> String {
    match yard.look(id).await {
        Seen::Live { record, .. } => String::from_utf8(record.payload().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}
