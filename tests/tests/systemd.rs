//! The daemon under systemd: a stand-in for its notify socket, and its own checks of the units.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use workyard_shared::acl::Role;
use workyard_tests::{
    Daemon, Fault, FaultProxy, NotifySocket, Signal, TestServer, Yard, checked_by, get, http_of, wait_for, wait_until,
    workspace_binary,
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
    yard.add("sleep", r#"{"ms":5000}"#, |_| {}).await;
    // Not only claimed: what is claimed and not begun when it is told to stop goes back, and nothing drains.
    says(&socket, "STATUS=working: 1 of 1 slots in use").await;
    daemon.signal(Signal::TERM);
    socket.hears("STOPPING=1", 1, LIMIT).await;
    let fed = socket.count("WATCHDOG=1");
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
    assert!(socket.count("WATCHDOG=1") > fed, "a drain is fed too");
    assert_eq!(socket.count("READY=1"), 1);
    assert_eq!(yard.total("completed").await, 1);
}

/// A daemon that is told of this socket, and pings twenty times a second.
fn told_of(yard: &Yard, socket: &std::ffi::OsStr) -> Daemon {
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(write(yard, FILE));
    command.args(["--http", "127.0.0.1:0"]);
    command.env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "200000");
    Daemon::spawn(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notify_socket_that_nobody_reads_holds_nothing_up() {
    let yard = Yard::start().await;
    let path = yard.server.dir().join("unread");
    let _unread = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let daemon = told_of(&yard, path.as_os_str());
    let address = http_of(&daemon).await;
    // Its queue takes ten or so.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(get(address, "/healthz").await.0, 200);
    let id = yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    yard.result(&id).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
    assert!(!daemon.log().contains("could not be told"), "{}", daemon.log());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_abstract_notify_socket_is_told_too_and_one_that_is_gone_is_logged_once() {
    use std::os::linux::net::SocketAddrExt;
    let yard = Yard::start().await;
    let name = format!("workyard-test-{}", yard.server.port());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let heard = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    heard.set_read_timeout(Some(LIMIT)).unwrap();
    let daemon = told_of(&yard, format!("@{name}").as_ref());
    let mut message = [0; 512];
    while !message.starts_with(b"READY=1\n") {
        message.fill(0);
        heard.recv(&mut message).unwrap();
    }
    drop(heard);
    let complaint = "systemd could not be told";
    wait_until(LIMIT, || async { daemon.log().contains(complaint) }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(daemon.log().matches(complaint).count(), 1, "{}", daemon.log());
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

/// A service that reaches Redis through a proxy and serves HTTP, at work.
async fn behind_a_proxy(yard: &Yard, socket: &NotifySocket) -> (FaultProxy, Daemon, SocketAddr) {
    let proxy = FaultProxy::before(yard.server.port()).await.unwrap();
    let file = format!("http = \"127.0.0.1:0\"\n{FILE}");
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(write(yard, &file));
    command.env(
        "WORKYARD_REDIS_URL",
        yard.server.role_url_through(Role::Consumer, &proxy),
    );
    socket.announce(&mut command, WATCHDOG);
    let daemon = Daemon::spawn(&mut command);
    let address = http_of(&daemon).await;
    wait_until(LIMIT, || async { get(address, "/readyz").await.0 == 200 }).await;
    (proxy, daemon, address)
}

/// From where the thread that judges the daemon asks Redis: of its connections the one that asks for nothing but the time, and
/// unlike that of the loops has subscribed to nothing.
async fn port_of_the_judge(yard: &Yard) -> u16 {
    let redis = yard.server.connection().await;
    wait_for(LIMIT, || {
        let mut list = redis.clone();
        async move {
            let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut list).await.unwrap();
            let asks = |line: &&str| {
                [" sub=0 ", " ssub=0 ", " cmd=time "]
                    .iter()
                    .all(|word| line.contains(word))
            };
            let judges: Vec<&str> = list.lines().filter(asks).collect();
            let [judge] = judges[..] else { return None };
            let address = judge.split(" addr=").nth(1)?.split(' ').next()?;
            address.rsplit(':').next()?.parse().ok()
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_connections_of_its_own_do_not_feed_the_watchdog_while_redis_answers_another() {
    let (yard, socket) = (Yard::start().await, NotifySocket::bind());
    let (proxy, daemon, address) = behind_a_proxy(&yard, &socket).await;
    assert_eq!(get(address, "/healthz").await.0, 200);
    proxy.set(Fault::StallBut(port_of_the_judge(&yard).await));
    let took = wait_until(LIMIT, || async { get(address, "/healthz").await.0 == 503 }).await;
    println!("not alive after {took:?}, the watchdog is {WATCHDOG:?}");
    let (_, body) = get(address, "/healthz").await;
    assert!(body.contains("though Redis answers another one"), "{body}");
    wait_until(LIMIT, || async {
        socket.silence("WATCHDOG=1").is_some_and(|silence| silence > WATCHDOG)
    })
    .await;
    says(&socket, "STATUS=wedged: the ").await;
    assert!(daemon.is_running(), "to end it is systemd's part");
    // Nobody restarted it, and the network is well again.
    let fed = socket.count("WATCHDOG=1");
    proxy.set(Fault::None);
    wait_until(LIMIT, || async { get(address, "/healthz").await.0 == 200 }).await;
    socket.hears("WATCHDOG=1", fed + 3, LIMIT).await;
    yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    yard.reaches("completed", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_while_new_ones_work_are_replaced_without_a_restart() {
    let (yard, socket) = (Yard::start().await, NotifySocket::bind());
    let (proxy, daemon, address) = behind_a_proxy(&yard, &socket).await;
    proxy.set(Fault::StallFirst(proxy.connections()));
    yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    let took = yard.reaches("completed", 1).await;
    println!("it ran {took:?} after the connections had died");
    wait_until(LIMIT, || async { get(address, "/healthz").await.0 == 200 }).await;
    let fed = socket.count("WATCHDOG=1");
    socket.hears("WATCHDOG=1", fed + 3, LIMIT).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
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
    // What it runs is not everywhere: verify gets a copy that names something that is.
    let text = std::fs::read_to_string(&unit).unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(text.contains("ExecStart=/usr/bin/workyard-consumer "));
    let copy = |instance: &str, text: &str| {
        let changed = text
            .replace("/usr/bin/workyard-consumer", "/bin/true")
            .replace("/bin/kill", "/bin/true");
        let path = dir.path().join(format!("workyard-consumer@{instance}.service"));
        std::fs::write(&path, changed).unwrap();
        path.display().to_string()
    };
    let path = copy("x", &text);
    // Debian's package systemd is enough, without a systemd that runs.
    let how = "It is part of systemd 250 or newer: apt-get install systemd";
    let faults = |path: &str| {
        let output = checked_by("systemd-analyze", &["verify", "--man=no", path], "", how)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // It also tells of other units of this machine.
        let ours = said.lines().filter(|line| line.contains("workyard-consumer@"));
        Some(ours.map(str::to_owned).collect::<Vec<_>>())
    };
    if let Some(found) = faults(&path) {
        assert!(found.is_empty(), "{found:#?}");
        // It has really looked: a fault that is put in is found.
        let broken = text.replace("Restart=on-failure", "Restart=sometimes");
        let found = faults(&copy("y", &broken)).unwrap();
        assert!(found.iter().any(|line| line.contains("sometimes")), "{found:#?}");
    }
    let args = ["security", "--offline=true", "--threshold=15", &path];
    if let Some(output) = checked_by("systemd-analyze", &args, "", how) {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        println!("{}", said.lines().last().unwrap_or_default());
        assert!(output.status.success(), "exposure above 1.5:\n{said}");
    }
}
