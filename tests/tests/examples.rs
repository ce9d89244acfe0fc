//! The programs in `examples/` do what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use workyard_tests::{Daemon, Signal, Yard, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(60);

fn example(name: &str, url: &str) -> Daemon {
    let mut command = workspace_binary(&format!("example-{name}"));
    Daemon::spawn(command.env("WORKYARD_REDIS_URL", url))
}

async fn prints(program: &Daemon, lines: &[&str]) {
    let status = program.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
    assert_eq!(program.stdout().lines().collect::<Vec<_>>(), lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_serve_the_typed_client_and_drain_at_sigterm() {
    let yard = Yard::start().await;
    let handlers = example("handlers", &yard.server.consumer_url());
    let client = example("client", &yard.server.producer_url());
    prints(
        &client,
        &[
            "thumbnail-cat-64 is cat-64.png (attempt 1)",
            "the last sum is 200",
            "moody says \"fine\" after 1 failure",
            "a width of zero is failed: a thumbnail needs a width",
        ],
    )
    .await;
    handlers.signal(Signal::TERM);
    assert_eq!(handlers.wait_exit(SOON).await.code(), Some(0), "{}", handlers.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_middleware_hears_of_every_attempt_and_of_the_dead_letter() {
    let yard = Yard::start().await;
    let program = example("middleware", &yard.server.consumer_url());
    assert_eq!(program.wait_exit(SOON).await.code(), Some(0), "{}", program.log());
    let mut said: Vec<String> = program.stdout().lines().map(str::to_owned).collect();
    said.sort();
    let expected = [
        "bad attempt 1 failed within a second: true",
        "bad attempt 2 failed within a second: true",
        "bad is a dead letter: no luck",
        "good attempt 1 completed within a second: true",
    ];
    assert_eq!(said, expected);
    wait_until(SOON, || async { yard.overview().await.pending == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_reduce_job_gives_its_sum_and_its_counts() {
    let yard = Yard::start().await;
    // It is both, consumer and producer, and so has to be a user who may do more than either.
    let program = example("map-reduce", &yard.server.url());
    prints(&program, &["the squares of 1 to 5 add up to Some(55)", "the: 3"]).await;
}
