//! `workyard top` on a pseudo terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;
use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry};
use workyard_producer::{Client, ClientConfig, JobState, State};
use workyard_shared::broker::{Place, Seen};
use workyard_tests::{Daemon, Signal, Terminal, TestServer, Yard, queue_name, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);

const DOWN: &str = "\u{1b}[B";

fn top(yard: &Yard) -> Command {
    let mut command = workspace_binary("workyard");
    command.args([
        "--redis-url",
        &yard.server.operator_url(),
        "-q",
        "q",
        "top",
        "--every",
        "100ms",
    ]);
    command
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .register("slow", |_: Context, (): ()| async {
            std::future::pending::<()>().await;
            Ok::<(), Failure>(())
        })
        .unwrap();
    registry
        .register("bad", |_: Context, (): ()| async {
            Err::<(), _>(Failure::fatal("no such address"))
        })
        .unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_what_happens_and_its_keys_cancel_retry_and_pause() {
    let yard = Yard::start().await;
    let worker = yard.work(registry(), yard.config()).await;
    let slow = yard.add("slow", "null", |_| ()).await;
    let bad = yard.add("bad", "null", |_| ()).await;
    let mut terminal = Terminal::run(&top(&yard));

    terminal.shows(&slow).await;
    assert!(terminal.is_taken());
    terminal.press(DOWN);
    terminal.press("c");
    terminal.shows(&format!("Cancel task {slow}?")).await;
    terminal.press("y");
    terminal.shows(&format!("task {slow} is cancelled")).await;
    assert_eq!(yard.ended(&slow).await.state, State::Cancelled);

    terminal.press("4");
    terminal.shows("no such address").await;
    terminal.press("p");
    terminal.shows("queue q is paused").await;
    assert!(yard.overview().await.paused);
    terminal.press(DOWN);
    terminal.press("r");
    terminal.shows(&format!("task {bad} is pending again")).await;
    assert!(matches!(
        yard.look(&bad).await,
        Seen::Live {
            place: Place::Pending,
            ..
        }
    ));

    terminal.press("5");
    terminal.shows("HEALTH").await;
    let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    let job = client.map_reduce(&queue_name("q"), "square", "sum").items([1, 2]);
    let job = job.submit().await.unwrap();
    terminal.press("6");
    terminal.shows("square -> sum").await;
    terminal.press(DOWN);
    terminal.press("c");
    terminal.shows(&format!("Cancel job {}", job.id())).await;
    terminal.press("y");
    terminal.shows(&format!("job {} is cancelled", job.id())).await;
    assert_eq!(job.status().await.unwrap().state, JobState::Cancelled);
    terminal.press("q");
    assert_eq!(terminal.ended().await.code(), Some(0));
    wait_until(SOON, || async { !terminal.is_taken() }).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn top_keeps_its_picture_while_redis_is_away_and_leaves_the_terminal_at_a_signal() {
    let yard = Yard::on(TestServer::start_durable().await);
    let id = yard.add("nobody", "null", |_| ()).await;
    let mut terminal = Terminal::run(&top(&yard));
    terminal.shows("q quit").await;
    terminal.press("2");
    terminal.shows(&id).await;
    yard.server.kill9();
    terminal.shows("OLD: ").await;
    assert!(terminal.text().contains(&id));
    yard.server.restart().await;
    wait_until(SOON, || async { !terminal.text().contains("OLD: ") }).await;
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.ended().await.code(), Some(0));
    wait_until(SOON, || async { !terminal.is_taken() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn top_without_a_terminal_is_bad_use_and_says_what_scripts_use() {
    let yard = Yard::start().await;
    let piped = Daemon::spawn(&mut top(&yard));
    assert_eq!(piped.wait_exit(SOON).await.code(), Some(2));
    assert!(piped.stderr().contains("workyard stats --json"), "{}", piped.stderr());
}
