//! What a daemon says of itself by HTTP, and to the healthcheck of a container.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use workyard_shared::name::TaskId;
use workyard_shared::submit::Submitter;
use workyard_tests::{
    Daemon, Signal, TestServer, Yard, get, http_of, new_task, queue_name, send, wait_until, workspace_binary,
};

const LIMIT: Duration = Duration::from_secs(45);

const FILE: &str = r#"
concurrency = 4
http = "127.0.0.1:0"

[[queues]]
name = "q"

[handlers.sleep]
type = "builtin"
function = "sleep"
"#;

fn file(yard: &Yard) -> PathBuf {
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, FILE).unwrap();
    path
}

fn daemon(yard: &Yard, url: &str, flags: &[&str]) -> Daemon {
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(file(yard)).args(flags);
    command.env("WORKYARD_REDIS_URL", url);
    Daemon::spawn(&mut command)
}

async fn becomes_ready(address: SocketAddr) {
    wait_until(LIMIT, || async { get(address, "/readyz").await.0 == 200 }).await;
}

/// Waits until it is not ready for a reason that says so.
async fn is_unready_because(address: SocketAddr, reason: &str) {
    wait_until(LIMIT, || async {
        let (status, body) = get(address, "/readyz").await;
        status == 503 && body.contains("\"reason\":") && body.contains(reason)
    })
    .await;
}

