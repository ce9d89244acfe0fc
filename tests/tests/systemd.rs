//! The daemon under systemd: a stand-in for its notify socket, and its own checks of the units.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use workyard_tests::{
    Daemon, NotifySocket, Signal, TestServer, Yard, checked_by, get, http_of, wait_until, workspace_binary,
};

const LIMIT: Duration = Duration::from_secs(45);
const WATCHDOG: Duration = Duration::from_secs(4);

const FILE: &str = r#"
concurrency = 1
lease = "3s"

[[queues]]
name = "q"

[handlers.sleep]
type = "builtin"
function = "sleep"
"#;

fn write(yard: &Yard, text: &str) -> PathBuf {
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn service(yard: &Yard, url: &str, socket: &NotifySocket) -> Daemon {
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(write(yard, FILE))
        .env("WORKYARD_REDIS_URL", url);
    socket.announce(&mut command, WATCHDOG);
    Daemon::spawn(&mut command)
}

async fn says(socket: &NotifySocket, text: &str) {
    wait_until(LIMIT, || async {
        socket.messages().iter().any(|said| said.contains(text))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_ready_feeds_the_watchdog_and_says_stopping() {
    let (yard, socket) = (Yard::start().await, NotifySocket::bind());
    let daemon = service(&yard, &yard.server.consumer_url(), &socket);
    socket.hears("READY=1", 1, LIMIT).await;
    socket.hears("WATCHDOG=1", 5, LIMIT).await;
    says(&socket, "STATUS=working: 0 of 1 slots in use").await;
    yard.add("sleep", r#"{"ms":3000}"#, |_| {}).await;
    wait_until(LIMIT, || async { yard.overview().await.running == 1 }).await;
    daemon.signal(Signal::TERM);
    socket.hears("STOPPING=1", 1, LIMIT).await;
    let fed = socket.count("WATCHDOG=1");
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
    assert!(socket.count("WATCHDOG=1") > fed, "a drain is fed too");
    assert_eq!(socket.count("READY=1"), 1);
    assert_eq!(yard.total("completed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_is_ready_at_the_start_and_feeds_the_watchdog() {
    let (yard, socket) = (Yard::on(TestServer::start_durable().await), NotifySocket::bind());
    yard.server.kill9();
    let daemon = service(&yard, &yard.server.consumer_url(), &socket);
    socket.hears("READY=1", 1, LIMIT).await;
    says(&socket, "STATUS=waiting for Redis").await;
    yard.server.restart().await;
    says(&socket, "STATUS=working").await;
    yard.server.kill9();
    says(&socket, "STATUS=Redis cannot serve, waiting").await;
    // Three watchdogs long, it is never without food for one.
    let before = socket.count("WATCHDOG=1");
    let mut longest = Duration::ZERO;
    for _ in 0..60 {
        tokio::time::sleep(WATCHDOG / 20).await;
        longest = longest.max(socket.silence("WATCHDOG=1").unwrap());
    }
    println!("longest silence in an outage {longest:?}, the watchdog is {WATCHDOG:?}");
    assert!(longest < WATCHDOG && socket.count("WATCHDOG=1") > before);
    yard.server.restart().await;
    yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    yard.reaches("completed", 1).await;
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wedged_runtime_does_not_feed_the_watchdog_and_is_not_alive() {
    let (yard, socket) = (Yard::start().await, NotifySocket::bind());
    let mut command = Command::new(env!("CARGO_BIN_EXE_wedged-consumer"));
    command.arg(yard.server.consumer_url());
    socket.announce(&mut command, WATCHDOG);
    let daemon = Daemon::spawn(&mut command);
    let address = http_of(&daemon).await;
    socket.hears("WATCHDOG=1", 3, LIMIT).await;
    assert_eq!(get(address, "/healthz").await.0, 200);
    // As many as the runtime has threads: nothing goes round any more.
    yard.add_many(4, "wedge", "null").await;
    wait_until(LIMIT, || async {
        socket.silence("WATCHDOG=1").is_some_and(|silence| silence > WATCHDOG)
    })
    .await;
    says(&socket, "STATUS=wedged: the runtime has made no progress").await;
    let (status, body) = get(address, "/healthz").await;
    assert!(status == 503 && body.contains("runtime"), "{status} {body}");
    assert!(daemon.is_running(), "to end it is systemd's part");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_concurrency_handlers_and_log_and_drops_no_task() {
    let (yard, socket) = (Yard::start().await, NotifySocket::bind());
    let daemon = service(&yard, &yard.server.consumer_url(), &socket);
    socket.hears("READY=1", 1, LIMIT).await;
    yard.add_many(3, "sleep", r#"{"ms":4000}"#).await;
    let late = yard.add("later", "1", |_| {}).await;
    wait_until(LIMIT, || async {
        daemon.log().contains("no handler for kind \"later\"") || yard.overview().await.running == 1
    })
    .await;
    let more = FILE.replace("concurrency = 1", "concurrency = 4\nlog = \"error\"");
    write(
        &yard,
        &format!("{more}\n[handlers.later]\ntype = \"builtin\"\nfunction = \"echo\"\n"),
    );
    daemon.signal(Signal::HUP);
    socket.hears("RELOADING=1", 1, LIMIT).await;
    socket.hears("READY=1", 2, LIMIT).await;
    assert!(
        socket
            .messages()
            .iter()
            .any(|said| said.contains("RELOADING=1") && said.contains("MONOTONIC_USEC="))
    );
    wait_until(LIMIT, || async { yard.overview().await.running >= 2 }).await;
    yard.reaches("completed", 4).await;
    assert_eq!(yard.result(&late).await, "1");
    let seen = yard.overview().await;
    assert_eq!(
        (
            seen.totals["completed"],
            seen.totals.get("retried"),
            seen.totals.get("reclaimed")
        ),
        (4, None, None)
    );
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(LIMIT).await.success());
    let log = daemon.log();
    assert!(
        log.contains(" starts") && !log.contains("has ended"),
        "the level was not changed: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_cannot_hold_whole_is_refused_whole_and_said() {
    let (yard, socket) = (Yard::start().await, NotifySocket::bind());
    let daemon = service(&yard, &yard.server.consumer_url(), &socket);
    socket.hears("READY=1", 1, LIMIT).await;
    let refused = [
        ("lease = \"9s\"", "only a restart can change lease"),
        ("concurrency = 0", "concurrency"),
        ("leese = \"3s\"", "leese"),
    ];
    for (i, (setting, reason)) in refused.into_iter().enumerate() {
        let text = FILE.replace("lease = \"3s\"", setting).replace("concurrency = 1", "");
        write(
            &yard,
            &format!(
                "{}\n{text}",
                if setting.starts_with("conc") {
                    ""
                } else {
                    "concurrency = 7"
                }
            ),
        );
        daemon.signal(Signal::HUP);
        socket.hears("READY=1", i + 2, LIMIT).await;
        says(&socket, "STATUS=reload refused").await;
        assert!(daemon.log().contains(reason), "{reason}: {}", daemon.log());
    }
    says(&socket, "STATUS=working: 0 of 1 slots in use").await;
    yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    yard.reaches("completed", 1).await;
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(LIMIT).await.success());
}

#[test]
fn systemd_itself_finds_no_fault_in_the_unit_and_it_is_hardened() {
    let unit = format!(
        "{}/../scripts/systemd/workyard-consumer@.service",
        env!("CARGO_MANIFEST_DIR")
    );
    // Its programs are installed by the package: verify gets a copy that names one that is there.
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/workyard-consumer "));
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("workyard-consumer@x.service");
    std::fs::write(&copy, text.replace("/usr/bin/workyard-consumer", "/bin/true")).unwrap();
    let path = copy.display().to_string();
    let how = "It is part of systemd.";
    if let Some(output) = checked_by("systemd-analyze", &["verify", "--man=no", &path], "", how) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("workyard-consumer@"))
            .collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
    let args = ["security", "--offline=true", "--threshold=25", &path];
    if let Some(output) = checked_by("systemd-analyze", &args, "", how) {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        println!("{}", said.lines().last().unwrap_or_default());
        assert!(output.status.success(), "exposure above 2.5:\n{said}");
    }
}
