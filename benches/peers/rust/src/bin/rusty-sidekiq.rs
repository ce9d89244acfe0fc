//! rusty-sidekiq: BRPOP workers on a bb8 pool. Its claim is not crash-safe and it has no bulk call.

use async_trait::async_trait;
use sidekiq::{Processor, ProcessorConfig, RedisConnectionManager, RedisPool, Worker};
use workyard_bench_driver::{Peer, hit, run, url, words};

#[derive(Clone)]
struct Noop;

#[async_trait]
impl Worker<String> for Noop {
    async fn perform(&self, payload: String) -> sidekiq::Result<()> {
        hit(&payload);
        Ok(())
    }
}

#[derive(Clone)]
struct Sidekiq(RedisPool);

impl Peer for Sidekiq {
    async fn one(&self, payload: String) -> anyhow::Result<()> {
        Ok(Noop::perform_async(&self.0, payload).await?)
    }

    async fn work(&self, _keep: bool) -> anyhow::Result<()> {
        let config = ProcessorConfig::default().num_workers(100);
        let mut processor = Processor::new(self.0.clone(), vec!["default".into()]).with_config(config);
        processor.register(Noop);
        processor.run().await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // One connection for each worker: a BRPOP occupies it.
    let pool = bb8::Pool::builder()
        .max_size(128)
        .build(RedisConnectionManager::new(url()?)?)
        .await?;
    run(Sidekiq(pool), &words()).await
}