fn healthcheck(args: &[&str]) -> (Option<i32>, String) {
    let mut command = workspace_binary("workyard-consumer");
    command.arg("healthcheck").args(args);
    command.env_remove("WORKYARD_HTTP").env_remove("WORKYARD_CONFIG");
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_ready_until_it_drains_and_alive_until_it_ends() {
    let yard = Yard::start().await;
    let daemon = daemon(&yard, &yard.server.consumer_url(), &[]);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    assert_eq!(
        get(address, "/healthz").await,
        (200, "{\"status\":\"ok\"}\n".to_owned())
    );
    assert_eq!(get(address, "/nothing").await.0, 404);
    yard.add("sleep", r#"{"ms":4000}"#, |_| {}).await;
    // Not only claimed: what has not begun goes back at once.
    wait_until(LIMIT, || async {
        get(address, "/metrics")
            .await
            .1
            .contains("\nworkyard_consumer_running_tasks 1\n")
    })
    .await;
    daemon.signal(Signal::TERM);
    is_unready_because(address, "draining").await;
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
    assert_eq!(yard.total("completed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_a_daemon_is_alive_not_ready_and_still_shows_its_own_figures() {
    let yard = Yard::on(TestServer::start_durable().await);
    let daemon = daemon(&yard, &yard.server.consumer_url(), &[]);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    yard.server.kill9();
    is_unready_because(address, "Redis").await;
    assert_eq!(get(address, "/healthz").await.0, 200, "a restart would mend nothing");
    wait_until(LIMIT, || async {
        let (status, text) = get(address, "/metrics").await;
        status == 200 && text.contains("workyard_redis_up 0") && text.contains("workyard_consumer_slots 4")
    })
    .await;
    yard.server.restart().await;
    becomes_ready(address).await;
    assert!(get(address, "/metrics").await.1.contains("error=\"away\""));
}

/// A command on a key of the yard's queue, on whichever server has it.
async fn on_key(yard: &Yard, words: &[&str]) {
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]);
    yard.broker.link().call(&cmd).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_redis_refuses_makes_a_daemon_unready_is_told_once_and_takes_nothing_from_the_others() {
    let yard = Yard::start().await;
    let path = yard.server.dir().join("workyard.toml");
    // The broken one goes first: what it asks for in vain must not keep the slots from the other.
    std::fs::write(
        &path,
        FILE.replace("[handlers", "[[queues]]\nname = \"r\"\n\n[handlers"),
    )
    .unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(&path);
    command.env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    let daemon = Daemon::spawn(&mut command);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    let before = yard.add_many(4, "sleep", r#"{"ms":1000}"#).await;
    wait_until(LIMIT, || async { yard.overview().await.running == 4 }).await;
    let (state, kept) = (yard.queue.keys().named("state"), yard.queue.keys().named("state.kept"));
    on_key(&yard, &["COPY", &state, &kept]).await;
    on_key(&yard, &["SET", &state, "x"]).await;
    is_unready_because(address, "queue q cannot be served: ").await;
    is_unready_because(address, "WRONGTYPE").await;
    let other = yard.broker.queue(&queue_name("r"));
    let tasks = (0..8).map(|_| (TaskId::fresh(), new_task("sleep", r#"{"ms":1}"#)));
    let submitter = Submitter::start(other.clone());
    submitter
        .submit(tasks.collect::<Vec<_>>(), true, None, LIMIT)
        .await
        .unwrap();
    wait_until(LIMIT, || async {
        other.overview().await.unwrap().totals.get("completed") == Some(&8)
    })
    .await;
    assert_eq!(get(address, "/healthz").await.0, 200, "a restart would mend nothing");
    on_key(&yard, &["RENAME", &kept, &state]).await;
    becomes_ready(address).await;
    for id in before {
        yard.result(&id).await;
    }
    yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    yard.reaches("completed", 5).await;
    let log = daemon.log();
    for told in ["queue q cannot be served", "queue q is served again"] {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }
    for of_redis in ["Redis cannot serve", "Redis serves again", "queue r cannot"] {
        assert!(!log.contains(of_redis), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_waits_for_redis_at_its_start_is_alive_and_not_ready() {
    let yard = Yard::start().await;
    let daemon = daemon(&yard, "redis://127.0.0.1:1/", &[]);
    let address = http_of(&daemon).await;
    is_unready_because(address, "Redis").await;
    assert_eq!(get(address, "/healthz").await.0, 200);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_functions_and_without_the_right_to_load_them_a_daemon_is_not_ready() {
    let yard = Yard::start().await;
    yard.broker.link().ensure_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    let rules = ["SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all", "-function|load"];
    let _: () = redis::cmd("ACL").arg(&rules).query_async(&mut redis).await.unwrap();
    let url = yard.server.url_with("worker:pw@");
    let daemon = daemon(&yard, &url, &[]);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    let _: () = redis::cmd("FUNCTION")
        .arg("FLUSH")
        .query_async(&mut redis)
        .await
        .unwrap();
    is_unready_because(address, "workyard install").await;
    yard.broker.link().ensure_library().await.unwrap();
    becomes_ready(address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_healthcheck_of_a_container_answers_with_its_exit_code() {
    let yard = Yard::start().await;
    let daemon = daemon(&yard, &yard.server.consumer_url(), &[]);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    let port = address.port().to_string();
    assert_eq!(
        healthcheck(&["--http", &port]),
        (Some(0), "{\"status\":\"ok\"}\n".to_owned())
    );
    assert_eq!(healthcheck(&["--ready", "--http", &address.to_string()]).0, Some(0));
    daemon.kill9();
    let begun = Instant::now();
    let (code, said) = healthcheck(&["--http", &port]);
    println!("nobody answered after {:?}", begun.elapsed());
    assert!(code == Some(1) && said.contains("no answer"), "{said}");
    let (code, said) = healthcheck(&[]);
    assert!(code == Some(2) && said.contains("--http"), "{said}");
    assert_eq!(healthcheck(&["--http", "example.org"]).0, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_healthcheck_does_not_wait_for_a_daemon_that_is_frozen() {
    let yard = Yard::start().await;
    let daemon = daemon(&yard, &yard.server.consumer_url(), &[]);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    daemon.signal(Signal::STOP);
    let begun = Instant::now();
    assert_eq!(healthcheck(&["--http", &address.to_string()]).0, Some(1));
    let took = begun.elapsed();
    println!("given up after {took:?} (3 s is its patience)");
    assert!(took < Duration::from_secs(9));
    daemon.signal(Signal::CONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_floods_or_stalls_the_http_server_is_cut_off_and_others_are_served() {
    let yard = Yard::start().await;
    let daemon = daemon(&yard, &yard.server.consumer_url(), &[]);
    let address = http_of(&daemon).await;
    let huge = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    assert!(!send(address, huge.as_bytes()).await.contains("200 OK"));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    assert!(!send(address, many.as_bytes()).await.contains("200 OK"));
    let posted = send(
        address,
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    assert!(posted.contains("405"), "{posted}");
    // More than it takes at once, and none of them says anything.
    let mut idle = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /").await.unwrap();
        idle.push(stream);
    }
    let begun = Instant::now();
    assert_eq!(get(address, "/healthz").await.0, 200);
    // A probe has three seconds, less than those that stall have.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(healthcheck(&["--http", &address.to_string()]).0, Some(0));
    let mut answer = [0; 512];
    let first = idle[0].read(&mut answer);
    let ended = tokio::time::timeout(LIMIT, first).await.expect("it is cut off");
    println!(
        "served among 80 that stall, these cut off, after {:?} (limit 5 s): {ended:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_beyond_this_machine_is_warned_of_and_a_bad_one_is_bad_use() {
    let yard = Yard::start().await;
    let open = daemon(&yard, &yard.server.consumer_url(), &["--http", "0.0.0.0:0"]);
    http_of(&open).await;
    wait_until(LIMIT, || async { open.log().contains("beyond this machine") }).await;
    let closed = daemon(&yard, &yard.server.consumer_url(), &[]);
    let address = http_of(&closed).await;
    becomes_ready(address).await;
    assert!(!closed.log().contains("beyond this machine"), "{}", closed.log());
    let taken = daemon(&yard, &yard.server.consumer_url(), &["--http", &address.to_string()]);
    assert_eq!(taken.wait_exit(LIMIT).await.code(), Some(2), "{}", taken.log());
    let bad = daemon(&yard, &yard.server.consumer_url(), &["--http", "everywhere"]);
    assert_eq!(bad.wait_exit(LIMIT).await.code(), Some(2), "{}", bad.log());
}
