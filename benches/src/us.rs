//! Workyard as one of the peers: the same modes, the same tally, its own library.

use std::time::Duration;

use workyard_bench_driver::{Peer, hit, run, url};
use workyard_consumer::{Context, Failure, Registry, Worker, WorkerConfig};
use workyard_producer::{Client, ClientConfig, NewTask, task};
use workyard_shared::link::LinkConfig;
use workyard_shared::name::QueueName;

/// Longest wait for one result.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Us {
    client: Client,
    queue: QueueName,
    /// Whether results are kept.
    keep: bool,
}

impl Us {
    fn task(&self, payload: &str) -> anyhow::Result<NewTask> {
        let task = task("noop").payload(payload);
        let retention = if self.keep { PATIENCE } else { Duration::ZERO };
        Ok(task.retention(retention).build()?)
    }
}

impl Peer for Us {
    async fn one(&self, payload: String) -> anyhow::Result<()> {
        self.client.enqueue(&self.queue, self.task(&payload)?).await?;
        Ok(())
    }

    async fn bulk(&self, payloads: Vec<String>) -> anyhow::Result<()> {
        let tasks = payloads
            .iter()
            .map(|text| self.task(text))
            .collect::<anyhow::Result<_>>()?;
        self.client.enqueue_many(&self.queue, tasks).await?;
        Ok(())
    }

    async fn work(&self, _keep: bool) -> anyhow::Result<()> {
        let mut registry = Registry::new();
        registry.register("noop", |_: Context, text: String| async move {
            hit(&text);
            Ok::<usize, Failure>(text.len())
        })?;
        let config = WorkerConfig {
            concurrency: 100,
            ..WorkerConfig::new(LinkConfig::from_url(&url()?)?, self.queue.clone())
        };
        Ok(Worker::new(config, registry)?.serve().await?)
    }

    async fn cycle(&self, payload: String) -> anyhow::Result<()> {
        let task = self.task(&payload)?;
        let (_, ended) = self.client.enqueue_and_wait(&self.queue, task, PATIENCE).await?;
        ended?;
        Ok(())
    }
}

/// Runs one mode on the Redis at `REDIS_URL`.
pub(crate) async fn peer(words: &[String]) -> anyhow::Result<()> {
    let us = Us {
        client: Client::new(ClientConfig::from_url(&url()?)?)?,
        queue: QueueName::new("bench")?,
        keep: words.iter().any(|word| word == "cycle" || word == "keep"),
    };
    run(us, words).await
}
