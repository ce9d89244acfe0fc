//! A typed client: adds tasks and reads their results. It wants `example-handlers` to run beside it.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use workyard_producer::{Client, ClientConfig, QueueName, State, task};

#[derive(Serialize)]
struct Thumbnail<'a> {
    image: &'a str,
    width: u32,
}

#[derive(Deserialize)]
struct Made {
    file: String,
    attempt: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("WORKYARD_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned());
    let client = Client::new(ClientConfig::from_url(&url)?)?;
    let queue = QueueName::new("examples")?;
    let patience = Duration::from_secs(60);

    // Its own id makes a task safe to send again: the second time it is a duplicate, and nothing is added.
    let payload = Thumbnail {
        image: "cat.png",
        width: 64,
    };
    let urgent = task("thumbnail")
        .payload(&payload)
        .id("thumbnail-cat-64")
        .priority(1)
        .build()?;
    let (receipt, ended) = client.enqueue_and_wait(&queue, urgent, patience).await?;
    let ended = ended?;
    ensure!(ended.state == State::Completed, "{}: {}", receipt.id, ended.last_error);
    let made: Made = serde_json::from_slice(&ended.body)?;
    println!("{} is {} (attempt {})", receipt.id, made.file, made.attempt);

    // Many at once are far cheaper than one by one.
    let sums = (1..=100_i64).map(|n| task("sum").payload(&[n, n]).build());
    let receipts = client.enqueue_many(&queue, sums.collect::<Result<_, _>>()?).await?;
    let last = receipts.last().context("a receipt for each task")?;
    let ended = client.wait(&queue, last.id.as_str(), patience).await?;
    println!("the last sum is {}", String::from_utf8_lossy(&ended.body));

    let moody = task("moody").delay(Duration::from_millis(100)).build()?;
    let (_, ended) = client.enqueue_and_wait(&queue, moody, patience).await?;
    let ended = ended?;
    println!(
        "moody says {} after {} failure",
        String::from_utf8_lossy(&ended.body),
        ended.failures
    );

    // What cannot be done fails for good, and its error stays with it.
    let zero = task("thumbnail")
        .payload(&Thumbnail {
            image: "cat.png",
            width: 0,
        })
        .build()?;
    let (_, ended) = client.enqueue_and_wait(&queue, zero, patience).await?;
    let ended = ended?;
    println!("a width of zero is {}: {}", ended.state.as_str(), ended.last_error);
    Ok(())
}
