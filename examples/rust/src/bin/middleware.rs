//! Hooks around every task of a worker: how long each attempt took, and a word on each dead letter. Ends when the queue is
//! empty.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use workyard_consumer::{BoxFuture, Context, Failure, LinkConfig, Middleware, Outcome, Registry, Worker, WorkerConfig};
use workyard_producer::{Backoff, Client, ClientConfig, QueueName, task};

/// When each attempt that runs now began.
#[derive(Default)]
struct Timing(Arc<Mutex<HashMap<String, Instant>>>);

impl Middleware for Timing {
    fn before(&self, ctx: &Context) -> BoxFuture<()> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert(ctx.id().to_owned(), Instant::now());
        Box::pin(std::future::ready(()))
    }

    fn after(&self, ctx: &Context, outcome: &Outcome) -> BoxFuture<()> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(ctx.id());
        let took = begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let how = if outcome.is_ok() { "completed" } else { "failed" };
        println!(
            "{} attempt {} {how} within a second: {}",
            ctx.kind(),
            ctx.attempt(),
            took < Duration::from_secs(1)
        );
        Box::pin(std::future::ready(()))
    }

    fn on_dead_letter(&self, _id: &str, kind: &str, error: &str) -> BoxFuture<()> {
        println!("{kind} is a dead letter: {error}");
        Box::pin(std::future::ready(()))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("WORKYARD_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned());
    let queue = QueueName::new("hooks")?;
    let client = Client::new(ClientConfig::from_url(&url)?)?;
    client.enqueue(&queue, task("good").build()?).await?;
    let soon = Backoff {
        base: Duration::from_millis(50),
        ..Backoff::default()
    };
    client
        .enqueue(&queue, task("bad").max_attempts(2).backoff(soon).build()?)
        .await?;

    let mut registry = Registry::new();
    registry.register("good", |_: Context, (): ()| async { Ok::<_, Failure>(()) })?;
    registry.register("bad", |_: Context, (): ()| async {
        Err::<(), _>(Failure::retry("no luck"))
    })?;
    let config = WorkerConfig::new(LinkConfig::from_url(&url)?, queue);
    Worker::new(config, registry)?
        .with_middleware(Timing::default())
        .join()
        .await?;
    Ok(())
}
