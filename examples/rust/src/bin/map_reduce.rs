//! A map-reduce job with functions of one's own: the functions in a worker, the job from a client. Both are in one program
//! here; in life the worker runs on many machines.

use std::time::Duration;

use workyard_consumer::{CancellationToken, Emit, Failure, LinkConfig, Registry, Worker, WorkerConfig};
use workyard_producer::{Client, ClientConfig, QueueName};

fn functions() -> anyhow::Result<Registry> {
    let mut registry = Registry::new();
    // A fold: each item becomes a value, values combine in a tree.
    registry.map("square", |n: i64| Ok::<i64, Failure>(n * n))?;
    registry.reduce("add", |a: i64, b: i64| Ok::<i64, Failure>(a + b))?;
    // Keyed: pairs are shuffled, each key is reduced once.
    registry.map_pairs("words", |line: String, emit: &mut Emit<String, u64>| {
        line.split_whitespace()
            .for_each(|word| emit.pair(word.to_lowercase(), 1));
        Ok::<(), Failure>(())
    })?;
    registry.reduce_pairs("total", |_: &String, counts: Vec<u64>| {
        Ok::<u64, Failure>(counts.iter().sum())
    })?;
    Ok(registry)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("WORKYARD_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned());
    let queue = QueueName::new("jobs")?;
    let stop = CancellationToken::new();
    let config = WorkerConfig::new(LinkConfig::from_url(&url)?, queue.clone());
    let worker = tokio::spawn(Worker::new(config, functions()?)?.run(stop.clone()));

    let client = Client::new(ClientConfig::from_url(&url)?)?;
    let patience = Duration::from_secs(60);
    let squares = client.map_reduce(&queue, "square", "add").items(1..=5).submit().await?;
    squares.wait_completed(patience).await?;
    println!("the squares of 1 to 5 add up to {:?}", squares.result::<i64>().await?);

    let lines = ["the quick brown fox", "jumps over the lazy dog", "The end"];
    let words = client
        .map_reduce(&queue, "words", "total")
        .combine("total")
        .items(lines)
        .keyed(2)
        .submit()
        .await?;
    words.wait_completed(patience).await?;
    let counts: Vec<(String, u64)> = words.pairs().await?.collect().await?;
    for (word, count) in counts.iter().filter(|(_, count)| *count > 1) {
        println!("{word}: {count}");
    }
    stop.cancel();
    worker.await??;
    Ok(())
}
