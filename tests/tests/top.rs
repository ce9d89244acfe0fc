//! What draws on a terminal, on a pseudo one: `workyard top`, and the bars of a job that is waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use workyard_consumer::{Context, Failure, Registry};
use workyard_producer::{Client, ClientConfig, JobState, State};
use workyard_shared::broker::{Place, Seen};
use workyard_tests::hand::job_id;
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
async fn top_shows_what_happens_and_its_keys_cancel_retry_pause_and_resume() {
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
    terminal.press("r");
    terminal
        .shows(&format!("job {} goes on with what is missing", job.id()))
        .await;
    assert_eq!(job.status().await.unwrap().state, JobState::Mapping);

    // Resumed, the worker has it fail again; then all that failed at once.
    terminal.press("p");
    terminal.shows("queue q is resumed").await;
    assert!(!yard.overview().await.paused);
    wait_until(SOON, || async { yard.overview().await.failed == 1 }).await;
    terminal.press("p");
    terminal.shows("queue q is paused").await;
    terminal.press("R");
    terminal.shows("Retry all dead letters of queue q?").await;
    terminal.press("y");
    terminal.shows("1 task is pending again").await;
    assert_eq!(yard.overview().await.failed, 0);
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

/// Functions whose maps go on one by one, as they are let.
fn gated(gate: &Arc<Semaphore>) -> Registry {
    let (mut registry, gate) = (Registry::new(), Arc::clone(gate));
    registry
        .map("step", move |n: u64| {
            let until = Instant::now() + SOON;
            loop {
                if let Ok(permit) = gate.try_acquire() {
                    permit.forget();
                    return Ok(n);
                }
                if Instant::now() > until {
                    return Err(Failure::fatal("nobody lets it go on"));
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        })
        .unwrap();
    registry
        .reduce("add", |a: u64, b: u64| Ok::<u64, Failure>(a + b))
        .unwrap();
    registry
}

/// The same for the command that submits and the one that waits for a job that is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_waited_for_has_a_bar_per_phase_which_goes_with_its_end() {
    let yard = Yard::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let worker = yard.work(gated(&gate), yard.config()).await;
    let items = yard.server.dir().join("items.json");
    std::fs::write(&items, "[1,2,3,4]").unwrap();
    let url = yard.server.cli_url(&["map-reduce"]);
    let mut submit = workspace_binary("workyard");
    submit.args([
        "--redis-url",
        &url,
        "-q",
        "q",
        "map-reduce",
        "--id",
        "seen",
        "--no-backups",
    ]);
    submit.args([
        "--map",
        "step",
        "--reduce",
        "add",
        "--fold",
        "--chunk-size",
        "1",
        "--items",
    ]);
    let submit = Terminal::run(submit.arg(&items));
    submit.shows("map ").await;
    submit.shows("0/4").await;
    let mut wait = workspace_binary("workyard");
    let wait = Terminal::run(wait.args(["--redis-url", &url, "-q", "q", "job", "wait", "seen"]));
    wait.shows("0/4").await;
    let backups = redis::Cmd::hget(yard.queue.keys().job_key(&job_id("seen"), ""), "backups");
    let backups: String = backups.query_async(&mut yard.server.connection().await).await.unwrap();
    assert_eq!(backups, "0", "--no-backups");
    gate.add_permits(3);
    for terminal in [&submit, &wait] {
        terminal.shows("3/4").await;
        // A bar takes the whole width, so that the rows have no ends here.
        let text = terminal.text();
        let (maps, reduces) = text.split_once("reduce ").expect("two bars");
        assert!(maps.contains("map ") && maps.contains("3/4"), "{text}");
        assert!(reduces.contains("0/1"), "{text}");
        terminal.shows("/s, about ").await;
    }
    gate.add_permits(1);
    for terminal in [&submit, &wait] {
        assert_eq!(terminal.ended().await.code(), Some(0));
        terminal.shows("10").await;
        let text = terminal.text();
        assert!(!text.contains("/4") && !text.contains("left"), "{text}");
    }
    worker.stop().await;
}
