//! The test harness itself, tested: a fault in it would make every other test lie.

use std::process::Command;
use std::time::{Duration, Instant};

use redis::AsyncTypedCommands;
use workyard_tests::{Daemon, Signal, TestServer, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn many_servers_at_once_are_all_different() {
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        starting.spawn(TestServer::start());
    }
    let servers = starting.join_all().await;
    for (number, server) in servers.iter().enumerate() {
        server.connection().await.set("me", number).await.unwrap();
    }
    for (number, server) in servers.iter().enumerate() {
        let kept = server.connection().await.get("me").await.unwrap();
        assert_eq!(kept, Some(number.to_string()));
    }
}

#[tokio::test]
async fn what_a_durable_server_acknowledged_survives_kill9() {
    let server = TestServer::start_durable().await;
    let (port, pid) = (server.port(), server.pid());
    server.connection().await.set("kept", "yes").await.unwrap();
    server.kill9();
    assert!(
        server.client().get_multiplexed_async_connection().await.is_err(),
        "still there after SIGKILL"
    );
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(
        server.connection().await.get("kept").await.unwrap().as_deref(),
        Some("yes")
    );
}

#[tokio::test]
async fn restart_waits_until_the_data_is_loaded() {
    // 1 ms per key: a start that counted on the port alone would return while it loads.
    let slow = [
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--key-load-delay",
        "1000",
    ];
    let server = TestServer::start_with(&slow).await;
    let mut connection = server.connection().await;
    for number in 0..300 {
        connection.set(format!("key{number}"), number).await.unwrap();
    }
    server.restart().await;
    assert_eq!(
        server.connection().await.get("key299").await.unwrap().as_deref(),
        Some("299")
    );
}

#[tokio::test]
async fn a_stopped_server_answers_nothing_until_it_goes_on() {
    let server = TestServer::start().await;
    let mut connection = server.connection().await;
    server.sigstop();
    let answer = tokio::time::timeout(Duration::from_millis(200), connection.get("any")).await;
    assert!(answer.is_err(), "a stopped server answered {answer:?}");
    server.sigcont();
    let took = wait_until(LIMIT, || async {
        server.client().get_multiplexed_async_connection().await.is_ok()
    })
    .await;
    assert!(took < LIMIT, "{took:?}");
}

#[tokio::test]
async fn a_dropped_server_is_gone_even_when_it_was_stopped() {
    let server = TestServer::start().await;
    let (client, dir) = (server.client(), server.dir().to_owned());
    server.sigstop();
    drop(server);
    assert!(client.get_multiplexed_async_connection().await.is_err());
    assert!(!dir.exists());
}

#[tokio::test]
async fn extra_arguments_reach_the_server_and_the_command_line_client_too() {
    let server = TestServer::start_with(&["--maxmemory", "12mb"]).await;
    let limit: Vec<String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("maxmemory")
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    assert_eq!(limit[1], "12582912");
    if let Some(answer) = server.cli(&["ping"]) {
        assert_eq!(answer, "PONG");
    }
}

#[tokio::test]
async fn a_daemon_gets_signals_and_its_output_is_kept() {
    let script = "trap 'echo leaving; exit 3' TERM; echo ready; echo trouble >&2; while :; do sleep 0.02; done";
    let daemon = Daemon::spawn(Command::new("sh").args(["-c", script]));
    wait_until(LIMIT, || async { daemon.stdout().contains("ready") }).await;
    assert!(daemon.is_running());
    daemon.signal(Signal::TERM);
    let status = daemon.wait_exit(LIMIT).await;
    assert_eq!(status.code(), Some(3));
    assert!(
        daemon.stdout().contains("leaving") && daemon.stderr().contains("trouble"),
        "{}",
        daemon.log()
    );
    daemon.signal(Signal::TERM); // After its end: harmless.
}

#[tokio::test]
async fn a_dropped_daemon_is_gone() {
    let daemon = Daemon::spawn(Command::new("sleep").arg("600"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok());
    let begun = Instant::now();
    drop(daemon);
    assert!(
        rustix::process::test_kill_process(pid).is_err(),
        "process {pid:?} is still there"
    );
    assert!(begun.elapsed() < LIMIT);
}

#[test]
#[should_panic(expected = "cargo build --workspace --bins")]
fn a_missing_binary_says_how_to_build_it() {
    workspace_binary("workyard-no-such-program");
}
