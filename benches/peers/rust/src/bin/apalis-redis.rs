//! apalis-redis: lists and Lua, a set of tasks in flight per worker, batches of 100.

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use futures::StreamExt;
use workyard_bench_driver::{Peer, hit, run, url, words};

#[derive(Clone)]
struct Apalis(RedisStorage<String>);

async fn noop(payload: String) -> Result<usize, BoxDynError> {
    hit(&payload);
    Ok(payload.len())
}

impl Peer for Apalis {
    async fn one(&self, payload: String) -> anyhow::Result<()> {
        self.0.clone().push(payload).await.map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    async fn bulk(&self, payloads: Vec<String>) -> anyhow::Result<()> {
        self.0
            .clone()
            .push_bulk(payloads)
            .await
            .map_err(|e| anyhow::anyhow!("{e:?}"))
    }

    async fn work(&self, _keep: bool) -> anyhow::Result<()> {
        let worker = WorkerBuilder::new("bench")
            .backend(self.0.clone())
            .concurrency(100)
            .build(noop);
        Ok(worker.run().await?)
    }

    async fn cycle(&self, payload: String) -> anyhow::Result<()> {
        let mut storage = self.0.clone();
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
    run(
        Apalis(RedisStorage::new(apalis_redis::connect(url()?).await?).with_config(config)),
        &words(),
    )
    .await
}
