//! Map-reduce jobs: chunks per second, the memory of who submits, the step from map to reduce, and what two cores buy.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context;
use workyard_consumer::{Failure, Registry, Worker, WorkerConfig};
use workyard_producer::{Client, ClientConfig};
use workyard_shared::job::JobRecord;
use workyard_shared::link::LinkConfig;
use workyard_shared::name::QueueName;

use crate::daemon::Daemon;
use crate::figures::{Figure, figure, per_second};
use crate::server::Server;

/// Longest wait for one job.
const PATIENCE: Duration = Duration::from_secs(600);
/// Numbers in one chunk of the CPU-bound job, and chunks: about 4 s of one core.
const NUMBERS: u64 = 150_000;
const CHUNKS: u64 = 80;

fn bench() -> anyhow::Result<QueueName> {
    Ok(QueueName::new("bench")?)
}

/// Resident memory of this process, in bytes: now (`VmRSS:`), or the most since [`forget_peak`] (`VmHWM:`). Zero where there is no `/proc`.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes: Option<u64> = line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Lets the most of this process' memory begin anew: `5` asks Linux for that, see proc(5).
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// Tiny chunks through one daemon: a chunk is one number, map and reduce are the built-in `sum`.
pub(crate) async fn chunks(
    server: &Server,
    consumer: &Path,
    count: u64,
    concurrency: usize,
) -> anyhow::Result<Vec<Figure>> {
    server.flush(&server.link().await?).await?;
    let daemon = Daemon::start(consumer, &server.url(), concurrency, "")?;
    let client = Client::new(ClientConfig::from_url(&server.url())?)?;
    forget_peak();
    let (link, before, begun) = (server.link().await?, resident("VmRSS:"), Instant::now());
    let cpu = server.cpu(&link).await?;
    let job = client
        .map_reduce(&bench()?, "sum", "sum")
        .items(0..count)
        .chunk_size(1)
        .submit()
        .await?;
    let (submitted, grown) = (begun.elapsed(), resident("VmHWM:").saturating_sub(before));
    let record = job.wait(PATIENCE).await?;
    let cpu = server.cpu(&link).await? - cpu;
    anyhow::ensure!(
        job.result::<u64>().await? == Some(count * (count - 1) / 2),
        "wrong sum: {record:?}"
    );
    let total = usize::try_from(count)?;
    let mapped = Duration::from_millis(record.mapped_ms.saturating_sub(record.started_ms).max(1));

    let gap = fan_in_all(&client).await?;
    drop(daemon);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let grown = grown as f64 / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let [tree, all] = [&record, &gap].map(|job| job.reducing_ms.saturating_sub(job.mapped_ms) as f64);
    let micros = cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?);
    Ok(vec![
        figure(
            "job: chunks submitted",
            per_second(total, submitted),
            "/s",
            format!("{count} chunks of one number"),
        ),
        figure(
            "job: submitter grew by",
            grown,
            "MB",
            "resident memory, the most while it submitted",
        ),
        figure(
            "job: chunks mapped",
            per_second(total, mapped),
            "/s",
            "one daemon; first map to last map",
        ),
        figure(
            "job: Redis CPU",
            micros,
            "us/chunk",
            "submit, feed, claim, settle, reduce",
        ),
        figure(
            "job: last map to reduce",
            tree,
            "ms",
            "the first reduce behind the last map; it has read its input by then",
        ),
        figure(
            "job: last map to reduce of all",
            all,
            "ms",
            "a reduce that gets the partials of 200 chunks at once",
        ),
    ])
}

/// The record of a job whose one reduce gets all partials.
async fn fan_in_all(client: &Client) -> anyhow::Result<JobRecord> {
    let job = client
        .map_reduce(&bench()?, "sum", "sum")
        .items(0..200_u64)
        .chunk_size(1)
        .fan_in_all()
        .submit()
        .await?;
    Ok(job.wait(PATIENCE).await?)
}

/// How many primes there are in a range, the slow way: work for a core.
fn primes(from: u64, until: u64) -> u64 {
    let prime = |n: u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (from..until).filter(|n| prime(*n)).count() as u64
}

/// A consumer with the CPU-bound function and one slot: what `--as-consumer` runs.
pub(crate) async fn consumer(url: &str) -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.map("primes", |(from, until): (u64, u64)| {
        Ok::<u64, Failure>(primes(from, until))
    })?;
    let config = WorkerConfig {
        concurrency: 1,
        ..WorkerConfig::new(LinkConfig::from_url(url)?, bench()?)
    };
    Ok(Worker::new(config, registry)?.serve().await?)
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The same function in a plain loop, and as a job on two consumers, one after the other.
pub(crate) async fn cores(server: &Server) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    server.flush(&link).await?;
    let ranges: Vec<(u64, u64)> = (0..CHUNKS)
        .map(|i| (2_000_000 + i * NUMBERS, 2_000_000 + (i + 1) * NUMBERS))
        .collect();
    let begun = Instant::now();
    let plain: u64 = ranges.iter().map(|(from, until)| primes(*from, *until)).sum();
    let sequential = begun.elapsed();

    let start = || {
        let us = std::env::current_exe()?;
        let child = Command::new(us).args(["--as-consumer", &server.url()]).spawn();
        anyhow::Ok(Process(child.context("cannot start a consumer")?))
    };
    let _consumers = [start()?, start()?];
    let client = Client::new(ClientConfig::from_url(&server.url())?)?;
    while client.consumers(&[bench()?]).await?.len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    let job = client
        .map_reduce(&bench()?, "primes", "sum")
        .items(ranges)
        .chunk_size(1)
        .submit()
        .await?;
    job.wait(PATIENCE).await?;
    let parallel = begun.elapsed();
    anyhow::ensure!(
        job.result::<u64>().await? == Some(plain),
        "the job and the loop disagree"
    );
    let note = format!("plain loop {sequential:.2?}, job {parallel:.2?} with submit and wait");
    Ok(vec![figure(
        "job: two consumers",
        sequential.as_secs_f64() / parallel.as_secs_f64(),
        "times",
        note,
    )])
}
