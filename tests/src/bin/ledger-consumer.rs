//! A consumer for the crash tests: each run of a task is written to a ledger outside of Redis
//! before the handler returns, so that what Redis claims can be checked against what happened.
//!
//! `ledger-consumer URL LEDGER CONCURRENCY`. Kinds: `record` ({"ms":n}: sleeps, then writes a line; {"tell":true}: before that, too,
//! into LEDGER.started: pid, ms of the monotonic clock, task).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use workyard_consumer::{Context, Failure, Registry, Worker, WorkerConfig};
use workyard_shared::link::LinkConfig;
use workyard_shared::name::QueueName;
use workyard_tests::monotonic_ms;

#[derive(serde::Deserialize)]
struct Work {
    ms: u64,
    #[serde(default)]
    tell: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ledger, concurrency] = &arguments[..] else {
        anyhow::bail!("URL LEDGER CONCURRENCY")
    };
    let open = |path: PathBuf| OpenOptions::new().append(true).create(true).open(path);
    let files = std::sync::Arc::new((
        open(ledger.into())?,
        open(PathBuf::from(ledger).with_extension("started"))?,
    ));
    let mut registry = Registry::new();
    registry.register("record", move |ctx: Context, work: Work| {
        let files = std::sync::Arc::clone(&files);
        async move {
            let (ended, started) = &*files;
            if work.tell {
                let line = format!("{} {} {}\n", std::process::id(), monotonic_ms(), ctx.id());
                (&*started).write_all(line.as_bytes())?;
            }
            tokio::time::sleep(Duration::from_millis(work.ms)).await;
            // One write in append mode: whole or not at all, also with a kill in between.
            (&*ended).write_all(format!("{} {}\n", ctx.id(), ctx.fencing_token()).as_bytes())?;
            Ok::<_, Failure>(())
        }
    })?;
    let mut config = WorkerConfig::new(LinkConfig::from_url(url)?, QueueName::new("q")?);
    config.concurrency = concurrency.parse()?;
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let token = stop.clone();
    tokio::spawn(async move {
        term.recv().await;
        token.cancel();
    });
    Worker::new(config, registry)?.run(stop).await?;
    Ok(())
}
