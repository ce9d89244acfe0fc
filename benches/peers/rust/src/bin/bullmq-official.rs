//! bullmq-official: BullMQ's own Rust crate, the Lua scripts of the Node original.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bullmq::options::RedisConnectionOptions;
use bullmq::types::RemoveOnFinish;
use bullmq::worker::CancellationToken;
use bullmq::{
    BulkJob, Job, JobOptions, Queue, QueueEvent, QueueEvents, QueueEventsOptions, QueueOptions, Worker, WorkerOptions,
};
use tokio::sync::{OnceCell, oneshot};
use workyard_bench_driver::{Peer, hit, run, url, words};

type Waiters = Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>;

#[derive(Clone)]
struct BullMq {
    queue: Arc<Queue>,
    waiters: Arc<OnceCell<Waiters>>,
}

fn options() -> JobOptions {
    JobOptions {
        attempts: Some(3),
        ..JobOptions::default()
    }
}

fn connection() -> anyhow::Result<RedisConnectionOptions> {
    Ok(RedisConnectionOptions::new().url(url()?))
}

/// Hands out the `completed` events of the queue by job id.
async fn listen() -> anyhow::Result<Waiters> {
    // From the first event on: one that came before we read would never wake its caller.
    let options = QueueEventsOptions {
        last_event_id: Some("0".to_owned()),
        connection: connection()?,
        ..QueueEventsOptions::default()
    };
    let events = QueueEvents::with_options("bench", options).await?;
    let waiters = Waiters::default();
    let ours = waiters.clone();
    tokio::spawn(async move {
        while let Some(entry) = events.next_event().await {
            if let QueueEvent::Completed { job_id, .. } = entry.event
                && let Some(waiter) = ours.lock().ok().and_then(|mut map| map.remove(&job_id))
            {
                waiter.send(()).ok();
            }
        }
    });
    Ok(waiters)
}

impl Peer for BullMq {
    async fn one(&self, payload: String) -> anyhow::Result<()> {
        self.queue.add("noop", payload).options(options()).await?;
        Ok(())
    }

    async fn bulk(&self, payloads: Vec<String>) -> anyhow::Result<()> {
        let jobs = payloads
            .into_iter()
            .map(|p| BulkJob::with_options("noop", p, options()))
            .collect();
        self.queue.add_bulk(jobs).await?;
        Ok(())
    }

    async fn work(&self, keep: bool) -> anyhow::Result<()> {
        let options = WorkerOptions::new().connection(connection()?).concurrency(100);
        let options = options.remove_on_complete(RemoveOnFinish::Bool(!keep));
        let handler = |job: Job, _: CancellationToken| async move {
            let payload = job.data().as_str().unwrap_or_default();
            hit(payload);
            Ok::<_, bullmq::Error>(serde_json::json!(payload.len()))
        };
        let _worker = Worker::with_options("bench", handler, options).await?;
        std::future::pending().await
    }

    async fn cycle(&self, payload: String) -> anyhow::Result<()> {
        let waiters = self.waiters.get_or_try_init(listen).await?;
        // The id is ours, so that who waits is known before the job can end.
        let id = format!("job-{:032x}", fastrand::u128(..));
        let (done, ended) = oneshot::channel();
        waiters
            .lock()
            .map_err(|_| anyhow::anyhow!("poisoned"))?
            .insert(id.clone(), done);
        self.queue.add("noop", payload).options(options()).job_id(id).await?;
        Ok(ended.await?)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let queue = Queue::with_options("bench", QueueOptions::new().connection(connection()?)).await?;
    run(
        BullMq {
            queue: Arc::new(queue),
            waiters: Arc::default(),
        },
        &words(),
    )
    .await
}
