//! A consumer whose handler `wedge` blocks the thread of the runtime that it runs on, for ever: as many of them as
//! there are threads, and nothing goes round any more. For tests of the watchdog.
//!
//! Usage: `wedged-consumer URL`; it serves the queue `q` and talks to `NOTIFY_SOCKET`, and HTTP on a port that it logs.

use workyard_consumer::{Context, Failure, LinkConfig, QueueName, Registry, Worker, WorkerConfig};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let url = std::env::args().nth(1).unwrap_or_default();
    let mut registry = Registry::new();
    registry.register("wedge", |_: Context, _: serde_json::Value| async {
        loop {
            std::thread::park();
        }
        #[expect(unreachable_code, reason = "says the type")]
        Ok::<(), Failure>(())
    })?;
    let mut config = WorkerConfig::new(LinkConfig::from_url(&url)?, QueueName::new("q")?);
    config.notify = true;
    config.http = Some("127.0.0.1:0".parse()?);
    Ok(Worker::new(config, registry)?.serve().await?)
}
