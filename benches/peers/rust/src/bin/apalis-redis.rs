//! apalis-redis: lists and Lua, a set of tasks in flight per worker, batches of 100; polled, with its retry layer.

use std::time::Duration;

use apalis::layers::retry::RetryPolicy;
use apalis::prelude::*;
use apalis_redis::{Client, Config, RedisStorage, factory::RedisStorageFactory};
use futures::StreamExt;
use workyard_bench_driver::{Peer, hit, run, url, words};

/// How late a task may start on an idle queue. At 10 ms this version sometimes parks for good, until its heartbeat.
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone)]
struct Apalis {
    storage: RedisStorage<String>,
    config: Config,
}

async fn noop(payload: String) -> Result<usize, BoxDynError> {
    hit(&payload);
    Ok(payload.len())
}

impl Peer for Apalis {
    async fn one(&self, payload: String) -> anyhow::Result<()> {
        let pushed = self.storage.clone().push(payload).await;
        pushed.map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    async fn bulk(&self, payloads: Vec<String>) -> anyhow::Result<()> {
        let pushed = self.storage.clone().push_bulk(payloads).await;
        pushed.map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    async fn work(&self, _keep: bool) -> anyhow::Result<()> {
        // Its pub/sub wants RESP3.
        let client = Client::open(format!("{}/?protocol=resp3", url()?))?;
        let mut factory = RedisStorageFactory::new(client).await?;
        // In this version neither its pub/sub nor an interval alone wakes it: without both a task on an idle queue waits for the heartbeat of 30 s.
        let backend = factory
            .create_with_config(self.config.clone())?
            .poll_with_interval(POLL);
        let worker = WorkerBuilder::new("bench")
            .backend(backend)
            .retry(RetryPolicy::retries(3))
            .concurrency(100)
            .build(noop);
        Ok(worker.run().await?)
    }

    async fn cycle(&self, payload: String) -> anyhow::Result<()> {
        let mut storage = self.storage.clone();
        let id = TaskId::from_string(format!("{:032x}", fastrand::u128(..)));
        let task = TaskBuilder::new(payload).task_id(id.clone()).build();
        storage.push_task(task).await.map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let mut results: futures::stream::BoxStream<'_, _> = WaitForCompletion::<usize>::wait_for(&mut storage, [id]);
        let ended = results.next().await;
        ended
            .ok_or_else(|| anyhow::anyhow!("no result"))?
            .map_err(|e| anyhow::anyhow!("{e:?}"))?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let keep = std::env::args().nth(3).is_some_and(|word| word == "keep");
    let config = Config::default().batch_size(100).persist_results(keep);
    let storage = RedisStorage::new(apalis_redis::connect(url()?).await?).with_config(config.clone());
    run(Apalis { storage, config }, &words()).await
}
