//! A consumer for the chaos runner: it writes each start and each end of a run into a ledger outside of Redis.
//!
//! `chaos-consumer URL LEDGER CONCURRENCY [MUTANT]`. Lines: `S` or `E`, ms of the monotonic clock, pid, task, fencing token. A line is
//! one write in append mode: whole or not at all, also with a kill in between.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use workyard_consumer::{Context, Failure, Registry, Worker, WorkerConfig};
use workyard_shared::link::LinkConfig;
use workyard_shared::name::QueueName;
use workyard_tests::monotonic_ms;

/// What a task asks for.
#[derive(serde::Deserialize)]
struct Work {
    /// How long it takes.
    ms: u64,
    /// How it ends.
    plan: Plan,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Plan {
    Ok,
    /// Fails the first time.
    Retry,
    /// Fails for good.
    Fail,
}

/// Lines of the log begin with ms of the monotonic clock: the wall clock is a thing that the runner moves.
struct Monotonic;

impl FormatTime for Monotonic {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", monotonic_ms())
    }
}

struct Ledger(File);

impl Ledger {
    fn write(&self, mark: char, ctx: &Context) -> io::Result<()> {
        let (ms, pid) = (monotonic_ms(), std::process::id());
        let line = format!("{mark} {ms} {pid} {} {}\n", ctx.id(), ctx.fencing_token());
        (&self.0).write_all(line.as_bytes())
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_timer(Monotonic)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ledger, concurrency, mutant @ ..] = &arguments[..] else {
        anyhow::bail!("URL LEDGER CONCURRENCY [MUTANT]")
    };
    let told = CancellationToken::new();
    if let Some(mutant) = mutant.first() {
        let (mut term, told, skips) = (signal(SignalKind::terminate())?, told.clone(), mutant == "skip-release");
        tokio::spawn(async move {
            term.recv().await;
            if skips {
                std::process::exit(0);
            }
            // And so every handler says that it is done.
            told.cancel();
        });
    }
    let ledger = Arc::new(Ledger(OpenOptions::new().append(true).create(true).open(ledger)?));
    let mut config = WorkerConfig::new(LinkConfig::from_url(url)?, QueueName::new("q")?);
    config.concurrency = concurrency.parse()?;
    // Shorter than some of the tasks, so that an end hands back, too.
    config.drain_timeout = Duration::from_secs(1);
    Worker::new(config, registry(&ledger, &told)?)?.serve().await?;
    Ok(())
}

/// `told`: from then on a mutant says of what runs that it is done.
fn registry(ledger: &Arc<Ledger>, told: &CancellationToken) -> anyhow::Result<Registry> {
    let (ledger, told) = (Arc::clone(ledger), told.clone());
    let mut registry = Registry::new();
    registry.register("work", move |ctx: Context, work: Work| {
        let (ledger, told) = (Arc::clone(&ledger), told.clone());
        async move {
            ledger.write('S', &ctx)?;
            // This is the work: nothing happens that it could wait for.
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(work.ms)) => {}
                () = told.cancelled() => return Ok(ctx.fencing_token().to_owned()),
            }
            ledger.write('E', &ctx)?;
            match work.plan {
                Plan::Retry if ctx.attempt() == 1 => Err(Failure::retry("asked to fail once")),
                Plan::Fail => Err(Failure::fatal("asked to fail")),
                // The result names the run that it is of.
                Plan::Ok | Plan::Retry => Ok(ctx.fencing_token().to_owned()),
            }
        }
    })?;
    registry.map("square", |n: i64| {
        // Long enough for a fault to come in between.
        #[expect(clippy::disallowed_methods, reason = "a map function is not async")]
        std::thread::sleep(Duration::from_millis(5));
        Ok::<i64, Failure>(n * n)
    })?;
    registry.reduce("add", |a: i64, b: i64| Ok::<i64, Failure>(a + b))?;
    Ok(registry)
}
